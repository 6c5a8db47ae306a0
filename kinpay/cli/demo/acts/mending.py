"""When things go wrong: an answer that never comes, an empty account, a payer who goes to the bank instead."""

from __future__ import annotations

from kinpay.cli.demo.acts.facing import BUN
from kinpay.cli.demo.acts.registering import PIN
from kinpay.cli.demo.cast import until
from kinpay.cli.demo.play import Play, expect, expect_charge, expect_refused
from kinpay.cli.demo.told import money


async def unknown_outcome(play: Play) -> None:
    """The bank debits and then says nothing: not known is not failed; it is asked for, and found, under the same key."""
    mother, child, till = play.people["mother"], play.people["child"], play.devices["canteen"]
    play.teller.act("银行没有回音", "The bank falls silent")
    await play.world.control.misbehave("debit", "hang_after_commit", seconds=8)
    asked = await till.charge(await child.pay_code(play.circle_id), 400)
    expect(asked.status == 202, f"the answer should be 202, not known yet; it was {asked.status}")
    expect_charge(asked.body, "submitted")
    expect_charge((await till.terminal.settled(asked, within_s=40)).body, "succeeded")
    debits = [one for one in await play.world.control.debits() if one["amount_minor"] == 400]
    expect([one["bookings"] for one in debits] == [1], "the bank debited once")
    await play.step(
        "牛奶 4.00：银行扣了款却不答复。kinpay 回答「尚未知道」，额度保留；随后用同一订单号查询，查明成功，只扣一次。",
        "Milk, 4.00: the bank debits and does not answer. kinpay says “not known yet” and keeps the reservation; "
        "it asks under the same order number and learns of the success: debited once.",
        told={child: ("charge_succeeded",), mother: ("charge_succeeded",)},
        moved={mother: -400},
    )


async def fallback(play: Play) -> None:
    """A definitive refusal before delivery falls back to the next agreement, by a fresh decision."""
    father, child, till = play.people["father"], play.people["child"], play.devices["canteen"]
    play.teller.act("妈妈余额不足，由爸爸付", "Her mother's account is short, her father's is debited")
    await play.world.control.misbehave("debit", "refuse", code="insufficient_funds")
    paid = await till.charge(await child.pay_code(play.circle_id), 800)
    expect_charge(paid.body, "succeeded", captured_minor=800)
    seen = await father.charge(paid["id"])
    expect(seen["payer_id"] == father.id, "the father paid")
    day = next(one for one in (await play.people["mother"].mandate(play.mandates["child"]))["limits"]
               if one["limit"]["metric"] == "amount" and one["limit"]["window"] == "day")  # fmt: skip
    before = 1_850 + (BUN if play.faces else 0)
    expect(day["used"] == before, f"the mother's limit is as before, {money(before)}; it is {money(day['used'])}")
    await play.step(
        "点心 8.00：银行明确拒绝林梅（余额不足），kinpay 重新裁决，改扣张伟；林梅的额度如数退回。",
        "A snack, 8.00: the bank definitively refuses Lin Mei (insufficient funds); kinpay decides afresh and debits "
        "Zhang Wei; her limit has its 8.00 again.",
        told={father: ("charge_succeeded",), child: ("charge_succeeded",)},
        moved={father: -800},
    )


async def removed_at_bank(play: Play) -> None:
    """The payer removes a spender on the bank's own page: the mandate is suspended and everybody concerned is told."""
    mother, machine = play.people["mother"], play.devices["vending"]
    play.teller.act("林梅在银行移除陈奶奶", "Lin Mei removes Mrs Chen at the bank")
    agreement_id, ref = await _at_bank(play)
    async with mother.at_bank() as customer:
        page = await customer.my_page()
        expect(play.say("陈奶奶", "Mrs Chen") in page, "the bank shows whom the agreement pays for")
        await customer.remove_spender(agreement_id, ref)

    async def suspended() -> bool | None:
        found = (await mother.mandate(play.mandates["grandmother"]))["mandate"]
        return True if found["state"] == "suspended" else None

    await until(suspended, "the grandmother's mandate is suspended")
    refused = await machine.charge(play.kept["card"], 300, capture=False, pin=PIN)
    expect(refused["refusal"]["reasons"][0]["code"] == "MANDATE_SUSPENDED", "it is refused because it is suspended")
    child_mandate = (await mother.mandate(play.mandates["child"]))["mandate"]
    expect(child_mandate["state"] == "active", "the child's mandate goes on")
    await play.step(
        "她在银行页面把陈奶奶移出协议；银行通知 kinpay，陈奶奶的额度暂停并告知；刷卡被拒，小雨不受影响。",
        "On the bank's page she takes Mrs Chen off her agreement; the bank tells kinpay, the mandate is suspended and they "
        "are told; the card is refused, Xiaoyu's mandate goes on.",
        told={mother: ("mandate_suspended", "charge_refused")},
        moved={},
    )
    expect_refused(refused.body, *(reason["code"] for reason in refused["refusal"]["reasons"]))


async def _at_bank(play: Play) -> tuple[str, str]:
    """The bank's id of the mother's agreement, and its name for the grandmother."""
    mandate = (await play.people["mother"].mandate(play.mandates["grandmother"]))["mandate"]
    debits = await play.world.control.debits(play.world.bank_client_id)
    hers = next(one for one in debits if one["spender_ref"] == mandate["spender_id"])
    return hers["agreement_id"], hers["spender_ref"]
