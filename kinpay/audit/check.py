"""The audit: every invariant of reliability.md §4 that applies, over one snapshot of the whole database.

Set-based statements where they suffice; what depends on order (the chain, life cycles, limits in force) is one pass over the
audit log, lane after lane, with the rows of some circles at a time in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import msgspec

from kinpay.audit import dual, money, reconciled, standing
from kinpay.audit.chain import CHAIN, Lane, Walker, lanes, links
from kinpay.audit.counted import check_usage
from kinpay.audit.facts import Facts, read_facts
from kinpay.audit.findings import Finding, Findings
from kinpay.audit.history import History, compare
from kinpay.audit.replay import Replay
from kinpay.audit.rule import Asked, check_rules
from kinpay.audit.schema import check_schema
from kinpay.audit.summed import check_statements
from kinpay.audit.terms_held import check_consents
from kinpay.database.sql import Connection, Sql

OVERDUE_AFTER: Final = timedelta(minutes=15)
_EVENTS_AT_ONCE: Final = 200_000
_LANES_AT_ONCE: Final = 5_000

NOW = Sql("SELECT kinpay_now()")


async def check(conn: Connection, *, overdue_after: timedelta | None = OVERDUE_AFTER) -> list[Finding]:
    """Checks books, history and schema; an empty list means that everything adds up.

    `overdue_after`: how late a worker may be; None where none runs, and nothing is expected of it. Reads only, in one
    snapshot; a `conn` that is in a transaction already should be in one of repeatable reads. That nothing was cut off or
    rewritten as a whole only an anchor kept elsewhere can show (`checkpoint.verify_anchor`).
    """
    findings = Findings()
    async with _snapshot(conn):
        await check_schema(conn, findings)
        asked = Asked(await NOW.value(conn), overdue_after)
        await check_rules(conn, money.RULES, asked, findings)
        await check_rules(conn, standing.RULES, asked, findings)
        await check_rules(conn, dual.RULES, asked, findings)
        await check_rules(conn, reconciled.RULES, asked, findings)
        await reconciled.check_lines(conn, findings)
        await dual.check_acts(conn, findings)
        if overdue_after is not None:
            await check_rules(conn, standing.WITH_A_WORKER, asked, findings)
        for batch in _batches(await lanes(conn)):
            await _check_lanes(conn, batch, findings)
    return findings.all()


@asynccontextmanager
async def _snapshot(conn: Connection) -> AsyncIterator[None]:
    if conn.is_in_transaction():
        yield
        return
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        yield


def _batches(every: list[Lane]) -> Iterator[list[Lane]]:
    batch: list[Lane] = []
    events = 0
    for lane in every:
        batch.append(lane)
        events += lane.head.seq if lane.head else 0
        if events >= _EVENTS_AT_ONCE or len(batch) >= _LANES_AT_ONCE:
            yield batch
            batch, events = [], 0
    if batch:
        yield batch


class _Circle:
    """What is followed of one circle while its lane is walked."""

    def __init__(self, facts: Facts, findings: Findings) -> None:
        self.facts = facts
        self.history = History(findings)
        self.replay = Replay(facts, self.history, findings)

    def take(self, link: Any, body: dict[str, Any]) -> None:
        self.history.take(link, body)
        self.replay.take(link, body)


async def _check_lanes(conn: Connection, batch: list[Lane], findings: Findings) -> None:
    """Walks some lanes; a circle's rows are compared with what its own lane told."""
    found = await read_facts(conn, [lane.id for lane in batch if lane.is_circle])
    walkers = {lane.id: Walker(lane, findings) for lane in batch}
    circles = {circle_id: _Circle(facts, findings) for circle_id, facts in found.items()}
    async for link in links(conn, list(walkers)):
        walkers[link.lane].step(link)
        circle = circles.get(link.lane)
        if circle is not None:
            circle.take(link, _body(link.lane, link.seq, link.body, findings))
    for walker in walkers.values():
        walker.end()
    for circle in circles.values():
        compare(circle.facts, circle.history, findings)
        check_consents(circle.facts, findings)
        check_usage(circle.facts, findings)
        check_statements(circle.facts, findings)


def _body(lane: str, seq: int, text: str, findings: Findings) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError):
        findings.add(CHAIN, "audit_event", (lane, str(seq)), "its body is not readable")
        return {}
