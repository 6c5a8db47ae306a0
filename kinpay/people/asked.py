"""What routes share, here and above: pages of lists, request keys, and the answer as it is said or said again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Protocol

from fastapi import Query, Request
from fastapi.responses import JSONResponse

from kinpay.database.idempotency import Answer, RequestKey, once
from kinpay.database.pool import Database
from kinpay.database.sql import Connection
from kinpay.primitives.actor import Actor
from kinpay.primitives.fields import Closed, Id, read_key
from kinpay.primitives.server_keys import ServerKeys

Most = Annotated[int, Query(ge=1, le=100)]
After = Annotated[Id | None, Query()]
Making = Callable[[Connection], Awaitable[Closed]]
"""What makes something, within the caller's transaction, and shows it."""


async def request_key(request: Request, actor: Actor, *, operation: str, keys: ServerKeys) -> RequestKey:
    """The request's `Idempotency-Key` with the fingerprint of what it asks. Raises: KeyMissing; Invalid."""
    key = read_key(request.headers.get("idempotency-key"))
    parts = (request.method.encode(), request.url.path.encode(), await request.body())
    return RequestKey(principal_id=actor.id, operation=operation, key=key, fingerprint=keys.mac("fingerprint", *parts))


def answer(status: int, body: Closed) -> Answer:
    """An answer to be kept under its key."""
    return Answer(status, body.model_dump(mode="json"))


def said(given: Answer) -> JSONResponse:
    """The answer over HTTP; a header tells when it was said before."""
    headers = {"Idempotency-Replayed": "true"} if given.replayed else {}
    return JSONResponse(given.body, status_code=given.status, headers=headers)


async def made(
    request: Request, making: Making, *, db: Database, keys: ServerKeys, actor: Actor, operation: str
) -> JSONResponse:
    """Makes something, 201; where the asker gave an `Idempotency-Key`, once only."""
    if "idempotency-key" not in request.headers:
        async with db.transaction() as conn:
            shown = await making(conn)
        return said(answer(201, shown))
    key = await request_key(request, actor, operation=operation, keys=keys)

    async def effect(conn: Connection) -> Answer:
        return answer(201, await making(conn))

    return said(await once(db, key, effect))


class Listed(Protocol):
    """Something with an id, in a list ordered by ids."""

    @property
    def id(self) -> str:
        """Its id."""
        ...


def next_after(found: Sequence[Listed], limit: int) -> str | None:
    """The cursor of the following page, if this one is full."""
    return found[-1].id if len(found) == limit else None
