"""What owners and back offices do with endpoints. A key of one merchant reaches that merchant's endpoints, and no others."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from kinpay.database import audit
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import Conflict, NotFound, WrongState
from kinpay.primitives.ids import new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys
from kinpay.webhooks.announce import announce_test
from kinpay.webhooks.endpoint import DisabledReason, Endpoint
from kinpay.webhooks.secret import add_secret, replace_secret

MAX_ENDPOINTS: Final = 20
"""Of one merchant, or of the operator as a whole: every event is written once for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEndpoint:
    """What an endpoint shall be. `merchant_id` None: the asking key's own merchant, or all that the asker acts for."""

    merchant_id: str | None
    url: str
    types: Sequence[str]
    description: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What of an endpoint changes; None: stays as it is. An empty `description` is none."""

    url: str | None = None
    types: Sequence[str] | None = None
    description: str | None = None
    enabled: bool | None = None

    def of(self, before: Endpoint) -> Endpoint:
        """The endpoint as it would be. Why and when it was disabled is not judged here."""
        return replace(
            before,
            url=before.url if self.url is None else self.url,
            types=sorted(set(before.types if self.types is None else self.types)),
            description=before.description if self.description is None else self.description or None,
            enabled=before.enabled if self.enabled is None else self.enabled,
        )


def lets_more_out(before: Endpoint, after: Endpoint) -> bool:
    """Whether more leaves than before: to another address, of other types, or at all again."""
    return after.url != before.url or not set(after.types) <= set(before.types) or (after.enabled and not before.enabled)


def told_of(endpoint: Endpoint) -> dict[str, Any]:
    """Where events go and which, for the log, which outlives the endpoint.

    What follows a `?` may be the receiver's secret: of that, the log has the SHA-256 of the whole address only.
    """
    return {
        "url": endpoint.url.partition("?")[0],
        "url_sha256": hashlib.sha256(endpoint.url.encode()).hexdigest(),
        "types": sorted(endpoint.types),
        "enabled": endpoint.enabled,
    }


# The operator's row is locked, so that two askers cannot both take the last free place.
OWNER = Sql("""
    SELECT (SELECT count(*) FROM webhook_endpoint e
            WHERE e.operator_id = o.id AND e.merchant_id IS NOT DISTINCT FROM :merchant_id) AS number
    FROM operator o
    WHERE o.id = :operator_id
      AND (:merchant_id::uuid IS NULL OR EXISTS (SELECT 1 FROM merchant m WHERE m.id = :merchant_id AND m.operator_id = o.id))
    FOR NO KEY UPDATE OF o
""")
INSERT = Sql("""
    INSERT INTO webhook_endpoint (id, operator_id, merchant_id, url, description, types, created_at)
    VALUES (:id, :operator_id, :merchant_id, :url, :description, :types, :now)
""")


async def make_endpoint(
    conn: Connection, keys: ServerKeys, *, actor: Actor, wanted: NewEndpoint
) -> tuple[Endpoint, Sealed[bytes]]:
    """Makes an endpoint and its secret, which is shown this once. Its address was read and judged by the caller.

    Raises: NotFound for a merchant that is not the asker's; Conflict for one endpoint too many.
    """
    merchant_id = wanted.merchant_id or actor.merchant_id
    if not actor.acts_for(operator_id=actor.operator_id, merchant_id=merchant_id):
        raise NotFound()
    number = await OWNER.value(conn, operator_id=actor.operator_id, merchant_id=merchant_id)
    if number is None:
        raise NotFound()
    if number >= MAX_ENDPOINTS:
        raise Conflict(reason="too_many_endpoints", at_most=MAX_ENDPOINTS)
    now, endpoint_id = await database_now(conn), new_id()
    given = {"url": wanted.url, "description": wanted.description, "types": sorted(set(wanted.types))}
    await INSERT.run(conn, id=endpoint_id, operator_id=actor.operator_id, merchant_id=merchant_id, **given, now=now)
    secret = await add_secret(conn, keys, endpoint_id, now=now)
    made = await find_endpoint(conn, endpoint_id, actor=actor)
    await _note(conn, "webhook.made", endpoint_id, actor, now=now, merchant=merchant_id, **told_of(made))
    return made, secret


PAGE = Sql("""
    SELECT id, merchant_id, url, description, types, enabled, disabled_reason, disabled_at, failing_since, created_at
    FROM webhook_endpoint
    WHERE operator_id = :operator_id AND (:merchant_id::uuid IS NULL OR merchant_id = :merchant_id)
      AND (:after::uuid IS NULL OR id < :after) ORDER BY id DESC LIMIT :most
""")


async def endpoints_of(conn: Connection, actor: Actor, *, after: str | None, limit: int) -> list[Endpoint]:
    """The endpoints within the asker's reach, newest first."""
    rows = await PAGE.rows(conn, operator_id=actor.operator_id, merchant_id=actor.merchant_id, after=after, most=limit)
    return [_endpoint(row) for row in rows]


# Locked, as what follows depends on it.
FIND = Sql("""
    SELECT id, merchant_id, url, description, types, enabled, disabled_reason, disabled_at, failing_since, created_at
    FROM webhook_endpoint
    WHERE id = :id AND operator_id = :operator_id AND (:merchant_id::uuid IS NULL OR merchant_id = :merchant_id)
    FOR NO KEY UPDATE
""")


async def find_endpoint(conn: Connection, endpoint_id: str, *, actor: Actor) -> Endpoint:
    """An endpoint within the asker's reach, locked to the end of the transaction. Raises: NotFound."""
    row = await FIND.row(conn, id=endpoint_id, operator_id=actor.operator_id, merchant_id=actor.merchant_id)
    if row is None:
        raise NotFound()
    return _endpoint(row)


async def require_enabled(conn: Connection, endpoint_id: str, *, actor: Actor, event: str) -> Endpoint:
    """An endpoint that is sent to, locked. Raises: NotFound; WrongState while it is disabled, as nothing would come of it."""
    endpoint = await find_endpoint(conn, endpoint_id, actor=actor)
    if not endpoint.enabled:
        raise WrongState("webhook_endpoint", state="disabled", event=event)
    return endpoint


SEE = Sql("""
    SELECT 1 FROM webhook_endpoint
    WHERE id = :id AND operator_id = :operator_id AND (:merchant_id::uuid IS NULL OR merchant_id = :merchant_id)
""")


async def see_endpoint(conn: Connection, endpoint_id: str, *, actor: Actor) -> None:
    """Raises: NotFound for an endpoint that is not within the asker's reach."""
    if await SEE.value(conn, id=endpoint_id, operator_id=actor.operator_id, merchant_id=actor.merchant_id) is None:
        raise NotFound()


def _endpoint(row: Record) -> Endpoint:
    return Endpoint(**row)


CHANGE = Sql("""
    UPDATE webhook_endpoint
    SET url = :url, types = :types, description = :description, enabled = :enabled, disabled_reason = :disabled_reason,
        disabled_at = :disabled_at, failing_since = :failing_since
    WHERE id = :id
""")


# What it took nothing of since it failed, or was gone, begins anew and in order: nothing later was taken before. What waits and
# was never tried is due as it is. Rows of an attempt that ends just now are left to whoever records it: they hold those and
# wait for the endpoint, which we hold.
RESUME = Sql("""
    UPDATE webhook_delivery SET state = 'pending', tries = 0, finished_at = NULL, next_attempt_at = :now
    WHERE id IN (SELECT id FROM webhook_delivery WHERE endpoint_id = :endpoint_id AND state = 'failed' AND finished_at >= :since
                 FOR UPDATE SKIP LOCKED)
       OR id IN (SELECT id FROM webhook_delivery
                 WHERE endpoint_id = :endpoint_id AND state = 'pending' AND (next_attempt_at > :now OR tries > 0)
                 FOR UPDATE SKIP LOCKED)
""")
WAKE = Sql("SELECT pg_notify('webhook', '')")


async def _resume(conn: Connection, before: Endpoint, *, now: datetime) -> None:
    assert before.disabled_at is not None, "a disabled endpoint"
    since = min(before.disabled_at, before.failing_since or before.disabled_at)
    await RESUME.run(conn, endpoint_id=before.id, since=since, now=now)
    await WAKE.value(conn)


async def change_endpoint(conn: Connection, endpoint_id: str, *, actor: Actor, change: Change) -> Endpoint:
    """Changes an endpoint. Switched on again, it gets what was still to be delivered.

    If it was disabled by itself, that is also everything that happened meanwhile, and what was given up since it took anything;
    if somebody had switched it off, what happened meanwhile is not told. Raises: NotFound.
    """
    before = await find_endpoint(conn, endpoint_id, actor=actor)
    now = await database_now(conn)
    after = change.of(before)
    stays = after.enabled == before.enabled
    await CHANGE.run(
        conn,
        id=endpoint_id,
        url=after.url,
        types=after.types,
        description=after.description,
        enabled=after.enabled,
        disabled_reason=before.disabled_reason if stays else (None if after.enabled else DisabledReason.ASKED.value),
        disabled_at=before.disabled_at if stays else (None if after.enabled else now),
        failing_since=before.failing_since if stays else None,
    )
    if after.enabled and before.disabled_reason in (DisabledReason.GONE, DisabledReason.FAILING):
        await _resume(conn, before, now=now)
    changed = {**told_of(after), "before": told_of(before), "lets_more_out": lets_more_out(before, after)}
    await _note(conn, "webhook.changed", endpoint_id, actor, now=now, **changed)
    return await find_endpoint(conn, endpoint_id, actor=actor)


DELETE = Sql("DELETE FROM webhook_endpoint WHERE id = :id")


async def delete_endpoint(conn: Connection, endpoint_id: str, *, actor: Actor) -> None:
    """Removes an endpoint with its secrets, its deliveries and their log. Raises: NotFound."""
    removed = await find_endpoint(conn, endpoint_id, actor=actor)
    await DELETE.run(conn, id=endpoint_id)
    await _note(conn, "webhook.removed", endpoint_id, actor, now=await database_now(conn), **told_of(removed))


async def rotate_secret(
    conn: Connection, keys: ServerKeys, endpoint_id: str, *, actor: Actor, overlap: timedelta
) -> tuple[Sealed[bytes], datetime]:
    """Gives an endpoint a new secret; returns it and until when the ones before sign besides.

    Raises: NotFound; TooMany.
    """
    endpoint = await find_endpoint(conn, endpoint_id, actor=actor)
    now = await database_now(conn)
    secret = await replace_secret(conn, keys, endpoint_id, overlap=overlap, now=now)
    told = {"overlap_s": int(overlap.total_seconds()), **told_of(endpoint)}
    await _note(conn, "webhook.rotated", endpoint_id, actor, now=now, **told)
    return secret, now + overlap


async def send_test(conn: Connection, endpoint_id: str, *, actor: Actor) -> str:
    """Has a test event sent to this endpoint alone; returns its id. Raises: NotFound; WrongState while it is disabled."""
    endpoint = await require_enabled(conn, endpoint_id, actor=actor, event="test")
    return await announce_test(conn, endpoint_id=endpoint_id, operator_id=actor.operator_id, merchant_id=endpoint.merchant_id)


async def _note(conn: Connection, kind: str, endpoint_id: str, actor: Actor, *, now: datetime, **about: Any) -> None:
    await audit.record(conn, actor.operator_id, audit.Event(kind, endpoint_id, about, actor.id), now=now)
