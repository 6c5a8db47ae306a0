"""Story S1: Monday and Tuesday at the school canteen, and what the month says of them; who was really debited; who may look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from kinpay.charges.batch import Batcher
from kinpay.charges.charge import ChargeState
from kinpay.database.audit import Event, record
from kinpay.database.pool import Database
from kinpay.mandates.grant import activate, propose
from kinpay.mandates.terms import Terms
from kinpay.primitives.errors import Invalid, NotFound
from kinpay.primitives.ids import new_id
from kinpay.providers.contract import FailureCause
from kinpay.statements.render import render_text
from kinpay.statements.statement import Line, Part, Statement, Tally
from kinpay.statements.store import statement_for, statement_of
from tests.charges.seeds import Family, found_families, open_shop
from tests.notifications.till import Till, add_member, add_person

SHANGHAI = ZoneInfo("Asia/Shanghai")
TERMS: dict[str, Any] = {
    "currency": "CNY",
    "limits": [
        {"metric": "amount", "window": "per_payment", "at_most": 4000, "filter": {}},
        {"metric": "amount", "window": "day", "at_most": 3500, "filter": {}},
        {"metric": "count", "window": "day", "at_most": 4, "filter": {}},
        {"metric": "amount", "window": "month", "at_most": 60000, "filter": {}},
    ],
    "conditions": [],
}


def monday(hour: int, minute: int, *, day: int = 2) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=SHANGHAI).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class School:
    """Xiaoyu and mother, and the till of the canteen."""

    db: Database
    till: Till
    family: Family

    async def statement(self, month: str = "2026-03", **who: Any) -> Statement:
        """The month's statement."""
        async with self.db.transaction() as conn:
            return await statement_of(conn, self.family.circle_id, month=month, **who)

    async def part(self, month: str = "2026-03", **who: Any) -> Part:
        """Its only currency."""
        (part,) = (await self.statement(month, **who)).parts
        return part


@pytest_asyncio.fixture
async def school(db: Database) -> AsyncIterator[School]:
    batcher, opened = Batcher(db), monday(7, 0)
    async with db.transaction() as conn:
        shop = await open_shop(conn, opened)
        (family,) = await found_families(conn, shop, opened, terms=TERMS)
        await conn.execute("UPDATE person SET display_name = 'Xiaoyu' WHERE id = $1", family.spender_id)
        await conn.execute("UPDATE person SET display_name = '王芳' WHERE id = $1", family.payer_id)
    yield School(db, Till(db, batcher, shop), family)
    await batcher.close()


def figures(line: Line) -> tuple[int, int, int]:
    return line.gross_minor, line.refunded_minor, line.net_minor


async def test_monday_and_tuesday_of_story_s1(school: School) -> None:
    till, family = school.till, school.family
    await till.at(monday(7, 10))
    await till.pay(family, 650)
    await till.at(monday(11, 55))
    lunch = await till.pay(family, 1400)
    await till.at(monday(15, 30))
    assert (await till.pay(family, 1500)).state is ChargeState.REFUSED
    await till.at(monday(15, 31))
    await till.pay(family, 1450)
    await till.at(monday(15, 40))
    await till.refund(lunch, 1400)
    await till.at(monday(15, 45))
    await till.pay(family, 1400)
    await till.at(monday(15, 50))
    assert (await till.pay(family, 50)).state is ChargeState.REFUSED
    await till.at(monday(12, 0, day=3))
    await till.pay(family, 2600)

    part = await school.part()
    assert [(line.key, *figures(line)) for line in part.by_day] == [
        ("2026-03-02", 4900, 1400, 3500),
        ("2026-03-03", 2600, 0, 2600),
    ]
    assert [(line.name, *figures(line)) for line in part.by_payer] == [("王芳", 7500, 1400, 6100)]
    assert figures(part.total) == (7500, 1400, 6100)
    assert part.total.count == 5
    assert [(line.key, line.net_minor) for line in part.by_category] == [("5812", 6100)]
    assert [(line.name, line.net_minor) for line in part.by_merchant] == [("Canteen", 6100)]
    assert part.unpaid.refused == Tally(2, 1550)
    assert part.unpaid.owed == part.unpaid.pending == part.unpaid.declined == Tally()


async def test_the_text_has_the_figures_in_both_languages(school: School) -> None:
    await school.till.at(monday(12, 0))
    lunch = await school.till.pay(school.family, 1400)
    await school.till.refund(lunch, 400)
    await school.till.ask(school.family, 9900)
    statement = await school.statement()
    english, chinese = render_text(statement, "en"), render_text(statement, "zh")
    assert english.splitlines()[0] == "Family: 2026-03 (Asia/Shanghai)"
    assert ["王芳", "1", "14.00", "4.00", "10.00"] in [line.split() for line in english.splitlines()]
    assert ["Refused", "by", "limits", "1", "99.00"] in [line.split() for line in english.splitlines()]
    assert ["合计", "1", "14.00", "4.00", "10.00"] in [line.split() for line in chinese.splitlines()]
    assert "本月没有消费" in render_text(await school.statement("2026-01"), "zh")


async def test_a_fallback_counts_for_whoever_really_paid_and_a_second_debit_is_given_back(school: School) -> None:
    till, family = school.till, school.family
    await till.at(monday(12, 0))
    father = await _second_payer(school)
    charge = await till.ask(family, 1400, capture=True)
    first = await till.capture(charge)
    assert first is not None
    second = (await till.says(first, failure=FailureCause.FUNDS)).next_debit_id
    assert second is not None
    await till.says(second)
    part = await school.part()
    assert [(line.key, *figures(line)) for line in part.by_payer] == [(father, 1400, 0, 1400)]
    await till.says(first)  # Held for failed, and yet it happened: given back at once.
    part = await school.part()
    assert {line.key: figures(line) for line in part.by_payer} == {father: (1400, 0, 1400), family.payer_id: (1400, 1400, 0)}
    assert part.total.count == 1
    assert sum(line.count for line in part.by_payer) == 2
    async with school.db.connection() as conn:
        surplus = await conn.fetchval("SELECT id FROM refund")
    await till.says_of_refund(surplus, succeeded=False)
    part = await school.part()
    assert figures(part.total) == (2800, 0, 2800)


async def _second_payer(school: School) -> str:
    """A second mandate for the child, of father, tried after mother's."""
    family, now, shop = school.family, monday(7, 0), school.till.shop
    async with school.db.transaction() as conn:
        father = await add_person(conn, shop, now, name="Father")
        await add_member(conn, family, father, "payer", now)
        agreement = new_id()
        await conn.execute(
            "INSERT INTO agreement SELECT $1, circle_id, operator_id, provider_account_id, $2, payer_account, payer_account_id,"
            " business_type, currency, per_debit_minor, per_day_minor, state, 'father', action_url, created_at, expires_at,"
            " active_at FROM agreement WHERE id = $3",
            agreement, father, family.agreement_id,
        )  # fmt: skip
        signed = {"payer": father, "provider_account": shop.provider_account_id, "business_type": "proxy"}
        await record(
            conn,
            family.circle_id,
            Event("agreement.created", agreement, signed, father),
            Event("agreement.open", agreement, {"from": "created", "to": "active", "by": None}),
            now=now,
        )
        mandate_id = await propose(
            conn,
            circle_id=family.circle_id,
            payer_id=father,
            spender_id=family.spender_id,
            terms=Terms(currency="CNY"),
            agreement_ids=[agreement],
            proof_id=None,
            now=now,
        )
        await activate(conn, mandate_id, now=now)
    return father


async def test_what_is_held_owed_or_declined_is_told_apart_and_not_counted_as_paid(school: School) -> None:
    till, family = school.till, school.family
    await till.at(monday(12, 0))
    await till.ask(family, 100)
    declined = await till.capture(await till.ask(family, 200))
    owed = await till.capture(await till.ask(family, 300), amount_minor=250, delivered=True)
    assert declined is not None
    assert owed is not None
    await till.says(declined, failure=FailureCause.RISK)
    await till.says(owed, failure=FailureCause.FUNDS)
    part = await school.part()
    assert figures(part.total) == (0, 0, 0)
    assert part.unpaid.pending == Tally(1, 100)
    assert part.unpaid.declined == Tally(1, 200)
    assert part.unpaid.owed == Tally(1, 250)


async def test_a_second_before_midnight_is_the_old_month_even_if_captured_in_the_new_one(school: School) -> None:
    till, family = school.till, school.family
    await till.at(datetime(2026, 3, 31, 23, 59, 58, tzinfo=SHANGHAI))
    charge = await till.ask(family, 1000)
    await till.at(datetime(2026, 4, 1, 0, 0, 5, tzinfo=SHANGHAI))
    debit_id = await till.capture(charge)
    assert debit_id is not None
    await till.says(debit_id)
    assert (await school.part()).total.net_minor == 1000
    (april,) = (await school.statement("2026-04")).parts
    assert (april.total.count, april.total.net_minor, april.total.before_net_minor) == (0, 0, 1000)


async def test_a_spender_sees_their_own_lines_and_a_stranger_nothing(school: School) -> None:
    till, family, now = school.till, school.family, monday(12, 0)
    await till.at(now)
    await till.pay(family, 700)
    async with school.db.transaction() as conn:
        sister = await add_person(conn, till.shop, now, name="Sister")
        aunt = await add_person(conn, till.shop, now, name="Aunt")
        gone = await add_person(conn, till.shop, now, name="Gone")
        await add_member(conn, family, sister, "spender", now)
        await add_member(conn, family, aunt, "viewer", now)
        await add_member(conn, family, gone, "viewer", now)
        await conn.execute("UPDATE circle_member SET ended_at = $2 WHERE person_id = $1", gone, now)
        seen = {
            person: await statement_for(conn, person, circle_id=family.circle_id, month="2026-03")
            for person in (family.payer_id, aunt, family.spender_id, sister)
        }
        for stranger in (gone, new_id()):
            with pytest.raises(NotFound):
                await statement_for(conn, stranger, circle_id=family.circle_id, month="2026-03")
        with pytest.raises(NotFound):
            await statement_for(conn, family.payer_id, circle_id=new_id(), month="2026-03")
        with pytest.raises(NotFound):
            await statement_of(conn, new_id(), month="2026-03")
        with pytest.raises(Invalid):
            await statement_for(conn, family.payer_id, circle_id=family.circle_id, month="2026-3")
    assert seen[sister].parts == ()
    assert seen[sister].spender_id == sister
    assert seen[family.payer_id] == seen[aunt]
    assert seen[family.spender_id].parts == seen[family.payer_id].parts
