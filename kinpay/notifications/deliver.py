"""From a message of the outbox to the notices it means: who is told, in which words. Delivering twice tells once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from kinpay.database.pool import Database
from kinpay.database.sql import Connection
from kinpay.notifications.compose import compose
from kinpay.notifications.facts import ChargeFacts, charge_facts, facts_now, left_today, refund_facts
from kinpay.notifications.message import CHARGE_AUDIENCE, UNEVENTFUL_VOIDS, Audience, NoticeKind, Posted, Recipient
from kinpay.notifications.store import Addressed, recipients, write_notices
from kinpay.people.store import people_of

Deliver = Callable[[Posted], Awaitable[None]]

CHARGE_TOPICS: Final[dict[str, NoticeKind]] = {
    "charge.held": NoticeKind.CHARGE_HELD,
    "charge.due": NoticeKind.CHARGE_DUE,
    "charge.refused": NoticeKind.CHARGE_REFUSED,
    "charge.succeeded": NoticeKind.CHARGE_SUCCEEDED,
    "charge.voided": NoticeKind.CHARGE_VOIDED,
    "charge.declined": NoticeKind.CHARGE_DECLINED,
    "charge.owed": NoticeKind.CHARGE_OWED,
    "charge.refunded": NoticeKind.CHARGE_REFUNDED,
    "charge.debited_twice": NoticeKind.CHARGE_DEBITED_TWICE,
    "refund.succeeded": NoticeKind.REFUND_SUCCEEDED,
    "refund.failed": NoticeKind.REFUND_FAILED,
}
"""What charges put into the outbox about themselves, and what it is told as."""
NOTICE_TOPICS: Final[dict[str, NoticeKind]] = {
    f"notice.{kind.value}": kind for kind in NoticeKind if kind not in CHARGE_AUDIENCE
}
"""What everybody else puts there, with the people to tell in `people`."""

_REFUNDS: Final = frozenset({NoticeKind.REFUND_SUCCEEDED, NoticeKind.REFUND_FAILED})
_LEFT_TOLD: Final = frozenset({NoticeKind.CHARGE_SUCCEEDED})
_ROLES: Final = {Audience.APPROVERS: "approver", Audience.VIEWERS: "viewer"}


def tasks(db: Database) -> dict[str, Deliver]:
    """Topic → function, for the worker: every topic that tells people something."""

    async def tell(posted: Posted) -> None:
        await deliver_notice(db, posted)

    async def tell_of_charge(posted: Posted) -> None:
        await deliver_charge(db, posted)

    return {**dict.fromkeys(NOTICE_TOPICS, tell), **dict.fromkeys(CHARGE_TOPICS, tell_of_charge)}


async def deliver_notice(db: Database, posted: Posted) -> int:
    """Tells the people whom the message names, as far as they may be told; returns how many notices are new."""
    kind = NOTICE_TOPICS[posted.topic]
    async with db.transaction() as conn:
        people = await recipients(conn, posted.body.get("people", ()))
        facts, time_zone = await facts_now(conn, posted.body)
        addressed = [_addressed(kind, facts, one, time_zone=time_zone or one.time_zone, posted=posted) for one in people]
        return await write_notices(conn, posted, kind, addressed)


async def deliver_charge(db: Database, posted: Posted) -> int:
    """Tells whom a charge concerns what became of it; returns how many notices are new.

    Raises: NotFound for a charge or refund that is not ours, which a later attempt may find.
    """
    kind = CHARGE_TOPICS[posted.topic]
    if posted.body.get("daily"):
        return 0  # The day is told as a whole.
    async with db.transaction() as conn:
        refund = await refund_facts(conn, posted.subject_id) if kind in _REFUNDS else {}
        charge = await charge_facts(conn, refund.get("charge_id", posted.subject_id))
        if kind is NoticeKind.CHARGE_SUCCEEDED and posted.body.get("late"):
            kind = NoticeKind.CHARGE_SUCCEEDED_LATE
        payers = frozenset({refund["payer_id"]}) if refund else await _payers(conn, kind, charge)
        people = await recipients(conn, await _people(conn, kind, charge, posted, payers))
        if not people:
            return 0
        facts = {**charge.told, **_said(posted), **refund}
        if kind in _LEFT_TOLD:
            facts |= await left_today(conn, charge)
        addressed = [
            _addressed(kind, _seen_by(facts, charge, one, payers), one, time_zone=charge.time_zone, posted=posted)
            for one in people
        ]
        return await write_notices(conn, posted, kind, addressed)


def _said(posted: Posted) -> dict[str, Any]:
    """What the message adds to the charge itself; an amount there is that of a refund."""
    said = {name: posted.body[name] for name in ("reason", "why", "retry_at") if name in posted.body}
    if posted.topic == "charge.refunded":
        said["refund_minor"] = posted.body["amount_minor"]
    return said


async def _payers(conn: Connection, kind: NoticeKind, charge: ChargeFacts) -> frozenset[str]:
    """Whose money it is; for what was refused before any payer was found, everybody who pays in the circle."""
    if charge.payer_ids or kind is not NoticeKind.CHARGE_REFUSED:
        return charge.payer_ids
    return frozenset(await people_of(conn, charge.circle_id, "payer"))


async def _people(conn: Connection, kind: NoticeKind, charge: ChargeFacts, posted: Posted, payers: frozenset[str]) -> set[str]:
    """Who is told: the kind's audience, less those for whom nothing came of it."""
    audience = set(CHARGE_AUDIENCE[kind])
    if kind is NoticeKind.CHARGE_HELD and (charge.capture_at_once or charge.state != "held"):
        return set()  # What follows, or has followed already, says more.
    if kind is NoticeKind.CHARGE_VOIDED and posted.body.get("reason") in UNEVENTFUL_VOIDS:
        audience.discard(Audience.PAYER)
    told = (
        set(await people_of(conn, charge.circle_id, *roles))
        if (roles := [_ROLES[a] for a in audience if a in _ROLES])
        else set()
    )
    if Audience.SPENDER in audience:
        told.add(charge.spender_id)
    if Audience.PAYER in audience:
        told |= payers
    return told


def _seen_by(facts: dict[str, Any], charge: ChargeFacts, reader: Recipient, payers: frozenset[str]) -> dict[str, Any]:
    """Why a provider said no is between it and the payer: the others hear that it did."""
    return {**facts, "cause": charge.cause} if charge.cause and reader.id in payers else facts


def _addressed(kind: NoticeKind, facts: dict[str, Any], recipient: Recipient, *, time_zone: str, posted: Posted) -> Addressed:
    words = compose(kind, facts, reader_id=recipient.id, locale=recipient.locale, time_zone=time_zone, at=posted.created_at)
    return Addressed(recipient=recipient, words=words, facts=facts)
