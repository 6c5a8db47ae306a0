"""Keeping the write-ahead log of a running server, byte for byte, as it is written: pg_receivewal and its slot.

Each life of the slot has a folder of its own, so that what an earlier one brought is never taken for the beginning of this one:
a server that was restored to an earlier point writes another history, and a slot that was lost leaves a gap.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final

from kinpay_postgres.base_backup import Place, position, segments
from kinpay_postgres.errors import ClusterError
from kinpay_postgres.programs import Programs, run_program

SLOT: Final = "kinpay_backup"
"""The server keeps what a receiver of this name has not had yet, so that nothing is lost while it is away."""
_SHORT_S: Final = 10.0
"""A server that answers and ends the receiver so soon a second time has something against it."""
_PAUSE_S: Final = 5.0
_HELD_S: Final = 90.0
"""For so long a server may not notice that a receiver has gone (`wal_sender_timeout` is a minute)."""

Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """The server and its slot; `waits_at` is a position in bytes, None without a slot or before it holds anything."""

    system: str
    timeline: int
    slot: bool
    active: bool
    lost: bool
    waits_at: int | None


class _Stopping:
    """Whether somebody asked this process to end, and the receiver that hears of it."""

    def __init__(self) -> None:
        self.asked = False
        self._receiver: subprocess.Popen[str] | None = None

    def hear(self, _number: int, _frame: FrameType | None) -> None:
        """The handler of the signals."""
        self.asked = True
        self._tell()

    def attend(self, receiver: subprocess.Popen[str] | None) -> None:
        """Names the receiver that runs now; one that began while it was asked ends at once."""
        self._receiver = receiver
        if self.asked:
            self._tell()

    def _tell(self) -> None:
        if self._receiver is not None and self._receiver.poll() is None:
            self._receiver.send_signal(signal.SIGINT)  # its way of finishing: what it has is flushed first

    def pause(self, seconds: float) -> None:
        """Waits, unless asked to end."""
        until = time.monotonic() + seconds
        while not self.asked and time.monotonic() < until:
            time.sleep(0.1)


def keep_log(place: Place, programs: Programs, *, announce: Announce) -> None:
    """Receives until SIGTERM or SIGINT. A server that goes away is waited for; what was missed is in its slot.

    Raises:
        ClusterError: missing rights (REPLICATION, pg_hba.conf), a full disk, another receiver of the same slot, backups of
            another cluster in the place; log that was thrown away before it was kept, after which the next call begins anew.
    """
    place.prepare()
    failed = 0
    patience_s = _SHORT_S
    with _signals() as stopping:
        while not stopping.asked:
            try:
                server = _when_free(programs, stopping, patience_s=patience_s)
                place.want_of(server.system)
                folder = _life(place, programs, server, announce)
            except ClusterError:
                if patience_s == _SHORT_S or _answers(programs):
                    raise
                _wait_for(programs, stopping, announce)  # It went away again in between.
                continue
            announce(f"keeping the log in {folder}")
            began = time.monotonic()
            last = _receive(folder, programs, stopping, announce)
            if stopping.asked:
                return
            failed = failed + 1 if time.monotonic() - began < _SHORT_S else 0
            if failed >= 2 and _answers(programs):
                raise ClusterError(f"pg_receivewal ended: {last}")
            patience_s = _HELD_S
            _wait_for(programs, stopping, announce)


@contextmanager
def _signals() -> Iterator[_Stopping]:
    stopping = _Stopping()
    before = {number: signal.signal(number, stopping.hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _receive(folder: Path, programs: Programs, stopping: _Stopping, announce: Announce) -> str:
    """Receives until the connection ends; returns the program's last words."""
    command = programs.command(
        "pg_receivewal", f"--slot={SLOT}", f"--directory={folder}", "--synchronous", "--status-interval=5", "--no-loop"
    )
    process = subprocess.Popen(  # noqa: S603  PostgreSQL's own program, no shell
        command, env=programs.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    stopping.attend(process)
    last = ""
    try:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                last = line.strip()
                announce(last)
        process.wait()
    finally:
        stopping.attend(None)
        if process.poll() is None:
            process.kill()
            process.wait()
    return last


def _answers(programs: Programs) -> bool:
    command = [str(programs.binaries / "pg_isready"), f"--dbname={programs.address}", "--timeout=3", "--quiet"]
    return subprocess.run(command, env=programs.environment, stdin=subprocess.DEVNULL, check=False).returncode == 0  # noqa: S603


def _wait_for(programs: Programs, stopping: _Stopping, announce: Announce) -> None:
    stopping.pause(1.0)
    if stopping.asked or _answers(programs):
        return
    announce("the server is away; it is waited for")
    while not stopping.asked and not _answers(programs):
        stopping.pause(_PAUSE_S)


_ASK: Final = f"""
    SELECT (SELECT system_identifier FROM pg_control_system()), left(pg_walfile_name(pg_current_wal_lsn()), 8),
           s.slot_name IS NOT NULL, coalesce(s.active, false), coalesce(s.wal_status, '') = 'lost',
           coalesce(s.restart_lsn::text, '')
    FROM (SELECT) one LEFT JOIN pg_replication_slots s ON s.slot_name = '{SLOT}'
"""


def _ask(programs: Programs) -> _Server:
    system, timeline, slot, active, lost, waits_at = _psql(programs, _ASK).split("|")
    return _Server(
        system=system,
        timeline=int(timeline, 16),
        slot=slot == "t",
        active=active == "t",
        lost=lost == "t",
        waits_at=position(waits_at) if waits_at else None,
    )


def _psql(programs: Programs, text: str) -> str:
    command = programs.command("psql", "-X", "-q", "-A", "-t", "-F", "|", "-v", "ON_ERROR_STOP=1", "-c", text)
    return run_program(command, environment=programs.environment).strip()


def _when_free(programs: Programs, stopping: _Stopping, *, patience_s: float) -> _Server:
    """The server, when nobody holds the slot. Raises: ClusterError when somebody goes on holding it."""
    until = time.monotonic() + patience_s
    while True:
        server = _ask(programs)
        if not server.active or stopping.asked:
            return server
        if time.monotonic() >= until:
            raise ClusterError(f"another receiver keeps the log of this server: somebody holds its slot {SLOT}")
        stopping.pause(1.0)


def _life(place: Place, programs: Programs, server: _Server, announce: Announce) -> Path:
    """The folder that this log goes into; the slot is made if there is none. Raises: ClusterError after a loss."""
    if server.lost:
        _psql(programs, drop_slot_command())
    if server.lost or not server.slot:
        # From now on, not from whenever the receiver has come to read.
        _psql(programs, f"SELECT pg_create_physical_replication_slot('{SLOT}', true)")
    if server.lost:
        raise ClusterError(
            "the server has thrown away log before it was kept (max_slot_wal_keep_size): no copy made until now leads past "
            "that. The slot was made anew. Make a copy now (`kinpay backup TO`), and start this again"
        )
    of = f"{server.system}-{server.timeline:08X}-"
    lives = sorted(place.wal.glob(of + "*"))
    if lives and server.slot and _goes_on(lives[-1], server):
        return lives[-1]
    fresh = place.wal / f"{of}{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    fresh.mkdir(mode=0o700)
    if place.bases():
        announce("this log does not go on where the last one ended; what comes now may follow no copy: make one now")
    return fresh


def _goes_on(life: Path, server: _Server) -> bool:
    """Whether the slot still holds what follows a folder; else somebody else had it meanwhile."""
    brought = segments(life)
    if not brought or server.waits_at is None:
        return True
    last = max(brought, key=lambda one: one.begins)
    size = last.ends - last.begins
    return server.waits_at // size * size <= (last.begins if last.partial else last.ends)


def drop_slot_command() -> str:
    """What an administrator runs when no log is to be kept any more: an orphaned slot keeps the server's log for ever."""
    return f"SELECT pg_drop_replication_slot('{SLOT}')"
