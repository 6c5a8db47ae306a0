"""kinpay inside one process: callers ask the batcher, as the routes do."""

from __future__ import annotations

from collections.abc import Sequence

from bench.cell import Cell
from bench.circles import HOLD_S, World, shuffled
from bench.drive import drive
from bench.ground import Ground
from kinpay.charges.batch import CONNECTIONS, Batcher
from kinpay.charges.charge import ChargeState, Method
from kinpay.charges.order import Order
from kinpay.charges.request import AuthorizeRequest
from kinpay.charges.rules import RulesCache
from kinpay.charges.store import lock_circles
from kinpay.database.idempotency import RequestKey
from kinpay.database.pool import Database
from kinpay.primitives.ids import new_id
from tests.charges.seeds import Family

PARTY = "kinpay in process"
_AT_ONCE = 500
_FINGERPRINT = bytes(32)


class InProcess:
    """A batcher on one database, with the rules of all circles known, as after a day's work."""

    def __init__(self, ground: Ground, db: Database, batcher: Batcher, world: World) -> None:
        self._ground = ground
        self._db = db
        self._batcher = batcher
        self._world = world
        self._asked = 0

    @classmethod
    async def open(cls, ground: Ground, database: str, world: World) -> InProcess:
        """Connects and reads all rules once."""
        db = await Database.open(ground.url(database), max_connections=CONNECTIONS, by_index=True)
        rules = RulesCache()
        circles = [family.circle_id for family in (*world.families, *world.pooled)]
        for start in range(0, len(circles), _AT_ONCE):
            async with db.transaction() as conn:
                locked = await lock_circles(conn, circles[start : start + _AT_ONCE], wait=True)
                if locked is not None:
                    await rules.standings(conn, list(locked.circles.values()))
        return cls(ground, db, Batcher(db, rules), world)

    async def close(self) -> None:
        """Lets go of the database."""
        await self._batcher.close()
        await self._db.close()

    async def measure(self, shape: str, callers: int, *, warm_s: float, seconds: float) -> Cell:
        """One cell. `shape`: spread (all circles), contended (one circle), pooled (all circles that have a pool)."""
        among = {"contended": self._world.families[:1], "pooled": self._world.pooled}.get(shape, self._world.families)
        order = shuffled(among, self._asked + 1)

        async def ask(_: int) -> None:
            await self._authorize(order)

        return await drive(
            ask,
            party=PARTY,
            shape=shape,
            callers=callers,
            warm_s=warm_s,
            seconds=seconds,
            postmaster=self._ground.postmaster,
        )

    async def _authorize(self, order: Sequence[Family]) -> None:
        self._asked += 1
        request = self._request(order[self._asked % len(order)])
        authorized = await self._batcher.authorize(request)
        if authorized.charge.state is not ChargeState.HELD:
            raise RuntimeError(f"not held: {authorized.charge.refusal}")

    def _request(self, family: Family) -> AuthorizeRequest:
        shop, key = self._world.shop, new_id()
        return AuthorizeRequest(
            charge_id=new_id(),
            key=RequestKey(principal_id=shop.terminal_id, operation="charge", key=key, fingerprint=_FINGERPRINT),
            circle_id=family.circle_id,
            operator_id=shop.operator_id,
            terminal_id=shop.terminal_id,
            hold_s=HOLD_S,
            order=Order(
                100,
                "CNY",
                shop.merchant_id,
                shop.mcc,
                family.spender_id,
                family.credential_id,
                "pay_code",
                shop.terminal_id,
            ),
            method=Method.PAY_CODE,
            capture=False,
        )
