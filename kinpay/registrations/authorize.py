"""What the provider said of an agreement reaches the registrations that wait for it.

The callback, the return page and the query all end in `mandates.sign_agreement.learn_agreement`; whoever calls that calls
`agreement_learned` in the same transaction. Source: [0025]-[0026]; semantics.md "Registration".
"""

from __future__ import annotations

import logging
from datetime import datetime

from kinpay.biometrics import enrol
from kinpay.biometrics.enrol import Erased
from kinpay.biometrics.keyring import Keyring
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.mandates.agreement import AgreementState
from kinpay.mandates.agreement_store import lock_agreement
from kinpay.mandates.bind_spender import bind_spender_at_provider
from kinpay.mandates.provider_account import Providers
from kinpay.mandates.sign_agreement import open_at_provider
from kinpay.primitives.errors import WrongState
from kinpay.providers.contract import Misconfigured, NotExecuted, UnknownOutcome
from kinpay.registrations import store
from kinpay.registrations.bind import advance, forget_consent, standing_of
from kinpay.registrations.registration import Registration
from kinpay.registrations.store import Standing

log = logging.getLogger(__name__)


async def agreement_learned(conn: Connection, agreement_id: str, *, now: datetime) -> list[Erased]:
    """Carries the agreement's present state to every open registration on it; doing it again changes nothing.

    Active, with the spender bound under it (claim 5): ticked, and bound if it was the last item. Refused, ended, or the spender
    removed: the payer's consent was for that agreement, so it is unticked and the payer may choose again while it is open.

    Returns what is to be given to `enrol.finish` after the commit.
    """
    waiting = await store.open_by_agreement(conn, agreement_id)
    if not waiting:
        return []
    await lock_agreement(conn, agreement_id)
    erased: list[Erased] = []
    for registration_id in waiting:
        registration = await store.lock(conn, registration_id)
        if registration.is_open and registration.agreement_id == agreement_id:
            erased += await _carry(conn, registration, now=now)
    return erased


async def _carry(conn: Connection, registration: Registration, *, now: datetime) -> list[Erased]:
    standing = await standing_of(conn, registration)
    if standing is Standing.ACTIVE and registration.agreement_active_at is None:
        registration = await store.note_agreement(conn, registration, now=now)
    elif standing is Standing.GONE:
        registration = await forget_consent(conn, registration, reason=str(standing), now=now)
    _, erased = await advance(conn, registration, actor_id=None, now=now)
    return erased


async def carry_agreement(db: Database, keyring: Keyring, *, agreement_id: str) -> None:
    """The outbox task for `agreement.active`, `agreement.closed` and `agreement.spender_bound`: the same, for whoever could
    not wait; may run any number of times.
    """
    async with db.transaction() as conn:
        erased = await agreement_learned(conn, agreement_id, now=await database_now(conn))
    await enrol.finish(keyring, erased)


async def authorize(
    db: Database, providers: Providers, *, keyring: Keyring, registration: Registration, public_url: str
) -> None:
    """After the payer's yes is committed: asks the provider for the agreement, or to bind the spender under the one there is.

    What fails here is done again by the schedule and the outbox, under the same keys; so nothing is raised for it.
    """
    agreement_id = registration.agreement_id
    if agreement_id is None or not registration.is_open:
        return
    agreement = await open_at_provider(db, providers, agreement_id, public_url=public_url)
    if agreement.state is AgreementState.ACTIVE:
        try:
            await bind_spender_at_provider(db, providers, agreement_id, registration.spender_id)
        except (UnknownOutcome, NotExecuted, Misconfigured, WrongState) as error:
            log.warning("spender not bound yet", extra={"agreement": agreement_id, "error": type(error).__name__})
    await carry_agreement(db, keyring, agreement_id=agreement_id)
