"""Telling the provider which spenders are under a payer's agreement (claim 5, [0024]). Outside every transaction."""

from __future__ import annotations

from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.mandates.agreement import Agreement, AgreementState, SpenderState
from kinpay.mandates.agreement_store import agreement_row, lock_agreement
from kinpay.mandates.provider_account import Providers
from kinpay.mandates.sign_agreement import learn_agreement
from kinpay.mandates.spender_binding import mark_bound, spender_state, want_again
from kinpay.mandates.store import names_of
from kinpay.people.lock import rules_changed
from kinpay.primitives.errors import NotFound, WrongState
from kinpay.providers.contract import ProviderAgreement, SpenderAtProvider


async def bind_spender_at_provider(db: Database, providers: Providers, agreement_id: str, spender_id: str) -> bool:
    """Has the provider record a spender who is wanted under an active agreement: the task `agreement.bind_spender`.

    A provider that cannot (`binds_spenders`) leaves it to us. Returns whether the spender is bound now; False for one who is
    wanted no more. Idempotent here and there.

    Raises: NotFound; WrongState if the agreement is not active; UnknownOutcome, NotExecuted, Misconfigured: try again.
    """
    async with db.connection() as conn:
        agreement, state = await _look(conn, agreement_id, spender_id)
        name = (await names_of(conn, [spender_id])).get(spender_id, "")
    if state is not SpenderState.WANTED:
        return state is SpenderState.BOUND
    if agreement.state is not AgreementState.ACTIVE or agreement.provider_ref is None:
        raise WrongState("agreement", state=str(agreement.state), event="bind_spender")
    provider = await providers.adapter(agreement.provider_account_id)
    seen = None
    if provider.can.binds_spenders:
        spender = SpenderAtProvider(ref=spender_id, name=name)
        seen = await provider.bind_spender(agreement.provider_ref, spender)
    return await _bound(db, agreement_id, spender_id, seen=seen)


async def _bound(db: Database, agreement_id: str, spender_id: str, *, seen: ProviderAgreement | None) -> bool:
    async with db.transaction() as conn:
        _, agreement = await lock_agreement(conn, agreement_id)
        now = await database_now(conn)
        if seen is not None:
            await learn_agreement(conn, agreement_id, seen=seen, now=now)
        done = seen is None or spender_id not in seen.removed_spender_refs
        if done and await mark_bound(conn, agreement, spender_id, now=now):
            await rules_changed(conn, agreement.circle_id)
        return await spender_state(conn, agreement_id, spender_id) is SpenderState.BOUND


async def unbind_spender_at_provider(db: Database, providers: Providers, agreement_id: str, spender_id: str) -> None:
    """Has the provider drop a spender whose mandate ended: the task `agreement.unbind_spender`. Idempotent here and there.

    One who came back meanwhile is left alone, or bound again if the two crossed.

    Raises: NotFound; UnknownOutcome, NotExecuted, Misconfigured: try again.
    """
    async with db.connection() as conn:
        agreement, state = await _look(conn, agreement_id, spender_id)
    if state is not SpenderState.REMOVED or agreement.state is not AgreementState.ACTIVE or agreement.provider_ref is None:
        return
    provider = await providers.adapter(agreement.provider_account_id)
    if not provider.can.binds_spenders:
        return
    seen = await provider.unbind_spender(agreement.provider_ref, spender_ref=spender_id)
    async with db.transaction() as conn:
        _, agreement = await lock_agreement(conn, agreement_id)
        now = await database_now(conn)
        if await spender_state(conn, agreement_id, spender_id) is not SpenderState.REMOVED:
            await want_again(conn, agreement, spender_id, now=now)
        await learn_agreement(conn, agreement_id, seen=seen, now=now)


async def _look(conn: Connection, agreement_id: str, spender_id: str) -> tuple[Agreement, SpenderState | None]:
    agreement = await agreement_row(conn, agreement_id)
    if agreement is None:
        raise NotFound()
    return agreement, await spender_state(conn, agreement_id, spender_id)
