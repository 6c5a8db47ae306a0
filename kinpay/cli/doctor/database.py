"""What the database says: its version, schema and settings, its clock, and what lies about in it undone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import asyncpg

from kinpay.cli.doctor.found import Found, ok, told, warning, wrong
from kinpay.cli.doctor.here import count_keys
from kinpay.database.migrate import is_fit, migrations
from kinpay.database.sql import Record, Sql
from kinpay.server.backlog import LOOK
from kinpay.server.settings import Settings
from kinpay_postgres.keep_log import SLOT, drop_slot_command

OLDEST: Final = 150_000
CLOCK_S: Final = 2.0
LATE_S: Final = 300.0
CHECKPOINT_LATE_S: Final = 1800.0
STATEMENT_LATE_S: Final = 6 * 3600.0

ABOUT = Sql("""
    SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS shown,
           current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
           current_setting('synchronous_commit') AS synchronous_commit,
           current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS connections,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS used,
           pg_is_in_recovery() AS replica, current_setting('transaction_read_only') AS read_only,
           (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS pgvector
""")
CLOCK = Sql("SELECT extract(epoch FROM clock_timestamp())::float8")
# These read whole tables, as nothing else may: the doctor is asked now and then, by a person.
UNDONE = Sql("""
    SELECT (SELECT count(*) FROM outbox WHERE dead_at IS NOT NULL) AS dead,
           (SELECT string_agg(DISTINCT topic, ', ') FROM outbox WHERE dead_at IS NOT NULL) AS dead_topics,
           (SELECT count(*) FROM template WHERE destroyed_at IS NULL) AS templates
""")


def look_at_server(about: Record | Mapping[str, Any], settings: Settings) -> Iterator[Found]:
    """PostgreSQL itself."""
    if about["version"] < OLDEST:
        yield wrong("PostgreSQL", f"{about['shown']} is too old", "upgrade to 15 or newer")
    else:
        yield ok("PostgreSQL", about["shown"])
    if about["replica"] or about["read_only"] == "on":
        yield wrong(
            "PostgreSQL", "this is a replica or read-only", "point KINPAY_DATABASE_URL at the primary: limits hold only there"
        )
    risky = [name for name in ("fsync", "full_page_writes", "synchronous_commit") if about[name] == "off"]
    if risky:
        off = ", ".join(risky)
        yield wrong("durability", f"off: {off}", "turn it on: what a till was told could be forgotten by a crash")
    else:
        yield ok("durability", "fsync, full_page_writes and synchronous_commit are on")
    yield _room(about, settings)
    if about["pgvector"] is None:
        yield told("pgvector", "not available; galleries are searched in memory")
    else:
        yield told("pgvector", f"{about['pgvector']} is available, see galleries")


def _room(about: Record | Mapping[str, Any], settings: Settings) -> Found:
    """Two processes of ours side by side, as during an upgrade, have to fit."""
    wanted = settings.max_connections * (2 if settings.worker == "inside" else 3)
    says = (
        f"{about['connections']} allowed, {about['used']} in use, each process of ours takes up to {settings.max_connections}"
    )
    if about["connections"] < settings.max_connections:
        return wrong("connections", says, "raise max_connections or lower KINPAY_MAX_CONNECTIONS")
    if about["connections"] < wanted:
        return warning("connections", says, f"allow {wanted}, so that old and new processes fit side by side")
    return ok("connections", says)


VERSION = Sql("SELECT max(version) FROM schema_migration")


async def look_at_schema(conn: Any) -> Found:
    """Whether the schema is this program's."""
    own = len(migrations())
    try:
        version = await VERSION.value(conn)
        fit = await is_fit(conn)
    except asyncpg.UndefinedTableError:
        return wrong("schema", "the database is empty", "run `kinpay migrate`")
    if version == own:
        return ok("schema", f"version {own}, as this program's")
    if fit:
        return told("schema", f"version {version}, which this program ({own}) can work with", "finish the upgrade")
    if (version or 0) > own:
        return wrong("schema", f"version {version} is newer than this program ({own})", "run the newer kinpay")
    return wrong("schema", f"version {version or 0} is older than this program ({own})", "run `kinpay migrate`")


async def look_at_clock(conn: Any) -> Found:
    """How far this machine's clock is from the database's, which alone decides; measured around one question."""
    before = time.time()
    theirs: float = await CLOCK.value(conn)
    after = time.time()
    return judge_clock(theirs - (before + after) / 2, uncertain_s=(after - before) / 2)


def judge_clock(apart_s: float, *, uncertain_s: float) -> Found:
    """Terminals sign with the time, and this machine's clock is held against it."""
    says = f"this machine is {abs(apart_s):.1f} s {'behind' if apart_s > 0 else 'ahead of'} the database"
    if abs(apart_s) - uncertain_s > CLOCK_S:
        return warning("clock", says, "let both follow NTP: signatures of terminals carry the time")
    return ok("clock", says)


KEPT = Sql("""
    SELECT active, wal_status = 'lost' AS lost,
           greatest(pg_wal_lsn_diff(CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() END, restart_lsn), 0)::float8
               AS held_back
    FROM pg_replication_slots WHERE slot_name = :slot
""")


def judge_log(slot: dict[str, Any] | None) -> Found:
    """The receiver of the log: without it a backup ends at its last copy, and while it is away a disk fills."""
    if slot is None:
        return told("backup", "nobody keeps the log: what was written since the last copy can be lost", "docs/backup.md")
    if slot["lost"]:
        return wrong("backup", "the server gave up log before it was kept", "start `kinpay backup TO --wal`, and make a copy")
    held = f"{(slot['held_back'] or 0.0) / 1e6:.0f} MB of the log wait"
    if not slot["active"]:
        do = f"start `kinpay backup TO --wal`; if no log is to be kept any more: {drop_slot_command()}"
        return wrong("backup", f"the receiver of the log is away, and {held} on the server's disk", do)
    return ok("backup", f"the log is being kept; {held} to be sent")


async def look_at_work(conn: Any, settings: Settings) -> list[Found]:
    """What is left to do, and what was given up."""
    open_now = await LOOK.row(conn, at_most=100_000, slot=SLOT)
    slot = await KEPT.row(conn, slot=SLOT)
    undone = await UNDONE.row(conn)
    keys = count_keys(settings.keyring)
    assert open_now is not None
    assert undone is not None, "each is one row of subqueries"
    return [
        *judge_work(dict(open_now)),
        _dead(undone["dead"], undone["dead_topics"]),
        judge_keys(keys, undone["templates"]),
        judge_log(None if slot is None else dict(slot)),
    ]


def judge_work(now: dict[str, Any]) -> Iterator[Found]:
    """From the columns of `backlog.LOOK`."""
    oldest = now["outbox_oldest_s"] or 0.0
    says = f"{now['outbox_open']} open, the oldest due for {oldest:.0f} s"
    late = oldest > LATE_S
    yield warning("outbox", says, "is a worker running? see docs/alerts.md") if late else ok("outbox", says)
    overdue = now["webhooks_overdue_s"] or 0.0
    says = f"{now['webhooks_pending']} events to be sent, the next attempt overdue for {overdue:.0f} s"
    yield warning("webhooks", says, "no worker sends them: start `kinpay worker`") if overdue > LATE_S else ok("webhooks", says)
    if now["webhooks_disabled"]:
        yield told("webhooks", f"{now['webhooks_disabled']} endpoints are disabled, as they failed for long or said 410")
    inbox = now["inbox_open"]
    says = f"{inbox} callbacks not applied"
    yield (
        warning("inbox", says, "the log says why (`callback`); debits are asked about meanwhile")
        if inbox
        else ok("inbox", says)
    )
    overdue = now["debits_overdue_s"] or 0.0
    says = f"{now['debits_unknown']} debits unknown, the oldest question overdue for {overdue:.0f} s"
    if overdue > LATE_S:
        yield warning("errands", says, "no worker asks the providers: start `kinpay worker`, or KINPAY_WORKER=inside")
    else:
        yield ok("errands", says)
    age = now["checkpoint_age_s"]
    if age is None:
        yield told("checkpoint", "none was signed yet")
    elif age > CHECKPOINT_LATE_S:
        yield warning("checkpoint", f"the last was signed {age:.0f} s ago", "a worker signs one every five minutes: start one")
    else:
        yield ok("checkpoint", f"the last was signed {age:.0f} s ago")
    if now["breaks_open"]:
        yield warning("reconciliation", f"{now['breaks_open']} breaks open", "`kinpay reconcile` lists them")
    else:
        yield ok("reconciliation", "no break is open")
    yield judge_statements(now["statement_overdue_s"])
    if now["arrears_open"]:
        yield told("arrears", f"{now['arrears_open']} charges delivered and not paid; they are tried again by themselves")


def judge_statements(overdue_s: float | None) -> Found:
    """`overdue_s`: for how long the oldest unread statement of a provider should have been there; None without an account."""
    if overdue_s is None:
        return told("statements", "no provider account is to be reconciled")
    if overdue_s > STATEMENT_LATE_S:
        says = f"a provider's day was not read, {overdue_s / 3600:.0f} h after it should have been there"
        return warning("statements", says, "see docs/alerts.md, KinpayStatementLate: money may be missing and nobody sees it")
    return ok("statements", "every day of the providers that should be there was read" if not overdue_s else "the last is due")


def _dead(dead: int, topics: str | None) -> Found:
    if dead:
        return wrong("given up", f"{dead} messages ({topics})", "see docs/alerts.md, KinpayMessageGivenUp")
    return ok("given up", "no message")


def judge_keys(keys: int, templates: int) -> Found:
    """A template needs its key; a key without a template is swept away within the hour."""
    says = f"{keys} keys for {templates} templates"
    if keys < templates:
        return wrong(
            "keyring", says, "templates without a key are closed for ever: mount the right KINPAY_KEYRING or restore it"
        )
    return ok("keyring", says)
