"""What this process takes of its machine, as the kernel tells it."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc/self")
_BEGAN_AT: Final = time.time()
"""Unix seconds; this module is read in with the program."""


def resident_bytes() -> int | None:
    """Memory that is really in use; None where there is no /proc."""
    try:
        return int((_PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def open_files() -> int | None:
    """File descriptors in use; None where there is no /proc."""
    try:
        return len(os.listdir(_PROC / "fd"))
    except OSError:
        return None


def most_files() -> int:
    """How many file descriptors this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def cpu_seconds() -> float:
    """Processor time taken since the start, in user and kernel mode."""
    return time.process_time()


def began_at() -> float:
    """When the program was started, in Unix seconds."""
    return _BEGAN_AT
