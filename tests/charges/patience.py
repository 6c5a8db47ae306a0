"""What binds besides for a time, reckoned from what a payer wrote and when: the oracle's own, sharing no rule with the program.

For terms of one kind only: a limit a day, and perhaps a time of caution with a limit a day. Source: docs/limits.md "Terms".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True)
class Written:
    """Canonical terms, and when the payer put them in force."""

    terms: dict[str, Any]
    at: datetime


def besides(written: Sequence[Written], granted: datetime) -> list[tuple[dict[str, Any], datetime]]:
    """Terms and until when they bind besides the last ones written."""
    held: list[tuple[dict[str, Any], datetime]] = []
    for number, one in enumerate(written[1:], 1):
        before = written[number - 1].terms
        if not _raises(before, one.terms):
            continue
        still = [before] + [terms for terms, until in held if until > one.at]
        hours = max(terms["cooling"]["hours"] if "cooling" in terms else 0 for terms in still)
        if hours:
            held.append((before, one.at + timedelta(hours=hours)))
    cautious = [one.terms for one in written if "cooling" in one.terms]
    cautions = [
        ({"limits": terms["cooling"]["limits"], "conditions": []}, granted + timedelta(hours=terms["cooling"]["hours"]))
        for terms in cautious
    ]
    return cautions + held


def _raises(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether anything that was refused is refused no more: by its limit, by less caution or by a shorter one."""
    if _a_day(new["limits"]) > _a_day(old["limits"]):
        return True
    if "cooling" not in old:
        return False
    if "cooling" not in new or new["cooling"]["hours"] < old["cooling"]["hours"]:
        return True
    return _a_day(new["cooling"]["limits"]) > _a_day(old["cooling"]["limits"])


def _a_day(limits: Sequence[dict[str, Any]]) -> float:
    return min((limit["at_most"] for limit in limits), default=float("inf"))
