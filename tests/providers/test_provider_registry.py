"""Adapters are kept open, replaced when their configuration changes, and never closed under somebody's debit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest
from wire_double import BANK_KEYS, CLIENT_SECRET, configuration

from kinpay.primitives.sealed import Sealed
from kinpay.providers.contract import Misconfigured, Provider
from kinpay.providers.registry import FACTORIES, OpenProviders, ProviderAccount, open_provider


class Recorded:
    def __init__(self, opened: list[Recorded]) -> None:
        self.closed = 0
        opened.append(self)

    async def close(self) -> None:
        self.closed += 1


def recording() -> tuple[list[Recorded], dict[str, Any]]:
    opened: list[Recorded] = []

    def factory(_: Mapping[str, object], __: Sealed[bytes]) -> Provider:
        return cast(Provider, Recorded(opened))

    return opened, {"recorded": factory}


def account(id_: str = "a", version: int = 1, name: str = "recorded", **changes: object) -> ProviderAccount:
    return ProviderAccount(
        id=id_,
        name=name,
        version=version,
        configuration=configuration("https://bank.example", **changes),
        secret=Sealed(CLIENT_SECRET),
    )


async def test_the_sandbox_bank_is_built_from_its_account() -> None:
    provider = open_provider(account(name="sandbox_bank"))
    assert provider.name == "sandbox_bank"
    assert provider.can.binds_spenders
    await provider.close()


def test_an_unknown_provider_is_the_operators_matter() -> None:
    with pytest.raises(Misconfigured, match="provider_unknown"):
        open_provider(account(name="piggy"))


def test_the_mapping_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        cast(dict[str, object], FACTORIES)["x"] = None


async def test_the_same_account_shares_one_adapter_and_a_new_version_replaces_it_when_it_is_idle() -> None:
    opened, factories = recording()
    providers = OpenProviders(factories=factories)
    async with providers.using(account()) as first:
        async with providers.using(account()) as again:
            assert again is first
        async with providers.using(account(version=2)) as second:
            assert second is not first
            assert opened[0].closed == 0
    assert [each.closed for each in opened] == [1, 0]
    await providers.close()
    assert [each.closed for each in opened] == [1, 1]


async def test_a_straggler_with_the_old_version_does_not_close_the_new_one() -> None:
    opened, factories = recording()
    providers = OpenProviders(factories=factories)
    async with providers.using(account(version=2)):
        pass
    async with providers.using(account(version=1)):
        pass
    assert opened[0].closed == 0
    await providers.close()


async def test_the_one_not_used_for_longest_is_closed_beyond_the_cap() -> None:
    opened, factories = recording()
    providers = OpenProviders(max_open=2, factories=factories)
    for name in ("a", "b", "a", "c"):
        async with providers.using(account(name)):
            pass
    assert [each.closed for each in opened] == [0, 1, 0]
    await providers.close()
    assert [each.closed for each in opened] == [1, 1, 1]


async def test_closing_waits_for_whoever_is_using_it() -> None:
    opened, factories = recording()
    providers = OpenProviders(max_open=1, factories=factories)
    async with providers.using(account("a")):
        async with providers.using(account("b")):
            await providers.close()
            assert [each.closed for each in opened] == [0, 0]
        assert [each.closed for each in opened] == [0, 1]
    assert [each.closed for each in opened] == [1, 1]
    with pytest.raises(RuntimeError):
        async with providers.using(account()):
            pass


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"base_url": "http://bank.example"}, "base_url"),
        ({"base_url": "http://127.0.0.1.bank.example"}, "base_url"),
        ({"base_url": "ftp://127.0.0.1"}, "base_url"),
        ({"base_url": "https://bank.example/prefix"}, "base_url"),
        ({"base_url": "https://bank.example?x"}, "base_url"),
        ({"base_url": "https://who@bank.example"}, "base_url"),
        ({"base_url": "https://bank.example:99999"}, "base_url"),
        ({"base_url": "https://[bank"}, "base_url"),
        ({"base_url": None}, "base_url"),
        ({"client_id": 'a"b'}, "client_id"),
        ({"client_id": ""}, "client_id"),
        ({"account": ""}, "account"),
        ({"bank_keys": {}}, "bank_keys"),
        ({"bank_keys": {"k": "AAAA"}}, "bank_keys"),
        ({"bank_keys": {"k": 7}}, "bank_keys"),
        ({"bank_keys": [*BANK_KEYS]}, "bank_keys"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": True}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"timeout_s": 1e9}, "timeout_s"),
        ({"time_out": 3}, "configuration_unknown"),
    ],
)
def test_a_wrong_configuration_is_named(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        open_provider(account(name="sandbox_bank", **changes))
    assert raised.value.code == code


@pytest.mark.parametrize(
    "base_url", ["http://localhost:8080", "http://127.0.0.2:1", "http://[::1]:8080/", "https://b.example/"]
)
async def test_plain_http_is_for_the_machine_itself(base_url: str) -> None:
    await open_provider(account(name="sandbox_bank", base_url=base_url)).close()


def test_a_secret_that_is_no_key_is_named_without_being_shown() -> None:
    wrong = ProviderAccount(
        id="a", name="sandbox_bank", version=1, configuration=configuration("https://b.example"), secret=Sealed(b"short")
    )
    with pytest.raises(Misconfigured) as raised:
        open_provider(wrong)
    assert raised.value.code == "secret"
    assert raised.value.__cause__ is None
