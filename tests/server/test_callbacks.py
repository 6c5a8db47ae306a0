"""A provider's callback is believed only if it is signed, kept before it is acted on, and acted on once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kinpay.database.pool import Database
from kinpay.primitives.errors import Busy
from kinpay.primitives.ids import new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys
from kinpay.providers.contract import Notification
from kinpay.server import callbacks
from kinpay.server.callbacks import Callbacks
from kinpay.server.provider_accounts import ProviderAccounts, add_provider_account
from tests.server.conftest import client_of, small_app

BANK = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(64, 96)))


def event(
    path: str, *, nonce: str, signer: Ed25519PrivateKey = BANK, age_s: int = 0, **data: object
) -> tuple[bytes, dict[str, str]]:
    """A signed event as docs/sandbox-bank.md has it."""
    body = json.dumps({"event_id": nonce, "type": "agreement.novelty", "data": data}).encode()
    timestamp = str(int(time.time()) - age_s)
    text = f"POST\n{path}\n{timestamp}\n{nonce}\n{hashlib.sha256(body).hexdigest()}\n".encode()
    return body, {
        "content-type": "application/json",
        "kinbank-key": "bank1",
        "kinbank-timestamp": timestamp,
        "kinbank-nonce": nonce,
        "kinbank-signature": b64encode(signer.sign(text)).decode(),
    }


@dataclass
class Scene:
    db: Database
    account_id: str
    callbacks: Callbacks
    client: httpx.AsyncClient
    applied: list[str] = field(default_factory=list)
    failing: int = 0

    @property
    def path(self) -> str:
        return f"/v1/providers/{self.account_id}/callback"

    async def apply(self, account_id: str, notification: Notification) -> None:
        async with self.db.connection() as conn:
            kept = await conn.fetchval("SELECT count(*) FROM inbox WHERE notice_id = $1", notification.notice_id)
        assert kept == 1, "kept before it is acted on"
        if self.failing:
            self.failing -= 1
            raise Busy
        self.applied.append(notification.notice_id)

    async def send(self, body: bytes, headers: dict[str, str]) -> int:
        return (await self.client.post(self.path, content=body, headers=headers)).status_code

    async def kept(self, what: str = "count(*)") -> object:
        async with self.db.connection() as conn:
            return await conn.fetchval(f"SELECT {what} FROM inbox")


@pytest.fixture
async def scene(db: Database, keys: ServerKeys) -> AsyncIterator[Scene]:
    operator_id = new_id()
    public = b64encode(BANK.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    async with db.transaction() as conn:
        await conn.execute("INSERT INTO operator VALUES ($1, 'o', 'UTC', kinpay_now())", operator_id)
        account_id = await add_provider_account(
            conn,
            keys,
            operator_id=operator_id,
            provider="sandbox_bank",
            configuration={
                "base_url": "http://127.0.0.1:1",
                "client_id": "c",
                "bank_keys": {"bank1": public},
                "account": "canteens",
            },
            secret=Sealed(bytes(range(32))),
            is_default=True,
        )
    accounts = ProviderAccounts(db, keys, timeout_s=2)
    here: Scene

    async def apply(account_id: str, notification: Notification) -> None:
        await here.apply(account_id, notification)

    received = Callbacks(db, accounts, apply)
    async with client_of(small_app(callbacks.router(received), plain=False)) as client:
        here = Scene(db, account_id, received, client)
        yield here
    await accounts.close()


async def test_a_signed_callback_is_kept_answered_and_acted_on(scene: Scene) -> None:
    assert await scene.send(*event(scene.path, nonce="n" * 16)) == 204
    assert scene.applied == ["n" * 16]
    assert await scene.kept("result") == "applied"


async def test_the_same_one_again_changes_nothing(scene: Scene) -> None:
    sent = event(scene.path, nonce="n" * 16)
    assert [await scene.send(*sent) for _ in range(3)] == [204] * 3
    assert set(await asyncio.gather(*(scene.send(*sent) for _ in range(8)))) == {204}
    assert scene.applied == ["n" * 16]
    assert await scene.kept() == 1


async def test_a_forged_one_is_refused_and_leaves_nothing(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    body, headers = event(scene.path, nonce="n" * 16)
    assert await scene.send(*event(scene.path, nonce="n" * 16, signer=STRANGER)) == 401
    assert await scene.send(body + b" ", headers) == 401
    assert await scene.send(body, {}) == 401
    assert await scene.send(*event(scene.path, nonce="n" * 16, age_s=100_000)) == 401
    assert await scene.send(*event("/v1/providers/other/callback", nonce="n" * 16)) == 401
    assert (await scene.kept(), scene.applied) == (0, [])
    assert "forged or broken callback" in caplog.text


async def test_an_account_that_is_not_there_is_not_found(scene: Scene) -> None:
    for account_id in (new_id(), "x"):
        path = f"/v1/providers/{account_id}/callback"
        body, headers = event(path, nonce="n" * 16)
        assert (await scene.client.post(path, content=body, headers=headers)).status_code == 404


async def test_what_was_not_acted_on_is_acted_on_later_and_once(scene: Scene) -> None:
    scene.failing = 2
    assert await scene.send(*event(scene.path, nonce="n" * 16)) == 204, "the provider is not made to wait for us"
    assert await scene.callbacks.catch_up() == 0, "not before its time"
    for expected in (0, 1, 0):
        async with scene.db.connection() as conn:
            await conn.execute("UPDATE inbox SET next_try_at = kinpay_now() WHERE applied_at IS NULL")
        assert await scene.callbacks.catch_up() == expected
    assert scene.applied == ["n" * 16]
