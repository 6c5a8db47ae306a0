"""Whatever a superuser changes by hand is found, and the row is named. Source: threat A29."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from kinpay.audit.check import check
from kinpay.audit.findings import Finding
from kinpay.database.pool import Database
from kinpay.mandates.mandate import MandateEvent
from kinpay.mandates.store import mandate_row, move_mandate
from kinpay.primitives.ids import new_id
from tests.audit import story as stories

pytestmark = pytest.mark.books_broken


@asynccontextmanager
async def by_hand(db: Database) -> AsyncIterator[Any]:
    """A superuser at the database, for whom no trigger fires."""
    async with db.transaction() as conn:
        await conn.execute("SET LOCAL session_replication_role = replica")
        yield conn


async def found(db: Database) -> list[Finding]:
    """What the audit says."""
    async with db.connection() as conn:
        return await check(conn)


def names(findings: Sequence[Finding], row: str, invariant: str) -> bool:
    """Whether some finding of the invariant names the row."""
    return any(row in "/".join(finding.ids) and finding.invariant.startswith(invariant) for finding in findings)


SOME = {
    "held": "(SELECT id FROM charge WHERE state = 'held')",
    "a_posting": "(entry_id, account_id) = (SELECT entry_id, account_id FROM posting LIMIT 1)",
    "a_window": "(counter_id, window_start) = (SELECT counter_id, window_start FROM usage LIMIT 1)",
    "a_link": "(lane, seq) = (SELECT lane, seq FROM audit_event WHERE seq = 9 LIMIT 1)",
    "a_mandate": "(SELECT id FROM mandate LIMIT 1)",
    "a_refund": "(SELECT id FROM refund LIMIT 1)",
    "an_entry": "(SELECT id FROM entry WHERE kind = 'debit' LIMIT 1)",
    "a_circle": "(SELECT id FROM circle LIMIT 1)",
    "version": "replace(mandate_id::text, '-', '') || '/1'",
    "link": "replace(lane::text, '-', '') || '/' || seq",
    "next_link": "replace(lane::text, '-', '') || '/' || (seq + 1)",
}

# What was changed, which invariant must speak, and the statement that changes it; it returns the row that must be named.
DEFECTS = [
    ("altered charge amount", "A29",
     "UPDATE charge SET amount_minor = amount_minor + 1 WHERE id = {held} RETURNING id"),
    ("altered captured amount", "A29",
     "UPDATE charge SET captured_minor = captured_minor - 1 WHERE id = (SELECT id FROM charge WHERE captured_minor "
     "> 600 LIMIT 1) RETURNING id"),
    ("altered charge state", "A29",
     "UPDATE charge SET state = 'succeeded', captured_minor = amount_minor WHERE state = 'held' RETURNING id"),
    ("a success that no debit stands for", "I1",
     "UPDATE charge SET state = 'succeeded' WHERE state = 'declined' RETURNING id"),
    ("altered place", "A29", "UPDATE charge SET seq = seq + 100 WHERE state = 'held' RETURNING id"),
    ("another mandate's version", "A29",
     "UPDATE charge SET mandate_version = 2 WHERE state = 'held' RETURNING id"),
    ("another merchant", "I17", "UPDATE charge SET merchant_id = id WHERE state = 'held' RETURNING id"),
    ("another circle", "I17",
     "UPDATE charge SET circle_id = (SELECT max(id::text)::uuid FROM circle WHERE id <> charge.circle_id) WHERE "
     "state = 'held' RETURNING id"),
    ("a circle that is not there", "I17", "UPDATE charge SET circle_id = id WHERE state = 'held' RETURNING id"),
    ("a longer hold", "A29",
     "UPDATE charge SET hold_expires_at = hold_expires_at + interval '1 day' WHERE state = 'held' RETURNING id"),
    ("no end of a hold", "I2", "UPDATE charge SET hold_expires_at = NULL WHERE state = 'held' RETURNING id"),
    ("a debt forgotten", "A29", "UPDATE charge SET owed_since = NULL WHERE state = 'arrears' RETURNING id"),
    ("deleted charge", "A29", "DELETE FROM charge WHERE state = 'held' RETURNING id"),
    ("deleted debit", "A29", "DELETE FROM debit WHERE state = 'submitted' RETURNING id"),
    ("altered debit amount", "I1",
     "UPDATE debit SET amount_minor = amount_minor + 1 WHERE state = 'submitted' RETURNING id"),
    ("altered debit", "A29",
     "UPDATE debit SET amount_minor = amount_minor + 1 WHERE state = 'submitted' RETURNING id"),
    ("a debit nobody asks for", "I2",
     "UPDATE debit SET next_check_at = NULL WHERE state = 'submitted' RETURNING id"),
    ("a debit of another payer", "I17", "UPDATE debit SET payer_id = id WHERE state = 'submitted' RETURNING id"),
    ("a debit that became a failure", "A29",
     "UPDATE debit SET state = 'failed' WHERE id = (SELECT id FROM debit WHERE state = 'succeeded' LIMIT 1) "
     "RETURNING id"),
    ("altered refund", "A29",
     "UPDATE refund SET amount_minor = amount_minor + 1 WHERE id = {a_refund} RETURNING id"),
    ("a refund above its debit", "I8",
     "UPDATE refund SET amount_minor = 100000 WHERE id = (SELECT id FROM refund WHERE state = 'succeeded' LIMIT 1) "
     "RETURNING debit_id"),
    ("a refund to another debit", "A29", "UPDATE refund SET debit_id = id WHERE id = {a_refund} RETURNING id"),
    ("deleted refund", "A29", "DELETE FROM refund WHERE id = {a_refund} RETURNING id"),
    ("deleted share", "I1",
     "DELETE FROM charge_debit WHERE debit_id = (SELECT id FROM debit WHERE state = 'submitted') RETURNING "
     "debit_id"),
    ("altered posting", "I3",
     "UPDATE posting SET amount_minor = amount_minor + 1 WHERE {a_posting} RETURNING entry_id"),
    ("altered currency of a posting", "I3",
     "UPDATE posting SET currency = 'USD' WHERE {a_posting} RETURNING entry_id"),
    ("an entry altered on both sides", "I3",
     "UPDATE posting SET amount_minor = amount_minor * 2 WHERE entry_id = (SELECT id FROM entry LIMIT 1) RETURNING "
     "entry_id"),
    ("deleted posting", "I3", "DELETE FROM posting WHERE {a_posting} RETURNING entry_id"),
    ("deleted entry", "A29", "DELETE FROM entry WHERE id = {an_entry} RETURNING id"),
    ("a debit booked as nothing", "I3", "DELETE FROM entry WHERE id = {an_entry} RETURNING debit_id"),
    ("an account of somebody else", "I3",
     "UPDATE ledger_account SET owner_id = id WHERE id = (SELECT id FROM ledger_account WHERE kind = 'merchant') "
     "RETURNING id"),
    ("altered usage", "I4", "UPDATE usage SET amount_minor = 0 WHERE {a_window} RETURNING counter_id"),
    ("altered count", "I4", "UPDATE usage SET count = count + 1 WHERE {a_window} RETURNING counter_id"),
    ("carried from nowhere", "I4", "UPDATE usage SET carried_minor = 1 WHERE {a_window} RETURNING counter_id"),
    ("deleted usage", "I4", "DELETE FROM usage WHERE {a_window} RETURNING counter_id"),
    ("a window moved", "I22",
     "UPDATE usage SET window_end = window_end + interval '1 hour' WHERE {a_window} RETURNING counter_id"),
    ("altered mandate terms", "I7",
     "UPDATE mandate_version SET terms = jsonb_set(terms, '{{limits,0,at_most}}', '999999') WHERE mandate_id = "
     "{a_mandate} RETURNING {version}"),
    ("terms and hash altered", "A29",
     "UPDATE mandate_version SET terms = '{{}}', terms_hash = "
     "decode('44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a', 'hex') WHERE mandate_id = "
     "{a_mandate} RETURNING {version}"),
    ("agreed to by the spender", "I7",
     "UPDATE mandate_version v SET agreed_by = m.spender_id FROM mandate m WHERE m.id = v.mandate_id AND m.id = "
     "{a_mandate} RETURNING {version}"),
    ("a mandate revived", "A29", "UPDATE mandate SET state = 'ended' WHERE id = {a_mandate} RETURNING id"),
    ("a spender who pays", "I7", "UPDATE mandate SET payer_id = spender_id WHERE id = {a_mandate} RETURNING id"),
    ("an agreement ended by hand", "A29",
     "UPDATE agreement SET state = 'ended' WHERE id = (SELECT id FROM agreement LIMIT 1) RETURNING id"),
    ("funding by a stranger's agreement", "I17",
     "UPDATE settlement_rule SET agreement_ids = (SELECT array_agg(id) FROM agreement) WHERE mandate_id = "
     "{a_mandate} RETURNING {version}"),
    ("a credential of somebody else", "A29",
     "UPDATE credential SET person_id = id WHERE id = (SELECT id FROM credential LIMIT 1) RETURNING id"),
    ("a frozen circle thawed by hand", "A29",
     "UPDATE circle SET state = 'frozen' WHERE id = {a_circle} RETURNING id"),
    ("the zone changed by hand", "A29",
     "UPDATE circle SET time_zone = 'Pacific/Kiritimati' WHERE id = {a_circle} RETURNING id"),
    ("altered audit body", "I11",
     "UPDATE audit_event SET body = replace(body, '100', '999') WHERE kind = 'charge.held' AND body LIKE '%100%' "
     "RETURNING {link}"),
    ("altered audit time", "I11",
     "UPDATE audit_event SET at = at + interval '1 microsecond' WHERE {a_link} RETURNING {link}"),
    ("altered actor", "I11", "UPDATE audit_event SET actor_id = subject_id WHERE {a_link} RETURNING {link}"),
    ("deleted audit row", "I11", "DELETE FROM audit_event WHERE {a_link} RETURNING {next_link}"),
    ("an unreadable body", "I11", "UPDATE audit_event SET body = '{{' WHERE {a_link} RETURNING {link}"),
    ("truncated tail", "I11",
     "DELETE FROM audit_event e USING audit_lane l WHERE l.id = e.lane AND e.seq = l.seq RETURNING lane"),
    ("a vanished lane", "I11", "DELETE FROM audit_lane WHERE id = {a_circle} RETURNING id"),
    ("nobody is told", "I13", "DELETE FROM outbox WHERE subject_id = {held} RETURNING subject_id"),
    ("a filter altered", "I7",
     "UPDATE counter SET filter = '{{\"mccs\": [\"0000\"]}}' WHERE id = (SELECT id FROM counter WHERE filter <> '{{}}' "
     "LIMIT 1) RETURNING id"),
]  # fmt: skip


@pytest.mark.parametrize(("invariant", "statement"), [case[1:] for case in DEFECTS], ids=[case[0] for case in DEFECTS])
async def test_a_planted_defect_is_named(db: Database, invariant: str, statement: str) -> None:
    await stories.tell(db)
    async with by_hand(db) as conn:
        row = await conn.fetchval(statement.format(**SOME))
    assert row is not None, "the defect was not planted"
    findings = await found(db)
    assert names(findings, row, invariant), [str(finding) for finding in findings]


async def test_a_forged_charge_is_named(db: Database) -> None:
    story = await stories.tell(db)
    async with by_hand(db) as conn:
        every = await conn.fetch("SELECT column_name FROM information_schema.columns WHERE table_name = 'charge'")
        columns = ", ".join(f'"{row[0]}"' for row in every if row[0] != "id")
        forged = story.charges[0][:-4] + "ffff"
        await conn.execute(
            f"INSERT INTO charge (id, {columns}) SELECT $1, {columns} FROM charge WHERE state = 'succeeded' LIMIT 1", forged
        )
    assert names(await found(db), forged, "A29")
    assert names(await found(db), forged, "I1")


async def test_a_forged_entry_is_named(db: Database) -> None:
    story = await stories.tell(db)
    forged = story.charges[0][:-4] + "ffff"
    async with by_hand(db) as conn:
        await conn.execute(
            "INSERT INTO entry SELECT $1, circle_id, kind, charge_id, debit_id, refund_id, at FROM entry"
            " WHERE kind = 'debit' LIMIT 1",
            forged,
        )
        await conn.execute(
            "INSERT INTO posting SELECT $1, account_id, circle_id, currency, amount_minor, at FROM posting WHERE entry_id ="
            " (SELECT id FROM entry WHERE kind = 'debit' AND id <> $1 LIMIT 1)",
            forged,
        )
    assert names(await found(db), forged, "A29")


async def test_swapped_audit_rows_are_named(db: Database) -> None:
    await stories.tell(db)
    async with by_hand(db) as conn:
        lane = await conn.fetchval("SELECT lane FROM audit_event WHERE seq = 12 LIMIT 1")
        for before, after in ((10, -1), (11, 10), (-1, 11)):
            await conn.execute("UPDATE audit_event SET seq = $3 WHERE lane = $1 AND seq = $2", lane, before, after)
    findings = await found(db)
    assert names(findings, f"{lane}/10", "I11")


async def test_a_trigger_that_is_off_is_named(db: Database) -> None:
    async with db.transaction() as conn:
        await conn.execute("ALTER TABLE posting DISABLE TRIGGER append_only")
        await conn.execute("DROP TRIGGER append_only_whole ON audit_event")
    findings = await found(db)
    assert {(finding.table, *finding.ids) for finding in findings} == {
        ("posting", "append_only"),
        ("audit_event", "append_only_whole"),
    }


async def test_an_emptied_trigger_function_is_named(db: Database) -> None:
    async with db.transaction() as conn:
        await conn.execute(
            "CREATE OR REPLACE FUNCTION forbid_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"
        )
    assert {finding.invariant[:3] for finding in await found(db)} == {"I10"}


async def test_a_dropped_unique_key_is_named(db: Database) -> None:
    async with db.transaction() as conn:
        await conn.execute("ALTER TABLE request_key DROP CONSTRAINT request_key_pkey")
        await conn.execute("DROP INDEX mandate_one_open")
        await conn.execute("ALTER TABLE charge DROP CONSTRAINT charge_pkey")
    assert {finding.table for finding in await found(db)} == {"request_key", "mandate", "charge"}


async def test_constraints_taken_away_are_named(db: Database) -> None:
    async with db.transaction() as conn:
        await conn.execute("ALTER DOMAIN amount_minor DROP CONSTRAINT amount_minor_check")
        await conn.execute("ALTER TABLE refund DROP CONSTRAINT refund_check")
    assert {finding.table for finding in await found(db)} == {"amount_minor", "refund"}


async def test_an_overspend_through_lowered_usage_is_named(db: Database) -> None:
    """The program itself was deceived: it approved what the day did not leave any more."""
    story = await stories.begin(db, families=1)
    for _ in range(4):
        await story.ask(story.families[0], 5_000)
    async with by_hand(db) as conn:
        await conn.execute("UPDATE usage SET amount_minor = 0")
    beyond = await story.ask(story.families[0], 4_000)
    findings = await found(db)
    assert names(findings, beyond, "I5"), [str(finding) for finding in findings]
    assert any(finding.invariant.startswith("I4") for finding in findings)


async def test_a_charge_after_the_mandate_ended_is_named(db: Database) -> None:
    """A mandate made active again behind the program's back, so that it approves."""
    story = await stories.begin(db, families=1)
    async with db.transaction() as conn:
        mandate = await mandate_row(conn, story.families[0].mandate_id)
        assert mandate is not None
        await move_mandate(conn, mandate, MandateEvent.PAUSE, now=mandate.created_at)
        await conn.execute("UPDATE mandate SET state = 'active'")
    charge_id = await story.ask(story.families[0], 100)
    findings = await found(db)
    assert names(findings, charge_id, "I6")
    assert names(findings, story.families[0].mandate_id, "A29")


async def test_a_template_past_its_minutes_is_named(db: Database) -> None:
    story = await stories.begin(db, families=1)
    async with by_hand(db) as conn:
        now = await conn.fetchval("SELECT kinpay_now()")
        ids = [new_id() for _ in range(3)]
        for template_id, until in zip(ids, (now - timedelta(minutes=5), None, now + timedelta(minutes=5)), strict=True):
            await conn.execute(
                "INSERT INTO template (id, person_id, key_id, model, model_version, ciphertext, provisional_until, captured_by,"
                " created_at) VALUES ($1, $2, $1, 'm', '1', 'x', $3, $4, $5)",
                template_id, story.families[0].spender_id, until, story.shop.terminal_id, now,
            )  # fmt: skip
    findings = await found(db)
    assert names(findings, ids[0], "I15")
    assert names(findings, ids[1], "I15")
    assert not names(findings, ids[2], "I15")


async def test_somebody_who_is_looked_for_without_a_template_is_named(db: Database) -> None:
    story = await stories.begin(db, families=1)
    spender_id = story.families[0].spender_id
    async with by_hand(db) as conn:
        await conn.execute(
            "INSERT INTO gallery_member (site_id, person_id, reason, joined_at)"
            " SELECT site_id, $1, 'allowed', kinpay_now() FROM terminal WHERE id = $2",
            spender_id, story.shop.terminal_id,
        )  # fmt: skip
    assert names(await found(db), spender_id, "I15")


# Every column of every row that money or permission depends on, with how a superuser might change it.
CHANGES = {
    "charge": {
        "amount_minor": "amount_minor + 1", "captured_minor": "coalesce(captured_minor, amount_minor) - 1", "seq": "seq + 1000",
        "refunded_minor": "refunded_minor + 1", "delivered": "NOT delivered", "late": "NOT late", "mcc": "'0001'",
        "state": "CASE state WHEN 'voided' THEN 'declined' ELSE 'voided' END", "void_requested": "NOT void_requested",
        "merchant_id": "id", "terminal_id": "id", "spender_id": "id", "payer_id": "id", "mandate_id": "id",
        "agreement_id": "id",
        "currency": "'USD'", "method": "CASE method WHEN 'card' THEN 'face' ELSE 'card' END", "credential_id": "id",
        "decided_at": "decided_at + interval '1 second'", "circle_id": "id",
        "owed_since": "coalesce(owed_since, decided_at) + interval '1 s'",
        "capture_at_once": "NOT capture_at_once", "operator_id": "id",
    },
    "debit": {
        "amount_minor": "amount_minor + 1", "state": "CASE state WHEN 'failed' THEN 'succeeded' ELSE 'failed' END",
        "payer_id": "id", "agreement_id": "id", "provider_account_id": "id", "currency": "'USD'", "circle_id": "id",
        "kind": "'daily'", "late": "NOT late", "finished_at": "created_at + interval '9 hours'",
    },
    "refund": {
        "amount_minor": "amount_minor + 1", "state": "CASE state WHEN 'failed' THEN 'succeeded' ELSE 'failed' END",
        "charge_id": "id", "debit_id": "id", "currency": "'USD'",
        "reason": "CASE reason WHEN 'surplus' THEN 'asked' ELSE 'surplus' END",
    },
    "charge_debit": {"amount_minor": "amount_minor + 1", "charge_id": "debit_id", "debit_id": "charge_id"},
    "entry": {"kind": "CASE kind WHEN 'debit' THEN 'capture' ELSE 'debit' END", "charge_id": "id", "at": "at + interval '1 s'"},
    "posting": {"amount_minor": "amount_minor + 1", "currency": "'USD'", "circle_id": "entry_id"},
    "usage": {"amount_minor": "amount_minor + 1", "count": "count + 1", "carried_minor": "1",
              "window_end": "window_end + interval '1 s'"},
    "mandate": {"state": "'paused'", "version": "version + 1", "payer_id": "spender_id", "reason": "'payer'"},
    "mandate_version": {"terms": "'{}'", "terms_hash": "'x'", "agreed_by": "mandate_id",
                        "from_charge_seq": "from_charge_seq + 1"},
    "agreement": {"state": "'ended'", "payer_id": "id", "provider_account_id": "id", "business_type": "'self'"},
    "audit_event": {"body": "body || ' '", "hash": "'x'", "at": "at + interval '1 s'", "kind": "'charge.voided'",
                    "actor_id": "lane"},
}  # fmt: skip
KEYS = {
    "charge_debit": "debit_id", "posting": "entry_id", "usage": "counter_id", "mandate_version": "mandate_id",
    "audit_event": "lane",
}  # fmt: skip


async def test_three_hundred_random_changes_are_all_found(db: Database) -> None:
    """One row changed or deleted, one audit, and back again, three hundred times over one random past."""
    seed = random.SystemRandom().randrange(2**32)
    dice = random.Random(seed)
    story = await stories.tell(db)
    story.families.append(story.families[1])
    await stories.wander(story, dice, 12)
    missed = []
    for _ in range(300):
        table = dice.choice(sorted(CHANGES))
        column = dice.choice(sorted(CHANGES[table]))
        delete = dice.random() < 0.1
        async with db.connection() as conn:
            change = conn.transaction()
            await change.start()
            await conn.execute("SET LOCAL session_replication_role = replica")
            await conn.execute("SET LOCAL synchronous_commit = off")
            row_id = await _change_one(conn, table, column, delete=delete, dice=dice)
            findings = await check(conn) if row_id else []
            await change.rollback()
        if row_id and not names(findings, row_id, ""):
            missed.append((table, "deleted" if delete else column, row_id, [str(finding) for finding in findings][:3]))
    assert not missed, f"seed {seed}: {missed}"


async def _change_one(conn: Any, table: str, column: str, *, delete: bool, dice: random.Random) -> str | None:
    """Changes one random row; None where the schema itself refused, or nothing would differ."""
    key = KEYS.get(table, "id")
    await conn.execute("SELECT setseed($1)", dice.random())
    where = f"ctid = (SELECT ctid FROM {table} ORDER BY random() LIMIT 1)"
    try:
        async with conn.transaction():
            if delete:
                row_id: str | None = await conn.fetchval(f"DELETE FROM {table} WHERE {where} RETURNING {key}")
                return row_id
            value = CHANGES[table][column]
            statement = (
                f"UPDATE {table} SET {column} = {value} WHERE {where} AND {column} IS DISTINCT FROM {value} RETURNING {key}"
            )
            changed: str | None = await conn.fetchval(statement)
            return changed
    except asyncpg.IntegrityConstraintViolationError:
        return None
