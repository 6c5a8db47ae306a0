"""`reconcile`: what the providers say of a day, against our books."""

from __future__ import annotations

import argparse
from datetime import UTC, date, datetime, timedelta

from kinpay.cli.command import Commands, command, in_house
from kinpay.database.sql import Sql
from kinpay.primitives.errors import Conflict, Invalid
from kinpay.providers.contract import Misconfigured, NotExecuted, NotKnown, UnknownOutcome
from kinpay.reconciliation.reconcile_day import reconcile_day
from kinpay.server.house import House
from kinpay.server.settings import Settings


def add_to(commands: Commands) -> None:
    """Enters the command of this file."""
    made = command(
        commands,
        "reconcile",
        _reconcile,
        summary="match the providers' statements of a day with our books; exit status 0 only if no break is open",
        example="kinpay reconcile --day 2026-11-22",
    )
    made.add_argument("--day", metavar="YYYY-MM-DD", help="of the providers' statements, UTC (yesterday)")
    made.add_argument("--account", metavar="ID", help="one provider account only")


ACCOUNTS = Sql("""
    SELECT id, provider, account FROM provider_account
    WHERE (enabled OR id = :id) AND (:id::uuid IS NULL OR id = :id) ORDER BY provider, account
""")
OPEN = Sql("""
    SELECT day::text AS day, what, kind, key, ours ->> 'amount_minor' AS ours, theirs ->> 'amount_minor' AS theirs
    FROM recon_break WHERE provider_account_id = :account_id AND state = 'open' ORDER BY found_at, id LIMIT 100
""")


def _reconcile(asked: argparse.Namespace, settings: Settings) -> int:
    day = _day(asked.day)

    async def work(house: House) -> int:
        async with house.db.connection() as conn:
            accounts = await ACCOUNTS.rows(conn, id=asked.account)
        still_open = 0
        for account in accounts:
            name = f"{account['provider']} {account['account']}"
            try:
                done = await reconcile_day(house.db, house.providers, provider_account_id=account["id"], day=day)
                print(f"{name} {day}: {done.lines} lines, {done.matched} agree, {done.breaks} breaks found")
            except Conflict:
                print(f"{name} {day}: was reconciled before")
            except Invalid as error:
                print(f"{name} {day}: the day is not over; its statement can be had from {error.detail.get('ready_at')}")
                still_open += 1
            except (UnknownOutcome, NotExecuted, NotKnown, Misconfigured) as error:
                print(f"{name} {day}: no statement to be had now ({type(error).__name__})")
                still_open += 1
            async with house.db.connection() as conn:
                rows = await OPEN.rows(conn, account_id=account["id"])
            for row in rows:
                sides = f"ours {row['ours']} theirs {row['theirs']}"
                print(f"  open: {row['day']} {row['what']} {row['kind']} {row['key']} {sides}")
            still_open += len(rows)
        return 0 if still_open == 0 else 1

    return in_house(settings, work)


def _day(written: str | None) -> date:
    if written is None:
        return datetime.now(UTC).date() - timedelta(days=1)
    try:
        return date.fromisoformat(written)
    except ValueError:
        raise Invalid("not_a_day", field="--day") from None
