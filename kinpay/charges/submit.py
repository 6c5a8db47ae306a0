"""From a reservation to the provider: commit the debit first, then call, then book what the provider says.

The provider is never called inside a transaction. What it does not say is unknown, and stays reserved.
Source: semantics.md "Charge"; reliability.md §1c (S1-S5); providers.md §1.3.
"""

from __future__ import annotations

import logging
from datetime import datetime

from kinpay.charges.books import description_of, lock_charge, move_charge, read_debit, write_debit
from kinpay.charges.charge import ChargeEvent, ChargeState
from kinpay.charges.collect import collect, give_for_nothing
from kinpay.charges.request import Charge
from kinpay.charges.settle import Settlement, settle_debit
from kinpay.charges.usage import change_usage
from kinpay.database.audit import record
from kinpay.database.outbox import enqueue
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.people.lock import LockedCircle
from kinpay.primitives.errors import Invalid, WrongState
from kinpay.providers.contract import Adapters, DebitRequest, Misconfigured, NotExecuted, ProviderDebit, UnknownOutcome

log = logging.getLogger(__name__)


async def capture_charge(
    db: Database, adapters: Adapters, charge_id: str, *, amount_minor: int | None, delivered: bool, actor_id: str
) -> Charge:
    """Captures a held charge and debits the payer; returns the charge as it is afterwards (submitted: not known yet).

    `amount_minor` None captures everything; less releases the difference. `delivered`: the goods were handed over already.

    Raises: NotFound; WrongState; Invalid for more than was authorised.
    """
    async with db.transaction() as conn:
        debit_id = await commit_debit(conn, charge_id, amount_minor=amount_minor, delivered=delivered, actor_id=actor_id)
    await drive(db, adapters, debit_id)
    async with db.transaction() as conn:
        _, charge = await lock_charge(conn, charge_id)
    return charge


async def drive(db: Database, adapters: Adapters, debit_id: str | None) -> None:
    """Sends a committed debit, and each fallback that a definitive refusal leads to. None: there is nothing to send."""
    while debit_id is not None:
        debit_id = (await send_debit(db, adapters, debit_id)).next_debit_id


async def commit_debit(
    conn: Connection, charge_id: str, *, amount_minor: int | None, delivered: bool, actor_id: str
) -> str | None:
    """HELD → SUBMITTED under the circle's lock, with the debit's row; returns its id, which is the provider's order number.

    None where there is nothing to send: the mandate or the agreement is no longer active, and the charge was voided instead; or
    it costs nothing; or the payer is debited once a day, and it is due.

    Raises: NotFound; WrongState unless held; Invalid for more than was authorised.
    """
    circle, charge = await lock_charge(conn, charge_id)
    now = await database_now(conn)
    if charge.state is not ChargeState.HELD:
        raise WrongState("charge", state=charge.state.value, event="submitted")
    wanted = charge.amount_minor if amount_minor is None else amount_minor
    if wanted > charge.amount_minor:
        raise Invalid("capture_above_authorised", field="amount_minor", authorised_minor=charge.amount_minor)
    if (daily := await _still_allowed(conn, charge)) is None:
        await void_held(conn, circle, charge, reason="no_longer_allowed", now=now)
        return None
    if wanted == 0:
        await give_for_nothing(conn, circle, charge, actor_id=actor_id, now=now)
        return None
    if daily:
        await collect(conn, circle, charge, wanted_minor=wanted, actor_id=actor_id, now=now)
        return None
    held = charge.taken
    charge.captured_minor, charge.delivered = wanted, delivered
    if wanted < charge.amount_minor:
        await change_usage(conn, charge, before=held, after=charge.taken)
    moved = await move_charge(conn, charge, ChargeEvent.SUBMIT, now=now, actor_id=actor_id)
    debit_id, sent = await write_debit(conn, [charge], kind="charge", now=now)
    await record(conn, circle.id, moved, sent, now=now)
    return debit_id


STILL_ALLOWED = Sql("""
    SELECT (SELECT debited = 'daily' FROM settlement_rule r WHERE r.mandate_id = m.id ORDER BY version DESC LIMIT 1)
    FROM mandate m, agreement a, circle c
    WHERE m.id = :mandate_id AND a.id = :agreement_id AND c.id = :circle_id
      AND m.state = 'active' AND a.state = 'active' AND c.state = 'active'
      AND NOT EXISTS (SELECT 1 FROM agreement_spender s
                      WHERE s.agreement_id = a.id AND s.spender_id = m.spender_id AND s.state = 'removed')
""")


async def _still_allowed(conn: Connection, charge: Charge) -> bool | None:
    """Whether the payer is debited once a day; None if nothing may be sent any more."""
    daily: bool | None = await STILL_ALLOWED.value(
        conn, mandate_id=charge.mandate_id, agreement_id=charge.agreement_id, circle_id=charge.circle_id
    )
    return daily


async def void_held(
    conn: Connection, circle: LockedCircle, charge: Charge, *, reason: str, now: datetime, actor_id: str | None = None
) -> None:
    """Gives up a held charge: amount and count are released."""
    await change_usage(conn, charge, before=charge.taken, after=None)
    moved = await move_charge(conn, charge, ChargeEvent.VOID, now=now, actor_id=actor_id, reason=reason)
    await record(conn, circle.id, moved, now=now)
    await enqueue(conn, "charge.voided", lane=circle.id, subject_id=charge.id, body={"reason": reason}, now=now)


async def send_debit(db: Database, adapters: Adapters, debit_id: str) -> Settlement:
    """Sends a committed debit and books the answer. Safe to repeat: the key is the debit's id, for ever.

    Whatever is not an answer leaves it unknown, to be queried.
    """
    request, account_id = await debit_request(db, debit_id)
    try:
        provider = await adapters.adapter(account_id)
        seen = await provider.debit(request)
    except (UnknownOutcome, NotExecuted, Misconfigured) as error:
        log.info("debit not known", extra={"debit_id": debit_id, "error": type(error).__name__})
        return await mark_unknown(db, debit_id)
    return await book_debit(db, debit_id, seen)


async def debit_request(db: Database, debit_id: str) -> tuple[DebitRequest, str]:
    """What is sent to the provider for a debit, and to which provider account. Raises: NotFound."""
    async with db.connection() as conn:
        debit = await read_debit(conn, debit_id)
        description = await description_of(conn, debit)
    request = DebitRequest(
        key=debit.id,
        agreement_ref=debit.agreement_ref,
        spender_ref=debit.spender_ref,
        amount=debit.amount,
        description=description,
    )
    return request, debit.provider_account_id


async def book_debit(db: Database, debit_id: str, seen: ProviderDebit) -> Settlement:
    """Books what the provider says of a debit, in a transaction of its own."""
    async with db.transaction() as conn:
        return await settle_debit(conn, debit_id, seen)


MARK_UNKNOWN = Sql("""
    UPDATE debit
    SET unknown = true, attempts = attempts + 1,
        next_check_at = :now::timestamptz + make_interval(secs => least(300, 3 * 2 ^ least(attempts, 7)))
    WHERE id = :debit_id AND state = 'submitted'
""")


async def mark_unknown(db: Database, debit_id: str) -> Settlement:
    """Notes that whoever waits is told *not known yet*; the reconciler asks the provider after 3 s, 6 s … 5 min."""
    async with db.transaction() as conn:
        await MARK_UNKNOWN.run(conn, debit_id=debit_id, now=await database_now(conn))
    return Settlement(known=False)
