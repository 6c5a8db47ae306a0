"""From a kind and its facts to what one person reads, in their language and by their circle's clock. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from kinpay.notifications.catalogue import Catalogue
from kinpay.notifications.en import ENGLISH
from kinpay.notifications.message import NoticeKind, Words
from kinpay.notifications.wording import amount_text, moment_text, possible_text, reasons_text, terms_text
from kinpay.notifications.zh import CHINESE

CATALOGUES: Final[Mapping[str, Catalogue]] = MappingProxyType({"zh": CHINESE, "en": ENGLISH})
"""By a person's locale."""

_AMOUNTS: Final = {
    "amount": "amount_minor",
    "captured": "captured_minor",
    "refunded": "refund_minor",
    "left": "left_today_minor",
    "limit": "day_limit_minor",
}
_MOMENTS: Final = {"expires_at": "until", "until": "until", "retry_at": "retry"}
_NAMES: Final = {
    "circle_name": "circle",
    "month": "month",
    "day": "day",
    "count": "count",
    "pool_name": "pool",
    "merchant_name": "merchant",
    "site_name": "site",
    "terminal_name": "terminal",
    "from": "zone_from",
    "to": "zone_to",
}


def compose(kind: NoticeKind, facts: Mapping[str, Any], *, reader_id: str, locale: str, time_zone: str, at: datetime) -> Words:
    """Title and text of a notice for `reader_id`, who is addressed as *you*; moments are told as seen from `at`.

    What the facts do not hold is left out rather than guessed.
    """
    catalogue = CATALOGUES[locale]
    said: defaultdict[str, str] = defaultdict(str)
    said.update({said_as: str(facts[name]) for name, said_as in _NAMES.items() if facts.get(name)})
    for role in ("spender", "payer", "person"):
        said.update(_person(role, facts, reader_id=reader_id, catalogue=catalogue))
    said.update(_numbers(facts, time_zone=time_zone, at=at))
    said.update(_clauses(facts, said, locale=locale, time_zone=time_zone, at=at))
    title, text = catalogue.kinds[kind]
    return Words(title=title.format_map(said).strip(), text=text.format_map(said).strip())


def _person(role: str, facts: Mapping[str, Any], *, reader_id: str, catalogue: Catalogue) -> dict[str, str]:
    """The four forms of somebody: as subject or owner, within a sentence or at its start."""
    phrases = catalogue.phrases
    if facts.get(f"{role}_id") == reader_id:
        forms = (phrases["you"], phrases["You"], phrases["your"], phrases["Your"])
    else:
        name = str(facts.get(f"{role}_name") or phrases["nobody"])
        owner = phrases["of_name"].format(name=name)
        forms = (name, name, owner, owner)
    capital = role.capitalize()
    return dict(zip((role, capital, f"{role}s", f"{capital}s"), forms, strict=True))


def _numbers(facts: Mapping[str, Any], *, time_zone: str, at: datetime) -> dict[str, str]:
    said = {}
    currency = facts.get("currency")
    if currency:
        said = {name: amount_text(facts[field], currency) for name, field in _AMOUNTS.items() if facts.get(field) is not None}
    for field, name in _MOMENTS.items():
        if facts.get(field):
            said[name] = moment_text(facts[field], time_zone=time_zone, near=at)
    return said


def _clauses(facts: Mapping[str, Any], said: Mapping[str, str], *, locale: str, time_zone: str, at: datetime) -> dict[str, str]:
    """The parts of sentences that depend on what is known."""
    catalogue = CATALOGUES[locale]
    phrases = catalogue.phrases

    def chosen(prefix: str, fact: str) -> str:
        return phrases.get(f"{prefix}.{facts.get(fact)}", "")

    clauses = {
        "role": chosen("role", "role"),
        "act": chosen("act", "act"),
        "provider": chosen("provider", "provider") or str(facts.get("provider") or ""),
        "how": phrases["how.lowered" if facts.get("lowered") else "how.changed"],
        "ended_by": chosen("ended_by", "ended_by"),
        "why": chosen("why", "reason"),
        "void": chosen("void", "reason"),
        "why_back": chosen("why_back", "why"),
        "cause": chosen("cause", "cause"),
    }
    if facts.get("spender_account"):
        clauses["account"] = phrases["account"].format(account=facts["spender_account"])
    if facts.get("payer_account"):
        clauses["by"] = phrases["by"].format(account=facts["payer_account"])
    if facts.get("terminal_name"):
        clauses["place"] = phrases["place"].format_map(said)
    if facts.get("guidance"):
        clauses["guidance"] = facts["guidance"][locale]
    if facts.get("terms"):
        clauses["terms"] = terms_text(facts["terms"], catalogue)
    if "left" in said:
        clauses["left"] = phrases["left"].format_map(said)
    if facts.get("refusal"):
        refusal, currency = facts["refusal"], facts["currency"]
        clauses["reasons"] = reasons_text(refusal["reasons"], currency=currency, catalogue=catalogue)
        clauses["possible"] = possible_text(refusal, currency=currency, time_zone=time_zone, near=at, catalogue=catalogue)
    return clauses
