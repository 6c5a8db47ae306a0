"""A person reads their own notices, and nobody else's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest_asyncio
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from kinpay.database import outbox
from kinpay.database.pool import Database
from kinpay.notifications.deliver import tasks
from kinpay.notifications.routes import router
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import Forbidden, KinpayError, NotFound, Unauthenticated
from kinpay.primitives.ids import new_id
from kinpay.worker.run import Worker
from tests.charges.seeds import found_families, open_shop

NOW = datetime(2026, 3, 2, 3, 55, tzinfo=UTC)
STATUS: dict[type[KinpayError], int] = {NotFound: 404, Forbidden: 403, Unauthenticated: 401}


class House:
    """The routes over a database, asked as whoever `actor` is; mother has seven notices, the child one."""

    def __init__(self, db: Database, client: httpx.AsyncClient) -> None:
        self.db, self.client = db, client
        self.actor: Actor | None = None
        self.child_id = ""

    def sign_in(self, person_id: str, kind: ActorKind = ActorKind.PERSON) -> None:
        """Asks as that person (or terminal) from now on."""
        self.actor = Actor(kind=kind, id=person_id, operator_id="0" * 32)

    async def get(self, path: str = "/v1/notices", **query: Any) -> dict[str, Any]:
        """The body of a good answer."""
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def application(db: Database) -> tuple[FastAPI, House]:
    app = FastAPI()
    app.include_router(router(db))
    house = House(db, httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://house"))

    @app.middleware("http")
    async def know(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        request.state.actor = house.actor
        return await proceed(request)

    @app.exception_handler(KinpayError)
    async def tell(_request: Request, error: Exception) -> Response:
        return JSONResponse({"code": getattr(error, "code", "")}, STATUS.get(type(error), 400))

    return app, house


@pytest_asyncio.fixture
async def house(db: Database) -> AsyncIterator[House]:
    _, opened = application(db)
    async with db.transaction() as conn:
        shop = await open_shop(conn, NOW)
        (family,) = await found_families(conn, shop, NOW)
        for number in range(7):
            people = [family.payer_id, family.spender_id] if number == 0 else [family.payer_id]
            await outbox.enqueue(
                conn, "notice.account_tried", lane=family.circle_id, subject_id=new_id(), body={"people": people}, now=NOW
            )
    await Worker(db, tasks(db)).run_until_idle()
    opened.sign_in(family.payer_id)
    opened.child_id = family.spender_id
    yield opened
    await opened.client.aclose()


async def test_notices_come_newest_first_page_by_page(house: House) -> None:
    first = await house.get(limit=3)
    second = await house.get(limit=3, after=first["next"])
    third = await house.get(limit=3, after=second["next"])
    ids = [one["id"] for page in (first, second, third) for one in page["notices"]]
    assert len(ids) == 7
    assert ids == sorted(ids, reverse=True)
    assert third["next"] is None
    assert first["notices"][0]["title"] == "有人尝试开通您的账户"
    assert first["notices"][0]["created_at"] == "2026-03-02T03:55:00Z"


async def test_reading_one_twice_keeps_the_first_moment_and_leaves_the_others(house: House) -> None:
    chosen = (await house.get())["notices"][2]["id"]
    first = (await house.client.post(f"/v1/notices/{chosen}/read")).json()
    again = (await house.client.post(f"/v1/notices/{chosen}/read")).json()
    assert first["read_at"] is not None
    assert first == again
    assert len((await house.get(unread="true"))["notices"]) == 6


async def test_reading_all_spares_what_came_after(house: House) -> None:
    seen = (await house.get())["notices"][2]["id"]
    assert (await house.client.post("/v1/notices/read-all", params={"up_to": seen})).json() == {"marked": 5}
    assert (await house.client.post("/v1/notices/read-all")).json() == {"marked": 2}
    assert (await house.get(unread="true"))["notices"] == []


async def test_anothers_notice_is_not_there(house: House) -> None:
    mine = [one["id"] for one in (await house.get())["notices"]]
    house.sign_in(house.child_id)
    assert len((await house.get())["notices"]) == 1
    for notice_id in (*mine, new_id()):
        assert (await house.client.post(f"/v1/notices/{notice_id}/read")).status_code == 404
    assert (await house.client.post("/v1/notices/read-all", params={"up_to": mine[0]})).json() == {"marked": 1}
    house.sign_in(new_id())
    assert (await house.get())["notices"] == []


async def test_a_terminal_or_nobody_is_told_nothing(house: House) -> None:
    house.sign_in(new_id(), ActorKind.TERMINAL)
    assert (await house.client.get("/v1/notices")).status_code == 403
    house.actor = None
    for path in ("/v1/notices/read-all", f"/v1/notices/{new_id()}/read"):
        assert (await house.client.post(path)).status_code == 401


async def test_what_is_no_id_no_limit_no_flag_is_refused(house: House) -> None:
    for query in ({"after": "x"}, {"limit": 0}, {"limit": 101}, {"unread": "perhaps"}):
        assert (await house.client.get("/v1/notices", params=query)).status_code == 422
    assert (await house.client.post("/v1/notices/XX/read")).status_code == 422
