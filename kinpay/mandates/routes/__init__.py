"""How mandates, pools, agreements and cards are asked for over HTTP, one module an object."""

from __future__ import annotations

from fastapi import APIRouter

from kinpay.database.pool import Database
from kinpay.mandates.provider_account import Providers
from kinpay.mandates.routes import agreements, cards, circles, mandates, pools, vrp
from kinpay.primitives.server_keys import ServerKeys
from kinpay.terminals.codes import Codes


def router(db: Database, *, keys: ServerKeys, codes: Codes, providers: Providers, public_url: str) -> APIRouter:
    """Every route of this package; who may ask is checked in each. `public_url`: where providers send payers back to."""
    api = APIRouter()
    api.include_router(mandates.router(db, keys=keys))
    api.include_router(vrp.router(db))
    api.include_router(pools.router(db, keys=keys))
    api.include_router(circles.router(db, keys=keys))
    api.include_router(agreements.router(db, providers=providers, public_url=public_url))
    api.include_router(cards.router(db, keys=keys, codes=codes))
    return api
