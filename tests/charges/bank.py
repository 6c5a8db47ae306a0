"""Families with real agreements at a real sandbox bank, for tests of charges, stories and the kill campaign.

The bank runs as a process of its own; agreements are asked for through the adapter, signed by the payer on the bank's own
pages, and learned of by query; what the bank says by itself is heard by `ear` and applied as the server applies it.
A test module that uses the fixtures imports them: `from tests.charges.bank import bank, control, ear, at_bank  # noqa: F401`.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kinpay.biometrics.keyring import FolderKeyring
from kinpay.charges.batch import Batcher
from kinpay.charges.request import Charge
from kinpay.charges.submit import capture_charge
from kinpay.database.pool import Database, database_now
from kinpay.mandates.agreement import AgreementState
from kinpay.mandates.bind_spender import bind_spender_at_provider
from kinpay.mandates.credential import ensure_phone
from kinpay.mandates.sign_agreement import begin, open_at_provider, refresh_agreement
from kinpay.people.open_circle import open_circle
from kinpay.people.store import add_member
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.ids import new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys
from kinpay.providers.contract import Inbound
from kinpay.server.callbacks import Callbacks
from kinpay.server.learn import Learner
from kinpay.server.provider_accounts import ProviderAccounts, add_provider_account
from kinpay_sandbox.person import BankCustomer
from kinpay_sandbox.remote import BankControl, ProviderAccount
from tests.charges.household import NO_TERMS, Household, Spender
from tests.charges.seeds import Shop
from tests.sandbox.asking import Ear, until
from tests.sandbox.conftest import BankProcess, bank, control, ear

__all__ = ["AtBank", "BankFamily", "at_bank", "bank", "control", "ear"]

PASSWORD = "right horse"
PUBLIC_URL = "https://kinpay.example"
PROVIDER_TIMEOUT_S = 0.6
"""Short, as some tests let the bank hang."""


@dataclass
class BankFamily(Household):
    """A household whose payer has accounts at the bank: one login for each agreement, in the order of funding."""

    logins: list[str] = field(default_factory=list)


@dataclass
class AtBank:
    """An operator that is a client of the bank, and everything that a test of charges needs."""

    db: Database
    keys: ServerKeys
    shop: Shop
    control: BankControl
    base_url: str
    client_id: str
    providers: ProviderAccounts
    callbacks: Callbacks
    batcher: Batcher
    ear: Ear
    _heard: int = 0

    async def family(self, written: dict[str, Any] = NO_TERMS, *, balances: tuple[int, ...] = (100_000,)) -> BankFamily:
        """A payer with an agreement for each of `balances`, and a spender with a mandate that they fund in that order."""
        payer_id, spender_id = await self.person("payer"), await self.person("spender")
        async with self.db.transaction() as conn:
            payer = Actor(ActorKind.PERSON, payer_id, self.shop.operator_id)
            circle = await open_circle(conn, payer, name="Family", time_zone="Asia/Shanghai")
            now = await database_now(conn)
            await add_member(conn, circle.id, spender_id, "spender", now)
            phone = await ensure_phone(conn, circle_id=circle.id, person_id=spender_id, now=now)
        family = BankFamily(self.db, self.shop, circle.id, payer_id, "Asia/Shanghai")
        family.spenders = [Spender(spender_id, phone, "")]
        for balance_minor in balances:
            await self.sign(family, balance_minor=balance_minor)
        mandate_id = await family.grant(spender_id, written)
        family.spenders = [Spender(spender_id, phone, mandate_id)]
        for agreement_id in family.agreements:
            await bind_spender_at_provider(self.db, self.providers, agreement_id, spender_id)
        return family

    async def person(self, name: str) -> str:
        """An active person."""
        person_id = new_id()
        async with self.db.transaction() as conn:
            await conn.execute(
                "INSERT INTO person (id, operator_id, account, display_name, locale, birth_date, state, created_at)"
                " VALUES ($1, $2, $3, $4, 'zh', '1980-01-01', 'active', kinpay_now())",
                person_id, self.shop.operator_id, f"{name}{person_id}", name.title(),
            )  # fmt: skip
        return person_id

    async def sign(self, family: BankFamily, *, balance_minor: int, per_debit_minor: int | None = None) -> str:
        """One more account at the bank, and an agreement over it that the payer signs there; behind those there are."""
        login = f"payer.{new_id()[-12:]}"
        await self.control.open_customer(login, password=PASSWORD, name="王妈妈", balance_minor=balance_minor)
        async with self.db.transaction() as conn:
            agreement_id = await begin(
                conn,
                circle_id=family.circle_id,
                payer_id=family.payer_id,
                spender_id=family.spenders[0].id,
                provider_account_id=self.shop.provider_account_id,
                payer_account=login,
                business_type="proxy",
                currency="CNY",
                now=await database_now(conn),
                per_debit_minor=per_debit_minor,
            )
        asked = await open_at_provider(self.db, self.providers, agreement_id, public_url=PUBLIC_URL)
        assert asked.action_url is not None, asked
        async with BankCustomer(self.base_url, login, PASSWORD) as person:
            await person.agree(asked.action_url)
        signed = await refresh_agreement(self.db, self.providers, agreement_id, public_url=PUBLIC_URL)
        assert signed.state is AgreementState.ACTIVE
        family.logins.append(login)
        family.agreements.append(agreement_id)
        return agreement_id

    async def buy(self, family: Household, amount_minor: int, *, delivered: bool = False, **changed: Any) -> Charge:
        """Authorises and captures at once."""
        held = await family.buy(self.batcher, amount_minor, **changed)
        return await self.capture(held.id, delivered=delivered)

    async def capture(self, charge_id: str, *, amount_minor: int | None = None, delivered: bool = False) -> Charge:
        """Captures a held charge."""
        actor_id = self.shop.terminal_id
        return await capture_charge(
            self.db, self.providers, charge_id, amount_minor=amount_minor, delivered=delivered, actor_id=actor_id
        )

    async def hear(self, *types: str) -> None:
        """Waits until the bank has said events of these types since the last time, then applies whatever it said."""
        await until(lambda: set(types) <= set(self.ear.types()[self._heard :]))
        heard, self._heard = self.ear.heard[self._heard :], len(self.ear.heard)
        for first_line, headers, body in heard:
            await self.apply(first_line, headers, body)

    async def apply(self, first_line: str, headers: Mapping[str, str], body: bytes) -> None:
        """Receives one callback as the server does: verified, kept once, acted on."""
        method, path, _ = first_line.split(" ")
        inbound = Inbound(method=method, path=path, headers=headers, body=body, received_at=datetime.now(UTC))
        notification = await self.callbacks.receive(self.shop.provider_account_id, inbound)
        if notification is not None:
            assert await self.callbacks.act(self.shop.provider_account_id, notification)

    async def debits_of(self, charge_id: str) -> list[dict[str, Any]]:
        """The bank's own debits for a charge, in the order in which we sent them."""
        async with self.db.connection() as conn:
            rows = await conn.fetch("SELECT debit_id FROM charge_debit WHERE charge_id = $1 ORDER BY debit_id", charge_id)
        known = {debit["key"]: debit for debit in await self.control.debits(self.client_id)}
        return [known[row[0]] for row in rows if row[0] in known]

    async def debit_keys(self, charge_id: str) -> list[str]:
        """Our debits for a charge, in the order in which they were made; known at the bank or not."""
        async with self.db.connection() as conn:
            rows = await conn.fetch("SELECT debit_id FROM charge_debit WHERE charge_id = $1 ORDER BY debit_id", charge_id)
        return [row[0] for row in rows]

    async def balance(self, login: str) -> int:
        """What a customer of the bank has, by the bank's own word."""
        customer = await self.control.change_customer(login)
        return int(customer["balance_minor"])

    async def make_due(self) -> None:
        """Lets every check of the reconciler be due now, as if its time had come."""
        async with self.db.transaction() as conn:
            await conn.execute("UPDATE debit SET next_check_at = kinpay_now() WHERE next_check_at IS NOT NULL")
            await conn.execute("UPDATE refund SET next_check_at = kinpay_now() WHERE next_check_at IS NOT NULL")
            await conn.execute("UPDATE charge SET retry_at = kinpay_now() WHERE retry_at IS NOT NULL")

    async def close(self) -> None:
        """Lets go of connections."""
        await self.batcher.close()
        await self.providers.close()


async def join_bank(
    db: Database, keys: ServerKeys, *, control: BankControl, base_url: str, ear: Ear, keyring: FolderKeyring
) -> AtBank:
    """An operator with a shop, registered at the bank, with `ear` as its callback door."""
    private = Ed25519PrivateKey.generate()
    registered = await control.register_client(
        "School",
        public_key=base64.b64encode(private.public_key().public_bytes_raw()).decode(),
        callback_url=f"http://127.0.0.1:{ear.port}/callback",
        return_url_prefix=PUBLIC_URL,
        accounts=[ProviderAccount("canteen", ["self", "proxy"])],
    )
    configuration: dict[str, object] = {
        "base_url": base_url,
        "client_id": registered.client_id,
        "account": "canteen",
        "bank_keys": {registered.bank_key_id: registered.bank_public_key},
        "timeout_s": PROVIDER_TIMEOUT_S,
    }
    shop = await _open_shop(db, keys, configuration, Sealed(private.private_bytes_raw()))
    providers = ProviderAccounts(db, keys, timeout_s=PROVIDER_TIMEOUT_S)
    callbacks = Callbacks(db, providers, Learner(db, providers, keyring).learn)
    return AtBank(db, keys, shop, control, base_url, registered.client_id, providers, callbacks, Batcher(db), ear)


async def _open_shop(db: Database, keys: ServerKeys, configuration: dict[str, object], secret: Sealed[bytes]) -> Shop:
    operator_id, merchant_id, site_id, terminal_id = (new_id() for _ in range(4))
    async with db.transaction() as conn:
        now = await database_now(conn)
        await conn.execute("INSERT INTO operator VALUES ($1, 'School', 'Asia/Shanghai', $2)", operator_id, now)
        await conn.execute("INSERT INTO merchant VALUES ($1, $2, 'Canteen', '5812', $3)", merchant_id, operator_id, now)
        await conn.execute("INSERT INTO site VALUES ($1, $2, 'School', $3)", site_id, merchant_id, now)
        await conn.execute(
            "INSERT INTO terminal (id, operator_id, merchant_id, site_id, name, kind, state, public_key, created_at,"
            " installed_at) VALUES ($1, $2, $3, $4, 'Till', 'till', 'active', $5, $6, $6)",
            terminal_id, operator_id, merchant_id, site_id, bytes.fromhex(terminal_id), now,
        )  # fmt: skip
        account_id = await add_provider_account(
            conn, keys, operator_id=operator_id, provider="sandbox_bank",
            configuration=configuration, secret=secret, is_default=True,
        )  # fmt: skip
    return Shop(operator_id, merchant_id, site_id, terminal_id, account_id)


@pytest_asyncio.fixture
async def at_bank(
    db: Database, keys: ServerKeys, bank: BankProcess, control: BankControl, ear: Ear, tmp_path: Path
) -> AsyncIterator[AtBank]:
    """A shop whose payers are customers of the session's bank."""
    keyring = FolderKeyring.open(tmp_path / "keyring", keys)
    joined = await join_bank(db, keys, control=control, base_url=bank.base_url, ear=ear, keyring=keyring)
    yield joined
    await joined.close()
