"""The file with the server's root secrets: read strictly, made only where nothing can depend on an older one."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from kinpay.primitives.server_keys import ServerKeys
from kinpay.server.settings import SettingsWrong

_ROOT: Final = 32


def read_keys(path: Path, *, may_create: bool) -> ServerKeys:
    """The server's keys. With `may_create` a missing file is made, with one fresh root.

    Raises: SettingsWrong if the file is missing, readable by others, or not lines of base64 of 32 bytes.
    """
    if may_create and not path.exists():
        _create(path)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        lines = path.read_text(encoding="ascii").split()
    except FileNotFoundError:
        raise SettingsWrong(
            [f"KINPAY_SECRET_FILE: {path} is missing. Make one: `openssl rand -base64 32 > {path} && chmod 600 {path}`."]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsWrong([f"KINPAY_SECRET_FILE: {path} cannot be read ({type(error).__name__})."]) from None
    if mode & _closed_to(path):
        raise SettingsWrong([f"KINPAY_SECRET_FILE: others can read {path}; run `chmod 600 {path}`."])
    return ServerKeys.of([_root(path, number, line) for number, line in enumerate(lines, 1)] or _none(path))


def _closed_to(path: Path) -> int:
    """The bits of a file's mode that must not be set.

    systemd hands a credential over by an access list, whose mask shows as the right of a group, which is root's.
    Source: systemd.exec(5), LoadCredential.
    """
    handed_over = os.environ.get("CREDENTIALS_DIRECTORY")
    return 0o037 if handed_over and path.parent == Path(handed_over) else 0o077


def _root(path: Path, number: int, line: str) -> bytes:
    try:
        root = base64.b64decode(line, validate=True)
    except binascii.Error:
        root = b""
    if len(root) != _ROOT:
        raise SettingsWrong([f"KINPAY_SECRET_FILE: {path}, line {number}: write 32 bytes in base64."])
    return root


def _none(path: Path) -> list[bytes]:
    raise SettingsWrong([f"KINPAY_SECRET_FILE: {path} is empty; write 32 random bytes in base64."])


def _create(path: Path) -> None:
    """Written beside and linked into place, so that two processes starting at once agree on one secret."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(_ROOT)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
