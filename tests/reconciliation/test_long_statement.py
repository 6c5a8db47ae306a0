"""A long statement through the real adapter: nobody waits for it, and it may be longer than memory should be."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from datetime import date
from io import StringIO

import pytest

from kinpay.primitives.ids import new_id
from kinpay.providers.contract import UnknownOutcome
from kinpay.providers.sandbox_bank import wire
from kinpay.providers.sandbox_bank.adapter import STATEMENT_MAX_BYTES
from tests.providers.wire_double import bank_answering, signed

DAY = date(2026, 3, 1)
LINES = 40_000
A_LINE = "debit,{key},,{other},{other},1400,CNY,2026-03-01T12:00:01.123456Z\n"


def statement() -> str:
    """Lines as long as the sandbox bank writes them."""
    lines = (A_LINE.format(key=new_id(), other=new_id()) for _ in range(LINES))
    return ",".join(wire.STATEMENT_COLUMNS) + "\n" + "".join(lines)


async def _longest_wait(done: asyncio.Event) -> float:
    """The longest that anybody else on this loop had to wait, in seconds."""
    longest = 0.0
    while not done.is_set():
        began = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - began)
    return longest


async def test_nobody_waits_while_a_long_statement_is_read() -> None:
    text = statement()
    began = time.perf_counter()
    assert sum(1 for _ in wire.read_statement(StringIO(text, newline=""), DAY)) == LINES
    in_one_go = time.perf_counter() - began
    done = asyncio.Event()
    watching = asyncio.create_task(_longest_wait(done))
    async with bank_answering(lambda r: signed(r, text.encode())) as (bank, _), aclosing(bank.statement(DAY)) as lines:
        assert len([line async for line in lines]) == LINES
    done.set()
    assert await watching < in_one_go / 2, "in one go, it would be all of it"


async def test_a_wrong_line_far_down_is_unknown_and_a_million_lines_fit() -> None:
    text = statement() + "debit,k,,a,s,-1,CNY,2026-03-01T00:00:00Z\n"
    assert len(text) / LINES * 1_000_000 > 64 << 20, "more than once was let through"
    assert len(text) / LINES * 1_000_000 < STATEMENT_MAX_BYTES
    async with bank_answering(lambda r: signed(r, text.encode())) as (bank, _), aclosing(bank.statement(DAY)) as lines:
        with pytest.raises(UnknownOutcome, match="amount"):
            _ = [line async for line in lines]
