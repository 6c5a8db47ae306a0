"""Everything that the application is asked so that each operation is heard once, in its own words: what examples are made of.

The town's own coming to stand is heard first; then a day at the canteen, what payers change with a fresh proof, what goes
wrong, and at last the whole matrix by those who may.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar

from kinpay.charges.daily import debit_the_last
from kinpay.cli.demo.camera import acting, filmed, text
from kinpay.cli.demo.cast import Player
from kinpay.database.pool import database_now
from kinpay.ledger.entry import Account, AccountKind
from kinpay.primitives.clock import local_date
from kinpay.primitives.ids import new_id
from kinpay.reconciliation.reconcile_day import reconcile_day
from kinpay.server import assemble
from kinpay.settlements import close
from kinpay.worker.run import Worker
from tests.api.asking import Principal
from tests.api.matrix import CALENDAR, ROWS, Row
from tests.api.test_roles import fresh_codes, let_in
from tests.api.town import MORE, ZONE, Family, Town
from tests.conftest import set_clock
from tests.faces.people import brighter, person
from tests.flow.recorder import Recorder

T = TypeVar("T")


async def recite(town: Town, recorder: Recorder) -> None:
    """Asks for everything once; the town is used up by it. `recorder` listens already."""
    await at_the_canteen(town, town.families["A"])
    await with_proofs(town, town.families["B"])
    await debited_once_a_day(town, town.families["C"])
    await before_the_camera(town, town.families["B"])
    await in_the_books(town, town.families["A"])
    await delivered(town, asyncio.sleep(0))
    await what_goes_wrong(town)
    await let_in(town, ROWS)
    recorder.said.sort(key=lambda said: said.status >= 400)


async def before_the_camera(town: Town, family: Family) -> None:
    """Somebody is enrolled, somebody else is not recognised, and one picture is judged; the acts are warped from stills."""
    device = family.device
    assert device is not None
    await delivered(town, device.register("B", name="Nana", born="1950-02-01", payer=family["payer_account"]))
    capture_id = (await device.told_to_capture()).content["capture_id"]
    path = f"/v1/terminal/captures/{capture_id}/sittings"
    begun = (await device.terminal.request("POST", path, {"version": "1", "language": "en"}, own_key=True)).body
    shown = {"nonce": begun["nonce"], "frames": filmed(acting(person("left"), begun["acts"])), "pin": "2468"}
    await device.terminal.request("POST", f"{path}/{begun['sitting_id']}/frames", shown, own_key=True)
    asked = {"amount_minor": 300, "currency": "CNY", "claim": {"phone_digits": "4321"}}
    begun = (await device.terminal.request("POST", "/v1/terminal/sittings", asked)).body
    path = f"/v1/terminal/sittings/{begun['sitting_id']}"
    await device.terminal.request("POST", f"{path}/look", {"picture": text(brighter(person("right"), 0.1))})
    shown = {"nonce": begun["nonce"], "frames": filmed(acting(person("right"), begun["acts"]))}
    await device.terminal.request("POST", f"{path}/frames", shown, own_key=True)
    await device.terminal.request("POST", f"{path}/pin", {"pin": "1357"})


async def delivered(town: Town, doing: Awaitable[T]) -> T:
    """What `doing` comes to, while codes and notices are delivered; no worker runs in the town."""
    worker = Worker(town.db, assemble.tasks(town.house))
    task = asyncio.ensure_future(doing)
    while not task.done():
        await worker.run_until_idle()
        await asyncio.sleep(0.02)
    await worker.run_until_idle()
    return await task


# ------------------------------------------------------------------------------------------------------- the hot route


async def at_the_canteen(town: Town, family: Family) -> None:
    """Held, taken, refused and not known yet, at the till and by the phone; then captured, voided, refunded, tried again."""
    till, spender, payer = (town.principals[f"A.{who}"] for who in ("till", "spender", "payer"))
    control = family.people["payer"].world.control
    pay = Shopping(family, till, spender)
    held = await pay.at_till(1_000, capture=False)
    await pay.post(till, f"{held}/capture", {"amount_minor": 735})
    await pay.post(till, f"{held}/refunds", {"amount_minor": 200})
    await pay.post(till, f"{await pay.at_till(500, capture=False)}/void", {})
    await pay.at_till(1_400)
    await pay.at_till(60_000)
    await pay.by_phone(1_400)
    await pay.by_phone(60_000)
    await control.misbehave("debit", "pending")
    waiting = await pay.at_till(1_200)
    await control.misbehave("cancel", "drop_before_commit")
    await pay.post(till, f"{waiting}/void", {})
    await control.misbehave("debit", "pending")
    await pay.by_phone(1_100)
    await control.misbehave("debit", "pending")
    await pay.post(till, f"{await pay.at_till(900, capture=False)}/capture", {"amount_minor": 900})
    for pending in (False, True):
        await control.misbehave("debit", "refuse", code="insufficient_funds")
        owed = await pay.at_till(800, capture=False)
        await pay.post(till, f"{owed}/capture", {"amount_minor": 800})
        if pending:
            await control.misbehave("debit", "pending")
        await pay.post(payer, f"{owed}/retry", {})
    await control.heal()


class Shopping:
    """A spender at a till."""

    def __init__(self, family: Family, till: Principal, spender: Principal) -> None:
        self._family = family
        self._till = till
        self._spender = spender

    async def post(self, asker: Principal, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Asks under a key of its own; `path` is what follows `/v1/charges/`."""
        return await _ask(asker, "POST", f"/v1/charges/{path}" if path else "/v1/charges", body)

    async def at_till(self, amount_minor: int, *, capture: bool = True) -> str:
        """The spender shows a code to the till."""
        code = (await _ask(self._spender, "POST", "/v1/pay-codes", {"circle_id": self._family["circle"]}))["pay_code"]
        item = {"code": "noodles", "amount_minor": amount_minor, "quantity": 1}
        asked = {"presented": {"code": code}, "amount_minor": amount_minor, "currency": "CNY", "capture": capture}
        return str((await self.post(self._till, "", asked | {"reference": "A-17", "items": [item]}))["id"])

    async def by_phone(self, amount_minor: int) -> None:
        """The till shows a code for one sale to the spender."""
        sale = {"amount_minor": amount_minor, "currency": "CNY", "reference": "A-18"}
        shown = await _ask(self._till, "POST", "/v1/terminal/payment-codes", sale)
        body = {"presented": {"payment_code": shown["payment_code"]}, "circle_id": self._family["circle"]}
        await self.post(self._spender, "", body)


async def _ask(asker: Principal, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    content = b"" if body is None else json.dumps(body).encode()
    response = await asker.ask(method, path, content, headers={"idempotency-key": new_id()})
    found: dict[str, Any] = response.json() if "json" in response.headers.get("content-type", "") else {}
    return found


# ---------------------------------------------------------------------------------------------------- with a fresh proof


async def with_proofs(town: Town, family: Family) -> None:
    """What a payer may not do by a session alone: raise, resume, unfreeze, move to another zone."""
    payer = family.people["payer"]
    circle, mandate, pool = (f"/v1/{what}s/{family[what]}" for what in ("circle", "mandate", "pool"))
    await payer.ask("POST", f"{circle}/freeze")
    await _proven(town, payer, "POST", f"{circle}/unfreeze", ("circle.unfreeze", family["circle"], {}), {})
    zone = {"time_zone": "Asia/Tokyo"}
    await _proven(town, payer, "PUT", f"{circle}/time-zone", ("circle.time_zone", family["circle"], zone), zone)
    await payer.ask("POST", f"{mandate}/pause")
    await _proven(town, payer, "POST", f"{mandate}/resume", ("mandate.resume", family["mandate"], {}), {})
    raised = {"terms": MORE, "if_version": 1}
    await _proven(town, payer, "PUT", f"{mandate}/terms", ("mandate.terms", family["mandate"], MORE), raised)
    members = [family["spender"]]
    widened = {"name": "All", "terms": CALENDAR, "spender_ids": members, "if_version": 1}
    wish = ("pool.change", family["pool"], {"terms": CALENDAR, "spender_ids": members})
    await _proven(town, payer, "PUT", pool, wish, widened)
    await _proven(town, payer, "DELETE", pool, ("pool.end", family["pool"], {}), {})


async def _proven(
    town: Town, payer: Player, method: str, path: str, wish: tuple[str, str, dict[str, Any]], body: dict[str, Any]
) -> None:
    proof = await delivered(town, payer.prove(*wish))
    await payer.ask(method, path, body | {"proof": proof})


# ----------------------------------------------------------------------------------------------------- what days end with


async def debited_once_a_day(town: Town, family: Family) -> None:
    """A mandate that is debited daily: something due, and the day's debit, which an agreement's end brings forward.

    Who asks again for a refund that they asked for while it was due may hear that the debit is on its way.
    """
    payer, path = family.people["payer"], f"/v1/mandates/{family['mandate']}/funding"
    funding = {"agreement_ids": [family["agreement"]], "debited": "daily"}
    await _proven(town, payer, "PUT", path, ("mandate.funding", family["mandate"], funding), funding)
    pay = Shopping(family, town.principals["C.till"], town.principals["C.spender"])
    for _ in range(2):
        await pay.at_till(200)
    await debit_the_last(town.db, town.house.providers, family["agreement"])
    again = ("POST", f"/v1/charges/{await pay.at_till(200)}/refunds", b'{"amount_minor": 50}')
    same = {"idempotency-key": new_id()}
    await town.principals["C.till"].ask(*again, headers=same)
    await payer.world.control.misbehave("debit", "pending")
    await debit_the_last(town.db, town.house.providers, family["agreement"])
    await town.principals["C.till"].ask(*again, headers=same)
    await payer.world.control.heal()
    await _ask(town.principals["C.payer"], "GET", f"/v1/circles/{family['circle']}/daily-debits")


async def in_the_books(town: Town, family: Family) -> None:
    """A merchant's day and a provider's, as if they were over."""
    owner, path = town.principals["A.owner"], f"/v1/merchants/{family['merchant']}/settlements"
    account = Account(AccountKind.MERCHANT, family["merchant"], "CNY")
    async with town.db.transaction() as conn:
        now = await database_now(conn)
        day = local_date(now, ZONE)
        starts = now - timedelta(days=1)  # Not midnight: it may be just past.
        found = await close.SUM.row(conn, account_id=account.id, starts=starts, ends=now)
        kept = dict(found or {}) | {"merchant_id": family["merchant"], "currency": "CNY", "day": day}
        await close.KEEP.run(conn, **kept, starts=starts, ends=now, now=now)
    await _ask(owner, "GET", path)
    await _ask(owner, "POST", f"{path}/{day}/paid", {"currency": "CNY", "reference": "transfer 2026-0302"})
    for rest in ("", f"/{day}/lines?currency=CNY", f"/{day}/lines.csv?currency=CNY"):
        await _ask(owner, "GET", path + rest)
    async with town.db.connection() as conn:
        await set_clock(conn, now + timedelta(days=1, hours=3))
    await reconcile_day(town.db, town.house.providers, provider_account_id=family["provider_account"], day=now.date())
    async with town.db.connection() as conn:
        await set_clock(conn, now)
        # The clock goes back, so what is done from here on was not looked at.
        await conn.execute("UPDATE recon_progress SET looked_until = $1 WHERE looked_until > $1", now)
    await _ask(owner, "GET", "/v1/reconciliation/days")


# --------------------------------------------------------------------------------------------------- what goes wrong


async def what_goes_wrong(town: Town) -> None:
    """Each operation by nobody, by a neighbour and by a looker-on; with something wrong in its body; without a key."""
    family = town.families["A"]
    for row in ROWS:
        if not row.may:
            await _asked_wrongly(town.principals["anonymous"], row, family)
            continue
        await fresh_codes(town, row)
        for asker in ("anonymous", "A.viewer", "B.spender", "B.till", "C.till", "C.owner"):
            if town.relations[asker]["A"] not in row.may:
                await _asked_of(town, row, asker, family)
        asker = next(name for name in town.principals if town.relations[name]["A"] in row.may)
        await _asked_wrongly(town.principals[asker], row, family)
        if row.keyed:
            await town.principals[asker].ask(row.method, row.path(family), row.content(family), own_key=row.own_key)


async def _asked_wrongly(asker: Principal, row: Row, family: Family) -> None:
    """With a body in which one field is of a wrong kind."""
    if row.body is not None:
        body = row.body(family)
        wrong = json.dumps(body | ({next(iter(body)): []} if body else {"nobody_knows_this": 1})).encode()
        await asker.ask(row.method, row.path(family), wrong, headers=row.key, own_key=row.own_key)


async def _asked_of(town: Town, row: Row, asker: str, family: Family) -> None:
    principal = town.principals[asker]
    await principal.ask(row.method, row.path(family), row.content(family), headers=row.key, own_key=row.own_key)
