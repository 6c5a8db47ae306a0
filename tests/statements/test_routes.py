"""Asking for a statement over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from kinpay.charges.batch import Batcher
from kinpay.database.pool import Database
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import Forbidden, Invalid, KinpayError, NotFound, Unauthenticated
from kinpay.primitives.ids import new_id
from kinpay.statements.routes import router
from tests.charges.seeds import found_families, open_shop
from tests.notifications.till import Till

NOW = datetime(2026, 3, 2, 4, tzinfo=UTC)
STATUS: dict[type[KinpayError], int] = {NotFound: 404, Forbidden: 403, Unauthenticated: 401, Invalid: 422}


async def test_the_month_is_told_to_the_circle_and_to_nobody_else(db: Database) -> None:
    async with db.transaction() as conn:
        shop = await open_shop(conn, NOW)
        (family,) = await found_families(conn, shop, NOW)
    batcher = Batcher(db)
    till = Till(db, batcher, shop)
    await till.at(NOW)
    lunch = await till.pay(family, 1400)
    await till.refund(lunch, 400)
    await batcher.close()
    asker: list[Actor | None] = [None]
    app = FastAPI()
    app.include_router(router(db))

    @app.middleware("http")
    async def know(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        request.state.actor = asker[0]
        return await proceed(request)

    @app.exception_handler(KinpayError)
    async def tell(_request: Request, error: Exception) -> Response:
        return JSONResponse({}, STATUS[type(error)])

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://house") as client:

        async def ask(person_id: str | None, month: str = "2026-03", kind: ActorKind = ActorKind.PERSON) -> httpx.Response:
            asker[0] = None if person_id is None else Actor(kind=kind, id=person_id, operator_id=shop.operator_id)
            return await client.get(f"/v1/circles/{family.circle_id}/statements/{month}")

        answer = await ask(family.payer_id)
        assert answer.status_code == 200
        said = answer.json()
        assert (said["start"], said["end"]) == ("2026-02-28T16:00:00Z", "2026-03-31T16:00:00Z")
        (part,) = said["currencies"]
        assert part["total"] == {
            "count": 1,
            "gross_minor": 1400,
            "refunded_minor": 400,
            "net_minor": 1000,
            "before_net_minor": 0,
        }
        assert part["by_payer"][0]["key"] == family.payer_id
        assert part["refused"] == {"count": 0, "amount_minor": 0}
        own = (await ask(family.spender_id)).json()
        assert own["spender_id"] == family.spender_id
        assert own["currencies"] == said["currencies"]
        assert (await ask(new_id())).status_code == 404
        assert (await ask(None)).status_code == 401
        assert (await ask(shop.terminal_id, kind=ActorKind.TERMINAL)).status_code == 403
        for month in ("2026-13", "2026-3", "march", "1999-01", "2026-03%0A", "9999-12"):
            assert (await ask(family.payer_id, month)).status_code == 422, month
        assert (await ask(family.payer_id, "2026-01")).json()["currencies"] == []
