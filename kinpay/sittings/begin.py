"""A sitting begins: the server chooses what is to be done before the camera, and until when."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Final

from kinpay.database.sql import Connection, Sql
from kinpay.faces.liveness import choose_acts
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import NotFound
from kinpay.primitives.ids import new_id
from kinpay.primitives.money import Money
from kinpay.primitives.server_keys import ServerKeys
from kinpay.sittings import hidden, lock_store, store
from kinpay.sittings.claim import Claim, read_claim
from kinpay.sittings.sitting import Purpose, Sitting, SittingEvent, SittingRules, SittingState
from kinpay.terminals.codes import Codes
from kinpay.terminals.store import find_terminal
from kinpay.terminals.terminal import Terminal

_NONCE_BYTES: Final = 18

OPEN_AT = Sql("""
    SELECT id FROM sitting WHERE terminal_id = :terminal_id AND state IN ('asked', 'stepping_up') ORDER BY id FOR UPDATE
""")


async def begin_paying(
    conn: Connection,
    codes: Codes,
    actor: Actor,
    *,
    keys: ServerKeys,
    amount: Money,
    claim: Claim | None,
    rules: SittingRules,
    now: datetime,
) -> Sitting:
    """A sitting for one payment: among everybody of the site, or, with a `claim`, those alone whom it names.

    Raises: NotFound; FaceLocked, FaceDisabled; what `read_claim` raises.
    """
    terminal = await _terminal(conn, actor)
    watched = [terminal.id] if claim is not None else [terminal.id, terminal.site_id]
    lock_store.require_open((await lock_store.locks_of(conn, watched)).values(), now)
    sitting_id, sealed, credential_id = new_id(), None, None
    if claim is not None:
        claimed = await read_claim(conn, codes, claim, operator_id=terminal.operator_id, terminal_id=terminal.id, now=now)
        sealed, credential_id = hidden.seal(keys, claimed.hidden, sitting_id=sitting_id), claimed.credential_id
    purpose = Purpose.RECOGNISE if claim is None else Purpose.VERIFY
    new = _new(sitting_id, terminal, purpose, amount=amount, sealed=sealed, credential_id=credential_id, rules=rules, now=now)
    return await _open(conn, new)


async def begin_enrolling(
    conn: Connection, actor: Actor, *, capture_id: str, consent_id: str, rules: SittingRules, now: datetime
) -> Sitting:
    """A sitting for an open capture at this terminal, which the caller has looked at. Raises: NotFound; FaceDisabled."""
    terminal = await _terminal(conn, actor)
    lock_store.require_open((await lock_store.locks_of(conn, [terminal.id])).values(), now)
    new = _new(new_id(), terminal, Purpose.ENROL, capture_id=capture_id, consent_id=consent_id, rules=rules, now=now)
    return await _open(conn, new)


async def _terminal(conn: Connection, actor: Actor) -> Terminal:
    terminal = await find_terminal(conn, actor.id)
    if terminal is None:
        raise NotFound()
    return terminal


async def _open(conn: Connection, sitting: Sitting) -> Sitting:
    """A terminal has one camera: what it began before is over."""
    for row in await OPEN_AT.rows(conn, terminal_id=sitting.terminal_id):
        earlier = await store.find(conn, row["id"])
        assert earlier is not None, "locked"
        await store.move(conn, earlier, SittingEvent.EXPIRE, now=sitting.asked_at, reasons=("begun_anew",))
    await store.insert(conn, sitting)
    return sitting


def _new(
    sitting_id: str,
    terminal: Terminal,
    purpose: Purpose,
    *,
    rules: SittingRules,
    now: datetime,
    capture_id: str | None = None,
    consent_id: str | None = None,
    amount: Money | None = None,
    sealed: bytes | None = None,
    credential_id: str | None = None,
) -> Sitting:
    return Sitting(
        id=sitting_id,
        operator_id=terminal.operator_id,
        site_id=terminal.site_id,
        terminal_id=terminal.id,
        purpose=purpose,
        state=SittingState.ASKED,
        acts=choose_acts(secrets.randbelow),
        nonce=secrets.token_urlsafe(_NONCE_BYTES),
        capture_id=capture_id,
        consent_id=consent_id,
        amount=amount,
        sealed=sealed,
        person_id=None,
        circle_id=None,
        credential_id=credential_id,
        evidence=None,
        asked_at=now,
        expires_at=now + rules.life,
    )
