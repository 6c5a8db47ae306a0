"""Mandates: looked at, changed, paused, resumed, ended."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from kinpay.database.idempotency import Answer
from kinpay.database.pool import Database
from kinpay.database.sql import Connection
from kinpay.mandates import bodies, change_terms, end_mandate
from kinpay.mandates.consent import Consent, once_consented
from kinpay.mandates.look import look_at_mandate
from kinpay.mandates.store import mandates_of
from kinpay.people.asked import After, Most, answer, next_after, request_key, said
from kinpay.primitives.actor import person_of
from kinpay.primitives.fields import Id
from kinpay.primitives.server_keys import ServerKeys


def router(db: Database, *, keys: ServerKeys) -> APIRouter:
    """The routes of mandates."""
    api = APIRouter(prefix="/v1/mandates", tags=["mandates"])
    for part in (_looking, _changing, _stopping):
        part(api, db, keys)
    return api


def _looking(api: APIRouter, db: Database, keys: ServerKeys) -> None:
    @api.get("")
    async def get_mandates(request: Request, after: After = None, limit: Most = 50) -> bodies.MandatesOut:
        """The mandates in which the asker pays or spends."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            found = await mandates_of(conn, actor.id, after=after, limit=limit)
        return bodies.MandatesOut(mandates=[bodies.MandateOut.of(one) for one in found], next=next_after(found, limit))

    @api.get("/{mandate_id}", response_model_exclude_none=False)
    async def get_mandate(request: Request, mandate_id: Id) -> bodies.MandateLookOut:
        """A mandate with what remains of each limit now."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            return bodies.MandateLookOut.of(await look_at_mandate(conn, mandate_id, person_id=actor.id))


def _changing(api: APIRouter, db: Database, keys: ServerKeys) -> None:
    @api.put("/{mandate_id}/terms", response_model=bodies.ChangedOut)
    async def put_terms(request: Request, mandate_id: Id, body: bodies.TermsIn) -> Response:
        """Other terms: lower ones at once, anything else with a fresh proof of the payer."""
        actor = person_of(request.state)
        key = await request_key(request, actor, operation=change_terms.TERMS, keys=keys)

        async def effect(conn: Connection, proof_id: str | None) -> Answer:
            changed = await change_terms.change_terms(
                conn,
                mandate_id=mandate_id,
                payer_id=actor.id,
                terms=body.terms,
                proof_id=proof_id,
                if_version=body.if_version,
            )
            return answer(200, bodies.ChangedOut.of(changed))

        consent = Consent(operation=change_terms.TERMS, subject_id=mandate_id, content=body.terms.canonical())
        return said(await once_consented(db, keys, key, actor=actor, consent=consent, proof=body.proof, effect=effect))

    @api.put("/{mandate_id}/funding", response_model=bodies.ChangedOut)
    async def put_funding(request: Request, mandate_id: Id, body: bodies.FundingIn) -> Response:
        """Other agreements, or another order of them, with a fresh proof; leaving some out needs none."""
        actor = person_of(request.state)
        key = await request_key(request, actor, operation=change_terms.FUNDING, keys=keys)

        async def effect(conn: Connection, proof_id: str | None) -> Answer:
            changed = await change_terms.change_funding(
                conn,
                mandate_id=mandate_id,
                payer_id=actor.id,
                agreement_ids=body.agreement_ids,
                proof_id=proof_id,
                if_version=body.if_version,
                debited=body.debited,
            )
            return answer(200, bodies.ChangedOut.of(changed))

        content: dict[str, object] = {"agreement_ids": list(body.agreement_ids)}
        if body.debited is not None:
            content["debited"] = body.debited
        consent = Consent(operation=change_terms.FUNDING, subject_id=mandate_id, content=content)
        return said(await once_consented(db, keys, key, actor=actor, consent=consent, proof=body.proof, effect=effect))


def _stopping(api: APIRouter, db: Database, keys: ServerKeys) -> None:
    @api.post("/{mandate_id}/pause")
    async def post_pause(request: Request, mandate_id: Id) -> bodies.MandateOut:
        """Stops the mandate until its payer resumes it."""
        actor = person_of(request.state)
        async with db.transaction() as conn:
            paused = await end_mandate.pause_mandate(conn, mandate_id=mandate_id, payer_id=actor.id)
        return bodies.MandateOut.of(paused)

    @api.post("/{mandate_id}/resume", response_model=bodies.MandateOut)
    async def post_resume(request: Request, mandate_id: Id, body: bodies.ProvenIn) -> Response:
        """Lets a paused mandate go on, with a fresh proof."""
        actor = person_of(request.state)
        key = await request_key(request, actor, operation=end_mandate.RESUME, keys=keys)

        async def effect(conn: Connection, proof_id: str | None) -> Answer:
            resumed = await end_mandate.resume_mandate(conn, mandate_id=mandate_id, payer_id=actor.id, proof_id=proof_id)
            return answer(200, bodies.MandateOut.of(resumed))

        consent = Consent(operation=end_mandate.RESUME, subject_id=mandate_id, content=end_mandate.NO_CONTENT)
        return said(await once_consented(db, keys, key, actor=actor, consent=consent, proof=body.proof, effect=effect))

    @api.delete("/{mandate_id}")
    async def delete_mandate(request: Request, mandate_id: Id) -> bodies.MandateOut:
        """Ends the mandate: its payer revokes it, or its spender leaves."""
        actor = person_of(request.state)
        async with db.transaction() as conn:
            ended = await end_mandate.end_mandate(conn, mandate_id=mandate_id, person_id=actor.id)
        return bodies.MandateOut.of(ended)
