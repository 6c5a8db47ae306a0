"""A family that can grow: more spenders, agreements, cards and pools, each made by the function that the product uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from kinpay.charges.batch import Batcher
from kinpay.charges.books import lock_charge
from kinpay.charges.charge import Method
from kinpay.charges.order import Order
from kinpay.charges.request import AuthorizeRequest, Charge
from kinpay.charges.store import read_charges
from kinpay.charges.void import ask_void, stop_debit
from kinpay.database.idempotency import RequestKey
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection
from kinpay.mandates.change_terms import change_terms
from kinpay.mandates.credential import ensure_phone, issue_card
from kinpay.mandates.grant import activate, propose
from kinpay.mandates.pool import end_pool, make_pool
from kinpay.mandates.sign_agreement import begin, learn_agreement
from kinpay.mandates.terms import Terms
from kinpay.people.store import add_member
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys
from kinpay.providers.contract import Adapters, AgreementState, ProviderAgreement
from kinpay.terminals.codes import Codes
from tests.charges.seeds import Shop, found_families, open_shop

KEYS = ServerKeys.of([bytes(range(32))])
NO_TERMS: dict[str, Any] = {"currency": "CNY", "limits": [], "conditions": []}


def limit(at_most: int, window: str = "day", metric: str = "amount", **chosen: Any) -> dict[str, Any]:
    """A limit in canonical form; `chosen` is its filter."""
    return {"metric": metric, "window": window, "at_most": at_most, "filter": chosen}


def terms(*limits: dict[str, Any], conditions: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """Canonical terms in CNY."""
    return {"currency": "CNY", "limits": list(limits), "conditions": list(conditions)}


def told(agreement_id: str, state: AgreementState = AgreementState.ACTIVE) -> ProviderAgreement:
    """A provider's word about an agreement."""
    return ProviderAgreement(
        key=agreement_id,
        provider_ref=agreement_id,
        state=state,
        action_url=None,
        expires_at=None,
        payer_account_id="account-1",
        ended_by="payer" if state is AgreementState.ENDED else None,
    )


async def proof_of(conn: Connection, person_id: str) -> str:
    """A verified proof, not used up yet."""
    proof_id = new_id()
    await conn.execute(
        "INSERT INTO one_time_code (id, person_id, purpose, content_hash, code_hash, created_at, expires_at)"
        " VALUES ($1, $2, 'proof', '\\x00', '\\x00', kinpay_now(), kinpay_now() + interval '900 days')",
        proof_id, person_id,
    )  # fmt: skip
    return proof_id


async def session_of(conn: Connection, terminal_id: str) -> str:
    """A terminal's session, good for a day."""
    session_id = new_id()
    await conn.execute(
        "INSERT INTO terminal_session (id, terminal_id, hmac_key, created_at, expires_at)"
        " VALUES ($1, $2, '\\x00', kinpay_now(), kinpay_now() + interval '1 day')",
        session_id, terminal_id,
    )  # fmt: skip
    return session_id


@dataclass(frozen=True, slots=True)
class Spender:
    """Somebody who spends, with the credential that their phone is and their mandate."""

    id: str
    phone: str
    mandate_id: str


@dataclass
class Household:
    """A circle with one payer; the first spender is there from the start."""

    db: Database
    shop: Shop
    circle_id: str
    payer_id: str
    time_zone: str
    spenders: list[Spender] = field(default_factory=list)
    agreements: list[str] = field(default_factory=list)
    cards: dict[str, str] = field(default_factory=dict)
    pools: list[str] = field(default_factory=list)

    async def add_agreement(self, *, per_debit_minor: int | None = None, provider_account_id: str | None = None) -> str:
        """Another agreement of the payer, active, behind those there are; not yet in anybody's funding."""
        async with self.db.transaction() as conn:
            now = await database_now(conn)
            agreement_id = await begin(
                conn,
                circle_id=self.circle_id,
                payer_id=self.payer_id,
                spender_id=self.spenders[0].id,
                provider_account_id=provider_account_id or self.shop.provider_account_id,
                payer_account="payer",
                business_type="proxy",
                currency="CNY",
                now=now,
                per_debit_minor=per_debit_minor,
            )
            await learn_agreement(conn, agreement_id, seen=told(agreement_id), now=now)
        self.agreements.append(agreement_id)
        return agreement_id

    async def _newcomer(self, conn: Connection, role: str, *, born: str) -> str:
        """Somebody who joins the circle; returns their id."""
        person_id, now = new_id(), await database_now(conn)
        await conn.execute(
            "INSERT INTO person (id, operator_id, account, display_name, locale, birth_date, state, created_at)"
            " VALUES ($1, $2, $3, 'Person', 'zh', $4::text::date, 'active', $5)",
            person_id, self.shop.operator_id, f"{role}{person_id}", born, now,
        )  # fmt: skip
        await conn.execute("SELECT 1 FROM circle WHERE id = $1 FOR UPDATE", self.circle_id)
        await add_member(conn, self.circle_id, person_id, role, now)
        return person_id

    async def another_payer(self) -> Household:
        """The same circle as another payer of it sees it: they have agreements, mandates and pools of their own."""
        async with self.db.transaction() as conn:
            person_id = await self._newcomer(conn, "payer", born="1980-01-01")
        return replace(self, payer_id=person_id, agreements=[], pools=[], spenders=list(self.spenders), cards=dict(self.cards))

    async def end_agreement(self, agreement_id: str) -> None:
        """The provider says that it is ended."""
        async with self.db.transaction() as conn:
            await learn_agreement(
                conn, agreement_id, seen=told(agreement_id, AgreementState.ENDED), now=await database_now(conn)
            )

    async def add_spender(self, written: dict[str, Any]) -> Spender:
        """Another spender, with a phone and a mandate over `written`, funded by every agreement there is."""
        async with self.db.transaction() as conn:
            person_id = await self._newcomer(conn, "spender", born="2015-01-01")
            phone = await ensure_phone(conn, circle_id=self.circle_id, person_id=person_id, now=await database_now(conn))
        mandate_id = await self.grant(person_id, written)
        spender = Spender(person_id, phone, mandate_id)
        self.spenders.append(spender)
        return spender

    async def grant(self, spender_id: str, written: dict[str, Any], agreements: Sequence[str] = ()) -> str:
        """Puts terms in force for a spender, raised ones too, as if freshly consented to; funded in the order given."""
        async with self.db.transaction() as conn:
            now = await database_now(conn)
            mandate_id = await propose(
                conn,
                circle_id=self.circle_id,
                payer_id=self.payer_id,
                spender_id=spender_id,
                terms=Terms.model_validate(written),
                agreement_ids=agreements or self.agreements,
                proof_id=None,
                now=now,
            )
            await activate(conn, mandate_id, now=now)
        return mandate_id

    async def lower(self, mandate_id: str, written: dict[str, Any]) -> int:
        """Puts narrower terms in force; returns their version."""
        async with self.db.transaction() as conn:
            changed = await change_terms(
                conn,
                mandate_id=mandate_id,
                payer_id=self.payer_id,
                terms=Terms.model_validate(written),
                proof_id=None,
                if_version=None,
            )
        assert changed.lowered
        return changed.version

    async def add_card(self, spender_id: str, written: dict[str, Any]) -> str:
        """A card with a cap of its own; the spender's older one is revoked. Returns its credential's id."""
        async with self.db.transaction() as conn:
            card = await issue_card(
                conn, Codes(KEYS), keys=KEYS, circle_id=self.circle_id, person_id=spender_id,
                terms=Terms.model_validate(written), pin=None, now=await database_now(conn),
            )  # fmt: skip
        self.cards[spender_id] = card.credential_id
        return card.credential_id

    async def add_pool(self, written: dict[str, Any], spender_ids: Sequence[str] | None = None) -> str:
        """A pool over some spenders, or all."""
        async with self.db.transaction() as conn:
            pool_id = await make_pool(
                conn, circle_id=self.circle_id, payer_id=self.payer_id, name="Pool",
                terms=Terms.model_validate(written), spender_ids=spender_ids,
            )  # fmt: skip
        self.pools.append(pool_id)
        return pool_id

    async def end_pool(self, pool_id: str) -> None:
        """Ends a pool, with a proof of the payer."""
        async with self.db.transaction() as conn:
            proof_id = await proof_of(conn, self.payer_id)
            await end_pool(conn, pool_id=pool_id, payer_id=self.payer_id, proof_id=proof_id)
        self.pools.remove(pool_id)

    def asking(
        self, amount_minor: int, spender: Spender | None = None, *, card: bool = False, **changed: Any
    ) -> AuthorizeRequest:
        """A request of a spender at the shop, as the hot route would make it; parts of the order may be changed, too."""
        spender = spender or self.spenders[0]
        credential_id = self.cards[spender.id] if card else spender.phone
        method = Method.CARD if card else Method.PAY_CODE
        known: dict[str, Any] = {
            "amount_minor": amount_minor,
            "currency": "CNY",
            "merchant_id": self.shop.merchant_id,
            "mcc": self.shop.mcc,
            "spender_id": spender.id,
            "credential_id": credential_id,
            "method": method.value,
            "terminal_id": self.shop.terminal_id,
            "items": (),
        }
        order = Order(**{name: changed.pop(name, value) for name, value in known.items()})
        key = changed.pop("key", None) or new_id()
        fingerprint = changed.pop("fingerprint", None) or f"{amount_minor} {spender.id}".encode()
        request: dict[str, Any] = {
            "charge_id": new_id(),
            "key": RequestKey(principal_id=self.shop.terminal_id, operation="charge", key=key, fingerprint=fingerprint),
            "circle_id": self.circle_id,
            "operator_id": self.shop.operator_id,
            "terminal_id": self.shop.terminal_id,
            "hold_s": 60,
            "order": order,
            "method": method,
            "capture": False,
        }
        return AuthorizeRequest(**{**request, **changed})

    async def buy(self, batcher: Batcher, amount_minor: int, spender: Spender | None = None, **changed: Any) -> Charge:
        """Authorises one payment."""
        return (await batcher.authorize(self.asking(amount_minor, spender, **changed))).charge

    async def charge(self, charge_id: str) -> Charge:
        """A charge as it is now."""
        async with self.db.connection() as conn:
            return (await read_charges(conn, [charge_id]))[charge_id]

    async def usage(self, scope_id: str, period: str = "day") -> list[tuple[int, int]]:
        """(amount, count) of each window of a scope's counters of that period, in order."""
        async with self.db.connection() as conn:
            rows = await conn.fetch(
                "SELECT u.amount_minor, u.count FROM usage u JOIN counter c ON c.id = u.counter_id"
                " WHERE c.scope_id = $1 AND c.period = $2 ORDER BY u.window_start, c.filter::text",
                scope_id, period,
            )  # fmt: skip
        return [tuple(row) for row in rows]


async def found(
    db: Database, shop: Shop, written: dict[str, Any] = NO_TERMS, *, time_zone: str = "Asia/Shanghai", count: int = 1
) -> list[Household]:
    """Families of one spender each, with a mandate over `written`."""
    canonical = Terms.model_validate(written).canonical()
    async with db.transaction() as conn:
        now: datetime = await database_now(conn)
        families = await found_families(conn, shop, now, count=count, terms=canonical, time_zone=time_zone)
    return [
        Household(
            db, shop, f.circle_id, f.payer_id, time_zone,
            spenders=[Spender(f.spender_id, f.credential_id, f.mandate_id)], agreements=[f.agreement_id],
        )
        for f in families
    ]  # fmt: skip


async def shop_of(db: Database) -> Shop:
    """A shop."""
    async with db.transaction() as conn:
        return await open_shop(conn, await database_now(conn))


def net_of(charge: Charge) -> int:
    """What is left of it, in minor units."""
    return charge.debited_minor - charge.refunded_minor


async def void_charge(db: Database, adapters: Adapters, charge_id: str, *, actor_id: str) -> Charge:
    """Gives a charge up as the void route does: asked, then stopped at the provider; returns what it came to."""
    async with db.transaction() as conn:
        debit_id = await ask_void(conn, charge_id, actor_id=actor_id)
    if debit_id is not None:
        await stop_debit(db, adapters, debit_id)
    async with db.transaction() as conn:
        _, charge = await lock_charge(conn, charge_id)
    return charge
