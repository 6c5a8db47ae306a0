"""Agreements are learned of in one way, end from either side, and carry or suspend the mandates that rest on them."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime

import pytest

from kinpay.database.pool import database_now
from kinpay.mandates.agreement import AGREEMENT_LIFE, OPEN_STATES, Learned
from kinpay.mandates.agreement import AgreementState as Ours
from kinpay.mandates.agreement_store import agreement_row, find_reusable
from kinpay.mandates.end_mandate import withdraw_mandate
from kinpay.mandates.mandate import MandateState
from kinpay.mandates.sign_agreement import begin, learn_agreement
from kinpay.primitives.errors import Invalid, NotFound, WrongState
from kinpay.primitives.ids import new_id
from kinpay.providers.contract import AgreementState as Seen
from tests.mandates.scene import Family, limit, terms, told

TERMS = terms(limit(3500))


async def _learn(family: Family, agreement_id: str, state: Seen, **more: object) -> Learned:
    async with family.house.db.transaction() as conn:
        seen = told(agreement_id, state, **more)
        return await learn_agreement(conn, agreement_id, seen=seen, now=await database_now(conn))


async def _topics(family: Family) -> list[str]:
    async with family.house.db.connection() as conn:
        rows = await conn.fetch("SELECT topic FROM outbox WHERE topic LIKE 'agreement.%' ORDER BY id")
    return [row["topic"] for row in rows]


@pytest.mark.parametrize("seed", range(6))
async def test_finals_never_reopen_whatever_comes_in_whatever_order(family: Family, seed: int) -> None:
    draw = random.Random(seed)
    agreement_id = await family.agreement(active=False)
    final: Ours | None = None
    opened = 0
    for _ in range(12):
        learned = await _learn(family, agreement_id, draw.choice(list(Seen)))
        opened += learned.opened
        assert final is None or learned.state is final
        if learned.state not in OPEN_STATES:
            final = learned.state
    assert opened <= 1
    assert (await _topics(family)).count("agreement.active") == opened


@pytest.mark.parametrize("words", list(itertools.permutations([Seen.PENDING, Seen.ACTIVE, Seen.ENDED])))
async def test_late_and_early_words_lead_to_the_same_end(family: Family, words: tuple[Seen, ...]) -> None:
    agreement_id = await family.agreement(active=False)
    for word in [*words, *words]:
        await _learn(family, agreement_id, word)
    async with family.house.db.connection() as conn:
        found = await agreement_row(conn, agreement_id)
    assert found is not None
    assert found.state is Ours.ENDED


async def test_active_without_the_payers_account_is_not_believed_yet(family: Family) -> None:
    agreement_id = await family.agreement(active=False)
    assert (await _learn(family, agreement_id, Seen.ACTIVE, payer_account_id=None)).state is Ours.CREATED
    assert (await _learn(family, agreement_id, Seen.ACTIVE)).opened


async def test_the_signature_binds_the_spender_who_was_named_in_it(family: Family) -> None:
    agreement_id = await family.agreement()
    states = await family.house.value(
        "SELECT array_agg(spender_id::text || state) FROM agreement_spender WHERE agreement_id = $1", agreement_id
    )
    assert [state[36:] for state in states] == ["bound"]
    async with family.house.db.connection() as conn:
        asked = {"circle_id": family.circle_id, "payer_id": family.payer.id}
        account = family.provider_account_id
        assert await find_reusable(conn, **asked, provider_account_id=account, currency="CNY") == agreement_id
        assert await find_reusable(conn, **asked, provider_account_id=account, currency="USD") is None
        assert await find_reusable(conn, **asked, provider_account_id=new_id(), currency="CNY") is None


async def test_when_the_bank_ends_it_what_rests_on_it_alone_is_suspended_and_everybody_told(family: Family) -> None:
    uncle = await family.house.person("uncle")
    await family.join(uncle, "approver")
    brother = await family.another("brother")
    one, two = await family.agreement(), await family.agreement()
    alone = await family.mandate(TERMS, agreements=[one])
    backed = await family.mandate(TERMS, agreements=[one, two], spender=brother)
    learned = await _learn(family, one, Seen.ENDED, ended_by="payer")
    assert learned.closed
    assert (await family.look(alone)).state is MandateState.SUSPENDED
    assert (await family.look(alone)).reason == "agreement_ended"
    assert (await family.look(backed)).state is MandateState.ACTIVE
    (notice,) = await family.house.notices("mandate_suspended")
    assert set(notice["people"]) == {family.payer.id, family.spender.id, uncle.id}
    assert (notice["reason"], notice["spender_name"]) == ("agreement_ended", "Xiaoyu")
    assert not (await _learn(family, one, Seen.ENDED)).closed, "told once"
    assert len(await family.house.notices("mandate_suspended")) == 1


async def test_another_agreement_put_in_funding_lets_it_go_on(family: Family) -> None:
    old = await family.agreement()
    mandate_id = await family.mandate(TERMS, agreements=[old])
    await _learn(family, old, Seen.ENDED)
    path = f"/v1/mandates/{mandate_id}/funding"
    dead = await family.payer.proof("mandate.funding", mandate_id, {"agreement_ids": [old]})
    ended = await family.payer.ask("PUT", path, {"agreement_ids": [old], "proof": dead})
    assert ended.json()["code"] == "wrong-state"
    new = await family.agreement()
    assert (await family.payer.ask("PUT", path, {"agreement_ids": [new]})).json()["code"] == "proof-required"
    proof = await family.payer.proof("mandate.funding", mandate_id, {"agreement_ids": [new]})
    done = await family.payer.ask("PUT", path, {"agreement_ids": [new], "proof": proof})
    assert done.json() == {"version": 2, "lowered": False, "cools_until": None}, done.text
    found = await family.look(mandate_id)
    assert (found.state, found.reason, found.version) == (MandateState.ACTIVE, None, 1)
    assert len(await family.house.notices("mandate_restored")) == 1


async def test_leaving_an_agreement_out_needs_no_proof_another_order_does(family: Family) -> None:
    one, two = await family.agreement(), await family.agreement()
    mandate_id = await family.mandate(TERMS, agreements=[one, two])
    path = f"/v1/mandates/{mandate_id}/funding"
    assert (await family.payer.ask("PUT", path, {"agreement_ids": [two, one]})).json()["code"] == "proof-required"
    done = await family.payer.ask("PUT", path, {"agreement_ids": [two], "if_version": 1})
    assert done.json() == {"version": 2, "lowered": True, "cools_until": None}, done.text


async def test_a_spender_removed_at_the_bank_is_suspended_alone(family: Family) -> None:
    brother = await family.another("brother")
    agreement_id = await family.agreement()
    mine = await family.mandate(TERMS, agreements=[agreement_id])
    his = await family.mandate(TERMS, agreements=[agreement_id], spender=brother)
    refs = frozenset({family.spender.id, "somebody else's reference"})
    learned = await _learn(family, agreement_id, Seen.ACTIVE, removed_spender_refs=refs)
    assert learned.removed_spenders == (family.spender.id,)
    assert ((await family.look(mine)).state, (await family.look(mine)).reason) == (MandateState.SUSPENDED, "spender_removed")
    assert (await family.look(his)).state is MandateState.ACTIVE
    assert (await _learn(family, agreement_id, Seen.ACTIVE, removed_spender_refs=refs)).removed_spenders == ()


async def test_a_spender_removed_at_the_bank_comes_back_by_a_proof_of_the_payer_only(family: Family) -> None:
    agreement_id = await family.agreement()
    mine = await family.mandate(TERMS, agreements=[agreement_id])
    await _learn(family, agreement_id, Seen.ACTIVE, removed_spender_refs=frozenset({family.spender.id}))
    path, same = f"/v1/mandates/{mine}/funding", {"agreement_ids": [agreement_id]}
    assert (await family.payer.ask("PUT", path, same)).json()["code"] == "proof-required"
    assert (await family.look(mine)).state is MandateState.SUSPENDED
    proof = await family.payer.proof("mandate.funding", mine, same)
    assert (await family.payer.ask("PUT", path, {**same, "proof": proof})).json()["lowered"] is False
    assert (await family.look(mine)).state is MandateState.ACTIVE


async def test_the_payer_ends_an_agreement_and_the_provider_is_told(family: Family) -> None:
    agreement_id = await family.agreement()
    mandate_id = await family.mandate(TERMS, agreements=[agreement_id])
    path = f"/v1/agreements/{agreement_id}/end"
    assert (await family.spender.ask("POST", path)).status_code == 404
    for _ in range(2):
        ended = await family.payer.ask("POST", path)
        assert (ended.json()["state"], ended.json()["ended_by"]) == ("ended", "payer")
    assert (await family.look(mandate_id)).state is MandateState.SUSPENDED
    assert (await _topics(family)).count("agreement.end") == 1
    await _learn(family, agreement_id, Seen.ACTIVE)
    assert (await _topics(family)).count("agreement.end") == 2, "it is held open there: told again"
    (listed,) = (await family.payer.ask("GET", "/v1/agreements")).json()["agreements"]
    assert listed["state"] == "ended"


async def test_only_the_payers_own_agreements_of_this_circle_fund_a_mandate(family: Family) -> None:
    other_circle = await family.payer.circle("Office")
    own, family.circle_id = family.circle_id, other_circle
    elsewhere = await family.agreement()
    family.circle_id = own
    with pytest.raises(NotFound):
        await family.mandate(TERMS, agreements=[elsewhere])
    with pytest.raises(Invalid):
        await family.mandate({"currency": "USD"})
    refused = await family.agreement(active=False)
    await _learn(family, refused, Seen.REFUSED)
    with pytest.raises(WrongState):
        await family.mandate(TERMS, agreements=[refused])
    async with family.house.db.transaction() as conn:
        with pytest.raises(NotFound):
            await begin(
                conn,
                circle_id=own,
                payer_id=family.payer.id,
                spender_id=family.spender.id,
                provider_account_id=new_id(),
                payer_account="wang",
                business_type="proxy",
                currency="CNY",
                now=datetime.now(UTC),
            )


async def test_a_registration_that_came_to_nothing_takes_its_pending_mandate_along(family: Family) -> None:
    agreement_id = await family.agreement(active=False)
    mandate_id = await family.mandate(TERMS, agreements=[agreement_id], active=False)
    assert (await family.look(mandate_id)).state is MandateState.PENDING
    async with family.house.db.transaction() as conn:
        ended = await withdraw_mandate(conn, mandate_id, now=await database_now(conn))
    assert (ended.state, ended.reason) == (MandateState.ENDED, "registration")


async def test_the_choices_of_a_payer(family: Family) -> None:
    (choice,) = (await family.payer.ask("GET", "/v1/provider-accounts")).json()["provider_accounts"]
    assert choice == {
        "provider_account_id": family.provider_account_id, "provider": "sandbox_bank", "account": "main", "is_default": True,
    }  # fmt: skip


def test_every_state_of_an_agreement_is_reachable() -> None:
    assert AGREEMENT_LIFE.reachable() == frozenset(Ours)
