"""The operator's accounts at providers, as payers may choose among them ([0023]), and the way from one to its adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kinpay.database.sql import Connection, Sql
from kinpay.providers.contract import Provider


class Providers(Protocol):
    """What is needed of whoever keeps the adapters open."""

    async def adapter(self, provider_account_id: str) -> Provider:
        """The open adapter of a provider account. Raises: Misconfigured."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAccount:
    """One choice for a payer; nothing in it is secret. `account` is the operator's account there."""

    id: str
    operator_id: str
    provider: str
    account: str
    is_default: bool


ACCOUNTS = Sql("""
    SELECT id, operator_id, provider, account, is_default FROM provider_account
    WHERE operator_id = :operator_id AND enabled ORDER BY is_default DESC, provider, id LIMIT 100
""")


async def provider_accounts(conn: Connection, operator_id: str) -> list[ProviderAccount]:
    """The operator's enabled accounts, the default one first."""
    return [ProviderAccount(**row) for row in await ACCOUNTS.rows(conn, operator_id=operator_id)]


ACCOUNT = Sql("""
    SELECT id, operator_id, provider, account, is_default FROM provider_account
    WHERE id = :provider_account_id AND operator_id = :operator_id AND enabled
""")


async def provider_account(conn: Connection, provider_account_id: str, *, operator_id: str) -> ProviderAccount | None:
    """The operator's enabled account of that id, or None."""
    row = await ACCOUNT.row(conn, provider_account_id=provider_account_id, operator_id=operator_id)
    return None if row is None else ProviderAccount(**row)
