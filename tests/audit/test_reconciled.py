"""I21: whatever is changed in what providers told, and in what was made of it, is found and named."""

from __future__ import annotations

from datetime import date

import pytest

from kinpay.audit.check import check
from kinpay.reconciliation.breaks import Resolution
from tests.reconciliation.telling import breaks, line, pay, resolve, take
from tests.statements.conftest import Home, home, wall

__all__ = ["home"]

TENTH, TWELFTH = "provider_statement WHERE day = '2026-03-10'", "provider_statement WHERE day = '2026-03-12'"

# What was done by hand, and the table that must be named.
DEFECTS = [
    ("UPDATE provider_line SET amount_minor = 1 WHERE key = '{orphan}'", "provider_statement"),
    ("UPDATE provider_line SET amount_minor = 1 WHERE key = '{paid}'", "provider_line"),
    ("UPDATE provider_line SET number = number + 100", "provider_statement"),
    ("UPDATE provider_line SET finished_at = finished_at + interval '1 microsecond' WHERE key = '{paid}'",
     "provider_statement"),
    ("DELETE FROM provider_line WHERE key = '{paid}'", "provider_statement"),
    ("DELETE FROM provider_line", "provider_statement"),
    ("INSERT INTO provider_line SELECT statement_id, 99, provider_account_id, kind, key, debit_key, currency, amount_minor,"
     " finished_at FROM provider_line WHERE key = '{paid}'", "provider_line"),
    ("UPDATE provider_statement SET sha256 = '\\x00' WHERE day = '2026-03-10'", "provider_statement"),
    ("UPDATE provider_statement SET breaks = 0 WHERE day = '2026-03-10'", "provider_statement"),
    ("UPDATE provider_statement SET day = '2026-02-01' WHERE day = '2026-03-10'", "provider_statement"),
    (f"DELETE FROM {TWELFTH}", "provider_statement"),
    ("DELETE FROM recon_break WHERE key = '{orphan}'", "recon_break"),
    ("DELETE FROM recon_break WHERE key = '{orphan}'", "provider_line"),
    ("UPDATE recon_break SET state = 'resolved', resolution = 'explained', resolved_at = now() WHERE key = '{orphan}'",
     "recon_break"),
    ("UPDATE recon_break SET state = 'open', resolution = NULL, resolved_at = NULL WHERE key = '{ended}'", "recon_break"),
    ("UPDATE recon_break SET resolution = 'booked' WHERE key = '{ended}'", "recon_break"),
    ("UPDATE recon_break SET resolved_by = NULL WHERE key = '{ended}'", "recon_break"),
    ("UPDATE recon_break SET note = 'no, differently' WHERE key = '{ended}'", "recon_break"),
    ("UPDATE recon_break SET note = NULL WHERE key = '{ended}'", "recon_break"),
    ("UPDATE recon_break SET theirs = jsonb_set(theirs, '{{amount_minor}}', '1') WHERE key = '{orphan}'", "recon_break"),
    ("UPDATE recon_break SET ours = jsonb_set(ours, '{{amount_minor}}', '1') WHERE what = 'missing'", "recon_break"),
    ("UPDATE recon_break SET key = 'another' WHERE key = '{orphan}'", "recon_break"),
    ("DELETE FROM recon_untold", "recon_untold"),
    ("UPDATE recon_untold SET until_day = '9999-01-01'", "recon_untold"),
    ("DELETE FROM recon_break WHERE what = 'missing'", "recon_untold"),
    ("UPDATE recon_progress SET looked_until = '9999-01-01'", "recon_untold"),
    ("ALTER TABLE provider_line DISABLE TRIGGER append_only", "provider_line"),
    ("DROP TRIGGER append_only ON recon_break_line", "recon_break_line"),
]  # fmt: skip


@pytest.mark.books_broken
async def test_each_planted_defect_is_found_and_an_honest_past_is_not(home: Home) -> None:
    keys = {"orphan": "f" * 32, "ended": "e" * 32}
    at = wall("2026-03-10 12:00")
    keys["missing"] = await pay(home, "2026-03-10 10:00", 300)
    keys["paid"] = await pay(home, "2026-03-10 12:00")
    keys["waiting"] = await pay(home, "2026-03-11 12:00", 400)
    await take(home, date(2026, 3, 10), line(keys["paid"], 700, at), line(keys["orphan"], 9900, at), line(keys["ended"], 5, at))
    (ended,) = [one for one in await breaks(home) if one.key == keys["ended"]]
    await resolve(home, ended, Resolution.EXPLAINED)
    await take(home, date(2026, 3, 12))
    keys["fresh"] = await pay(home, "2026-03-13 12:00", 500)
    assert await _said_of(home, "SELECT 1") == set()
    for defect, table in DEFECTS:
        said = await _said_of(home, defect.format(**keys))
        assert ("I10" if "TRIGGER" in defect else "I21", table) in said, defect


async def _said_of(home: Home, defect: str) -> set[tuple[str, str]]:
    """Invariants and tables that the audit names after a change by hand, which is taken back."""
    async with home.db.connection() as conn:
        await conn.execute("BEGIN")
        await conn.execute("SET LOCAL session_replication_role = replica")
        await conn.execute(defect)
        found = {(finding.invariant.split()[0], finding.table) for finding in await check(conn, overdue_after=None)}
        await conn.execute("ROLLBACK")
    return found


async def test_lines_are_never_changed_by_the_program(home: Home) -> None:
    await take(home, date(2026, 3, 10), line("f" * 32, 9900, wall("2026-03-10 12:00")))
    for table in ("provider_line", "recon_break_line"):
        for change in (f"UPDATE {table} SET number = 7", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
            with pytest.raises(Exception, match="history is only appended to"):
                async with home.db.connection() as conn:
                    await conn.execute(change)


async def test_what_was_found_and_how_it_ended_is_in_the_log(home: Home) -> None:
    at = wall("2026-03-10 12:00")
    key = await pay(home, "2026-03-10 10:00", 300)
    await take(home, date(2026, 3, 10), *(line(f"{number:032x}", 5, at) for number in range(250)))
    events = "SELECT sum(jsonb_array_length(body::jsonb -> 'breaks')), count(*) FROM audit_event WHERE kind = 'breaks.found'"
    async with home.db.connection() as conn:
        assert tuple(await conn.fetchrow(events)) == (251, 3), "many in one event"
    (missing,) = [one for one in await breaks(home) if one.key == key]
    await resolve(home, missing, Resolution.WRITTEN_OFF)
    told = await home.value("SELECT body::jsonb FROM audit_event WHERE kind = 'break.resolved'")
    assert (told["by"], told["resolution"], told["ours"]["amount_minor"]) == ("person", "written_off", 300)
    assert (told["what"], told["key"], told["theirs"]) == ("missing", key, None)
    assert "as they said" not in str(told), "the note may name people"
