"""The code a terminal shows for one sale: bound to terminal, payee and amount, so that it is good for nothing else.

Source: [0032]; threats A05, A06.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from kinpay.database.sql import Connection, Sql
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import CheckCodeExpired, CheckCodeUsed, NotFound
from kinpay.primitives.ids import new_id
from kinpay.primitives.money import Money
from kinpay.terminals.codes import Codes, PaymentCode, still_good
from kinpay.terminals.emv_codes import EmvPlace, merchant_presented, read_payment_code_text
from kinpay.terminals.store import find_terminal
from kinpay.terminals.terminal import Terminal

LIFE: Final = timedelta(seconds=120)


@dataclass(frozen=True, slots=True)
class IssuedPaymentCode:
    """What the terminal draws, and the id under which it asks what came of it. `emv_text`: the same as an EMVCo code."""

    id: str
    text: str
    expires_at: datetime
    emv_text: str | None = None


@dataclass(frozen=True, slots=True)
class ReadPaymentCode:
    """What a spender sees before they pay: where, to whom, how much."""

    terminal: Terminal
    amount: Money
    reference: str | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class PaymentCodeUse:
    """Whether a payment code was used, and for which charge."""

    used: bool
    charge_id: str | None


def issue_payment_code(codes: Codes, *, asker: Actor, amount: Money, reference: str | None, now: datetime) -> IssuedPaymentCode:
    """A code for one sale of the asking terminal. Nothing is stored before somebody pays with it."""
    expires_at = (now + LIFE).replace(microsecond=0)
    code = PaymentCode(
        new_id(), asker.operator_id, asker.id, amount.minor, amount.currency, reference, int(expires_at.timestamp())
    )
    return IssuedPaymentCode(code.code_id, codes.write(code), expires_at)


async def issue_emv_payment_code(
    conn: Connection, codes: Codes, *, asker: Actor, amount: Money, reference: str | None, place: EmvPlace, now: datetime
) -> IssuedPaymentCode:
    """The same as `issue_payment_code`, with the code as an EMVCo merchant-presented one beside it: one sale, paid once.

    Raises: NotFound; Invalid for an amount that EMVCo's 13 characters cannot hold; EmvCodeMalformed.
    """
    terminal = await find_terminal(conn, asker.id)
    if terminal is None:
        raise NotFound()
    issued = issue_payment_code(codes, asker=asker, amount=amount, reference=reference, now=now)
    code = codes.read(issued.text, PaymentCode)
    return replace(issued, emv_text=merchant_presented(codes, code, terminal=terminal, place=place))


BURNT = Sql("SELECT charge_id FROM burnt_code WHERE id = :code_id AND kind = 'payment' AND terminal_id = :terminal_id")


async def read_payment_code(conn: Connection, codes: Codes, *, text: str, asker: Actor, now: datetime) -> ReadPaymentCode:
    """What a payment code asks for, bare or as an EMVCo code. It is read, not burnt: that happens with the charge.

    Raises: CheckCodeAltered, EmvCodeMalformed, CheckCodeUsed, CheckCodeExpired (also when its terminal was revoked);
    NotFound if foreign.
    """
    code = read_payment_code_text(codes, text, operator_id=asker.operator_id)
    expires_at = still_good(code.expires_s, now)
    terminal = await find_terminal(conn, code.terminal_id)
    if terminal is None or terminal.operator_id != asker.operator_id or code.operator_id != asker.operator_id:
        raise NotFound()
    if not terminal.is_active:
        raise CheckCodeExpired()
    if await BURNT.row(conn, code_id=code.code_id, terminal_id=code.terminal_id) is not None:
        raise CheckCodeUsed()
    return ReadPaymentCode(terminal, Money(code.amount_minor, code.currency), code.reference, expires_at)


async def payment_code_use(conn: Connection, *, code_id: str, terminal_id: str) -> PaymentCodeUse:
    """What came of a payment code of this terminal. One that nobody paid with looks like one that never was."""
    row = await BURNT.row(conn, code_id=code_id, terminal_id=terminal_id)
    return PaymentCodeUse(False, None) if row is None else PaymentCodeUse(True, row["charge_id"])
