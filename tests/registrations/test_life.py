"""Any order of items, refusals, failures and hours: bound exactly if every required item came, and nothing kept too long."""

from __future__ import annotations

import asyncio
import base64
import tempfile
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

import kinpay_postgres
from kinpay.biometrics.keyring import FolderKeyring
from kinpay.database.pool import Database, database_now
from kinpay.mandates.sign_agreement import learn_agreement
from kinpay.primitives.ids import new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys
from kinpay.providers.contract import AgreementState, ProviderAgreement
from kinpay.registrations.authorize import carry_agreement
from kinpay.registrations.expire import expire_provisional, expire_registrations
from kinpay.registrations.registration import Rules
from kinpay.server.provider_accounts import add_provider_account
from tests.conftest import set_clock
from tests.registrations.house import House, Somebody, Terminal, in_minutes, open_house

EXAMPLES = 25
"""Lives in one run; about half of them come to a binding."""
MINUTES = st.sampled_from([1, 1, 10, 16, 60, 25 * 60])
WORDS = st.sampled_from([AgreementState.ACTIVE] * 4 + list(AgreementState))


class Life(RuleBasedStateMachine):
    """One registration in a house of its own; the model is the set of items that are there."""

    url: str
    loop: asyncio.AbstractEventLoop
    keys: ServerKeys

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Lets the house do something."""
        return self.loop.run_until_complete(work)

    @initialize(order=st.sampled_from("ABC"))
    def ask(self, order: str) -> None:
        """The spender asks; nothing is there yet."""
        self.run(self._ask(order))
        self.order = order
        self.consented = self.signed = False
        self.enrolled_at: float | None = None
        self.minutes = 0.0
        self.ended: str | None = None

    async def _ask(self, order: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="keyring-"))
        self.db = await Database.open(self.url, max_connections=6)
        keyring = FolderKeyring.open(self.folder / "keyring", self.keys)
        self.house: House = await open_house(self.db, self.keys, keyring, rules=Rules())
        await self._add_provider()
        self.spender: Somebody = await self.house.person("spender" + new_id()[-6:])
        self.payer: Somebody = await self.house.person("payer" + new_id()[-6:])
        self.terminal: Terminal = self.house.terminal()
        self.other: Terminal = await self.house.second_terminal()
        made = await self.spender.requested(order, payer=self.payer.account, terminal=self.terminal)
        self.id, self.number = made["registration_id"], made["match_number"]

    async def _add_provider(self) -> None:
        """A bank at whose address nobody listens: its word is spoken by the rules below."""
        bank_key = base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
        async with self.db.transaction() as conn:
            self.house.provider_account_id = await add_provider_account(
                conn,
                self.keys,
                operator_id=self.house.operator_id,
                provider="sandbox_bank",
                configuration={
                    "base_url": "http://127.0.0.1:9",
                    "client_id": "cl_1",
                    "account": "canteen",
                    "bank_keys": {"k1": bank_key},
                },
                secret=Sealed(bytes(32)),
                is_default=True,
            )

    def teardown(self) -> None:
        """Lets go of the house."""
        if hasattr(self, "house"):
            self.run(self.house.close())
            self.run(self._reset_clock())
            self.run(self.db.close())

    async def _reset_clock(self) -> None:
        async with self.db.transaction() as conn:
            await set_clock(conn, await conn.fetchval("SELECT clock_timestamp()"))

    @property
    def open(self) -> bool:
        """Whether the model says that something may still come of it."""
        return self.ended is None and self.minutes < 24 * 60

    @property
    def enrolled(self) -> bool:
        """Whether a template is there that has not outlived its minutes."""
        return self.enrolled_at is not None and self.minutes < self.enrolled_at + 15

    def settle(self) -> None:
        """The model's binding: whatever came last completes it."""
        whole = self.consented and self.signed and (self.order == "C" or self.enrolled)
        if self.open and whole:
            self.ended = "bound"

    @rule(right=st.sampled_from([True, True, True, False]))
    def consent(self, right: bool) -> None:
        """The payer says yes, with the right number or a wrong one."""
        answer = self.run(self._consent(self.number if right else (self.number + 1) % 100))
        assert (answer.status_code == 200) == (right and self.open and not self.consented), answer.text
        if answer.status_code == 200:
            self.consented, self.signed = True, False
            self.settle()

    async def _consent(self, number: int) -> Any:
        # A proof costs a code, and codes are capped by the hour: here they are forgotten, the cap has tests of its own.
        async with self.db.transaction() as conn:
            await conn.execute("DELETE FROM one_time_code WHERE person_id = $1", self.payer.id)
        return await self.payer.approve(self.id, number=number)

    @precondition(lambda self: self.consented)
    @rule(state=WORDS)
    def provider_says(self, state: AgreementState) -> None:
        """A word of the provider about the agreement, in whatever order."""
        known = self.run(self._provider_says(state))
        if not self.open or known not in ("created", "pending", "active"):
            return
        if state is AgreementState.ACTIVE:
            self.signed = True
        elif state is AgreementState.ENDED or (state is AgreementState.REFUSED and known != "active"):
            self.consented = self.signed = False
        self.settle()

    async def _provider_says(self, state: AgreementState) -> str:
        async with self.db.transaction() as conn:
            row = await conn.fetchrow(
                "SELECT a.id, a.state FROM agreement a WHERE a.payer_id = $1 ORDER BY a.created_at DESC, a.id DESC LIMIT 1",
                self.payer.id,
            )
            seen = ProviderAgreement(
                key=row["id"], provider_ref="ref" + row["id"], state=state, action_url=None, expires_at=None,
                payer_account_id="P1" if state is AgreementState.ACTIVE else None, ended_by="payer",
            )  # fmt: skip
            await learn_agreement(conn, row["id"], seen=seen, now=await database_now(conn))
        await carry_agreement(self.db, self.house.keyring, agreement_id=row["id"])
        return str(row["state"])

    @rule(elsewhere=st.booleans(), well=st.sampled_from([True, True, False]))
    def capture(self, elsewhere: bool, well: bool) -> None:
        """A terminal captures what it was last asked to, here or resumed elsewhere, well or not."""
        status = self.run(self._capture(elsewhere, well))
        if status == 200 and well:
            assert self.open, "captured only while it is open"
            assert not self.enrolled, "captured only when it is due"
            self.enrolled_at = self.minutes
            self.settle()

    async def _capture(self, elsewhere: bool, well: bool) -> int | None:
        seen = (await self.spender.look(self.id))["capture"]
        if seen is None:
            return None
        capture_id, terminal = seen["capture_id"], self.terminal
        if elsewhere or seen["state"] != "asked":
            resumed = await self.other.ask("POST", f"/v1/terminal/captures/{capture_id}/resume")
            if resumed.status_code != 200:
                assert resumed.json()["code"] == "wrong-state"
                return None
            capture_id, terminal = resumed.json()["capture_id"], self.other
        answer = await terminal.capture(capture_id, **({} if well else {"failed": "dark"}))
        return answer.status_code

    @precondition(lambda self: self.open)
    @rule()
    def go_on(self) -> None:
        """Whoever is waited for does their part, as in ordinary life."""
        if not self.consented:
            self.consent(right=True)
        elif not self.signed:
            self.provider_says(AgreementState.ACTIVE)
        else:
            self.capture(elsewhere=False, well=True)

    @precondition(lambda self: self.consented or self.enrolled or self.ended)
    @rule(who=st.sampled_from(["payer", "spender"]))
    def give_up(self, who: str) -> None:
        """The payer refuses or the spender withdraws."""
        if who == "payer":
            answer = self.run(self.payer.refuse(self.id))
        else:
            answer = self.run(self.spender.ask("POST", f"/v1/registrations/{self.id}/withdraw"))
        wanted = "refused" if who == "payer" else "withdrawn"
        # Whoever is late, before the sweep has closed it, may still say so: nothing comes of it either way.
        assert (answer.status_code == 200) == (self.ended in (None, wanted)), answer.text
        self.ended = self.ended or wanted

    @rule(minutes=MINUTES, swept=st.just(True))
    def time_passes(self, minutes: int, swept: bool) -> None:
        """The clock goes on, and the schedule runs."""
        self.run(self._time_passes(minutes))
        self.minutes += minutes
        if self.minutes >= 24 * 60:
            self.ended = self.ended or "expired"

    async def _time_passes(self, minutes: int) -> None:
        moment = await in_minutes(self.house, minutes)
        async with self.db.transaction() as conn:
            assert moment - await database_now(conn) > timedelta(0)
            await set_clock(conn, moment)
        await expire_provisional(self.db, self.house.keyring)
        await expire_registrations(self.db, self.house.keyring)

    @invariant()
    def holds(self) -> None:
        """Bound exactly if whole; no template too long; no ciphertext without its key, no key without its ciphertext."""
        if hasattr(self, "id"):
            self.run(self._holds())

    async def _holds(self) -> None:
        async with self.db.connection() as conn:
            row = await conn.fetchrow("SELECT * FROM registration WHERE id = $1", self.id)
            assert row["state"] == (self.ended or "open")
            mandates = {found["state"] for found in await conn.fetch(
                "SELECT state FROM mandate WHERE payer_id = $1", self.payer.id)}  # fmt: skip
            assert ("active" in mandates or "suspended" in mandates) == (self.ended == "bound")
            if self.ended in ("refused", "withdrawn", "expired"):
                assert mandates <= {"ended"}
            templates = await conn.fetch("SELECT key_id, provisional_until FROM template WHERE person_id = $1"
                                         " AND ciphertext IS NOT NULL", self.spender.id)  # fmt: skip
            now = await database_now(conn)
        assert {found["key_id"] for found in templates} == set(await self.house.keyring.key_ids())
        if self.ended == "bound":
            assert [found["provisional_until"] for found in templates] == ([] if self.order == "C" else [None])
        elif self.ended is not None:
            assert not templates
        assert all(found["provisional_until"] is None or found["provisional_until"] > now for found in templates)


async def test_any_order_of_items_and_failures(cluster: kinpay_postgres.Cluster, template: str, keys: ServerKeys) -> None:
    name = f"life_{new_id()[:8]}"
    url = kinpay_postgres.create_database(cluster, name, template=template)
    try:
        # The machine's steps are plain functions, so it runs in a thread with a loop of its own.
        await asyncio.to_thread(_live, url, keys)
    finally:
        kinpay_postgres.drop_database(cluster, name)


def _live(url: str, keys: ServerKeys) -> None:
    loop = asyncio.new_event_loop()
    Life.url, Life.keys, Life.loop = url, keys, loop
    try:
        run_state_machine_as_test(
            Life,
            settings=settings(
                max_examples=EXAMPLES, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        loop.close()
