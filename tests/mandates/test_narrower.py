"""Narrower terms never let through what the old ones refused; plain lowering is recognised as such."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinpay.mandates.narrower import is_narrower
from kinpay.mandates.terms import Terms

SHOPS = ["a" * 32, "b" * 32, "c" * 32]
MCCS = ["5411", "5814", "5912"]
TIMES = ["00:00", "06:30", "06:31", "12:00", "18:30", "24:00"]


@dataclass(frozen=True)
class Payment:
    """A payment by the circle's wall: a day of a small calendar, and minutes past midnight."""

    amount: int
    shop: str
    mcc: str
    day: int
    minute: int
    currency: str = "CNY"


def _fits(chosen: dict[str, Any], payment: Payment) -> bool:
    payees, mccs = chosen.get("payees"), chosen.get("mccs")
    return (not payees or payment.shop in payees) and (not mccs or payment.mcc in mccs)


def _same_window(window: str, one: Payment, other: Payment) -> bool:
    length = {"day": 1, "week": 7, "month": 30}[window]
    return one.day // length == other.day // length


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


def refuses(terms: dict[str, Any], payment: Payment, before: list[Payment]) -> bool:
    """The naive evaluator: sums history for every limit, reads every condition literally."""
    if payment.currency != terms["currency"]:
        return True
    for limit in terms.get("limits", []):
        chosen = limit.get("filter", {})
        if not _fits(chosen, payment):
            continue
        if limit.get("at_least") is not None and payment.amount < limit["at_least"]:
            return True
        if limit.get("at_most") is None:
            continue
        counted = [payment]
        if limit["window"] != "per_payment":
            counted += [b for b in before if _fits(chosen, b) and _same_window(limit["window"], payment, b)]
        used = len(counted) if limit["metric"] == "count" else sum(b.amount for b in counted)
        if used > limit["at_most"]:
            return True
    return any(_condition_refuses(condition, payment) for condition in terms.get("conditions", []))


def _condition_refuses(condition: dict[str, Any], payment: Payment) -> bool:
    if condition["kind"] == "hours":
        weekday = payment.day % 7 + 1
        return not any(
            weekday in opening["weekdays"] and _minute(opening["opens"]) <= payment.minute < _minute(opening["closes"])
            for opening in condition["open"]
        )
    value = payment.shop if condition["kind"] == "payees" else payment.mcc
    if condition.get("allow") is not None:
        return value not in condition["allow"]
    return value in condition["deny"]


filters = st.fixed_dictionaries(
    {},
    optional={
        "payees": st.lists(st.sampled_from(SHOPS), min_size=1, max_size=3, unique=True),
        "mccs": st.lists(st.sampled_from(MCCS), min_size=1, max_size=2, unique=True),
    },
)
small = st.integers(1, 12)


@st.composite
def limits(draw: st.DrawFn) -> dict[str, Any]:
    metric = draw(st.sampled_from(["amount", "count"]))
    window = draw(st.sampled_from(["day", "month"] + (["per_payment"] * 2 if metric == "amount" else [])))
    limit = {"metric": metric, "window": window, "at_most": draw(small), "filter": draw(filters)}
    if window == "per_payment" and draw(st.integers(0, 3)):
        limit["at_least"] = draw(st.integers(1, limit["at_most"]))
    return limit


@st.composite
def conditions(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["payees", "mccs", "hours"]))
    if kind == "hours":
        bounds = draw(st.lists(st.sampled_from(range(6)), min_size=2, max_size=2, unique=True).map(sorted))
        weekdays = draw(st.lists(st.integers(1, 7), min_size=1, max_size=7, unique=True))
        return {"kind": kind, "open": [{"opens": TIMES[bounds[0]], "closes": TIMES[bounds[1]], "weekdays": weekdays}]}
    values = draw(st.lists(st.sampled_from(SHOPS if kind == "payees" else MCCS), max_size=3, unique=True))
    return {"kind": kind, draw(st.sampled_from(["allow", "deny"])): values}


terms = st.fixed_dictionaries(
    {
        "currency": st.just("CNY"),
        "limits": st.lists(limits(), max_size=2),
        "conditions": st.lists(conditions(), max_size=2),
    }
)
payments = st.builds(
    Payment,
    small,
    st.sampled_from(SHOPS),
    st.sampled_from(MCCS),
    st.integers(0, 40),
    st.sampled_from([0, 389, 390, 391, 1110, 1439]),
)


STEPS = ["ceiling", "floor", "filter", "add_limit", "drop_limit", "add_condition", "change_condition", "drop_condition"]


@st.composite
def one_step(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two terms that differ in one or two places: unrelated pairs are almost never narrower, so they would test nothing."""
    old = draw(terms)
    new = {**old, "limits": [dict(one) for one in old["limits"]], "conditions": list(old["conditions"])}
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=2)):
        place = draw(st.integers(0, 2))
        chosen = new["limits"][place % len(new["limits"])] if new["limits"] else None
        if step == "ceiling" and chosen:
            chosen["at_most"] = max(chosen.get("at_least") or 1, draw(small))
        elif step == "floor" and chosen and chosen["window"] == "per_payment":
            chosen["at_least"] = draw(st.integers(1, chosen["at_most"]))
        elif step == "filter" and chosen:
            chosen["filter"] = draw(filters)
        elif step == "add_limit":
            new["limits"].append(draw(limits()))
        elif step == "drop_limit":
            del new["limits"][place : place + 1]
        elif step == "add_condition":
            new["conditions"].append(draw(conditions()))
        elif step == "change_condition":
            new["conditions"][place : place + 1] = [draw(conditions())]
        elif step == "drop_condition":
            del new["conditions"][place : place + 1]
    return old, new


EVERY_PAYMENT = [
    Payment(amount, shop, mcc, day, minute)
    for amount, shop, mcc in itertools.product([1, 4, 12], SHOPS, MCCS)
    for day, minute in itertools.product(range(7), [0, 390, 1110])
]


@settings(max_examples=600, deadline=None)
@given(one_step(), st.lists(payments, max_size=4))
def test_what_old_terms_refuse_narrower_ones_refuse_too(
    pair: tuple[dict[str, Any], dict[str, Any]], before: list[Payment]
) -> None:
    old, new = pair
    if not is_narrower(Terms.model_validate(old), Terms.model_validate(new)):
        return
    for history in ([], before):
        for payment in EVERY_PAYMENT:
            assert not refuses(old, payment, history) or refuses(new, payment, history)


@settings(max_examples=100, deadline=None)
@given(terms)
def test_the_same_terms_are_no_raise(written: dict[str, Any]) -> None:
    assert is_narrower(Terms.model_validate(written), Terms.model_validate(written))


def day(at_most: int, **more: Any) -> dict[str, Any]:
    return {"metric": "amount", "window": "day", "at_most": at_most, **more}


BASE = {
    "currency": "CNY",
    "limits": [day(3500), day(1000, filter={"mccs": ["5814"]})],
    "conditions": [
        {"kind": "payees", "allow": SHOPS[:2]},
        {"kind": "hours", "open": [{"opens": "06:30", "closes": "18:30"}]},
    ],
}


@pytest.mark.parametrize(
    ("changed", "narrower"),
    [
        ({"limits": [day(3000), day(1000, filter={"mccs": ["5814"]})]}, True),
        ({"limits": [day(3501), day(1000, filter={"mccs": ["5814"]})]}, False),
        ({"limits": [day(3500)]}, False),
        ({"limits": [day(1000)]}, True),
        ({"limits": [day(3500, filter={"mccs": ["5814"]}), day(1000, filter={"mccs": ["5814"]})]}, False),
        ({"limits": [day(3500), day(1000, filter={"mccs": ["5814", "5411"]})]}, True),
        ({"limits": [*BASE["limits"], {"metric": "count", "window": "day", "at_most": 4}]}, True),
        ({"conditions": [{"kind": "payees", "allow": SHOPS[:1]}, BASE["conditions"][1]]}, True),
        ({"conditions": [{"kind": "payees", "allow": SHOPS}, BASE["conditions"][1]]}, False),
        ({"conditions": BASE["conditions"][:1]}, False),
        (
            {
                "conditions": [
                    BASE["conditions"][0],
                    {"kind": "hours", "open": [{"opens": "06:30", "closes": "12:00"}, {"opens": "12:00", "closes": "18:30"}]},
                ]
            },
            True,
        ),
        (
            {"conditions": [BASE["conditions"][0], {"kind": "hours", "open": [{"opens": "06:29", "closes": "18:30"}]}]},
            False,
        ),
        ({"currency": "USD"}, False),
        ({"limits": [], "conditions": []}, False),
    ],
)
def test_a_payer_lowers_or_raises(changed: dict[str, Any], narrower: bool) -> None:
    assert is_narrower(Terms.model_validate(BASE), Terms.model_validate({**BASE, **changed})) is narrower
