"""`doctor`: everything in one go. It changes nothing, and needs no worker and no server to run."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Mapping
from typing import Final

import asyncpg
import msgspec

import kinpay_postgres
from kinpay.cli.command import Commands, command, to_its_end
from kinpay.cli.doctor import here
from kinpay.cli.doctor.database import ABOUT, look_at_clock, look_at_schema, look_at_server, look_at_work
from kinpay.cli.doctor.found import Found, Verdict, told, wrong
from kinpay.cli.doctor.galleries import look_at_galleries
from kinpay.cli.doctor.outside import look_at_providers
from kinpay.database.pool import Database
from kinpay.primitives.errors import Busy
from kinpay.server.embedded import find_database, folder_of
from kinpay.server.secret_file import read_keys
from kinpay.server.settings import Settings, SettingsWrong
from kinpay_postgres import ClusterError

CONNECT_S: Final = 5.0


def add_to(commands: Commands) -> None:
    """Enters the command of this file."""
    made = command(
        commands,
        "doctor",
        _doctor,
        summary="check settings, secret, database, providers and what is left undone; exit status 0 only if nothing is wrong",
        example="kinpay doctor --json",
    )
    made.add_argument("--json", action="store_true", help="one JSON object a line: verdict, about, says, do")
    made.add_argument("--no-providers", action="store_true", help="ask nothing of the providers")
    made.set_defaults(reads_settings=False)


def _doctor(asked: argparse.Namespace, _: None) -> int:
    found = to_its_end(examine(os.environ, providers=not asked.no_providers))
    for line in found:
        print(msgspec.json.encode(line).decode() if asked.json else line)
    return 1 if any(line.verdict is Verdict.WRONG for line in found) else 0


async def examine(environment: Mapping[str, str], *, providers: bool = True) -> list[Found]:
    """Everything that there is to say. `providers`: whether each account is asked something."""
    read, settings = here.look_at_settings(environment)
    found = [here.look_at_python(), *read, here.look_at_files()]
    if settings is None:
        return found
    found += [here.look_at_secret(settings), here.look_at_keyring(settings), here.look_at_disk(settings)]
    found += here.look_at_the_way_in(settings)
    return found + await _look_at_database(settings, providers=providers)


async def _look_at_database(settings: Settings, *, providers: bool) -> list[Found]:
    if settings.embedded and kinpay_postgres.status(folder_of(settings)) is None:
        # Starting it would be no look but a change: it makes the folder, and recovers what a crash left.
        return [told("database", "the embedded one does not run now; `kinpay serve` starts it", "ask again while it runs")]
    try:
        place = await asyncio.to_thread(find_database, settings)
        async with asyncio.timeout(CONNECT_S):
            db = await Database.open(place.url, max_connections=4)
    except (OSError, TimeoutError, ClusterError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        # Not its text, which may quote the address with its password.
        return [
            wrong(
                "database",
                f"cannot be reached ({type(error).__name__})",
                "does it run, may this account enter, is the address right?",
            )
        ]
    try:
        return await _look_inside(db, settings, providers=providers)
    except (Busy, TimeoutError, asyncpg.PostgresError) as error:
        return [wrong("database", f"does not answer as it should ({type(error).__name__})", "look into its log")]
    finally:
        await db.close()


async def _look_inside(db: Database, settings: Settings, *, providers: bool) -> list[Found]:
    async with db.connection() as conn:
        about = (await ABOUT.rows(conn))[0]
        found = [*look_at_server(about, settings), await look_at_schema(conn), await look_at_clock(conn)]
        if any(line.about == "schema" and line.verdict is Verdict.WRONG for line in found):
            return found
        found += await look_at_work(conn, settings)
        found += await look_at_galleries(conn, settings)
    if providers:
        try:
            keys = read_keys(settings.secret_file, may_create=False)
        except SettingsWrong:
            return found  # It was complained of already.
        found += await look_at_providers(db, keys)
    return found
