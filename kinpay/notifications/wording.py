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
    for prefix, phrase in _SCOPES.items():
        if name.startswith(prefix):
            name, scope = name.removeprefix(prefix), phrase
    if name.startswith("CATEGORY_"):
        name, kind = name.removeprefix("CATEGORY_"), "filter.category"

    def number(field: str) -> str:
        value = reason.get(field) or 0
        return str(value) if name.endswith("COUNT") else amount_text(value, currency)

    template = phrases.get(f"reason.{name}", phrases["reason.other"])
    return template.format(
        scope=phrases[scope], filter=phrases[kind], most=number("at_most"), least=number("at_least"), used=number("used")
    )


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
            yield _filtered(phrases[f"terms.{limit['metric']}.{limit['window']}"].format(most=shown), limit, phrases)
        if least is not None:
            yield _filtered(phrases["terms.amount.least"].format(least=amount_text(least, currency)), limit, phrases)
    for kind in dict.fromkeys(condition["kind"] for condition in terms.get("conditions", ())):
        yield phrases[f"terms.{kind}"]


def _filtered(text: str, limit: Mapping[str, Any], phrases: Mapping[str, str]) -> str:
    return phrases["terms.filtered"].format(limit=text) if limit.get("filter") else text
