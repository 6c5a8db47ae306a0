"""The month's total, and the books: ours audited, and compared with the bank's own, debit by debit."""

from __future__ import annotations

import asyncio

from kinpay.cli.demo.play import Play, expect
from kinpay.cli.demo.stage import Stage
from kinpay.cli.demo.told import money
from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.server.serve import located
from kinpay.server.settings import read_settings

DEBITS = Sql("SELECT id, amount_minor FROM debit WHERE state = 'succeeded'")
REFUNDS = Sql("SELECT id, amount_minor FROM refund WHERE state = 'succeeded'")


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
