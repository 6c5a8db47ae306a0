"""One debit per key for ever, never more than there is, and books that balance."""

from __future__ import annotations

from typing import Any

from kinpay_sandbox.person import BankCustomer
from kinpay_sandbox.remote import BankControl
from tests.sandbox.asking import PASSWORD, Operator, fresh, new_customer, new_operator, until


async def balance(control: BankControl, login: str) -> int:
    """What is on the customer's account."""
    return int((await control.change_customer(login))["balance_minor"])


async def bookings(control: BankControl, key: str) -> list[tuple[str, int]]:
    """How the bank's own books tell the debit: its state, and how often its money moved."""
    return [(one["state"], one["bookings"]) for one in await control.debits() if one["key"] == key]


async def test_64_debits_at_once_under_one_key_are_one(operator: Operator, control: BankControl, payer: str) -> None:
    order = operator.order(await operator.agreement(payer), 1400)
    answers = await operator.at_once([("POST", "/v1/debits", order)] * 64)
    assert len({answer.body for answer in answers}) == 1
    assert answers[0].json["state"] == "succeeded"
    assert await bookings(control, order["key"]) == [("succeeded", 1)]
    assert await balance(control, payer) == 100_000 - 1400


async def test_a_key_with_other_words_is_refused(operator: Operator, control: BankControl, payer: str) -> None:
    order = operator.order(await operator.agreement(payer), 100)
    await operator.call("POST", "/v1/debits", order)
    changes: list[dict[str, Any]] = [{"amount_minor": 101}, {"spender_ref": None}, {"description": "x"}, {"currency": "USD"}]
    for change in changes:
        answer = await operator.call("POST", "/v1/debits", order | change)
        assert (answer.status, answer.code) == (409, "key_reused")
    assert await balance(control, payer) == 100_000 - 100


async def test_keys_belong_to_their_client(operator: Operator, control: BankControl, payer: str) -> None:
    other = await new_operator(control, operator.base_url, ear=operator.ear)
    key = fresh()
    await operator.debit(await operator.agreement(payer), 5, key=key)
    assert (await other.debit(await other.agreement(payer), 7, key=key))["state"] == "succeeded"
    assert await balance(control, payer) == 100_000 - 12
    await other.http.aclose()


async def test_nobody_is_overdrawn_however_many_debits_come_at_once(operator: Operator, control: BankControl) -> None:
    # Each debit under an agreement of its own, so that only the lock on the account can keep them apart.
    payer = await new_customer(control, balance_minor=1000)
    asked = [await operator.call("POST", "/v1/agreements", operator.terms(payer)) for _ in range(20)]
    async with BankCustomer(operator.base_url, payer, PASSWORD) as person:
        for one in asked:
            await person.agree(one.json["approve_url"])
    answers = await operator.at_once([("POST", "/v1/debits", operator.order(one.json["agreement_id"], 300)) for one in asked])
    assert {answer.status for answer in answers} == {200}
    debits = [answer.json for answer in answers]
    assert sorted(one["state"] for one in debits) == ["failed"] * 17 + ["succeeded"] * 3
    assert {one["failure"]["code"] for one in debits if one["failure"]} == {"insufficient_funds"}
    assert await balance(control, payer) == 100


async def test_the_agreements_own_limits_hold(operator: Operator, control: BankControl, payer: str) -> None:
    limits = {"per_debit_minor": 500, "per_day_minor": 1200, "currency": "CNY"}
    agreement_id = await operator.agreement(payer, limits=limits)
    assert (await operator.debit(agreement_id, 501))["failure"] == {"code": "limit_exceeded"}
    answers = await operator.at_once([("POST", "/v1/debits", operator.order(agreement_id, 400)) for _ in range(10)])
    debits = [answer.json for answer in answers]
    assert sum(one["state"] == "succeeded" for one in debits) == 3
    assert {one["failure"]["code"] for one in debits if one["failure"]} == {"limit_exceeded"}
    # A pending debit uses the day; giving it up gives the day back.
    other = await operator.agreement(payer, limits=limits | {"per_day_minor": 500})
    await control.misbehave("debit", "pending")
    waiting = await operator.debit(other, 500)
    assert (await operator.debit(other, 1))["failure"] == {"code": "limit_exceeded"}
    await operator.call("POST", f"/v1/debits/by-key/{waiting['key']}/cancel")
    assert (await operator.debit(other, 500))["state"] == "succeeded"


async def test_a_frozen_payer_is_not_debited_and_a_failure_stays_one(
    operator: Operator, control: BankControl, payer: str
) -> None:
    agreement_id = await operator.agreement(payer)
    await control.change_customer(payer, frozen=True)
    order = operator.order(agreement_id, 5)
    first = await operator.call("POST", "/v1/debits", order)
    assert first.json["failure"] == {"code": "account_frozen"}
    await control.change_customer(payer, frozen=False)
    assert (await operator.call("POST", "/v1/debits", order)).json == first.json
    assert (await operator.call("GET", f"/v1/debits/by-key/{order['key']}")).json == first.json


async def test_bodies_are_read_strictly(operator: Operator, control: BankControl, payer: str) -> None:
    agreement_id = await operator.agreement(payer)
    good = operator.order(agreement_id, 5)
    changes: list[dict[str, Any]] = [
        {"amount_minor": wrong} for wrong in (0, -1, 1.0, 1.5, "5", True, None, 2**53, 10**400, [5])
    ]
    changes += [{"key": wrong} for wrong in ("", "a-b", "K" * 33, 5, None)]
    changes += [{"currency": "cny"}, {"currency": "USD"}, {"spender_ref": 7}, {"description": 5}, {"extra": None}]
    changes += [{"description": "a\nb"}, {"description": "x" * 201}, {"description": "\ud800"}]
    for change in changes:
        answer = await operator.call("POST", "/v1/debits", good | change)
        assert (answer.status, answer.code) == (422, "bad_request"), change
    raw = (b"", b"[]", b"{", b"\xff", b"[" * 30_000, b'{"key":"A","key":"B"}', b'{"amount_minor":NaN}', b'"x"')
    for body in raw:
        answer = await operator.call("POST", "/v1/debits", body)
        assert (answer.status, answer.code) == (422, "bad_request"), body[:30]
    missing = await operator.call("POST", "/v1/debits", operator.order("agnone", 5))
    assert (missing.status, missing.code) == (422, "unknown_agreement")
    assert await balance(control, payer) == 100_000


async def test_a_cancel_closes_a_key_that_never_came(operator: Operator, control: BankControl, payer: str) -> None:
    order = operator.order(await operator.agreement(payer), 50)
    path = f"/v1/debits/by-key/{order['key']}"
    assert (await operator.call("GET", path)).status == 404
    for _ in range(2):
        closed = await operator.call("POST", path + "/cancel")
        assert (closed.json["state"], closed.json["amount_minor"]) == ("cancelled", None)
    late = await operator.call("POST", "/v1/debits", order)
    assert (late.json["state"], late.json["failure"]) == ("failed", {"code": "closed"})
    assert (await operator.call("GET", path)).json == closed.json
    assert await balance(control, payer) == 100_000


async def test_a_cancel_that_races_its_debit_has_one_end(operator: Operator, control: BankControl, payer: str) -> None:
    agreement_id = await operator.agreement(payer)
    orders = [operator.order(agreement_id, 10) for _ in range(16)]
    calls: list[tuple[str, str, object]] = []
    for number, order in enumerate(orders):
        pair = [("POST", "/v1/debits", order), ("POST", f"/v1/debits/by-key/{order['key']}/cancel", None)]
        calls += pair if number % 2 else pair[::-1]
    answers = await operator.at_once(calls)
    paid = 0
    for number, order in enumerate(orders):
        pair_of = answers[2 * number : 2 * number + 2]
        debited, cancelled = pair_of if number % 2 else pair_of[::-1]
        succeeded = debited.json["state"] == "succeeded"
        assert cancelled.json["state"] == ("succeeded" if succeeded else "cancelled")
        assert await bookings(control, order["key"]) == [("succeeded", 1) if succeeded else ("cancelled", 0)]
        paid += succeeded
    assert await balance(control, payer) == 100_000 - 10 * paid


async def test_a_finished_debit_cannot_be_cancelled(operator: Operator, payer: str) -> None:
    debit = await operator.debit(await operator.agreement(payer), 50)
    assert (await operator.call("POST", f"/v1/debits/by-key/{debit['key']}/cancel")).json == debit


async def test_a_pending_debit_holds_its_money_until_it_ends(operator: Operator, control: BankControl, payer: str) -> None:
    agreement_id = await operator.agreement(payer)
    await control.misbehave("debit", "pending", times=3)
    good, bad, gone = [await operator.debit(agreement_id, 100) for _ in range(3)]
    assert good["state"] == "pending"
    assert await balance(control, payer) == 100_000 - 300
    await control.finish_debit(good["key"], "succeeded")
    await control.finish_debit(bad["key"], "failed", code="insufficient_funds")
    assert (await operator.call("POST", f"/v1/debits/by-key/{gone['key']}/cancel")).json["state"] == "cancelled"
    assert await balance(control, payer) == 100_000 - 100
    await until(lambda: len(operator.ear.heard) == 4)
    assert operator.ear.types()[1:] == ["debit.succeeded", "debit.failed", "debit.cancelled"]
    assert operator.ear.told()[2]["data"]["failure"] == {"code": "insufficient_funds"}


async def test_refunds_in_parts_never_exceed_the_debit(operator: Operator, control: BankControl, payer: str) -> None:
    debit = await operator.debit(await operator.agreement(payer), 1000)
    assert (await operator.refund(debit["key"], 300))["state"] == "succeeded"
    body = {"debit_key": debit["key"], "amount_minor": 200, "currency": "CNY"}
    answers = await operator.at_once([("POST", "/v1/refunds", {"key": fresh("R")} | body) for _ in range(8)])
    refunds = [answer.json for answer in answers]
    assert sum(one["state"] == "succeeded" for one in refunds) == 3
    assert {one["failure"]["code"] for one in refunds if one["failure"]} == {"over_refund"}
    told = (await operator.call("GET", f"/v1/debits/by-key/{debit['key']}")).json
    assert told["refunded_minor"] == 900
    assert await balance(control, payer) == 100_000 - 100


async def test_a_refund_happens_once_per_key(operator: Operator, control: BankControl, payer: str) -> None:
    agreement_id = await operator.agreement(payer)
    debit = await operator.debit(agreement_id, 1000)
    body = {"key": fresh("R"), "debit_key": debit["key"], "amount_minor": 10, "currency": "CNY"}
    answers = await operator.at_once([("POST", "/v1/refunds", body)] * 16)
    assert len({answer.body for answer in answers}) == 1
    assert await balance(control, payer) == 100_000 - 990
    other = await operator.call("POST", "/v1/refunds", body | {"amount_minor": 11})
    assert (other.status, other.code) == (409, "key_reused")
    assert (await operator.call("GET", f"/v1/refunds/by-key/{body['key']}")).json == answers[0].json
    assert (await operator.call("GET", "/v1/refunds/by-key/none")).code == "not_found"
    unknown = await operator.call("POST", "/v1/refunds", body | {"key": fresh(), "debit_key": "none"})
    assert (unknown.status, unknown.code) == (404, "not_found")
    failed = await operator.debit(agreement_id, 10**9)
    assert (await operator.refund(failed["key"], 1))["failure"] == {"code": "not_refundable"}


async def test_a_pending_refund_reserves_its_part(operator: Operator, control: BankControl, payer: str) -> None:
    debit = await operator.debit(await operator.agreement(payer), 100)
    await control.misbehave("refund", "pending", times=2)
    first, second = await operator.refund(debit["key"], 60), await operator.refund(debit["key"], 40)
    assert (await operator.refund(debit["key"], 1))["failure"] == {"code": "over_refund"}
    await control.finish_refund(first["key"], "succeeded")
    await control.finish_refund(second["key"], "failed", code="risk")
    assert (await operator.refund(debit["key"], 40))["state"] == "succeeded"
    assert await balance(control, payer) == 100_000
    await until(lambda: operator.ear.types()[1:] == ["refund.succeeded", "refund.failed"])


async def test_the_statement_is_the_ledgers_day(operator: Operator, control: BankControl, payer: str) -> None:
    agreement_id = await operator.agreement(payer)
    paid = await operator.debit(agreement_id, 1400)
    await operator.debit(agreement_id, 10**9)
    await control.misbehave("debit", "pending")
    late = await operator.debit(agreement_id, 5)
    await control.finish_debit(late["key"], "succeeded")
    refund = await operator.refund(paid["key"], 400)
    day = paid["finished_at"][:10]
    answer = await operator.call("GET", f"/v1/statements/{day}.csv")
    rows = [line.split(",") for line in answer.body.decode().splitlines()]
    assert rows[0] == ["kind", "key", "debit_key", "agreement_id", "spender_ref", "amount_minor", "currency", "finished_at"]
    assert [row[:7] for row in rows[1:]] == [
        ["debit", paid["key"], "", agreement_id, "S1", "1400", "CNY"],
        ["debit", late["key"], "", agreement_id, "S1", "5", "CNY"],
        ["refund", refund["key"], paid["key"], agreement_id, "S1", "400", "CNY"],
    ]
    assert rows[1][7] == paid["finished_at"]
    assert len((await operator.call("GET", "/v1/statements/2020-02-29.csv")).body.splitlines()) == 1
    assert (await operator.call("GET", "/v1/statements/2021-02-29.csv")).code == "bad_request"


async def test_the_books_name_every_sum(operator: Operator, control: BankControl, payer: str) -> None:
    debit = await operator.debit(await operator.agreement(payer), 1000)
    await operator.refund(debit["key"], 250)
    books = await control.books()
    mine = next(one for one in books["clients"] if one["client_id"] == operator.client_id)
    theirs = next(one for one in books["customers"] if one["login"] == payer)
    assert (mine["balance_minor"], mine["debited_minor"], mine["refunded_minor"]) == (750, 1000, 250)
    assert (theirs["balance_minor"], theirs["debited_minor"], theirs["debits"]) == (99_250, 1000, 1)
