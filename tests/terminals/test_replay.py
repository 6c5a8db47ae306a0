"""Captured traffic is useless: a signed request counts once, under its own session, while its terminal counts."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest

from kinpay.database.pool import Database
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import RequestReplayed, RequestStale, SignatureInvalid, TerminalSessionEnded, Unauthenticated
from kinpay.primitives.ids import new_id
from kinpay.terminals.authenticate import (
    TerminalActor,
    authenticate_terminal,
    by_own_key,
    check_signature,
    note_requests,
)
from kinpay.terminals.session import TerminalSessions, prune_sessions
from kinpay.terminals.signature import RequestParts
from kinpay_client import Problem, Terminal
from kinpay_client.signing import Signer, sign_request
from tests.terminals.house import House
from tests.terminals.test_signature import ask, parts_of


def signed(
    terminal: Terminal, *, own_key: bool = False, now_s: float | None = None, signer: Signer | None = None
) -> RequestParts:
    """A charge as the terminal would send it."""
    request = ask()
    use = signer or (terminal._own if own_key else terminal._session)
    assert use is not None
    sign_request(request, use, now_s=time.time() if now_s is None else now_s)
    return parts_of(request)


async def attempt(house: House, parts: RequestParts) -> Actor | None:
    return await authenticate_terminal(house.db, parts, sessions=house.sessions)


@pytest.mark.parametrize("own_key", [True, False])
async def test_a_signed_request_is_believed_once(house: House, own_key: bool) -> None:
    terminal = await house.terminal()
    await terminal.session()
    parts = signed(terminal, own_key=own_key)
    actor = await attempt(house, parts)
    assert isinstance(actor, TerminalActor)
    assert (actor.id, actor.operator_id, actor.own_key) == (terminal.terminal_id, house.operator_id, own_key)
    with pytest.raises(RequestReplayed):
        await attempt(house, parts)


@pytest.mark.parametrize("own_key", [True, False])
async def test_of_fifty_copies_at_once_one_is_believed(house: House, own_key: bool) -> None:
    terminal = await house.terminal()
    await terminal.session()
    parts = signed(terminal, own_key=own_key)
    results = await asyncio.gather(*(attempt(house, parts) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(result, Actor) for result in results) == 1
    assert sum(isinstance(result, RequestReplayed) for result in results) == 49


async def test_of_copies_in_one_batch_and_in_two_at_once_one_is_believed(db: Database, house: House) -> None:
    terminal = await house.terminal()
    session_id = await terminal.session()

    async def batch() -> list[Any]:
        async with db.transaction() as conn:
            found = await note_requests(conn, [(session_id, "n" * 20, terminal.terminal_id)] * 3)
            await asyncio.sleep(0.05)  # both transactions are under way together
            return found

    both = await asyncio.gather(batch(), batch())
    assert sum(objection is None for found in both for objection in found) == 1


async def test_a_batch_that_is_rolled_back_leaves_its_nonces_unused(db: Database, house: House) -> None:
    terminal = await house.terminal()
    asked = [(await terminal.session(), "n" * 20, terminal.terminal_id)]
    with pytest.raises(RuntimeError):
        await _roll_back(db, asked)
    async with db.transaction() as conn:
        assert await note_requests(conn, asked) == [None]


async def _roll_back(db: Database, asked: list[tuple[str, str, str]]) -> None:
    async with db.transaction() as conn:
        await note_requests(conn, asked)
        raise RuntimeError


async def test_a_batch_names_for_each_request_why_it_is_not_believed(db: Database, house: House) -> None:
    good, revoked, other = await house.terminal(), await house.terminal(), await house.terminal()
    mine, theirs = await good.session(), await revoked.session()
    await house.revoke(revoked.terminal_id)
    async with db.transaction() as conn:
        found = await note_requests(
            conn,
            [
                (mine, "a" * 20, good.terminal_id),
                (mine, "a" * 20, good.terminal_id),
                (theirs, "a" * 20, revoked.terminal_id),
                (mine, "b" * 20, other.terminal_id),
                (new_id(), "a" * 20, good.terminal_id),
                (good.terminal_id, "a" * 20, good.terminal_id),
                (good.terminal_id, "c" * 20, new_id()),
            ],
        )
    kinds = [type(objection) for objection in found]
    ended = TerminalSessionEnded
    assert kinds == [type(None), RequestReplayed, Unauthenticated, ended, ended, type(None), Unauthenticated]


async def test_a_session_of_one_terminal_signs_nothing_for_another(house: House) -> None:
    mine, theirs = await house.terminal(), await house.terminal()
    await mine.session()
    await theirs.session()
    assert mine._session is not None
    assert theirs._session is not None
    forged = type(mine._session)(theirs._session.session_id, mine._session.key, mine._session.expires_at)
    with pytest.raises(SignatureInvalid):
        await attempt(house, signed(mine, signer=forged))
    other_own = type(mine._own)(theirs.terminal_id, mine._key)
    with pytest.raises(SignatureInvalid):
        await attempt(house, signed(mine, signer=other_own))


async def test_old_and_future_requests_are_refused(house: House) -> None:
    terminal = await house.terminal()
    await terminal.session()
    for own_key in (True, False):
        for minutes in (-10, 10):
            with pytest.raises(RequestStale):
                await attempt(house, signed(terminal, own_key=own_key, now_s=time.time() + minutes * 60))


async def test_the_hot_route_takes_no_other_than_a_session_signature(house: House) -> None:
    terminal = await house.terminal()
    await terminal.session()
    found = await check_signature(signed(terminal), house.sessions)
    assert (found.facts.terminal_id, found.facts.mcc, found.facts.hold_s) == (terminal.terminal_id, "5814", 60)
    with pytest.raises(SignatureInvalid):
        await check_signature(signed(terminal, own_key=True), house.sessions)


async def test_what_wants_the_terminals_own_key_refuses_a_session_signature(house: House) -> None:
    terminal = await house.terminal()
    await terminal.session()

    class State:
        actor: Actor | None

    state = State()
    state.actor = await attempt(house, signed(terminal, own_key=True))
    assert by_own_key(state).id == terminal.terminal_id
    state.actor = await attempt(house, signed(terminal))
    with pytest.raises(SignatureInvalid):
        by_own_key(state)


async def test_a_remembered_session_needs_no_database_and_is_still_refused_after_revocation(house: House, keys: Any) -> None:
    terminal = await house.terminal()
    await terminal.session()
    await attempt(house, signed(terminal))
    found = await check_signature(signed(terminal), TerminalSessionsWithoutDatabase(house.sessions, terminal))
    assert found.facts.terminal_id == terminal.terminal_id
    await house.revoke(terminal.terminal_id)
    with pytest.raises(Unauthenticated):
        await attempt(house, signed(terminal))
    with pytest.raises(TerminalSessionEnded):
        await attempt(house, signed(terminal))  # forgotten now: the database is asked and knows no such session


class TerminalSessionsWithoutDatabase(TerminalSessions):
    """Remembers what another remembers, and cannot ask."""

    def __init__(self, other: TerminalSessions, terminal: Terminal) -> None:
        self._other = other

    def remembered(self, session_id: str) -> Any:
        return self._other.remembered(session_id)

    async def find(self, session_id: str) -> Any:
        raise AssertionError("the database was asked")


async def test_a_session_ends_after_twelve_hours_and_the_terminal_renews_it_by_itself(db: Database, house: House) -> None:
    terminal = await house.terminal()
    first = await terminal.session()
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT expires_at - created_at FROM terminal_session") == timedelta(hours=12)
        await conn.execute("UPDATE terminal_session SET expires_at = kinpay_now()")
    house.sessions.forget(first)
    with pytest.raises(TerminalSessionEnded):
        await attempt(house, signed(terminal))
    await terminal.function_code()
    assert terminal._session is not None
    assert terminal._session.session_id != first
    assert await prune_sessions(db) == (0, 1)


async def test_after_a_crash_that_emptied_the_unlogged_tables_nothing_captured_passes(db: Database, house: House) -> None:
    terminal = await house.terminal()
    await terminal.session()
    captured = signed(terminal)
    await attempt(house, captured)
    async with db.connection() as conn:
        await conn.execute("TRUNCATE request_nonce, terminal_session")
    with pytest.raises(TerminalSessionEnded):
        await attempt(house, captured)
    await terminal.function_code()


async def test_only_the_newest_few_sessions_of_a_terminal_go_on(db: Database, house: House) -> None:
    terminal = await house.terminal()
    opened = [await terminal.session() for _ in range(6)]
    async with db.connection() as conn:
        kept = {row["id"] for row in await conn.fetch("SELECT id FROM terminal_session")}
    assert kept == set(opened[-4:])


async def test_old_nonces_are_pruned_and_young_ones_kept(db: Database, house: House) -> None:
    async with db.connection() as conn:
        for nonce, minutes in (("old-" + "x" * 16, 11), ("young" + "x" * 16, 9)):
            await conn.execute(
                "INSERT INTO request_nonce VALUES ($1, $2, clock_timestamp() - make_interval(mins => $3))",
                new_id(),
                nonce,
                minutes,
            )
    assert await prune_sessions(db) == (1, 0)


async def test_the_session_key_is_kept_sealed_and_bound_to_its_row(db: Database, house: House) -> None:
    terminal = await house.terminal()
    session_id = await terminal.session()
    assert terminal._session is not None
    async with db.connection() as conn:
        kept = await conn.fetchval("SELECT hmac_key FROM terminal_session")
    assert terminal._session.key not in kept
    assert house.keys.unseal(kept, purpose="terminal-session", bound_to=session_id) == terminal._session.key
    assert "Sealed" in repr(await house.sessions.find(session_id))


async def test_an_unsigned_request_reaches_nothing_of_a_terminal(house: House) -> None:
    terminal = await house.terminal()
    async with house.http() as http:
        for path in ("/v1/terminal/function-code", "/v1/terminals/sessions", "/v1/terminal/payment-codes"):
            answer = await http.post(path, json={"agreement_key": "A" * 87, "nonce": "n" * 22})
            assert answer.status_code in {401, 422}, path
        assert (await http.get("/v1/terminal/commands?wait_s=0")).status_code == 401
    person = await house.person()
    async with house.as_person(person) as http:
        assert (await http.post("/v1/terminal/function-code")).status_code == 403
    with pytest.raises(Problem, match="403"):
        await terminal.request("POST", "/v1/scans", {"code": "K1F.whatever"})


async def test_a_terminal_with_a_wrong_clock_learns_the_servers(house: House) -> None:
    terminal = await house.terminal()
    slow = Terminal(terminal._wire, terminal_id=terminal.terminal_id, key=terminal._key, clock=lambda: time.time() - 7200)
    assert "code" in (await slow.function_code()).body
    assert abs(slow._skew_s - 7200) < 5


async def test_a_copied_request_over_http_is_refused(house: House) -> None:
    terminal = await house.terminal()
    await terminal.session()
    assert terminal._session is not None
    async with house.http() as http:
        request = http.build_request("POST", "/v1/terminal/function-code")
        sign_request(request, terminal._session, now_s=time.time())
        copies = [httpx.Request("POST", request.url, headers=request.headers) for _ in range(3)]
        answers = [await http.send(copy) for copy in copies]
    assert [answer.status_code for answer in answers] == [201, 401, 401]
    assert answers[1].json()["code"] == "request-replayed"
