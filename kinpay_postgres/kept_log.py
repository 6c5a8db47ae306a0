"""The kept log: which pieces of it lead from a base backup to the end, along the timelines that restores have begun.

PLACE/wal/LIFE/         what one life of the receiver's slot has brought: the system, the timeline, when it began
PLACE/wal/…/*.history   from which timeline each was begun, and where; PostgreSQL writes it when a recovered server opens

Source: PostgreSQL manual, "Continuous Archiving and Point-in-Time Recovery", Timelines.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from kinpay_postgres.base_backup import Base, Place, Segment, position, segments
from kinpay_postgres.errors import ClusterError

_HISTORY: Final = re.compile(r"([0-9A-F]{8})\.history")
_ORIGIN: Final = re.compile(r"^\s*(\d+)\s+([0-9A-F]+/[0-9A-F]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What has to be replayed onto a base backup to come to the end of a timeline.

    `target` is that timeline as PostgreSQL wants it; `certain`: a position in bytes that replaying it cannot fall short of.
    """

    target: str
    segments: list[Segment]
    histories: list[Path]
    certain: int


def needed(base: Base, wal: Path, *, timeline: int | None = None) -> Needed:
    """The kept segments that follow the base without a gap, on the way to `timeline`, or to the newest that came of it.

    Recovery by itself would end calmly at a gap, or where a later timeline begins, and take what follows for never written.

    Raises:
        ClusterError: the log has a gap; the timeline did not come of this base, or nobody knows where it began.
    """
    kept = segments(wal)
    histories = _histories(base, wal)
    origins = {number: _origins(path) for number, path in histories.items()}
    chosen = max([base.timeline, *(one.timeline for one in kept)]) if timeline is None else timeline
    if not _comes_of(base, chosen, origins):
        raise ClusterError(
            f"the kept log's timeline {chosen} did not come of {base.path.name}, or no {chosen:08X}.history says where it began"
        )
    way = _way(base, chosen, origins.get(chosen, []))
    found = _along(base, kept, way)
    whole = [one for one in found if not one.partial]
    # A record that began in the one before has its end there; only one as long as a whole segment could begin and not end.
    certain = max([base.ends, *(one.begins + 1 for one in whole[-1:])])
    target = "current" if chosen == base.timeline else str(chosen)
    return Needed(target=target, segments=found, histories=sorted(histories.values()), certain=certain)


def leads_to(place: Place, bases: list[Base], *, timeline: int | None = None) -> list[Base]:
    """Those of the base backups from which `timeline` came, or the newest of which there is log or a backup; oldest first.

    What lies beyond the point of a restore is no past of what came after it.

    Raises:
        ClusterError: the log cannot be read.
    """
    known = [*(one.timeline for one in segments(place.wal)), *(base.timeline for base in bases)]
    if not known:
        return []
    wanted = max(known) if timeline is None else timeline
    return [
        base
        for base in bases
        if _comes_of(base, wanted, {number: _origins(path) for number, path in _histories(base, place.wal).items()})
    ]


def _histories(base: Base, wal: Path) -> dict[int, Path]:
    """Of each timeline; the copies in other base backups serve as well."""
    found: dict[int, Path] = {}
    for folder in (wal, *sorted(wal.glob("*/")), *sorted(base.path.parent.glob("base-*/pg_wal")), base.path / "pg_wal"):
        for path in sorted(folder.glob("*.history")):
            if match := _HISTORY.fullmatch(path.name):
                found.setdefault(int(match[1], 16), path)
    return found


def _origins(history: Path) -> list[tuple[int, int]]:
    """The timelines before this one, oldest first, and where each was left."""
    try:
        return [(int(number), position(where)) for number, where in _ORIGIN.findall(history.read_text())]
    except OSError as error:
        raise ClusterError(f"{history} cannot be read: {error.strerror}") from error


def _comes_of(base: Base, timeline: int, origins: dict[int, list[tuple[int, int]]]) -> bool:
    before = origins.get(timeline, [])
    return timeline == base.timeline or any(number == base.timeline and left >= base.ends for number, left in before)


def _way(base: Base, chosen: int, origins: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Timelines from the base's to the chosen one, each from where to where."""
    after = [(number, left) for number, left in origins if number >= base.timeline]
    bounds = [0, *(left for _, left in after), sys.maxsize]
    return [(number, *bound) for number, bound in zip([*(n for n, _ in after), chosen], pairwise(bounds), strict=True)]


def _along(base: Base, kept: list[Segment], way: list[tuple[int, int, int]]) -> list[Segment]:
    """In the order of the log; of one that was kept more than once the whole one, or the one written to last."""
    chosen: dict[tuple[int, int], Segment] = {}
    reached = base.ends
    for number, begins, ends in way:
        parts = [one for one in kept if one.timeline == number and one.ends > max(begins, base.begins) and one.begins < ends]
        for one in sorted(parts, key=lambda one: (one.begins, not one.partial, one.path.stat().st_mtime)):
            if one.begins > reached:
                raise ClusterError(
                    f"the kept log has a gap before {one.path.name}: nothing after it can be restored from this backup. "
                    "Take the segment from elsewhere, or move the segments after the gap away to restore what is before it."
                )
            if one.partial is False or (number, one.begins) not in chosen or chosen[number, one.begins].partial:
                chosen[number, one.begins] = one
            reached = max(reached, min(one.ends, ends))
        pieces = [one for (of, _), one in chosen.items() if of == number]
        cut = next((one for one in pieces[:-1] if one.partial), None)
        if cut is not None:
            raise ClusterError(f"the kept log has a gap: of {cut.path.name} only a part was kept, and more that follows it")
        if ends != sys.maxsize and reached < ends:
            raise ClusterError(
                f"the kept log has a gap: timeline {number} was left at {ends}, and is kept until {reached} only"
            )
    return list(chosen.values())
