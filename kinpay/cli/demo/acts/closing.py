"""The month's total, and the books: ours audited, and compared with the bank's own, debit by debit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from kinpay.cli.demo.play import Play, expect
from kinpay.cli.demo.stage import Stage
from kinpay.cli.demo.told import money
from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.server.serve import located
from kinpay.server.settings import read_settings

DEBITS = Sql("SELECT id, amount_minor FROM debit WHERE state = 'succeeded'")
REFUNDS = Sql("SELECT id, amount_minor FROM refund WHERE state = 'succeeded'")


async def month(play: Play) -> None:
    """[0004]: what the month came to, by spender, payer and merchant; equal to what left the payers' accounts at the bank."""
    mother, father = play.people["mother"], play.people["father"]
    play.teller.act("本月总账", "The month's total")
    path = f"/v1/circles/{play.circle_id}/statements/{datetime.now(ZoneInfo(play.zone)):%Y-%m}"
    (part,) = (await mother.get(path))["currencies"]
    spent = {line["key"]: line["net_minor"] for line in part["by_payer"]}
    left = {player.id: play.opened_with[player.account] - await player.balance_minor() for player in (mother, father)}
    expect(spent == left, f"by payer the statement says {spent}, at the bank it is {left}")
    sums = {group: sum(line["net_minor"] for line in part[group]) for group in _GROUPS}
    expect(set(sums.values()) == {part["total"]["net_minor"]}, f"every grouping should add up to the total: {sums}")
    total = part["total"]
    await play.step(
        f"林梅看本月账单：{total['count']} 笔，实付 {money(total['net_minor'])}；"
        "按消费人、付款人、商户三种分法，都与银行余额的变化一致。",
        f"Lin Mei reads the month: {total['count']} payments, {money(total['net_minor'])} net; "
        "by spender, by payer and by merchant it agrees with the balances at the bank.",
    )
    say = play.say
    names = {"by_spender": say("消费人", "spender"), "by_payer": say("付款人", "payer"), "by_merchant": say("商户", "merchant")}
    rows = [
        _row(names[group] if place == 0 else "", line["name"], line)
        for group in _GROUPS
        for place, line in enumerate(part[group])
    ]
    header = ("", "", say("笔数", "payments"), say("支出", "gross"), say("退款", "refunded"), say("净额", "net"))
    play.teller.table(header, [*rows, _row(say("合计", "total"), "", total)], texts=2, last_bold=True)
    own = (await play.people["child"].get(path))["currencies"][0]
    expect(len(own["by_spender"]) == 1, "a spender sees what they spent themself, and nothing else")


_GROUPS: Final = ("by_spender", "by_payer", "by_merchant")


def _row(group: str, name: str, line: Mapping[str, Any]) -> tuple[str, ...]:
    amounts = (money(line[field]) for field in ("gross_minor", "refunded_minor", "net_minor"))
    return (group, name, str(line["count"]), *amounts)


async def books(play: Play, stage: Stage) -> None:
    """`kinpay audit`, then every debit and refund of ours beside the bank's."""
    play.teller.act("对账", "The books")
    audited = await asyncio.to_thread(stage.command, "audit")
    said = (audited.stdout + audited.stderr).strip()
    expect(audited.returncode == 0, f"kinpay audit should find nothing:\n{said}")
    await play.step(
        "kinpay audit：账目、额度、历史与哈希链全部相符。",
        "kinpay audit: ledger, limits, history and hash chains all agree.",
    )
    ours = await _ours(stage)
    control, client_id = play.world.control, play.world.bank_client_id
    theirs = [
        {one["key"]: one["amount_minor"] for one in found if one["state"] == "succeeded"}
        for found in (await control.debits(client_id), await control.refunds(client_id))
    ]
    expect(ours == theirs, f"our debits and refunds {ours} should be the bank's {theirs}")
    expect((await control.books())["balanced"], "the bank's own ledger should balance")
    debited, refunded = (sum(found.values()) for found in ours)
    await play.step(
        f"与银行自己的账逐笔比对：{len(ours[0])} 笔扣款共 {money(debited)}，{len(ours[1])} 笔退款共 {money(refunded)}，"
        "单号与金额完全一致，无遗漏、无重复。",
        f"Beside the bank's own books: debits ({len(ours[0])}, together {money(debited)}) and refunds "
        f"({len(ours[1])}, {money(refunded)}) are equal by order number and amount: nothing lost, nothing doubled.",
    )


async def _ours(stage: Stage) -> list[dict[str, int]]:
    """Succeeded debits and refunds by their order number at the bank."""
    async with located(read_settings(stage.environment)) as url:
        db = await Database.open(url, max_connections=2)
        try:
            async with db.connection() as conn:
                found = [await query.rows(conn) for query in (DEBITS, REFUNDS)]
        finally:
            await db.close()
    return [{row["id"]: row["amount_minor"] for row in rows} for rows in found]
