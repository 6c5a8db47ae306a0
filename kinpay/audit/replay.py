"""I5 and I6: every reservation decided once more, in the order of the audit log, against the terms then in force.

This shares no code with `charges.decide`: what one of them gets wrong, the other is there to find. It looks at what was
approved only, and counts carried amounts (after a change of zone) at the least that they can have been.
Source: reliability.md §4; semantics.md "Limits".
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

from kinpay.audit.conditions import Charged, objections
from kinpay.audit.counted import COUNTING, part_minor, selects
from kinpay.audit.facts import Facts
from kinpay.audit.findings import Findings
from kinpay.audit.history import Body, History
from kinpay.database.audit import Link
from kinpay.mandates.limit import period_of, prorated, refunds_of
from kinpay.primitives.clock import local_date
from kinpay.primitives.period import days_around, period_named, window_around

OVERSPEND: Final = "I5 no_overspend"
MANDATE: Final = "I6 mandate_valid"

_LONGEST: Final = timedelta(days=740)
"""Longer than the two longest windows that a change of zone can lay over each other."""

Terms = dict[str, Any]
Counted = tuple[str, str, str, str]
"""(scope id, period, filter's name, what refunds do): what is counted together."""
Window = tuple[Counted, datetime]
"""One of its windows by its start; of a trailing period, a moment at which something was used."""


@dataclass(slots=True)
class _Charge:
    """A charge as it counts at this point of the replay. `facts`: what never changes of it."""

    id: str
    decided_at: datetime
    facts: Charged
    mandate_id: str | None = None
    payer_id: str | None = None
    gross_minor: int = 0
    refunded_minor: int = 0
    counts: bool = False

    def used(self, chosen: Terms, refunds: str) -> tuple[int, int]:
        """Minor units and payments, for what is counted so."""
        if not self.counts:
            return (0, 0)
        whole = self.gross_minor if refunds == "keep" else self.gross_minor - self.refunded_minor
        return part_minor(chosen, self.facts, whole), 1


@dataclass(frozen=True, slots=True)
class _Scope:
    """A mandate, a card or a pool, with its terms in force."""

    kind: str
    id: str
    terms: Terms


@dataclass(frozen=True, slots=True)
class _ZoneChange:
    """When the circle's wall changed, between which zones, and what the charges used then."""

    at: datetime
    before: str
    counting: dict[str, tuple[int, int]]
    """Of each charge that counted then: gross and refunded."""


@dataclass(slots=True)
class _Sums:
    """What each scope used in each window, of the filters that some limit of some version has."""

    tracked: dict[str, dict[Counted, Terms]] = field(default_factory=lambda: defaultdict(dict))
    used: dict[Window, list[int]] = field(default_factory=dict)
    moments: dict[Counted, list[datetime]] = field(default_factory=lambda: defaultdict(list))
    """Of trailing periods: when something was used, in order."""


class Replay:
    """Takes the events of one circle's lane in order, each after `History` has."""

    def __init__(self, facts: Facts, history: History, findings: Findings) -> None:
        self._facts = facts
        self._history = history
        self._findings = findings
        self._charges: dict[str, _Charge] = {}
        self._changes: list[_ZoneChange] = []
        self._zone = ""
        self._pools: dict[str, tuple[str, frozenset[str] | None]] = {}
        self._revoked: set[str] = set()
        self._sums = _Sums()
        for table, scopes in (("mandate_version", "mandate"), ("pool_version", "pool"), ("credential", "credential")):
            for key, row in facts.rows(table).items():
                self._track(scopes, key.partition("/")[0], row["terms"] or {})
        first = next(iter(facts.rows("circle_zone").values()), None)
        self._zone = first["time_zone"] if first else facts.rows("circle")[facts.circle_id]["time_zone"]

    def _track(self, table: str, scope_id: str, terms: Terms) -> None:
        for limit in [*terms.get("limits", ()), *terms.get("cooling", {}).get("limits", ())]:
            if (counted := self._counted(table, scope_id, limit)) is not None:
                self._sums.tracked[scope_id][counted] = limit.get("filter", {})

    def _counted(self, table: str, scope_id: str, limit: Terms) -> Counted | None:
        """What a limit counts by; None per payment."""
        period = period_of(limit, self._facts.anchor(table, scope_id))
        return None if period is None else (scope_id, period, _name(limit.get("filter", {})), refunds_of(limit))

    def take(self, link: Link, body: Body) -> None:
        """Follows one event. What cannot be read, `History` has named already."""
        thing, _, event = link.kind.partition(".")
        try:
            if thing == "charge":
                self._charge(link, event, body)
            elif thing == "pool":
                self._pool(link, event, body)
            elif thing == "circle" and self._history.zones and self._history.zones[-1][0] != self._zone:
                self._move_zone(link.at, self._history.zones[-1][0])
        except (KeyError, TypeError, ValueError, AttributeError):
            return

    def _charge(self, link: Link, event: str, body: Body) -> None:
        charge = self._charges.get(link.subject_id)
        if charge is None:
            # One recovered from a provider was decided before it came into these books, and is not judged: late truth.
            decided_at = datetime.fromisoformat(body["decided_at"]) if event == "recovered" else link.at
            charge = self._charges[link.subject_id] = _Charge(link.subject_id, decided_at, _charged(body))
        row = self._history.expected["charge"][charge.id]
        self._add(charge, -1)
        charge.counts = False
        charge.mandate_id, charge.payer_id = row["mandate_id"], row["payer_id"]
        captured = row["captured_minor"]
        charge.gross_minor = row["amount_minor"] if captured is None else captured
        if event in ("held", "fell_back", "approved"):
            self._judge(charge, row)
        elif event == "collected" or (event == "submitted" and row["due_on"] is None and "recovered" not in body):
            self._still_allowed(charge, row)  # what was collected is debited with its day, whatever ended meanwhile
        charge.counts, charge.refunded_minor = row["state"] in COUNTING and row["amount_minor"] > 0, row["refunded_minor"]
        self._add(charge, 1)

    def _add(self, charge: _Charge, sign: int) -> None:
        """Puts a counting charge into every window that it uses, in the zone in force, or takes it out."""
        if not charge.counts:
            return
        for scope_id in self._scope_ids(charge):
            for counted, chosen in self._sums.tracked.get(scope_id, {}).items():
                if not selects(chosen, charge.facts):
                    continue
                _, period, _, refunds = counted
                start = window_around(charge.decided_at, period, self._zone).start
                if period_named(period).trailing and (counted, start) not in self._sums.used:
                    moments = self._sums.moments[counted]
                    moments.insert(bisect_right(moments, start), start)
                total = self._sums.used.setdefault((counted, start), [0, 0])
                amount, count = charge.used(chosen, refunds)
                total[0] += sign * amount
                total[1] += sign * count

    def _scope_ids(self, charge: _Charge) -> Iterator[str]:
        if charge.mandate_id is not None:
            yield charge.mandate_id
        if charge.facts["credential_id"] is not None:
            yield charge.facts["credential_id"]
        for pool_id, (payer_id, spenders) in self._pools.items():
            covered = payer_id == charge.payer_id and (spenders is None or charge.facts["spender_id"] in spenders)
            if covered and self._facts.in_currency_of(pool_id, charge.facts["currency"]):
                yield pool_id

    def _rebuild(self) -> None:
        """Every sum anew: after a change of zone, or of whom a pool covers."""
        self._sums.used.clear()
        self._sums.moments.clear()
        for charge in self._charges.values():
            self._add(charge, 1)

    def _pool(self, link: Link, event: str, body: Body) -> None:
        if event == "ended":
            self._pools.pop(link.subject_id, None)
        else:
            row = self._facts.rows("pool")[link.subject_id]
            spenders = body["spenders"] if "spenders" in body else row["spender_ids"]
            last = self._history.expected["pool"][link.subject_id]["version"] == row["version"]
            if "spenders" not in body and not last:
                return  # Whom it covered then is not known; from its last version on it is.
            self._pools[link.subject_id] = (link.actor_id or "", None if spenders is None else frozenset(spenders))
        self._rebuild()

    def _move_zone(self, at: datetime, name: str) -> None:
        counting = {
            c.id: (c.gross_minor, c.refunded_minor) for c in self._charges.values() if c.counts and c.decided_at > at - _LONGEST
        }
        self._changes.append(_ZoneChange(at, self._zone, counting))
        self._zone = name
        self._rebuild()

    def _scopes(self, charge: _Charge, row: Body) -> Iterator[_Scope]:
        """Everything that bound the charge when it was decided."""
        for scope_id in self._scope_ids(charge):
            if scope_id == charge.facts["credential_id"]:
                card = self._facts.rows("credential").get(scope_id)
                yield _Scope("credential", scope_id, (card["terms"] or {}) if card else {})
                continue
            kind = "mandate" if scope_id == charge.mandate_id else "pool"
            version = row["mandate_version"] if kind == "mandate" else self._history.expected["pool"][scope_id]["version"]
            found = self._facts.rows(f"{kind}_version").get(f"{scope_id}/{version}")
            if found is not None:
                yield _Scope(kind, scope_id, found["terms"])
            if kind == "mandate" and found is not None:
                yield from self._cooling(charge, scope_id, version)

    def _cooling(self, charge: _Charge, mandate_id: str, version: int) -> Iterator[_Scope]:
        """What bound besides, of every version up to this one: its caution after the grant, and what held before it if it was a
        raise that was still cooling."""
        granted = self._history.expected["mandate"].get(mandate_id, {}).get("active_at")
        before: Terms | None = None
        for number in range(1, version + 1):
            row = self._facts.rows("mandate_version").get(f"{mandate_id}/{number}")
            cooling = row["terms"].get("cooling") if row else None
            if cooling and granted is not None and charge.decided_at < granted + timedelta(hours=cooling["hours"]):
                yield _Scope("mandate", mandate_id, {"limits": cooling["limits"]})
            if row and before and row["cools_until"] is not None and charge.decided_at < row["cools_until"]:
                yield _Scope("mandate", mandate_id, before)
            before = row["terms"] if row else None

    def _judge(self, charge: _Charge, row: Body) -> None:
        """Looks at one reservation as if it were made now."""
        self._in_force(charge, row)
        for scope in self._scopes(charge, row):
            currency = scope.terms.get("currency", row["currency"])
            if currency != row["currency"]:
                self._say(MANDATE, charge, f"is in {row['currency']}, its {scope.kind} in {currency}")
            for limit in scope.terms.get("limits", ()):
                if row["amount_minor"] and selects(limit.get("filter", {}), charge.facts):
                    self._limit(charge, scope, limit, row["fare_minor"])
            for said in objections(charge.facts, scope.terms, charge.decided_at, self._zone):
                self._say(MANDATE, charge, f"does not meet the {said} of its {scope.kind} {scope.id}")

    def _limit(self, charge: _Charge, scope: _Scope, limit: Terms, fare_minor: int | None) -> None:
        amount = part_minor(limit.get("filter", {}), charge.facts, charge.gross_minor)
        most, least = limit.get("at_most"), limit.get("at_least")
        plain = part_minor(limit.get("filter", {}), charge.facts, max(charge.gross_minor, fare_minor or 0))
        if least is not None and plain < least:
            self._say(OVERSPEND, charge, f"{plain} is below the {least} of its {scope.kind} {scope.id}")
        if most is None:
            return
        counted = self._counted(scope.kind, scope.id, limit)
        used, wanted = 0, amount
        if counted is not None:
            which = 1 if limit["metric"] == "count" else 0
            wanted = 1 if which else amount
            used = self._used(counted, limit.get("filter", {}), charge.decided_at)[which]
            most = self._allowed(scope, limit, counted, charge.decided_at)
        if used + wanted > most:
            said = f"{wanted} on top of {used} is above the {most} a {limit['window']}"
            self._say(OVERSPEND, charge, f"{limit['metric']} {said} of its {scope.kind} {scope.id}")

    def _allowed(self, scope: _Scope, limit: Terms, counted: Counted, moment: datetime) -> int:
        """What a limit allows in its window around `moment`: less in the first one if it is prorated."""
        most: int = limit["at_most"]
        if limit.get("proration") != "first_period":
            return most
        start, period = self._facts.anchor(scope.kind, scope.id), period_named(counted[1])
        if start.isoformat() < scope.terms.get("valid_from", ""):
            start = date.fromisoformat(scope.terms["valid_from"])
        first = days_around(start, period) == days_around(local_date(moment, self._zone), period)
        return prorated(most, start, period) if first else most

    def _used(self, counted: Counted, chosen: Terms, moment: datetime) -> tuple[int, int]:
        """What the window around `moment` has used, with what it must at least carry from before a change of zone."""
        trailing = period_named(counted[1]).trailing
        if trailing is not None:
            return self._trail(counted, after=moment - trailing, until=moment)
        start = window_around(moment, counted[1], self._zone).start
        amount, count = self._sums.used.get((counted, start), (0, 0))
        more_minor, more_count = self._carried(counted, chosen, moment, len(self._changes))
        return amount + more_minor, count + more_count

    def _trail(self, counted: Counted, *, after: datetime, until: datetime) -> tuple[int, int]:
        moments = self._sums.moments[counted]
        within = moments[bisect_right(moments, after) : bisect_right(moments, until)]
        used = [self._sums.used[counted, at] for at in within]
        return sum(amount for amount, _ in used), sum(count for _, count in used)

    def _carried(self, counted: Counted, chosen: Terms, moment: datetime, changes: int) -> tuple[int, int]:
        """From the window that the last of `changes` cut short, whatever lies before the window around `moment`."""
        if not changes:
            return 0, 0
        scope_id, period, _, refunds = counted
        change = self._changes[changes - 1]
        zone_after = self._changes[changes].before if changes < len(self._changes) else self._zone
        window = window_around(moment, period, zone_after)
        old = window_around(change.at, period, change.before)
        if not window.start < change.at < window.end:
            return 0, 0
        amount, count = self._carried(counted, chosen, change.at, changes - 1)
        for charge_id, then in change.counting.items():
            charge = self._charges[charge_id]
            before = old.start <= charge.decided_at < window.start
            if before and scope_id in self._scope_ids(charge) and selects(chosen, charge.facts):
                least = min(_counted_minor(charge, chosen, refunds, *then), charge.used(chosen, refunds)[0])
                amount, count = amount + least, count + charge.used(chosen, refunds)[1]
        return amount, count

    def _in_force(self, charge: _Charge, row: Body) -> None:
        """I6: the mandate cited is this spender's, active, at this version; the circle and what was presented, too."""
        mandate = self._history.expected["mandate"].get(charge.mandate_id or "")
        if mandate is None:
            self._say(MANDATE, charge, "cites a mandate that the audit log does not know")
            return
        if (mandate.get("payer_id"), mandate.get("spender_id")) != (charge.payer_id, charge.facts["spender_id"]):
            self._say(MANDATE, charge, f"cites mandate {charge.mandate_id}, which is between others")
        if mandate["version"] != row["mandate_version"]:
            self._say(MANDATE, charge, f"cites version {row['mandate_version']}; in force was {mandate['version']}")
        credential_id = charge.facts["credential_id"]
        card = self._history.expected["credential"].get(credential_id or "")
        if card is not None and card["state"] != "active":
            self._say(MANDATE, charge, f"was approved on credential {credential_id}, which was revoked")
        self._still_allowed(charge, row)

    def _still_allowed(self, charge: _Charge, row: Body) -> None:
        """What must hold at a reservation and again when it is sent to the provider."""
        mandate = self._history.expected["mandate"].get(row["mandate_id"] or "", {})
        agreement = self._history.expected["agreement"].get(row["agreement_id"] or "", {})
        states = mandate.get("state"), agreement.get("state"), self._history.circle_state
        if states != ("active", "active", "active"):
            said = "its mandate was {}, its agreement {}, its circle {}".format(*states)
            self._say(MANDATE, charge, f"went on while {said}")

    def _say(self, invariant: str, charge: _Charge, sentence: str) -> None:
        self._findings.add(invariant, "charge", (charge.id,), sentence)


def _charged(body: Body) -> Charged:
    return Charged(
        spender_id=body["spender_id"],
        merchant_id=body["merchant_id"],
        terminal_id=body["terminal_id"],
        method=body["method"],
        mcc=body["mcc"],
        currency=body["currency"],
        credential_id=body.get("credential_id"),
        items=body.get("items"),
    )


def _counted_minor(charge: _Charge, chosen: Terms, refunds: str, gross_minor: int, refunded_minor: int) -> int:
    return part_minor(chosen, charge.facts, gross_minor if refunds == "keep" else gross_minor - refunded_minor)


def _name(chosen: Terms) -> str:
    return repr(sorted((key, tuple(sorted(values))) for key, values in chosen.items() if values))
