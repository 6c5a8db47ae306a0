"""Pools: a payer's ceilings over several spenders."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from kinpay.database.idempotency import Answer, once
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.mandates import bodies, pool
from kinpay.mandates.consent import Consent, once_consented
from kinpay.mandates.look import look_at_limits
from kinpay.people.asked import answer, request_key, said
from kinpay.people.store import require_member
from kinpay.primitives.actor import person_of
from kinpay.primitives.fields import Id
from kinpay.primitives.server_keys import ServerKeys


def router(db: Database, *, keys: ServerKeys) -> APIRouter:
    """The routes of pools."""
    api = APIRouter(prefix="/v1", tags=["pools"])
    for part in (_looking, _making, _changing, _ending):
        part(api, db, keys)
    return api


def _looking(api: APIRouter, db: Database, keys: ServerKeys) -> None:
    @api.get("/circles/{circle_id}/pools")
    async def get_pools(request: Request, circle_id: Id) -> bodies.PoolsOut:
        """The asker's own pools in a circle, with what remains now."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            await require_member(conn, circle_id, actor.id)
            now, shown = await database_now(conn), []
            for one in await pool.pools_of(conn, circle_id, payer_id=actor.id):
                looks = await look_at_limits(
                    conn, one.id, terms=one.terms, circle_id=circle_id, consented_at=one.created_at, now=now
                )
                shown.append(bodies.PoolOut.of(one, list(looks)))
        return bodies.PoolsOut(pools=shown)


def _making(api: APIRouter, db: Database, keys: ServerKeys) -> None:
    @api.post("/circles/{circle_id}/pools", status_code=201, response_model=bodies.PoolMadeOut)
    async def post_pool(request: Request, circle_id: Id, body: bodies.PoolIn) -> Response:
        """Makes a pool over what the asker pays in the circle; it acts at once, as it can only refuse more."""
        actor = person_of(request.state)
        key = await request_key(request, actor, operation="pool.make", keys=keys)

        async def effect(conn: Connection) -> Answer:
            pool_id = await pool.make_pool(
                conn,
                circle_id=circle_id,
                payer_id=actor.id,
                name=body.name,
                terms=body.terms,
                spender_ids=body.spender_ids,
            )
            return answer(201, bodies.PoolMadeOut(pool_id=pool_id, version=1))

        return said(await once(db, key, effect))


def _changing(api: APIRouter, db: Database, keys: ServerKeys) -> None:
    @api.put("/pools/{pool_id}", response_model=bodies.PoolMadeOut)
    async def put_pool(request: Request, pool_id: Id, body: bodies.PoolChangeIn) -> Response:
        """The pool as it is to be: lower at once, anything else with a fresh proof."""
        actor = person_of(request.state)
        key = await request_key(request, actor, operation=pool.CHANGE, keys=keys)

        async def effect(conn: Connection, proof_id: str | None) -> Answer:
            version = await pool.change_pool(
                conn,
                pool_id=pool_id,
                payer_id=actor.id,
                name=body.name,
                terms=body.terms,
                spender_ids=body.spender_ids,
                proof_id=proof_id,
                if_version=body.if_version,
            )
            return answer(200, bodies.PoolMadeOut(pool_id=pool_id, version=version))

        spenders = None if body.spender_ids is None else sorted(set(body.spender_ids))
        content = {"terms": body.terms.canonical(), "spender_ids": spenders}
        consent = Consent(operation=pool.CHANGE, subject_id=pool_id, content=content)
        return said(await once_consented(db, keys, key, actor=actor, consent=consent, proof=body.proof, effect=effect))


def _ending(api: APIRouter, db: Database, keys: ServerKeys) -> None:
    @api.delete("/pools/{pool_id}", response_model=bodies.DoneOut)
    async def delete_pool(request: Request, pool_id: Id, body: bodies.ProvenIn) -> Response:
        """Ends a pool, with a fresh proof: more is allowed without it."""
        actor = person_of(request.state)
        key = await request_key(request, actor, operation=pool.END, keys=keys)

        async def effect(conn: Connection, proof_id: str | None) -> Answer:
            await pool.end_pool(conn, pool_id=pool_id, payer_id=actor.id, proof_id=proof_id)
            return answer(200, bodies.DoneOut())

        consent = Consent(operation=pool.END, subject_id=pool_id, content={})
        return said(await once_consented(db, keys, key, actor=actor, consent=consent, proof=body.proof, effect=effect))
