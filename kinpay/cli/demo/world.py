"""What the cast lives in: an operator known to the bank, its merchants, and how one-time codes are read.

Everything that the command line does on the server's own machine is done with the command line's functions; everything
else over HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kinpay.operators.operator import create_operator
from kinpay.people.person import NewPerson
from kinpay.primitives.sealed import Sealed
from kinpay.server.house import open_house
from kinpay.server.provider_accounts import add_provider_account
from kinpay.server.serve import located
from kinpay.server.settings import read_settings
from kinpay_sandbox.remote import BankControl, ProviderAccount

CODE_WITHIN_S: Final = 30.0
BANK_ACCOUNT: Final = "school-services"


class StoryBroken(Exception):
    """Something did not happen as it is told; the text says what."""


class CodeFile:
    """The file into which the demo's channel writes one-time codes, read as people read their phones."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mark(self) -> int:
        """Where the file ends now: what comes after it is new."""
        return self._path.stat().st_size if self._path.exists() else 0

    async def read(self, account: str, *, since: int) -> str:
        """The first code sent to `account` after the mark. Raises: StoryBroken if none comes."""
        for _ in range(int(CODE_WITHIN_S / 0.05)):
            for line in self._lines(since):
                told = json.loads(line)
                if told["account"] == account:
                    return str(told["code"])
            await asyncio.sleep(0.05)
        raise StoryBroken(f"no code reached {account} within {CODE_WITHIN_S:.0f} s")

    def _lines(self, since: int) -> list[str]:
        if not self._path.exists():
            return []
        with self._path.open(encoding="utf-8") as file:
            file.seek(since)
            return [line for line in file.read().split("\n")[:-1] if line]


@dataclass(frozen=True, slots=True)
class World:
    """Addresses, the operator, and one client for all HTTP."""

    url: str
    bank_url: str
    operator_id: str
    owner_account: str
    provider_account_id: str
    bank_client_id: str
    codes: CodeFile
    http: httpx.AsyncClient
    control: BankControl

    def at(self, url: str) -> World:
        """The same world by way of another server process."""
        return replace(self, url=url)


@asynccontextmanager
async def open_world(
    environment: Mapping[str, str],
    *,
    url: str,
    bank_url: str,
    codes: Path,
    name: str = "Shanghai School Services",
    owner_name: str = "Wang Li",
    locale: str = "en",
    time_zone: str = "Asia/Shanghai",
) -> AsyncIterator[World]:
    """Makes an operator that is a client of the bank, on the database that `environment` names; its server runs at `url`."""
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=100)
    async with (
        BankControl(bank_url) as control,
        httpx.AsyncClient(timeout=30, trust_env=False, limits=limits) as http,
    ):
        owner = NewPerson(
            account="owner", display_name=owner_name, locale=locale, birth_date=None, channel="phone", address="+8613800000000"
        )
        operator_id, account_id, client_id = await _found(
            environment, control, name=name, owner=owner, time_zone=time_zone, url=url, bank_url=bank_url
        )
        yield World(url, bank_url, operator_id, owner.account, account_id, client_id, CodeFile(codes), http, control)


async def _found(
    environment: Mapping[str, str],
    control: BankControl,
    *,
    name: str,
    owner: NewPerson,
    time_zone: str,
    url: str,
    bank_url: str,
) -> tuple[str, str, str]:
    """The operator, its provider account, and what the bank calls it."""
    private = Ed25519PrivateKey.generate()
    public = base64.b64encode(private.public_key().public_bytes_raw()).decode()
    client = await control.register_client(
        name,
        public_key=public,
        callback_url=f"{url}/v1/providers/none-yet/callback",
        return_url_prefix=url,
        accounts=[ProviderAccount(BANK_ACCOUNT, ["self", "proxy"])],
    )
    configuration: dict[str, object] = {
        "base_url": bank_url,
        "client_id": client.client_id,
        "account": BANK_ACCOUNT,
        "bank_keys": {client.bank_key_id: client.bank_public_key},
    }
    settings = read_settings(environment)
    async with (
        located(settings) as database_url,
        open_house(settings, database_url, public_url=url) as house,
        house.db.transaction() as conn,
    ):
        made = await create_operator(conn, name, time_zone=time_zone, owner=owner)
        account_id = await add_provider_account(
            conn,
            house.keys,
            operator_id=made.operator_id,
            provider="sandbox_bank",
            configuration=configuration,
            secret=Sealed(private.private_bytes_raw()),
            is_default=True,
        )
    await control.change_client(client.client_id, callback_url=f"{url}/v1/providers/{account_id}/callback")
    return made.operator_id, account_id, client.client_id
