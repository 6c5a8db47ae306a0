"""Enrolling and paying by face. Stills cannot blink: what the camera sees is warped from one, and the teller says so."""

from __future__ import annotations

from typing import Any, Final

from kinpay.cli.demo import actors
from kinpay.cli.demo.camera import acting, engine, filmed
from kinpay.cli.demo.cast import Device, Player
from kinpay.cli.demo.play import Denied, Play, expect, expect_charge
from kinpay.faces.files import ModelAltered, ModelMissing
from kinpay_client import Command

CHILD: Final = "left"
STRANGER: Final = "right"
"""Two of the people in the package's picture."""
BUN: Final = 200


def at_hand() -> bool:
    """Whether there are pictures to act with and models to look at them; both come with `make install`."""
    if not actors.at_hand():
        return False
    try:
        engine()
    except (ModelAltered, ModelMissing):
        return False
    return True


async def consent(mother: Player, registration_id: str) -> None:
    """A child's face needs the payer's separate word for the very text that she read."""
    read = await mother.get("/v1/face-consent-text?language=zh")
    given = {"version": read["version"], "language": "zh"}
    await mother.ask("POST", f"/v1/registrations/{registration_id}/face-consent", given)


async def enrol(till: Device, command: Command) -> None:
    """Three good pictures, two acts in between; what the terminal keeps of it is nothing."""
    capture = f"/v1/terminal/captures/{command.content['capture_id']}/sittings"
    read = (await till.terminal.request("GET", "/v1/face-consent-text?language=zh")).body
    begun = await _own(till, capture, {"version": read["version"], "language": "zh"})
    taken = await _own(till, f"{capture}/{begun['sitting_id']}/frames", _frames(begun, CHILD))
    expect(taken["outcome"] == "enrolled", f"the face is enrolled; the answer was {taken}")
    await till.terminal.done(command.id, ok=True)


async def child_pays_by_face(play: Play) -> None:
    """Claim 7 to its end: recognised at the till, without phone or card; a stranger is asked for something else."""
    mother, child, till = play.people["mother"], play.people["child"], play.devices["canteen"]
    if not play.faces:
        return
    play.teller.act("小雨刷脸", "Xiaoyu pays by face")
    stranger = await _look_in(till, STRANGER)
    expect((stranger["outcome"], stranger["face"]) == ("step_up", None), f"a stranger is not recognised: {stranger}")
    seen = await _look_in(till, CHILD)
    expect(seen["outcome"] == "recognised", f"Xiaoyu is recognised; the answer was {seen}")
    paid = await till.terminal.charge({"face": seen["face"]}, BUN, "CNY")
    expect_charge(paid.body, "succeeded", captured_minor=BUN)
    async with Denied("check-code-used"):
        await till.terminal.charge({"face": seen["face"]}, BUN, "CNY")
    told = (await mother.charge(paid.id))["face"]
    expect(told["bound"] <= told["permitted"], "the charge says how sure it was, and that was sure enough")
    await play.step(
        f"包子 2.00：小雨没带手机，对着食堂的摄像头做服务器随机选的两个动作，认出后付款。认错人的概率上限 {told['bound']:.7f}"
        f"（允许 {told['permitted']:.4f}）。换个人来：不认，改请出示密码、付款码或卡，也不说像谁。"
        "（演示用的是软件包里的静态照片，动作由关键点变形而成。）",
        f"A bun, 2.00: no phone today. Xiaoyu does the two acts that the server picked, is recognised, and it is paid; the "
        f"chance of a wrong person was at most {told['bound']:.7f} ({told['permitted']:.4f} is permitted). Somebody else is "
        "asked for a PIN, a code or a card, and never told who they resemble. "
        "(These are still pictures of a package; stills cannot act, so the acts are warped from their landmarks.)",
        told={child: ("charge_succeeded",), mother: ("charge_succeeded",)},
        moved={mother: -BUN},
    )


async def _look_in(till: Device, who: str) -> dict[str, Any]:
    begun = (await till.terminal.request("POST", "/v1/terminal/sittings", {"amount_minor": BUN, "currency": "CNY"})).body
    return await _own(till, f"/v1/terminal/sittings/{begun['sitting_id']}/frames", _frames(begun, who))


def _frames(begun: dict[str, Any], who: str) -> dict[str, Any]:
    return {"nonce": begun["nonce"], "frames": filmed(acting(actors.person(who), begun["acts"]))}


async def _own(device: Device, path: str, content: dict[str, Any]) -> dict[str, Any]:
    return (await device.terminal.request("POST", path, content, own_key=True)).body
