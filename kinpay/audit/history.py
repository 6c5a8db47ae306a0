"""What the audit log says has become of everything in a circle; each thing's events must be a path of its life cycle (I12).

`History` folds a circle's events into the rows that there should be; `compare` holds the rows that there are against them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final

from kinpay.audit.facts import Facts
from kinpay.audit.findings import Findings
from kinpay.charges.charge import CHARGE, ChargeEvent, ChargeState
from kinpay.charges.debit import DEBIT, REFUND, DebitEvent, DebitStatus, RefundEvent, RefundStatus
from kinpay.database.audit import Link
from kinpay.mandates.agreement import AGREEMENT_LIFE, AgreementEvent, AgreementState
from kinpay.mandates.mandate import MANDATE_LIFE, MandateEvent, MandateState
from kinpay.mandates.terms import terms_hash
from kinpay.primitives.lifecycle import Lifecycle

HISTORY: Final = "A29 row_matches_history"
STATES: Final = "I12 state_machine"

Expected = dict[str, Any]
Body = dict[str, Any]

_KEPT_OF_CHARGE: Final = (
    "amount_minor", "currency", "spender_id", "payer_id", "mandate_id", "mandate_version", "agreement_id", "credential_id",
    "merchant_id", "terminal_id", "method", "mcc", "state", "refusal", "items",
    "fare_minor", "face",
)  # fmt: skip
_MOVING: Final = (
    "captured_minor", "refunded_minor", "mandate_id", "mandate_version", "agreement_id", "payer_id", "delivered",
    "void_requested", "late",
)  # fmt: skip
_REWRITES: Final = {
    "void_asked": {"submitted"},
    "refund_asked": {"succeeded"},
    "refund_failed": {"succeeded"},
    "reduced": {"due"},
}
_FINAL: Final = frozenset({"succeeded", "voided", "declined"})


class _BeginsWith:
    """Equal to every list that begins with these: a consent names some agreements, and those from before come after them."""

    def __init__(self, items: list[str]) -> None:
        self._items = items

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list) and other[: len(self._items)] == self._items

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self._items!r}…"


class History:
    """Folds the events of one circle's lane, in order."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self.expected: dict[str, dict[str, Expected]] = defaultdict(dict)
        self.zones: list[tuple[str, datetime]] = []
        self.circle_state = "active"
        self._fundings: dict[str, int] = defaultdict(int)
        self._read: dict[str, Callable[[Link, str, Body], None]] = {
            "charge": self._charge,
            "debit": self._debit,
            "refund": self._refund,
            "entry": self._entry,
            "mandate": self._mandate,
            "agreement": self._agreement,
            "pool": self._pool,
            "card": self._credential,
            "phone": self._credential,
            "circle": self._circle,
            "statement": self._statement,
        }

    def take(self, link: Link, body: Body) -> None:
        """Folds one event."""
        thing, _, event = link.kind.partition(".")
        read = self._read.get(thing)
        if read is None:
            return
        try:
            read(link, event, body)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._say(link, f"{link.kind} cannot be read ({type(error).__name__})")

    def _say(self, link: Link, sentence: str) -> None:
        self._findings.add(STATES, "audit_event", (link.lane, str(link.seq), link.subject_id), sentence)

    def _follow(self, life: Lifecycle[Any, Any], row: Expected, link: Link, event: StrEnum, states: type[StrEnum]) -> None:
        """Moves `row` along its life cycle, or says that it may not move so."""
        before = states(row["state"])
        following = life.table.get((before, event))
        if following is None:
            self._say(link, f"a {life.name} that is {before} may not be {event}")
            return
        row["state"] = str(following)

    def _agree(self, link: Link, body: Body, row: Expected, before: str) -> None:
        """Says so if the event itself names another way than the one that was followed."""
        if (body.get("from", before), body.get("to", row["state"])) != (before, row["state"]):
            self._say(link, f"{link.kind} says {body.get('from')} to {body.get('to')}; it was {before} to {row['state']}")

    def _charge(self, link: Link, event: str, body: Body) -> None:
        charges = self.expected["charge"]
        row = charges.get(link.subject_id)
        if row is None:
            charges[link.subject_id] = self._new_charge(link, event, body, seq=len(charges) + 1)
            return
        before = row["state"]
        if event in _REWRITES:
            if before not in _REWRITES[event]:
                self._say(link, f"{link.kind} of a charge that is {before}")
        else:
            self._follow(CHARGE, row, link, ChargeEvent(event), ChargeState)
            self._agree(link, body, row, before)
        row.update({name: body[name] for name in _MOVING if name in body})
        row["finished_at"] = (row["finished_at"] or link.at) if row["state"] in _FINAL else None
        if event == ChargeEvent.COLLECT:
            row["due_on"] = date.fromisoformat(body["due_on"])
        if event == ChargeEvent.OWE:
            row["owed_since"] = row["owed_since"] or link.at
        elif event in (ChargeEvent.SUCCEED, ChargeEvent.LATE_SUCCESS):
            row["owed_since"] = None

    def _new_charge(self, link: Link, event: str, body: Body, *, seq: int) -> Expected:
        state = body["state"]
        recovered = event == "recovered" and state == "submitted"
        if not recovered and (event != state or state not in ("held", "refused", "asking")):
            self._say(link, f"a charge begins with {link.kind}")
        row: Expected = {name: body.get(name) for name in _KEPT_OF_CHARGE}
        row |= {"captured_minor": None, "refunded_minor": 0, "delivered": False, "void_requested": False, "late": False}
        row |= {
            "seq": seq,
            "decided_at": link.at,
            "owed_since": None,
            "due_on": None,
            "finished_at": link.at if state == "refused" else None,
        }
        if "capture_at_once" in body:
            row["capture_at_once"] = body["capture_at_once"]
            row["hold_expires_at"] = _moment(body.get("hold_expires_at"))
        if recovered:  # it was made before the database was restored; what is known of it is the provider's word
            row |= {name: body[name] for name in ("captured_minor", "delivered", "late")}
            row["decided_at"] = _moment(body["decided_at"])
        return row

    def _debit(self, link: Link, event: str, body: Body) -> None:
        debits = self.expected["debit"]
        row = debits.get(link.subject_id)
        if row is None:
            if event != "submitted":
                self._say(link, f"a debit begins with {link.kind}")
            row = {name: body[name] for name in ("agreement_id", "amount_minor", "currency", "kind") if name in body}
            row |= {"state": "submitted", "late": False, "failure_code": None, "created_at": link.at, "finished_at": None}
            debits[link.subject_id] = row
            for charge_id, minor in body.get("charges", {body.get("charge_id"): body["amount_minor"]}).items():
                self.expected["charge_debit"][f"{charge_id}/{link.subject_id}"] = {"amount_minor": minor}
            return
        before = row["state"]
        self._follow(DEBIT, row, link, DebitEvent(event), DebitStatus)
        self._agree(link, body, row, before)
        row |= {"finished_at": link.at, "failure_code": body.get("failure_code"), "late": event == DebitEvent.LATE_SUCCESS}

    def _refund(self, link: Link, event: str, body: Body) -> None:
        refunds = self.expected["refund"]
        row = refunds.get(link.subject_id)
        if row is None:
            if event != "submitted":
                self._say(link, f"a refund begins with {link.kind}")
            row = {name: body[name] for name in ("charge_id", "debit_id", "amount_minor", "reason")}
            row |= {"state": "submitted", "failure_code": None, "created_at": link.at, "finished_at": None}
            refunds[link.subject_id] = row
            return
        self._follow(REFUND, row, link, RefundEvent(event), RefundStatus)
        row |= {"finished_at": link.at, "failure_code": body.get("failure_code")}

    def _entry(self, link: Link, event: str, body: Body) -> None:
        about = {name: body[name] for name in ("charge_id", "debit_id", "refund_id")}
        if link.subject_id in self.expected["entry"]:
            self._say(link, "an entry is written twice")
        self.expected["entry"][link.subject_id] = {"kind": event, "at": link.at, **about}
        for account_id, minor, currency in body["postings"]:
            self.expected["posting"][f"{link.subject_id}/{account_id}"] = {"amount_minor": minor, "currency": currency}

    def _mandate(self, link: Link, event: str, body: Body) -> None:
        fresh: Expected = {"state": "pending", "version": 0, "reason": None, "active_at": None, "ended_at": None}
        row = self.expected["mandate"].setdefault(link.subject_id, fresh)
        if event in ("consented", "terms_changed"):
            self._version("mandate_version", link, row, body)
        elif event == "proposed":
            row |= {"payer_id": body["payer"], "spender_id": body["spender"]}
            self._funding(link, _BeginsWith(body["agreements"]))
        elif event == "funding_changed":
            self._funding(link, body["agreements"])
        else:
            before = row["state"]
            self._follow(MANDATE_LIFE, row, link, MandateEvent(event), MandateState)
            self._agree(link, body, row, before)
            row["reason"] = body.get("reason")
            if row["state"] == "active":
                row["active_at"] = row["active_at"] or link.at
            if row["state"] == "ended":
                row["ended_at"] = link.at

    def _version(self, table: str, link: Link, row: Expected, body: Body) -> None:
        if body["version"] != row["version"] + 1:
            self._say(link, f"version {body['version']} follows version {row['version']}")
        row["version"] = body["version"]
        self.expected[table][f"{link.subject_id}/{body['version']}"] = {
            "terms_hash": bytes.fromhex(body["terms_hash"]),
            "proof_id": body["proof"],
            "from_charge_seq": body["charge_seq"],
            "agreed_by": link.actor_id,
            "since": link.at,
            "circle_id": link.lane,
        } | ({"cools_until": _moment(body.get("cools_until"))} if table == "mandate_version" else {})

    def _funding(self, link: Link, agreement_ids: object) -> None:
        self._fundings[link.subject_id] += 1
        key = f"{link.subject_id}/{self._fundings[link.subject_id]}"
        self.expected["settlement_rule"][key] = {"agreement_ids": agreement_ids, "since": link.at, "circle_id": link.lane}

    def _agreement(self, link: Link, event: str, body: Body) -> None:
        agreements = self.expected["agreement"]
        if event.startswith("spender_"):
            key = f"{link.subject_id}/{body['spender']}"
            self.expected["agreement_spender"][key] = {"state": event.removeprefix("spender_")}
        elif event == "created":
            agreements[link.subject_id] = {
                "state": "created",
                "payer_id": body["payer"],
                "provider_account_id": body["provider_account"],
                "business_type": body["business_type"],
            }
        elif link.subject_id in agreements:
            row = agreements[link.subject_id]
            before = row["state"]
            self._follow(AGREEMENT_LIFE, row, link, AgreementEvent(event), AgreementState)
            self._agree(link, body, row, before)
        else:
            self._say(link, f"an agreement begins with {link.kind}")

    def _pool(self, link: Link, event: str, body: Body) -> None:
        row = self.expected["pool"].setdefault(link.subject_id, {"state": "active", "version": 0})
        if event == "ended":
            row["state"] = "ended"
            return
        row["payer_id"] = link.actor_id
        if "spenders" in body:
            row["spender_ids"] = body["spenders"]
        self._version("pool_version", link, row, body)

    def _credential(self, link: Link, event: str, body: Body) -> None:
        credentials = self.expected["credential"]
        if event == "issued":
            kind = link.kind.partition(".")[0]
            credentials[link.subject_id] = {"kind": kind, "person_id": body["person"], "state": "active"}
            if "terms_hash" in body:
                credentials[link.subject_id]["terms_hash"] = body["terms_hash"]
        elif event == "revoked":
            credentials[link.subject_id]["state"] = "revoked"

    def _statement(self, link: Link, event: str, body: Body) -> None:
        if event == "closed":
            closed = {"hash": bytes.fromhex(body["hash"]), "closed_at": link.at}
            self.expected["statement_month"][body["month"]] = closed

    def _circle(self, link: Link, event: str, body: Body) -> None:
        if event in ("frozen", "unfrozen"):
            self.circle_state = "frozen" if event == "frozen" else "active"
        elif event in ("opened", "adopted", "time_zone_changed"):
            name = body["to"] if event == "time_zone_changed" else body["time_zone"]
            if not self.zones or self.zones[-1][0] != name:
                self.zones.append((name, link.at))


def _moment(written: str | None) -> datetime | None:
    return datetime.fromisoformat(written) if written else None


def compare(facts: Facts, history: History, findings: Findings) -> None:
    """Names every row that is not what the audit log says it became, that it does not know, or that is gone."""
    for table in (
        "charge", "debit", "charge_debit", "refund", "entry", "posting", "mandate", "mandate_version", "settlement_rule",
        "pool", "pool_version", "agreement", "agreement_spender", "credential", "statement_month",
    ):  # fmt: skip
        rows, expected = facts.rows(table), history.expected[table]
        for key in rows.keys() - expected.keys():
            findings.add(HISTORY, table, (key,), "the audit log knows of no such row")
        for key, wanted in expected.items():
            row = rows.get(key)
            if row is None:
                findings.add(HISTORY, table, (key,), "is gone; the audit log says that it was written")
                continue
            wrong = [
                f"{name} is {row[name]!s}, the audit log says {value!s}"
                for name, value in wanted.items()
                if name != "terms_hash" and row[name] != value
            ]
            if "terms_hash" in wanted and _terms_hash(row) != wanted["terms_hash"]:
                wrong.append("its terms are not those that were consented to")
            if wrong:
                findings.add(HISTORY, table, (key,), "; ".join(wrong))
    _compare_circle(facts, history, findings)


def _terms_hash(row: Any) -> bytes | str | None:
    """The hash that the row keeps, or, of a card, the hash of its terms as the audit log writes it."""
    if "terms_hash" in row.keys():  # noqa: SIM118 (a record is not a mapping: `in` looks at its values)
        return bytes(row["terms_hash"])
    return terms_hash(row["terms"]).hex() if row["terms"] else None


def _compare_circle(facts: Facts, history: History, findings: Findings) -> None:
    row = facts.rows("circle").get(facts.circle_id)
    if row is None:
        return
    wrong = []
    if row["state"] != history.circle_state:
        wrong.append(f"is {row['state']}, the audit log says {history.circle_state}")
    decided = len(history.expected["charge"])
    if row["charge_seq"] != decided:
        wrong.append(f"charge_seq is {row['charge_seq']}, the audit log has {decided} charges")
    if history.zones:
        if row["time_zone"] != history.zones[-1][0]:
            wrong.append(f"time_zone is {row['time_zone']}, the audit log says {history.zones[-1][0]}")
        if [(zone["time_zone"], zone["since"]) for zone in facts.rows("circle_zone").values()] != history.zones:
            wrong.append("its time zones of the past are not those of the audit log")
    if wrong:
        findings.add(HISTORY, "circle", (facts.circle_id,), "; ".join(wrong))
