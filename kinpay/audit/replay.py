"""I5 and I6: every reservation decided once more, in the order of the audit log, against the terms then in force.

This shares no code with `charges.decide`: what one of them gets wrong, the other is there to find. It looks at what was
approved only, and counts carried amounts (after a change of zone) at the least that they can have been.
Source: reliability.md §4; semantics.md "Limits".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from kinpay.audit.counted import COUNTING, fits
from kinpay.audit.facts import Facts
from kinpay.audit.findings import Findings
from kinpay.audit.history import Body, History
from kinpay.database.audit import Link
from kinpay.primitives.clock import Window, window_around, zone

OVERSPEND: Final = "I5 no_overspend"
MANDATE: Final = "I6 mandate_valid"

_LONGEST: Final = timedelta(days=63)
"""Longer than the two longest windows that a change of zone can lay over each other."""

Terms = dict[str, Any]


@dataclass(slots=True)
class _Charge:
    """A charge as it counts at this point of the replay."""

    id: str
    decided_at: datetime
    spender_id: str
    merchant_id: str
    mcc: str
    currency: str
    credential_id: str | None
    mandate_id: str | None = None
    payer_id: str | None = None
    net_minor: int = 0
    counts: bool = False

    @property
    def used(self) -> tuple[int, int]:
        """Minor units and payments."""
        return (self.net_minor, 1) if self.counts else (0, 0)


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
    used: dict[str, tuple[int, int]]


@dataclass(slots=True)
class _Sums:
    """What each scope used in each window, of the filters that some limit of some version has."""

    tracked: dict[str, dict[tuple[str, str], Terms]] = field(default_factory=lambda: defaultdict(dict))
    used: dict[tuple[str, str, str, datetime], list[int]] = field(default_factory=dict)


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
        for table in ("mandate_version", "pool_version", "credential"):
            for key, row in facts.rows(table).items():
                self._track(key.partition("/")[0], row["terms"] or {})
        first = next(iter(facts.rows("circle_zone").values()), None)
        self._zone = first["time_zone"] if first else facts.rows("circle")[facts.circle_id]["time_zone"]

    def _track(self, scope_id: str, terms: Terms) -> None:
        for limit in terms.get("limits", ()):
            if limit["window"] != "per_payment":
                chosen = limit.get("filter", {})
                self._sums.tracked[scope_id][(limit["window"], _name(chosen))] = chosen

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
            charge = self._charges[link.subject_id] = _Charge(
                link.subject_id,
                link.at,
                body["spender_id"],
                body["merchant_id"],
                body["mcc"],
                body["currency"],
                body.get("credential_id"),
            )
        before = charge.used if charge.counts else None
        keys = list(self._keys(charge)) if before else []
        row = self._history.expected["charge"][charge.id]
        mandate_id, payer_id = row["mandate_id"], row["payer_id"]
        if event in ("held", "fell_back", "approved"):
            self._add(keys, charge.used, -1)
            charge.mandate_id, charge.payer_id, charge.counts = mandate_id, payer_id, False
            amount = row["amount_minor"] if row["captured_minor"] is None else row["captured_minor"]
            self._judge(charge, amount, row)
            keys, before = [], None
        elif event == "submitted":
            self._still_allowed(charge, row)
        charge.mandate_id, charge.payer_id = mandate_id, payer_id
        charge.counts = row["state"] in COUNTING
        captured = row["captured_minor"]
        charge.net_minor = (row["amount_minor"] if captured is None else captured) - row["refunded_minor"]
        if before:
            self._add(keys, before, -1)
        if charge.counts:
            self._add(list(self._keys(charge)), charge.used, 1)

    def _keys(self, charge: _Charge) -> Iterator[tuple[str, str, str, datetime]]:
        """The windows that a charge uses, in the zone in force."""
        for scope_id in self._scope_ids(charge):
            for (period, name), chosen in self._sums.tracked.get(scope_id, {}).items():
                if fits(chosen, charge.merchant_id, charge.mcc):
                    yield scope_id, period, name, window_around(charge.decided_at, Window(period), self._zone).start

    def _scope_ids(self, charge: _Charge) -> Iterator[str]:
        if charge.mandate_id is not None:
            yield charge.mandate_id
        if charge.credential_id is not None:
            yield charge.credential_id
        for pool_id, (payer_id, spenders) in self._pools.items():
            covered = payer_id == charge.payer_id and (spenders is None or charge.spender_id in spenders)
            if covered and self._facts.in_currency_of(pool_id, charge.currency):
                yield pool_id

    def _add(self, keys: list[tuple[str, str, str, datetime]], used: tuple[int, int], sign: int) -> None:
        for key in keys:
            total = self._sums.used.setdefault(key, [0, 0])
            total[0] += sign * used[0]
            total[1] += sign * used[1]

    def _rebuild(self) -> None:
        """Every sum anew: after a change of zone, or of whom a pool covers."""
        self._sums.used.clear()
        for charge in self._charges.values():
            if charge.counts:
                self._add(list(self._keys(charge)), charge.used, 1)

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
        used = {c.id: c.used for c in self._charges.values() if c.counts and c.decided_at > at - _LONGEST}
        self._changes.append(_ZoneChange(at, self._zone, used))
        self._zone = name
        self._rebuild()

    def _scopes(self, charge: _Charge, row: Body) -> Iterator[_Scope]:
        """Everything that bound the charge when it was decided."""
        for scope_id in self._scope_ids(charge):
            if scope_id == charge.credential_id:
                card = self._facts.rows("credential").get(scope_id)
                yield _Scope("card", scope_id, (card["terms"] or {}) if card else {})
                continue
            kind = "mandate" if scope_id == charge.mandate_id else "pool"
            version = row["mandate_version"] if kind == "mandate" else self._history.expected["pool"][scope_id]["version"]
            found = self._facts.rows(f"{kind}_version").get(f"{scope_id}/{version}")
            if found is not None:
                yield _Scope(kind, scope_id, found["terms"])

    def _judge(self, charge: _Charge, amount: int, row: Body) -> None:
        """Looks at one reservation as if it were made now."""
        self._in_force(charge, row)
        for scope in self._scopes(charge, row):
            currency = scope.terms.get("currency", row["currency"])
            if currency != row["currency"]:
                self._say(MANDATE, charge, f"is in {row['currency']}, its {scope.kind} in {currency}")
            for limit in scope.terms.get("limits", ()):
                if fits(limit.get("filter", {}), charge.merchant_id, charge.mcc):
                    self._limit(charge, amount, scope, limit)
            for condition in scope.terms.get("conditions", ()):
                if not self._meets(charge, condition):
                    self._say(MANDATE, charge, f"does not meet the {condition['kind']} of its {scope.kind} {scope.id}")

    def _limit(self, charge: _Charge, amount: int, scope: _Scope, limit: Terms) -> None:
        most, least = limit.get("at_most"), limit.get("at_least")
        if least is not None and amount < least:
            self._say(OVERSPEND, charge, f"{amount} is below the {least} of its {scope.kind} {scope.id}")
        if most is None:
            return
        used, wanted = 0, amount
        if limit["window"] != "per_payment":
            which = 1 if limit["metric"] == "count" else 0
            wanted = 1 if which else amount
            used = self._used(scope.id, limit, charge.decided_at)[which]
        if used + wanted > most:
            said = f"{wanted} on top of {used} is above the {most} a {limit['window']}"
            self._say(OVERSPEND, charge, f"{limit['metric']} {said} of its {scope.kind} {scope.id}")

    def _used(self, scope_id: str, limit: Terms, moment: datetime) -> tuple[int, int]:
        """What the limit's window around `moment` has used, with what it must at least carry from before a change of zone."""
        chosen = limit.get("filter", {})
        start = window_around(moment, Window(limit["window"]), self._zone).start
        amount, count = self._sums.used.get((scope_id, limit["window"], _name(chosen), start), (0, 0))
        more_minor, more_count = self._carried(scope_id, Window(limit["window"]), chosen, moment, len(self._changes))
        return amount + more_minor, count + more_count

    def _carried(self, scope_id: str, period: Window, chosen: Terms, moment: datetime, changes: int) -> tuple[int, int]:
        """From the window that the last of `changes` cut short, whatever lies before the window around `moment`."""
        if not changes:
            return 0, 0
        change = self._changes[changes - 1]
        zone_after = self._changes[changes].before if changes < len(self._changes) else self._zone
        window = window_around(moment, period, zone_after)
        old = window_around(change.at, period, change.before)
        if not window.start < change.at < window.end:
            return 0, 0
        amount, count = self._carried(scope_id, period, chosen, change.at, changes - 1)
        for charge_id, (then_minor, then_count) in change.used.items():
            charge = self._charges[charge_id]
            before = old.start <= charge.decided_at < window.start
            if before and scope_id in self._scope_ids(charge) and fits(chosen, charge.merchant_id, charge.mcc):
                now_minor, now_count = charge.used
                amount, count = amount + min(then_minor, now_minor), count + min(then_count, now_count)
        return amount, count

    def _meets(self, charge: _Charge, condition: Terms) -> bool:
        if condition["kind"] == "hours":
            local = charge.decided_at.astimezone(zone(self._zone))
            clock = local.strftime("%H:%M")
            return any(
                local.isoweekday() in opening["weekdays"] and opening["opens"] <= clock < opening["closes"]
                for opening in condition["open"]
            )
        value = charge.merchant_id if condition["kind"] == "payees" else charge.mcc
        allowed = condition.get("allow")
        return bool(value in allowed if allowed is not None else value not in condition["deny"])

    def _in_force(self, charge: _Charge, row: Body) -> None:
        """I6: the mandate cited is this spender's, active, at this version; the circle and what was presented, too."""
        mandate = self._history.expected["mandate"].get(charge.mandate_id or "")
        if mandate is None:
            self._say(MANDATE, charge, "cites a mandate that the audit log does not know")
            return
        if (mandate.get("payer_id"), mandate.get("spender_id")) != (charge.payer_id, charge.spender_id):
            self._say(MANDATE, charge, f"cites mandate {charge.mandate_id}, which is between others")
        if mandate["version"] != row["mandate_version"]:
            self._say(MANDATE, charge, f"cites version {row['mandate_version']}; in force was {mandate['version']}")
        card = self._history.expected["credential"].get(charge.credential_id or "")
        if card is not None and card["state"] != "active":
            self._say(MANDATE, charge, f"was approved on credential {charge.credential_id}, which was revoked")
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


def _name(chosen: Terms) -> str:
    return repr(sorted((key, tuple(sorted(values))) for key, values in chosen.items() if values))
