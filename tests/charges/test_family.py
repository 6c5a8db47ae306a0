"""A family's life in random order, with a provider that says anything: after every step the books and sums must be right.

Nothing here predicts what the product does; it compares what is in the tables with naive sums, with the provider's own books
and, for every decision, with the oracle.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from kinpay.audit.check import check
from kinpay.charges.batch import Batcher
from kinpay.charges.charge import COUNTING, ChargeState
from kinpay.charges.reconcile import reconcile_debits, reconcile_refunds, retry_arrears
from kinpay.charges.refund import refund_charge, send_refund, settle_refund
from kinpay.charges.request import Charge
from kinpay.charges.settle import settle_debit
from kinpay.charges.store import CHARGE_COLUMNS, charge_of
from kinpay.charges.submit import capture_charge, drive
from kinpay.charges.void import void_run_out
from kinpay.database.pool import database_now
from kinpay.primitives.errors import WrongState
from kinpay.providers.contract import DebitState
from tests.charges.books_right import ledger_is_right, provider_was_believed, sums_are_right
from tests.charges.campaign import campaign
from tests.charges.household import Spender, found, limit, net_of, shop_of, terms, void_charge
from tests.charges.looping import Looping
from tests.charges.oracle import Allowed, Asked, Card, Funding, Made, Shared, World, passes
from tests.charges.scripted import STEPS, ScriptedBank, Step
from tests.charges.seeds import Shop
from tests.charges.walls import Per, window_of
from tests.conftest import set_clock

MONDAY = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
"""10:00 in Shanghai."""
ZONE = "Asia/Shanghai"
POOL = terms(limit(140), limit(9, "month", "count"))
CARD = terms(limit(45), limit(5, "week", "count"))

steps = st.sampled_from(STEPS)
picks = st.integers(0, 30)
mccs = st.sampled_from(("5812", "5812", "7995"))


def mandate_terms(day: int, count: int) -> dict[str, Any]:
    """A mandate's terms; their windows and filters are always the same, so that counters are, too."""
    soon = {**limit(90, "trailing"), "trailing_s": 7200}
    ever = {**limit(500, "lifetime"), "refunds": "keep"}
    return terms(limit(day), limit(count, metric="count"), limit(60, "week", mccs=["7995"]), limit(400, "month"), soon, ever)


class FamilyMachine(RuleBasedStateMachine):
    """One payer, two spenders, two agreements, a card and a pool."""

    loop: ClassVar[Looping]
    shop: ClassVar[Shop]

    @initialize(
        day=st.integers(40, 120),
        count=st.integers(3, 8),
        cap=st.sampled_from((None, 30)),
        bought=st.lists(st.tuples(st.integers(1, 25), st.integers(0, 1), st.booleans(), steps, steps), min_size=3, max_size=6),
    )
    def begin(self, day: int, count: int, cap: int | None, bought: list[tuple[int, int, bool, Step, Step]]) -> None:
        self.now = MONDAY
        self.bank = ScriptedBank()
        self.terms: dict[str, dict[str, Any]] = {}
        self.ended: set[str] = set()
        self.states: Counter[str] = Counter()
        self.changes = 0
        self.per_debit: dict[str, int | None] = {}
        self.pool_open = True
        self.run(self._begin(day, count, cap))
        for amount, who, delivered, first, second in bought:
            self.run(self._buy(amount, self.home.spenders[who], card=False, mcc="5812"))
            if second != "pays":
                self.run(self._capture(-1, 10, delivered, [first, second]))

    def run(self, work: Any) -> Any:
        """Runs a coroutine to its end."""
        return self.loop.run(work)

    def there(self, *states: str) -> bool:
        """Whether there is a charge in one of these states."""
        return any(self.states[state] for state in states)

    async def _begin(self, day: int, count: int, cap: int | None) -> None:
        db = self.loop.db
        await self._set(MONDAY)
        (self.home,) = await found(db, self.shop, mandate_terms(day, count), time_zone=ZONE)
        second = await self.home.add_agreement(per_debit_minor=cap)
        self.per_debit = {self.home.agreements[0]: None, second: cap}
        await self.home.grant(self.home.spenders[0].id, mandate_terms(day, count))
        other = await self.home.add_spender(mandate_terms(day, count))
        self.terms = {self.home.spenders[0].id: mandate_terms(day, count), other.id: mandate_terms(day, count)}
        await self.home.add_card(self.home.spenders[0].id, CARD)
        self.pool_id = await self.home.add_pool(POOL)
        self.batcher = Batcher(db)

    async def _set(self, moment: datetime) -> None:
        self.now = moment
        async with self.loop.db.transaction() as conn:
            await set_clock(conn, moment)

    async def _pass(self, time: timedelta) -> None:
        async with self.loop.db.connection() as conn:
            await self._set(await database_now(conn) + time)

    async def charges(self) -> list[Charge]:
        """Every charge, as it is, in the order of deciding."""
        text = f"SELECT {CHARGE_COLUMNS} FROM charge WHERE circle_id = $1 ORDER BY seq"
        async with self.loop.db.connection() as conn:
            return [charge_of(row) for row in await conn.fetch(text, self.home.circle_id)]

    async def pick(self, number: int, *states: ChargeState) -> Charge | None:
        """One of the charges in these states."""
        fitting = [charge for charge in await self.charges() if charge.state in states]
        return fitting[number % len(fitting)] if fitting else None

    def _world(self, charges: Sequence[Charge]) -> World:
        owing = {charge.mandate_id for charge in charges if charge.owed_since is not None}
        agreements = [
            Funding(id=a, active=a not in self.ended, currency="CNY", per_debit=self.per_debit[a]) for a in self.home.agreements
        ]
        state = "active" if any(agreement.active for agreement in agreements) else "suspended"
        home = self.home
        pools = [Shared(self.pool_id, home.payer_id, None, POOL)]
        if not self.pool_open:
            pools = [Shared(self.pool_id, home.payer_id, None, terms())]
        return World(
            ZONE,
            spender_active={spender.id: True for spender in home.spenders},
            mandates=[
                Allowed(s.mandate_id, home.payer_id, s.id, state, s.mandate_id in owing, self.terms[s.id], agreements)
                for s in home.spenders
            ],
            pools=pools,
            cards=[Card(card_id, True, CARD) for card_id in home.cards.values()]
            + [Card(s.phone, True, None) for s in home.spenders],
            history=[_made(charge) for charge in charges if charge.state in COUNTING],
        )

    @rule(amount=st.integers(1, 60), who=st.integers(0, 1), card=st.booleans(), mcc=mccs)
    def buy(self, amount: int, who: int, card: bool, mcc: str) -> None:
        self.run(self._buy(amount, self.home.spenders[who], card=card and who == 0, mcc=mcc))

    @rule(amount=st.integers(1, 30), who=st.integers(0, 1), mcc=mccs, delivered=st.booleans(), first=steps, second=steps)
    def buy_at_once(self, amount: int, who: int, mcc: str, delivered: bool, first: Step, second: Step) -> None:
        self.run(self._buy(amount, self.home.spenders[who], card=False, mcc=mcc))
        self.run(self._capture(-1, 10, delivered, [first, second]))

    async def _buy(self, amount: int, spender: Spender, *, card: bool, mcc: str) -> None:
        before = await self.charges()
        charge = await self.home.buy(self.batcher, amount, spender, card=card, mcc=mcc)
        allowed = passes(self._world(before), _asked(charge, amount), charge.decided_at)
        assert (charge.state is ChargeState.HELD) is (allowed is not None), charge.refusal

    @precondition(lambda self: self.there("held"))
    @rule(pick=picks, tenths=st.integers(1, 12), delivered=st.booleans(), first=steps, second=steps)
    def capture(self, pick: int, tenths: int, delivered: bool, first: Step, second: Step) -> None:
        self.run(self._capture(pick, tenths, delivered, [first, second]))

    async def _capture(self, pick: int, tenths: int, delivered: bool, script: list[Step]) -> None:
        charge = await self.pick(pick, ChargeState.HELD)
        if charge is None:
            return
        self.bank.steps = deque(script)
        part = max(1, charge.amount_minor * min(tenths, 10) // 10)
        after = await capture_charge(
            self.loop.db, self.bank, charge.id, amount_minor=part, delivered=delivered, actor_id=self.shop.terminal_id
        )
        self.bank.steps.clear()
        if charge.agreement_id in self.ended:
            assert after.state is ChargeState.VOIDED
        else:
            assert after.state is not ChargeState.HELD
            assert after.state is ChargeState.VOIDED or after.captured_minor == part

    @precondition(lambda self: self.there("held", "submitted"))
    @rule(pick=picks, step=steps)
    def void(self, pick: int, step: Step) -> None:
        self.run(self._void(pick, step))

    async def _void(self, pick: int, step: Step) -> None:
        charge = await self.pick(pick, ChargeState.HELD, ChargeState.SUBMITTED)
        if charge is None:
            return
        self.bank.cancel_steps = deque([step])
        try:
            after = await void_charge(self.loop.db, self.bank, charge.id, actor_id=self.shop.terminal_id)
        except WrongState:
            assert charge.state is ChargeState.SUBMITTED
            assert charge.delivered
            return
        finally:
            self.bank.cancel_steps.clear()
        assert after.state is ChargeState.VOIDED or after.void_requested

    @precondition(lambda self: self.there("succeeded"))
    @rule(pick=picks, tenths=st.integers(1, 10), step=steps)
    def refund(self, pick: int, tenths: int, step: Step) -> None:
        self.run(self._refund(pick, tenths, step))

    async def _refund(self, pick: int, tenths: int, step: Step) -> None:
        charge = await self.pick(pick, ChargeState.SUCCEEDED)
        if charge is None or net_of(charge) == 0:
            return
        part = max(1, net_of(charge) * tenths // 10)
        async with self.loop.db.transaction() as conn:
            refunds = await refund_charge(conn, charge.id, amount_minor=part, actor_id=self.shop.terminal_id)
        self.bank.refund_steps = deque([step])
        for refund_id in refunds:
            await send_refund(self.loop.db, self.bank, refund_id)
        self.bank.refund_steps.clear()

    @precondition(
        lambda self: any(o.state is DebitState.PENDING for o in (*self.bank.debits.values(), *self.bank.refunds.values()))
    )
    @rule(pick=picks, paid=st.booleans(), notices=st.integers(0, 2))
    def finish(self, pick: int, paid: bool, notices: int) -> None:
        """The provider makes up its mind, and says so never, once or twice."""
        pending = sorted(k for k, o in (*self.bank.debits.items(), *self.bank.refunds.items()) if o.state is DebitState.PENDING)
        key = pending[pick % len(pending)]
        self.bank.finish(key, paid=paid)
        for _ in range(notices):
            self.run(self._tell(key))

    @precondition(lambda self: self.bank.debits)
    @rule(pick=picks, lagging=st.booleans())
    def tell_again(self, pick: int, lagging: bool) -> None:
        """A notice comes again, or one that was overtaken."""
        keys = sorted([*self.bank.debits, *self.bank.refunds])
        self.run(self._tell(keys[pick % len(keys)], lagging=lagging))

    @precondition(lambda self: self.bank.keys(DebitState.FAILED))
    @rule(pick=picks)
    def late_truth(self, pick: int) -> None:
        """What the provider said had failed was paid after all."""
        if pick % 3:
            return
        failed = sorted(self.bank.keys(DebitState.FAILED))
        key = failed[pick % len(failed)]
        self.bank.finish(key, paid=True)
        self.run(self._tell(key))

    async def _tell(self, key: str, *, lagging: bool = False) -> None:
        db = self.loop.db
        if key in self.bank.debits:
            seen = self.bank.seen(key)
            seen = replace(seen, state=DebitState.PENDING, failure=None) if lagging else seen
            async with db.transaction() as conn:
                settled = await settle_debit(conn, key, seen)
            await drive(db, self.bank, settled.next_debit_id)
            return
        told = self.bank.refund_seen(key)
        async with db.transaction() as conn:
            await settle_refund(conn, key, replace(told, state=DebitState.PENDING, failure=None) if lagging else told)

    @precondition(lambda self: self.there("held", "submitted", "succeeded"))
    @rule(minutes=st.sampled_from((1, 3, 90)), query=steps, send=steps)
    def reconcile(self, minutes: int, query: Step, send: Step) -> None:
        self.run(self._reconcile(minutes, query, send))

    async def _reconcile(self, minutes: int, query: Step, send: Step) -> None:
        await self._pass(timedelta(minutes=minutes))
        # All of one mind, as nobody knows in which order they are asked.
        self.bank.query_steps, self.bank.steps = deque([query] * 99), deque([send] * 99)
        await void_run_out(self.loop.db)
        await reconcile_debits(self.loop.db, self.bank)
        await reconcile_refunds(self.loop.db, self.bank)
        self.bank.query_steps.clear()
        self.bank.steps.clear()

    @precondition(lambda self: self.there("arrears"))
    @rule(step=steps)
    def retry(self, step: Step) -> None:
        self.run(self._retry(step))

    async def _retry(self, step: Step) -> None:
        await self._pass(timedelta(hours=7))
        self.bank.steps = deque([step] * 99)
        await retry_arrears(self.loop.db, self.bank)
        self.bank.steps.clear()

    @rule(after_s=st.integers(0, 5))
    def midnight(self, after_s: int) -> None:
        self.run(self._set(window_of(self.now, Per("day"), ZONE)[1] + timedelta(seconds=after_s)))

    @precondition(lambda self: self.changes < 3)
    @rule(who=st.integers(0, 1), day=st.integers(0, 50), count=st.integers(0, 8))
    def lower(self, who: int, day: int, count: int) -> None:
        """Narrower terms, as a change; they may be below what is used already."""
        self.changes += 1
        spender = self.home.spenders[who]
        now = self.terms[spender.id]["limits"]
        narrower = mandate_terms(min(day, now[0]["at_most"]), min(count, now[1]["at_most"]))
        self.run(self.home.lower(spender.mandate_id, narrower))
        self.terms[spender.id] = narrower

    @precondition(lambda self: len(self.ended) < 2 and self.changes)
    @rule(who=st.integers(0, 1))
    def raise_again(self, who: int) -> None:
        self.changes -= 1
        spender = self.home.spenders[who]
        self.terms[spender.id] = mandate_terms(120, 8)
        self.run(self.home.grant(spender.id, self.terms[spender.id], [a for a in self.home.agreements if a not in self.ended]))

    @precondition(lambda self: len(self.ended) < 2)
    @precondition(lambda self: self.there("submitted", "succeeded"))
    @rule(which=st.integers(0, 9))
    def end_agreement(self, which: int) -> None:
        """Rarely, as little follows it."""
        if which > 1 or self.home.agreements[which] in self.ended:
            return
        self.run(self.home.end_agreement(self.home.agreements[which]))
        self.ended.add(self.home.agreements[which])

    @precondition(lambda self: self.pool_open)
    @rule(sure=st.integers(0, 5))
    def end_pool(self, sure: int) -> None:
        if sure == 0:
            self.run(self.home.end_pool(self.pool_id))
            self.pool_open = False

    @invariant()
    def all_is_right(self) -> None:
        if hasattr(self, "home"):
            self.run(self._check())

    async def _check(self) -> None:
        charges = await self.charges()
        self.states = Counter(charge.state.value for charge in charges)
        db, home = self.loop.db, self.home
        await sums_are_right(db, home, self._world(charges), self.pool_id)
        await ledger_is_right(db, home, charges)
        await provider_was_believed(db, home, self.bank)
        for charge in charges:
            assert charge.refunded_minor <= (charge.captured_minor or 0)
            assert (charge.captured_minor or 0) <= charge.amount_minor

    def teardown(self) -> None:
        if hasattr(self, "home"):
            self.run(self._come_to_rest())

    async def _come_to_rest(self) -> None:
        """Everything is said and reconciled; then the provider's books and ours must be of one mind."""
        for number, (key, order) in enumerate([*self.bank.debits.items(), *self.bank.refunds.items()]):
            if order.state is DebitState.PENDING:
                self.bank.finish(key, paid=number % 2 == 0)
            await self._tell(key)
        for _ in range(6):
            await self._pass(timedelta(minutes=6))
            await reconcile_debits(self.loop.db, self.bank)
            await reconcile_refunds(self.loop.db, self.bank)
        async with self.loop.db.connection() as conn:
            linked = await conn.fetch("SELECT charge_id, debit_id FROM charge_debit WHERE circle_id = $1", self.home.circle_id)
            unsettled = await conn.fetch(
                "SELECT id FROM debit WHERE circle_id = $1 AND state = 'submitted'"
                " UNION ALL SELECT id FROM refund WHERE circle_id = $1 AND state = 'submitted'",
                self.home.circle_id,
            )
            surplus = await conn.fetch(
                "SELECT r.charge_id, r.amount_minor FROM refund r WHERE r.circle_id = $1 AND r.state = 'failed' AND NOT EXISTS"
                " (SELECT 1 FROM entry e WHERE e.refund_id = r.id)",
                self.home.circle_id,
            )
        assert not unsettled
        kept: Counter[str] = Counter()
        for row in linked:
            kept[row["charge_id"]] += self.bank.kept_minor(row["debit_id"])
        for row in surplus:
            kept[row["charge_id"]] -= row["amount_minor"]  # Debited twice, and the provider refused to give it back.
        for charge in await self.charges():
            assert charge.state is not ChargeState.SUBMITTED
            assert kept[charge.id] == (net_of(charge) if charge.state is ChargeState.SUCCEEDED else 0), charge
        await self._check()
        async with self.loop.db.connection() as conn:
            findings = await check(conn, overdue_after=None)
        assert not findings, "\n".join(str(finding) for finding in findings)


def _asked(charge: Charge, amount: int) -> Asked:
    at = (charge.merchant_id, charge.mcc, charge.spender_id, charge.credential_id, charge.method, charge.terminal_id)
    return Asked(amount, charge.currency, *at, tuple((item.code, item.amount_minor) for item in charge.items))


def _made(charge: Charge) -> Made:
    mandate_id, payer_id = charge.mandate_id or "", charge.payer_id or ""
    return Made(_asked(charge, charge.debited_minor), charge.decided_at, mandate_id, payer_id, charge.refunded_minor)


def test_a_family_lives(database_url: str) -> None:
    with Looping(database_url) as loop:
        FamilyMachine.loop = loop
        FamilyMachine.shop = loop.run(shop_of(loop.db))
        run_state_machine_as_test(FamilyMachine, settings=campaign(10, steps=30))
