"""Keeping the write-ahead log of a running server, byte for byte, as it is written: pg_receivewal and its slot."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from types import FrameType
from typing import Final

from kinpay_postgres.base_backup import Place
from kinpay_postgres.errors import ClusterError
from kinpay_postgres.programs import Programs, run_program

SLOT: Final = "kinpay_backup"
"""The server keeps what a receiver of this name has not had yet, so that nothing is lost while it is away."""


def keep_log(place: Place, programs: Programs, *, announce: Callable[[str], None]) -> None:
    """Receives until SIGTERM or SIGINT. A server that goes away is waited for; what was missed is in its slot.

    Raises:
        ClusterError: missing rights (REPLICATION, pg_hba.conf), a full disk, another receiver of the same slot.
    """
    place.prepare()
    base = programs.command("pg_receivewal", f"--slot={SLOT}")
    run_program([*base, "--create-slot", "--if-not-exists"], environment=programs.environment)
    command = [*base, f"--directory={place.wal}", "--synchronous", "--status-interval=5"]
    process = subprocess.Popen(  # noqa: S603  PostgreSQL's own program, no shell
        command, env=programs.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        process.send_signal(signal.SIGINT)  # its way of finishing: what it has is flushed first

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    last = ""
    try:
        announce(f"keeping the log in {place.wal}")
        assert process.stderr is not None
        for line in process.stderr:
            last = line.strip()
            announce(last)
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if process.poll() is None:
            process.kill()
            process.wait()
    if status != 0 and not stopping:
        raise ClusterError(f"{os.path.basename(command[0])} ended: {last}")


def drop_slot_command() -> str:
    """What an administrator runs when no log is to be kept any more: an orphaned slot keeps the server's log for ever."""
    return f"SELECT pg_drop_replication_slot('{SLOT}')"
