"""How a person asks for what they were told. The same notices come by `GET /v1/live` as they happen."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from kinpay.database.pool import Database
from kinpay.notifications.message import Notice
from kinpay.notifications.store import mark_all_read, mark_read, notices_of
from kinpay.primitives.actor import person_of
from kinpay.primitives.fields import Closed, Id


class NoticeOut(Closed):
    """A notice: what is read, and the facts that it was written from."""

    id: Id
    kind: str
    subject_id: Id
    title: str
    text: str
    facts: dict[str, Any]
    created_at: datetime
    read_at: datetime | None

    @classmethod
    def of(cls, notice: Notice) -> NoticeOut:
        """As it is answered."""
        return cls(**{name: getattr(notice, name) for name in cls.model_fields})


class NoticesOut(Closed):
    """A page, newest first; `next` goes into `after` for the older ones."""

    notices: list[NoticeOut]
    next: Id | None


class ReadOut(Closed):
    """How many notices were marked as read."""

    marked: int


def router(db: Database) -> APIRouter:
    """The routes of notices: one's own and nobody else's."""
    routes = APIRouter(prefix="/v1", tags=["notices"])

    @routes.get("/notices")
    async def get_notices(
        request: Request,
        after: Annotated[Id | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
        unread: Annotated[bool, Query()] = False,
    ) -> NoticesOut:
        """What the asking person was told, newest first; with `unread=true` only what they have not read."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            found = await notices_of(conn, actor.id, after=after, limit=limit, unread=unread)
        return NoticesOut(notices=[NoticeOut.of(one) for one in found], next=found[-1].id if len(found) == limit else None)

    @routes.post("/notices/{notice_id}/read")
    async def post_read(notice_id: Id, request: Request) -> NoticeOut:
        """Notes that it was read; doing it twice keeps the first moment."""
        actor = person_of(request.state)
        async with db.transaction() as conn:
            return NoticeOut.of(await mark_read(conn, actor.id, notice_id=notice_id))

    @routes.post("/notices/read-all")
    async def post_read_all(request: Request, up_to: Annotated[Id | None, Query()] = None) -> ReadOut:
        """Notes that all were read; with `up_to`, none that came after that one."""
        actor = person_of(request.state)
        async with db.transaction() as conn:
            return ReadOut(marked=await mark_all_read(conn, actor.id, up_to=up_to))

    return routes
