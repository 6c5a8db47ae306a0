"""Misbehaviour on order: the next calls of an operation are refused, delayed, cut off or answered with rubbish.

Kept in memory on purpose: a bank that restarts is healed.
Source: docs/sandbox-bank.md §6.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from kinpay_sandbox.debit import Whim
from kinpay_sandbox.refusal import bad_request
from kinpay_sandbox.wire import Fields, write_json

OPERATIONS = frozenset(
    {
        "debit",
        "get_debit",
        "cancel",
        "refund",
        "get_refund",
        "agreement",
        "get_agreement",
        "end",
        "bind_spender",
        "remove_spender",
    }
)
KINDS = frozenset(
    {
        "refuse",
        "pending",
        "hang_before_commit",
        "hang_after_commit",
        "drop_before_commit",
        "drop_after_commit",
        "garbage",
    }
)
FORMS = frozenset({"html", "truncated", "unsigned", "wrong_amount", "other_order", "error_500"})
DEFAULT_HANG_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One misbehaviour; `key` narrows it to one order, `seconds` is how long it hangs or stays pending."""

    operation: str
    kind: str
    key: str | None
    seconds: float | None
    code: str | None
    form: str | None
    commit: bool

    def whim(self) -> Whim | None:
        """Return what the fault makes of the decision itself, for the operations that decide about money."""
        if self.operation not in ("debit", "refund") or self.kind not in ("refuse", "pending"):
            return None
        after = None if self.seconds is None else timedelta(seconds=self.seconds)
        return Whim(pending=self.kind == "pending", after=after, code=self.code)

    def refuses(self) -> bool:
        """Tell whether the call is answered by `code` without being looked at."""
        return self.kind == "refuse" and self.whim() is None


def read_fault(fields: Fields) -> tuple[Fault, int]:
    """Read the body of `POST /_control/faults` and how many times it happens. Raises: Refusal(422, bad_request)."""
    operation = fields.one_of("operation", OPERATIONS)
    kind = fields.one_of("kind", KINDS)
    times = 1 if fields.absent("times") else fields.amount("times")
    key = None
    if not fields.absent("match"):
        match = fields.inside("match")
        key = None if match.absent("key") else match.text("key", longest=64)
        match.done()
    seconds = None if fields.absent("seconds") else fields.seconds("seconds")
    code = None if fields.absent("code") else fields.text("code", longest=64)
    form = None if fields.absent("form") else fields.one_of("form", FORMS)
    commit = fields.yes("commit") if fields.has("commit") else True
    fields.absent("commit")
    fields.done()
    if (kind == "garbage") != (form is not None) or (kind == "pending" and operation not in ("debit", "refund")):
        raise bad_request()
    if kind == "refuse" and code is None:
        raise bad_request()
    fault = Fault(operation=operation, kind=kind, key=key, seconds=seconds, code=code, form=form, commit=commit)
    return fault, times


class Faults:
    """The faults still to come, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Fault, int]] = []

    def add(self, fault: Fault, *, times: int) -> None:
        """Let the next `times` matching calls misbehave."""
        self._waiting.append((fault, times))

    def heal(self) -> None:
        """Forget all faults."""
        self._waiting.clear()

    def take(self, operation: str, key: str | None) -> Fault | None:
        """Use one fault up for this call; None if it goes well."""
        for index, (fault, times) in enumerate(self._waiting):
            if fault.operation == operation and fault.key in (None, key):
                if times == 1:
                    del self._waiting[index]
                else:
                    self._waiting[index] = (fault, times - 1)
                return fault
        return None

    def as_json(self) -> list[dict[str, Any]]:
        """Write what is still to come."""
        return [
            {"operation": fault.operation, "kind": fault.kind, "key": fault.key, "form": fault.form, "times": times}
            for fault, times in self._waiting
        ]


HTML = b"<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>"


def twist(body: bytes, form: str) -> bytes:
    """Return a well-formed answer that tells a lie: another amount, or another order than the one asked about."""
    told = json.loads(body)
    if form == "wrong_amount":
        limits = told.get("limits")
        if isinstance(told.get("amount_minor"), int):
            told["amount_minor"] += 1
        elif isinstance(limits, dict):
            limits["per_debit_minor"] = (limits.get("per_debit_minor") or 0) + 1
    elif form == "other_order" and "key" in told:
        told["key"] = "OTHER" + told["key"][:27]
    return write_json(told)
