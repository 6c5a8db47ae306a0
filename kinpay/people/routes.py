"""How people and circles are asked for over HTTP."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from kinpay.database.idempotency import Answer, once
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.people import bodies, freeze, membership, open_account, open_circle, profile, proof, sign_in, store
from kinpay.people.asked import After, Most, answer, made, next_after, request_key, said
from kinpay.people.circle import Role
from kinpay.primitives.actor import Actor, person_of
from kinpay.primitives.errors import Forbidden, NotFound, Unauthenticated
from kinpay.primitives.fields import Closed, Id
from kinpay.primitives.server_keys import ServerKeys


def router(db: Database, *, keys: ServerKeys) -> APIRouter:
    """Every route of this package: accounts and sign-in, proofs, circles."""
    api = APIRouter(prefix="/v1")
    for part in (_accounts, _sessions, _oneself, _circles, _members, _freezing):
        part(api, db, keys)
    return api


def _accounts(api: APIRouter, db: Database, keys: ServerKeys) -> None:
    @api.post("/people", status_code=202)
    async def post_person(body: bodies.AccountIn) -> bodies.StartedOut:
        """Opens an account; its first sign-in makes it active. The answer is the same for a name that is taken."""
        started = await open_account.open_account(db, keys, operator_id=body.operator_id, new=body.new_person())
        return bodies.StartedOut(sign_in_id=started.sign_in_id, expires_at=started.expires_at)

    @api.post("/sign-in", status_code=202)
    async def post_sign_in(body: bodies.SignInIn) -> bodies.StartedOut:
        """Sends a sign-in code. The answer is the same for an account that nobody has."""
        started = await sign_in.start_sign_in(db, keys, operator_id=body.operator_id, account=body.account)
        return bodies.StartedOut(sign_in_id=started.sign_in_id, expires_at=started.expires_at)


def _sessions(api: APIRouter, db: Database, keys: ServerKeys) -> None:
    @api.post("/sign-in/{sign_in_id}", status_code=201)
    async def post_sign_in_code(sign_in_id: Id, body: bodies.CodeIn) -> bodies.SessionOut:
        """Opens a session for whoever received the code."""
        signed_in = await sign_in.finish_sign_in(db, keys, sign_in_id=sign_in_id, digits=body.code)
        return bodies.SessionOut.of(signed_in)

    @api.post("/sign-out", status_code=204)
    async def post_sign_out(request: Request) -> Response:
        """Ends the session that asks."""
        person_of(request.state)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated()
        await sign_in.sign_out(db, token.strip())
        return Response(status_code=204)


def _oneself(api: APIRouter, db: Database, keys: ServerKeys) -> None:
    @api.get("/me")
    async def get_me(request: Request) -> bodies.PersonOut:
        """Who is asking."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            found = await store.person_row(conn, actor.id)
        if found is None:
            raise NotFound()
        return bodies.PersonOut.of(found, staff_roles=actor.staff_roles)

    @api.patch("/me")
    async def patch_me(request: Request, body: bodies.ProfileIn) -> bodies.PersonOut:
        """Changes one's language or shown name."""
        actor = person_of(request.state)
        async with db.transaction() as conn:
            changed = await profile.change_profile(conn, actor, locale=body.locale, display_name=body.display_name)
        return bodies.PersonOut.of(changed, staff_roles=actor.staff_roles)

    @api.post("/proofs", status_code=201)
    async def post_proof(request: Request, body: bodies.ProofIn) -> bodies.ProofOut:
        """Sends the asker a code that proves they want exactly this content, once."""
        actor = person_of(request.state)
        asked = await proof.ask_proof(
            db, actor, keys=keys, operation=body.operation, subject_id=body.subject_id, content=body.content
        )
        return bodies.ProofOut(proof_id=asked.proof_id, expires_at=asked.expires_at, summary_hash=asked.summary_hash)

    @api.get("/me/invitations")
    async def get_invitations(request: Request) -> bodies.InvitationsOut:
        """The circles that wait for the asker's yes."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            found = await membership.invitations_of(conn, actor.id, now=await database_now(conn))
        names = tuple(bodies.InvitationOut.model_fields)
        shown = [bodies.InvitationOut(**{name: getattr(one, name) for name in names}) for one in found]
        return bodies.InvitationsOut(invitations=shown)


def _circles(api: APIRouter, db: Database, keys: ServerKeys) -> None:
    @api.post("/circles", status_code=201, response_model=bodies.CircleOut)
    async def post_circle(request: Request, body: bodies.CircleIn) -> Response:
        """Opens a circle in which the asker pays."""
        actor = person_of(request.state)

        async def effect(conn: Connection) -> Closed:
            return bodies.CircleOut.of(await open_circle.open_circle(conn, actor, name=body.name, time_zone=body.time_zone))

        return await made(request, effect, db=db, keys=keys, actor=actor, operation="circle.open")

    @api.get("/circles")
    async def get_circles(request: Request, after: After = None, limit: Most = 50) -> bodies.CirclesOut:
        """The circles that the asker belongs to."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            found = await store.circles_of(conn, actor.id, after=after, limit=limit)
        shown = [bodies.CircleSummaryOut.of(one) for one in found]
        return bodies.CirclesOut(circles=shown, next=next_after(found, limit))

    @api.get("/circles/{circle_id}")
    async def get_circle(request: Request, circle_id: Id) -> bodies.CircleOut:
        """A circle with its members, for its members."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            return bodies.CircleOut.of(await open_circle.look_at_circle(conn, actor, circle_id=circle_id))


def _members(api: APIRouter, db: Database, keys: ServerKeys) -> None:
    @api.post("/circles/{circle_id}/members", status_code=202, response_model=bodies.AcceptedOut)
    async def post_member(request: Request, circle_id: Id, body: bodies.InviteIn) -> Response:
        """Invites somebody, with a payer's fresh proof. The answer is the same for an account that nobody has."""
        actor = person_of(request.state)
        key = await request_key(request, actor, operation=membership.INVITE, keys=keys)
        await _require_payer(db, circle_id, actor)
        content = membership.invite_content(body.account, body.role)
        proof_id = await proof.verify_proof(
            db,
            actor,
            keys=keys,
            operation=membership.INVITE,
            subject_id=circle_id,
            content=content,
            proof=body.proof,
        )

        async def effect(conn: Connection) -> Answer:
            role = Role(body.role)
            await membership.invite(conn, actor, circle_id=circle_id, account=body.account, role=role, proof_id=proof_id)
            return answer(202, bodies.AcceptedOut())

        return said(await once(db, key, effect))

    @api.post("/circles/{circle_id}/join")
    async def post_join(request: Request, circle_id: Id, body: bodies.JoinIn) -> bodies.CircleOut:
        """Says yes to an invitation."""
        actor = person_of(request.state)
        async with db.transaction() as conn:
            joined = await membership.join(conn, actor, circle_id=circle_id, role=Role(body.role))
        return bodies.CircleOut.of(joined)

    @api.delete("/circles/{circle_id}/members/{person_id}", status_code=204)
    async def delete_member(request: Request, circle_id: Id, person_id: Id) -> Response:
        """A payer removes somebody, or anybody leaves."""
        actor = person_of(request.state)
        async with db.transaction() as conn:
            await membership.end_membership(conn, actor, circle_id=circle_id, person_id=person_id)
        return Response(status_code=204)


def _freezing(api: APIRouter, db: Database, keys: ServerKeys) -> None:
    @api.post("/circles/{circle_id}/freeze")
    async def post_freeze(request: Request, circle_id: Id) -> bodies.CircleStateOut:
        """Stops all spending of the circle at once."""
        actor = person_of(request.state)
        async with db.transaction() as conn:
            state = await freeze.freeze(conn, actor, circle_id=circle_id)
        return bodies.CircleStateOut.model_validate({"state": str(state)})

    @api.post("/circles/{circle_id}/unfreeze", response_model=bodies.CircleStateOut)
    async def post_unfreeze(request: Request, circle_id: Id, body: bodies.UnfreezeIn) -> Response:
        """Lets the circle spend again, with a payer's fresh proof."""
        actor = person_of(request.state)
        key = await request_key(request, actor, operation=freeze.UNFREEZE, keys=keys)
        await _require_payer(db, circle_id, actor)
        proof_id = await proof.verify_proof(
            db,
            actor,
            keys=keys,
            operation=freeze.UNFREEZE,
            subject_id=circle_id,
            content=freeze.NO_CONTENT,
            proof=body.proof,
        )

        async def effect(conn: Connection) -> Answer:
            state = await freeze.unfreeze(conn, actor, circle_id=circle_id, proof_id=proof_id)
            return answer(200, bodies.CircleStateOut.model_validate({"state": str(state)}))

        return said(await once(db, key, effect))


async def _require_payer(db: Database, circle_id: str, actor: Actor) -> None:
    """Turns others away before a proof is looked at; the act checks again, under the lock."""
    async with db.connection() as conn:
        roles = await store.require_member(conn, circle_id, actor.id)
    if Role.PAYER not in roles:
        raise Forbidden()
