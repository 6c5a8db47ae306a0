"""A small house for the tests of registrations: an operator with two terminals and a real bank, people, and their requests."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from kinpay.biometrics.keyring import FolderKeyring
from kinpay.database.pool import Database, database_now
from kinpay.people.proof import ask_proof
from kinpay.people.routes import router as people_router
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import KinpayError
from kinpay.primitives.ids import new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys
from kinpay.registrations import captured
from kinpay.registrations.registration import Rules
from kinpay.registrations.routes import router as registration_router
from kinpay.server.problems import problem_of
from kinpay.server.provider_accounts import ProviderAccounts, add_provider_account
from kinpay.terminals.authenticate import TerminalActor
from kinpay.terminals.codes import Codes
from kinpay.terminals.routes import router as terminal_router
from kinpay_sandbox.person import BankCustomer
from kinpay_sandbox.remote import BankControl, ProviderAccount
from tests.biometrics.seed import Place, seed_place
from tests.people.house import CountedDatabase

PUBLIC_URL = "http://kinpay.test"
PASSWORD = "right horse"
TERMS = {"currency": "CNY", "limits": [{"metric": "amount", "window": "day", "at_most": 3500, "filter": {}}], "conditions": []}
FACE = {"model": "opaque", "model_version": "1", "template": base64.b64encode(b"canary-of-a-face").decode()}
_numbers = count(1)


@dataclass
class House:
    """Everything a test needs, by name."""

    db: Database
    counted: CountedDatabase
    keys: ServerKeys
    codes: Codes
    keyring: FolderKeyring
    providers: ProviderAccounts
    place: Place
    app: FastAPI
    client: httpx.AsyncClient
    control: BankControl | None = None
    bank_url: str = ""
    provider_account_id: str = field(default_factory=new_id)
    rules: Rules = field(default_factory=Rules)

    @property
    def operator_id(self) -> str:
        return self.place.operator_id

    async def person(self, account: str, *, born: date | None = date(1980, 5, 1), at_bank: bool = False) -> Somebody:
        """An active person with a contact, and perhaps a customer of the bank by the same name."""
        person_id = new_id()
        async with self.db.transaction() as conn:
            await conn.execute(
                "INSERT INTO person (id, operator_id, account, display_name, locale, birth_date, state, created_at)"
                " VALUES ($1, $2, $3, $4, 'zh', $5, 'active', kinpay_now())",
                person_id, self.operator_id, account, account.title(), born,
            )  # fmt: skip
            await conn.execute("INSERT INTO person_contact VALUES ($1, 'phone', '+8613800000001', kinpay_now())", person_id)
        somebody = Somebody(self, person_id, account)
        if at_bank:
            assert self.control is not None
            await self.control.open_customer(
                somebody.bank_login, password=PASSWORD, name=account.title(), balance_minor=500_000
            )
        return somebody

    def terminal(self, place: Place | None = None) -> Terminal:
        """A terminal's own requests; the house's first one unless a place is given."""
        return Terminal(self, (place or self.place).terminal_id)

    async def second_terminal(self) -> Terminal:
        """Another active terminal at the same site."""
        terminal_id = new_id()
        async with self.db.transaction() as conn:
            await conn.execute(
                "INSERT INTO terminal (id, operator_id, merchant_id, site_id, name, kind, state, public_key, created_at)"
                " SELECT $1, operator_id, merchant_id, site_id, 'Second', 'kiosk', 'active', $2, kinpay_now()"
                " FROM terminal WHERE id = $3",
                terminal_id, bytes.fromhex(terminal_id), self.place.terminal_id,
            )  # fmt: skip
        return Terminal(self, terminal_id)

    async def value(self, sql: str, *given: Any) -> Any:
        """One value, straight from the tables."""
        async with self.db.connection() as conn:
            return await conn.fetchval(sql, *given)

    async def rows(self, sql: str, *given: Any) -> list[Any]:
        """Rows, straight from the tables."""
        async with self.db.connection() as conn:
            found: list[Any] = await conn.fetch(sql, *given)
            return found

    async def notices(self, kind: str, *, to: str | None = None) -> list[dict[str, Any]]:
        """What was told under that kind, oldest first; of one person, if named; what is addressed to nobody is left out."""
        rows = await self.rows("SELECT body FROM outbox WHERE topic = $1 ORDER BY id", f"notice.{kind}")
        told = [row["body"] for row in rows if row["body"]["people"]]
        return [body for body in told if to is None or to in body["people"]]

    async def events(self, subject_id: str) -> list[str]:
        """The kinds of what happened to something, in order."""
        rows = await self.rows("SELECT kind FROM audit_event WHERE subject_id = $1 ORDER BY at, seq", subject_id)
        return [row["kind"] for row in rows]

    async def close(self) -> None:
        """Lets go of what was opened."""
        await self.client.aclose()
        await self.providers.close()


@dataclass(frozen=True)
class Asker:
    """Somebody, or something, that asks over HTTP."""

    house: House
    id: str

    @property
    def _headers(self) -> dict[str, str]:
        raise NotImplementedError

    async def ask(self, method: str, path: str, json: Any = None, *, key: str | None = None) -> httpx.Response:
        """A request of theirs, under a fresh `Idempotency-Key` unless one is given."""
        headers = {**self._headers, "idempotency-key": key or f"key-{next(_numbers)}"}
        return await self.house.client.request(method, path, json=json, headers=headers)

    async def get(self, path: str) -> Any:
        """What they see there."""
        answer = await self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def look(self, registration_id: str) -> Any:
        """Their part of a registration."""
        return await self.get(f"/v1/registrations/{registration_id}")


@dataclass(frozen=True)
class Somebody(Asker):
    """A signed-in person."""

    account: str

    @property
    def _headers(self) -> dict[str, str]:
        return {"x-person": self.id}

    @property
    def bank_login(self) -> str:
        """Their account name at the bank; fresh in every test, as the bank outlives them."""
        return f"{self.account}.{self.id[-8:]}"

    @property
    def actor(self) -> Actor:
        """As the server sees them."""
        return Actor(ActorKind.PERSON, self.id, self.house.operator_id)

    async def information(self, terminal: Terminal, business_type: str = "proxy") -> str:
        """Scans the terminal's code and chooses: the decoded information, signed by us."""
        shown = await terminal.ask("POST", "/v1/terminal/function-code")
        scanned = await self.ask("POST", "/v1/scans", {"code": shown.json()["code"]})
        assert scanned.status_code == 201, scanned.text
        path = f"/v1/scans/{scanned.json()['scan_id']}/business-type"
        chosen = await self.ask("POST", path, {"business_type": business_type})
        assert chosen.status_code == 200, chosen.text
        return str(chosen.json()["registration_information"])

    async def request(self, order: str, *, payer: str | None, terminal: Terminal | None = None) -> httpx.Response:
        """Asks to be paid for; by scan at `terminal`, or from the app."""
        body: dict[str, Any] = {"binding_order": order, "payer_account": payer}
        if terminal is not None:
            body["registration_information"] = await self.information(terminal, "proxy" if payer else "self")
        return await self.ask("POST", "/v1/registrations", body)

    async def requested(self, order: str, *, payer: str | None, terminal: Terminal | None = None) -> Any:
        """Asks, and it is taken."""
        answer = await self.request(order, payer=payer, terminal=terminal)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def proof(self, registration_id: str, *, circle: Any, terms: Any = None) -> dict[str, str]:
        """A fresh proof of theirs for exactly this yes."""
        account_id = self.house.provider_account_id
        content = {"terms": terms or TERMS, "provider_account_id": account_id, "circle": circle}
        asked = await ask_proof(
            self.house.db, self.actor, keys=self.house.keys,
            operation="registration.approve", subject_id=registration_id, content=content,
        )  # fmt: skip
        query = "SELECT body FROM outbox WHERE topic = 'code.send' AND subject_id = $1"
        body = await self.house.value(query, asked.proof_id)
        sealed = base64.b64decode(body["sealed"])
        secret = json.loads(self.house.keys.unseal(sealed, purpose="code", bound_to=asked.proof_id))
        return {"proof_id": asked.proof_id, "code": secret["code"]}

    async def approve(
        self, registration_id: str, *, number: int, circle_id: str | None = None, terms: Any = None, key: str | None = None,
        proof: dict[str, str] | None = None,
    ) -> httpx.Response:  # fmt: skip
        """Says yes: in a circle of theirs, or in a new one."""
        new = {"name": "Wang family", "time_zone": "Asia/Shanghai"}
        given = proof or await self.proof(registration_id, circle=circle_id or new, terms=terms)
        body = {
            "circle_id": circle_id, "new_circle": None if circle_id else new, "terms": terms or TERMS,
            "provider_account_id": self.house.provider_account_id, "payer_account_at_provider": self.bank_login,
            "match_number": number, "proof": given,
        }  # fmt: skip
        return await self.ask("POST", f"/v1/registrations/{registration_id}/approve", body, key=key)

    async def approved(self, registration_id: str, *, number: int, circle_id: str | None = None) -> Any:
        """Says yes, and it is taken."""
        answer = await self.approve(registration_id, number=number, circle_id=circle_id)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refuse(self, registration_id: str, *, block: bool = False) -> httpx.Response:
        """Says no."""
        return await self.ask("POST", f"/v1/registrations/{registration_id}/refuse", {"block": block})

    async def sign(self, url: str) -> None:
        """Signs at the bank, on the bank's own page."""
        async with BankCustomer(self.house.bank_url, self.bank_login, PASSWORD) as customer:
            await customer.agree(url)

    async def refuse_at_bank(self, url: str) -> None:
        """Refuses at the bank, on the bank's own page."""
        async with BankCustomer(self.house.bank_url, self.bank_login, PASSWORD) as customer:
            await customer.refuse(url)


@dataclass(frozen=True)
class Terminal(Asker):
    """A terminal that signs with its own key."""

    @property
    def _headers(self) -> dict[str, str]:
        return {"x-terminal": self.id}

    async def commands(self) -> list[dict[str, Any]]:
        """What it is told to do, as written."""
        rows = await self.house.rows(
            "SELECT id, kind, body, done_at FROM terminal_command WHERE terminal_id = $1 ORDER BY created_at, id", self.id
        )
        return [{"id": row["id"], "kind": row["kind"], "done": row["done_at"] is not None, **row["body"]} for row in rows]

    async def capture(self, capture_id: str, **body: Any) -> httpx.Response:
        """Hands over a template, unless something else is said."""
        return await self.ask("POST", f"/v1/terminal/captures/{capture_id}", body or FACE)

    async def request(self, order: str, *, payer: str | None = "daughter", **other: Any) -> httpx.Response:
        """Asks for somebody without a phone."""
        shown = await self.ask("POST", "/v1/terminal/function-code")
        scanned = await self.ask("POST", "/v1/terminal/scans", {"code": shown.json()["code"]})
        assert scanned.status_code == 201, scanned.text
        path = f"/v1/scans/{scanned.json()['scan_id']}/business-type"
        chosen = await self.ask("POST", path, {"business_type": "proxy"})
        body = {
            "registration_information": chosen.json()["registration_information"], "binding_order": order,
            "spender_name": "Chen", "locale": "zh", "birth_date": "1948-02-01", "payer_account": payer, **other,
        }  # fmt: skip
        return await self.ask("POST", "/v1/terminal/registrations", body)


def build_app(*routers: APIRouter) -> FastAPI:
    """An app of those routes; who asks is said by a header, problems are told as the server does it."""
    app = FastAPI()
    for one in routers:
        app.include_router(one)

    @app.middleware("http")
    async def who(request: Request, call_next: Any) -> Any:
        person, terminal = request.headers.get("x-person"), request.headers.get("x-terminal")
        session = request.headers.get("x-terminal-session")
        operator_id = app.state.operator_id
        request.state.actor = None
        if person is not None:
            request.state.actor = Actor(ActorKind.PERSON, person, request.headers.get("x-operator", operator_id))
        elif terminal is not None or session is not None:
            own_key = terminal is not None
            operator = request.headers.get("x-operator", operator_id)
            request.state.actor = TerminalActor(ActorKind.TERMINAL, str(terminal or session), operator, own_key=own_key)
        return await call_next(request)

    def tell(_: Request, error: Exception) -> Response:
        problem = problem_of(error)
        return Response(problem.encode("en"), problem.status, media_type="application/problem+json")

    app.add_exception_handler(KinpayError, tell)
    app.add_exception_handler(RequestValidationError, tell)
    return app


async def open_house(db: Database, keys: ServerKeys, keyring: FolderKeyring, *, rules: Rules) -> House:
    """An operator with a terminal, behind an app."""
    async with db.transaction() as conn:
        place = await seed_place(conn)
    counted = CountedDatabase(db)
    codes = Codes(keys)
    providers = ProviderAccounts(db, keys, timeout_s=5.0)
    app = build_app(
        people_router(counted, keys=keys),
        terminal_router(counted, keys=keys, codes=codes, public_url=PUBLIC_URL, finished=captured.command_finished),
        registration_router(
            counted, keys=keys, codes=codes, keyring=keyring, providers=providers, public_url=PUBLIC_URL, rules=rules
        ),
    )
    app.state.operator_id = place.operator_id
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=PUBLIC_URL)
    return House(db, counted, keys, codes, keyring, providers, place, app, client, rules=rules)


async def join_bank(house: House, control: BankControl, bank_url: str, *, callback_url: str) -> None:
    """Makes the house's operator a client of the bank."""
    private = Ed25519PrivateKey.generate()
    raw = private.private_bytes_raw()
    public = base64.b64encode(private.public_key().public_bytes_raw()).decode()
    told = await control.register_client(
        "School", public_key=public, callback_url=callback_url, return_url_prefix=PUBLIC_URL,
        accounts=[ProviderAccount("canteen", ["self", "proxy"])],
    )  # fmt: skip
    configuration = {
        "base_url": bank_url, "client_id": told.client_id, "account": "canteen",
        "bank_keys": {told.bank_key_id: told.bank_public_key},
    }  # fmt: skip
    async with house.db.transaction() as conn:
        house.provider_account_id = await add_provider_account(
            conn, house.keys, operator_id=house.operator_id, provider="sandbox_bank",
            configuration=configuration, secret=Sealed(raw), is_default=True,
        )  # fmt: skip
    house.control, house.bank_url = control, bank_url


async def in_minutes(house: House, minutes: float) -> datetime:
    """That many minutes from the database's now."""
    async with house.db.connection() as conn:
        return await database_now(conn) + timedelta(minutes=minutes)
