"""A pool is in one currency: it counts and binds what its payer spends in that one, and nothing else."""

from __future__ import annotations

from kinpay.charges.batch import Batcher
from kinpay.charges.charge import ChargeState
from kinpay.database.pool import Database, database_now
from kinpay.mandates.sign_agreement import begin, learn_agreement
from tests.charges.household import Household, found, limit, shop_of, terms, told, void_charge
from tests.charges.scripted import ScriptedBank


async def _agreement_in_yen(home: Household) -> str:
    async with home.db.transaction() as conn:
        now = await database_now(conn)
        agreement_id = await begin(
            conn, circle_id=home.circle_id, payer_id=home.payer_id, spender_id=home.spenders[0].id,
            provider_account_id=home.shop.provider_account_id, payer_account="payer", business_type="proxy",
            currency="JPY", now=now,
        )  # fmt: skip
        await learn_agreement(conn, agreement_id, seen=told(agreement_id), now=now)
    return agreement_id


async def test_a_pool_adds_no_yen_to_yuan(db: Database) -> None:
    (home,) = await found(db, await shop_of(db), terms(limit(1000)))
    batcher, bank = Batcher(db), ScriptedBank()
    before = await home.add_pool(terms(limit(100)))
    home.agreements = [await _agreement_in_yen(home)]
    abroad = await home.add_spender({**terms(limit(5000)), "currency": "JPY"})
    yen = await home.buy(batcher, 3000, abroad, currency="JPY")
    assert yen.state is ChargeState.HELD, "the pool is in yuan"
    after = await home.add_pool(terms(limit(100)))
    in_yen = await home.add_pool({**terms(limit(4000)), "currency": "JPY"})
    yuan = await home.buy(batcher, 80)
    assert yuan.state is ChargeState.HELD
    for pool_id in (before, after):
        assert await home.usage(pool_id) == [(80, 1)]
    assert await home.usage(in_yen) == [(3000, 1)]
    refused = await home.buy(batcher, 1001, abroad, currency="JPY")
    assert refused.refusal is not None
    assert [reason["code"] for reason in refused.refusal["reasons"]] == ["POOL_DAY_AMOUNT"]
    assert (await void_charge(db, bank, yen.id, actor_id=home.shop.terminal_id)).state is ChargeState.VOIDED
    assert await home.usage(in_yen) == [(0, 0)]
    assert await home.usage(before) == [(80, 1)]
