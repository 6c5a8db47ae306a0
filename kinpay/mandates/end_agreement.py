"""Ending an agreement from our side: here first, so that nothing is reserved after the answer; then the provider is told."""

from __future__ import annotations

from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.mandates.agreement import OPEN_STATES, Agreement, AgreementEvent, AgreementState
from kinpay.mandates.agreement_store import agreement_row, lock_agreement, move_agreement
from kinpay.mandates.provider_account import Providers
from kinpay.mandates.sign_agreement import after_move, enqueue_end
from kinpay.primitives.errors import NotFound, ProviderUnavailable
from kinpay.providers.contract import AgreementState as Seen
from kinpay.providers.contract import NotKnown


async def end_agreement(conn: Connection, *, agreement_id: str, payer_id: str) -> Agreement:
    """Ends the payer's own agreement; mandates resting on it alone are suspended. Twice is as good as once.

    The provider is told by the outbox task `agreement.end`, until it answers.

    Raises: NotFound for anybody but the payer.
    """
    _, agreement = await lock_agreement(conn, agreement_id)
    if agreement.payer_id != payer_id:
        raise NotFound()
    if agreement.state not in OPEN_STATES:
        return agreement
    now = await database_now(conn)
    ended = await move_agreement(conn, agreement, AgreementEvent.END, now=now, ended_by="payer", actor_id=payer_id)
    await after_move(conn, ended, now=now)
    await enqueue_end(conn, ended, now=now)
    return ended


async def end_at_provider(db: Database, providers: Providers, agreement_id: str) -> None:
    """Tells the provider that an agreement was ended here: the task `agreement.end`. Already ended there is as good.

    Raises: NotFound; UnknownOutcome, NotExecuted, Misconfigured or ProviderUnavailable: the task is to be tried again.
    """
    async with db.connection() as conn:
        agreement = await agreement_row(conn, agreement_id)
    if agreement is None:
        raise NotFound()
    if agreement.state is not AgreementState.ENDED:
        return
    provider = await providers.adapter(agreement.provider_account_id)
    try:
        seen = await provider.get_agreement(agreement.id)
    except NotKnown:
        # It never got there. Should our request still arrive, its first word comes to `learn_agreement`, which ends it.
        return
    if seen.state in (Seen.PENDING, Seen.ACTIVE):
        seen = await provider.end_agreement(seen.provider_ref, reason="ended by the payer")
    if seen.state in (Seen.PENDING, Seen.ACTIVE):
        raise ProviderUnavailable(agreement=agreement_id)
