"""`docs/states.md`: every life cycle, drawn from its table and told in the words beside its states."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from kinpay.charges.charge import CHARGE
from kinpay.charges.debit import DEBIT, REFUND
from kinpay.mandates.agreement import AGREEMENT_LIFE
from kinpay.mandates.mandate import MANDATE_LIFE
from kinpay.operators.act import ACT_LIFE
from kinpay.people.circle import CIRCLE_LIFE
from kinpay.people.person import PERSON_LIFE
from kinpay.primitives.lifecycle import Lifecycle
from kinpay.registrations.finding import FINDING_LIFE
from kinpay.registrations.registration import CAPTURE_LIFE, REGISTRATION_LIFE
from kinpay.sittings.sitting import SITTING_LIFE
from kinpay.terminals.terminal import TERMINAL_LIFE
from kinpay.webhooks.delivery import DELIVERY_LIFE


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A life cycle, where a new one begins today, and what the table alone does not say."""

    life: Lifecycle[Any, Any]
    begins: tuple[str, ...]
    note: str = ""


LIVES: Final[Sequence[Drawn]] = (
    Drawn(life=PERSON_LIFE, begins=("unverified",), note="A person without a phone, entered by a terminal, begins `active`."),
    Drawn(life=CIRCLE_LIFE, begins=("active",)),
    Drawn(life=TERMINAL_LIFE, begins=("expected",)),
    Drawn(
        life=REGISTRATION_LIFE,
        begins=("open",),
        note="While it is open, the items of its checklist come in any order; the last one binds (`waiting_for`).",
    ),
    Drawn(life=CAPTURE_LIFE, begins=("asked",)),
    Drawn(life=SITTING_LIFE, begins=("asked",)),
    Drawn(life=FINDING_LIFE, begins=("open",)),
    Drawn(life=AGREEMENT_LIFE, begins=("created",)),
    Drawn(life=MANDATE_LIFE, begins=("pending",)),
    Drawn(
        life=CHARGE,
        begins=("held", "refused"),
        note="`decide` says where one begins; what a restored database lost and a provider tells begins `submitted`. "
        "Nothing begins `asking` yet: approvals by a person are a later issue.",
    ),
    Drawn(
        life=DEBIT,
        begins=("submitted",),
        note="Nothing begins `frozen` yet: no provider of ours wants a debit announced before it is sent.",
    ),
    Drawn(life=REFUND, begins=("submitted",)),
    Drawn(
        life=ACT_LIFE,
        begins=("asked",),
        note="Only where an operator asks for two people; see [two people](operators.md).",
    ),
    Drawn(
        life=DELIVERY_LIFE,
        begins=("pending",),
        note="A failed attempt that is not the last leaves it `pending`; when the next one is due is in its row.",
    ),
)


def states() -> str:
    """The page, without its first lines."""
    lines: list[str] = []
    for drawn in LIVES:
        lines += _chapter(drawn)
    return "\n".join(lines)


def _chapter(drawn: Drawn) -> list[str]:
    life = drawn.life
    kinds: tuple[type[StrEnum], type[StrEnum]] = (type(life.start), type(next(iter(life.table))[1]))
    place = kinds[0].__module__.replace(".", "/") + ".py"
    lines = ["", f"## {life.name}", "", f"`{place}`" + (f". {drawn.note}" if drawn.note else ""), "", "```mermaid"]
    lines += ["stateDiagram-v2", *(f"    [*] --> {state}" for state in drawn.begins)]
    lines += [f"    {source} --> {target}: {event}" for (source, event), target in life.table.items()]
    ends = set(kinds[0]) - {source for source, _ in life.table}
    lines += [f"    {state} --> [*]" for state in kinds[0] if state in ends]
    lines += ["```"]
    for word, kind in zip(("state", "event"), kinds, strict=True):
        told = meanings(kind)
        if any(told.values()):
            lines += ["", f"| {word} | means |", "|---|---|", *(f"| `{member}` | {told[member.name]} |" for member in kind)]
    return lines


def meanings(kind: type[StrEnum]) -> dict[str, str]:
    """The docstring under each member of an enumeration, by the member's name; empty where there is none.

    Python throws these strings away, so that they are read from the source.
    """
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    told = {member.name: "" for member in kind}
    name = ""
    for node in body.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            told[name] = " ".join(str(node.value.value).split())
            name = ""
    return told
