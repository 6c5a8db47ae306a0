"""A batch comes to what its orders come to one by one, whatever is among them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given, note
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from kinpay.charges.batch import Batcher
from kinpay.charges.charge import ChargeState
from kinpay.charges.request import Authorized, AuthorizeRequest, Burn, Signed
from kinpay.database.pool import Database
from kinpay.primitives.errors import (
    CheckCodeExpired,
    CheckCodeUsed,
    KeyReused,
    NotFound,
    RequestReplayed,
    TerminalSessionEnded,
    Unauthenticated,
)
from kinpay.primitives.ids import new_id
from tests.charges.campaign import campaign
from tests.charges.household import Household, found, limit, session_of, shop_of, terms
from tests.charges.looping import Looping
from tests.charges.seeds import Shop
from tests.conftest import set_clock

NOON = datetime(2026, 3, 4, 4, 0, tzinfo=UTC)
"""Wednesday, 12:00 in Shanghai: no window ends while a test runs."""
POISONS = ("currency", "reference", "spender", "mcc", "nul_key")
"""Orders that the database (or the driver) refuses."""


class Wish(Struct, frozen=True):
    """An order of the plan, told without the ids of a circle. The numbers name keys, codes and nonces."""

    home: int
    amount: int
    spender: int = 0
    card: bool = False
    mcc: str = "5812"
    key: int | None = None
    other_body: bool = False
    code: int | None = None
    code_expired: bool = False
    nonce: int | None = None
    unknown_circle: bool = False
    poison: str | None = None
    reference: str | None = None


@dataclass
class Copy:
    """One of two sets of circles that are alike, with its keys, codes and nonces."""

    shop: Shop
    homes: list[Household]
    session_id: str
    names: dict[tuple[str, int], str] = field(default_factory=dict)

    def name(self, kind: str, number: int | None) -> str:
        """The id that stands for a number of the plan."""
        return new_id() if number is None else self.names.setdefault((kind, number), new_id())

    def request(self, wish: Wish) -> AuthorizeRequest:
        """The wish as a request to these circles."""
        home = self.homes[wish.home]
        made = home.asking(
            wish.amount,
            home.spenders[wish.spender % len(home.spenders)],
            card=wish.card and wish.spender == 0,
            mcc=wish.mcc,
            key=self.name("key", wish.key),
            fingerprint=b"another" if wish.other_body else b"body",
            reference=wish.reference,
        )
        if wish.code is not None:
            ends = NOON + timedelta(days=-1 if wish.code_expired else 1)
            made = replace(made, burn=Burn(code_id=self.name("code", wish.code), kind="pay", expires_at=ends))
        if wish.nonce is not None:
            made = replace(made, signed=Signed(signer_id=self.session_id, nonce=self.name("nonce", wish.nonce)))
        if wish.unknown_circle:
            made = replace(made, circle_id=new_id())
        return poisoned(made, wish.poison)


def poisoned(request: AuthorizeRequest, how: str | None) -> AuthorizeRequest:
    """The same order, spoiled so that its row cannot be written."""
    if how == "currency":
        return replace(request, order=replace(request.order, currency="cny"))
    if how == "reference":
        return replace(request, reference="\x00")
    if how == "spender":
        return replace(request, order=replace(request.order, spender_id="not an id"))
    if how == "mcc":
        return replace(request, order=replace(request.order, mcc="58,12,99"))
    if how == "nul_key":
        return replace(request, key=replace(request.key, key="\x00"))
    return request


@st.composite
def plans(draw: st.DrawFn) -> list[Wish]:
    """Orders over few circles, with repetitions and bad ones between the good."""
    wishes: list[Wish] = []
    for number in range(draw(st.integers(2, 24))):
        wish = Wish(
            draw(st.integers(0, 2)),
            draw(st.integers(1, 30)),
            draw(st.integers(0, 1)),
            card=draw(st.booleans()),
            mcc=draw(st.sampled_from(("5812", "5812", "7995"))),
            reference=draw(
                st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=9))
            ),
            nonce=draw(st.sampled_from((None, number + 100))),
        )
        kind = draw(
            st.sampled_from(("plain",) * 10 + ("repeat", "reuse", "code", "burnt", "expired", "replay", "nobody", *POISONS))
        )
        wishes.append(_varied(wish, kind, wishes, draw))
    return wishes


def _varied(wish: Wish, kind: str, before: Sequence[Wish], draw: st.DrawFn) -> Wish:
    """A code or nonce is used again in its own circle: between two circles, two batches at once may each be the first."""
    here = [w for w in before if w.home == wish.home]
    if kind in ("repeat", "reuse"):
        known = [w for w in before if w.key is not None]
        if not known:
            return replace(wish, key=len(before))
        again = replace(draw(st.sampled_from(known)), nonce=wish.nonce)
        return replace(again, other_body=kind == "reuse")
    if kind == "code":
        return replace(wish, code=len(before))
    if kind == "burnt":
        # The same code, with the end that is signed into it.
        other = draw(st.sampled_from([w for w in here if w.code is not None] or [replace(wish, code=100 + len(before))]))
        return replace(wish, code=other.code, code_expired=other.code_expired)
    if kind == "expired":
        return replace(wish, code=len(before), code_expired=True)
    if kind == "replay":
        return replace(wish, nonce=draw(st.sampled_from([w.nonce for w in here if w.nonce is not None] or [len(before)])))
    if kind == "nobody":
        return replace(wish, unknown_circle=True)
    return replace(wish, poison=kind if kind in POISONS else None)


async def _copy(db: Database, shop: Shop) -> Copy:
    async with db.transaction() as conn:
        await set_clock(conn, NOON)
        session_id = await session_of(conn, shop.terminal_id)
    tight = terms(limit(60), limit(3, metric="count"), limit(20, "week", mccs=["7995"]))
    plain, pooled = await found(db, shop, tight, count=2)
    (loose,) = await found(db, shop, terms(limit(90, "month")))
    await plain.add_card(plain.spenders[0].id, terms(limit(25)))
    await pooled.add_card(pooled.spenders[0].id, terms(limit(25)))
    await loose.add_card(loose.spenders[0].id, terms(limit(1, metric="count")))
    await pooled.add_spender(tight)
    await pooled.add_pool(terms(limit(70), limit(5, "week", "count")))
    return Copy(shop, [plain, pooled, loose], session_id)


Said = tuple[str, Any]


def _said(verdict: Authorized | BaseException) -> Said:
    """A verdict as it may be compared between two copies."""
    if isinstance(verdict, BaseException):
        return type(verdict).__name__, getattr(verdict, "reason", None)
    return verdict.charge.state.value, (verdict.fresh, verdict.charge.amount_minor, verdict.charge.refusal)


async def _one_by_one(db: Database, requests: Sequence[AuthorizeRequest]) -> list[Said]:
    batcher, said = Batcher(db, max_batch=1), []
    for request in requests:
        (verdict,) = await asyncio.gather(batcher.authorize(request), return_exceptions=True)
        said.append(_said(verdict))
    await batcher.close()
    return said


async def _at_once(db: Database, requests: Sequence[AuthorizeRequest]) -> list[Said]:
    batcher = Batcher(db)
    verdicts = await asyncio.gather(*(batcher.authorize(request) for request in requests), return_exceptions=True)
    await batcher.close()
    return [_said(verdict) for verdict in verdicts]


LEFT = """
    SELECT c.scope, c.period, c.filter::text AS filter, u.window_start, u.window_end, u.amount_minor, u.count
    FROM counter c JOIN usage u ON u.counter_id = c.id WHERE c.circle_id = $1 ORDER BY 1, 2, 3, 4, 6, 7
"""


async def _left(db: Database, copy: Copy) -> list[Any]:
    """Usage, audit and outbox of a copy's circles, without ids."""
    found_rows: list[Any] = []
    async with db.connection() as conn:
        for home in copy.homes:
            found_rows.append([tuple(row) for row in await conn.fetch(LEFT, home.circle_id)])
            kinds = await conn.fetch("SELECT kind FROM audit_event WHERE lane = $1 ORDER BY seq", home.circle_id)
            found_rows.append([row[0] for row in kinds])
            told = await conn.fetch("SELECT topic FROM outbox WHERE lane = $1 ORDER BY id", home.circle_id)
            found_rows.append([row[0] for row in told])
            rows = await conn.fetch(
                "SELECT amount_minor, state, mcc, reference, method FROM charge WHERE circle_id = $1 ORDER BY seq",
                home.circle_id,
            )
            found_rows.append([tuple(row) for row in rows])
    return found_rows


def test_a_batch_is_its_orders_one_by_one(database_url: str) -> None:
    with Looping(database_url) as loop:
        shop = loop.run(shop_of(loop.db))

        # The second use of a code waits for the next batch: its nonce, and whoever is behind it, must not overtake it.
        overtaken = [Wish(0, 1, code=7, nonce=105), Wish(0, 1, code=7, nonce=112), Wish(0, 40, nonce=112), Wish(0, 40)]

        @campaign(12)
        @example(overtaken)
        @given(plans())
        def agrees(plan: list[Wish]) -> None:
            note(str(plan))
            slow, quick = loop.run(_copy(loop.db, shop)), loop.run(_copy(loop.db, shop))
            expected = loop.run(_one_by_one(loop.db, [slow.request(wish) for wish in plan]))
            assert loop.run(_at_once(loop.db, [quick.request(wish) for wish in plan])) == expected
            assert loop.run(_left(loop.db, quick)) == loop.run(_left(loop.db, slow))

        agrees()


async def _together(db: Database, requests: Sequence[AuthorizeRequest]) -> list[Authorized | BaseException]:
    batcher = Batcher(db)
    verdicts = await asyncio.gather(*(batcher.authorize(request) for request in requests), return_exceptions=True)
    await batcher.close()
    return verdicts


async def test_each_bad_order_hears_why_and_no_other_does(db: Database) -> None:
    copy = await _copy(db, await shop_of(db))
    used = Wish(2, 1, key=1, code=1, nonce=1)
    assert _said(await Batcher(db).authorize(copy.request(used)))[0] == "held"
    good = Wish(2, 1)
    bad: list[tuple[Wish, type[Exception]]] = [
        (replace(good, unknown_circle=True), NotFound),
        (replace(good, key=1, other_body=True), KeyReused),
        (replace(good, code=1), CheckCodeUsed),
        (replace(good, code=2, code_expired=True), CheckCodeExpired),
        (replace(good, nonce=1), RequestReplayed),
    ]
    plan = [wish for wrong, _ in bad for wish in (good, wrong)] + [good]
    verdicts = await _together(db, [copy.request(wish) for wish in plan])
    for verdict in verdicts[::2]:
        assert isinstance(verdict, Authorized)
        assert verdict.charge.state is ChargeState.HELD
    for verdict, (_, error) in zip(verdicts[1::2], bad, strict=True):
        assert type(verdict) is error


async def test_orders_that_the_database_refuses_spoil_no_neighbour(db: Database) -> None:
    copy = await _copy(db, await shop_of(db))
    plan = [wish for poison in POISONS for wish in (Wish(2, 1, reference=f"till {poison}"), Wish(2, 1, poison=poison))]
    verdicts = await _together(db, [copy.request(wish) for wish in plan])
    for wish, verdict in zip(plan, verdicts, strict=True):
        if wish.poison is not None:
            assert isinstance(verdict, Exception), wish
            continue
        assert isinstance(verdict, Authorized), wish
        assert (verdict.charge.state, verdict.charge.reference) == (ChargeState.HELD, wish.reference)
        assert (await copy.homes[2].charge(verdict.charge.id)).mcc == "5812"
    assert await copy.homes[2].usage(copy.homes[2].spenders[0].mandate_id, "month") == [(len(POISONS), len(POISONS))]


async def test_a_burnt_code_is_no_obstacle_to_an_honest_repetition(db: Database) -> None:
    copy = await _copy(db, await shop_of(db))
    first = copy.request(Wish(0, 5, key=1, code=1, nonce=1))
    again = copy.request(Wish(0, 5, key=1, code=1, nonce=2))
    told = await _together(db, [first, again])
    assert [_said(verdict)[1][0] for verdict in told] == [True, False]
    assert {verdict.charge.id for verdict in told if isinstance(verdict, Authorized)} == {first.charge_id}


async def test_sessions_and_terminals_that_ended_are_not_believed(db: Database) -> None:
    copy = await _copy(db, await shop_of(db))
    async with db.transaction() as conn:
        await conn.execute("UPDATE terminal_session SET expires_at = kinpay_now()")
    (verdict,) = await _together(db, [copy.request(Wish(0, 5, nonce=1))])
    assert type(verdict) is TerminalSessionEnded
    async with db.transaction() as conn:
        await conn.execute("UPDATE terminal SET state = 'revoked', revoked_at = kinpay_now()")
    request = copy.request(Wish(0, 5, key=9))
    (verdict,) = await _together(db, [request])
    assert type(verdict) is Unauthenticated
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM request_key") == 0, "its key is not used up"
