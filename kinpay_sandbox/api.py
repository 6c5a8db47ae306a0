"""What a client can ask for under `/v1`; every call comes through `door`.

Source: docs/sandbox-bank.md §2–§4.
"""

from __future__ import annotations

from datetime import date

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kinpay_sandbox.agree import end_agreement, request_agreement
from kinpay_sandbox.agreement import find_agreement, find_agreement_by_key, lock_agreement
from kinpay_sandbox.debit import cancel_debit, find_debit, make_debit, read_order
from kinpay_sandbox.door import Answer, Call, Handler, endpoint, say
from kinpay_sandbox.refund import find_refund, make_refund, read_refund_order
from kinpay_sandbox.refusal import bad_request, not_found
from kinpay_sandbox.spender import bind_spender, read_spender, remove_spender
from kinpay_sandbox.statement import statement_of
from kinpay_sandbox.wire import KEY


async def post_agreement(call: Call) -> Answer:
    """Ask a payer for an agreement."""
    async with call.bank.transaction() as conn:
        agreement, is_new = await request_agreement(conn, call.client, fields=call.fields())
    return say(agreement.as_json(call.bank.base_url), status=201 if is_new else 200)


async def get_agreement(call: Call) -> Answer:
    """Show an agreement by its id."""
    agreement = await find_agreement(call.bank.db, call.path["agreement_id"], client_id=call.client.client_id)
    if agreement is None:
        raise not_found()
    return say(agreement.as_json(call.bank.base_url))


async def get_agreement_by_key(call: Call) -> Answer:
    """Show an agreement by the key under which it was asked for."""
    agreement = await find_agreement_by_key(call.bank.db, call.client.client_id, key=call.path["key"])
    if agreement is None:
        raise not_found()
    return say(agreement.as_json(call.bank.base_url))


async def post_agreement_end(call: Call) -> Answer:
    """End an agreement for the client."""
    fields = call.fields()
    reason = fields.text("reason", longest=200, shortest=0)
    fields.done()
    async with call.bank.transaction() as conn:
        agreement = await lock_agreement(conn, call.path["agreement_id"], client_id=call.client.client_id)
        ended = await end_agreement(conn, agreement, by="client", reason=reason, base_url=call.bank.base_url)
    return say(ended.as_json(call.bank.base_url))


async def post_spender(call: Call) -> Answer:
    """Bind a spender under an agreement."""
    ref, name = read_spender(call.fields())
    async with call.bank.transaction() as conn:
        agreement = await lock_agreement(conn, call.path["agreement_id"], client_id=call.client.client_id)
        bound = await bind_spender(conn, agreement, ref=ref, name=name)
    return say(bound.as_json(call.bank.base_url))


async def post_spender_removal(call: Call) -> Answer:
    """Take a spender out of an agreement for the client; the body is empty or `{}`."""
    if call.body:
        call.fields().done()
    async with call.bank.transaction() as conn:
        agreement = await lock_agreement(conn, call.path["agreement_id"], client_id=call.client.client_id)
        left = await remove_spender(conn, agreement, ref=call.path["ref"], base_url=call.bank.base_url)
    return say(left.as_json(call.bank.base_url))


async def post_debit(call: Call) -> Answer:
    """Debit a payer, once per key."""
    order = read_order(call.fields())
    async with call.bank.transaction() as conn:
        debit = await make_debit(conn, call.client, order=order, whim=call.whim)
    return say(debit.as_json())


async def get_debit(call: Call) -> Answer:
    """Show the debit of a key."""
    debit = await find_debit(call.bank.db, call.client.client_id, key=call.path["key"])
    if debit is None:
        raise not_found()
    return say(debit.as_json())


async def post_debit_cancel(call: Call) -> Answer:
    """Make the story of a key final; the body is empty or `{}`."""
    if call.body:
        call.fields().done()
    if not KEY.fullmatch(call.path["key"]):
        raise bad_request()
    async with call.bank.transaction() as conn:
        debit = await cancel_debit(conn, call.client, key=call.path["key"])
    return say(debit.as_json())


async def post_refund(call: Call) -> Answer:
    """Give money of a debit back."""
    order = read_refund_order(call.fields())
    async with call.bank.transaction() as conn:
        refund = await make_refund(conn, call.client, order=order, whim=call.whim)
    return say(refund.as_json())


async def get_refund(call: Call) -> Answer:
    """Show the refund of a key."""
    refund = await find_refund(call.bank.db, call.client.client_id, key=call.path["key"])
    if refund is None:
        raise not_found()
    return say(refund.as_json())


async def get_statement(call: Call) -> Answer:
    """Give out a UTC day of the client's ledger as CSV."""
    try:
        day = date.fromisoformat(call.path["day"])
    except ValueError:
        raise bad_request() from None
    async with call.bank.snapshot() as conn:
        table = await statement_of(conn, call.client, day=day)
    return Answer(200, table, "text/csv; charset=utf-8")


async def nothing_here(_: Call) -> Answer:
    """Answer, signed, that there is no such call."""
    raise not_found()


async def get_keys(request: Request) -> JSONResponse:
    """Give out the bank's public keys, unsigned: a signature by itself would prove nothing."""
    key = request.app.state.bank.key
    return JSONResponse({"keys": [{"key_id": key.key_id, "public_key": key.public_base64}]})


def _route(method: str, path: str, *, handler: Handler, operation: str = "") -> Route:
    return Route(path, endpoint(handler, operation=operation), methods=[method])


def api_routes() -> list[Route]:
    """Return the routes of `/v1`, each with the name by which faults know it."""
    one = "/v1/agreements/{agreement_id}"
    return [
        Route("/v1/keys", get_keys, methods=["GET"]),
        _route("POST", "/v1/agreements", handler=post_agreement, operation="agreement"),
        _route("GET", "/v1/agreements/by-key/{key}", handler=get_agreement_by_key, operation="get_agreement"),
        _route("GET", one, handler=get_agreement, operation="get_agreement"),
        _route("POST", one + "/end", handler=post_agreement_end, operation="end"),
        _route("POST", one + "/spenders", handler=post_spender, operation="bind_spender"),
        _route("POST", one + "/spenders/{ref}/remove", handler=post_spender_removal, operation="remove_spender"),
        _route("POST", "/v1/debits", handler=post_debit, operation="debit"),
        _route("GET", "/v1/debits/by-key/{key}", handler=get_debit, operation="get_debit"),
        _route("POST", "/v1/debits/by-key/{key}/cancel", handler=post_debit_cancel, operation="cancel"),
        _route("POST", "/v1/refunds", handler=post_refund, operation="refund"),
        _route("GET", "/v1/refunds/by-key/{key}", handler=get_refund, operation="get_refund"),
        _route("GET", "/v1/statements/{day}.csv", handler=get_statement, operation="statement"),
        Route(
            "/v1/{rest:path}",
            endpoint(nothing_here, operation=""),
            methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
        ),
    ]
