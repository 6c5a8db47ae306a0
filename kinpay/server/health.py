"""Is it up, can it work, and what does a problem mean: asked by machines and by the puzzled."""

from __future__ import annotations

import asyncpg
from fastapi import APIRouter

from kinpay.database.migrate import SchemaMismatch, is_fit
from kinpay.database.pool import Database
from kinpay.primitives.errors import NotFound
from kinpay.primitives.fields import Closed
from kinpay.recovery.closed import want_open
from kinpay.server.problems import WORDS


class Health(Closed):
    """`ok`."""

    status: str


class Meaning(Closed):
    """What a problem's code means."""

    code: str
    status: int
    en: str
    zh: str


def router(db: Database) -> APIRouter:
    """`/healthz`, `/readyz`, `/problems/{code}`."""
    routes = APIRouter(tags=["operating"])

    @routes.get("/healthz")
    async def healthz() -> Health:
        """The process answers."""
        return Health(status="ok")

    @routes.get("/readyz")
    async def readyz() -> Health:
        """The database answers, has a schema that this program can work with, and is not closed after a restore. Else 503."""
        async with db.connection() as conn:
            try:
                fit = await is_fit(conn)
            except asyncpg.UndefinedTableError:
                fit = False
        if not fit:
            raise SchemaMismatch(reason="not_current")
        await want_open(db)
        return Health(status="ok")

    @routes.get("/problems/{code}")
    async def problem(code: str) -> Meaning:
        """What a problem's `type` points to."""
        words = WORDS.get(code)
        if words is None:
            raise NotFound()
        return Meaning(code=code, status=words.status, en=words.en, zh=words.zh)

    return routes
