"""Terms in the words of UK Open Banking: read from them, and written in them."""

from __future__ import annotations

from fastapi import APIRouter, Request

from kinpay.database.pool import Database
from kinpay.mandates import bodies
from kinpay.mandates.look import look_at_mandate
from kinpay.mandates.vrp import ControlParameters, control_parameters_of, terms_of
from kinpay.primitives.actor import person_of
from kinpay.primitives.fields import Id


def router(db: Database) -> APIRouter:
    """The routes of control parameters."""
    api = APIRouter(prefix="/v1", tags=["mandates"])

    @api.post("/terms/control-parameters")
    async def post_control_parameters(request: Request, body: ControlParameters) -> bodies.TermsReadOut:
        """The terms that say the same as these control parameters, for consenting to; nothing is changed."""
        person_of(request.state)
        terms, left_out = terms_of(body)
        return bodies.TermsReadOut(terms=terms, left_out=left_out)

    @api.get("/mandates/{mandate_id}/control-parameters", response_model_exclude_none=True)
    async def get_control_parameters(request: Request, mandate_id: Id) -> ControlParameters:
        """A mandate's terms as control parameters, if those have the words for all of them."""
        actor = person_of(request.state)
        async with db.connection() as conn:
            look = await look_at_mandate(conn, mandate_id, person_id=actor.id)
        return control_parameters_of(look.terms)

    return api
