"""I7: every version of a mandate or a pool was agreed to by its payer, and its terms are the ones that were hashed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from kinpay.audit.facts import Facts, Row
from kinpay.audit.findings import Findings
from kinpay.mandates.limit import filter_hash
from kinpay.mandates.terms import terms_hash

CONSENT: Final = "I7 consent_evidence"


def check_consents(facts: Facts, findings: Findings) -> None:
    """Looks at every version, and that their numbers run from 1 to the one in force."""
    for table in ("mandate", "pool"):
        things, versions = facts.rows(table), facts.rows(f"{table}_version")
        for key, version in versions.items():
            thing = things[key.partition("/")[0]]
            if version["agreed_by"] != thing["payer_id"]:
                findings.add(CONSENT, f"{table}_version", (key,), "was agreed to by somebody who does not pay")
            if terms_hash(version["terms"]) != version["terms_hash"]:
                findings.add(CONSENT, f"{table}_version", (key,), "its terms do not fit the hash that was consented to")
        for key, thing in things.items():
            missing = [number for number in range(1, thing["version"] + 1) if f"{key}/{number}" not in versions]
            if missing or thing["version"] < 1:
                findings.add(CONSENT, table, (key,), f"is at version {thing['version']}; missing: {missing}")
            if f"{key}/{thing['version'] + 1}" in versions:
                findings.add(CONSENT, table, (key,), f"is at version {thing['version']}, and a later one exists")
    _check_cooling(facts, findings)
    for key, counter in facts.rows("counter").items():
        if filter_hash(counter["filter"]) != counter["filter_hash"]:
            findings.add(CONSENT, "counter", (key,), "its filter does not fit its hash")


def _check_cooling(facts: Facts, findings: Findings) -> None:
    """A raise cools down for as long as what still held when it was made said, or, being nothing, not at all."""
    versions = facts.rows("mandate_version")
    for key, version in versions.items():
        mandate_id, _, number = key.partition("/")
        earlier = [versions.get(f"{mandate_id}/{one}") for one in range(1, int(number))]
        hours = [row["terms"]["cooling"]["hours"] for row in _holding(earlier, version["since"]) if row["terms"].get("cooling")]
        due = version["since"] + timedelta(hours=max(hours)) if hours else None
        if version["cools_until"] not in (None, due):
            findings.add(CONSENT, "mandate_version", (key,), f"cools down until {version['cools_until']}, not until {due}")


def _holding(versions: list[Row | None], moment: datetime) -> Iterator[Row]:
    """The last of the versions, and those that bind besides at a moment as the raise of them has not cooled down."""
    if versions and versions[-1] is not None:
        yield versions[-1]
    for row, raised in pairwise(versions):
        if row and raised and raised["cools_until"] is not None and raised["cools_until"] > moment:
            yield row
