"""Who plays: people with phones, merchants' devices, and the same people at the bank's own pages."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from kinpay.cli.demo.world import StoryBroken, World
from kinpay_client import Answer, Charge, Command, Person, Terminal, new_key
from kinpay_client.results import Profile, SignedIn
from kinpay_sandbox.person import BankCustomer

CURRENCY: Final = "CNY"
_PATIENCE_S: Final = 30.0
_TOLD_WITHIN_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.1
_KEPT_UNDER_NO_KEY: Final = ("/api-keys", "/webhook-endpoints", "/rotate")
"""Whose answers hold a secret."""

T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T | None]], what: str, *, within_s: float = _PATIENCE_S) -> T:
    """What `look` finds, as soon as it finds something. Raises: StoryBroken if it does not in time."""
    loop = asyncio.get_running_loop()
    last = loop.time() + within_s
    while True:
        found = await look()
        if found is not None:
            return found
        if loop.time() > last:
            raise StoryBroken(f"{what}: it did not happen within {within_s:.0f} s")
        await asyncio.sleep(_LOOK_EVERY_S)


def face() -> dict[str, str]:
    """What a terminal captures here: an opaque blob, as no model comes with this version of kinpay."""
    template = base64.b64encode(secrets.token_bytes(512)).decode()
    return {"model": "opaque", "model_version": "1", "template": template}


class Player:
    """A person with a phone, signed in; perhaps a customer of the bank under the same name."""

    def __init__(self, world: World, person: Person, profile: Profile) -> None:
        self.world = world
        self.id = profile.id
        self.account = profile.account
        self.name = profile.display_name
        self.locale = profile.locale
        self._person = person
        self._seen: set[str] = set()

    # -------------------------------------------------------------------------------------------------- signing in

    @classmethod
    async def join(cls, world: World, account: str, *, name: str, born: str | None = None, locale: str = "zh") -> Player:
        """Somebody opens an account and signs in with the first code."""
        person = Person(world.url, http=world.http)
        mark = world.codes.mark()
        phone = f"+86138{secrets.randbelow(10**8):08d}"
        started = await person.open_account(world.operator_id, account, name=name, phone=phone, birth_date=born, locale=locale)
        signed_in = await person.finish_sign_in(started.sign_in_id, await world.codes.read(account, since=mark))
        return cls(world, person, signed_in.person)

    @classmethod
    async def sign_in(cls, world: World, account: str) -> Player:
        """Somebody who has an account signs in by a code."""
        person = Person(world.url, http=world.http)
        signed_in = await cls._signed_in(world, person, account)
        return cls(world, person, signed_in.person)

    @staticmethod
    async def _signed_in(world: World, person: Person, account: str) -> SignedIn:
        mark = world.codes.mark()
        started = await person.begin_sign_in(world.operator_id, account)
        return await person.finish_sign_in(started.sign_in_id, await world.codes.read(account, since=mark))

    async def sign_in_again(self) -> None:
        """Signs in anew, because the session is over."""
        await self._signed_in(self.world, self._person, self.account)

    @property
    def token(self) -> str:
        """The session's token."""
        assert self._person.token is not None
        return self._person.token

    # ------------------------------------------------------------------------------------------------------ asking

    async def ask(self, method: str, path: str, content: dict[str, Any] | None = None, *, key: str | None = None) -> Answer:
        """A request of theirs, under a fresh request key unless one is given. Raises: Problem."""
        key = key or (None if method == "GET" or path.endswith(_KEPT_UNDER_NO_KEY) else new_key())
        return await self._person.request(method, path, content, idempotency_key=key)

    async def get(self, path: str) -> dict[str, Any]:
        """What they see there."""
        return (await self.ask("GET", path)).body

    async def prove(self, operation: str, subject_id: str, content: dict[str, Any]) -> dict[str, str]:
        """A fresh proof that they want exactly this, by the code that is sent to them."""
        mark = self.world.codes.mark()
        asked = {"operation": operation, "subject_id": subject_id, "content": content}
        started = await self.ask("POST", "/v1/proofs", asked)
        return {"proof_id": started["proof_id"], "code": await self.world.codes.read(self.account, since=mark)}

    # ------------------------------------------------------------------------------------------------- registering

    async def scan(self, device: Device, business_type: str) -> str:
        """Scans the device's one code and chooses: the decoded information, signed by the server (step 21)."""
        shown = await device.terminal.function_code()
        scanned = await self._person.scan(shown.code)
        return (await self._person.choose(scanned.scan_id, business_type)).registration_information

    async def request(self, order: str, *, payer: str | None, device: Device | None = None) -> dict[str, Any]:
        """Asks `payer` to pay for them (None: they pay themself); by scan at `device`, or from the app (step 22)."""
        content: dict[str, Any] = {"binding_order": order, "payer_account": payer}
        if device is not None:
            content["registration_information"] = await self.scan(device, "proxy" if payer else "self")
        return (await self.ask("POST", "/v1/registrations", content)).body

    async def pushed(self, *, spender: str | None = None) -> dict[str, Any]:
        """The newest open request that asks them to pay (step 23); by its spender's name, if given."""

        async def look() -> dict[str, Any] | None:
            found = (await self.get("/v1/registrations?role=payer&limit=20"))["registrations"]
            wanted = (one for one in found if one["state"] == "open" and spender in (None, one["spender"]["display_name"]))
            return next(wanted, None)

        return await until(look, f"a request is pushed to {self.name}")

    async def approve(
        self, registration_id: str, *, number: int, terms: dict[str, Any], circle: str | dict[str, str], key: str | None = None
    ) -> dict[str, Any]:
        """Says yes with limits and a fresh proof, in a circle of theirs or a new one (step 24)."""
        content = {"terms": terms, "provider_account_id": self.world.provider_account_id, "circle": circle}
        proof = await self.prove("registration.approve", registration_id, content)
        body: dict[str, Any] = {
            "terms": terms,
            "provider_account_id": self.world.provider_account_id,
            "payer_account_at_provider": self.account,
            "match_number": number,
            "proof": proof,
            ("circle_id" if isinstance(circle, str) else "new_circle"): circle,
        }
        return (await self.ask("POST", f"/v1/registrations/{registration_id}/approve", body, key=key)).body

    async def registration(self, registration_id: str) -> dict[str, Any]:
        """Their part of a registration."""
        return await self.get(f"/v1/registrations/{registration_id}")

    async def bound(self, registration_id: str) -> dict[str, Any]:
        """The registration, once it is bound (step 27)."""
        return await self.reaches(registration_id, "bound")

    async def reaches(self, registration_id: str, state: str) -> dict[str, Any]:
        """The registration, once it is in that state."""

        async def look() -> dict[str, Any] | None:
            found = await self.registration(registration_id)
            return found if found["state"] == state else None

        return await until(look, f"registration is {state}")

    # ------------------------------------------------------------------------------------------------- at the bank

    async def open_bank_account(self, balance_minor: int) -> None:
        """Becomes a customer of the bank, with money."""
        await self.world.control.open_customer(
            self.account, password=self._password, name=self.name, balance_minor=balance_minor
        )

    @property
    def _password(self) -> str:
        return f"demo {self.account}"

    @asynccontextmanager
    async def at_bank(self) -> AsyncIterator[BankCustomer]:
        """Them in a browser at the bank's own pages."""
        async with BankCustomer(self.world.bank_url, self.account, self._password) as customer:
            yield customer

    async def sign(self, url: str) -> str:
        """Signs at the bank and follows it back to kinpay's return page; returns the page's address (step 25)."""
        async with self.at_bank() as customer:
            back = await customer.agree(url)
        await self.world.http.get(back)
        return back

    async def balance_minor(self) -> int:
        """What the bank says they have."""
        return int((await self.world.control.change_customer(self.account))["balance_minor"])

    # ------------------------------------------------------------------------------------------------------ paying

    async def pay_code(self, circle_id: str) -> str:
        """A one-time code for their phone to show."""
        return (await self._person.pay_code(circle_id)).pay_code

    async def pay(self, payment_code: str, circle_id: str, *, key: str | None = None) -> Charge:
        """Scans a till's code for one sale and pays."""
        return await self._person.pay(payment_code, circle_id, key=key)

    async def charge(self, charge_id: str) -> dict[str, Any]:
        """A charge as they see it."""
        return await self.get(f"/v1/charges/{charge_id}")

    async def mandate(self, mandate_id: str) -> dict[str, Any]:
        """A mandate with what remains of its limits."""
        return await self.get(f"/v1/mandates/{mandate_id}")

    # ------------------------------------------------------------------------------------------------- being told

    async def news(self) -> list[dict[str, Any]]:
        """The notices that they have not looked at yet, oldest first; looking at them is noted here, not at the server."""
        found: list[dict[str, Any]] = []
        path = "/v1/notices?limit=100"
        while True:
            page = await self.get(path)
            fresh = [one for one in page["notices"] if one["id"] not in self._seen]
            found.extend(fresh)
            if page["next"] is None or len(fresh) < len(page["notices"]):
                break
            path = f"/v1/notices?limit=100&after={page['next']}"
        self._seen.update(one["id"] for one in found)
        return found[::-1]

    async def told(self, *kinds: str) -> list[dict[str, Any]]:
        """What they are told, once every one of `kinds` is among it (named twice: two of them)."""
        heard: list[dict[str, Any]] = []

        async def look() -> list[dict[str, Any]] | None:
            heard.extend(await self.news())
            missing = Counter(kinds) - Counter(one["kind"] for one in heard)
            return None if missing else heard

        try:
            return await until(look, "", within_s=_TOLD_WITHIN_S)
        except StoryBroken:
            came = ", ".join(one["kind"] for one in heard) or "nothing"
            raise StoryBroken(f"{self.name} should be told {', '.join(kinds)}, but heard: {came}") from None


class Device:
    """A merchant's installed terminal with its own key."""

    def __init__(self, terminal: Terminal, *, name: str, merchant_id: str) -> None:
        self.terminal = terminal
        self.id = terminal.terminal_id
        self.name = name
        self.merchant_id = merchant_id

    @classmethod
    async def install(
        cls, owner: Player, *, merchant_id: str, site_id: str, name: str, kind: str = "till", hold_s: int = 60
    ) -> Device:
        """The operator announces it; the device makes its key and presents the install code."""
        asked = {"site_id": site_id, "name": name, "kind": kind, "hold_s": hold_s}
        announced = await owner.ask("POST", "/v1/terminals", asked)
        terminal = await Terminal.install(owner.world.url, announced["install_code"], http=owner.world.http)
        return cls(terminal, name=name, merchant_id=merchant_id)

    def at(self, world: World) -> Device:
        """The same device by way of another server process."""
        kept = json.loads(self.terminal.to_json()) | {"base_url": world.url}
        terminal = Terminal.from_json(json.dumps(kept), http=world.http)
        return Device(terminal, name=self.name, merchant_id=self.merchant_id)

    # ------------------------------------------------------------------------------------------------- registering

    async def register(
        self, order: str, *, name: str, born: str, payer: str | None = None, payer_card: str | None = None, locale: str = "zh"
    ) -> dict[str, Any]:
        """Stands for somebody without a phone: scans its own code and asks the payer (steps 21 and 22).

        The payer is named by account, or by the code on a card of theirs that is held to it.
        """
        shown = await self.terminal.function_code()
        scanned = await self.terminal.scan(shown.code)
        chosen = await self.terminal.choose(scanned.scan_id, "proxy")
        content = {
            "registration_information": chosen.registration_information,
            "binding_order": order,
            "spender_name": name,
            "locale": locale,
            "birth_date": born,
            **({"payer_account": payer} if payer_card is None else {"payer_card": payer_card}),
        }
        return (await self._signed("/v1/terminal/registrations", content)).body

    async def card(self, registration_id: str, pin: str) -> str:
        """Prints the card of the person it stands for; returns the code on it."""
        path = f"/v1/terminal/registrations/{registration_id}/card"
        return str((await self._signed(path, {"pin": pin}))["code"])

    async def told_to_capture(self) -> Command:
        """The capture command with its guidance, once the server gives it (step 26)."""

        async def look() -> Command | None:
            commands = await self.terminal.commands(wait_s=5)
            return next((one for one in commands if one.kind == "capture"), None)

        return await until(look, f"{self.name} is told to capture")

    async def capture_face(self, command: Command) -> dict[str, Any]:
        """Captures the person before it, sends the template, and says that the command is done (step 26)."""
        taken = await self._signed(f"/v1/terminal/captures/{command.content['capture_id']}", face())
        await self.terminal.done(command.id, ok=True)
        shown: dict[str, Any] = taken["registration"]
        return shown

    async def _signed(self, path: str, content: dict[str, Any]) -> Answer:
        return await self.terminal.request("POST", path, content, idempotency_key=new_key(), own_key=True)

    # ---------------------------------------------------------------------------------------------------- charging

    async def charge(
        self,
        code: str,
        amount_minor: int,
        *,
        capture: bool = True,
        pin: str | None = None,
        items: list[dict[str, Any]] | None = None,
        key: str | None = None,
    ) -> Charge:
        """Charges whoever showed `code`."""
        presented = {"code": code}
        return await self.terminal.charge(presented, amount_minor, CURRENCY, capture=capture, pin=pin, items=items, key=key)

    async def state(self, charge_id: str) -> dict[str, Any]:
        """The charge as it is now."""
        return (await self.terminal.charge_state(charge_id)).body

    async def reaches(self, charge_id: str, *states: str, within_s: float = _PATIENCE_S) -> dict[str, Any]:
        """The charge, once it is in one of those states."""

        async def look() -> dict[str, Any] | None:
            found = await self.state(charge_id)
            return found if found["state"] in states else None

        return await until(look, f"charge is {' or '.join(states)}", within_s=within_s)


async def merchant(owner: Player, *, name: str, mcc: str, site: str) -> tuple[str, str]:
    """Enters a merchant with a site; returns both ids."""
    made = await owner.ask("POST", "/v1/merchants", {"name": name, "mcc": mcc})
    place = await owner.ask("POST", "/v1/sites", {"merchant_id": made["id"], "name": site})
    return made["id"], place["id"]
