"""Providers' callbacks: verified, written down as they came, answered, and only then acted on.

What was written down and not acted on (a crash, a busy circle) is acted on later by the same function.
Source: semantics.md "Registration", architecture.md §4.6; providers.md §1.4.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.responses import Response

from kinpay.database.pool import Database
from kinpay.database.sql import Sql
from kinpay.primitives.errors import SignatureInvalid
from kinpay.providers.contract import BadSignature, Inbound, Notification, Provider

log = logging.getLogger(__name__)

PREFIX: Final = "/v1/providers/"
MAX_ATTEMPTS: Final = 24
AT_ONCE: Final = 50
_PATIENCE: Final = timedelta(seconds=30)
_MAX_NOTICE_ID: Final = 255

Apply = Callable[[str, Notification], Awaitable[None]]
"""(provider account id, what the provider says) → acted on. Twice is the same as once; any exception means again."""


class Providers(Protocol):
    """Where adapters come from."""

    async def adapter(self, provider_account_id: str) -> Provider:
        """The open adapter of an account. Raises: NotFound."""
        ...


STORE = Sql("""
    INSERT INTO inbox (provider_account_id, notice_id, received_at, headers, body, next_try_at)
    VALUES (:account_id, :notice_id, :received_at, :headers, :body, kinpay_now() + :patience)
    ON CONFLICT DO NOTHING RETURNING 1
""")
CLAIM = Sql("""
    WITH due AS (
        SELECT provider_account_id, notice_id FROM inbox
        WHERE applied_at IS NULL AND next_try_at <= kinpay_now() AND attempts < :max_attempts
        ORDER BY next_try_at LIMIT :at_most FOR UPDATE SKIP LOCKED
    )
    UPDATE inbox i
    SET attempts = i.attempts + 1, next_try_at = kinpay_now() + make_interval(secs => least(3600, power(2, i.attempts + 1)))
    FROM due d WHERE i.provider_account_id = d.provider_account_id AND i.notice_id = d.notice_id
    RETURNING i.provider_account_id, i.notice_id, i.received_at, i.headers, i.body
""")
DONE = Sql("""
    UPDATE inbox SET applied_at = kinpay_now(), result = :result, next_try_at = NULL
    WHERE provider_account_id = :account_id AND notice_id = :notice_id AND applied_at IS NULL
""")


class Callbacks:
    """Receives, keeps and applies what providers say by themselves."""

    def __init__(self, db: Database, providers: Providers, apply: Apply, *, clock: Callable[[], float] = time.time) -> None:
        """`clock`: the wall's, which a provider's signature is measured against."""
        self._db = db
        self._providers = providers
        self._apply = apply
        self._clock = clock

    def now(self) -> datetime:
        """The wall's clock."""
        return datetime.fromtimestamp(self._clock(), UTC)

    async def receive(self, account_id: str, inbound: Inbound) -> Notification | None:
        """Verifies and keeps a callback, committed when this returns; None for one that was kept before.

        Raises: NotFound for an unknown account; SignatureInvalid, with nothing kept.
        """
        provider = await self._providers.adapter(account_id)
        try:
            notification = provider.receive(inbound)
        except BadSignature:
            log.warning("forged or broken callback", extra={"provider_account_id": account_id, "bytes": len(inbound.body)})
            raise SignatureInvalid(reason="callback") from None
        if not 0 < len(notification.notice_id) <= _MAX_NOTICE_ID:
            raise SignatureInvalid(reason="notice_id")
        async with self._db.transaction() as conn:
            kept = await STORE.value(
                conn,
                account_id=account_id,
                notice_id=notification.notice_id,
                received_at=inbound.received_at,
                headers=dict(inbound.headers) | {":method": inbound.method, ":path": inbound.path},
                body=inbound.body,
                patience=_PATIENCE,
            )
        return notification if kept else None

    async def act(self, account_id: str, notification: Notification) -> bool:
        """Acts on one notification and notes that; whether it went well. What goes wrong is tried again by `catch_up`."""
        try:
            await self._apply(account_id, notification)
        except Exception as error:
            log.warning(
                "callback not applied yet",
                extra={"provider_account_id": account_id, "error": type(error).__name__},
                exc_info=error,
            )
            return False
        await self._done(account_id, notification.notice_id, "applied")
        return True

    async def catch_up(self) -> int:
        """Acts on what was kept and not acted on, each with a doubling pause; returns how many went well. For the schedule."""
        applied = 0
        for row in await self._claim():
            notification = await self._again(row)
            if notification is not None and await self.act(row["provider_account_id"], notification):
                applied += 1
        return applied

    async def _claim(self) -> list[Any]:
        async with self._db.transaction() as conn:
            return await CLAIM.rows(conn, at_most=AT_ONCE, max_attempts=MAX_ATTEMPTS)

    async def _again(self, row: Any) -> Notification | None:
        """Reads a kept callback as when it came. One that no longer verifies (keys were changed since) is left to queries."""
        headers = dict(row["headers"])
        method, path = headers.pop(":method"), headers.pop(":path")
        inbound = Inbound(method=method, path=path, headers=headers, body=row["body"], received_at=row["received_at"])
        try:
            return (await self._providers.adapter(row["provider_account_id"])).receive(inbound)
        except BadSignature:
            await self._done(row["provider_account_id"], row["notice_id"], "no longer verifies")
        except Exception as error:
            log.warning("callback not read again", extra={"notice_id": row["notice_id"], "error": type(error).__name__})
        return None

    async def _done(self, account_id: str, notice_id: str, result: str) -> None:
        async with self._db.transaction() as conn:
            await DONE.run(conn, account_id=account_id, notice_id=notice_id, result=result)


def is_callback(path: str) -> bool:
    """Whether the body at this path is a provider's, verified as it came and not read by our guard."""
    return path.startswith(PREFIX) and path.endswith("/callback")


def router(callbacks: Callbacks) -> APIRouter:
    """`POST /v1/providers/{provider_account_id}/callback`."""
    routes = APIRouter(tags=["providers"])

    @routes.post("/v1/providers/{provider_account_id}/callback", status_code=204)
    async def callback(provider_account_id: str, request: Request) -> Response:
        """A provider tells us something, signed. 204 once it is safely kept; said again, it is 204 again and nothing more."""
        inbound = Inbound(
            method=request.method,
            path=request.scope["raw_path"].decode("latin-1"),
            headers=_joined(request),
            body=await request.body(),
            received_at=callbacks.now(),
        )
        notification = await callbacks.receive(provider_account_id, inbound)
        after = BackgroundTask(callbacks.act, provider_account_id, notification) if notification is not None else None
        return Response(status_code=204, background=after)

    return routes


def _joined(request: Request) -> dict[str, str]:
    """The headers, repeated ones joined: an adapter then sees that there were two, and believes neither."""
    joined: dict[str, str] = {}
    for name, value in request.headers.items():
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined
