"""How deliveries are claimed by a sender, and how what became of an attempt is kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from kinpay.database import audit
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Record, Sql
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys
from kinpay.webhooks.delivery import DELIVERY_LIFE, FAILING_FOR, DeliveryEvent, DeliveryState, Leased, Share, retry_after
from kinpay.webhooks.endpoint import DisabledReason
from kinpay.webhooks.outbound import Sent
from kinpay.webhooks.secret import PURPOSE

# Each endpoint by itself, so that one whose deliveries all wait or hang takes nobody else's place; of each charge only the
# earliest that is still open. What is under way is counted over all processes: an endpoint's first slot comes before anybody's
# second, and those that fail, all second slots together, and all endpoints of one merchant have a bound each, so that
# however many of them hang, there is a slot for whoever takes its messages. The look at what is earlier is one by its index for
# each row that is due (LIMIT 1 keeps it so), and LIMIT 4, no parameter, keeps the rest by an index too, however many wait.
CLAIM = Sql("""
    WITH busy AS MATERIALIZED (
        SELECT w.id, w.operator_id, w.merchant_id, w.failing_since IS NOT NULL AS failing, l.number
        FROM (SELECT endpoint_id, count(*) AS number FROM webhook_delivery WHERE lease_until > :now GROUP BY endpoint_id) l
        JOIN webhook_endpoint w ON w.id = l.endpoint_id
    ), due AS (
        SELECT found.id, found.next_attempt_at, e.operator_id, e.merchant_id, e.failing,
               e.under_way + row_number() OVER (PARTITION BY e.id ORDER BY found.next_attempt_at, found.id) AS place
        FROM (
            SELECT w.id, w.operator_id, w.merchant_id, w.failing_since IS NOT NULL AS failing,
                   coalesce(b.number, 0) AS under_way
            FROM webhook_endpoint w LEFT JOIN busy b ON b.id = w.id WHERE w.enabled
        ) e CROSS JOIN LATERAL (
            SELECT d.id, d.next_attempt_at FROM webhook_delivery d
            WHERE d.endpoint_id = e.id AND d.state = 'pending' AND d.next_attempt_at <= :now
              AND (d.lease_until IS NULL OR d.lease_until < :now)
              AND (SELECT true FROM webhook_delivery p
                   WHERE p.endpoint_id = d.endpoint_id AND p.subject_id = d.subject_id AND p.state = 'pending'
                     AND p.seq < d.seq LIMIT 1) IS NULL
            ORDER BY d.next_attempt_at LIMIT 4 FOR UPDATE OF d SKIP LOCKED
        ) found
        WHERE e.under_way < CASE WHEN e.failing THEN 1 ELSE :each::bigint END
    ), placed AS (
        SELECT *, row_number() OVER (PARTITION BY failing, place > 1 ORDER BY place, next_attempt_at, id) AS rank
        FROM due WHERE place <= CASE WHEN failing THEN 1 ELSE :each::bigint END
    ), fair AS (
        SELECT *, row_number() OVER (PARTITION BY operator_id, merchant_id ORDER BY place, next_attempt_at, id) AS turn
        FROM placed
        WHERE rank <= CASE
            WHEN failing THEN :failing::bigint - (SELECT coalesce(sum(number), 0) FROM busy WHERE busy.failing)
            WHEN place > 1 THEN :further::bigint - (SELECT coalesce(sum(number - 1), 0) FROM busy WHERE NOT busy.failing)
            ELSE :at_most::bigint END
    ), free AS (
        SELECT id FROM fair
        WHERE turn <= :of_one::bigint - (SELECT coalesce(sum(number), 0) FROM busy
                                         WHERE busy.operator_id = fair.operator_id
                                           AND busy.merchant_id IS NOT DISTINCT FROM fair.merchant_id)
        ORDER BY place, next_attempt_at LIMIT :at_most
    )
    UPDATE webhook_delivery d
    SET attempts = d.attempts + 1, tries = d.tries + 1, fence = d.fence + 1, lease_until = :now::timestamptz + :lease
    FROM free, webhook_event v, webhook_endpoint e
    WHERE d.id = free.id AND v.id = d.event_id AND e.id = d.endpoint_id
    RETURNING d.id, d.event_id, d.endpoint_id, d.subject_id, d.seq, d.attempts, d.tries, d.fence, e.url, v.body
""")


async def claim(conn: Connection, *, at_most: int, share: Share, lease: timedelta) -> list[Leased]:
    """Leases what is due: at most `at_most`, and of what is under way no more than `share` allows."""
    now = await database_now(conn)
    shares = {"each": share.each, "of_one": share.of_one, "further": share.further, "failing": share.failing}
    rows = await CLAIM.rows(conn, at_most=at_most, **shares, lease=lease, now=now)
    return [Leased(**row, now=now) for row in rows]


SECRETS = Sql("""
    SELECT id, endpoint_id, sealed FROM webhook_secret
    WHERE endpoint_id = ANY(:endpoints) AND (expires_at IS NULL OR expires_at > kinpay_now())
    ORDER BY created_at DESC, id DESC
""")


async def secrets_of(conn: Connection, keys: ServerKeys, endpoint_ids: Sequence[str]) -> dict[str, list[Sealed[bytes]]]:
    """The secrets that sign for each endpoint now, newest first. Raises: SealBroken."""
    found: dict[str, list[Sealed[bytes]]] = {endpoint_id: [] for endpoint_id in endpoint_ids}
    for row in await SECRETS.rows(conn, endpoints=sorted(found)):
        found[row["endpoint_id"]].append(Sealed(keys.unseal(row["sealed"], purpose=PURPOSE, bound_to=row["id"])))
    return found


MOVE = Sql("""
    UPDATE webhook_delivery
    SET state = :to, lease_until = NULL, next_attempt_at = :next_attempt_at::timestamptz,
        finished_at = CASE WHEN :to <> 'pending' THEN :now::timestamptz END
    WHERE id = :id AND fence = :fence AND state = 'pending'
""")
# What waits behind it is due with it, or, once it is over, now.
FOLLOW = Sql("""
    UPDATE webhook_delivery SET next_attempt_at = :due
    WHERE endpoint_id = :endpoint_id AND subject_id = :subject_id AND state = 'pending' AND seq > :seq
""")
NOTE = Sql("""
    INSERT INTO webhook_attempt (delivery_id, number, at, duration_ms, status, answer, error)
    VALUES (:delivery_id, :number, :at, :duration_ms, :status, :answer, :error)
""")


async def record(conn: Connection, leased: Leased, sent: Sent, *, jitter: float) -> bool:
    """Keeps how an attempt went and says when the next one is; False if the lease was lost and nothing was kept."""
    now = await database_now(conn)
    state, due = _after(leased, sent, now=now, jitter=jitter)
    next_attempt_at = due if state is DeliveryState.PENDING else None
    moved = {"id": leased.id, "fence": leased.fence, "to": state.value, "now": now, "next_attempt_at": next_attempt_at}
    if not await MOVE.run(conn, **moved):
        return False
    await FOLLOW.run(conn, endpoint_id=leased.endpoint_id, subject_id=leased.subject_id, seq=leased.seq, due=due)
    await NOTE.run(
        conn,
        delivery_id=leased.id,
        number=leased.attempts,
        at=leased.now,
        duration_ms=sent.duration_ms,
        status=sent.status,
        answer=sent.answer,
        error=sent.error,
    )
    await _judge_endpoint(conn, leased, sent, now=now)
    return True


def _after(leased: Leased, sent: Sent, *, now: datetime, jitter: float) -> tuple[DeliveryState, datetime]:
    """The state that an attempt leads to, and when this delivery, or else what waits behind it, is due."""
    if sent.error is None:
        return DELIVERY_LIFE.after(DeliveryState.PENDING, DeliveryEvent.TAKEN), now
    pause = None if sent.status == 410 else retry_after(leased.tries, jitter=jitter)
    if pause is None:
        return DELIVERY_LIFE.after(DeliveryState.PENDING, DeliveryEvent.GIVEN_UP), now
    return DeliveryState.PENDING, now + pause


WELL = Sql("UPDATE webhook_endpoint SET failing_since = NULL WHERE id = :id AND failing_since IS NOT NULL")
FAILED = Sql("UPDATE webhook_endpoint SET failing_since = :now WHERE id = :id AND failing_since IS NULL")
DISABLE = Sql("""
    UPDATE webhook_endpoint SET enabled = false, disabled_reason = :reason, disabled_at = :now
    WHERE id = :id AND enabled AND (:reason = 'gone' OR failing_since <= :now::timestamptz - :failing_for::interval)
    RETURNING operator_id
""")


async def _judge_endpoint(conn: Connection, leased: Leased, sent: Sent, *, now: datetime) -> None:
    if sent.error is None:
        await WELL.run(conn, id=leased.endpoint_id)
        return
    await FAILED.run(conn, id=leased.endpoint_id, now=now)
    reason = DisabledReason.GONE if sent.status == 410 else DisabledReason.FAILING
    row: Record | None = await DISABLE.row(conn, id=leased.endpoint_id, reason=reason.value, now=now, failing_for=FAILING_FOR)
    if row is not None:
        event = audit.Event("webhook.disabled", leased.endpoint_id, {"reason": reason.value})
        await audit.record(conn, row["operator_id"], event, now=now)


PRUNE = Sql("""
    DELETE FROM webhook_event WHERE id IN (
        SELECT id FROM webhook_event WHERE created_at < kinpay_now() - :kept::interval ORDER BY created_at LIMIT :at_most)
""")


async def forget_events(db: Database, *, kept: timedelta, at_once: int = 5_000) -> int:
    """Forgets events older than `kept` with their deliveries and attempts, `at_once` a transaction; returns how many."""
    count = 0
    while True:
        async with db.transaction() as conn:
            forgotten = await PRUNE.run(conn, kept=kept, at_most=at_once)
        count += forgotten
        if forgotten < at_once:
            return count
