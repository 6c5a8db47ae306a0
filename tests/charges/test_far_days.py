"""Terms from before days had bounds: a first or last day without a day beside it stops nobody's payments."""

from __future__ import annotations

import pytest

from kinpay.charges.batch import Batcher
from kinpay.database.pool import Database
from kinpay.mandates.change_terms import change_terms
from kinpay.mandates.look import look_at_mandate
from kinpay.mandates.terms import Terms
from tests.charges.household import found, limit, shop_of, terms


@pytest.mark.parametrize("time_zone", ["Asia/Shanghai", "America/New_York"])
@pytest.mark.parametrize("days", [{"valid_to": "9999-12-31"}, {"valid_from": "0001-01-01"}], ids=["last", "first"])
async def test_a_kept_day_without_a_next_one_stops_nobody(db: Database, time_zone: str, days: dict[str, str]) -> None:
    (home,) = await found(db, await shop_of(db), terms(limit(5_000)), time_zone=time_zone)
    other = await home.add_spender(terms(limit(5_000)))
    mandate_id = home.spenders[0].mandate_id
    async with db.transaction() as conn:
        changed = await change_terms(
            conn,
            mandate_id=mandate_id,
            payer_id=home.payer_id,
            terms=Terms.kept({**terms(limit(5_000)), **days}),
            proof_id=None,
            if_version=None,
        )
    assert changed.lowered
    batcher = Batcher(db)
    states = [(await home.buy(batcher, 100, spender)).state for spender in (home.spenders[0], other)]
    await batcher.close()
    assert states == ["held", "held"]
    async with db.transaction() as conn:
        look = await look_at_mandate(conn, mandate_id, person_id=home.payer_id)
    assert [one.remaining for one in look.limits] == [4_900]
    assert await home.lower(mandate_id, {**terms(limit(200)), "valid_from": "2020-01-01", "valid_to": "2199-12-31"}) == 3
