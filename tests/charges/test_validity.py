"""Days of validity: of the first one on a period is prorated; kept ones without a day beside them stop nobody's payments."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kinpay.audit.check import check
from kinpay.charges import compile
from kinpay.charges.batch import Batcher
from kinpay.database.pool import Database
from kinpay.mandates.change_terms import change_terms
from kinpay.mandates.look import look_at_mandate
from kinpay.mandates.terms import Terms
from tests.charges.household import Household, found, limit, shop_of, terms
from tests.conftest import set_clock


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


async def _prorated(db: Database) -> Household:
    """Consented to in May, valid from 6 June: 300 a month, of June its 25 days of 30."""
    await _clock(db, datetime(2026, 5, 20, 2, tzinfo=UTC))
    (home,) = await found(db, await shop_of(db))
    month = {**limit(30_000, "month"), "proration": "first_period"}
    await home.lower(home.spenders[0].mandate_id, {**terms(month), "valid_from": "2026-06-06"})
    await _clock(db, datetime(2026, 6, 10, 2, tzinfo=UTC))
    return home


async def _clock(db: Database, moment: datetime) -> None:
    async with db.connection() as conn:
        await set_clock(conn, moment)


async def test_the_first_period_is_prorated_from_the_first_day_of_validity(db: Database) -> None:
    home, batcher = await _prorated(db), Batcher(db)
    refused = await home.buy(batcher, 25_001)
    assert refused.refusal is not None
    assert refused.refusal["possible_now_minor"] == 25_000
    async with db.transaction() as conn:
        look = await look_at_mandate(conn, home.spenders[0].mandate_id, person_id=home.payer_id)
    assert [one.remaining for one in look.limits] == [25_000]
    assert (await home.buy(batcher, 25_000)).state == "held"
    await batcher.close()


@pytest.mark.books_broken
async def test_the_audit_finds_what_was_prorated_from_the_consent(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile, "begins", lambda anchor, valid_from: anchor)
    home, batcher = await _prorated(db), Batcher(db)
    assert (await home.buy(batcher, 25_001)).state == "held"
    await batcher.close()
    async with db.connection() as conn:
        found_out = [str(finding) for finding in await check(conn, overdue_after=None)]
    assert any("I5 no_overspend" in said for said in found_out), found_out
