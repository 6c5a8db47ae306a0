"""A merchant hears of every charge of a day that is debited as a whole: due, owed, paid."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import timedelta

from kinpay.charges.batch import Batcher
from kinpay.charges.daily import close_days, retry_days
from kinpay.charges.submit import capture_charge
from kinpay.database.pool import Database
from kinpay.mandates.change_terms import change_funding
from kinpay.primitives.server_keys import ServerKeys
from kinpay.webhooks.address import Rules, networks_of
from kinpay.webhooks.outbound import Outbound
from tests.charges.household import found, limit, proof_of, shop_of, terms
from tests.charges.scripted import ScriptedBank
from tests.charges.seeds import Family
from tests.notifications.till import Till
from tests.webhooks.conftest import NOON, Canteen
from tests.webhooks.consumer import Consumer


async def test_each_charge_of_a_day_is_told(db: Database, keys: ServerKeys, open_consumer: Callable[..., Consumer]) -> None:
    batcher, bank = Batcher(db), ScriptedBank(steps=deque(["fails"]))
    till = Till(db, batcher, await shop_of(db))
    await till.at(NOON)
    (home,) = await found(db, till.shop, terms(limit(5_000)))
    async with db.transaction() as conn:
        await change_funding(
            conn,
            mandate_id=home.spenders[0].mandate_id,
            payer_id=home.payer_id,
            agreement_ids=list(home.agreements),
            proof_id=await proof_of(conn, home.payer_id),
            if_version=None,
            debited="daily",
        )
    nobody = Family(*[""] * 6)
    canteen = Canteen(db, keys, till, nobody, Outbound(Rules(http=True, networks=networks_of("127.0.0.0/8"))))
    consumer = open_consumer()
    await canteen.listen(consumer)
    charges = []
    for amount in (30, 40):
        charge = await home.buy(batcher, amount)
        await capture_charge(db, bank, charge.id, amount_minor=None, delivered=False, actor_id=till.shop.terminal_id)
        charges.append(charge.id)
    await canteen.send()
    await canteen.later(timedelta(days=1))
    await close_days(db, bank)
    await canteen.send()
    await canteen.later(timedelta(hours=2))
    assert await retry_days(db, bank) == 1
    await canteen.send()
    for charge_id in charges:
        told = [heard.told for heard in consumer.heard if heard.told["data"]["id"] == charge_id]
        kinds = [one["type"] for one in told if one["type"] != "charge.held"]
        assert kinds == ["charge.due", "charge.owed", "charge.succeeded"]
        assert told[-1]["data"]["due_on"] == "2026-03-02"
    await canteen.outbound.close()
    await batcher.close()
