"""The bank's JSON and CSV read back exactly, or not at all."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinpay.primitives.money import EXPONENTS, MAX_MINOR, Money
from kinpay.providers.contract import (
    AgreementRequest,
    AgreementState,
    DebitRequest,
    DebitState,
    Failure,
    FailureCause,
    RefundRequest,
    SpenderAtProvider,
)
from kinpay.providers.sandbox_bank import wire
from kinpay.providers.sandbox_bank.wire import Unreadable

moments = st.datetimes(
    datetime(1970, 1, 2),  # noqa: DTZ001
    datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.just(UTC),
)
moneys = st.builds(Money, st.integers(1, MAX_MINOR), st.sampled_from(sorted(EXPONENTS)))
keys = st.text("ABCXYZabcxyz0123456789", min_size=1, max_size=32)


def debit_data(**changes: object) -> dict[str, object]:
    return {
        "debit_id": "d-1", "key": "k1", "state": "succeeded", "failure": None, "amount_minor": 1400, "currency": "CNY",
        "agreement_id": "a-1", "spender_ref": "s1", "refunded_minor": 0,
        "created_at": "2026-03-01T12:00:00Z", "finished_at": "2026-03-01T12:00:01.5Z",
    } | changes  # fmt: skip


def agreement_data(**changes: object) -> dict[str, object]:
    return {
        "agreement_id": "a-1", "key": "k1", "state": "active", "approve_url": "https://bank.example/approve/1",
        "expires_at": "2026-03-01T12:15:00Z", "payer_account_id": "p-1", "account": "canteens", "business_type": "meals",
        "limits": {"per_debit_minor": 5000, "per_day_minor": None, "currency": "CNY"}, "ended_by": None,
        "spenders": [{"ref": "s1", "name": "小明", "state": "active"}, {"ref": "s2", "name": "Ann", "state": "removed"}],
    } | changes  # fmt: skip


ASKED = DebitRequest(key="k1", agreement_ref="a-1", spender_ref="s1", amount=Money(1400, "CNY"), description="lunch")


@given(moments)
def test_a_time_comes_back_to_the_microsecond(moment: datetime) -> None:
    assert wire.read_moment(wire.write_moment(moment)) == moment


@given(moments, st.integers(-14 * 60, 14 * 60))
def test_a_time_of_any_zone_is_written_in_utc(moment: datetime, offset_minutes: int) -> None:
    text = wire.write_moment(moment.astimezone(timezone(timedelta(minutes=offset_minutes))))
    assert text.endswith("Z")
    assert wire.read_moment(text) == moment


@pytest.mark.parametrize(
    "text",
    ["", "2026-03-01", "2026-03-01T12:00:00", "2026-03-01T12:00:00+08:00", "2026-02-30T12:00:00Z", "2026-03-01T12:00:60Z",
     "2026-03-01T25:00:00Z", "２026-03-01T12:00:00Z", "2026-03-01T12:00:00Z\n", None, 1772000000],
)  # fmt: skip
def test_what_is_no_utc_time_is_not_read(text: object) -> None:
    with pytest.raises(Unreadable):
        wire.read_moment(text)


def test_a_naive_time_is_not_written() -> None:
    with pytest.raises(ValueError, match="naive"):
        wire.write_moment(datetime(2026, 3, 1))  # noqa: DTZ001


@given(keys, moneys, st.text(max_size=40), st.none() | keys)
def test_an_order_goes_out_whole_and_its_echo_is_read_back(key: str, amount: Money, words: str, spender: str | None) -> None:
    asked = DebitRequest(key=key, agreement_ref="a-1", spender_ref=spender, amount=amount, description=words)
    sent = wire.read_object(wire.write_object(wire.debit_body(asked)))
    assert sent["description"] == words
    echo = debit_data(**{name: value for name, value in sent.items() if name != "description"})
    seen = wire.read_debit(wire.read_object(json.dumps(echo).encode()), asked)
    assert (seen.key, seen.amount, seen.state) == (key, amount, DebitState.SUCCEEDED)


@given(keys, keys, moneys)
def test_a_refund_goes_out_whole_and_its_echo_is_read_back(key: str, debit_key: str, amount: Money) -> None:
    asked = RefundRequest(key=key, debit_key=debit_key, amount=amount)
    echo = {**wire.refund_body(asked), "refund_id": "r-1", "state": "succeeded", "failure": None}
    seen = wire.read_refund(wire.read_object(wire.write_object(echo)), asked)
    assert (seen.key, seen.debit_key, seen.amount) == (key, debit_key, amount)


@given(st.lists(st.tuples(st.sampled_from(["debit", "refund"]), keys, st.none() | keys, moneys, st.times()), max_size=8))
def test_a_statement_comes_back_line_by_line(lines: list[tuple[str, str, str | None, Money, object]]) -> None:
    day = date(2026, 3, 1)
    text = ",".join(wire.STATEMENT_COLUMNS) + "\r\n"
    for kind, key, debit_key, amount, clock in lines:
        text += f"{kind},{key},{debit_key or ''},a-1,,{amount.minor},{amount.currency},{day}T{clock}Z\r\n"
    seen = list(wire.read_statement(StringIO(text, newline=""), day))
    assert [(line.kind, line.key, line.debit_key, line.amount) for line in seen] == [line[:4] for line in lines]


HEADER = ",".join(wire.STATEMENT_COLUMNS) + "\n"


@pytest.mark.parametrize(
    "text",
    ["", "key,kind\n", HEADER + "debit,k,,a,s,1,CNY\n", HEADER + "debit,k,,a,s,1.0,CNY,2026-03-01T00:00:00Z\n",
     HEADER + "debit,k,,a,s,-1,CNY,2026-03-01T00:00:00Z\n", HEADER + "debit,k,,a,s,1,XXX,2026-03-01T00:00:00Z\n",
     HEADER + "debit,k,,a,s,1,CNY,2026-03-02T00:00:00Z\n", HEADER + 'debit,"k,,a,s,1,CNY,2026-03-01T00:00:00Z\n',
     HEADER + "gift,k,,a,s,1,CNY,2026-03-01T00:00:00Z\n", HEADER + "debit,,,a,s,1,CNY,2026-03-01T00:00:00Z\n",
     HEADER + "debit,k,,a,s,１,CNY,2026-03-01T00:00:00Z\n",
     HEADER + "debit,k,,a,s,99999999999999999999,CNY,2026-03-01T00:00:00Z\n"],
)  # fmt: skip
def test_a_statement_that_is_wrong_in_one_place_is_not_read(text: str) -> None:
    with pytest.raises(Unreadable):
        list(wire.read_statement(StringIO(text, newline=""), date(2026, 3, 1)))


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b'{"a":1', b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff", b"<html>", b'{"a":' * 100_000,
     b'{"a":' + b"9" * 5000 + b"}"],
)  # fmt: skip
def test_what_is_no_plain_object_is_not_read(body: bytes) -> None:
    with pytest.raises(Unreadable):
        wire.read_object(body)


@pytest.mark.parametrize(
    "changes",
    [{"key": "k2"}, {"key": "k-1"}, {"key": None}, {"amount_minor": 1401}, {"amount_minor": 1400.0}, {"amount_minor": "1400"},
     {"amount_minor": True}, {"amount_minor": None}, {"amount_minor": -1400}, {"amount_minor": 0}, {"amount_minor": 2**53},
     {"currency": "EUR"}, {"currency": "XXX"}, {"currency": None}, {"agreement_id": "a-2"}, {"agreement_id": None},
     {"spender_ref": "s2"}, {"spender_ref": None}, {"debit_id": None}, {"debit_id": ""}, {"state": "done"}, {"state": None},
     {"state": ["succeeded"]}, {"state": "failed"}, {"state": "failed", "failure": "risk"}, {"state": "failed", "failure": {}},
     {"state": "failed", "failure": {"code": "risk"}, "amount_minor": 7}, {"failure": {"code": "risk"}},
     {"state": "cancelled", "amount_minor": 7}, {"state": "cancelled", "agreement_id": "a-2"}, {"finished_at": "today"}],
)  # fmt: skip
def test_a_debit_that_is_not_the_one_asked_for_is_not_read(changes: dict[str, object]) -> None:
    with pytest.raises(Unreadable):
        wire.read_debit(debit_data(**changes), ASKED)


@pytest.mark.parametrize(
    ("code", "cause"),
    [("insufficient_funds", FailureCause.FUNDS), ("limit_exceeded", FailureCause.LIMIT),
     ("agreement_inactive", FailureCause.AGREEMENT), ("spender_removed", FailureCause.AGREEMENT),
     ("account_frozen", FailureCause.RISK), ("risk", FailureCause.RISK), ("closed", FailureCause.CLOSED),
     ("new_word", FailureCause.OTHER)],
)  # fmt: skip
def test_every_failure_has_its_cause_and_keeps_the_banks_word(code: str, cause: FailureCause) -> None:
    seen = wire.read_debit(debit_data(state="failed", failure={"code": code}), ASKED)
    assert (seen.state, seen.failure) == (DebitState.FAILED, Failure(cause=cause, code=code))


def test_a_cancelled_order_has_failed_as_closed() -> None:
    seen = wire.read_debit(debit_data(state="cancelled"), ASKED)
    assert (seen.state, seen.failure) == (DebitState.FAILED, Failure(cause=FailureCause.CLOSED, code="cancelled"))


def test_a_key_closed_before_it_was_received_has_the_amount_that_was_asked() -> None:
    nothing = {"amount_minor": None, "currency": None, "agreement_id": None, "spender_ref": None, "debit_id": None}
    seen = wire.read_debit(debit_data(state="cancelled", **nothing), ASKED)
    assert (seen.state, seen.amount) == (DebitState.FAILED, ASKED.amount)
    with pytest.raises(Unreadable):
        wire.read_debit(debit_data(**nothing), ASKED)


@pytest.mark.parametrize(
    ("changes", "state"),
    [({"state": "pending", "payer_account_id": None}, AgreementState.PENDING), ({}, AgreementState.ACTIVE),
     ({"state": "refused", "payer_account_id": None}, AgreementState.REFUSED),
     ({"state": "expired", "payer_account_id": None}, AgreementState.REFUSED),
     ({"state": "expired"}, AgreementState.ENDED), ({"state": "ended", "ended_by": "bank"}, AgreementState.ENDED)],
)  # fmt: skip
def test_every_state_of_an_agreement(changes: dict[str, object], state: AgreementState) -> None:
    seen = wire.read_agreement(agreement_data(**changes))
    assert seen.state is state
    assert (seen.action_url is not None) == (state is AgreementState.PENDING)
    assert (seen.failure is not None) == (state is AgreementState.REFUSED)
    assert seen.removed_spender_refs == {"s2"}


@pytest.mark.parametrize(
    "changes",
    [{"state": "signed"}, {"state": None}, {"payer_account_id": None}, {"payer_account_id": 7}, {"agreement_id": "../x"},
     {"agreement_id": None}, {"key": None}, {"spenders": None}, {"spenders": ["s1"]}, {"expires_at": "soon"},
     {"spenders": [{"ref": "s1", "name": "x", "state": "odd"}]}, {"spenders": [{"ref": "s1", "state": "active"}] * 2},
     {"state": "pending", "approve_url": None}, {"state": "pending", "approve_url": "javascript:alert(1)"},
     {"state": "pending", "approve_url": "http://bank.example/a"}, {"state": "pending", "approve_url": "/a"}],
)  # fmt: skip
def test_an_agreement_of_another_form_is_not_read(changes: dict[str, object]) -> None:
    with pytest.raises(Unreadable):
        wire.read_agreement(agreement_data(**changes))


def test_the_terms_asked_for_go_out_as_the_page_says() -> None:
    request = AgreementRequest(
        key="k1", payer_account="mother", account="canteens", business_type="meals", currency="CNY", per_debit_minor=5000,
        per_day_minor=None, valid_until=datetime(2027, 1, 1, tzinfo=UTC), return_url="https://kinpay.example/back",
        spender=SpenderAtProvider(ref="s1", name="小明"),
    )  # fmt: skip
    body = wire.agreement_body(request)
    assert body == {
        "key": "k1", "payer_account": "mother", "account": "canteens", "business_type": "meals",
        "limits": {"per_debit_minor": 5000, "per_day_minor": None, "currency": "CNY"}, "valid_until": "2027-01-01T00:00:00Z",
        "return_url": "https://kinpay.example/back", "spender": {"ref": "s1", "name": "小明"},
    }  # fmt: skip
    assert wire.is_agreement_asked_for(agreement_data(), body)
    for change in ({"key": "k2"}, {"account": "x"}, {"business_type": "x"}, {"limits": {"currency": "CNY"}}):
        assert not wire.is_agreement_asked_for(agreement_data(**change), body)
