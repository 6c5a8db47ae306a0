"""`statement`: what a month came to for a circle."""

from __future__ import annotations

import argparse

import msgspec

from kinpay.cli.command import Commands, checked, command, in_house
from kinpay.primitives import fields
from kinpay.server.house import House
from kinpay.server.settings import Settings
from kinpay.statements.render import render_text
from kinpay.statements.store import statement_of


def add_to(commands: Commands) -> None:
    """Enters the command of this file."""
    made = command(
        commands,
        "statement",
        _statement,
        summary="print what a month came to: by day, spender, payer, merchant and category",
        example="kinpay statement --circle ID --month 2026-11 --locale en",
    )
    made.add_argument("--circle", required=True, metavar="ID")
    made.add_argument("--month", required=True, metavar="YYYY-MM", help="by the circle's own clock")
    made.add_argument("--locale", choices=("zh", "en"), default="zh", help="(%(default)s)")
    made.add_argument("--json", action="store_true", help="for programs: amounts in minor units")


def _statement(asked: argparse.Namespace, settings: Settings) -> int:
    circle_id = checked(fields.Id, asked.circle, "--circle")

    async def work(house: House) -> int:
        async with house.db.transaction() as conn:
            statement = await statement_of(conn, circle_id, month=asked.month)
        print(msgspec.json.encode(statement).decode() if asked.json else render_text(statement, asked.locale))
        return 0

    return in_house(settings, work)
