"""How an operator's owners make, see and revoke API keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from kinpay.database.pool import Database
from kinpay.database.sql import Connection
from kinpay.operators.act import Act, ActKind
from kinpay.operators.api_key import ApiKey, NewApiKey, api_keys_of, make_api_key, revoke_api_key
from kinpay.operators.operator import merchant_name
from kinpay.operators.two_people import privileged
from kinpay.primitives.actor import Scope, staff_of
from kinpay.primitives.fields import Closed, Id, Moment, Name, refuse_key
from kinpay.primitives.server_keys import ServerKeys

ScopeIn = Annotated[Scope, Field(strict=False)]


class ApiKeyIn(Closed):
    """A key to be made. Without `merchant_id` it acts for all merchants of the operator; without `expires_at` until revoked."""

    name: Name
    scopes: Annotated[list[ScopeIn], Field(min_length=1, max_length=len(Scope))]
    merchant_id: Id | None = None
    expires_at: Moment | None = None


class ApiKeyOut(Closed):
    """A key, without its token. `prefix` is what the token begins with; `last_used_at` is right to the hour."""

    id: Id
    merchant_id: Id | None
    name: str
    prefix: str
    scopes: list[str]
    created_by: Id
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> ApiKeyOut:
        """As it is answered."""
        return cls(**{name: getattr(key, name) for name in cls.model_fields if name != "scopes"}, scopes=list(key.scopes))


class ApiKeyMade(Closed):
    """A new key: `token` is shown this once."""

    api_key: ApiKeyOut
    token: str


class ApiKeysOut(Closed):
    """A page, newest first; `next` goes into `after`."""

    api_keys: list[ApiKeyOut]
    next: Id | None


def router(db: Database, *, keys: ServerKeys) -> APIRouter:
    """The routes of API keys, for owners alone. No answer of theirs is kept: it would keep a token."""
    routes = APIRouter(prefix="/v1", tags=["api keys"])

    @routes.post("/api-keys", status_code=201)
    async def post_api_key(request: Request, body: ApiKeyIn) -> ApiKeyMade:
        """Makes a key for a back office; its token is in this answer and nowhere else, so no `Idempotency-Key` is taken."""
        owner = staff_of(request.state, "owner")
        refuse_key(request.headers.get("idempotency-key"))
        wanted = NewApiKey(
            name=body.name, scopes=frozenset(body.scopes), merchant_id=body.merchant_id, expires_at=body.expires_at
        )

        async def judged(conn: Connection) -> Act:
            merchant = await merchant_name(conn, owner.operator_id, body.merchant_id)
            return Act(ActKind.API_KEY_MAKE, {**body.model_dump(mode="json"), "merchant": merchant})

        async with privileged(db, owner, judged) as conn:
            made, token = await make_api_key(conn, keys, owner=owner, wanted=wanted)
        return ApiKeyMade(api_key=ApiKeyOut.of(made), token=token.open())

    @routes.get("/api-keys")
    async def get_api_keys(
        request: Request, after: Id | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 50
    ) -> ApiKeysOut:
        """The operator's keys, newest first, revoked ones too."""
        owner = staff_of(request.state, "owner")
        async with db.connection() as conn:
            found = await api_keys_of(conn, owner.operator_id, after=after, limit=limit)
        return ApiKeysOut(api_keys=[ApiKeyOut.of(one) for one in found], next=found[-1].id if len(found) == limit else None)

    @routes.delete("/api-keys/{api_key_id}", status_code=204)
    async def delete_api_key(api_key_id: Id, request: Request) -> Response:
        """Revokes a key; effective before the answer leaves."""
        owner = staff_of(request.state, "owner")
        async with db.transaction() as conn:
            await revoke_api_key(conn, api_key_id, owner=owner)
        return Response(status_code=204)

    return routes
