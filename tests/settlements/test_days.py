"""What merchants are owed: a day of the operator, from the ledger alone, closed for good, and paid once."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from kinpay.audit.check import check
from kinpay.database.pool import database_now
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import NotFound, WrongState
from kinpay.primitives.ids import new_id
from kinpay.settlements.close import close_settlements, next_span
from kinpay.settlements.routes import router
from kinpay.settlements.settlement import Line, Settlement
from kinpay.settlements.store import lines_of, note_paid, settlements_of
from tests.statements.conftest import Home, home

__all__ = ["home"]

DAY = date(2026, 3, 10)


async def _settled(home: Home) -> list[Settlement]:
    async with home.db.connection() as conn:
        return await settlements_of(conn, home.till.shop.merchant_id, before=None, limit=10)


async def _lines(home: Home, day: date = DAY) -> list[Line]:
    async with home.db.connection() as conn:
        return await lines_of(conn, home.till.shop.merchant_id, day=day, currency="CNY", after=None, limit=100)


async def test_a_day_is_closed_an_hour_after_midnight_and_a_later_refund_is_another_days(home: Home) -> None:
    await home.at("2026-03-10 12:00")
    lunch = await home.till.pay(home.family, 1400, reference="order 7")
    tea = await home.till.pay(home.family, 300)
    await home.till.refund(tea, 100)
    await home.at("2026-03-11 00:59")
    assert await close_settlements(home.db) == 0
    await home.at("2026-03-11 01:01")
    assert await close_settlements(home.db) == 1
    assert await close_settlements(home.db) == 0
    (day,) = await _settled(home)
    assert (day.day, day.captures, day.captured_minor, day.refunds, day.refunded_minor) == (DAY, 2, 1700, 1, 100)
    assert (day.net_minor, day.paid_at) == (1600, None)
    assert [(line.kind, line.amount_minor, line.reference) for line in await _lines(home)] == [
        ("capture", 1400, "order 7"),
        ("capture", 300, None),
        ("refund", -100, None),
    ]
    await home.till.refund(lunch, 1400)
    await home.at("2026-03-12 02:00")
    await close_settlements(home.db)
    assert [(one.day.day, one.net_minor) for one in await _settled(home)] == [(11, -1400), (10, 1600)]


async def test_a_refund_that_the_provider_refused_is_the_merchants_again(home: Home) -> None:
    await home.at("2026-03-10 12:00")
    lunch = await home.till.pay(home.family, 1400)
    await home.till.refund(lunch, 400, succeeded=False)
    await home.at("2026-03-11 02:00")
    await close_settlements(home.db)
    (day,) = await _settled(home)
    assert (day.refunds, day.refunded_minor, day.net_minor) == (1, 0, 1400)


async def test_a_day_is_paid_once_and_not_before_it_is_closed(home: Home) -> None:
    await home.at("2026-03-10 12:00")
    await home.till.pay(home.family, 1400)
    shop = home.till.shop
    how = {"operator_id": shop.operator_id, "currency": "CNY", "reference": "transfer 1", "actor_id": home.family.payer_id}
    async with home.db.transaction() as conn:
        now = await database_now(conn)
        with pytest.raises(NotFound):
            await note_paid(conn, shop.merchant_id, day=DAY, now=now, **how)
    await home.at("2026-03-11 02:00")
    await close_settlements(home.db)
    async with home.db.transaction() as conn:
        paid = await note_paid(conn, shop.merchant_id, day=DAY, now=await database_now(conn), **how)
        assert (paid.reference, paid.paid_by) == ("transfer 1", home.family.payer_id)
        with pytest.raises(WrongState):
            await note_paid(conn, shop.merchant_id, day=DAY, now=now, **how)


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Auckland"])
async def test_days_go_on_where_the_operators_zone_is_put_right(home: Home, zone: str) -> None:
    """By then the wall may show a date that is closed already; or one whose beginning is."""
    await home.at("2026-03-10 12:00")
    await home.till.pay(home.family, 1400)
    await home.at("2026-03-11 02:00")
    assert await close_settlements(home.db) == 1
    await home.at("2026-03-11 03:00")
    await home.till.pay(home.family, 300)
    await home.value("UPDATE operator SET time_zone = $1 RETURNING 1", zone)
    await home.at("2026-03-13 03:00")
    assert [await close_settlements(home.db) for _ in range(3)] == [1, 0, 0]
    found = await _settled(home)
    assert [(one.day.day, one.net_minor) for one in found] == [(11, 300), (10, 1400)]
    assert [line.amount_minor for line in await _lines(home, date(2026, 3, 11))] == [300]


def test_days_neither_overlap_nor_come_twice_whatever_the_zone_becomes() -> None:
    dice = random.Random(7)
    for _ in range(2_000):
        at, last = datetime(2026, 3, 1, tzinfo=UTC), None
        for _ in range(6):
            at += timedelta(hours=dice.randrange(1, 60))
            zone = dice.choice(["Asia/Shanghai", "America/New_York", "Pacific/Auckland", "Pacific/Pago_Pago", "Europe/Paris"])
            span = next_span(at, zone, last_day=last and last.day, last_ends=last and last.ends)
            assert span.starts <= at < span.ends
            assert last is None or (span.starts >= last.ends and span.day > last.day)
            last, at = span, max(at, span.ends)


async def test_a_table_is_whole_however_long_it_is(home: Home) -> None:
    await home.at("2026-03-10 12:00")
    for number in range(7):
        await home.till.pay(home.family, 100 + number)
    await home.at("2026-03-11 02:00")
    await close_settlements(home.db)
    shop = home.till.shop
    app = FastAPI()
    app.include_router(router(home.db, lines_at_once=3))
    owner = Actor(ActorKind.PERSON, new_id(), shop.operator_id, frozenset({"owner"}))
    app.add_middleware(_As, actor=owner)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://kinpay.test") as http:
        told = (await http.get(f"/v1/merchants/{shop.merchant_id}/settlements/2026-03-10/lines.csv")).text
    lines = told.lstrip("\ufeff").split("\r\n")
    assert lines[0] == "at,kind,charge_id,terminal,reference,currency,amount"
    assert [line.rpartition(",")[2] for line in lines[1:]] == [*(f"1.0{number}" for number in range(7)), ""]


class _As:
    """Whoever asks is somebody."""

    def __init__(self, app: Any, *, actor: Actor) -> None:
        self._app, self._actor = app, actor

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("state", {})["actor"] = self._actor
        await self._app(scope, receive, send)


@pytest.mark.books_broken
async def test_a_settlement_that_was_altered_is_found(home: Home) -> None:
    await home.at("2026-03-10 12:00")
    await home.till.pay(home.family, 1400)
    await home.at("2026-03-11 02:00")
    await close_settlements(home.db)
    await home.value("ALTER TABLE settlement_day DISABLE TRIGGER USER")
    await home.value("UPDATE settlement_day SET captured_minor = 1 RETURNING 1")
    await home.value("ALTER TABLE settlement_day ENABLE TRIGGER USER")
    async with home.db.connection() as conn:
        found = {f"{finding.invariant} {finding.table}" for finding in await check(conn, overdue_after=None)}
    assert found == {"I4 projection settlement_day"}
