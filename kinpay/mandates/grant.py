"""Granting a mandate: first pending, with the evidence of what exactly the payer consented to; active once nothing is missing.

Source: [0024] (limits are set before agreeing), [0029] (binding); claims 5-7.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kinpay.database import audit
from kinpay.database.sql import Connection
from kinpay.mandates.agreement_store import agreements
from kinpay.mandates.cooling import cools_until
from kinpay.mandates.counters import ensure_counters
from kinpay.mandates.funding import own_agreements, settle_funding
from kinpay.mandates.mandate import Mandate, MandateEvent, MandateState
from kinpay.mandates.narrower import is_narrower
from kinpay.mandates.spender_binding import want_spender
from kinpay.mandates.store import (
    add_funding,
    add_version,
    current_terms,
    funding_of,
    insert_mandate,
    lock_mandate,
    move_mandate,
    open_mandate,
)
from kinpay.mandates.terms import Terms
from kinpay.people.lock import LockedCircle, lock_circle, rules_changed
from kinpay.primitives.errors import Invalid


async def propose(
    conn: Connection,
    *,
    circle_id: str,
    payer_id: str,
    spender_id: str,
    terms: Terms,
    agreement_ids: Sequence[str],
    proof_id: str | None,
    now: datetime,
) -> str:
    """Writes what the payer consented to: a pending mandate, its version 1 and its first settlement rule. Returns its id.

    Over an open mandate between the same two it is the next version of that one, at once; agreements it had and that are not
    named come after those named. `agreement_ids` may still wait for the payer's signature. The proof is burnt by the caller.

    Raises: NotFound, WrongState or Invalid for agreements that cannot fund it; Invalid if the currency would change.
    """
    circle = await lock_circle(conn, circle_id)
    given = await own_agreements(
        conn, agreement_ids, circle_id=circle_id, payer_id=payer_id, currency=terms.currency, only_active=False
    )
    mandate = await open_mandate(conn, circle_id=circle_id, payer_id=payer_id, spender_id=spender_id)
    if mandate is None:
        mandate = await insert_mandate(conn, circle_id=circle_id, payer_id=payer_id, spender_id=spender_id, now=now)
        kept: list[str] = []
    else:
        await require_same_currency(conn, mandate, terms)
        kept = await _still_open(conn, mandate, besides=agreement_ids)
    version = await _consent(conn, circle, mandate, terms, proof_id=proof_id, now=now)
    await add_funding(conn, mandate, [*agreement_ids, *kept], now=now)
    for agreement in given:
        await want_spender(conn, agreement, spender_id, now=now)
    await ensure_counters(
        conn, circle=circle, scope="mandate", scope_id=mandate.id, terms=terms, consented_at=mandate.created_at, now=now
    )
    await rules_changed(conn, circle_id)
    body = {"version": version, "payer": payer_id, "spender": spender_id, "agreements": [*agreement_ids, *kept]}
    await audit.record(conn, circle_id, audit.Event("mandate.proposed", mandate.id, body, payer_id), now=now)
    return mandate.id


async def _consent(
    conn: Connection, circle: LockedCircle, mandate: Mandate, terms: Terms, *, proof_id: str | None, now: datetime
) -> int:
    """Writes the version and the event that shows by its hash what was consented to."""
    before = await current_terms(conn, mandate) if mandate.version else None
    lowered = before is not None and is_narrower(before, terms)
    cools = None if before is None or lowered else await cools_until(conn, mandate, now=now)
    version = await add_version(conn, mandate, terms, circle=circle, proof_id=proof_id, cools_until=cools, now=now)
    body = {
        "version": version,
        "terms_hash": terms.hash().hex(),
        "proof": proof_id,
        "charge_seq": circle.charge_seq,
        "cools_until": cools.isoformat() if cools else None,
    }
    await audit.record(conn, circle.id, audit.Event("mandate.consented", mandate.id, body, mandate.payer_id), now=now)
    return version


async def _still_open(conn: Connection, mandate: Mandate, *, besides: Sequence[str]) -> list[str]:
    funding = await funding_of(conn, mandate.id)
    before = [] if funding is None else [ident for ident in funding.agreement_ids if ident not in besides]
    return [found.id for found in await agreements(conn, before) if found.state == "active"]


async def require_same_currency(conn: Connection, mandate: Mandate, terms: Terms) -> None:
    """Its counters are kept in one currency for ever. Raises: Invalid if `terms` are in another."""
    if (await current_terms(conn, mandate)).currency != terms.currency:
        raise Invalid("currency_differs", field="terms.currency")


async def activate(conn: Connection, mandate_id: str, *, now: datetime) -> Mandate:
    """Lets the spender spend: the last item of the registration is there. Twice is as good as once.

    A paused or suspended mandate that was consented to anew goes on; without an active agreement it is (or stays) suspended.

    Raises: NotFound; WrongState for an ended one.
    """
    _, mandate = await lock_mandate(conn, mandate_id)
    if mandate.state is MandateState.ENDED or mandate.state is MandateState.PENDING:
        mandate = await move_mandate(conn, mandate, MandateEvent.ACTIVATE, now=now)
    elif mandate.state is MandateState.PAUSED:
        mandate = await move_mandate(conn, mandate, MandateEvent.RESUME, now=now)
    return await settle_funding(conn, mandate, now=now)
