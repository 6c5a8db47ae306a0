"""A canteen with families whose faces are enrolled, and its terminals, behind the routes of sittings.

Faces are made-up directions here (`tests/biometrics/strangers.py`): what is compared is real, only no camera saw it. Where
frames have to be looked at, `test_with_pictures.py` does it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from kinpay.biometrics import enrol
from kinpay.biometrics.galleries import Galleries
from kinpay.biometrics.keyring import FolderKeyring
from kinpay.biometrics.rotation import Rotations
from kinpay.biometrics.vectors import Vector
from kinpay.database.pool import Database, database_now
from kinpay.faces.engine import Engine, installed_folder, open_engine
from kinpay.faces.registry import DEFAULT_FACE_MODEL
from kinpay.primitives.actor import ActorKind
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys
from kinpay.sittings import store
from kinpay.sittings.desk import Desk
from kinpay.sittings.examine import Examined
from kinpay.sittings.examiner import Examiner
from kinpay.sittings.pin import set_pin
from kinpay.sittings.recognise import Concluded, recognise
from kinpay.sittings.routes import PAYING, router
from kinpay.sittings.take import take
from kinpay.terminals.authenticate import TerminalActor
from kinpay.terminals.codes import Codes
from tests.biometrics.strangers import Faces, sample
from tests.charges.seeds import Family, Shop, found_families, open_shop
from tests.registrations.house import build_app

CHEAP = 300
"""An amount for which a face alone may do in a small gallery, in fen."""
_numbers = count(1)


@dataclass
class Stand:
    """A shop, its families with their faces, and what looks at them."""

    db: Database
    desk: Desk
    codes: Codes
    shop: Shop
    client: httpx.AsyncClient
    faces: Faces
    families: list[Family] = field(default_factory=list)
    face_of: dict[str, Vector] = field(default_factory=dict)

    async def ask(self, method: str, path: str, json: Any = None, **headers: str) -> httpx.Response:
        """A request of the shop's terminal, signed with its own key unless `headers` say who asks."""
        who = headers or {"x-terminal": self.shop.terminal_id}
        return await self.client.request(method, path, json=json, headers={k.replace("_", "-"): v for k, v in who.items()})

    async def begin(self, amount_minor: int = CHEAP, *, terminal_id: str | None = None, claim: Any = None) -> Any:
        """A challenge for a payment."""
        body = {"amount_minor": amount_minor, "currency": "CNY", "claim": claim}
        answer = await self.ask("POST", "/v1/terminal/sittings", body, x_terminal=terminal_id or self.shop.terminal_id)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def show(
        self, face: Vector, amount_minor: int = CHEAP, *, terminal_id: str | None = None, claim: Any = None, flat: bool = False
    ) -> tuple[str, Concluded]:
        """A whole sitting whose frames come to `face`: its id, and what it came to."""
        begun = await self.begin(amount_minor, terminal_id=terminal_id, claim=claim)
        return begun["sitting_id"], await self.answer(begun, Examined(sample=sample(face), flat_perhaps=flat), terminal_id)

    async def answer(self, begun: Any, examined: Examined, terminal_id: str | None = None) -> Concluded:
        """The frames of a challenge, already looked at."""
        actor = TerminalActor(ActorKind.TERMINAL, terminal_id or self.shop.terminal_id, self.shop.operator_id, own_key=True)
        sitting = await take(self.db, actor, sitting_id=begun["sitting_id"], nonce=begun["nonce"], purposes=PAYING)
        return await recognise(self.db, self.desk, sitting, examined=examined)

    async def pin(self, sitting_id: str, pin: str, *, terminal_id: str | None = None) -> httpx.Response:
        """The PIN pad."""
        path = f"/v1/terminal/sittings/{sitting_id}/pin"
        return await self.ask("POST", path, {"pin": pin}, x_terminal=terminal_id or self.shop.terminal_id)

    async def enrolled(self, face: Vector | None = None, *, pin: str | None = None) -> Family:
        """A family whose spender's face is enrolled here."""
        async with self.db.transaction() as conn:
            (family,) = await found_families(conn, self.shop, await database_now(conn))
        self.families.append(family)
        await self.enrol(family.spender_id, face, pin=pin)
        return family

    async def enrol(self, person_id: str, face: Vector | None = None, *, pin: str | None = None) -> str:
        """A person's template; returns its id."""
        self.face_of[person_id] = kept = self.faces.somebody() if face is None else face
        async with self.db.transaction() as conn:
            now = await database_now(conn)
            template_id = await enrol.enrol_sample(
                conn, self.desk.keyring, self.desk.rotations, person_id=person_id, sample=sample(kept),
                captured_by=self.shop.terminal_id, provisional_until=None, lane=self.shop.operator_id, now=now,
            )  # fmt: skip
            if pin is not None:
                await set_pin(conn, self.desk.keys, person_id, pin=pin, now=now)
        return template_id

    async def second_terminal(self) -> str:
        """Another active terminal at the same site."""
        terminal_id = new_id()
        async with self.db.transaction() as conn:
            await conn.execute(
                "INSERT INTO terminal (id, operator_id, merchant_id, site_id, name, kind, state, public_key, created_at)"
                " SELECT $1, operator_id, merchant_id, site_id, 'Second', 'till', 'active', $2, kinpay_now()"
                " FROM terminal WHERE id = $3",
                terminal_id, bytes.fromhex(terminal_id), self.shop.terminal_id,
            )  # fmt: skip
        return terminal_id

    async def value(self, sql: str, *given: Any) -> Any:
        """One value, straight from the tables."""
        async with self.db.connection() as conn:
            return await conn.fetchval(sql, *given)

    async def later(self, by: timedelta) -> None:
        """The database's clock goes on by so much."""
        async with self.db.transaction() as conn:
            await conn.execute(
                "CREATE OR REPLACE FUNCTION kinpay_now() RETURNS timestamptz LANGUAGE sql VOLATILE "
                f"AS 'SELECT clock_timestamp() + make_interval(secs => {(self._ahead + by).total_seconds():.3f})'"
            )
        self._ahead += by

    _ahead: timedelta = timedelta(0)

    async def state(self, sitting_id: str) -> str:
        """Where a sitting stands."""
        async with self.db.connection() as conn:
            found = await store.find(conn, sitting_id)
        assert found is not None
        return str(found.state)


def engine() -> Engine:
    """The real one."""
    return open_engine(installed_folder(), DEFAULT_FACE_MODEL)


async def open_stand(db: Database, keys: ServerKeys, folder: Path, **rules: Any) -> Stand:
    """A shop without anybody in it."""
    keyring, rotations = FolderKeyring.open(folder, keys), Rotations(folder, keys)
    galleries = Galleries(db, keyring, rotations, engine="numpy")
    desk = Desk(keys=keys, keyring=keyring, rotations=rotations, galleries=galleries, examiner=Examiner(engine))
    desk = replace(desk, rules=replace(desk.rules, **rules))
    async with db.transaction() as conn:
        shop = await open_shop(conn, await database_now(conn))
    codes = Codes(keys)
    app = build_app(router(db, codes=codes, keyring=keyring, desk=desk))
    app.state.operator_id = shop.operator_id
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://kinpay.test")
    return Stand(db, desk, codes, shop, client, Faces(7, 64))
