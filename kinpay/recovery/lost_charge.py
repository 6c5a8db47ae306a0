"""A charge that was lost with the database is made again: under its own id or mark, at its own moment, in its own windows.

It is counted and not judged by limits: it is late truth.
Source: semantics.md "Charge" (late truth); reliability.md F26.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from kinpay.charges.description import SaidPart
from kinpay.charges.request import Charge
from kinpay.charges.rolled import unroll
from kinpay.charges.store import CHARGE_COLUMNS, charge_of, read_charges
from kinpay.charges.usage import count_late
from kinpay.database.audit import Event, record
from kinpay.database.sql import Record, Sql
from kinpay.primitives.ids import is_id, marked_id
from kinpay.recovery.lost import LostDebit
from kinpay.recovery.unknown_seller import Seller

BETWEEN: Final = timedelta(days=31)
"""How much earlier than its debit a charge may have been decided: the longest hold, and some arrears."""

INSERT_CHARGE = Sql("""
    INSERT INTO charge (id, circle_id, seq, operator_id, merchant_id, terminal_id, spender_id, mandate_id, mandate_version,
                        agreement_id, payer_id, method, mcc, currency, amount_minor, captured_minor, state, capture_at_once,
                        delivered, late, decided_at)
    VALUES (:id, :circle_id, :seq, :operator_id, :merchant_id, :terminal_id, :spender_id, :mandate_id, :mandate_version,
            :agreement_id, :payer_id, :method, :mcc, :currency, :amount_minor, :amount_minor, 'submitted', true, true, true,
            :decided_at)
""")
NEXT_SEQ = Sql("UPDATE audit_lane SET charge_seq = charge_seq + 1 WHERE id = :circle_id RETURNING charge_seq")
NOTE = Sql("""
    INSERT INTO recovered_charge (charge_id, circle_id, debit_id, mark, recovered_at)
    VALUES (:charge_id, :circle_id, :debit_id, :mark, :now)
""")
# The spender as the provider knows them, or as the debit's description tells the end of their id; where neither is told, the
# only one whose mandate this agreement funds.
MANDATE = Sql("""
    WITH mine AS (
        SELECT m.id, m.version, m.spender_id, m.state <> 'ended' AS open, m.created_at,
               EXISTS (SELECT FROM settlement_rule s WHERE s.mandate_id = m.id AND :agreement_id::uuid = ANY(s.agreement_ids))
               AS funded
        FROM mandate m WHERE m.circle_id = :circle_id AND m.payer_id = :payer_id
    )
    SELECT id, version, spender_id FROM mine
    WHERE CASE WHEN :spender_id::uuid IS NOT NULL THEN spender_id = :spender_id
               WHEN :spender_end::text IS NOT NULL THEN right(spender_id::text, 8) = :spender_end
               ELSE funded AND (SELECT count(DISTINCT spender_id) FROM mine WHERE funded) = 1 END
    ORDER BY open DESC, funded DESC, created_at DESC LIMIT 1
""")
# By the mark that its id bears, too: a till that repeated its request since has made a new charge for it, which the lost debit
# pays for then. One that came to nothing is no such charge.
FIND = Sql(f"""
    SELECT {CHARGE_COLUMNS} FROM charge
    WHERE circle_id = :circle_id AND decided_at > :since AND right(id::text, 8) = :mark
      AND state IN ('held', 'due', 'submitted', 'succeeded', 'arrears')
    ORDER BY decided_at, id LIMIT 1 FOR UPDATE
""")


async def find_charge(lost: LostDebit, part: SaidPart) -> Charge | None:
    """The charge that is here, or one that was made here since for the same request; None if there is neither."""
    if part.charge_id is not None:
        found = (await read_charges(lost.conn, [part.charge_id])).get(part.charge_id)
        if found is not None:
            return found
    since = (lost.known.debit.finished_at or lost.now) - BETWEEN
    row = await FIND.row(lost.conn, circle_id=lost.circle.id, since=since, mark=part.mark)
    return None if row is None else charge_of(row)


async def find_mandate(lost: LostDebit, *, spender_id: str | None, spender_end: str | None) -> Record:
    """Whose charge it was, by the mandate's id, version and spender. Raises: Objection if nobody can tell."""
    mandate = await MANDATE.row(
        lost.conn,
        circle_id=lost.circle.id,
        payer_id=lost.agreement["payer_id"],
        agreement_id=lost.agreement["id"],
        spender_id=spender_id,
        spender_end=spender_end,
    )
    if mandate is None:
        raise lost.objection("mandate_unknown")
    return mandate


async def make_again(lost: LostDebit, part: SaidPart, seller: Seller, *, amount_minor: int, day: date | None) -> Charge:
    """Makes a lost charge again, submitted and counted in its own windows. Raises: Objection if nobody knows whose it was."""
    told = lost.known.spender_ref
    mandate = await find_mandate(lost, spender_id=told if is_id(told) else None, spender_end=part.spender_end)
    charge_id = part.charge_id or marked_id(part.mark)
    named: dict[str, Any] = {
        "merchant_id": seller.merchant_id,
        "terminal_id": seller.terminal_id,
        "spender_id": mandate["spender_id"],
        "mandate_id": mandate["id"],
        "mandate_version": mandate["version"],
        "agreement_id": lost.agreement["id"],
        "payer_id": lost.agreement["payer_id"],
        "method": "pay_code",
        "mcc": seller.mcc,
        "currency": lost.known.debit.amount.currency,
        "amount_minor": amount_minor,
    }
    decided_at = await _moment_of(lost, part, day)
    circle_id = lost.circle.id
    seq = await NEXT_SEQ.value(lost.conn, circle_id=circle_id)
    about = {"circle_id": circle_id, "operator_id": lost.circle.operator_id, "decided_at": decided_at}
    await INSERT_CHARGE.run(lost.conn, id=charge_id, seq=seq, **about, **named)
    charge = (await read_charges(lost.conn, [charge_id]))[charge_id]
    await count_late(lost.conn, lost.circle, charge, now=lost.now)
    await unroll(lost.conn, charge, now=lost.now)
    await NOTE.run(lost.conn, charge_id=charge_id, circle_id=circle_id, debit_id=lost.key, mark=part.mark, now=lost.now)
    state = {"state": "submitted", "captured_minor": amount_minor, "delivered": True, "late": True, "capture_at_once": True}
    body = {**named, **state, "decided_at": decided_at.isoformat(), "debit_id": lost.key}
    await record(lost.conn, circle_id, Event("charge.recovered", charge_id, body), now=lost.now)
    return charge


END_OF_DAY = Sql("""
    SELECT ((:day::date + 1)::timestamp AT TIME ZONE time_zone) - interval '1 second' FROM operator WHERE id = :operator_id
""")


async def _moment_of(lost: LostDebit, part: SaidPart, day: date | None) -> datetime:
    """When the charge was decided: its id was made then, to the millisecond. Else the end of its day, or of the debit."""
    latest = min(lost.known.debit.finished_at or lost.now, lost.now)
    if part.charge_id is not None:
        made_at = datetime.fromtimestamp(int(part.charge_id[:12], 16) / 1000, UTC)
        if latest - BETWEEN <= made_at <= latest:
            return made_at
    if day is not None:
        end: datetime = await END_OF_DAY.value(lost.conn, day=day, operator_id=lost.circle.operator_id)
        return min(end, latest)
    return latest
