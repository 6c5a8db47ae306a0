"""I11: every lane of the audit log is one chain from its genesis to its end, without a gap; read in pages, lane after lane."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from kinpay.audit.findings import Findings
from kinpay.database.audit import GENESIS, Head, Link, link_hash
from kinpay.database.sql import Connection, Sql

CHAIN: Final = "I11 hash_chain"
_PAGE: Final = 5000


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane and the end that its row claims; None: it has no row. `is_circle`: whether a circle of that id exists."""

    id: str
    head: Head | None
    is_circle: bool


LANES = Sql("""
    SELECT coalesce(l.id, c.id) AS id, l.seq, l.hash, c.id IS NOT NULL AS is_circle
    FROM audit_lane l FULL JOIN circle c ON c.id = l.id ORDER BY 1
""")


async def lanes(conn: Connection) -> list[Lane]:
    """Every lane and every circle, in the order of their ids."""
    return [
        Lane(row["id"], None if row["seq"] is None else Head(row["seq"], row["hash"]), row["is_circle"])
        for row in await LANES.rows(conn)
    ]


PAGE = Sql("""
    SELECT lane, seq, at, kind, subject_id, actor_id, body, hash FROM audit_event
    WHERE lane = ANY(:lanes) AND (lane, seq) > (:after_lane, :after_seq) ORDER BY lane, seq LIMIT :most
""")
_FIRST: Final = "0" * 32


async def links(conn: Connection, lane_ids: Sequence[str]) -> AsyncIterator[Link]:
    """The events of some lanes, lane after lane, each in its order."""
    lane, seq = _FIRST, -(2**63)
    while True:
        page = await PAGE.rows(conn, lanes=list(lane_ids), after_lane=lane, after_seq=seq, most=_PAGE)
        for row in page:
            yield Link(*row)
        if len(page) < _PAGE:
            return
        lane, seq = page[-1]["lane"], page[-1]["seq"]


class Walker:
    """Walks one lane; every link is looked at once, in order."""

    def __init__(self, lane: Lane, findings: Findings) -> None:
        self._lane = lane
        self._findings = findings
        self._seq = 0
        self._hash = GENESIS

    def step(self, link: Link) -> None:
        """Compares one link with what its place and contents hash to."""
        if link.seq != self._seq + 1:
            self._say(link.seq, f"number {self._seq + 1} is missing before it")
        expected = link_hash(
            self._hash,
            lane=link.lane,
            seq=link.seq,
            at=link.at,
            kind=link.kind,
            subject_id=link.subject_id,
            actor_id=link.actor_id,
            body=link.body,
        )
        if expected != link.hash and link.seq == self._seq + 1:
            self._say(link.seq, f"the hash of {link.kind} of {link.subject_id} does not follow from the one before and its row")
        self._seq, self._hash = link.seq, link.hash

    def end(self) -> None:
        """Compares the last link with the end that the lane's row claims."""
        head = self._lane.head
        if head is None:
            self._findings.add(CHAIN, "audit_lane", (self._lane.id,), "there is no lane for this circle")
        elif head.seq != self._seq:
            said = f"claims to end at {head.seq}; its events end at {self._seq}"
            self._findings.add(CHAIN, "audit_lane", (self._lane.id,), said)
        elif head.hash != self._hash:
            self._findings.add(CHAIN, "audit_lane", (self._lane.id,), f"claims another hash than event {self._seq} has")

    def _say(self, seq: int, sentence: str) -> None:
        self._findings.add(CHAIN, "audit_event", (self._lane.id, str(seq)), sentence)
