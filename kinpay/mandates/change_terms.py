"""Changing what a mandate allows: lowering acts at once, anything else needs a fresh proof of the payer.

Source: claim 6, [0024] (changeable at any time); semantics.md "Limits"; story S4.3 (nothing is reversed or negative).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kinpay.database import audit
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection
from kinpay.mandates.agreement import SpenderState
from kinpay.mandates.cooling import cools_until
from kinpay.mandates.counters import ensure_counters
from kinpay.mandates.funding import own_agreements, settle_funding
from kinpay.mandates.grant import require_same_currency
from kinpay.mandates.mandate import Debited, Mandate, MandateState
from kinpay.mandates.narrower import is_narrower
from kinpay.mandates.spender_binding import spender_state, want_spender
from kinpay.mandates.store import add_funding, add_version, current_terms, funding_of, lock_mandate
from kinpay.mandates.tell import tell_of_mandate
from kinpay.mandates.terms import Terms
from kinpay.people.lock import LockedCircle, rules_changed
from kinpay.people.proof import burn_proof
from kinpay.primitives.errors import Conflict, NotFound, ProofRequired, WrongState

TERMS: Final = "mandate.terms"
"""The operation that a proof for other terms names; its content is the canonical terms."""
FUNDING: Final = "mandate.funding"
"""The operation that a proof for other funding names; its content is `{"agreement_ids": […]}`."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The number of the version now in force, and whether it allows nothing more than the one before.

    `cools_until`: until when a raise has to cool down; what held before binds besides until then.
    """

    version: int
    lowered: bool
    cools_until: datetime | None = None


async def change_terms(
    conn: Connection, *, mandate_id: str, payer_id: str, terms: Terms, proof_id: str | None, if_version: int | None
) -> Changed:
    """Puts `terms` in force for every reservation from now on. `proof_id`: a verified proof, burnt here.

    Narrower terms need none; if they are below what is used already, nothing remains and nothing is reversed.

    Raises: NotFound for anybody but the payer; WrongState if it ended; Conflict if `if_version` is not the present version;
    ProofRequired; ProofInvalid for a used one; Invalid for another currency.
    """
    circle, mandate = await lock_own(conn, mandate_id, payer_id=payer_id)
    now = await database_now(conn)
    _expect(mandate, if_version)
    await require_same_currency(conn, mandate, terms)
    before = await current_terms(conn, mandate)
    lowered = is_narrower(before, terms)
    await spend_proof(conn, proof_id, needed=not lowered, operation=TERMS, now=now)
    cools = None if lowered else await cools_until(conn, mandate, now=now)
    version = await add_version(conn, mandate, terms, circle=circle, proof_id=proof_id, cools_until=cools, now=now)
    await ensure_counters(
        conn,
        circle=circle,
        scope="mandate",
        scope_id=mandate.id,
        terms=terms,
        consented_at=mandate.created_at,
        now=now,
    )
    await rules_changed(conn, circle.id)
    body = {
        "version": version,
        "terms_hash": terms.hash().hex(),
        "proof": proof_id,
        "charge_seq": circle.charge_seq,
        "lowered": lowered,
        "cools_until": cools.isoformat() if cools else None,
    }
    event = audit.Event("mandate.terms_changed", mandate.id, body, payer_id)
    extra = {"version": version, "lowered": lowered, "terms": terms.canonical()}
    await tell_of_mandate(conn, "mandate_changed", mandate, now=now, extra=extra)
    await audit.record(conn, circle.id, event, now=now)
    return Changed(version, lowered, cools)


async def change_funding(
    conn: Connection,
    *,
    mandate_id: str,
    payer_id: str,
    agreement_ids: Sequence[str],
    proof_id: str | None,
    if_version: int | None,
    debited: Debited | None = None,
) -> Changed:
    """Puts the order of the payer's own agreements in force; a mandate that lacked one goes on, with its counters kept.

    `debited`: with each charge, or once a day; None: as before. Only leaving out some agreements of those in force, in the same
    order, needs no proof; taking a spender whom the payer removed at the provider under the agreement again needs one.

    Raises: NotFound for anybody but the payer, and for agreements of others; WrongState for an ended mandate or an agreement
    that is not active; Conflict; ProofRequired; ProofInvalid; Invalid for none or another currency.
    """
    circle, mandate = await lock_own(conn, mandate_id, payer_id=payer_id)
    now = await database_now(conn)
    before = await funding_of(conn, mandate.id)
    if if_version is not None and (before is None or before.version != if_version):
        raise Conflict(thing="funding")
    currency = (await current_terms(conn, mandate)).currency
    chosen = await own_agreements(
        conn, agreement_ids, circle_id=circle.id, payer_id=payer_id, currency=currency, only_active=True
    )
    lowered = before is not None and _keeps_order(agreement_ids, before.agreement_ids) and debited in (None, before.debited)
    for agreement in chosen:
        lowered &= await spender_state(conn, agreement.id, mandate.spender_id) not in (None, SpenderState.REMOVED)
    await spend_proof(conn, proof_id, needed=not lowered, operation=FUNDING, now=now)
    version = await add_funding(conn, mandate, agreement_ids, now=now, debited=debited)
    for agreement in chosen:
        await want_spender(conn, agreement, mandate.spender_id, now=now)
    await settle_funding(conn, mandate, now=now)
    await rules_changed(conn, circle.id)
    body = {"version": version, "agreements": list(agreement_ids), "debited": debited, "proof": proof_id}
    await audit.record(conn, circle.id, audit.Event("mandate.funding_changed", mandate.id, body, payer_id), now=now)
    return Changed(version, lowered)


async def lock_own(conn: Connection, mandate_id: str, *, payer_id: str) -> tuple[LockedCircle, Mandate]:
    """The payer's own mandate, under its circle's lock. Raises: NotFound for anybody else; WrongState if it ended."""
    circle, mandate = await lock_mandate(conn, mandate_id)
    if mandate.payer_id != payer_id:
        raise NotFound()
    if mandate.state is MandateState.ENDED:
        raise WrongState("mandate", state=str(mandate.state))
    return circle, mandate


async def spend_proof(conn: Connection, proof_id: str | None, *, needed: bool, operation: str, now: datetime) -> None:
    """Uses up the proof if there is one. Raises: ProofRequired if it is needed and missing; ProofInvalid if it was used."""
    if proof_id is not None:
        await burn_proof(conn, proof_id, now=now)
    elif needed:
        raise ProofRequired(operation=operation)


def _expect(mandate: Mandate, version: int | None) -> None:
    if version is not None and version != mandate.version:
        raise Conflict(thing="mandate", version=mandate.version)


def _keeps_order(new: Sequence[str], old: Sequence[str]) -> bool:
    """Whether `new` is `old` with some left out."""
    rest = iter(old)
    return all(ident in rest for ident in new)
