"""From a provider account to its open adapter: which providers there are, and which are open in this process."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from kinpay.primitives.sealed import Sealed
from kinpay.providers.contract import Misconfigured, Provider
from kinpay.providers.sandbox_bank.adapter import open_sandbox_bank

Factory = Callable[[Mapping[str, object], Sealed[bytes]], Provider]

FACTORIES: Final[Mapping[str, Factory]] = MappingProxyType({"sandbox_bank": open_sandbox_bank})
"""Every provider, by the name that a provider account carries. A new one is added here."""

MAX_OPEN: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAccount:
    """An operator's account at a provider, as stored. `version` grows with each change of configuration or secret."""

    id: str
    name: str
    version: int
    configuration: Mapping[str, object]
    secret: Sealed[bytes]


def open_provider(account: ProviderAccount, factories: Mapping[str, Factory] = FACTORIES) -> Provider:
    """A fresh adapter; the caller closes it.

    Raises: Misconfigured: `provider_unknown`, or the entry of the configuration that is wrong.
    """
    factory = factories.get(account.name)
    if factory is None:
        raise Misconfigured("provider_unknown")
    return factory(account.configuration, account.secret)


@dataclass(slots=True)
class _Open:
    """An open adapter, how many are using it, and whether it is to be closed when they are done."""

    provider: Provider
    users: int = 0
    retired: bool = False


class OpenProviders:
    """Keeps the adapters last used open, one for each provider account and version; belongs to one event loop.

    An adapter is closed only when nobody is using it: closing under a debit would make its outcome unknown.
    """

    def __init__(self, *, max_open: int = MAX_OPEN, factories: Mapping[str, Factory] = FACTORIES) -> None:
        self._max_open = max_open
        self._factories = factories
        self._open: OrderedDict[tuple[str, int], _Open] = OrderedDict()
        self._closed = False

    @asynccontextmanager
    async def using(self, account: ProviderAccount) -> AsyncIterator[Provider]:
        """The account's adapter, for as long as the block lasts.

        Raises: Misconfigured; RuntimeError after `close`.
        """
        if self._closed:
            raise RuntimeError("the providers are closed")
        held, retired = self._hold(account)
        try:
            await _close_all(retired)
            yield held.provider
        finally:
            held.users -= 1
            if held.retired and held.users == 0:
                await held.provider.close()

    async def close(self) -> None:
        """Closes every adapter: those in use when their last user is done."""
        self._closed = True
        await _close_all(self._retire(list(self._open)))

    def _hold(self, account: ProviderAccount) -> tuple[_Open, list[Provider]]:
        """Finds or opens, counts the user in, names what is to be closed; no pause, so that nobody sees half of it."""
        key = (account.id, account.version)
        held = self._open.get(key)
        if held is None:
            held = _Open(open_provider(account, self._factories))
            self._open[key] = held
        self._open.move_to_end(key)
        held.users += 1
        older = [other for other in self._open if other[0] == account.id and other[1] < account.version]
        spare = [other for other in self._open if other not in older and other != key]
        too_many = max(0, len(spare) + 1 - self._max_open)
        return held, self._retire(older + spare[:too_many])

    def _retire(self, keys: list[tuple[str, int]]) -> list[Provider]:
        idle: list[Provider] = []
        for key in keys:
            held = self._open.pop(key)
            held.retired = True
            if held.users == 0:
                idle.append(held.provider)
        return idle


async def _close_all(providers: list[Provider]) -> None:
    """Closes each even if another fails to. Raises: the first failure, afterwards."""
    failures = await asyncio.gather(*(provider.close() for provider in providers), return_exceptions=True)
    for failure in failures:
        if isinstance(failure, BaseException):
            raise failure
