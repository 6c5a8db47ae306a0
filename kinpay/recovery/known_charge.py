"""A charge that is here, and a debit for it that was lost: the charge is brought to where that debit can settle it.

Whatever became of it after the restored point is lost, but its debit says: it was captured, sent, retried or fell back.
Source: semantics.md "Charge"; reliability.md F26.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from kinpay.charges.books import move_charge, rewrite_charge
from kinpay.charges.charge import ChargeEvent, ChargeState
from kinpay.charges.daily import submit_due
from kinpay.charges.request import Charge
from kinpay.charges.usage import change_usage, count_late
from kinpay.database.audit import Event, record
from kinpay.recovery.lost import LostDebit
from kinpay.recovery.lost_charge import find_mandate

_SENT: Final = (ChargeState.SUBMITTED, ChargeState.SUCCEEDED)


async def take_known(lost: LostDebit, charge: Charge, *, amount_minor: int, day: date | None) -> None:
    """Moves the charge to SUBMITTED for `amount_minor` on the debit's agreement; one that succeeded already stays so, and what
    is debited for it once more goes back as always, be it another payer's. `day`: of a day's debit.

    Raises: Objection where the one does not fit the other.
    """
    if charge.circle_id != lost.circle.id:
        raise lost.objection("another_payer")
    replaced = charge.payer_id != lost.agreement["payer_id"] and charge.state is not ChargeState.SUCCEEDED
    could_fall_back = charge.state in (ChargeState.HELD, ChargeState.SUBMITTED) and not charge.delivered
    if replaced and (day is not None or charge.void_requested or not could_fall_back):
        raise lost.objection("another_payer")
    if charge.currency != lost.agreement["currency"] or not _fits(charge, amount_minor):
        raise lost.objection(f"charge_{charge.state.value}")
    if not replaced and charge.state is not ChargeState.SUCCEEDED:
        charge.agreement_id = lost.agreement["id"]
    events: list[Event] = []
    if charge.state is ChargeState.HELD:
        events += await _capture(lost, charge, amount_minor, day)
    if charge.state is ChargeState.DUE:
        if amount_minor < charge.debited_minor:
            events.append(await _reduce(lost, charge, amount_minor))
        events += await submit_due(lost.conn, charge, now=lost.now, recovered=True)
    elif charge.state is ChargeState.ARREARS:
        events.append(await move_charge(lost.conn, charge, ChargeEvent.RETRY, now=lost.now, recovered=True))
    if replaced:
        events.append(await _replace_payer(lost, charge))
    await record(lost.conn, lost.circle.id, *events, now=lost.now)


def _fits(charge: Charge, amount_minor: int) -> bool:
    """Whether that much can have been debited: of what is held any part, of what is due what was not taken off since."""
    if charge.state is ChargeState.HELD:
        return amount_minor <= charge.amount_minor
    if charge.state is ChargeState.DUE:
        return amount_minor <= charge.debited_minor
    return charge.state in (*_SENT, ChargeState.ARREARS) and amount_minor == charge.debited_minor


async def _capture(lost: LostDebit, charge: Charge, amount_minor: int, day: date | None) -> list[Event]:
    held = charge.taken
    charge.captured_minor, charge.delivered = amount_minor, True
    if charge.taken != held:
        await change_usage(lost.conn, charge, before=held, after=charge.taken)
    if day is None:
        return [await move_charge(lost.conn, charge, ChargeEvent.SUBMIT, now=lost.now, recovered=True)]
    charge.due_on = day
    return [await move_charge(lost.conn, charge, ChargeEvent.COLLECT, now=lost.now, due_on=day.isoformat(), recovered=True)]


async def _reduce(lost: LostDebit, charge: Charge, amount_minor: int) -> Event:
    """Some of it had been taken off the day before it was debited."""
    before, less_minor = charge.taken, charge.debited_minor - amount_minor
    charge.captured_minor = amount_minor
    await change_usage(lost.conn, charge, before=before, after=charge.taken)
    return await rewrite_charge(lost.conn, charge, "reduced", now=lost.now, amount_minor=less_minor, recovered=True)


async def _replace_payer(lost: LostDebit, charge: Charge) -> Event:
    """It fell back to another payer's agreement: what it takes goes over to their mandate, as late truth without judgement."""
    mandate = await find_mandate(lost, spender_id=charge.spender_id, spender_end=None)
    await change_usage(lost.conn, charge, before=charge.taken, after=None)
    charge.mandate_id, charge.mandate_version = mandate["id"], mandate["version"]
    charge.agreement_id, charge.payer_id = lost.agreement["id"], lost.agreement["payer_id"]
    await count_late(lost.conn, lost.circle, charge, now=lost.now)
    return await move_charge(lost.conn, charge, ChargeEvent.FALL_BACK, now=lost.now, recovered=True)
