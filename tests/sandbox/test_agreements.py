"""An agreement from the request to its end, signed by a person on the bank's own pages."""

from __future__ import annotations

from typing import Any

import pytest

from kinpay_sandbox.person import BankCustomer, PageRefusedError
from kinpay_sandbox.remote import BankControl
from tests.sandbox.asking import PASSWORD, Operator, fresh, new_customer, new_operator, until


async def show(operator: Operator, agreement_id: str) -> Any:
    """The agreement as the bank tells it."""
    return (await operator.call("GET", f"/v1/agreements/{agreement_id}")).json


async def test_a_payer_agrees_on_the_banks_pages(operator: Operator, payer: str) -> None:
    terms = operator.terms(payer)
    asked = await operator.call("POST", "/v1/agreements", terms)
    assert asked.status == 201
    assert (asked.json["state"], asked.json["payer_account_id"]) == ("pending", None)
    async with BankCustomer(operator.base_url, payer, PASSWORD) as person:
        words = await person.read(asked.json["approve_url"])
        assert "Kin School" in words
        assert "小明" in words
        back = await person.agree(asked.json["approve_url"])
        assert back == f"https://kinpay.example/back/here?x=1&agreement_key={terms['key']}"
        # The address is good for one decision.
        with pytest.raises(PageRefusedError, match="You have agreed"):
            await person.refuse(asked.json["approve_url"])
    active = (await operator.call("GET", f"/v1/agreements/by-key/{terms['key']}")).json
    assert active["state"] == "active"
    assert active["payer_account_id"].startswith("pa")
    assert active["spenders"] == [{"ref": "S1", "name": "小明", "state": "active"}]
    await until(lambda: operator.ear.types() == ["agreement.active"])
    assert operator.ear.told()[0]["data"] == active


async def test_a_payer_refuses(operator: Operator, payer: str) -> None:
    asked = (await operator.call("POST", "/v1/agreements", operator.terms(payer))).json
    async with BankCustomer(operator.base_url, payer, PASSWORD) as person:
        assert "agreement_key=" in await person.refuse(asked["approve_url"])
        with pytest.raises(PageRefusedError, match="You have refused"):
            await person.agree(asked["approve_url"])
    told = await show(operator, asked["agreement_id"])
    assert (told["state"], told["payer_account_id"]) == ("refused", None)
    await until(lambda: operator.ear.types() == ["agreement.refused"])


async def test_the_same_key_is_the_same_agreement(operator: Operator, payer: str) -> None:
    terms = operator.terms(payer)
    first = await operator.call("POST", "/v1/agreements", terms)
    again = await operator.call("POST", "/v1/agreements", terms)
    assert (first.status, again.status) == (201, 200)
    assert first.json == again.json
    other = await operator.call("POST", "/v1/agreements", terms | {"business_type": "self"})
    assert (other.status, other.code) == (409, "key_reused")


async def test_each_wrong_detail_is_refused_by_its_own_code(operator: Operator, control: BankControl, payer: str) -> None:
    frozen = await new_customer(control)
    await control.change_customer(frozen, frozen=True)
    limits = {"per_debit_minor": 5, "per_day_minor": None, "currency": "CNY"}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"payer_account": "nobody"}, "unknown_payer_account"),
        ({"account": "other"}, "unknown_account"),
        ({"account": "spare"}, "business_type_not_allowed"),
        ({"business_type": "loan"}, "business_type_not_allowed"),
        ({"payer_account": frozen}, "account_frozen"),
        ({"return_url": "https://kinpay.example.evil/back"}, "return_url_not_allowed"),
        ({"return_url": "https://kinpay.example/backwards"}, "return_url_not_allowed"),
        ({"return_url": "https://kinpay.example/back/../x"}, "return_url_not_allowed"),
        ({"return_url": "https://kinpay.example@evil/back"}, "bad_request"),
        ({"return_url": "javascript:alert(1)"}, "bad_request"),
        ({"surprise": 1}, "bad_request"),
        ({"key": "has space"}, "bad_request"),
        ({"key": "K" * 33}, "bad_request"),
        ({"limits": limits | {"per_debit_minor": 1.5}}, "bad_request"),
        ({"limits": limits | {"per_debit_minor": 0}}, "bad_request"),
        ({"limits": limits | {"currency": "USD"}}, "bad_request"),
        ({"limits": limits | {"more": 1}}, "bad_request"),
        ({"valid_until": "2020-01-01T00:00:00Z"}, "bad_request"),
        ({"valid_until": "2090-01-01T00:00:00"}, "bad_request"),
        ({"spender": {"ref": "S 1", "name": "x"}}, "bad_request"),
        ({"spender": {"ref": "S1", "name": "x\u0000"}}, "bad_request"),
    ]
    for change, code in wrong:
        answer = await operator.call("POST", "/v1/agreements", operator.terms(payer, **change))
        assert (answer.status, answer.code) == (422, code), change


async def test_only_the_payer_themselves_can_agree(operator: Operator, control: BankControl, payer: str) -> None:
    asked = (await operator.call("POST", "/v1/agreements", operator.terms(payer))).json
    stranger = await new_customer(control)
    async with BankCustomer(operator.base_url, stranger, PASSWORD) as person:
        with pytest.raises(PageRefusedError, match="another account"):
            await person.agree(asked["approve_url"])
    async with BankCustomer(operator.base_url, payer, "wrong") as person:
        with pytest.raises(PageRefusedError, match="not right"):
            await person.agree(asked["approve_url"])
    assert (await show(operator, asked["agreement_id"]))["state"] == "pending"


async def test_a_frozen_payer_cannot_agree(operator: Operator, control: BankControl, payer: str) -> None:
    asked = (await operator.call("POST", "/v1/agreements", operator.terms(payer))).json
    await control.change_customer(payer, frozen=True)
    async with BankCustomer(operator.base_url, payer, PASSWORD) as person:
        with pytest.raises(PageRefusedError, match="frozen"):
            await person.agree(asked["approve_url"])
    assert (await show(operator, asked["agreement_id"]))["state"] == "pending"


async def test_an_unsigned_agreement_lapses(operator: Operator, control: BankControl, payer: str) -> None:
    asked = (await operator.call("POST", "/v1/agreements", operator.terms(payer))).json
    await control.lapse_agreement(asked["agreement_id"])
    assert (await show(operator, asked["agreement_id"]))["state"] == "expired"
    async with BankCustomer(operator.base_url, payer, PASSWORD) as person:
        with pytest.raises(PageRefusedError, match="lapsed"):
            await person.agree(asked["approve_url"])
    await until(lambda: operator.ear.types() == ["agreement.expired"])


async def test_a_client_ends_an_agreement_and_again(operator: Operator, payer: str) -> None:
    agreement_id = await operator.agreement(payer)
    for _ in range(2):
        ended = await operator.call("POST", f"/v1/agreements/{agreement_id}/end", {"reason": "moved away"})
        assert (ended.status, ended.json["state"], ended.json["ended_by"]) == (200, "ended", "client")
    assert (await operator.debit(agreement_id, 1))["failure"] == {"code": "agreement_inactive"}
    await until(lambda: operator.ear.types() == ["agreement.active", "agreement.ended"])


async def test_the_bank_ends_an_agreement_aloud_or_quietly(operator: Operator, control: BankControl, payer: str) -> None:
    quiet, loud = await operator.agreement(payer), await operator.agreement(payer)
    await control.end_agreement(quiet, quietly=True)
    await control.end_agreement(loud)
    assert [(await show(operator, one))["ended_by"] for one in (quiet, loud)] == ["bank", "bank"]
    await until(lambda: operator.ear.types()[2:] == ["agreement.ended"])
    assert operator.ear.told()[2]["data"]["agreement_id"] == loud


async def test_a_payer_removes_a_spender_and_ends_the_agreement_on_their_own_page(
    operator: Operator, control: BankControl, payer: str
) -> None:
    agreement_id = await operator.agreement(payer)
    async with BankCustomer(operator.base_url, payer, PASSWORD) as person:
        words = await person.my_page()
        assert "¥1,000.00" in words
        assert "小明" in words
        await person.remove_spender(agreement_id, "S1")
        assert (await operator.debit(agreement_id, 1))["failure"] == {"code": "spender_removed"}
        assert (await operator.debit(agreement_id, 1, spender_ref=None))["state"] == "succeeded"
        await person.end_agreement(agreement_id)
        with pytest.raises(PageRefusedError):
            await person.end_agreement(agreement_id)
    assert (await show(operator, agreement_id))["ended_by"] == "payer"
    await until(lambda: len(operator.ear.heard) == 3)
    assert operator.ear.types() == ["agreement.active", "agreement.spender_removed", "agreement.ended"]


async def test_spenders_are_bound_removed_and_bound_again(operator: Operator, payer: str) -> None:
    agreement_id = await operator.agreement(payer, spender=None)
    path = f"/v1/agreements/{agreement_id}/spenders"
    assert (await operator.debit(agreement_id, 1, spender_ref="G2"))["failure"] == {"code": "spender_removed"}
    for _ in range(2):
        bound = await operator.call("POST", path, {"ref": "G2", "name": "奶奶"})
        assert bound.json["spenders"] == [{"ref": "G2", "name": "奶奶", "state": "active"}]
    assert (await operator.debit(agreement_id, 1, spender_ref="G2"))["state"] == "succeeded"
    for _ in range(2):
        removed = await operator.call("POST", path + "/G2/remove", {})
        assert removed.json["spenders"][0]["state"] == "removed"
    assert (await operator.call("POST", path + "/nobody/remove")).status == 404
    assert (await operator.call("POST", path, {"ref": "G2", "name": "奶奶"})).json["spenders"][0]["state"] == "active"
    await operator.call("POST", f"/v1/agreements/{agreement_id}/end", {"reason": ""})
    late = await operator.call("POST", path, {"ref": "G3", "name": "x"})
    assert (late.status, late.code) == (422, "agreement_inactive")


async def test_an_agreement_runs_out(operator: Operator, control: BankControl, payer: str) -> None:
    agreement_id = await operator.agreement(payer, valid_until="2090-01-01T08:00:00+08:00")
    assert (await show(operator, agreement_id))["valid_until"] == "2090-01-01T00:00:00Z"
    await control.lapse_agreement(agreement_id)
    assert (await operator.debit(agreement_id, 1))["failure"] == {"code": "agreement_inactive"}


async def test_another_operator_sees_nothing(operator: Operator, control: BankControl, payer: str) -> None:
    agreement_id = await operator.agreement(payer)
    other = await new_operator(control, operator.base_url, ear=operator.ear)
    assert (await other.call("GET", f"/v1/agreements/{agreement_id}")).code == "not_found"
    assert (await other.call("POST", f"/v1/agreements/{agreement_id}/end", {"reason": ""})).code == "not_found"
    stolen = await other.call("POST", "/v1/debits", other.order(agreement_id, 1))
    assert (stolen.status, stolen.code) == (422, "unknown_agreement")
    assert (await other.call("GET", f"/v1/debits/by-key/{fresh()}")).code == "not_found"
    await other.http.aclose()
