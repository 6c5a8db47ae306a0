"""The keyring: durable, closed to others, rotated without loss, and what is destroyed stays destroyed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kinpay.biometrics.keyring import FolderKeyring, KeyGone, new_data_key
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import SealBroken, ServerKeys

OLD, NEW, OTHER = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))


async def test_a_key_comes_back_and_lies_wrapped_in_a_closed_file(tmp_path: Path, keys: ServerKeys) -> None:
    folder = tmp_path / "keyring"
    keyring = FolderKeyring.open(folder, keys)
    key_id, data_key = new_id(), new_data_key()
    await keyring.wrap(key_id, data_key)
    assert (await FolderKeyring.open(folder, keys).unwrap(key_id)).open() == data_key.open()
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert data_key.open() not in file.read_bytes()
    with pytest.raises(FileExistsError):
        await keyring.wrap(key_id, new_data_key())
    assert (await keyring.unwrap(key_id)).open() == data_key.open()


async def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, keys: ServerKeys) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    os.chmod(folder, 0o755)
    with pytest.raises(PermissionError):
        FolderKeyring.open(folder, keys)


async def test_half_written_files_of_a_crash_are_removed(tmp_path: Path, keys: ServerKeys) -> None:
    folder = tmp_path / "keyring"
    FolderKeyring.open(folder, keys)
    (folder / f".{new_id()}.{new_id()}.new").write_bytes(b"half")
    assert await FolderKeyring.open(folder, keys).key_ids() == []
    assert list(folder.iterdir()) == []


async def test_rotation_wraps_every_key_anew_and_the_old_root_may_go(tmp_path: Path) -> None:
    folder = tmp_path / "keyring"
    before = FolderKeyring.open(folder, ServerKeys.of([OLD]))
    data_keys = {new_id(): new_data_key() for _ in range(5)}
    for key_id, data_key in data_keys.items():
        await before.wrap(key_id, data_key)
    during = FolderKeyring.open(folder, ServerKeys.of([NEW, OLD]))
    assert await during.rotate() == 5
    assert await during.rotate() == 0
    after = FolderKeyring.open(folder, ServerKeys.of([NEW]))
    for key_id, data_key in data_keys.items():
        assert (await after.unwrap(key_id)).open() == data_key.open()
        with pytest.raises(SealBroken):
            await before.unwrap(key_id)


async def test_a_destroyed_key_is_gone_even_if_a_rotation_runs_meanwhile(tmp_path: Path) -> None:
    folder = tmp_path / "keyring"
    before = FolderKeyring.open(folder, ServerKeys.of([OLD]))
    key_ids = [new_id() for _ in range(40)]
    for key_id in key_ids:
        await before.wrap(key_id, new_data_key())
    rotating = FolderKeyring.open(folder, ServerKeys.of([NEW, OLD]))
    await asyncio.gather(rotating.rotate(), *(before.destroy(key_id) for key_id in key_ids))
    assert await rotating.key_ids() == []
    assert not await before.destroy(key_ids[0])
    with pytest.raises(KeyGone):
        await rotating.unwrap(key_ids[0])


async def test_a_key_file_moved_to_another_id_or_another_server_does_not_open(tmp_path: Path, keys: ServerKeys) -> None:
    folder = tmp_path / "keyring"
    keyring = FolderKeyring.open(folder, keys)
    key_id, stolen = new_id(), new_id()
    await keyring.wrap(key_id, new_data_key())
    (folder / f"{stolen}.key").write_bytes((folder / f"{key_id}.key").read_bytes())
    with pytest.raises(SealBroken):
        await keyring.unwrap(stolen)
    with pytest.raises(SealBroken):
        await FolderKeyring.open(folder, ServerKeys.of([OTHER])).unwrap(key_id)
    with pytest.raises(ValueError, match="id"):
        await keyring.unwrap("../../etc/passwd")
