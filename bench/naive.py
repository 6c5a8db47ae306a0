"""The same rules as most of us would write them first: an ORM, a locked mandate, and each limit summed over the history.

It leaves the same behind: key, charge, a link of the audit chain, outbox. It is no straw man: one session a request, indexes
as kinpay has them, prepared statements, a pool. What it lacks is counters, batches and a cache of the rules.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from bench.cell import Cell
from bench.circles import HOLD_S, World, shuffled
from bench.drive import drive
from bench.ground import Ground
from bench.naive_tables import (
    Agreement,
    AuditEvent,
    AuditLane,
    Charge,
    Circle,
    Credential,
    Mandate,
    MandateVersion,
    Outbox,
    RequestKey,
    SettlementRule,
)
from kinpay.charges.charge import COUNTING
from kinpay.database.audit import Event, Head, chain
from kinpay.primitives.ids import new_id
from kinpay.primitives.period import window_around
from tests.charges.seeds import Family

PARTY = "naive ORM"
_COUNTING = [state.value for state in COUNTING]


class Naive:
    """A session maker on one database."""

    def __init__(self, ground: Ground, engine: AsyncEngine, world: World) -> None:
        self._ground = ground
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        self._world = world
        self._asked = 0

    @classmethod
    def open(cls, ground: Ground, database: str, world: World) -> Naive:
        """Connects when first used."""
        url = ground.url(database)

        async def connect() -> Any:
            return await asyncpg.connect(url, server_settings={"jit": "off", "timezone": "UTC"})

        engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=connect, pool_size=24, max_overflow=0, pool_timeout=120
        )
        return cls(ground, engine, world)

    async def close(self) -> None:
        """Lets go of the database."""
        await self._engine.dispose()

    async def measure(self, callers: int, *, warm_s: float, seconds: float) -> Cell:
        """One cell, over all circles."""
        order = shuffled(self._world.families, self._asked + 1)

        async def ask(_: int) -> None:
            self._asked += 1
            async with self._sessions() as session, session.begin():
                state = await self.authorize(session, order[self._asked % len(order)])
            if state != "held":
                raise RuntimeError(f"not held: {state}")

        return await drive(
            ask,
            party=PARTY,
            shape="spread",
            callers=callers,
            warm_s=warm_s,
            seconds=seconds,
            postmaster=self._ground.postmaster,
        )

    async def authorize(self, session: AsyncSession, family: Family, amount_minor: int = 100) -> str:
        """Decides one charge and writes it; returns its state."""
        shop, key = self._world.shop, new_id()
        terminal_id = UUID(shop.terminal_id)
        if await session.get(RequestKey, (terminal_id, "charge", key)) is not None:
            return "known"
        query = select(Mandate).where(
            Mandate.circle_id == UUID(family.circle_id),
            Mandate.spender_id == UUID(family.spender_id),
            Mandate.state == "active",
        )
        mandate = (await session.scalars(query.with_for_update())).one()
        circle = await session.get_one(Circle, UUID(family.circle_id))
        credential = await session.get_one(Credential, UUID(family.credential_id))
        agreement = await self._agreement(session, mandate)
        now: datetime = (await session.scalars(select(func.kinpay_now()))).one()
        passes = circle.state == "active" and credential.state == "active" and agreement.state == "active"
        passes = passes and not await self._broken(session, mandate, circle, amount_minor, now)
        lane = await session.get_one(AuditLane, circle.id, with_for_update=True)
        lane.charge_seq += 1
        charge = Charge(
            id=UUID(new_id()), circle_id=circle.id, seq=lane.charge_seq, operator_id=UUID(shop.operator_id),
            merchant_id=UUID(shop.merchant_id), terminal_id=terminal_id, spender_id=mandate.spender_id, mandate_id=mandate.id,
            mandate_version=mandate.version, agreement_id=agreement.id, payer_id=mandate.payer_id, credential_id=credential.id,
            method="pay_code", mcc=shop.mcc, currency="CNY", amount_minor=amount_minor, state="held" if passes else "refused",
            capture_at_once=False, refusal=None if passes else {"reasons": []}, decided_at=now,
            hold_expires_at=now + timedelta(seconds=HOLD_S) if passes else None,
        )  # fmt: skip
        session.add(charge)
        session.add(
            RequestKey(
                principal_id=terminal_id, operation="charge", key=key, fingerprint=b"", charge_id=charge.id,
                circle_id=circle.id, created_at=now,
            )
        )  # fmt: skip
        self._note(session, lane, charge, terminal_id, now)
        return charge.state

    async def _agreement(self, session: AsyncSession, mandate: Mandate) -> Agreement:
        query = select(SettlementRule).where(SettlementRule.mandate_id == mandate.id).order_by(SettlementRule.version.desc())
        rule = (await session.scalars(query.limit(1))).one()
        return await session.get_one(Agreement, rule.agreement_ids[0])

    async def _broken(
        self, session: AsyncSession, mandate: Mandate, circle: Circle, amount_minor: int, now: datetime
    ) -> list[dict[str, Any]]:
        """The limits that the charge would break, each asked of the history."""
        version = await session.get_one(MandateVersion, (mandate.id, mandate.version))
        broken = []
        for limit in version.terms["limits"]:
            if limit["window"] == "per_payment":
                if not limit.get("at_least", 0) <= amount_minor <= limit.get("at_most", amount_minor):
                    broken.append(limit)
                continue
            span = window_around(now, limit["window"], circle.time_zone)
            counts = limit["metric"] == "count"
            query = select(func.count() if counts else func.coalesce(func.sum(Charge.amount_minor), 0)).where(
                Charge.circle_id == circle.id,
                Charge.mandate_id == mandate.id,
                Charge.state.in_(_COUNTING),
                Charge.decided_at >= span.start,
                Charge.decided_at < span.end,
            )
            used = int((await session.scalars(query)).one())
            if used + (1 if counts else amount_minor) > limit["at_most"]:
                broken.append(limit)
        return broken

    @staticmethod
    def _note(session: AsyncSession, lane: AuditLane, charge: Charge, terminal_id: UUID, now: datetime) -> None:
        body = {"amount_minor": charge.amount_minor, "currency": charge.currency, "state": charge.state}
        event = Event(f"charge.{charge.state}", charge.id.hex, body, terminal_id.hex)
        (link,), head = chain(lane.id.hex, Head(lane.seq, lane.hash), (event,), at=now)
        lane.seq, lane.hash = head.seq, head.hash
        session.add(
            AuditEvent(
                lane=lane.id, seq=link.seq, at=now, kind=link.kind, subject_id=charge.id, actor_id=terminal_id, body=link.body,
                hash=link.hash,
            )
        )  # fmt: skip
        topic = f"charge.{charge.state}"
        session.add(Outbox(lane=lane.id, topic=topic, subject_id=charge.id, created_at=now, available_at=now))
