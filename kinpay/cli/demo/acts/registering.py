"""Becoming allowed to spend: orders A, B and C, an agreement found and used again, and paying for oneself."""

from __future__ import annotations

from kinpay.cli.demo.acts import facing
from kinpay.cli.demo.cast import until
from kinpay.cli.demo.play import Denied, Play, expect, expect_refused, limits

PIN = "4711"


async def child_by_scan(play: Play) -> None:
    """Order A (claim 7): scan, push, consent with limits, the bank's own page, callback, capture, bound."""
    mother, child, till = play.people["mother"], play.people["child"], play.devices["canteen"]
    play.teller.act("第一次扫码：小雨请妈妈代付（先同意，后采集）", "The first scan: Xiaoyu asks her mother to pay (order A)")
    asked = await child.request("A", payer=mother.account, device=till)
    number = asked["match_number"]
    await play.step(
        f"小雨扫食堂的二维码，选择「由他人代付」，填 {mother.account}。她的手机显示核对号 {number}。",
        f"Xiaoyu scans the canteen's code, chooses “somebody else pays” and names {mother.account}. Her phone shows {number}.",
        told={mother: ("registration_requested",)},
    )
    pushed = await mother.pushed()
    registration_id = pushed["registration_id"]
    expect(registration_id == asked["registration_id"], "the push is about the request")
    terms = limits(each=2_000, day=3_500, count=6, month=60_000)
    circle = {"name": play.say("林家", "The Lins"), "time_zone": play.zone}
    yes = await mother.approve(registration_id, number=number, terms=terms, circle=circle)
    expect(yes["agreement"]["state"] == "pending", "there is an agreement to be signed")
    await play.step(
        "林梅用验证码确认：每笔 ≤ 20.00，每日 ≤ 35.00 且 ≤ 6 笔，每月 ≤ 600.00。她还没有免密协议，于是转到银行。",
        "Lin Mei proves her yes by a code: 20.00 each, 35.00 and 6 payments a day, 600.00 a month. "
        "She has no agreement yet, so she is sent to the bank.",
        told={mother: ("registration_approved",), child: ("registration_approved",)},
    )
    await mother.sign(yes["agreement"]["sign_url"])
    command = await till.told_to_capture()
    await play.step(
        "她在银行自己的页面登录、阅读并签署；银行以签名回调通知 kinpay，食堂终端随即收到采集指令。",
        "On the bank's own page she signs in, reads and signs; the bank's signed callback reaches kinpay, "
        "and the canteen's terminal is told to capture.",
        told={mother: ("agreement_active",), child: ("capture_guidance",)},
        shown=(till, command["body"]["guidance"]["terminal"]["zh"], command["body"]["guidance"]["terminal"]["en"]),
    )
    if play.faces:
        await facing.consent(mother, registration_id)
        await facing.enrol(till, command)
    else:
        await till.capture_face(command)
    bound = await child.bound(registration_id)
    play.circle_id, play.mandates["child"] = bound["circle_id"], bound["mandate_id"]
    with_face = (
        "林梅另外同意采集孩子的人脸；终端按服务器随机选的动作拍摄，只留按人加密的模板，不留照片。绑定完成。",
        "Lin Mei says yes to the child's face, separately; the terminal films the acts that the server picked. Only a template "
        "is kept, encrypted under a key of its own, and no picture. Bound.",
    )
    without = ("终端采集模板（按人加密保存），绑定完成。", "The terminal captures a template (kept encrypted): bound.")
    await play.step(
        *(with_face if play.faces else without),
        told={mother: ("registration_bound",), child: ("registration_bound",)},
        moved={},
    )


async def grandmother_at_machine(play: Play) -> None:
    """Order B (claim 8): no phone, captured at once, may go; a card that pays nothing before the yes; the agreement reused."""
    mother, machine = play.people["mother"], play.devices["vending"]
    play.teller.act("陈奶奶，78 岁，没有手机（先采集，后同意）", "Grandmother Chen, 78, without a phone (order B)")
    name = play.say("陈奶奶", "Mrs Chen")
    asked = await machine.register("B", name=name, born="1948-02-01", payer=mother.account, locale=play.teller.lang)
    registration_id, number = asked["registration_id"], asked["match_number"]
    command = await machine.told_to_capture()
    held = await machine.capture_face(command)
    expect(held["waiting_for"] == ["consent", "agreement"], "only the payer is waited for")
    card = await machine.card(registration_id, PIN)
    await play.step(
        "售货机代她扫码、立即采集（临时保存，最多 15 分钟），她设密码、拿到卡：不必等女儿。",
        "The machine scans for her and captures at once (kept for 15 minutes at most); she chooses a PIN and gets a card: "
        "no need to wait for her daughter.",
        told={mother: ("registration_requested",)},
        shown=(machine, f"您可以离开了。核对号 {number}", f"You may go. Number {number}"),
    )
    refused = await machine.charge(card, 300, capture=False, pin=PIN)
    expect_refused(refused.body, "MANDATE_PENDING")
    await play.step("她刷卡买水 3.00：女儿还没同意，拒绝。", "She tries a water for 3.00: not agreed yet, refused.", moved={})
    await play.hush()
    terms = limits(each=1_500, day=3_000, count=5, month=50_000)
    yes = await mother.approve(registration_id, number=number, terms=terms, circle=play.circle_id)
    expect(yes["agreement"]["sign_url"] is None, "nothing is to be signed")
    await _machine_sees_bound(play, registration_id)
    play.mandates["grandmother"] = (await mother.registration(registration_id))["mandate_id"]
    play.kept["card"] = await machine.card(registration_id, PIN)
    expect(play.kept["card"] != card, "the card of the new circle is another one")
    await play.step(
        "林梅同意（每笔 ≤ 15.00，每日 ≤ 30.00）。免密协议已有，银行只把陈奶奶记到协议名下，不必再签；"
        "自动绑定，机器打印林家的卡，旧卡作废。",
        "Lin Mei agrees (15.00 each, 30.00 a day). Her agreement is found and used again: the bank only records Mrs Chen "
        "under it. Bound by itself; the machine prints the family's card, the first one is worthless.",
        told={mother: ("registration_approved", "registration_bound", "card_issued")},
        moved={},
    )


async def _machine_sees_bound(play: Play, registration_id: str) -> None:
    """Waits until the machine, which stands for her, sees it bound."""
    machine = play.devices["vending"]

    async def look() -> bool | None:
        answer = await machine.terminal.request("GET", f"/v1/registrations/{registration_id}")
        return True if answer["state"] == "bound" else None

    await until(look, "the grandmother's registration is bound")


async def father_from_app(play: Play) -> None:
    """Order C (claim 9): account to account; before it, the father joins the circle as payer and approver."""
    mother, father, child = (play.people[name] for name in ("mother", "father", "child"))
    play.teller.act("张伟加入：第二付款人（账号对账号，无采集）", "Zhang Wei joins: a second payer, from the app (order C)")
    for role in ("payer", "approver"):
        content = {"account": father.account, "role": role}
        proof = await mother.prove("circle.invite", play.circle_id, content)
        await mother.ask("POST", f"/v1/circles/{play.circle_id}/members", {**content, "proof": proof})
        await father.ask("POST", f"/v1/circles/{play.circle_id}/join", {"role": role})
    await play.step(
        "林梅邀请张伟为付款人和审批人（需验证码），张伟接受。",
        "Lin Mei invites Zhang Wei as payer and approver (proven by codes), and he accepts.",
        told={father: ("circle_invited", "circle_invited"), mother: ("circle_joined", "circle_joined")},
    )
    asked = await child.request("C", payer=father.account)
    await father.pushed()
    terms = limits(each=2_000, day=5_000, count=5, month=30_000)
    yes = await father.approve(asked["registration_id"], number=asked["match_number"], terms=terms, circle=play.circle_id)
    await father.sign(yes["agreement"]["sign_url"])
    bound = await child.bound(asked["registration_id"])
    play.mandates["child_by_father"] = bound["mandate_id"]
    await play.hush_until(father, "registration_bound")
    await play.step(
        "小雨在手机上请爸爸也代付，张伟同意并在银行签署：妈妈的协议在先，爸爸的在后。",
        "From her phone Xiaoyu asks her father, too; he agrees and signs at the bank: her mother comes first, he second.",
        moved={},
    )


async def self_payer(play: Play) -> None:
    """Self-registration [0017]: somebody is their own payer."""
    colleague, till = play.people["colleague"], play.devices["canteen"]
    play.teller.act("吴昊为自己登记", "Wu Hao registers for himself")
    asked = await colleague.request("A", payer=None, device=till)
    terms = limits(each=5_000, day=10_000, count=10, month=100_000)
    circle = {"name": play.say("吴昊", "Wu Hao"), "time_zone": play.zone}
    registration_id = asked["registration_id"]
    async with Denied("match-number-wrong"):
        await colleague.approve(registration_id, number=(asked["match_number"] + 1) % 100, terms=terms, circle=circle)
    yes = await colleague.approve(registration_id, number=asked["match_number"], terms=terms, circle=circle)
    await colleague.sign(yes["agreement"]["sign_url"])
    await till.capture_face(await till.told_to_capture())
    bound = await colleague.bound(registration_id)
    await play.hush_until(colleague, "registration_bound")
    paid = await till.charge(await colleague.pay_code(bound["circle_id"]), 2_800)
    expect(paid["state"] == "succeeded", "his lunch is paid")
    await play.step(
        "吴昊扫码选「本人付款」：输错核对号被拒，第二次成功；银行签署、采集、绑定。午饭 28.00 付讫。",
        "Wu Hao scans and chooses “I pay”: a wrong number is refused, the right one counts; signed, captured, bound. "
        "His lunch, 28.00, is paid.",
        told={colleague: ("charge_succeeded",)},
        moved={colleague: -2_800},
    )
