"""Setting a merchant's fare rule: versions are only ever added; rides from now on are reckoned by the newest."""

from __future__ import annotations

from datetime import datetime

from kinpay.database import audit
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import NotFound
from kinpay.terminals.fare import FareRule

LOCK_MERCHANT = Sql("SELECT 1 FROM merchant WHERE id = :merchant_id AND operator_id = :operator_id FOR UPDATE")
NEWEST = Sql("""
    SELECT merchant_id, version, currency, cap_per_day_minor, transfer_within_s, ended FROM fare_rule
    WHERE merchant_id = :merchant_id ORDER BY version DESC LIMIT 1
""")
INSERT = Sql("""
    INSERT INTO fare_rule (merchant_id, version, currency, cap_per_day_minor, transfer_within_s, set_by, since, ended)
    VALUES (:merchant_id, :version, :currency, :cap_per_day_minor, :transfer_within_s, :set_by, :now, :ended)
""")


async def set_fare_rule(
    conn: Connection,
    *,
    operator_id: str,
    merchant_id: str,
    currency: str,
    cap_per_day_minor: int | None,
    transfer_within_s: int | None,
    actor_id: str,
    now: datetime,
) -> FareRule:
    """Puts a rule in force. Raises: NotFound for a merchant of somebody else."""
    version = await _next_version(conn, operator_id=operator_id, merchant_id=merchant_id)
    rule = FareRule(
        merchant_id=merchant_id,
        version=version,
        currency=currency,
        cap_per_day_minor=cap_per_day_minor,
        transfer_within_s=transfer_within_s,
    )
    await _write(conn, rule, operator_id=operator_id, actor_id=actor_id, ended=False, now=now)
    return rule


async def end_fare_rule(conn: Connection, *, operator_id: str, merchant_id: str, actor_id: str, now: datetime) -> None:
    """Lets rides cost what the gate says again; twice is as good as once.

    Raises: NotFound for a merchant of somebody else, or one without a rule.
    """
    version = await _next_version(conn, operator_id=operator_id, merchant_id=merchant_id)
    row = await NEWEST.row(conn, merchant_id=merchant_id)
    if row is None:
        raise NotFound()
    if row["ended"]:
        return
    rule = FareRule(
        merchant_id=merchant_id, version=version, currency=row["currency"], cap_per_day_minor=None, transfer_within_s=None
    )
    await _write(conn, rule, operator_id=operator_id, actor_id=actor_id, ended=True, now=now)


async def fare_rule_of(conn: Connection, *, operator_id: str, merchant_id: str) -> FareRule:
    """The rule in force. Raises: NotFound if there is none, or the merchant is somebody else's."""
    await _next_version(conn, operator_id=operator_id, merchant_id=merchant_id)
    row = await NEWEST.row(conn, merchant_id=merchant_id)
    if row is None or row["ended"]:
        raise NotFound()
    return FareRule(**{name: row[name] for name in FareRule.__slots__})


async def _next_version(conn: Connection, *, operator_id: str, merchant_id: str) -> int:
    if await LOCK_MERCHANT.value(conn, merchant_id=merchant_id, operator_id=operator_id) is None:
        raise NotFound()
    row = await NEWEST.row(conn, merchant_id=merchant_id)
    return 1 if row is None else int(row["version"]) + 1


async def _write(conn: Connection, rule: FareRule, *, operator_id: str, actor_id: str, ended: bool, now: datetime) -> None:
    await INSERT.run(
        conn,
        merchant_id=rule.merchant_id,
        version=rule.version,
        currency=rule.currency,
        cap_per_day_minor=rule.cap_per_day_minor,
        transfer_within_s=rule.transfer_within_s,
        set_by=actor_id,
        now=now,
        ended=ended,
    )
    body = {
        "version": rule.version,
        "currency": rule.currency,
        "cap_per_day_minor": rule.cap_per_day_minor,
        "transfer_within_s": rule.transfer_within_s,
        "ended": ended,
    }
    await audit.record(conn, operator_id, audit.Event("fare.set", rule.merchant_id, body, actor_id), now=now)
