"""A town to ask questions in: two operators, three families with something of everything, and everybody who might ask.

It is built over HTTP like anything else, in one process, with the real sandbox bank. Families A and B belong to the first
operator and C to the second, so that for everybody there is an own thing, a neighbour's, and one of another operator.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any

import httpx
import numpy as np

from kinpay.biometrics import enrol
from kinpay.biometrics.template import Modality, read_sample
from kinpay.cli.demo.cast import Device, Player, merchant
from kinpay.cli.demo.world import World
from kinpay.database import audit
from kinpay.database.pool import Database, database_now
from kinpay.operators.act import Act, ActKind
from kinpay.operators.staff import StaffRole, add_staff
from kinpay.primitives.actor import Scope
from kinpay.primitives.clock import local_date
from kinpay.primitives.ids import is_id, new_id
from kinpay.registrations.capture import move_capture
from kinpay.registrations.captured import lock_capture
from kinpay.registrations.finding import note_finding
from kinpay.registrations.registration import CaptureEvent
from kinpay.server.house import House
from tests.api.asking import URL, Anonymous, AsPerson, AsTerminal, Principal
from tests.stories.asking import limit, terms

ZONE = "Asia/Shanghai"
TERMS = terms(limit("amount", "day", 50_000))
MORE = terms(
    limit("amount", "day", 90_000, mccs=["5814"]),
    conditions=[{"kind": "hours", "open": [{"opens": "06:00", "closes": "20:00", "weekdays": [1, 2, 3]}]}],
)


@dataclass
class Family:
    """What there is of one family: ids and codes by what they are of, and the secrets that no outsider may hear."""

    name: str
    at: dict[str, str] = field(default_factory=dict)
    people: dict[str, Player] = field(default_factory=dict)
    secrets: set[str] = field(default_factory=set)
    device: Device | None = None

    def __getitem__(self, thing: str) -> str:
        return self.at[thing]

    def nowhere(self) -> Family:
        """The same with ids that nobody ever made; codes, accounts and months stay."""
        return Family("nowhere", {thing: new_id() if is_id(value) else value for thing, value in self.at.items()})


@dataclass
class Town:
    """The application, who asks it, and what they ask about."""

    house: House
    http: httpx.AsyncClient
    families: dict[str, Family]
    principals: dict[str, Principal]
    relations: Mapping[str, Mapping[str, str]]
    """Principal → family → what they are to each other."""
    owners: list[Player]

    @property
    def db(self) -> Database:
        """The application's database."""
        return self.house.db

    @asynccontextmanager
    async def with_app(self, app: Any) -> AsyncIterator[Town]:
        """The same town and the same askers before another application."""
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=URL, timeout=30) as http:
            askers = {name: one.before(http) for name, one in self.principals.items()}
            yield replace(self, http=http, principals=askers)


async def family(world: World, name: str, owner: Player, till: Device, *, site: tuple[str, str]) -> Family:
    """A family with one of everything, at its till."""
    made = Family(name)
    await _join(world, made)
    await _bind(made, till)
    await _buy(made, till)
    await _invite(made)
    await _wait_for_things(world, made, till)
    announced = await owner.ask("POST", "/v1/terminals", {"site_id": site[1], "name": "Next", "kind": "till", "hold_s": 60})
    made.at |= {"merchant": site[0], "site": site[1], "announced": announced["terminal_id"], "till": till.id}
    made.at["provider_account"] = world.provider_account_id
    made.at |= {"operator": world.operator_id, "a_code": "not-found"}
    await _listen(made, owner)
    return made


async def _listen(made: Family, owner: Player) -> None:
    """An endpoint of the family's merchant where nobody is, a message for it, and a key that nobody has."""
    hook = {"url": "https://127.0.0.1:1025/hook", "types": ["charge.owed"], "merchant_id": made["merchant"]}
    endpoint = (await owner.ask("POST", "/v1/webhook-endpoints", hook))["endpoint"]["id"]
    await owner.ask("POST", f"/v1/webhook-endpoints/{endpoint}/test")
    listed = await owner.ask("GET", f"/v1/webhook-endpoints/{endpoint}/deliveries")
    made.at |= {"endpoint": endpoint, "delivery": listed["deliveries"][0]["id"]}
    made.at["api_key"] = (await owner.ask("POST", "/v1/api-keys", {"name": "Spare", "scopes": ["charges:read"]}))["api_key"][
        "id"
    ]


async def _join(world: World, made: Family) -> None:
    for role in ("payer", "spender", "approver", "viewer", "pest", "newcomer"):
        account = f"{made.name}.{role}.{secrets.token_hex(3)}".lower()
        player = await Player.join(world, account, name=f"{role.title()} {secrets.token_hex(4)}", born="1980-05-01")
        made.people[role] = player
        made.at |= {role: player.id, f"{role}_account": account}
        made.secrets |= {player.id, account, player.name}
    await made.people["payer"].open_bank_account(1_000_000)


async def _bind(made: Family, till: Device) -> None:
    payer, spender = made.people["payer"], made.people["spender"]
    asked = await spender.request("C", payer=payer.account)
    circle = {"name": f"Circle {secrets.token_hex(4)}", "time_zone": ZONE}
    yes = await payer.approve(asked["registration_id"], number=asked["match_number"], terms=TERMS, circle=circle)
    await payer.sign(yes["agreement"]["sign_url"])
    bound = await spender.bound(asked["registration_id"])
    made.at |= {"circle": bound["circle_id"], "mandate": bound["mandate_id"], "agreement": yes["agreement"]["agreement_id"]}
    pool = {"name": "All of it", "terms": TERMS, "spender_ids": [spender.id]}
    made.at["pool"] = (await payer.ask("POST", f"/v1/circles/{made['circle']}/pools", pool))["pool_id"]
    card = {"person_id": spender.id, "currency": "CNY", "terms": MORE | {"conditions": []}}
    issued = await payer.ask("POST", f"/v1/circles/{made['circle']}/cards", card)
    made.at |= {"card": issued["card_id"], "card_code": issued["code"]}
    made.secrets |= {made[thing] for thing in ("circle", "mandate", "agreement", "pool", "card")} | {circle["name"]}


async def _buy(made: Family, till: Device) -> None:
    """Something paid, something held, and codes that nobody used yet."""
    spender = made.people["spender"]
    paid = await till.charge(await spender.pay_code(made["circle"]), 1_234)
    assert paid["state"] == "succeeded", paid.body
    held = await till.charge(await spender.pay_code(made["circle"]), 777, capture=False)
    spare = await till.charge(await spender.pay_code(made["circle"]), 778, capture=False)
    assert held["state"] == spare["state"] == "held"
    made.at |= {
        "charge": paid["id"],
        "held": held["id"],
        "spare": spare["id"],
        "pay_code": await spender.pay_code(made["circle"]),
    }
    sale = await till.terminal.payment_code(555, "CNY", reference="S-1")
    bought = await spender.pay(sale["payment_code"], made["circle"])
    assert bought["state"] == "succeeded", bought.body
    made.at |= {"payment_code": sale["payment_code"], "sale": sale["payment_code_id"]}
    made.at |= {"function_code": (await till.terminal.function_code())["code"]}
    made.secrets |= {made["charge"], made["held"], bought["id"]}


async def _invite(made: Family) -> None:
    """Approver and viewer join; the viewer may become an approver, too, and has not answered."""
    payer = made.people["payer"]
    for role, invited in (("approver", "approver"), ("viewer", "viewer"), ("approver", "viewer")):
        content = {"account": made.people[invited].account, "role": role}
        proof = await payer.prove("circle.invite", made["circle"], content)
        await payer.ask("POST", f"/v1/circles/{made['circle']}/members", content | {"proof": proof})
        if role == invited:
            await made.people[invited].ask("POST", f"/v1/circles/{made['circle']}/join", {"role": role})


async def _wait_for_things(world: World, made: Family, till: Device) -> None:
    """What waits for an answer: requests, a scan, a capture, a blocked pest, a notice."""
    payer, spender, pest = (made.people[role] for role in ("payer", "spender", "pest"))
    made.at["registration"] = (await spender.request("A", payer=payer.account, device=till))["registration_id"]
    made.at["second"] = (await spender.request("A", payer=payer.account, device=till))["registration_id"]
    asked = await pest.request("C", payer=payer.account)
    await payer.ask("POST", f"/v1/registrations/{asked['registration_id']}/refuse", {"block": True})
    made.at["information"] = await spender.scan(till, "proxy")
    scanned = await spender.ask("POST", "/v1/scans", {"code": (await till.terminal.function_code())["code"]})
    made.at["scan"] = scanned["scan_id"]
    assisted = await till.register("B", name="Granny", born="1948-02-01", payer=payer.account)
    command = await till.told_to_capture()
    made.at |= {"assisted": assisted["registration_id"], "command": command["id"], "capture": command["body"]["capture_id"]}
    shown = await till.terminal.function_code()
    own = await till.terminal.scan(shown["code"])
    chosen = await till.terminal.choose(own["scan_id"], "proxy")
    made.at["own_scan"] = own["scan_id"]
    made.at["own_information"] = chosen["registration_information"]
    made.at["notice"] = (await payer.told("registration_bound"))[-1]["id"]
    bought_at = datetime.fromisoformat((await payer.charge(made["charge"]))["decided_at"])
    made.at["month"] = local_date(bought_at, ZONE).isoformat()[:7]
    made.secrets |= {made[thing] for thing in ("registration", "second", "notice", "scan")}


async def _sit(db: Database, house: House, made: Family, till: Device) -> None:
    """Two sittings, and a face that another account has, as far as a machine can tell: nobody has looked yet."""
    consent = {"version": "1", "language": "en"}
    path = f"/v1/terminal/captures/{made['capture']}/sittings"
    made.at["enrol_sitting"] = (await till.terminal.request("POST", path, consent, own_key=True))["sitting_id"]
    asked = {"amount_minor": 300, "currency": "CNY"}
    made.at["sitting"] = (await till.terminal.request("POST", "/v1/terminal/sittings", asked))["sitting_id"]
    await till.register("B", name="Twin", born="1950-02-01", payer=made["payer_account"])
    capture_id = (await till.told_to_capture()).content["capture_id"]
    somebody = read_sample([np.ones(64, np.float32)] * 3, model_id="town", modality=Modality.FACE)
    async with db.transaction() as conn:
        registration, capture = await lock_capture(conn, till.id, capture_id=capture_id)
        now = await database_now(conn)
        template_id = await enrol.enrol_sample(
            conn, house.keyring, house.rotations, person_id=registration.spender_id, sample=somebody, captured_by=till.id,
            provisional_until=registration.expires_at, lane=registration.lane, now=now,
        )  # fmt: skip
        lane = registration.lane
        await move_capture(conn, capture, CaptureEvent.CAPTURE, lane=lane, reason=None, actor_id=till.id, now=now)
        finding = await note_finding(conn, registration, capture, template_id=template_id, alike=(made["spender"],), now=now)
    made.at["finding"] = finding
    made.secrets |= {finding, made["sitting"], made["enrol_sitting"]}


async def build(house: House, worlds: list[World]) -> Town:
    """The whole town; `worlds`: the two operators."""
    first, second = worlds
    owners = [await Player.sign_in(world, "owner") for world in worlds]
    sites = [await merchant(owner, name=f"Canteen {number}", mcc="5814", site="Hall") for number, owner in enumerate(owners)]
    tills = {}
    for name, owner, site in (("A", owners[0], sites[0]), ("B", owners[0], sites[0]), ("C", owners[1], sites[1])):
        tills[name] = await Device.install(owner, merchant_id=site[0], site_id=site[1], name=f"Till {name}", hold_s=86_400)
    families = {
        "A": await family(first, "A", owners[0], tills["A"], site=sites[0]),
        "B": await family(first, "B", owners[0], tills["B"], site=sites[0]),
        "C": await family(second, "C", owners[1], tills["C"], site=sites[1]),
    }
    for name, made in families.items():
        made.device = tills[name]
        await _sit(house.db, house, made, tills[name])
    town = Town(house, first.http, families, {}, {}, owners)
    await _gather(town, first, tills)
    town.relations = _relations(list(town.principals))
    return town


async def _gather(town: Town, world: World, tills: Mapping[str, Device]) -> None:
    """Everybody who asks, by name."""
    for name, owner in (("A", town.owners[0]), ("B", town.owners[0]), ("C", town.owners[1])):
        await _break(town, town.families[name], owner)
        await _want_two(town, town.families[name], owner)
    found: dict[str, Principal] = {"anonymous": Anonymous(town.http)}
    for name, roles in (
        ("A", ("payer", "spender", "approver", "viewer")),
        ("B", ("payer", "spender")),
        ("C", ("payer", "spender")),
    ):
        found |= {f"{name}.{role}": AsPerson(town.http, town.families[name].people[role].token) for role in roles}
    for name, device in tills.items():
        found[f"{name}.till"] = await AsTerminal.of(town.http, json.loads(device.terminal.to_json()))
    found |= {"A.owner": AsPerson(town.http, town.owners[0].token), "C.owner": AsPerson(town.http, town.owners[1].token)}
    for role in (StaffRole.INSTALLER, StaffRole.SUPPORT):
        somebody = await Player.join(world, f"{role}.{secrets.token_hex(3)}", name=str(role).title(), born="1980-05-01")
        async with town.db.transaction() as conn:
            await add_staff(conn, world.operator_id, person_id=somebody.id, role=role)
        found[f"A.{role}"] = AsPerson(town.http, somebody.token)
    gone = await Player.join(world, f"gone.{secrets.token_hex(3)}", name="Gone", born="1980-05-01")
    found["A.gone"] = AsPerson(town.http, gone.token)
    await gone.ask("POST", "/v1/sign-out")
    site = (town.families["A"]["merchant"], town.families["A"]["site"])
    scrap = await Device.install(town.owners[0], merchant_id=site[0], site_id=site[1], name="Scrap")
    found["A.scrap"] = await AsTerminal.of(town.http, json.loads(scrap.terminal.to_json()))
    await town.owners[0].ask("POST", f"/v1/terminals/{scrap.id}/revoke")
    bakery, _ = await merchant(town.owners[0], name="Bakery", mcc="5462", site="Yard")
    for name, owner, of in (
        ("A.key", town.owners[0], town.families["A"]["merchant"]),
        ("A.office", town.owners[0], None),
        ("A.bakery", town.owners[0], bakery),
        ("C.key", town.owners[1], town.families["C"]["merchant"]),
    ):
        made = await owner.ask("POST", "/v1/api-keys", {"name": name, "scopes": sorted(Scope), "merchant_id": of})
        found[name] = AsPerson(town.http, made["token"])
        # That a key is used is noted once an hour; from here on nothing of it changes.
        assert (await found[name].ask("GET", "/v1/terminals")).status_code == 200
    town.principals = found


async def _break(town: Town, made: Family, owner: Player) -> None:
    """Something that the family's provider tells and we do not know of."""
    made.at |= {"a_break": new_id(), "owner": owner.id, "a_day": "2026-03-01"}
    async with town.db.transaction() as conn:
        await conn.execute(
            "INSERT INTO recon_break (id, provider_account_id, day, what, kind, key, found_at)"
            " VALUES ($1, $2, '2026-03-01', 'orphan', 'debit', $3, now())",
            made["a_break"],
            made["provider_account"],
            made["a_break"],
        )
        await conn.execute(
            "INSERT INTO settlement_day (merchant_id, day, currency, starts, ends, captures, captured_minor, refunds,"
            " refunded_minor, closed_at) VALUES ($1, $2, 'CNY', $3, $4, 0, 0, 0, 0, now()) ON CONFLICT DO NOTHING",
            made["merchant"],
            date.fromisoformat(made["a_day"]),
            datetime(2026, 2, 28, 16, tzinfo=UTC),
            datetime(2026, 3, 1, 16, tzinfo=UTC),
        )


async def _want_two(town: Town, made: Family, owner: Player) -> None:
    """Something privileged that the payer of the family once asked for, and something that the owner did."""
    act, own_act = sorted((new_id(), new_id()))
    made.at |= {"act": act, "own_act": own_act, "a_role": "support"}
    async with town.db.transaction() as conn:
        now = await database_now(conn)
        for thing, asked_by in (("act", made["payer"]), ("own_act", owner.id)):
            act = Act(ActKind.STAFF_ADD, {"person_id": made[thing]})
            await conn.execute(
                "INSERT INTO privileged_act (id, operator_id, kind, about, fingerprint, state, asked_by, asked_at, expires_at)"
                " VALUES ($1, $2, 'staff.add', $5, $6, 'asked', $3, $4, $4::timestamptz + '1 day')",
                made[thing],
                made["operator"],
                asked_by,
                now,
                dict(act.about),
                act.fingerprint,
            )
            told = {"kind": "staff.add", "fingerprint": act.fingerprint.hex()}
            event = audit.Event("privileged.asked", made[thing], told, asked_by)
            await audit.record(conn, made["operator"], event, now=now)


def _relations(names: list[str]) -> dict[str, dict[str, str]]:
    """What every asker is to every family; families A and B are neighbours, C is another operator's."""
    return {name: {other: _relation(name, other) for other in ("A", "B", "C", "nowhere")} for name in names}


def _relation(asker: str, other: str) -> str:
    home, _, what = asker.partition(".")
    if not what:
        return "anonymous"
    if what in ("gone", "scrap"):
        return "expelled"
    same_operator = home == other or {home, other} == {"A", "B"}
    if what in ("key", "office", "bakery"):
        return ("other_key" if what == "bakery" else what) if same_operator else "alien_key"
    staff = what in ("owner", "installer", "support")
    if home == other or (staff and same_operator):
        return what
    if staff:
        return "alien_owner" if what == "owner" else "alien_staff"
    if what == "till":
        return "other_till" if same_operator else "alien_till"
    return "stranger" if same_operator else "foreigner"


async def stop_quietly(work: asyncio.Task[None]) -> None:
    """Waits for background work that was told to stop."""
    with suppress(asyncio.CancelledError):
        await asyncio.wait_for(work, 20)


def same_world(world: World, http: httpx.AsyncClient) -> World:
    """The world by way of an application in this process."""
    return replace(world, http=http)
