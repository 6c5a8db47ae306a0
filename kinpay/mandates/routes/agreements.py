"""Agreements: looked at, refreshed, ended; the providers to choose from; the page to which a provider sends the payer back."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from kinpay.database.pool import Database
from kinpay.mandates import bodies, end_agreement, sign_agreement
from kinpay.mandates.agreement_store import agreement_row, agreements_of
from kinpay.mandates.provider_account import Providers, provider_accounts
from kinpay.people.asked import After, Most, next_after
from kinpay.primitives.actor import person_of
from kinpay.primitives.errors import NotFound
from kinpay.primitives.fields import Id

_BACK: Final = """<!doctype html><html lang="zh"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>kinpay</title>
<p>请回到 kinpay 查看结果。</p><p lang="en">Please return to kinpay to see the result.</p></html>"""
"""Says nothing about the agreement: whoever opens this page need not be its payer."""


def router(db: Database, *, providers: Providers, public_url: str) -> APIRouter:
    """The routes of agreements and provider accounts, and the return page."""
    api = APIRouter(tags=["agreements"])
    _looking(api, db)
    _learning(api, db, providers, public_url=public_url)
    return api


def _looking(api: APIRouter, db: Database) -> None:
    @api.get("/v1/provider-accounts")
    async def get_provider_accounts(request: Request) -> bodies.ProviderAccountsOut:
        """The providers that a payer may choose from, the default one first."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            found = await provider_accounts(conn, actor.operator_id)
        return bodies.ProviderAccountsOut(provider_accounts=[bodies.ProviderAccountOut.of(one) for one in found])

    @api.get("/v1/agreements")
    async def get_agreements(request: Request, after: After = None, limit: Most = 50) -> bodies.AgreementsOut:
        """The asker's own agreements."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            found = await agreements_of(conn, actor.id, after=after, limit=limit)
        shown = [bodies.AgreementOut.of(one) for one in found]
        return bodies.AgreementsOut(agreements=shown, next=next_after(found, limit))

    @api.post("/v1/agreements/{agreement_id}/end")
    async def post_end(request: Request, agreement_id: Id) -> bodies.AgreementOut:
        """Ends the asker's own agreement; what rests on it alone is suspended at once."""
        actor = person_of(request.state)
        async with db.transaction() as conn:
            ended = await end_agreement.end_agreement(conn, agreement_id=agreement_id, payer_id=actor.id)
        return bodies.AgreementOut.of(ended)


def _learning(api: APIRouter, db: Database, providers: Providers, *, public_url: str) -> None:
    @api.post("/v1/agreements/{agreement_id}/refresh")
    async def post_refresh(request: Request, agreement_id: Id) -> bodies.AgreementOut:
        """Asks the provider how the asker's own agreement stands."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            found = await agreement_row(conn, agreement_id)
        if found is None or found.payer_id != actor.id:
            raise NotFound()
        fresh = await sign_agreement.refresh_agreement(db, providers, agreement_id, public_url=public_url)
        return bodies.AgreementOut.of(fresh)

    @api.get("/agreements/{agreement_id}/return", include_in_schema=False)
    async def get_return(agreement_id: Id) -> Response:
        """Where the provider sends the payer back to. It proves nothing, so the provider is asked; unknown ids look alike."""
        async with db.connection() as conn:
            found = await agreement_row(conn, agreement_id)
        if found is not None and found.state in ("created", "pending"):
            await sign_agreement.refresh_agreement(db, providers, agreement_id, public_url=public_url)
        return HTMLResponse(_BACK, headers={"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"})
