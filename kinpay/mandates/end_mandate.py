"""Stopping a mandate: for a while, or for good. After the answer nothing is reserved under it.

What was reserved before is seen to by the charges: held ones are voided, submitted ones finished (semantics.md "Charge").
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from kinpay.database.pool import database_now
from kinpay.database.sql import Connection
from kinpay.mandates.agreement_store import agreements
from kinpay.mandates.change_terms import lock_own, spend_proof
from kinpay.mandates.funding import settle_funding
from kinpay.mandates.mandate import Mandate, MandateEvent, MandateState, Reason
from kinpay.mandates.spender_binding import drop_spender
from kinpay.mandates.store import funding_of, lock_mandate, move_mandate
from kinpay.mandates.tell import tell_of_mandate
from kinpay.primitives.errors import NotFound

RESUME: Final = "mandate.resume"
"""The operation that a proof for resuming names; its content is the empty object."""
NO_CONTENT: Final[dict[str, Any]] = {}


async def end_mandate(conn: Connection, *, mandate_id: str, person_id: str) -> Mandate:
    """Ends a mandate because its payer revokes or its spender leaves. Twice is as good as once.

    The spender's other mandates and the payer's agreement stay; the provider is told to drop the spender from the agreement.

    Raises: NotFound for anybody else.
    """
    _, mandate = await lock_mandate(conn, mandate_id)
    if person_id not in (mandate.payer_id, mandate.spender_id):
        raise NotFound()
    reason = Reason.PAYER if person_id == mandate.payer_id else Reason.SPENDER
    return await end_locked(conn, mandate, reason=reason, actor_id=person_id, now=await database_now(conn))


async def withdraw_mandate(conn: Connection, mandate_id: str, *, now: datetime) -> Mandate:
    """Ends a mandate that is still pending, because its registration came to nothing; any other is left as it is.

    Raises: NotFound.
    """
    _, mandate = await lock_mandate(conn, mandate_id)
    if mandate.state is not MandateState.PENDING:
        return mandate
    return await end_locked(conn, mandate, reason=Reason.REGISTRATION, actor_id=None, now=now)


async def end_locked(conn: Connection, mandate: Mandate, *, reason: Reason, actor_id: str | None, now: datetime) -> Mandate:
    """Ends a mandate whose circle is locked, drops the spender from its agreements, and tells everybody concerned."""
    if mandate.state is MandateState.ENDED:
        return mandate
    was_pending = mandate.state is MandateState.PENDING
    ended = await move_mandate(conn, mandate, MandateEvent.END, now=now, reason=reason, actor_id=actor_id)
    funding = await funding_of(conn, mandate.id)
    for agreement in await agreements(conn, [] if funding is None else funding.agreement_ids):
        # The only open mandate between the two in this circle, so nothing else needs the spender under the agreement.
        await drop_spender(conn, agreement, mandate.spender_id, now=now)
    if not was_pending:
        await tell_of_mandate(conn, "mandate_ended", ended, now=now)
    return ended


async def pause_mandate(conn: Connection, *, mandate_id: str, payer_id: str) -> Mandate:
    """Stops a mandate until its payer resumes it. Twice is as good as once.

    Raises: NotFound for anybody but the payer; WrongState if it is pending or ended.
    """
    _, mandate = await lock_own(conn, mandate_id, payer_id=payer_id)
    if mandate.state is MandateState.PAUSED:
        return mandate
    now = await database_now(conn)
    paused = await move_mandate(conn, mandate, MandateEvent.PAUSE, now=now, reason=Reason.PAYER, actor_id=payer_id)
    await tell_of_mandate(conn, "mandate_paused", paused, now=now)
    return paused


async def resume_mandate(conn: Connection, *, mandate_id: str, payer_id: str, proof_id: str | None) -> Mandate:
    """Lets a paused mandate go on; without an active agreement it is suspended at once. `proof_id`: verified, burnt here.

    Raises: NotFound for anybody but the payer; WrongState if it is not paused; ProofRequired; ProofInvalid.
    """
    _, mandate = await lock_own(conn, mandate_id, payer_id=payer_id)
    now = await database_now(conn)
    await spend_proof(conn, proof_id, needed=True, operation=RESUME, now=now)
    resumed = await move_mandate(conn, mandate, MandateEvent.RESUME, now=now, actor_id=payer_id)
    await tell_of_mandate(conn, "mandate_resumed", resumed, now=now)
    return await settle_funding(conn, resumed, now=now)
