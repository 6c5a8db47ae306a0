"""The control under `/_control`: what tests and the demo may do to the bank, from the same machine alone.

Source: docs/sandbox-bank.md §6.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kinpay_sandbox.agree import end_agreement, lapse_agreement
from kinpay_sandbox.agreement import lock_agreement
from kinpay_sandbox.bank import Bank
from kinpay_sandbox.books import now_utc, stamp
from kinpay_sandbox.client import change_client, find_client, register_client
from kinpay_sandbox.customer import change_customer, open_customer
from kinpay_sandbox.debit import FAILURE_CODES, finish_debit, lock_debit_of_anybody
from kinpay_sandbox.events import FORGERIES, MODES
from kinpay_sandbox.faults import read_fault
from kinpay_sandbox.ledger import read_books
from kinpay_sandbox.refund import finish_refund, lock_refund_of_anybody
from kinpay_sandbox.refusal import Refusal, bad_request, not_found
from kinpay_sandbox.wire import Fields, read_body, read_json, write_json

log = logging.getLogger("kinpay_sandbox.control")

Knob = Callable[[Bank, Request, Fields], Awaitable[Any]]


def _is_near(request: Request) -> bool:
    """Tell whether the caller is a program on this machine: not a remote peer, not a proxy's client, not a web page."""
    try:
        peer_is_near = request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
    host = request.url.hostname or ""
    named_near = host in ("localhost", "127.0.0.1", "::1")
    foreign = any(name in request.headers for name in ("origin", "forwarded", "x-forwarded-for"))
    return peer_is_near and named_near and not foreign


def _endpoint(knob: Knob) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        status, value = 200, None
        try:
            if not _is_near(request):
                raise Refusal(403, "loopback_only")
            body = await read_body(request)
            value = await knob(request.app.state.bank, request, read_json(body) if body else Fields({}))
        except Refusal as refusal:
            status, value = refusal.status, {"code": refusal.code}
        except Exception:
            log.exception("a control call failed")
            status, value = 500, {"code": "internal"}
        return Response(write_json(value if value is not None else {}), status, media_type="application/json")

    return answer


async def _register_client(bank: Bank, _: Request, fields: Fields) -> dict[str, str]:
    async with bank.transaction() as conn:
        client_id = await register_client(conn, fields)
    return {"client_id": client_id, "bank_key_id": bank.key.key_id, "bank_public_key": bank.key.public_base64}


async def _change_client(bank: Bank, request: Request, fields: Fields) -> None:
    async with bank.transaction() as conn:
        await change_client(conn, request.path_params["client_id"], fields=fields)


async def _open_customer(bank: Bank, _: Request, fields: Fields) -> dict[str, str]:
    async with bank.transaction() as conn:
        login, payer_account_id = await open_customer(conn, fields)
    return {"login": login, "payer_account_id": payer_account_id}


async def _change_customer(bank: Bank, request: Request, fields: Fields) -> dict[str, Any]:
    async with bank.transaction() as conn:
        customer = await change_customer(conn, request.path_params["login"], fields=fields)
    return {
        "login": customer.login,
        "payer_account_id": customer.payer_account_id,
        "balance_minor": customer.balance_minor,
        "currency": customer.currency,
        "frozen": customer.frozen,
    }


async def _add_fault(bank: Bank, _: Request, fields: Fields) -> list[dict[str, Any]]:
    fault, times = read_fault(fields)
    bank.faults.add(fault, times=times)
    return bank.faults.as_json()


async def _show_faults(bank: Bank, _: Request, __: Fields) -> list[dict[str, Any]]:
    return bank.faults.as_json()


async def _heal(bank: Bank, _: Request, __: Fields) -> None:
    bank.faults.heal()


ALL_DEBITS = """
SELECT d.debit_id, d.client_id, d.key, d.state, d.failure_code, d.agreement_id, d.spender_ref, d.amount_minor, d.currency,
    d.refunded_minor, d.created_at, d.finished_at, a.login,
    (SELECT count(*) FROM entries e WHERE e.reference = d.debit_id AND e.kind IN ('debit', 'capture')) AS bookings
FROM debits d LEFT JOIN agreements a USING (agreement_id)
WHERE $1::text IS NULL OR d.client_id = $1 ORDER BY d.created_at, d.debit_id"""


async def _list_debits(bank: Bank, request: Request, _: Fields) -> dict[str, Any]:
    rows = await bank.db.fetch(ALL_DEBITS, request.query_params.get("client_id"))
    times = ("created_at", "finished_at")
    return {"debits": [{**dict(row), **{name: stamp(row[name]) for name in times}} for row in rows]}


ALL_REFUNDS = """
SELECT refund_id, client_id, key, debit_key, state, failure_code, amount_minor, currency, created_at, finished_at FROM refunds
WHERE $1::text IS NULL OR client_id = $1 ORDER BY created_at, refund_id"""


async def _list_refunds(bank: Bank, request: Request, _: Fields) -> dict[str, Any]:
    rows = await bank.db.fetch(ALL_REFUNDS, request.query_params.get("client_id"))
    times = ("created_at", "finished_at")
    return {"refunds": [{**dict(row), **{name: stamp(row[name]) for name in times}} for row in rows]}


async def _show_books(bank: Bank, _: Request, __: Fields) -> dict[str, Any]:
    async with bank.snapshot() as conn:
        return await read_books(conn)


async def _finish_debit(bank: Bank, request: Request, fields: Fields) -> dict[str, Any]:
    states: dict[str, Literal["succeeded", "failed"]] = {"succeeded": "succeeded", "failed": "failed"}
    state = states[fields.one_of("state", frozenset(states))]
    code = None if fields.absent("code") else fields.one_of("code", FAILURE_CODES)
    client_id = None if fields.absent("client_id") else fields.text("client_id", longest=64)
    fields.done()
    async with bank.transaction() as conn:
        debit = await lock_debit_of_anybody(conn, request.path_params["key"], client_id=client_id)
        return (await finish_debit(conn, debit, state=state, code=code)).as_json()


async def _finish_refund(bank: Bank, request: Request, fields: Fields) -> dict[str, Any]:
    state = fields.one_of("state", frozenset({"succeeded", "failed"}))
    code = None if fields.absent("code") else fields.text("code", longest=64)
    client_id = None if fields.absent("client_id") else fields.text("client_id", longest=64)
    fields.done()
    async with bank.transaction() as conn:
        refund = await lock_refund_of_anybody(conn, request.path_params["key"], client_id=client_id)
        return (await finish_refund(conn, refund, succeeds=state == "succeeded", code=code)).as_json()


async def _end_agreement(bank: Bank, request: Request, fields: Fields) -> dict[str, Any]:
    quietly = fields.yes("quietly")
    fields.done()
    async with bank.transaction() as conn:
        agreement = await lock_agreement(conn, request.path_params["agreement_id"])
        ended = await end_agreement(conn, agreement, by="bank", reason="", base_url=bank.base_url, quietly=quietly)
    return ended.as_json(bank.base_url)


async def _lapse_agreement(bank: Bank, request: Request, fields: Fields) -> dict[str, Any]:
    fields.done()
    agreement_id = request.path_params["agreement_id"]
    async with bank.transaction() as conn:
        lapsed = await lapse_agreement(conn, agreement_id, base_url=bank.base_url, now=now_utc(), early=True)
    return lapsed.as_json(bank.base_url)


async def _set_manner(bank: Bank, _: Request, fields: Fields) -> None:
    manner = bank.postman.manner
    mode = fields.one_of("mode", MODES)
    copies = 2 if fields.absent("copies") else fields.amount("copies")
    delay_s = 0.0 if fields.absent("delay_s") else fields.seconds("delay_s")
    fields.done()
    if copies > 64:
        raise bad_request()
    manner.mode, manner.copies, manner.delay_s = mode, copies, delay_s
    bank.postman.wake.set()


async def _release_events(bank: Bank, _: Request, fields: Fields) -> None:
    fields.done()
    await bank.postman.release()


ONLY_CLIENT = "SELECT min(client_id) FROM clients HAVING count(*) = 1"


async def _forge_event(bank: Bank, _: Request, fields: Fields) -> dict[str, Any]:
    kind = fields.text("type", longest=64)
    data = fields.take("data")
    how = fields.one_of("how", frozenset(FORGERIES))
    named = None if fields.absent("client_id") else fields.text("client_id", longest=64)
    fields.done()
    if not isinstance(data, dict):
        raise bad_request()
    client_id = named or await bank.db.fetchval(ONLY_CLIENT)
    client = await find_client(bank.db, client_id) if client_id is not None else None
    if client is None:
        raise not_found()
    event_id, status = await bank.postman.forge(client, type=kind, data=data, how=how)
    return {"event_id": event_id, "status": status}


async def _show_events(bank: Bank, request: Request, _: Fields) -> dict[str, Any]:
    return await bank.postman.history(request.query_params.get("client_id"))


def control_routes() -> list[Route]:
    """Return the routes of `/_control`."""
    knobs: list[tuple[str, str, Knob]] = [
        ("POST", "/clients", _register_client),
        ("POST", "/clients/{client_id}", _change_client),
        ("POST", "/customers", _open_customer),
        ("POST", "/customers/{login}", _change_customer),
        ("POST", "/faults", _add_fault),
        ("GET", "/faults", _show_faults),
        ("DELETE", "/faults", _heal),
        ("GET", "/debits", _list_debits),
        ("GET", "/refunds", _list_refunds),
        ("GET", "/books", _show_books),
        ("POST", "/debits/{key}/finish", _finish_debit),
        ("POST", "/refunds/{key}/finish", _finish_refund),
        ("POST", "/agreements/{agreement_id}/end", _end_agreement),
        ("POST", "/agreements/{agreement_id}/lapse", _lapse_agreement),
        ("POST", "/events", _set_manner),
        ("POST", "/events/release", _release_events),
        ("POST", "/events/forge", _forge_event),
        ("GET", "/events", _show_events),
    ]
    return [Route("/_control" + path, _endpoint(knob), methods=[method]) for method, path, knob in knobs]
