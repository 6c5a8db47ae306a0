"""How an operator, its merchants, sites and staff are asked for over HTTP, and how a second person answers."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from kinpay.database.pool import Database
from kinpay.database.sql import Connection
from kinpay.operators import bodies, operator, staff, two_people
from kinpay.operators.act import Act, ActKind
from kinpay.operators.staff import StaffRole
from kinpay.operators.two_people import privileged
from kinpay.people.asked import After, Most, made, next_after
from kinpay.primitives.actor import staff_of
from kinpay.primitives.fields import Closed, Id
from kinpay.primitives.server_keys import ServerKeys

_ALL = ("owner", "installer", "support")


def router(db: Database, *, keys: ServerKeys) -> APIRouter:
    """Every route of this package but those of API keys."""
    api = APIRouter(prefix="/v1", tags=["operators"])
    _operator(api, db)
    _places(api, db, keys)
    _staff(api, db)
    _acts(api, db)
    return api


def _operator(api: APIRouter, db: Database) -> None:
    @api.get("/operator")
    async def get_operator(request: Request) -> bodies.OperatorOut:
        """The asker's operator; for all its staff."""
        actor = staff_of(request.state, *_ALL)
        async with db.connection() as conn:
            return bodies.OperatorOut.of(await operator.operator_row(conn, actor.operator_id))

    @api.put("/operator/dual-control")
    async def put_dual_control(request: Request, body: bodies.DualControlIn) -> bodies.OperatorOut:
        """Says whether privileged acts take two people. Switching it off takes two people, too."""
        actor = staff_of(request.state, "owner")
        opened = db.transaction() if body.on else privileged(db, actor, Act(ActKind.DUAL_CONTROL_END, {}))
        async with opened as conn:
            await staff.set_dual_control(conn, actor.operator_id, on=body.on, actor_id=actor.id)
            return bodies.OperatorOut.of(await operator.operator_row(conn, actor.operator_id))


def _places(api: APIRouter, db: Database, keys: ServerKeys) -> None:
    @api.post("/merchants", status_code=201, response_model=bodies.MerchantOut)
    async def post_merchant(request: Request, body: bodies.MerchantIn) -> Response:
        """Enters a merchant; for the operator's owners."""
        actor = staff_of(request.state, "owner")

        async def making(conn: Connection) -> Closed:
            return bodies.MerchantOut.of(await operator.add_merchant(conn, actor, name=body.name, mcc=body.mcc))

        return await made(request, making, db=db, keys=keys, actor=actor, operation="merchant.add")

    @api.get("/merchants")
    async def get_merchants(request: Request, after: After = None, limit: Most = 50) -> bodies.MerchantsOut:
        """The operator's merchants; for all its staff."""
        actor = staff_of(request.state, *_ALL)
        async with db.connection() as conn:
            found = await operator.merchants_of(conn, actor.operator_id, after=after, limit=limit)
        return bodies.MerchantsOut(merchants=[bodies.MerchantOut.of(one) for one in found], next=next_after(found, limit))

    @api.post("/sites", status_code=201, response_model=bodies.SiteOut)
    async def post_site(request: Request, body: bodies.SiteIn) -> Response:
        """Enters a site of a merchant; for the operator's owners."""
        actor = staff_of(request.state, "owner")

        async def making(conn: Connection) -> Closed:
            return bodies.SiteOut.of(await operator.add_site(conn, actor, merchant_id=body.merchant_id, name=body.name))

        return await made(request, making, db=db, keys=keys, actor=actor, operation="site.add")

    @api.get("/sites")
    async def get_sites(request: Request, merchant_id: After = None, after: After = None, limit: Most = 50) -> bodies.SitesOut:
        """The operator's sites, or those of one merchant; for all its staff."""
        actor = staff_of(request.state, *_ALL)
        async with db.connection() as conn:
            found = await operator.sites_of(conn, actor.operator_id, merchant_id=merchant_id, after=after, limit=limit)
        return bodies.SitesOut(sites=[bodies.SiteOut.of(one) for one in found], next=next_after(found, limit))


def _staff(api: APIRouter, db: Database) -> None:
    @api.get("/staff")
    async def get_staff(request: Request, after: After = None, limit: Most = 50) -> bodies.StaffListOut:
        """Who may do what for the operator; for all its staff."""
        actor = staff_of(request.state, *_ALL)
        async with db.connection() as conn:
            found = await staff.staff_of_operator(conn, actor.operator_id, after=after, limit=limit)
        following = found[-1].person_id if len(found) == limit else None
        return bodies.StaffListOut(staff=[bodies.StaffOut.of(one) for one in found], next=following)

    @api.post("/staff", status_code=204)
    async def post_staff(request: Request, body: bodies.StaffIn) -> Response:
        """Gives somebody a role; to give it again changes nothing. Takes two people where the operator asks for them."""
        actor = staff_of(request.state, "owner")
        role = StaffRole(body.role)
        async with db.connection() as conn:
            person_id = await staff.staff_person(conn, actor.operator_id, body.account)
        act = Act(ActKind.STAFF_ADD, {"person_id": person_id, "account": body.account, "role": body.role})
        async with privileged(db, actor, act) as conn:
            await staff.add_staff(conn, actor.operator_id, person_id=person_id, role=role, actor_id=actor.id)
        return Response(status_code=204)

    @api.delete("/staff/{person_id}/{role}", status_code=204)
    async def delete_staff(request: Request, person_id: Id, role: bodies.Role) -> Response:
        """Takes a role away; to end an owner takes two people where the operator asks for them."""
        actor = staff_of(request.state, "owner")

        async def judged(conn: Connection) -> Act:
            account = await staff.account_of_staff(conn, actor.operator_id, person_id=person_id, role=StaffRole(role))
            return Act(ActKind.STAFF_END, {"person_id": person_id, "account": account, "role": role})

        async with privileged(db, actor, judged) if role == "owner" else db.transaction() as conn:
            await staff.end_staff(conn, actor.operator_id, person_id=person_id, role=StaffRole(role), actor_id=actor.id)
        return Response(status_code=204)


def _acts(api: APIRouter, db: Database) -> None:
    @api.get("/privileged-acts")
    async def get_acts(request: Request, after: After = None, limit: Most = 50) -> bodies.PrivilegedActsOut:
        """What waits for a second person and what became of it: for owners all, for other staff what they asked for."""
        actor = staff_of(request.state, *_ALL)
        asked_by = None if "owner" in actor.staff_roles else actor.id
        async with db.connection() as conn:
            found = await two_people.acts_of(conn, actor.operator_id, asked_by=asked_by, after=after, limit=limit)
        shown = [bodies.PrivilegedActOut.of(one) for one in found]
        return bodies.PrivilegedActsOut(privileged_acts=shown, next=next_after(found, limit))

    @api.get("/privileged-acts/{act_id}")
    async def get_act(request: Request, act_id: Id) -> bodies.PrivilegedActOut:
        """One of them, exactly as it would be done; for owners."""
        actor = staff_of(request.state, "owner")
        async with db.connection() as conn:
            return bodies.PrivilegedActOut.of(await two_people.act_of(conn, act_id, operator_id=actor.operator_id))

    @api.post("/privileged-acts/{act_id}/approve")
    async def post_approve(request: Request, act_id: Id) -> bodies.PrivilegedActOut:
        """A second owner agrees; whoever asked may then send the same request again, once."""
        actor = staff_of(request.state, "owner")
        async with db.transaction() as conn:
            return bodies.PrivilegedActOut.of(await two_people.approve(conn, act_id, owner=actor))

    @api.post("/privileged-acts/{act_id}/refuse")
    async def post_refuse(request: Request, act_id: Id) -> bodies.PrivilegedActOut:
        """A second owner does not agree, or no longer."""
        actor = staff_of(request.state, "owner")
        async with db.transaction() as conn:
            return bodies.PrivilegedActOut.of(await two_people.refuse(conn, act_id, owner=actor))

    @api.post("/privileged-acts/{act_id}/withdraw", status_code=204)
    async def post_withdraw(request: Request, act_id: Id) -> Response:
        """Whoever asked takes it back."""
        actor = staff_of(request.state, *_ALL)
        async with db.transaction() as conn:
            await two_people.withdraw(conn, act_id, actor=actor)
        return Response(status_code=204)
