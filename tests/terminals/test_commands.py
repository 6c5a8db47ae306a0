"""Commands reach the terminal they are for, quickly, again if need be, and their end is told once."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta

import pytest

from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys
from kinpay.terminals.command import (
    CommandBell,
    CommandKind,
    FinishedCommand,
    command,
    take_commands,
    wait_for_commands,
    withdraw_command,
)
from kinpay_client import Problem, Terminal
from tests.terminals.house import House, build_house


async def tell(db: Database, terminal: Terminal, *, ttl: timedelta = timedelta(minutes=5)) -> str:
    async with db.transaction() as conn:
        body = {"capture_id": new_id()}
        now = await database_now(conn)
        return await command(conn, terminal.terminal_id, kind=CommandKind.CAPTURE, body=body, now=now, ttl=ttl)


async def test_a_waiting_terminal_hears_at_once(db: Database, house: House) -> None:
    terminal = await house.terminal()
    waiting = asyncio.create_task(terminal.commands(wait_s=20))
    await asyncio.sleep(0.5)
    begin = time.monotonic()
    told = await tell(db, terminal)
    (found,) = await waiting
    assert time.monotonic() - begin < 1.5
    assert (found["id"], found["kind"]) == (told, "capture")
    assert set(found["body"]) == {"capture_id"}


async def test_a_terminal_that_is_not_told_anything_hears_nothing_when_the_wait_is_over(db: Database, house: House) -> None:
    terminal, other = await house.terminal(), await house.terminal()
    await tell(db, other)
    begin = time.monotonic()
    assert await terminal.commands(wait_s=1) == []
    assert 0.9 < time.monotonic() - begin < 3


async def test_a_terminal_that_is_revoked_while_it_waits_hears_nothing_more(db: Database, house: House) -> None:
    terminal = await house.terminal()
    waiting = asyncio.create_task(terminal.commands(wait_s=2))
    await asyncio.sleep(0.5)
    async with db.transaction() as conn:
        await conn.execute(
            "UPDATE terminal SET state = 'revoked', revoked_at = kinpay_now() WHERE id = $1", terminal.terminal_id
        )
    await tell(db, terminal)
    assert await waiting == []


async def test_waiting_goes_on_without_the_bell(db: Database, house: House) -> None:
    terminal = await house.terminal()
    bell = CommandBell(db)
    waiting = asyncio.create_task(wait_for_commands(db, bell, terminal_id=terminal.terminal_id, wait_s=10))
    await asyncio.sleep(0.3)
    async with db.connection() as conn:
        await conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query ILIKE 'listen%' AND datname = current_database() AND pid <> pg_backend_pid()"
        )
    await tell(db, terminal)
    assert len(await waiting) == 1


async def test_the_bell_lets_its_connection_go_when_nobody_waits(db: Database, house: House) -> None:
    bell = CommandBell(db)
    await asyncio.gather(*(wait_for_commands(db, bell, terminal_id=new_id(), wait_s=0.3) for _ in range(5)))
    await asyncio.sleep(0.1)
    assert bell._listening is None
    async with db.connection() as conn:
        listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'listen%'"
        assert await conn.fetchval(listening) == 0


async def test_a_command_is_handed_out_again_until_it_is_done(db: Database, house: House) -> None:
    terminal = await house.terminal()
    told = await tell(db, terminal)

    async def take(seconds: int, *, again: bool = False) -> list[str]:
        async with db.transaction() as conn:
            found = await take_commands(conn, terminal.terminal_id, now=now + timedelta(seconds=seconds), again=again)
        return [item.id for item in found]

    async with db.connection() as conn:
        now = await database_now(conn)
    assert [await take(0), await take(5), await take(5, again=True), await take(20), await take(40)] == [
        [told], [], [told], [], [told],
    ]  # fmt: skip
    await terminal.done(told, ok=True)
    assert await take(80) == []


async def test_a_command_lapses(db: Database, house: House) -> None:
    terminal = await house.terminal()
    await tell(db, terminal, ttl=timedelta(0))
    assert await terminal.commands(wait_s=0) == []


async def test_its_end_is_told_once_in_the_same_transaction(db: Database, keys: ServerKeys) -> None:
    heard: list[FinishedCommand] = []

    async def finished(conn: Connection, done: FinishedCommand, now: datetime) -> None:
        heard.append(done)

    house = await build_house(db, keys, finished=finished)
    terminal, other = await house.terminal(), await house.terminal()
    told = await tell(db, terminal)
    with pytest.raises(Problem, match="404"):
        await other.done(told, ok=True)
    for _ in range(2):
        await terminal.done(told, ok=False, reason="no camera")
    (done,) = heard
    assert (done.command.id, done.ok, done.reason) == (told, False, "no camera")


async def test_a_failure_of_whoever_is_told_leaves_the_command_open(db: Database, keys: ServerKeys) -> None:
    async def finished(conn: Connection, done: FinishedCommand, now: datetime) -> None:
        raise RuntimeError

    house = await build_house(db, keys, finished=finished)
    terminal = await house.terminal()
    told = await tell(db, terminal)
    with pytest.raises(RuntimeError):
        await terminal.done(told, ok=True)
    assert [item["id"] for item in await terminal.commands(wait_s=0)] == [told]


async def test_a_withdrawn_command_is_not_handed_out(db: Database, house: House) -> None:
    terminal = await house.terminal()
    told = await tell(db, terminal)
    async with db.transaction() as conn:
        assert await withdraw_command(conn, told, now=await database_now(conn))
        assert not await withdraw_command(conn, told, now=await database_now(conn))
    assert await terminal.commands(wait_s=0) == []
    await terminal.done(told, ok=True)  # too late, and harmless
