"""Spending: by the code on a phone, by the till's code, by card and PIN; within limits, once, and given back."""

from __future__ import annotations

from kinpay.cli.demo.acts.registering import PIN
from kinpay.cli.demo.play import Denied, Play, expect, expect_charge, expect_refused, limits
from kinpay_client import new_key


async def child_spends(play: Play) -> None:
    """Pay code, the same request again, the till's payment code, a refusal that says what would pass, a partial refund."""
    mother, child = play.people["mother"], play.people["child"]
    till, bookshop = play.devices["canteen"], play.devices["bookshop"]
    play.teller.act("小雨花钱", "Xiaoyu spends")
    code, key = await child.pay_code(play.circle_id), new_key()
    paid = await till.charge(code, 650, key=key)
    expect_charge(paid.body, "succeeded", captured_minor=650)
    await play.step(
        "早餐 6.50：小雨亮码，食堂扫码。今日还剩 28.50。",
        "Breakfast, 6.50: Xiaoyu shows a one-time code, the canteen scans it. 28.50 are left today.",
        told={child: ("charge_succeeded",), mother: ("charge_succeeded",)},
        moved={mother: -650},
    )
    again = await till.charge(code, 650, key=key)
    expect(again.replayed and again["id"] == paid["id"], "the same request is the same charge")
    async with Denied("check-code-used"):
        await till.charge(code, 650)
    await play.step(
        "网络不好，食堂把同一请求又发一遍：同一笔，不重复扣款。拿旧码另发一笔：拒绝，码已用过。",
        "The line was bad and the till sends the same request again: the same charge, debited once. "
        "The same code for another charge: refused, it is used up.",
        moved={},
    )
    book = await _by_payment_code(play, 1_400)
    refused = await till.charge(await child.pay_code(play.circle_id), 1_500)
    expect_refused(refused.body, "DAY_AMOUNT", possible_now_minor=1_450)
    await play.step(
        "晚餐 15.00：超过当日上限，拒绝；现在最多可付 14.50，零点后可付全额。",
        "Supper, 15.00: above the day's limit, refused; up to 14.50 would pass now, the whole after midnight.",
        told={child: ("charge_refused",), mother: ("charge_refused",)},
        moved={},
    )
    refunded = await bookshop.terminal.refund(book, 600)
    expect_charge(refunded.body, "succeeded", refunded_minor=600)
    await play.step(
        "书店退回 6.00：钱回到林梅账户，额度回到当日，笔数不退。",
        "The bookshop gives 6.00 back: to Lin Mei's account and to the day's limit; the count stays.",
        told={child: ("charge_refunded",), mother: ("charge_refunded", "refund_succeeded")},
        moved={mother: 600},
    )


async def _by_payment_code(play: Play, amount_minor: int) -> str:
    """A book by the till's own code, which the spender scans; returns the charge's id."""
    mother, child, bookshop = play.people["mother"], play.people["child"], play.devices["bookshop"]
    shown = await bookshop.terminal.payment_code(amount_minor, "CNY", reference="BOOK-1")
    paid = await child.pay(shown["payment_code"], play.circle_id)
    expect_charge(paid.body, "succeeded", captured_minor=amount_minor)
    used = await bookshop.terminal.payment_code_state(shown["payment_code_id"])
    expect(used["charge_id"] == paid["id"], "the till learns of the payment")
    await play.step(
        "书 14.00：这次由书店出码（绑定终端、金额、商户），小雨来扫。",
        "A book, 14.00: now the shop shows the code (bound to terminal, amount and payee) and Xiaoyu scans it.",
        told={child: ("charge_succeeded",), mother: ("charge_succeeded",)},
        moved={mother: -1_400},
    )
    return str(paid["id"])


async def grandmother_spends(play: Play) -> None:
    """Card and PIN; a machine that falls silent; less delivered than reserved; never more."""
    mother, machine = play.people["mother"], play.devices["vending"]
    play.teller.act("陈奶奶刷卡", "Mrs Chen pays by card")
    card = play.kept["card"]
    async with Denied("pin-wrong"):
        await machine.charge(card, 300, capture=False, pin="0000")
    silent = await machine.charge(card, 300, capture=False, pin=PIN)
    expect_charge(silent.body, "held")
    await machine.reaches(silent["id"], "voided", within_s=25)
    await play.step(
        "先输错一次密码：拒绝。再买水 3.00：已预留，但机器卡货、再无回音；5 秒后自动作废，额度和笔数都退回。",
        "A wrong PIN first: refused. Then a water, 3.00: reserved, but the machine jams and falls silent; after 5 seconds "
        "it is void by itself, and amount and count are free again.",
        moved={},
    )
    held = await machine.charge(card, 1_000, capture=False, pin=PIN)
    expect_charge(held.body, "held")
    async with Denied("invalid-request"):
        await machine.terminal.capture(held["id"], 1_001)
    taken = await machine.terminal.capture(held["id"], 735)
    expect_charge(taken.body, "succeeded", captured_minor=735)
    await play.step(
        "称重零食：预留 10.00，实取 7.35，其余 2.65 立即释放；想扣 10.01 则被拒。",
        "Nuts by weight: 10.00 reserved, 7.35 taken, 2.65 released at once; taking 10.01 is refused.",
        told={mother: ("charge_succeeded",)},
        moved={mother: -735},
    )


async def minds_change(play: Play) -> None:
    """Lowering acts at once; raising needs a fresh proof; anybody of the circle freezes it, a payer thaws it."""
    mother, father = play.people["mother"], play.people["father"]
    pharmacy, card = play.devices["pharmacy"], play.kept["card"]
    play.teller.act("随时更改：降额、提额、冻结", "Changing one's mind: lower, raise, freeze")
    path = f"/v1/mandates/{play.mandates['grandmother']}/terms"
    lower = limits(each=1_500, day=800, count=5, month=50_000)
    changed = await mother.ask("PUT", path, {"terms": lower})
    expect(changed["lowered"], "it is a lowering")
    refused = await pharmacy.charge(card, 300, pin=PIN)
    expect_refused(refused.body, "DAY_AMOUNT", possible_now_minor=65)
    await play.step(
        "林梅把陈奶奶的日限额降到 8.00：不用验证，立即生效；药店 3.00 被拒，现在只剩 0.65。",
        "Lin Mei lowers Mrs Chen's day to 8.00: no proof needed, in force at once; 3.00 at the pharmacy are refused, "
        "0.65 would pass.",
        told={mother: ("mandate_changed", "charge_refused"), father: ("mandate_changed",)},
        moved={},
    )
    higher = limits(each=1_500, day=3_000, count=5, month=50_000)
    async with Denied("proof-required"):
        await mother.ask("PUT", path, {"terms": higher})
    proof = await mother.prove("mandate.terms", play.mandates["grandmother"], higher)
    await mother.ask("PUT", path, {"terms": higher, "proof": proof})
    paid = await pharmacy.charge(card, 300, pin=PIN)
    expect_charge(paid.body, "succeeded")
    await play.step(
        "调回 30.00：没有验证码不行，有了就行；药店 3.00 付讫。",
        "Back to 30.00: not without a fresh proof; with one, yes; the 3.00 are paid.",
        told={mother: ("mandate_changed", "charge_succeeded"), father: ("mandate_changed", "charge_succeeded")},
        moved={mother: -300},
    )
    await _freeze(play)


async def _freeze(play: Play) -> None:
    mother, father, child, till = (*(play.people[name] for name in ("mother", "father", "child")), play.devices["canteen"])
    await child.ask("POST", f"/v1/circles/{play.circle_id}/freeze")
    refused = await till.charge(await child.pay_code(play.circle_id), 200)
    expect_refused(refused.body, "CIRCLE_FROZEN")
    async with Denied("forbidden"):
        await child.ask("POST", f"/v1/circles/{play.circle_id}/unfreeze", {})
    await play.step(
        "小雨的手机不见了，她一键冻结全家：捡到的人想付 2.00，立即被拒。解冻则不由她说了算。",
        "Xiaoyu misses her phone and freezes the whole circle: whoever found it tries 2.00 and is refused at once. "
        "Thawing is not hers to do.",
        told={
            mother: ("circle_frozen", "charge_refused"),
            father: ("circle_frozen",),
            child: ("circle_frozen", "charge_refused"),
        },
        moved={},
    )
    proof = await mother.prove("circle.unfreeze", play.circle_id, {})
    await mother.ask("POST", f"/v1/circles/{play.circle_id}/unfreeze", {"proof": proof})
    await play.step(
        "手机找到了，林梅凭验证码解冻。",
        "The phone is found; Lin Mei thaws the circle with a proof.",
        told={mother: ("circle_unfrozen",), father: ("circle_unfrozen",), child: ("circle_unfrozen",)},
    )
