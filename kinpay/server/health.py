"""Is it up, can it work, and what does a problem mean: asked by machines and by the puzzled."""

from __future__ import annotations

import asyncpg
from fastapi import APIRouter

from kinpay.database.migrate import SchemaMismatch, fits
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
        """The database answers, too, has this program's schema, and is not closed after a restore. 503 otherwise."""
        async with db.connection() as conn:
            try:
                current = await fits(conn)
            except asyncpg.UndefinedTableError:
                current = False
        if not current:
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
