"""Who is told of what, once, in whose words."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest_asyncio

from kinpay.charges.batch import Batcher
from kinpay.charges.charge import ChargeState
from kinpay.database import outbox
from kinpay.database.pool import Database
from kinpay.mandates.end_agreement import end_agreement
from kinpay.notifications.deliver import tasks
from kinpay.people.freeze import freeze
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.ids import new_id
from kinpay.providers.contract import FailureCause
from kinpay.worker.run import Worker
from kinpay.worker.tasks import Message
from tests.charges.seeds import Family, found_families, open_shop
from tests.notifications.till import Till, add_member, add_person

SHANGHAI = ZoneInfo("Asia/Shanghai")
MONDAY = datetime(2026, 3, 2, 11, 55, tzinfo=SHANGHAI).astimezone(UTC)
TERMS: dict[str, Any] = {
    "currency": "CNY",
    "limits": [
        {"metric": "amount", "window": "per_payment", "at_most": 2000, "filter": {}},
        {"metric": "amount", "window": "day", "at_most": 3500, "filter": {}},
        {"metric": "count", "window": "day", "at_most": 4, "filter": {}},
    ],
    "conditions": [],
}


@dataclass(frozen=True, slots=True)
class Home:
    """Xiaoyu spends, mother pays; father approves, grandmother looks; aunt is no member. And the till."""

    db: Database
    till: Till
    family: Family
    father_id: str
    grandmother_id: str

    async def told(self) -> list[dict[str, Any]]:
        """Delivers what is due; every notice there is, oldest first."""
        await Worker(self.db, tasks(self.db)).run_until_idle()
        async with self.db.connection() as conn:
            rows = await conn.fetch("SELECT person_id, kind, body, created_at FROM notice ORDER BY outbox_id, person_id")
        return [dict(row) for row in rows]

    async def texts(self, kind: str) -> dict[str, str]:
        """The texts of that kind by person."""
        return {one["person_id"]: one["body"]["text"] for one in await self.told() if one["kind"] == kind}


@pytest_asyncio.fixture
async def home(db: Database) -> AsyncIterator[Home]:
    batcher = Batcher(db)
    async with db.transaction() as conn:
        shop = await open_shop(conn, MONDAY)
        (family,) = await found_families(conn, shop, MONDAY, terms=TERMS)
        father = await add_person(conn, shop, MONDAY, name="Father")
        grandmother = await add_person(conn, shop, MONDAY, name="Grandmother", locale="zh")
        await add_person(conn, shop, MONDAY, name="Aunt")
        await add_member(conn, family, father, "approver", MONDAY)
        await add_member(conn, family, grandmother, "viewer", MONDAY)
        await conn.execute("UPDATE person SET display_name = 'Xiaoyu' WHERE id = $1", family.spender_id)
        await conn.execute("UPDATE person SET display_name = '王芳' WHERE id = $1", family.payer_id)
    till = Till(db, batcher, shop)
    await till.at(MONDAY)
    yield Home(db, till, family, father, grandmother)
    await batcher.close()


async def test_a_payment_is_told_to_spender_payer_approver_and_viewer_in_their_languages(home: Home) -> None:
    await home.till.pay(home.family, 1400)
    told = await home.texts("charge_succeeded")
    assert told == {
        home.family.spender_id: "您在Canteen付款 ¥14.00，由王芳支付。今日剩余 ¥21.00（每日 ¥35.00）。",
        home.family.payer_id: "Xiaoyu在Canteen付款 ¥14.00，由您支付。今日剩余 ¥21.00（每日 ¥35.00）。",
        home.father_id: "Xiaoyu paid ¥14.00 at Canteen, debited to 王芳. Left today: ¥21.00 of ¥35.00.",
        home.grandmother_id: "Xiaoyu在Canteen付款 ¥14.00，由王芳支付。今日剩余 ¥21.00（每日 ¥35.00）。",
    }
    # That it was held first is not worth a word where it is captured at once.
    assert {one["kind"] for one in await home.told()} == {"charge_succeeded"}


async def test_a_refusal_tells_spender_and_payer_the_amount_now_and_the_hour(home: Home) -> None:
    await home.till.pay(home.family, 2000)
    refused = await home.till.ask(home.family, 1600)
    assert refused.state is ChargeState.REFUSED
    told = await home.texts("charge_refused")
    assert set(told) == {home.family.spender_id, home.family.payer_id}
    assert told[home.family.payer_id] == (
        "Xiaoyu的付款（Canteen，¥16.00）被拒绝：超过每日限额 ¥35.00（已用 ¥20.00）。现在最多可付 ¥15.00，00:00 后可付全额。"
    )


async def test_without_a_payer_all_payers_of_the_circle_hear_of_a_refusal(home: Home) -> None:
    async with home.db.transaction() as conn:
        child = Actor(kind=ActorKind.PERSON, id=home.family.spender_id, operator_id=home.till.shop.operator_id)
        await freeze(conn, child, circle_id=home.family.circle_id)
    await home.till.ask(home.family, 100)
    told = await home.texts("charge_refused")
    assert set(told) == {home.family.spender_id, home.family.payer_id}
    assert "圈子已冻结" in told[home.family.payer_id]


async def test_every_message_delivered_again_tells_nobody_again(home: Home) -> None:
    charge = await home.till.pay(home.family, 1400)
    await home.till.refund(charge, 400)
    await home.till.ask(home.family, 9900)
    before = await home.told()
    async with home.db.transaction() as conn:
        await conn.execute("UPDATE outbox SET done_at = NULL, attempts = 0")
    assert await home.told() == before
    async with home.db.connection() as conn:
        rows = await conn.fetch("SELECT id, lane, topic, subject_id, body, created_at FROM outbox")
    every = tasks(home.db)
    messages = [Message(**row, attempt=1, fence=1) for row in rows]
    await asyncio.gather(*(every[message.topic](message) for message in messages for _ in range(5)))
    assert await home.told() == before
    assert Counter(one["kind"] for one in before) == {
        "charge_succeeded": 4,
        "charge_refused": 2,
        "charge_refunded": 2,
        "refund_succeeded": 1,
    }


async def test_a_hold_that_lasts_is_told_to_the_spender_and_its_quiet_end_too(home: Home) -> None:
    held = await home.till.ask(home.family, 300, capture=False)
    assert await home.texts("charge_held") == {home.family.spender_id: "已在Canteen预留 ¥3.00，尚未扣款。"}
    await home.till.void(held, reason="hold_ran_out")
    assert set(await home.texts("charge_voided")) == {home.family.spender_id}


async def test_a_hold_voided_because_the_right_is_gone_is_told_to_the_payer_too(home: Home) -> None:
    held = await home.till.ask(home.family, 300)
    async with home.db.transaction() as conn:
        await end_agreement(conn, agreement_id=home.family.agreement_id, payer_id=home.family.payer_id)
    assert await home.till.capture(held) is None
    told = await home.texts("charge_voided")
    assert set(told) == {home.family.spender_id, home.family.payer_id}
    assert "付款授权已失效" in told[home.family.payer_id]


async def test_why_a_provider_declined_is_told_to_the_payer_only(home: Home) -> None:
    charge = await home.till.ask(home.family, 300)
    debit_id = await home.till.capture(charge)
    assert debit_id is not None
    await home.till.says(debit_id, failure=FailureCause.FUNDS)
    told = await home.texts("charge_declined")
    assert set(told) == {home.family.spender_id, home.family.payer_id}
    assert "余额不足" in told[home.family.payer_id]
    assert "余额不足" not in told[home.family.spender_id]
    kept = [one["body"]["facts"] for one in await home.told() if one["person_id"] == home.family.spender_id]
    assert all("cause" not in facts for facts in kept)


async def test_what_is_owed_is_told_with_when_it_is_tried_again(home: Home) -> None:
    charge = await home.till.ask(home.family, 735)
    debit_id = await home.till.capture(charge, delivered=True)
    assert debit_id is not None
    await home.till.says(debit_id, failure=FailureCause.FUNDS)
    told = await home.texts("charge_owed")
    assert set(told) == {home.family.spender_id, home.family.payer_id, home.father_id}
    assert "12:55" in told[home.father_id]
    assert "not enough money" not in told[home.father_id]


async def test_late_truth_is_told_and_so_is_the_money_on_its_way_back(home: Home) -> None:
    charge = await home.till.ask(home.family, 300)
    debit_id = await home.till.capture(charge)
    assert debit_id is not None
    await home.till.says(debit_id, failure=FailureCause.OTHER)
    await home.till.says(debit_id)
    kinds = {one["kind"] for one in await home.told() if one["person_id"] == home.family.payer_id}
    assert kinds == {"charge_declined", "charge_succeeded_late", "charge_refunded"}


async def test_a_refund_that_fails_is_told_to_both(home: Home) -> None:
    charge = await home.till.pay(home.family, 1400)
    await home.till.refund(charge, 1400, succeeded=False)
    assert set(await home.texts("refund_failed")) == {home.family.spender_id, home.family.payer_id}


async def test_nobody_is_told_who_is_not_verified_has_no_phone_or_left(home: Home) -> None:
    async with home.db.transaction() as conn:
        await conn.execute("UPDATE person SET state = 'unverified' WHERE id = $1", home.family.payer_id)
        await conn.execute("UPDATE person SET assisted = true WHERE id = $1", home.family.spender_id)
        await conn.execute("UPDATE circle_member SET ended_at = $2 WHERE person_id = $1", home.father_id, MONDAY)
        body = {"people": [home.family.payer_id, new_id()], "spender_id": home.family.spender_id}
        await outbox.enqueue(
            conn, "notice.registration_requested", lane=home.family.circle_id, subject_id=new_id(), body=body, now=MONDAY
        )
    await home.till.pay(home.family, 100)
    assert {one["person_id"] for one in await home.told()} == {home.grandmother_id}


async def test_after_midnight_nothing_is_said_of_what_was_left_that_day(home: Home) -> None:
    await home.till.pay(home.family, 1400)
    await home.till.at(MONDAY + timedelta(days=1))
    assert "今日" not in (await home.texts("charge_succeeded"))[home.family.payer_id]


async def test_a_cause_names_people_and_the_text_their_names_of_now(home: Home) -> None:
    body = {
        "people": [home.father_id],
        "circle_id": home.family.circle_id,
        "payer_id": home.family.payer_id,
        "payer_name": "as it was",
        "spender_id": home.family.spender_id,
        "reason": "agreement_ended",
    }
    agreement = {"people": [home.father_id], "agreement_id": home.family.agreement_id, "ended_by": "provider"}
    async with home.db.transaction() as conn:
        lane, subject = home.family.circle_id, home.family.mandate_id
        await outbox.enqueue(conn, "notice.mandate_suspended", lane=lane, subject_id=subject, body=body, now=MONDAY)
        await outbox.enqueue(conn, "notice.agreement_ended", lane=lane, subject_id=subject, body=agreement, now=MONDAY)
    first, second = await home.told()
    assert first["body"]["text"].startswith("Payments by 王芳 for Xiaoyu are suspended, because no agreement")
    assert second["body"]["text"].startswith("王芳's agreement with Sandbox Bank for Family ended by the provider.")
    assert first["created_at"] == MONDAY
    assert "people" not in first["body"]["facts"]


async def test_a_notice_wakes_the_stream_of_its_person_only(home: Home) -> None:
    heard: list[str] = []
    async with home.db.connection() as conn:
        await conn.add_listener("notice", lambda *said: heard.append(said[-1]))
        await home.till.ask(home.family, 9900)
        await home.told()
        for _ in range(50):
            if len(heard) >= 2:
                break
            await asyncio.sleep(0.02)
        await conn.reset()
    assert sorted(heard) == sorted([home.family.spender_id, home.family.payer_id])
