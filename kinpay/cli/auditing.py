"""`audit`: do the books add up, is the history what it was, and did nobody change it by hand."""

from __future__ import annotations

import argparse
import base64
import binascii
from pathlib import Path

import msgspec

from kinpay.audit.check import OVERDUE_AFTER, check
from kinpay.audit.checkpoint import Anchor, export, make_checkpoint, public_key_of, read_anchor, verify_anchor
from kinpay.audit.findings import Finding
from kinpay.cli.command import Commands, command, in_house
from kinpay.database.pool import database_now
from kinpay.primitives.errors import Invalid
from kinpay.server.house import House
from kinpay.server.settings import Settings


def add_to(commands: Commands) -> None:
    """Enters the command of this file."""
    made = command(
        commands,
        "audit",
        _audit,
        summary="check books, history and schema; exit status 0 only if everything adds up",
        example="kinpay audit --anchor yesterday.json --public-key kinpay.pub --checkpoint-out today.json",
    )
    made.add_argument(
        "--anchor",
        type=Path,
        metavar="FILE",
        help="a checkpoint kept elsewhere: finds what was cut off or rewritten as a whole since",
    )
    made.add_argument(
        "--public-key",
        type=Path,
        metavar="FILE",
        help="what the anchor was signed with, in base64, kept beside it; otherwise this server's present key",
    )
    made.add_argument(
        "--checkpoint-out", type=Path, metavar="FILE", help="sign the present ends of all lanes and write them there"
    )
    made.add_argument("--print-public-key", action="store_true", help="print the key that checkpoints are verified with")
    made.add_argument("--no-worker", action="store_true", help="no worker runs, so nothing is late")


def _audit(asked: argparse.Namespace, settings: Settings) -> int:
    anchor = _read_anchor(asked.anchor) if asked.anchor else None
    given_key = _read_key(asked.public_key) if asked.public_key else None

    async def work(house: House) -> int:
        public_key = given_key or public_key_of(house.keys)
        if asked.print_public_key:
            print(base64.b64encode(public_key_of(house.keys)).decode())
        findings = await _look(house, anchor, public_key, late_counts=not asked.no_worker)
        for finding in findings:
            print(finding)
        if asked.checkpoint_out:
            async with house.db.transaction() as conn:
                made = await make_checkpoint(conn, house.keys, await database_now(conn))
                await export(conn, asked.checkpoint_out)
            print(f"checkpoint {made.id} over {made.lanes} lanes is in {asked.checkpoint_out}")
        print(f"{len(findings)} findings" if findings else "everything adds up")
        return 1 if findings else 0

    return in_house(settings, work)


async def _look(house: House, anchor: Anchor | None, public_key: bytes, *, late_counts: bool) -> list[Finding]:
    async with house.db.connection() as conn:
        findings = await check(conn, overdue_after=OVERDUE_AFTER if late_counts else None)
        if anchor is not None:
            findings += await verify_anchor(conn, anchor, public_key)
    return findings


def _read_anchor(path: Path) -> Anchor:
    try:
        return read_anchor(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Invalid("not_a_checkpoint", field=str(path)) from None


def _read_key(path: Path) -> bytes:
    try:
        return base64.b64decode(path.read_text(encoding="ascii").strip(), validate=True)
    except (binascii.Error, UnicodeDecodeError):
        raise Invalid("not_base64", field=str(path)) from None
