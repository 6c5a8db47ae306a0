"""Terms in the words of UK Open Banking variable recurring payments, and back; pure.

What one side can say and the other cannot is named, never dropped in silence.
Source: UK Open Banking Read/Write API v4, domestic VRP consents, `ControlParameters`; product.md §4.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from kinpay.mandates.limit import Limit
from kinpay.mandates.terms import Terms
from kinpay.primitives.errors import Invalid
from kinpay.primitives.fields import EARLIEST, LATEST, Closed, Currency, Note
from kinpay.primitives.money import EXPONENTS, MAX_MINOR

_PERIODS: Final = {
    "Day": "day",
    "Week": "week",
    "Fortnight": "fortnight",
    "Month": "month",
    "Half-year": "half_year",
    "Year": "year",
}
_LEFT_OUT: Final = ("VRPType", "PSUAuthenticationMethods", "PSUInteractionTypes")
_NAMES: Final = {ours: theirs for theirs, ours in _PERIODS.items()}


def _of_a_day(written: str) -> str:
    """Raises: ValueError unless there is such a day."""
    try:
        date.fromisoformat(written[:10])
    except ValueError:
        raise ValueError("not a calendar date") from None
    return written


DateTimeText = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]{5,18}(Z|[+-][0-9]{2}:[0-9]{2})?)?$"),
    AfterValidator(_of_a_day),
]
"""ISO 8601; its time of day is ignored, as the specification says."""


class VrpAmount(Closed):
    """An amount as the standard writes it: a decimal text in major units."""

    Amount: Annotated[str, Field(pattern=r"^[0-9]{1,13}(\.[0-9]{1,5})?$")]
    Currency: Currency


def _one_amount(written: object) -> object:
    """Lets the form of the specification's printed examples pass for that of its data model: an amount within the limit."""
    if isinstance(written, dict) and isinstance(written.get("Amount"), dict) and "Currency" not in written:
        amount = VrpAmount.model_validate(written["Amount"])
        return {**written, "Amount": amount.Amount, "Currency": amount.Currency}
    return written


def _several(written: object) -> object:
    """A text by itself, as in version 3 of the specification, is a list of one."""
    return [written] if isinstance(written, str) else written


class PeriodicLimit(VrpAmount):
    """A ceiling per period, counted from the consent or by the calendar (then prorated in the first period).

    `Amount` may also be an object of `Amount` and `Currency`, as in the specification's examples.
    """

    _flat = model_validator(mode="before")(_one_amount)

    PeriodType: Literal["Day", "Week", "Fortnight", "Month", "Half-year", "Year"]
    PeriodAlignment: Literal["Consent", "Calendar"]


class ControlParameters(Closed):
    """What a variable recurring payment may come to. `VRPType` and what begins with `PSU` have no counterpart in terms and are
    never written: who makes a consent of what is written here adds both that the standard demands.

    `SupplementaryData` is refused unless it is empty, as the standard demands of whoever cannot process it.
    """

    ValidFromDateTime: DateTimeText | None = None
    ValidToDateTime: DateTimeText | None = None
    MaximumIndividualAmount: VrpAmount | None = None
    PeriodicLimits: list[PeriodicLimit] = Field(default=[], max_length=32)
    VRPType: Annotated[list[Note] | None, BeforeValidator(_several)] = Field(default=None, max_length=16)
    PSUAuthenticationMethods: list[Note] | None = Field(default=None, max_length=16)
    PSUInteractionTypes: list[Note] | None = Field(default=None, max_length=16)
    SupplementaryData: dict[str, Any] | None = None


def terms_of(parameters: ControlParameters) -> tuple[Terms, list[str]]:
    """The terms that say the same, and the names of what they do not carry (`VRPType`, authentication methods …).

    Raises: Invalid for limits in several currencies, for none at all, for what the standard itself forbids, for supplementary
    data, of which nobody here knows what they demand, and for what terms may not come to.
    """
    if parameters.SupplementaryData:
        raise Invalid("supplementary_data_unknown", field="SupplementaryData")
    single, periodic = parameters.MaximumIndividualAmount, parameters.PeriodicLimits
    currencies = {limit.Currency for limit in ([single] if single else []) + list(periodic)}
    if len(currencies) != 1:
        raise Invalid("one_currency", field="ControlParameters")
    limits = [_single(single)] if single else []
    # Some write "without an end" as a day in the year 9999.
    valid_from, valid_to = _day(parameters.ValidFromDateTime), _day(parameters.ValidToDateTime)
    written = {
        "currency": currencies.pop(),
        "limits": limits + [_periodic(limit) for limit in periodic],
        "valid_from": valid_from if valid_from and valid_from >= EARLIEST.isoformat() else None,
        "valid_to": valid_to if valid_to and valid_to <= LATEST.isoformat() else None,
    }
    try:
        terms = Terms.model_validate(written)
    except ValidationError:
        # The standard's words can say what no terms can: an end before the beginning, a limit more than there may be.
        raise Invalid("not_in_terms", field="ControlParameters") from None
    return terms, [name for name in _LEFT_OUT if getattr(parameters, name) is not None]


def _day(written: str | None) -> str | None:
    return written[:10] if written else None


def _single(amount: VrpAmount) -> dict[str, Any]:
    return {"metric": "amount", "window": "per_payment", "at_most": _minor(amount)}


def _periodic(limit: PeriodicLimit) -> dict[str, Any]:
    written = {"metric": "amount", "window": _PERIODS[limit.PeriodType], "at_most": _minor(limit)}
    if limit.PeriodAlignment == "Consent":
        return {**written, "alignment": "consent"}
    if limit.PeriodType == "Fortnight":
        raise Invalid("fortnight_from_consent_only", field="PeriodAlignment")
    return {**written, "proration": "first_period"}


def _minor(amount: VrpAmount) -> int:
    scaled = Decimal(amount.Amount).scaleb(EXPONENTS[amount.Currency])
    if scaled != scaled.to_integral_value() or scaled > MAX_MINOR:
        raise Invalid("amount_not_in_minor_units", field="Amount")
    return int(scaled)


def control_parameters_of(terms: Terms) -> ControlParameters:
    """The same in the standard's words. Raises: Invalid, naming whatever those words cannot say."""
    left = _unsayable(terms)
    if left:
        raise Invalid("not_in_control_parameters", field="terms", hint=", ".join(left))
    singles = [limit for limit in terms.limits if limit.window == "per_payment"]
    periodic = [limit for limit in terms.limits if limit.window != "per_payment"]
    return ControlParameters(
        ValidFromDateTime=_midnight(terms.valid_from),
        ValidToDateTime=_midnight(terms.valid_to),
        MaximumIndividualAmount=_amount(min(singles, key=lambda limit: limit.at_most or 0), terms.currency)
        if singles
        else None,
        PeriodicLimits=[_periodic_limit(limit, terms.currency) for limit in periodic],
    )


def _unsayable(terms: Terms) -> list[str]:
    said = [f"conditions.{condition.kind}" for condition in terms.conditions]
    said += ["cooling"] if terms.cooling else []
    for number, limit in enumerate(terms.limits):
        said += [f"limits.{number}.{what}" for what in _odd(limit)]
    return said


def _odd(limit: Limit) -> list[str]:
    """What of a limit the standard has no words for."""
    calendar = limit.window in _NAMES and limit.alignment == "calendar"
    found = {
        "metric": limit.metric != "amount",
        "window": limit.window not in _NAMES and limit.window != "per_payment",
        "at_least": limit.at_least is not None,
        "week_start": limit.week_start != 1,
        "proration": calendar and limit.window != "day" and limit.proration == "none",
        "refunds": limit.refunds != "restore",
        "filter": bool(limit.filter.canonical()),
    }
    return [name for name, odd in found.items() if odd]


def _midnight(day: str | None) -> str | None:
    return f"{day}T00:00:00+00:00" if day else None


def _text(limit: Limit, currency: str) -> str:
    exponent = EXPONENTS[currency]
    return f"{Decimal(limit.at_most or 0).scaleb(-exponent):.{exponent}f}"


def _amount(limit: Limit, currency: str) -> VrpAmount:
    return VrpAmount(Amount=_text(limit, currency), Currency=currency)


def _periodic_limit(limit: Limit, currency: str) -> PeriodicLimit:
    return PeriodicLimit(
        Amount=_text(limit, currency),
        Currency=currency,
        PeriodType=_NAMES[limit.window],  # type: ignore[arg-type]  # the literal's own values
        PeriodAlignment="Consent" if limit.alignment == "consent" else "Calendar",
    )
