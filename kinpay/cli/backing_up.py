"""`backup`, `restore`, `requery`: copies of the database, one as of a point in time, and what the providers know beyond it."""

from __future__ import annotations

import argparse
import asyncio
import signal
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from kinpay.audit.checkpoint import key_id_of, public_key_of
from kinpay.cli.command import Commands, command, to_its_end
from kinpay.database.pool import Database, database_now
from kinpay.primitives.errors import Invalid
from kinpay.recovery.back_up import about_of, back_up, programs_of
from kinpay.recovery.closed import RECOVERING, close_as_of
from kinpay.recovery.gap import Asked, ask_for_gap
from kinpay.recovery.restore import RestoredTo, restore
from kinpay.server.embedded import find_database
from kinpay.server.house import open_house
from kinpay.server.secret_file import read_keys
from kinpay.server.serve import located
from kinpay.server.settings import Settings
from kinpay_postgres.base_backup import Place, prune
from kinpay_postgres.keep_log import SLOT, keep_log


def add_to(commands: Commands) -> None:
    """Enters the commands of this file."""
    made = command(
        commands,
        "backup",
        _backup,
        summary="copy the running database, verified; or keep its log for points in time between two copies",
        example="kinpay backup /srv/backups --wal            always running\n"
        "  kinpay backup /srv/backups --keep 14         every night",
    )
    made.add_argument("to", type=Path, metavar="TO", help="the folder of all backups of this database")
    made.add_argument("--wal", action="store_true", help="keep the write-ahead log there, until stopped; makes no copy")
    made.add_argument("--list", action="store_true", help="list the copies that are there; makes none")
    made.add_argument("--keep", type=int, metavar="N", help="then remove all copies but the newest N, and the log they needed")
    made.add_argument("--binaries", type=Path, metavar="FOLDER", help="the server's own bin folder, if it is not found")
    made = command(
        commands,
        "restore",
        _restore,
        summary="make a new database cluster from a backup, as of a point in time; it stays closed until `kinpay requery`",
        example="kinpay restore /srv/backups --into /var/lib/kinpay/postgres --until 2026-11-22T08:30:00Z",
    )
    made.add_argument("origin", type=Path, metavar="FROM", help="the folder of the backups")
    made.add_argument("--into", type=Path, metavar="DIR", required=True, help="an empty or new folder; nothing is written over")
    made.add_argument("--until", metavar="TIME", help="RFC 3339 with its zone (the end of the kept log)")
    made.add_argument("--timeline", type=int, metavar="N", help="of several lives after restores (the newest that was kept)")
    made.add_argument("--binaries", type=Path, metavar="FOLDER", help="PostgreSQL's bin folder of the backup's major version")
    made = command(
        commands,
        "requery",
        _requery,
        summary="ask the providers for what a restored database lost, book it, and open the database; 0 only if it is open",
        example="kinpay requery\n"
        "  kinpay requery --restored-to 2026-11-22T08:30:00Z        brought back by PostgreSQL's or a host's own means",
    )
    made.add_argument(
        "--restored-to",
        metavar="TIME",
        help="first close a database that was not restored by `kinpay restore`: what came after TIME is not in it",
    )
    made.add_argument(
        "--open-anyway",
        metavar="WHY",
        help="open it although something is not settled; the reason is kept with the restoration",
    )


def _backup(asked: argparse.Namespace, settings: Settings) -> int:
    place = Place(asked.to.expanduser().resolve())
    if asked.list:
        return _list(place)
    if asked.keep is not None and asked.keep < 1:
        raise Invalid("at_least_one", field="--keep")
    return _keep(asked, settings, place) if asked.wal else to_its_end(_copy(asked, settings, place))


def _keep(asked: argparse.Namespace, settings: Settings, place: Place) -> int:
    found = find_database(settings)
    try:
        keep_log(place, to_its_end(programs_of(found.url, binaries=asked.binaries)), announce=_say)
    finally:
        to_its_end(found.leave())
    return 0


async def _copy(asked: argparse.Namespace, settings: Settings, place: Place) -> int:
    keys = read_keys(settings.secret_file, may_create=False)
    found = await asyncio.to_thread(find_database, settings)
    try:
        programs = await programs_of(found.url, binaries=asked.binaries)
        db = await Database.open(found.url, max_connections=2)
        try:
            made = await back_up(db, keys, place, programs=programs, slot=SLOT)
        finally:
            await db.close()
    finally:
        await found.leave()
    _say(f"{made.base.path} is whole and was read again")
    if not made.log_is_kept:
        _say("nobody keeps the log: this copy can be restored as it is, but no later moment. Run `kinpay backup TO --wal`.")
    _say(f"not in it, to be kept elsewhere: {settings.secret_file} (without it the copy is useless) and {settings.keyring}")
    if asked.keep is not None:
        for gone in prune(place, keep=asked.keep):
            _say(f"removed {gone}" + ("" if gone.parent == place.path else ": no copy that is kept needs this log"))
    return 0


def _list(place: Place) -> int:
    for base in place.bases():
        about = about_of(base)
        _say(f"{base.path.name}  schema {about.schema_version}, PostgreSQL {about.server_version}, secret {about.key_id}")
    return 0


def _restore(asked: argparse.Namespace, settings: Settings) -> int:
    keys = read_keys(settings.secret_file, may_create=False)
    public_key = public_key_of(keys)
    before = signal.signal(signal.SIGTERM, _end)
    try:
        done = restore(
            Place(asked.origin.expanduser().resolve()),
            asked.into.expanduser().resolve(),
            public_key=public_key,
            key_id=key_id_of(public_key),
            until=_moment(asked.until, field="--until"),
            timeline=asked.timeline,
            binaries=asked.binaries,
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    return _tell(done, settings)


def _end(number: int, _frame: FrameType | None) -> None:
    """As Ctrl-C would: what was begun is cleared away."""
    raise SystemExit(128 + number)


def _tell(done: RestoredTo, settings: Settings) -> int:
    for finding in done.findings:
        _say(str(finding))
    point = done.point_at.astimezone(UTC).isoformat(timespec="milliseconds")
    _say(f"restored from {done.base.path.name}: everything that was committed until {point}")
    _say("everything adds up" if not done.findings else f"{len(done.findings)} findings")
    home = settings.home / "postgres"
    if done.cluster.data_dir != home or done.database != "kinpay":
        _say(f"it is the database {done.database} in {done.cluster.data_dir}: move that folder to {home}, or set")
        told = f"python -m kinpay_postgres url {done.cluster.data_dir} --database {done.database}"
        _say(f"KINPAY_DATABASE_URL to what `{told}` says")
    _say("it is closed: nothing is charged or given back before `kinpay requery`")
    return 1 if done.findings else 0


def _requery(asked: argparse.Namespace, settings: Settings) -> int:
    return to_its_end(_ask(settings, asked.open_anyway, _moment(asked.restored_to, field="--restored-to")))


async def _ask(settings: Settings, open_anyway: str | None, restored_to: datetime | None) -> int:
    async with located(settings) as url, open_house(settings, url, public_url=settings.public_url or "") as house:
        db = await Database.open(url, max_connections=10, settings=RECOVERING)
        try:
            if restored_to is not None:
                async with db.transaction() as conn:
                    await close_as_of(conn, restored_to, now=await database_now(conn))
            done = await ask_for_gap(db, house.providers, public_url=house.public_url, open_anyway=open_anyway)
        finally:
            await db.close()
    return _report(done)


def _report(done: Asked) -> int:
    since = done.since.astimezone(UTC).isoformat(timespec="seconds")
    _say(f"{done.lines} lines of the providers since {since}; {done.agreements} agreements asked for")
    for name in done.booked:
        _say(f"  lost and booked: {name}" + (f", {done.doubts[name]}" if name in done.doubts else ""))
    for name, why in done.objections.items():
        _say(f"  not booked: {name} ({why})")
    for name in done.silent:
        _say(f"  no statement: {name}")
    if done.unfinished:
        _say(f"{done.unfinished} debits or refunds have no end yet; the worker goes on asking")
    if done.opened:
        _say("the database is open")
    elif not done.is_open:
        _say("it stays closed: resolve what is not booked, or wait for the statements, and ask again (docs/backup.md)")
    elif not done.settled:
        _say("it was open already: resolve what is not booked, and ask again (docs/backup.md)")
    return 0 if done.is_open else 1


def _moment(written: str | None, *, field: str) -> datetime | None:
    if written is None:
        return None
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Invalid("not_a_moment_with_its_zone", field=field)
    return moment


def _say(text: str) -> None:
    print(text, flush=True)
