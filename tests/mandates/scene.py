"""A family at an operator, made through the functions that registrations use; charges are written straight into the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import httpx

from kinpay.database.pool import Database, database_now
from kinpay.mandates.grant import activate, propose
from kinpay.mandates.mandate import Mandate
from kinpay.mandates.routes import router
from kinpay.mandates.sign_agreement import begin, learn_agreement
from kinpay.mandates.store import mandate_row
from kinpay.mandates.terms import Terms
from kinpay.people.store import add_member
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys
from kinpay.providers.contract import AgreementState, Provider, ProviderAgreement
from kinpay.terminals.codes import Codes
from tests.people.house import House, Somebody, build_app, open_house

SHOP = "5" * 32
MORNING = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
"""Monday, 10:00 in Shanghai."""
_numbers = count(1)


def limit(at_most: int, window: str = "day", metric: str = "amount", **more: Any) -> dict[str, Any]:
    """A limit as it is written in a request."""
    return {"metric": metric, "window": window, "at_most": at_most, **more}


def terms(*limits: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Terms in CNY as they are written in a request."""
    return {"currency": "CNY", "limits": list(limits), **more}


class NoProviders:
    """For tests in which nobody asks a provider: asking is the failure."""

    async def adapter(self, provider_account_id: str) -> Provider:
        raise AssertionError(f"nobody should ask provider account {provider_account_id}")


def told(key: str, state: AgreementState = AgreementState.ACTIVE, **more: Any) -> ProviderAgreement:
    """A word of the provider about an agreement."""
    account = "bank-account-1" if state in (AgreementState.ACTIVE, AgreementState.ENDED) else None
    facts: dict[str, Any] = {
        "key": key,
        "provider_ref": f"ref-{key}",
        "state": state,
        "action_url": None,
        "expires_at": None,
        "payer_account_id": account,
        "ended_by": None,
    }
    return ProviderAgreement(**{**facts, **more})


@dataclass
class Family:
    """A payer, a spender and their circle."""

    house: House
    codes: Codes
    payer: Somebody
    spender: Somebody
    circle_id: str
    provider_account_id: str
    payer_account: str = "wang"

    async def agreement(
        self, *, active: bool = True, spender_id: str | None = None, provider_account: str | None = None
    ) -> str:
        """The payer's agreement, signed at the provider unless told otherwise."""
        async with self.house.db.transaction() as conn:
            now = await database_now(conn)
            agreement_id = await begin(
                conn,
                circle_id=self.circle_id,
                payer_id=self.payer.id,
                spender_id=spender_id or self.spender.id,
                provider_account_id=provider_account or self.provider_account_id,
                payer_account=self.payer_account,
                business_type="proxy",
                currency="CNY",
                now=now,
            )
            if active:
                await learn_agreement(conn, agreement_id, seen=told(agreement_id), now=now)
        return agreement_id

    async def mandate(
        self, written: dict[str, Any], *, agreements: Sequence[str] = (), spender: Somebody | None = None, active: bool = True
    ) -> str:
        """A mandate over these terms, active unless told otherwise."""
        spender = spender or self.spender
        agreements = agreements or [await self.agreement(spender_id=spender.id)]
        async with self.house.db.transaction() as conn:
            now = await database_now(conn)
            mandate_id = await propose(
                conn,
                circle_id=self.circle_id,
                payer_id=self.payer.id,
                spender_id=spender.id,
                terms=Terms.model_validate(written),
                agreement_ids=agreements,
                proof_id=None,
                now=now,
            )
            if active:
                await activate(conn, mandate_id, now=now)
        return mandate_id

    async def look(self, mandate_id: str) -> Mandate:
        """The mandate as it is now."""
        async with self.house.db.connection() as conn:
            found = await mandate_row(conn, mandate_id)
        assert found is not None
        return found

    async def spent(
        self, mandate_id: str | None, amount_minor: int, *, at: datetime | None = None, state: str = "succeeded", **more: Any
    ) -> str:
        """Writes a charge into the table as history that a counter has to start from; returns its id."""
        async with self.house.db.transaction() as conn:
            row = {
                "id": new_id(),
                "circle_id": self.circle_id,
                "seq": next(_numbers),
                "operator_id": self.house.operator_id,
                "merchant_id": SHOP,
                "terminal_id": new_id(),
                "spender_id": self.spender.id,
                "mandate_id": mandate_id or new_id(),
                "agreement_id": new_id(),
                "payer_id": self.payer.id,
                "method": "card",
                "mcc": "5814",
                "currency": "CNY",
                "amount_minor": amount_minor,
                "state": state,
                "capture_at_once": True,
                "decided_at": at or await database_now(conn),
                **more,
            }
            names = ", ".join(row)
            marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
            await conn.execute(f"INSERT INTO charge ({names}) VALUES ({marks})", *row.values())
        return str(row["id"])

    async def usage(self, scope_id: str, period: str) -> list[tuple[datetime, datetime, int, int, int, int]]:
        """The windows of a mandate's, pool's or card's only counter of that period, in order."""
        async with self.house.db.connection() as conn:
            rows = await conn.fetch(
                "SELECT window_start, window_end, amount_minor, count, carried_minor, carried_count FROM usage"
                " JOIN counter ON counter.id = counter_id WHERE scope_id = $1 AND period = $2 ORDER BY window_start",
                scope_id,
                period,
            )
        return [tuple(row) for row in rows]

    async def another(self, account: str) -> Somebody:
        """Another spender of the circle."""
        person = await self.house.person(account)
        await self.join(person, "spender")
        return person

    async def join(self, person: Somebody, role: str) -> None:
        """Gives somebody a role in the circle."""
        async with self.house.db.transaction() as conn:
            await conn.execute("SELECT 1 FROM circle WHERE id = $1 FOR UPDATE", self.circle_id)
            await add_member(conn, self.circle_id, person.id, role, await database_now(conn))


async def open_family(db: Database, keys: ServerKeys, folder: Path) -> Family:
    """A family whose routes are those of people and of mandates."""
    house = await open_house(db, keys, folder / "codes.jsonl")
    await house.client.aclose()
    codes = Codes(keys)
    app = build_app(db, keys)
    app.include_router(router(db, keys=keys, codes=codes, providers=NoProviders(), public_url="http://kinpay.test"))
    house.client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://kinpay.test")
    payer = await house.person("mother")
    spender = await house.person("xiaoyu")
    circle_id = await payer.circle()
    provider_account_id = new_id()
    async with db.transaction() as conn:
        await conn.execute(
            "INSERT INTO provider_account (id, operator_id, provider, account, config, secret, is_default, created_at)"
            " VALUES ($1, $2, 'sandbox_bank', 'main', '{}', '', true, kinpay_now())",
            provider_account_id,
            house.operator_id,
        )
    family = Family(house, codes, payer, spender, circle_id, provider_account_id)
    await family.join(spender, "spender")
    return family


def later(minutes: float) -> datetime:
    """A moment of that Monday."""
    return MORNING + timedelta(minutes=minutes)
