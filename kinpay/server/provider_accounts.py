"""An operator's accounts at providers: kept with a sealed secret, opened as adapters when somebody needs one."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from datetime import date
from typing import TypeVar

from kinpay.database.audit import Event, record
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import Invalid, NotFound
from kinpay.primitives.ids import is_id, new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys
from kinpay.primitives.tally import Timed
from kinpay.providers.contract import (
    AgreementRequest,
    AgreementState,
    DebitRequest,
    DebitState,
    Inbound,
    KnownDebit,
    Misconfigured,
    NotExecuted,
    Notification,
    NotKnown,
    Provider,
    ProviderAgreement,
    ProviderDebit,
    ProviderRefund,
    RefundRequest,
    SpenderAtProvider,
    StatementLine,
)
from kinpay.providers.registry import OpenProviders, ProviderAccount, open_provider

T = TypeVar("T")

_PURPOSE = "provider-account"

INSERT = Sql("""
    INSERT INTO provider_account (id, operator_id, provider, account, config, secret, is_default, created_at)
    VALUES (:id, :operator_id, :provider, :account, :config, :secret, :is_default, :now)
    ON CONFLICT (operator_id, provider, account) DO NOTHING RETURNING 1
""")
IS_OPERATOR = Sql("SELECT EXISTS (SELECT FROM operator WHERE id = :operator_id)")
NO_DEFAULT = Sql("UPDATE provider_account SET is_default = false WHERE operator_id = :operator_id AND is_default")


async def add_provider_account(
    conn: Connection,
    keys: ServerKeys,
    *,
    operator_id: str,
    provider: str,
    configuration: Mapping[str, object],
    secret: Sealed[bytes],
    is_default: bool,
) -> str:
    """Keeps an account after its configuration was found good; returns its id. Its own name is `configuration["account"]`.

    Raises: NotFound for an operator that there is not; Invalid: the configuration's wrong entry, or `account_exists`.
    """
    if not await IS_OPERATOR.value(conn, operator_id=operator_id):
        raise NotFound()
    account_id = new_id()
    entry = ProviderAccount(id=account_id, name=provider, version=1, configuration=configuration, secret=secret)
    try:
        await open_provider(entry).close()
    except Misconfigured as error:
        raise Invalid("configuration", field=error.code) from None
    now = await database_now(conn)
    if is_default:
        await NO_DEFAULT.run(conn, operator_id=operator_id)
    kept = await INSERT.value(
        conn,
        id=account_id,
        operator_id=operator_id,
        provider=provider,
        account=str(configuration.get("account", "")),
        config=dict(configuration),
        secret=keys.seal(secret.open(), purpose=_PURPOSE, bound_to=account_id),
        is_default=is_default,
        now=now,
    )
    if kept is None:
        raise Invalid("account_exists", field="account")
    await record(conn, operator_id, Event("provider_account.added", account_id, {"default": is_default}), now=now)
    return account_id


FIND = Sql("SELECT id, provider, config, config_version, secret FROM provider_account WHERE id = :id")


class ProviderAccounts:
    """Finds accounts and opens their adapters; one for each process. `timeout_s` is for accounts that name none."""

    def __init__(self, db: Database, keys: ServerKeys, *, timeout_s: float) -> None:
        self.calls: dict[tuple[str, str], Timed] = {}
        """(provider, operation) → how this process's calls went; `outcome_of` and `Leased` say which outcomes there are."""
        self._db = db
        self._keys = keys
        self._timeout_s = timeout_s
        self._open = OpenProviders()

    async def adapter(self, provider_account_id: str) -> Provider:
        """The adapter of an account; it may be kept for one piece of work. Raises: NotFound, Misconfigured."""
        account = await self.find(provider_account_id)
        async with self._open.using(account) as provider:
            return Leased(self._open, account, provider, self.calls)

    async def find(self, provider_account_id: str) -> ProviderAccount:
        """The account as it is now. Raises: NotFound; SealBroken if it was sealed under a root that is gone."""
        if not is_id(provider_account_id):
            raise NotFound()
        async with self._db.connection() as conn:
            row = await FIND.row(conn, id=provider_account_id)
        if row is None:
            raise NotFound()
        secret = self._keys.unseal(row["secret"], purpose=_PURPOSE, bound_to=row["id"])
        return ProviderAccount(
            id=row["id"],
            name=row["provider"],
            version=row["config_version"],
            configuration={"timeout_s": self._timeout_s, **row["config"]},
            secret=Sealed(secret),
        )

    async def close(self) -> None:
        """Closes every adapter."""
        await self._open.close()


class Leased:
    """An adapter that is held open only while it is being asked something: closing it under a debit would make the
    debit's outcome unknown, and never closing it would leak one for each change of an account."""

    def __init__(
        self, opened: OpenProviders, account: ProviderAccount, found: Provider, calls: dict[tuple[str, str], Timed]
    ) -> None:
        self._calls = calls
        self._opened = opened
        self._account = account
        self._found = found
        self.name = found.name
        self.can = found.can

    async def begin_agreement(self, request: AgreementRequest) -> ProviderAgreement:
        """As the port says."""
        return await self._ask("begin_agreement", lambda provider: provider.begin_agreement(request))

    async def get_agreement(self, key: str) -> ProviderAgreement:
        """As the port says."""
        return await self._ask("get_agreement", lambda provider: provider.get_agreement(key))

    async def end_agreement(self, agreement_ref: str, *, reason: str) -> ProviderAgreement:
        """As the port says."""
        return await self._ask("end_agreement", lambda provider: provider.end_agreement(agreement_ref, reason=reason))

    async def bind_spender(self, agreement_ref: str, spender: SpenderAtProvider) -> ProviderAgreement:
        """As the port says."""
        return await self._ask("bind_spender", lambda provider: provider.bind_spender(agreement_ref, spender))

    async def unbind_spender(self, agreement_ref: str, *, spender_ref: str) -> ProviderAgreement:
        """As the port says."""
        return await self._ask(
            "unbind_spender", lambda provider: provider.unbind_spender(agreement_ref, spender_ref=spender_ref)
        )

    async def debit(self, request: DebitRequest) -> ProviderDebit:
        """As the port says."""
        return await self._ask("debit", lambda provider: provider.debit(request))

    async def get_debit(self, request: DebitRequest) -> ProviderDebit:
        """As the port says."""
        return await self._ask("get_debit", lambda provider: provider.get_debit(request))

    async def look_up_debit(self, key: str) -> KnownDebit:
        """As the port says."""
        async with self._opened.using(self._account) as provider:
            return await provider.look_up_debit(key)

    async def cancel_debit(self, request: DebitRequest) -> ProviderDebit:
        """As the port says."""
        return await self._ask("cancel_debit", lambda provider: provider.cancel_debit(request))

    async def refund(self, request: RefundRequest) -> ProviderRefund:
        """As the port says."""
        return await self._ask("refund", lambda provider: provider.refund(request))

    async def get_refund(self, request: RefundRequest) -> ProviderRefund:
        """As the port says."""
        return await self._ask("get_refund", lambda provider: provider.get_refund(request))

    def receive(self, inbound: Inbound) -> Notification:
        """As the port says; pure, so that an adapter closed meanwhile does as well."""
        return self._found.receive(inbound)

    async def statement(self, day: date) -> AsyncGenerator[StatementLine, None]:
        """As the port says."""
        with self._counted("statement") as told:
            async with self._opened.using(self._account) as provider, aclosing(provider.statement(day)) as lines:
                async for line in lines:
                    if not told:
                        told.append("ok")
                    yield line
            told.append("ok")

    async def close(self) -> None:
        """Nothing of its own is open."""

    async def _ask(self, operation: str, call: Callable[[Provider], Awaitable[T]]) -> T:
        with self._counted(operation) as told:
            async with self._opened.using(self._account) as provider:
                answer = await call(provider)
            told.append(outcome_of(answer))
        return answer

    @contextmanager
    def _counted(self, operation: str) -> Iterator[list[str]]:
        """Counts one call under the outcome that the block appends; under what it raises otherwise, which may be anything:
        then nobody knows what the provider did."""
        told: list[str] = []
        began, outcome = time.perf_counter(), "unknown"
        try:
            yield told
        except NotExecuted:
            outcome = "not_executed"
            raise
        except NotKnown:
            outcome = "not_known"
            raise
        except Misconfigured:
            outcome = "misconfigured"
            raise
        finally:
            timed = self._calls.setdefault((self.name, operation), Timed())
            timed.add(told[0] if told else outcome, time.perf_counter() - began)


def outcome_of(answer: object) -> str:
    """`refused` for a provider's definitive no, `pending` where it has yet to decide, otherwise `ok`."""
    state = getattr(answer, "state", None)
    if state in (DebitState.FAILED, AgreementState.REFUSED):
        return "refused"
    return "pending" if state in (DebitState.PENDING, AgreementState.PENDING) else "ok"
