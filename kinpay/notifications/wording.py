"""Amounts, moments, reasons and limits in words. Pure: facts in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from kinpay.notifications.catalogue import Catalogue
from kinpay.primitives.clock import zone
from kinpay.primitives.money import EXPONENTS, shown_amount

_SIGNS: Final = {"CNY": "¥", "USD": "$", "EUR": "€", "GBP": "£"}
"""Where a sign says which currency it is; the yen, the other dollars and all the rest are shown by their code."""
_NEAR: Final = timedelta(hours=24)
_SCOPES: Final = {"POOL_": "scope.pool", "CARD_": "scope.card"}


def amount_text(minor: int, currency: str) -> str:
    """`¥14.50`, `JPY 1500`: `minor` units of `currency` with its sign or its code."""
    sign = _SIGNS.get(currency)
    shown = shown_amount(minor, currency) if currency in EXPONENTS else str(minor)
    return f"{sign}{shown}" if sign else f"{currency} {shown}"


def moment_text(moment: str | datetime, *, time_zone: str, near: datetime) -> str:
    """The wall's `00:00` in `time_zone`, with the date before it unless it is within a day after `near`."""
    at = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    local = at.astimezone(zone(time_zone))
    soon = timedelta(0) <= at - near < _NEAR
    return local.strftime("%H:%M" if soon else "%Y-%m-%d %H:%M")


def reasons_text(reasons: Sequence[Mapping[str, Any]], *, currency: str, catalogue: Catalogue) -> str:
    """Every reason of a refusal (`charges.request.refusal_json`), the primary first."""
    codes = {reason["code"] for reason in reasons}
    # Where another currency was agreed, the ceilings are amounts of that one: they say nothing about this payment.
    told = [one for one in reasons if "CURRENCY" not in codes or not {"at_most", "at_least"} & set(one)]
    return catalogue.phrases["reasons"].join(dict.fromkeys(_reason(one, currency, catalogue) for one in told))


def _reason(reason: Mapping[str, Any], currency: str, catalogue: Catalogue) -> str:
    phrases = catalogue.phrases
    name, scope, kind = reason["code"], "scope.mandate", "filter.everything"
    cooling = name.startswith("COOLING_")
    name = name.removeprefix("COOLING_")
    for prefix, phrase in _SCOPES.items():
        if name.startswith(prefix):
            name, scope = name.removeprefix(prefix), phrase
    if name.startswith("CATEGORY_"):
        name, kind = name.removeprefix("CATEGORY_"), "filter.category"
    window, _, metric = name.rpartition("_")
    counts = metric == "COUNT"

    def number(field: str) -> str:
        value = reason.get(field) or 0
        return str(value) if counts else amount_text(value, currency)

    per = phrases.get(f"per.{window.lower()}") if metric in ("AMOUNT", "COUNT") else None
    template = phrases[f"reason.{metric.lower()}"] if per else phrases.get(f"reason.{name}", phrases["reason.other"])
    numbers = {"most": number("at_most"), "least": number("at_least"), "used": number("used")}
    text = template.format(scope=phrases[scope], filter=phrases[kind], per=per, **numbers)
    return phrases["reason.cooling"].format(reason=text) if cooling else text


def possible_text(refusal: Mapping[str, Any], *, currency: str, time_zone: str, near: datetime, catalogue: Catalogue) -> str:
    """What would still pass: how much now, and from when the whole; empty if nothing would."""
    possible, again = refusal.get("possible_now_minor") or 0, refusal.get("again_at")
    if not possible and not again:
        return ""
    name = "both" if possible and again else "now" if possible else "again"
    return catalogue.phrases[f"possible.{name}"].format(
        possible=amount_text(possible, currency),
        again="" if again is None else moment_text(again, time_zone=time_zone, near=near),
    )


def terms_text(terms: Mapping[str, Any], catalogue: Catalogue) -> str:
    """The limits and conditions of canonical terms (`mandates.terms`), one after the other."""
    phrases = list(_terms(terms, catalogue))
    return catalogue.phrases["list"].join(phrases) or catalogue.phrases["terms.none"]


def _terms(terms: Mapping[str, Any], catalogue: Catalogue) -> Iterator[str]:
    phrases, currency = catalogue.phrases, terms["currency"]
    for limit in terms.get("limits", ()):
        most, least = limit.get("at_most"), limit.get("at_least")
        if most is not None:
            shown = str(most) if limit["metric"] == "count" else amount_text(most, currency)
            each = limit["window"] == "per_payment"
            template = phrases["terms.amount.per_payment" if each else f"terms.{limit['metric']}"]
            yield _qualified(template.format(most=shown, per="" if each else _per(limit, phrases)), limit, phrases)
        if least is not None:
            yield _qualified(phrases["terms.amount.least"].format(least=amount_text(least, currency)), limit, phrases)
    for kind in dict.fromkeys(_kind(condition) for condition in terms.get("conditions", ())):
        yield phrases[f"terms.{kind}"]
    for end in ("valid_from", "valid_to"):
        if terms.get(end):
            yield phrases[f"terms.{end}"].format(day=terms[end])
    if terms.get("cooling"):
        yield phrases["terms.cooling"].format(hours=terms["cooling"]["hours"])


def _kind(condition: Mapping[str, Any]) -> str:
    if not condition.get("calendar"):
        return str(condition["kind"])
    days = {opening.get("days", condition.get("days", "school")) for opening in condition["open"]}
    return "school_hours" if days == {"school"} else "hours"


def _per(limit: Mapping[str, Any], phrases: Mapping[str, str]) -> str:
    """`a day`, `within any 24 hours`, `a month since the consent`."""
    if limit["window"] == "trailing":
        return phrases["per.within"].format(length=_length(limit["trailing_s"], phrases))
    return phrases[f"per.{'consent_' if limit.get('alignment') == 'consent' else ''}{limit['window']}"]


def _length(seconds: int, phrases: Mapping[str, str]) -> str:
    """In the largest unit that comes out even; two days and more in days."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds % length == 0 and seconds > length:
            return phrases[f"length.{unit}"].format(count=seconds // length)
    return phrases["length.seconds"].format(count=seconds)


def _qualified(text: str, limit: Mapping[str, Any], phrases: Mapping[str, str]) -> str:
    if limit.get("filter"):
        text = phrases["terms.filtered"].format(limit=text)
    if limit.get("proration") == "first_period":
        text = phrases["terms.prorated"].format(limit=text)
    return phrases["terms.kept"].format(limit=text) if limit.get("refunds") == "keep" else text
