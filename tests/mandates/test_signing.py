"""Signing at the real sandbox bank: asked for, signed on its own pages, learned by query; bound; ended from both sides."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kinpay.mandates.agreement import Agreement, AgreementState, SpenderState
from kinpay.mandates.agreement_store import due_agreements
from kinpay.mandates.bind_spender import bind_spender_at_provider, unbind_spender_at_provider
from kinpay.mandates.end_agreement import end_at_provider
from kinpay.mandates.mandate import MandateState
from kinpay.mandates.sign_agreement import open_at_provider, refresh_agreement
from kinpay.mandates.spender_binding import spender_state
from kinpay.primitives.sealed import Sealed
from kinpay.providers.contract import Provider
from kinpay.providers.sandbox_bank.adapter import open_sandbox_bank
from kinpay_sandbox.person import BankCustomer
from kinpay_sandbox.remote import BankControl, ProviderAccount
from tests.mandates.scene import Family, limit, terms
from tests.sandbox.conftest import BankProcess

URL = "http://kinpay.test"
PASSWORD = "correct horse"


@pytest.fixture(scope="session")
def bank() -> Iterator[BankProcess]:
    """A bank as its own process."""
    folder = Path(tempfile.mkdtemp(prefix="sandbox-bank-", dir="/tmp"))
    os.chmod(folder, 0o755)
    process = BankProcess(folder)
    try:
        process.start()
        yield process
    finally:
        process.remove()
        shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture
async def control(bank: BankProcess) -> AsyncIterator[BankControl]:
    """The bank's control; healed afterwards."""
    async with BankControl(bank.base_url) as control:
        yield control
        await control.heal()


@dataclass(frozen=True)
class OneProvider:
    """The one open adapter."""

    provider: Provider

    async def adapter(self, provider_account_id: str) -> Provider:
        return self.provider


@pytest_asyncio.fixture
async def providers(bank: BankProcess, control: BankControl) -> AsyncIterator[OneProvider]:
    """The operator's real adapter, registered at the bank."""
    private = Ed25519PrivateKey.generate()
    known = await control.register_client(
        "Canteen",
        public_key=base64.b64encode(private.public_key().public_bytes_raw()).decode(),
        callback_url="http://127.0.0.1:9/callbacks",
        return_url_prefix=URL,
        accounts=[ProviderAccount("main", ["proxy", "self"])],
    )
    configuration = {
        "base_url": bank.base_url,
        "client_id": known.client_id,
        "bank_keys": {known.bank_key_id: known.bank_public_key},
        "account": "main",
        "timeout_s": 2,
    }
    provider = open_sandbox_bank(configuration, Sealed(private.private_bytes_raw()))
    yield OneProvider(provider)
    await provider.close()


@pytest_asyncio.fixture
async def customer(bank: BankProcess, control: BankControl, family: Family) -> AsyncIterator[BankCustomer]:
    """The mother at her bank; her login there is what she told kinpay."""
    login = f"wang-{secrets.token_hex(4)}"
    await control.open_customer(login, password=PASSWORD, name="王妈妈", balance_minor=100_000)
    async with BankCustomer(bank.base_url, login, PASSWORD) as person:
        family.payer_account = login
        yield person


async def _signed(family: Family, providers: OneProvider, customer: BankCustomer) -> tuple[Agreement, str]:
    """A mandate on an agreement that the mother has signed at the bank."""
    agreement_id = await family.agreement(active=False)
    asked = await open_at_provider(family.house.db, providers, agreement_id, public_url=URL)
    assert asked.state is AgreementState.PENDING
    assert asked.action_url is not None
    mandate_id = await family.mandate(terms(limit(3500)), agreements=[agreement_id], active=False)
    back = await customer.agree(asked.action_url)
    assert back.startswith(f"{URL}/agreements/{agreement_id}/return")
    fresh = await refresh_agreement(family.house.db, providers, agreement_id, public_url=URL)
    assert fresh.state is AgreementState.ACTIVE
    assert fresh.payer_account_id is not None
    await family.mandate(terms(limit(3500)), agreements=[agreement_id])
    return fresh, mandate_id


async def _stands(family: Family, agreement_id: str, spender_id: str) -> SpenderState | None:
    async with family.house.db.connection() as conn:
        return await spender_state(conn, agreement_id, spender_id)


async def test_signed_there_active_here_ended_there_suspended_here(
    family: Family, providers: OneProvider, customer: BankCustomer
) -> None:
    agreement, mandate_id = await _signed(family, providers, customer)
    assert (await family.look(mandate_id)).state is MandateState.ACTIVE
    assert await _stands(family, agreement.id, family.spender.id) is SpenderState.BOUND
    assert agreement.provider_ref is not None
    await customer.end_agreement(agreement.provider_ref)
    ended = await refresh_agreement(family.house.db, providers, agreement.id, public_url=URL)
    assert (ended.state, ended.ended_by) == (AgreementState.ENDED, "payer")
    assert (await family.look(mandate_id)).state is MandateState.SUSPENDED


async def test_a_second_spender_is_bound_under_the_same_agreement_and_dropped_with_their_mandate(
    family: Family, providers: OneProvider, customer: BankCustomer
) -> None:
    db, brother = family.house.db, await family.another("brother")
    agreement, _ = await _signed(family, providers, customer)
    his = await family.mandate(terms(limit(100)), agreements=[agreement.id], spender=brother)
    assert await bind_spender_at_provider(db, providers, agreement.id, brother.id)
    assert await bind_spender_at_provider(db, providers, agreement.id, brother.id), "twice is as good as once"
    assert "Brother" in await customer.my_page()
    await brother.ask("DELETE", f"/v1/mandates/{his}")
    await unbind_spender_at_provider(db, providers, agreement.id, brother.id)
    await unbind_spender_at_provider(db, providers, agreement.id, brother.id)
    seen = await providers.provider.get_agreement(agreement.id)
    assert seen.removed_spender_refs == {brother.id}
    await family.mandate(terms(limit(100)), agreements=[agreement.id], spender=brother)
    assert await bind_spender_at_provider(db, providers, agreement.id, brother.id), "and back"


async def test_removed_at_the_bank_suspended_here_until_bound_again(
    family: Family, providers: OneProvider, customer: BankCustomer
) -> None:
    db = family.house.db
    agreement, mandate_id = await _signed(family, providers, customer)
    assert agreement.provider_ref is not None
    await customer.remove_spender(agreement.provider_ref, family.spender.id)
    await refresh_agreement(db, providers, agreement.id, public_url=URL)
    assert (await family.look(mandate_id)).reason == "spender_removed"
    await family.mandate(terms(limit(3500)), agreements=[agreement.id])
    assert await bind_spender_at_provider(db, providers, agreement.id, family.spender.id)
    assert (await family.look(mandate_id)).state is MandateState.ACTIVE


async def test_ended_here_and_then_there(family: Family, providers: OneProvider, customer: BankCustomer) -> None:
    agreement, _ = await _signed(family, providers, customer)
    await family.payer.ask("POST", f"/v1/agreements/{agreement.id}/end")
    await end_at_provider(family.house.db, providers, agreement.id)
    assert (await providers.provider.get_agreement(agreement.id)).state == "ended"
    await end_at_provider(family.house.db, providers, agreement.id)


async def test_refused_on_the_banks_page(family: Family, providers: OneProvider, customer: BankCustomer) -> None:
    agreement_id = await family.agreement(active=False)
    asked = await open_at_provider(family.house.db, providers, agreement_id, public_url=URL)
    await customer.refuse(str(asked.action_url))
    fresh = await refresh_agreement(family.house.db, providers, agreement_id, public_url=URL)
    assert fresh.state is AgreementState.REFUSED


async def test_nobody_of_that_account_at_the_bank(family: Family, providers: OneProvider) -> None:
    agreement_id = await family.agreement(active=False)
    asked = await open_at_provider(family.house.db, providers, agreement_id, public_url=URL)
    assert asked.state is AgreementState.REFUSED


@pytest.mark.parametrize("fault", ["drop_before_commit", "drop_after_commit"])
async def test_an_unknown_outcome_stays_created_and_the_same_key_is_asked_again(
    family: Family, providers: OneProvider, customer: BankCustomer, control: BankControl, fault: str
) -> None:
    db = family.house.db
    agreement_id = await family.agreement(active=False)
    await control.misbehave("agreement", fault, key=agreement_id)  # type: ignore[arg-type]
    asked = await open_at_provider(db, providers, agreement_id, public_url=URL)
    assert asked.state is AgreementState.CREATED
    assert asked.next_check_at is not None
    await family.house.value("UPDATE agreement SET next_check_at = kinpay_now()")
    async with db.connection() as conn:
        assert await due_agreements(conn, limit=10) == [agreement_id]
    fresh = await refresh_agreement(db, providers, agreement_id, public_url=URL)
    assert (fresh.state, fresh.action_url is not None) == (AgreementState.PENDING, True)
    await customer.agree(str(fresh.action_url))
    assert (await refresh_agreement(db, providers, agreement_id, public_url=URL)).state is AgreementState.ACTIVE
