"""UK Open Banking control parameters: the specification's own figures, there and back, and what cannot be said."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from kinpay.charges.decide import Approve, Refuse, decide
from kinpay.charges.standing import Moment
from kinpay.mandates.limit import allowed_around, begins
from kinpay.mandates.terms import Terms
from kinpay.mandates.vrp import ControlParameters, PeriodicLimit, control_parameters_of, terms_of
from kinpay.primitives.errors import Invalid
from tests.charges.oracle import Allowed, Asked, Funding, World
from tests.charges.worlds import Compiled, order_of

SPENDER = "5a" * 16


def _written(*periodic: dict[str, str], **more: Any) -> ControlParameters:
    single = {"Amount": "100.00", "Currency": "GBP"}
    return ControlParameters.model_validate({"MaximumIndividualAmount": single, "PeriodicLimits": list(periodic), **more})


def _periodic(amount: str, length: str, alignment: str) -> dict[str, str]:
    return {"Amount": amount, "Currency": "GBP", "PeriodType": length, "PeriodAlignment": alignment}


@pytest.mark.parametrize(
    ("limit", "consented", "first"),
    [
        (_periodic("300.00", "Month", "Calendar"), date(2021, 6, 6), 25_000),  # 25 days of 30
        (_periodic("500.00", "Year", "Calendar"), date(2021, 6, 6), 28_630),  # 209 days of 365
        (_periodic("300.00", "Month", "Consent"), date(2021, 6, 6), 30_000),
        (_periodic("10.00", "Day", "Calendar"), date(2021, 6, 6), 1_000),
    ],
)
def test_the_figures_of_the_specification(limit: dict[str, str], consented: date, first: int) -> None:
    terms, left_out = terms_of(_written(limit))
    assert left_out == []
    assert allowed_around(terms.limits[1], consented, consented) == first
    whole = int(limit["Amount"].replace(".", ""))
    assert allowed_around(terms.limits[1], date(2023, 1, 1), consented) == whole


def test_who_is_valid_later_is_prorated_from_then() -> None:
    """Consented on 20 May, valid from 6 June: 250.00 in June, and nothing is known of a first period in May."""
    terms, _ = terms_of(_written(_periodic("300.00", "Month", "Calendar"), ValidFromDateTime="2021-06-06T00:00:00Z"))
    start = begins(date(2021, 5, 20), terms.valid_from)
    assert allowed_around(terms.limits[1], date(2021, 6, 10), start) == 25_000
    assert allowed_around(terms.limits[1], date(2021, 7, 1), start) == 30_000
    assert begins(date(2021, 6, 10), terms.valid_from) == date(2021, 6, 10), "a later consent counts"


@pytest.mark.parametrize(
    ("limit", "first"),
    [(_periodic("300.00", "Month", "Calendar"), 25_000), (_periodic("500.00", "Year", "Calendar"), 28_630)],
)
@pytest.mark.parametrize("valid_from", [None, "2021-06-06T09:00:00Z"])
def test_the_figures_of_the_specification_decide(limit: dict[str, str], first: int, valid_from: str | None) -> None:
    parameters = ControlParameters.model_validate({"PeriodicLimits": [limit], "ValidFromDateTime": valid_from})
    written = terms_of(parameters)[0].canonical()
    mandate = Allowed("a1" * 16, "b2" * 16, SPENDER, "active", False, written, [Funding("c3" * 16, True, "GBP", None)])
    consented = date(2021, 6, 6) if valid_from is None else date(2021, 5, 20)
    world = World("Europe/London", spender_active={SPENDER: True}, mandates=[mandate], anchor=consented)
    moment = Moment(datetime(2021, 6, 30, 12, tzinfo=UTC), world.zone)

    def said(amount_minor: int) -> Approve | Refuse:
        asked = Asked(amount_minor, "GBP", "d4" * 16, "5812", SPENDER, None)
        return decide(order_of(asked), Compiled(world).standing, {}, moment)

    assert isinstance(said(first), Approve)
    refused = said(first + 1)
    assert isinstance(refused, Refuse)
    assert refused.possible_now_minor == first


def test_the_forms_of_the_printed_examples_are_read() -> None:
    nested = {"PeriodType": "Month", "PeriodAlignment": "Calendar", "Amount": {"Amount": "300.00", "Currency": "GBP"}}
    written = {"PeriodicLimits": [nested], "VRPType": "UK.OBIE.VRPType.Sweeping"}
    terms, left_out = terms_of(ControlParameters.model_validate(written))
    assert (terms.currency, terms.limits[0].at_most, left_out) == ("GBP", 30_000, ["VRPType"])
    for more in ({"Currency": "GBP"}, {"Amount": {"Amount": "300.00", "Currency": "GBP", "More": "1"}}):
        with pytest.raises(ValidationError):
            PeriodicLimit.model_validate({**nested, **more})


def test_supplementary_data_are_refused() -> None:
    with pytest.raises(Invalid) as raised:
        terms_of(_written(_periodic("20.00", "Day", "Consent"), SupplementaryData={"anything": 1}))
    assert raised.value.detail["reason"] == "supplementary_data_unknown"
    assert terms_of(_written(_periodic("20.00", "Day", "Consent"), SupplementaryData={}))[1] == []


@pytest.mark.parametrize("length", ["Day", "Week", "Fortnight", "Month", "Half-year", "Year"])
@pytest.mark.parametrize("alignment", ["Consent", "Calendar"])
def test_there_and_back(length: str, alignment: str) -> None:
    written = _written(
        _periodic("20.00", length, alignment),
        ValidFromDateTime="2026-06-05T15:15:13+00:00",
        ValidToDateTime="2027-07-05T15:15:13+00:00",
    )
    if (length, alignment) == ("Fortnight", "Calendar"):
        with pytest.raises(Invalid):
            terms_of(written)
        return
    terms, _ = terms_of(written)
    back = control_parameters_of(terms).model_dump(exclude_none=True)
    assert back["PeriodicLimits"] == [_periodic("20.00", length, alignment)]
    assert back["MaximumIndividualAmount"] == {"Amount": "100.00", "Currency": "GBP"}
    assert back["ValidFromDateTime"] == "2026-06-05T00:00:00+00:00", "the time of day is ignored"
    assert back["ValidToDateTime"] == "2027-07-05T00:00:00+00:00"


def test_what_is_not_carried_is_named() -> None:
    more = {"VRPType": ["UK.OBIE.VRPType.Sweeping"], "PSUAuthenticationMethods": ["UK.OBIE.SCA"]}
    _, left_out = terms_of(_written(_periodic("20.00", "Day", "Consent"), **more))
    assert left_out == ["VRPType", "PSUAuthenticationMethods"]


@pytest.mark.parametrize(
    "limit",
    [
        {"metric": "count", "window": "day", "at_most": 4},
        {"metric": "amount", "window": "trailing", "trailing_s": 3600, "at_most": 4},
        {"metric": "amount", "window": "month", "at_most": 4},
        {"metric": "amount", "window": "per_payment", "at_least": 4},
        {"metric": "amount", "window": "day", "at_most": 4, "filter": {"mccs": ["5812"]}},
        {"metric": "amount", "window": "day", "at_most": 4, "refunds": "keep"},
    ],
)
def test_what_those_words_cannot_say_is_not_said(limit: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as raised:
        control_parameters_of(Terms.model_validate({"currency": "GBP", "limits": [limit]}))
    assert "limits.0." in str(raised.value.detail)


@pytest.mark.parametrize("day", ["7818-39-06T00:00:00Z", "2026-02-30", "0000-01-01"])
def test_a_day_that_there_is_not_is_no_date(day: str) -> None:
    with pytest.raises(ValidationError):
        _written(ValidToDateTime=day)


def test_the_usual_day_without_an_end_is_said_by_silence() -> None:
    terms, _ = terms_of(_written(ValidFromDateTime="0001-01-01T00:00:00Z", ValidToDateTime="9999-12-31T23:59:59Z"))
    assert (terms.valid_from, terms.valid_to) == (None, None)


@pytest.mark.parametrize(
    "written",
    [
        _written(ValidFromDateTime="2026-03-02", ValidToDateTime="2026-03-01"),
        _written(ValidFromDateTime="9999-12-31"),
        _written(ValidToDateTime="0001-01-01"),
        _written(*[_periodic("20.00", "Day", "Consent")] * 32),
    ],
    ids=["it ends before it begins", "it never begins", "it ended long ago", "a limit too many"],
)
def test_what_terms_may_not_come_to_is_refused(written: ControlParameters) -> None:
    with pytest.raises(Invalid) as raised:
        terms_of(written)
    assert raised.value.detail["reason"] == "not_in_terms"


def test_amounts_are_whole_minor_units_of_one_currency() -> None:
    with pytest.raises(Invalid):
        terms_of(_written(_periodic("20.005", "Day", "Consent")))
    with pytest.raises(Invalid):
        terms_of(_written({**_periodic("20.00", "Day", "Consent"), "Currency": "EUR"}))
    with pytest.raises(Invalid):
        terms_of(ControlParameters())
    yen = ControlParameters.model_validate({"MaximumIndividualAmount": {"Amount": "1500", "Currency": "JPY"}})
    terms, _ = terms_of(yen)
    assert terms.limits[0].at_most == 1500
    assert control_parameters_of(terms).model_dump(exclude_none=True)["MaximumIndividualAmount"]["Amount"] == "1500"
