"""How terminals are asked for: staff install and revoke them, terminals act, people scan."""

from __future__ import annotations

import base64
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from kinpay.database.idempotency import RequestKey
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.primitives.actor import Actor, ActorKind, Scope, actor_of, person_of, staff_of, staff_or_key_of, terminal_of
from kinpay.primitives.fields import Id, read_key
from kinpay.primitives.ids import ID_PATTERN
from kinpay.primitives.money import Money
from kinpay.primitives.server_keys import ServerKeys
from kinpay.terminals import bodies, store
from kinpay.terminals.authenticate import by_own_key, note_requests
from kinpay.terminals.codes import Codes
from kinpay.terminals.command import CommandBell, Finished, finish_command, nothing_more, wait_for_commands
from kinpay.terminals.emv_codes import EmvPlace
from kinpay.terminals.function_code import bare_code, issue_function_code
from kinpay.terminals.install import (
    InstallCode,
    expect_once,
    expect_terminal,
    install_terminal,
    renew_install_code,
    terminal_of_code,
)
from kinpay.terminals.payment_code import issue_emv_payment_code, issue_payment_code, payment_code_use, read_payment_code
from kinpay.terminals.revoke import revoke_terminal
from kinpay.terminals.scan import BUSINESS_TYPES, Scanned, choose_business_type, scan_function_code
from kinpay.terminals.session import open_session
from kinpay.terminals.set_fare import end_fare_rule, fare_rule_of, set_fare_rule
from kinpay.terminals.signature import RequestParts, read_point, verify_ecdsa
from kinpay.terminals.terminal import Terminal, TerminalKind

IdInPath = Annotated[str, Path(pattern=ID_PATTERN)]
_STAFF = ("owner", "installer")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rooms:
    db: Database
    keys: ServerKeys
    codes: Codes
    public_url: str
    finished: Finished
    clock: Callable[[], float]


def router(
    db: Database,
    *,
    keys: ServerKeys,
    codes: Codes,
    public_url: str,
    finished: Finished = nothing_more,
    clock: Callable[[], float] = time.time,
) -> APIRouter:
    """Every route of this feature; who may ask is checked in each.

    `finished` is told, in its transaction, what terminals made of their commands.
    """
    routes = APIRouter(tags=["terminals"])
    rooms = _Rooms(db=db, keys=keys, codes=codes, public_url=public_url, finished=finished, clock=clock)
    _staff_routes(routes, rooms)
    _fare_routes(routes, rooms)
    _installing_routes(routes, rooms)
    _scan_routes(routes, rooms)
    _command_routes(routes, rooms)
    _payment_code_routes(routes, rooms)
    return routes


def _staff_routes(routes: APIRouter, rooms: _Rooms) -> None:
    @routes.post("/v1/terminals", status_code=201)
    async def expect(request: Request, response: Response, body: bodies.NewTerminal) -> bodies.NewInstallCode:
        """Announce a terminal at a site, with an `Idempotency-Key` once only; the answer's install code is for the device."""
        asker = staff_of(request.state, *_STAFF)

        async def expecting(conn: Connection) -> InstallCode:
            return await expect_terminal(
                conn,
                rooms.keys,
                operator_id=asker.operator_id,
                site_id=body.site_id,
                name=body.name,
                kind=TerminalKind(body.kind),
                hold_s=body.hold_s,
                now=await database_now(conn),
                actor_id=asker.id,
            )

        code = await _expected(request, response, rooms, asker, expecting)
        return bodies.NewInstallCode(terminal_id=code.terminal_id, install_code=code.text, expires_at=code.expires_at)

    @routes.post("/v1/terminals/{terminal_id}/install-code", status_code=201)
    async def renew_code(request: Request, terminal_id: IdInPath) -> bodies.NewInstallCode:
        """Replace the install code of a terminal that is not installed yet."""
        asker = staff_of(request.state, *_STAFF)
        async with rooms.db.transaction() as conn:
            now = await database_now(conn)
            code = await renew_install_code(
                conn, rooms.keys, operator_id=asker.operator_id, terminal_id=terminal_id, now=now, actor_id=asker.id
            )
        return bodies.NewInstallCode(terminal_id=code.terminal_id, install_code=code.text, expires_at=code.expires_at)

    @routes.get("/v1/terminals")
    async def list_all(
        request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 50, after: Id | None = None
    ) -> bodies.TerminalList:
        """The operator's terminals; to an API key of one merchant, that merchant's."""
        asker = staff_or_key_of(request.state, Scope.TERMINALS_READ, *_STAFF, "support")
        async with rooms.db.connection() as conn:
            found = await store.list_terminals(
                conn, asker.operator_id, merchant_id=asker.merchant_id, limit=limit + 1, after=after
            )
        more = found[limit - 1].id if len(found) > limit else None
        return bodies.TerminalList(terminals=[_shown(item) for item in found[:limit]], next=more)

    @routes.post("/v1/terminals/{terminal_id}/revoke", status_code=204)
    async def revoke(request: Request, terminal_id: IdInPath) -> Response:
        """End a terminal; effective before the answer leaves."""
        asker = staff_of(request.state, *_STAFF)
        async with rooms.db.transaction() as conn:
            now = await database_now(conn)
            await revoke_terminal(conn, operator_id=asker.operator_id, terminal_id=terminal_id, now=now, actor_id=asker.id)
        return Response(status_code=204)


async def _expected(
    request: Request,
    response: Response,
    rooms: _Rooms,
    asker: Actor,
    expecting: Callable[[Connection], Awaitable[InstallCode]],
) -> InstallCode:
    given = request.headers.get("idempotency-key")
    if given is None:
        async with rooms.db.transaction() as conn:
            return await expecting(conn)
    parts = (request.method.encode(), request.url.path.encode(), await request.body())
    key = RequestKey(
        principal_id=asker.id,
        operation="terminal.expect",
        key=read_key(given),
        fingerprint=rooms.keys.mac("fingerprint", *parts),
    )
    code, replayed = await expect_once(rooms.db, rooms.keys, key, expecting)
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return code


def _fare_routes(routes: APIRouter, rooms: _Rooms) -> None:
    @routes.put("/v1/merchants/{merchant_id}/fare-rule")
    async def put_fare_rule(request: Request, merchant_id: IdInPath, body: bodies.FareRuleIn) -> bodies.FareRuleOut:
        """What rides through a merchant's gates cost at most a day, and for how long a transfer is free; from now on."""
        asker = staff_of(request.state, "owner")
        async with rooms.db.transaction() as conn:
            rule = await set_fare_rule(
                conn,
                operator_id=asker.operator_id,
                merchant_id=merchant_id,
                currency=body.currency,
                cap_per_day_minor=body.cap_per_day_minor,
                transfer_within_s=body.transfer_within_s,
                actor_id=asker.id,
                now=await database_now(conn),
            )
        return bodies.FareRuleOut.of(rule)

    @routes.get("/v1/merchants/{merchant_id}/fare-rule")
    async def get_fare_rule(request: Request, merchant_id: IdInPath) -> bodies.FareRuleOut:
        """The fare rule in force."""
        asker = staff_of(request.state, *_STAFF, "support")
        async with rooms.db.transaction() as conn:
            rule = await fare_rule_of(conn, operator_id=asker.operator_id, merchant_id=merchant_id)
        return bodies.FareRuleOut.of(rule)

    @routes.delete("/v1/merchants/{merchant_id}/fare-rule", status_code=204)
    async def delete_fare_rule(request: Request, merchant_id: IdInPath) -> Response:
        """Rides cost what the gate says, from now on."""
        asker = staff_of(request.state, "owner")
        async with rooms.db.transaction() as conn:
            now = await database_now(conn)
            await end_fare_rule(conn, operator_id=asker.operator_id, merchant_id=merchant_id, actor_id=asker.id, now=now)
        return Response(status_code=204)


def _installing_routes(routes: APIRouter, rooms: _Rooms) -> None:
    @routes.post("/v1/terminals/install", status_code=201)
    async def install(request: Request, body: bodies.Install) -> bodies.Installed:
        """Present the install code; the request is signed with the key it brings, which proves that the device holds it."""
        public_key = read_point(body.public_key, "public_key")
        terminal_id = terminal_of_code(body.install_code)
        verified = verify_ecdsa(await _parts(request), public_key, signer_id=terminal_id, now_s=rooms.clock())
        async with rooms.db.transaction() as conn:
            now = await database_now(conn)
            found = await install_terminal(conn, rooms.keys, code=body.install_code, public_key=public_key, now=now)
            (objection,) = await note_requests(conn, [(terminal_id, verified.nonce, terminal_id)])
            if objection is not None:
                raise objection
        return bodies.Installed(
            terminal_id=found.id,
            operator_id=found.operator_id,
            name=found.name,
            kind=found.kind.value,
            merchant=found.merchant_name,
            site=found.site_name,
        )

    @routes.post("/v1/terminals/sessions", status_code=201)
    async def open_one(request: Request, body: bodies.OpenSession) -> bodies.SessionOpened:
        """Agree on a session key; the request carries the terminal's own signature."""
        asker = by_own_key(request.state)
        point = read_point(body.agreement_key, "agreement_key")
        nonce = body.nonce.encode()
        async with rooms.db.transaction() as conn:
            now = await database_now(conn)
            opened = await open_session(conn, rooms.keys, terminal_id=asker.id, agreement_key=point, nonce=nonce, now=now)
        return bodies.SessionOpened(
            session_id=opened.session_id,
            agreement_key=_text(opened.agreement_key),
            expires_at=opened.expires_at,
            confirmation=_text(opened.confirmation),
        )


def _scan_routes(routes: APIRouter, rooms: _Rooms) -> None:
    @routes.post("/v1/terminal/function-code", status_code=201)
    async def function_code(request: Request) -> bodies.FunctionCodeShown:
        """The next code for the terminal to show."""
        asker = terminal_of(request.state)
        async with rooms.db.connection() as conn:
            now = await database_now(conn)
        shown = issue_function_code(rooms.codes, rooms.public_url, terminal_id=asker.id, now=now)
        return bodies.FunctionCodeShown(code=shown.url, rotates_in_s=shown.rotates_in_s, expires_at=shown.expires_at)

    async def scan(request: Request, body: bodies.NewScan, kind: ActorKind) -> bodies.ScanMade:
        asker = terminal_of(request.state) if kind is ActorKind.TERMINAL else person_of(request.state)
        text = bare_code(body.code, rooms.public_url)
        async with rooms.db.transaction() as conn:
            now = await database_now(conn)
            return _scan_made(await scan_function_code(conn, rooms.codes, text=text, asker=asker, now=now))

    @routes.post("/v1/scans", status_code=201)
    async def scan_by_person(request: Request, body: bodies.NewScan) -> bodies.ScanMade:
        """Scan a terminal's code; it is used up by this."""
        return await scan(request, body, ActorKind.PERSON)

    @routes.post("/v1/terminal/scans", status_code=201)
    async def scan_by_terminal(request: Request, body: bodies.NewScan) -> bodies.ScanMade:
        """The terminal stands for a person without a phone, with the code that it shows itself."""
        return await scan(request, body, ActorKind.TERMINAL)

    @routes.post("/v1/scans/{scan_id}/business-type")
    async def choose(request: Request, scan_id: IdInPath, body: bodies.ChooseBusinessType) -> bodies.BusinessTypeChosen:
        """Choose the business type, once, as the scanner."""
        asker = actor_of(request.state)
        async with rooms.db.transaction() as conn:
            now = await database_now(conn)
            chosen = await choose_business_type(
                conn, rooms.codes, scan_id=scan_id, business_type=body.business_type, asker=asker, now=now
            )
        return bodies.BusinessTypeChosen(
            registration_information=chosen.information,
            scan_id=scan_id,
            terminal_id=chosen.terminal_id,
            business_type=body.business_type,
            expires_at=chosen.expires_at,
        )


def _command_routes(routes: APIRouter, rooms: _Rooms) -> None:
    bell = CommandBell(rooms.db)

    @routes.get("/v1/terminal/commands")
    async def commands(
        request: Request, wait_s: Annotated[int, Query(ge=0, le=25)] = 20, again: bool = False
    ) -> bodies.CommandList:
        """What the terminal is to do, as soon as there is something. `again`: also what was handed out before."""
        asker = terminal_of(request.state)
        found = await wait_for_commands(rooms.db, bell, terminal_id=asker.id, wait_s=wait_s, again=again)
        shown = [
            bodies.CommandShown(
                id=item.id, kind=item.kind.value, body=item.body, created_at=item.created_at, expires_at=item.expires_at
            )
            for item in found
        ]
        return bodies.CommandList(commands=shown)

    @routes.post("/v1/terminal/commands/{command_id}/done", status_code=204)
    async def done(request: Request, command_id: IdInPath, body: bodies.CommandDone) -> Response:
        """Say what came of a command."""
        asker = terminal_of(request.state)
        async with rooms.db.transaction() as conn:
            now = await database_now(conn)
            await finish_command(
                conn,
                terminal_id=asker.id,
                command_id=command_id,
                ok=body.ok,
                reason=body.reason,
                finished=rooms.finished,
                now=now,
            )
        return Response(status_code=204)


def _payment_code_routes(routes: APIRouter, rooms: _Rooms) -> None:
    @routes.post("/v1/terminal/payment-codes", status_code=201)
    async def issue(request: Request, body: bodies.NewPaymentCode) -> bodies.PaymentCodeShown:
        """A code for one sale, for the spender to scan; with `emv`, also as an EMVCo merchant-presented code."""
        asker = terminal_of(request.state)
        amount = Money(body.amount_minor, body.currency)
        async with rooms.db.connection() as conn:
            now = await database_now(conn)
            if body.emv is None:
                issued = issue_payment_code(rooms.codes, asker=asker, amount=amount, reference=body.reference, now=now)
            else:
                place = EmvPlace(country=body.emv.country, city=body.emv.city, language=body.emv.language)
                issued = await issue_emv_payment_code(
                    conn, rooms.codes, asker=asker, amount=amount, reference=body.reference, place=place, now=now
                )
        return bodies.PaymentCodeShown(
            payment_code_id=issued.id, payment_code=issued.text, expires_at=issued.expires_at, emv_code=issued.emv_text
        )

    @routes.get("/v1/terminal/payment-codes/{code_id}")
    async def state(request: Request, code_id: IdInPath) -> bodies.PaymentCodeState:
        """Whether somebody paid with a code of this terminal."""
        asker = terminal_of(request.state)
        async with rooms.db.connection() as conn:
            use = await payment_code_use(conn, code_id=code_id, terminal_id=asker.id)
        return bodies.PaymentCodeState(payment_code_id=code_id, used=use.used, charge_id=use.charge_id)

    @routes.post("/v1/payment-codes/read")
    async def read(request: Request, body: bodies.PresentedPaymentCode) -> bodies.PaymentCodeRead:
        """What a payment code asks for, before anything is paid."""
        asker = person_of(request.state)
        async with rooms.db.connection() as conn:
            now = await database_now(conn)
            found = await read_payment_code(conn, rooms.codes, text=body.payment_code, asker=asker, now=now)
        amount = bodies.AmountShown(amount_minor=found.amount.minor, currency=found.amount.currency)
        return bodies.PaymentCodeRead(
            terminal=_place(found.terminal), amount=amount, reference=found.reference, expires_at=found.expires_at
        )


async def _parts(request: Request) -> RequestParts:
    scope: Any = request.scope
    return RequestParts.of(
        request.method,
        scope["raw_path"],
        query=scope["query_string"],
        headers=scope["headers"],
        body=await request.body(),
    )


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _shown(item: Terminal) -> bodies.TerminalShown:
    return bodies.TerminalShown(
        id=item.id,
        name=item.name,
        kind=item.kind.value,
        state=item.state.value,
        merchant_id=item.merchant_id,
        merchant=item.merchant_name,
        site_id=item.site_id,
        site=item.site_name,
        hold_s=item.hold_s,
        created_at=item.created_at,
        installed_at=item.installed_at,
        revoked_at=item.revoked_at,
    )


def _place(terminal: Terminal) -> bodies.Place:
    return bodies.Place(id=terminal.id, name=terminal.name, merchant=terminal.merchant_name, site=terminal.site_name)


def _scan_made(made: Scanned) -> bodies.ScanMade:
    return bodies.ScanMade(
        scan_id=made.scan_id,
        terminal=_place(made.terminal),
        business_types=list(BUSINESS_TYPES),
        expires_at=made.expires_at,
    )
