"""The keys of templates, one each, kept outside the database: a copy of the database alone opens nothing, and
destroying a key reaches every backup of the row that it opened (crypto-shredding).

Envelope encryption: a template is encrypted under its own data key, the data key is wrapped by the server's key.
Source: semantics.md "Security"; threat A11.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

import msgspec

from kinpay.primitives.errors import KinpayError
from kinpay.primitives.ids import is_id, new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import SealBroken, ServerKeys

_PURPOSE: Final = "biometric-data-key"
_SUFFIX: Final = ".key"
_KEY_BYTES: Final = 32


class KeyGone(KinpayError):
    """The data key was destroyed, or this server has another keyring: what it encrypted stays closed."""

    code = "key-gone"


class Keyring(Protocol):
    """Where data keys live. Every change is durable when the call returns."""

    async def wrap(self, key_id: str, data_key: Sealed[bytes]) -> None:
        """Keeps a new data key. Raises: FileExistsError if the id is taken."""
        ...

    async def unwrap(self, key_id: str) -> Sealed[bytes]:
        """The data key. Raises: KeyGone; SealBroken if none of the server's roots opens it."""
        ...

    async def unwrap_all(self, key_ids: Sequence[str]) -> dict[str, Sealed[bytes]]:
        """The data keys that are still there, by id. Raises: SealBroken."""
        ...

    async def rotate(self) -> int:
        """Wraps every key anew that is not wrapped by the server's newest root; returns how many."""
        ...

    async def destroy(self, key_id: str) -> bool:
        """Removes the key for good; False if it was gone already."""
        ...

    async def key_ids(self) -> list[str]:
        """Every key that is kept."""
        ...


class _Wrapped(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key file. `wrapped_by` names the root, so that a rotation that was interrupted knows what is left to do."""

    version: int
    wrapped_by: str
    key: str


class FolderKeyring:
    """A folder of small files, one for each key, readable by the server's account only."""

    def __init__(self, folder: Path, keys: ServerKeys) -> None:
        self._folder = folder
        self._keys = keys

    @classmethod
    def open(cls, folder: Path, keys: ServerKeys) -> FolderKeyring:
        """Opens `folder` (made with mode 0700 if it is missing) and removes what a crash left half written.

        Raises: PermissionError if others may enter the folder.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_mode & 0o077:
            raise PermissionError(f"{folder} must be closed to other accounts (mode 0700)")
        keyring = cls(folder, keys)
        with keyring._alone():
            for leftover in folder.glob(".*.new"):
                leftover.unlink(missing_ok=True)
        return keyring

    async def wrap(self, key_id: str, data_key: Sealed[bytes]) -> None:
        """Keeps a new data key. Raises: FileExistsError."""
        await asyncio.to_thread(self._write, key_id, data_key.open(), fresh=True)

    async def unwrap(self, key_id: str) -> Sealed[bytes]:
        """The data key. Raises: KeyGone; SealBroken."""
        return await asyncio.to_thread(self._read, key_id)

    async def unwrap_all(self, key_ids: Sequence[str]) -> dict[str, Sealed[bytes]]:
        """The data keys that are still there. Raises: SealBroken."""
        return await asyncio.to_thread(self._read_all, key_ids)

    async def rotate(self) -> int:
        """Wraps anew what an older root had wrapped; may be interrupted and begun again."""
        return await asyncio.to_thread(self._rotate)

    async def destroy(self, key_id: str) -> bool:
        """Removes the key for good; False if it was gone already."""
        return await asyncio.to_thread(self._remove, key_id)

    async def key_ids(self) -> list[str]:
        """Every key that is kept."""
        return await asyncio.to_thread(self._list)

    def _path(self, key_id: str) -> Path:
        if not is_id(key_id):
            raise ValueError("a key id is one of our ids")
        return self._folder / (key_id + _SUFFIX)

    def _list(self) -> list[str]:
        return sorted(path.name.removesuffix(_SUFFIX) for path in self._folder.glob("*" + _SUFFIX) if is_id(path.stem))

    def _root_name(self) -> str:
        return hashlib.sha256(b"keyring root" + self._keys.key(_PURPOSE)).hexdigest()[:16]

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """Holds the folder against every other thread and process, so that no rotation revives a destroyed key."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _write(self, key_id: str, data_key: bytes, *, fresh: bool) -> bool:
        """Writes whole or not at all; False if a key to be wrapped anew was destroyed meanwhile."""
        sealed = self._keys.seal(data_key, purpose=_PURPOSE, bound_to=key_id)
        text = msgspec.json.encode(_Wrapped(1, self._root_name(), base64.b64encode(sealed).decode()))
        path = self._path(key_id)
        beside = self._folder / f".{key_id}.{new_id()}.new"
        with self._alone():
            if path.exists():
                if fresh:
                    raise FileExistsError(path)
            elif not fresh:
                return False
            try:
                _write_synced(beside, text)
                os.replace(beside, path)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise
        return True

    def _read(self, key_id: str) -> Sealed[bytes]:
        return Sealed(self._open(self._wrapped(key_id), key_id))

    def _read_all(self, key_ids: Sequence[str]) -> dict[str, Sealed[bytes]]:
        found: dict[str, Sealed[bytes]] = {}
        for key_id in key_ids:
            try:
                found[key_id] = self._read(key_id)
            except KeyGone:
                continue
        return found

    def _wrapped(self, key_id: str) -> _Wrapped:
        try:
            return msgspec.json.decode(self._path(key_id).read_bytes(), type=_Wrapped)
        except FileNotFoundError:
            raise KeyGone(key_id=key_id) from None
        except msgspec.DecodeError:
            raise SealBroken(purpose=_PURPOSE) from None

    def _open(self, wrapped: _Wrapped, key_id: str) -> bytes:
        return self._keys.unseal(base64.b64decode(wrapped.key), purpose=_PURPOSE, bound_to=key_id)

    def _rotate(self) -> int:
        newest, count = self._root_name(), 0
        for key_id in self._list():
            try:
                wrapped = self._wrapped(key_id)
            except KeyGone:
                continue
            if wrapped.wrapped_by != newest:
                count += self._write(key_id, self._open(wrapped, key_id), fresh=False)
        return count

    def _remove(self, key_id: str) -> bool:
        with self._alone():
            try:
                self._path(key_id).unlink()
            except FileNotFoundError:
                return False
        return True


def _write_synced(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def new_data_key() -> Sealed[bytes]:
    """A fresh random key for one template (AES-256)."""
    return Sealed(os.urandom(_KEY_BYTES))
