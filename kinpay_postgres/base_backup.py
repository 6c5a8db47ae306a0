"""A place for backups: base backups, each whole or not there, and beside them the write-ahead log that was kept since.

PLACE/base-20261123T063000Z/   files as pg_basebackup wrote them and pg_verifybackup has read them again
PLACE/wal/LIFE/                segments as pg_receivewal writes them, by lives of its slot (`kept_log`)
PLACE/unfinished-…             what was interrupted; never read, removed by the next one
PLACE/lock                     held while a base backup is made or old ones are removed
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from kinpay_postgres.errors import ClusterError
from kinpay_postgres.programs import Programs, run_program

ABOUT: Final = "about.json"
_BASE = re.compile(r"base-\d{8}T\d{6}Z")
_SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?")
_UNFINISHED: Final = "unfinished-"
_OWN: Final = 0o700


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """One base backup. Positions in the log are bytes; `system` is PostgreSQL's own number of the cluster that it is of, which
    its restored copies share; `about` is what its maker noted of it.
    """

    path: Path
    system: str
    timeline: int
    begins: int
    ends: int
    about: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of all backups of one cluster."""

    path: Path

    @property
    def wal(self) -> Path:
        """Where the log is kept."""
        return self.path / "wal"

    def prepare(self) -> None:
        """Makes the folder, closed to everybody else. Raises: ClusterError."""
        try:
            self.path.mkdir(mode=_OWN, parents=True, exist_ok=True)
            self.wal.mkdir(mode=_OWN, exist_ok=True)
        except OSError as error:
            raise ClusterError(f"{self.path} cannot hold backups: {error.strerror}") from error
        if self.path.stat().st_mode & 0o077:
            raise ClusterError(f"others can enter {self.path}, and a backup holds everything: chmod 700 {self.path}")

    def bases(self) -> list[Base]:
        """Every whole base backup, oldest first. Raises: ClusterError."""
        try:
            names = sorted(name for name in os.listdir(self.path) if _BASE.fullmatch(name))
        except OSError as error:
            raise ClusterError(f"{self.path} cannot be read: {error.strerror}") from error
        return [read_base(self.path / name) for name in names]

    def want_of(self, system: str) -> None:
        """One place is for one cluster and what was restored of it. Raises: ClusterError."""
        others = [base.path.name for base in self.bases() if base.system != system]
        if others:
            raise ClusterError(f"{self.path} holds backups of another cluster ({others[0]}): name another folder")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One at a time. Raises: ClusterError when somebody else is at it."""
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ClusterError(f"another backup into {self.path} is under way") from None
            yield
        finally:
            os.close(handle)


def make_base(place: Place, programs: Programs, *, about: Mapping[str, Any]) -> Base:
    """Copies the running cluster, reads the copy again against its manifest, and only then gives it its name.

    Raises:
        ClusterError: missing programs or rights, a full disk, a copy that does not verify; nothing is left that looks whole.
    """
    place.prepare()
    with place.locked():
        remove_unfinished(place)
        fresh = place.path / f"{_UNFINISHED}{secrets.token_hex(4)}"
        try:
            command = programs.command("pg_basebackup", f"--pgdata={fresh}", "--format=plain", "--wal-method=stream")
            run_program(
                [*command, "--checkpoint=fast", "--manifest-checksums=SHA256", "--label=kinpay"],
                environment=programs.environment,
            )
            if any((fresh / "pg_tblspc").iterdir()):
                raise ClusterError("the cluster has tablespaces outside its folder; back it up with another tool")
            verify(fresh, programs.binaries)
            _write_about(fresh, about)
            name = datetime.now(UTC).strftime("base-%Y%m%dT%H%M%SZ")
            if (place.path / name).exists():
                raise ClusterError(f"{place.path / name} was made this very second; try again")
            fresh.rename(place.path / name)
            _sync(place.path)
        except OSError as error:
            raise ClusterError(f"the backup could not be written to {place.path}: {error.strerror}") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return read_base(place.path / name)


def verify(base: Path, binaries: Path) -> None:
    """Reads every file of a base backup against its manifest, and its log from end to end. Raises: ClusterError."""
    run_program([str(binaries / "pg_verifybackup"), "--exit-on-error", "--quiet", f"--ignore={ABOUT}", str(base)],
                environment={**os.environ, "LC_ALL": "C"})  # fmt: skip


def read_base(path: Path) -> Base:
    """A whole base backup. Raises: ClusterError."""
    try:
        about = json.loads((path / ABOUT).read_text())
        (covered,) = json.loads((path / "backup_manifest").read_text())["WAL-Ranges"]
        # It comes first in this file. Source: PostgreSQL, src/include/catalog/pg_control.h.
        system = int.from_bytes((path / "global" / "pg_control").read_bytes()[:8], sys.byteorder)
    except (OSError, ValueError, KeyError) as error:
        raise ClusterError(f"{path} is not a whole base backup: {error}") from error
    return Base(
        path=path,
        system=str(system),
        timeline=covered["Timeline"],
        begins=position(covered["Start-LSN"]),
        ends=position(covered["End-LSN"]),
        about=about,
    )


def position(written: str) -> int:
    """A position in the log, "1/A0000028", in bytes."""
    high, _, low = written.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def remove_unfinished(place: Place) -> None:
    """Removes what was interrupted; the caller holds the lock."""
    for leftover in place.path.glob(_UNFINISHED + "*"):
        shutil.rmtree(leftover, ignore_errors=True)


def prune(place: Place, *, keep: int) -> list[Path]:
    """Removes all but the newest `keep` base backups, and the log that only they needed; returns what went.

    Raises: ClusterError.
    """
    with place.locked():
        bases = place.bases()
        gone = bases[: max(0, len(bases) - keep)]
        for base in gone:
            # By another name first: what is half removed must not be taken for whole.
            leaving = place.path / f"{_UNFINISHED}{secrets.token_hex(4)}"
            base.path.rename(leaving)
            shutil.rmtree(leaving, ignore_errors=True)
        kept = bases[len(gone) :]
        removed = [base.path for base in gone]
        if kept:
            removed += _prune_wal(place, kept[0])
        return removed


def _prune_wal(place: Place, oldest: Base) -> list[Path]:
    removed = []
    for segment in segments(place.wal):
        # The log of an earlier timeline leads from no copy that is left.
        if segment.timeline < oldest.timeline or (segment.timeline == oldest.timeline and segment.ends <= oldest.begins):
            segment.path.unlink(missing_ok=True)
            removed.append(segment.path)
    return removed


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One file of the log: from where to where, in bytes. The last one kept may be `partial`, still being written."""

    path: Path
    timeline: int
    begins: int
    ends: int
    partial: bool


def segments(folder: Path) -> list[Segment]:
    """The kept log in its order, of a folder and those in it. Raises: ClusterError."""
    try:
        files = [file for file in [*folder.glob("*"), *folder.glob("*/*")] if _SEGMENT.fullmatch(file.name)]
    except OSError as error:
        raise ClusterError(f"{folder} cannot be read: {error.strerror}") from error
    found = []
    for file in files:
        match = _SEGMENT.fullmatch(file.name)
        size = file.stat().st_size
        if match is None or not size:
            continue
        begins = (int(match[2], 16) << 32) + int(match[3], 16) * size
        timeline = int(match[1], 16)
        found.append(Segment(path=file, timeline=timeline, begins=begins, ends=begins + size, partial=bool(match[4])))
    return sorted(found, key=lambda one: (one.timeline, one.begins, one.partial))


def _write_about(base: Path, about: Mapping[str, Any]) -> None:
    text = json.dumps(dict(about), indent=1, sort_keys=True) + "\n"
    with open(os.open(base / ABOUT, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    _sync(base)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
