"""The bank put together: its books opened, its postman and its deadlines running, its routes in one application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from kinpay_sandbox.api import api_routes
from kinpay_sandbox.bank import Bank
from kinpay_sandbox.books import DEADLINES_CHANNEL, EVENTS_CHANNEL, open_books, open_nonce_book
from kinpay_sandbox.control import control_routes
from kinpay_sandbox.deadlines import keep_deadlines
from kinpay_sandbox.events import Postman
from kinpay_sandbox.faults import Faults
from kinpay_sandbox.pages import page_routes
from kinpay_sandbox.signing import keep_key


@asynccontextmanager
async def open_bank(*, database_url: str, data: Path, base_url: str) -> AsyncIterator[Bank]:
    """Open the bank's books and keep its postman and deadlines running until the block ends."""
    db = await open_books(database_url)
    nonces = await open_nonce_book(database_url)
    http = httpx.AsyncClient(follow_redirects=False, trust_env=False)
    key = keep_key(data / "bank.key")
    postman = Postman(db, key, http)
    bank = Bank(db=db, nonces=nonces, key=key, faults=Faults(), postman=postman, base_url=base_url)
    deadlines_wake = asyncio.Event()

    def on_events(*_: Any) -> None:
        postman.wake.set()

    def on_deadlines(*_: Any) -> None:
        deadlines_wake.set()

    listener = await db.acquire()
    await listener.add_listener(EVENTS_CHANNEL, on_events)
    await listener.add_listener(DEADLINES_CHANNEL, on_deadlines)
    tasks = [
        asyncio.create_task(postman.run()),
        asyncio.create_task(keep_deadlines(db, base_url=base_url, wake=deadlines_wake)),
    ]
    try:
        yield bank
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await http.aclose()
        db.terminate()
        nonces.terminate()


def make_app(bank: Bank) -> Starlette:
    """Return the application that serves this bank."""
    app = Starlette(routes=[*api_routes(), *control_routes(), *page_routes()])
    app.state.bank = bank
    return app
