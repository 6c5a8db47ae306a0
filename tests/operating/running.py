"""Asking a running process what it tells."""

from __future__ import annotations

import base64
import socket

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client.parser import text_string_to_metric_families

from kinpay.database.pool import Database, database_now
from kinpay.primitives.ids import new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys
from kinpay.server.provider_accounts import add_provider_account

Numbers = dict[tuple[object, ...], float]
"""(name of the sample, its labels in order) → value."""


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def read_numbers(text: str) -> Numbers:
    """Every sample, by Prometheus' own reader."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(port: int, token: str) -> Numbers:
    """What a process tells on `port`."""
    async with httpx.AsyncClient() as client:
        told = await client.get(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {token}"})
    assert told.status_code == 200
    assert told.headers["content-type"].startswith("text/plain; version=0.0.4")
    return read_numbers(told.text)


async def account_of_a_bank_that_is_away(db: Database, keys: ServerKeys) -> str:
    """An operator's account at a bank whose port nobody answers; returns its id."""
    public = base64.b64encode(Ed25519PrivateKey.generate().public_key().public_bytes_raw()).decode()
    configuration = {"base_url": "http://127.0.0.1:1", "client_id": "c", "bank_keys": {"bank1": public}, "account": "canteens"}
    operator_id = new_id()
    async with db.transaction() as conn:
        now = await database_now(conn)
        await conn.execute("INSERT INTO operator VALUES ($1, 'School', 'Asia/Shanghai', $2)", operator_id, now)
        return await add_provider_account(
            conn,
            keys,
            operator_id=operator_id,
            provider="sandbox_bank",
            configuration=configuration,
            secret=Sealed(bytes(range(32))),
            is_default=True,
        )
