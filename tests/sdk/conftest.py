"""The stage of the stories, for the client on a real server with a real bank."""

from __future__ import annotations

import pytest
import pytest_asyncio

from kinpay.cli.demo.cast import Device, Player, merchant
from tests.sdk.shop import Shop
from tests.stories.asking import bound_by_app, limit, terms
from tests.stories.conftest import ZONE, House, house, story_bank

__all__ = ["house", "story_bank"]


@pytest_asyncio.fixture(scope="module")
async def shop(house: House) -> Shop:
    """Bound from the app, at a canteen."""
    owner = await Player.sign_in(house.world, "owner")
    canteen, site = await merchant(owner, name="Canteen", mcc="5814", site="School")
    till = await Device.install(owner, merchant_id=canteen, site_id=site, name="Till 1")
    payer = await house.join("lin.mei", name="Lin Mei", balance_minor=100_000)
    spender = await house.join("xiaoyu", name="Xiaoyu", born="2000-09-01")
    wanted = terms(limit("amount", "per_payment", 5_000))
    bound = await bound_by_app(spender, payer, limits=wanted, circle={"name": "Lin", "time_zone": ZONE})
    return Shop(house, till, payer, spender, bound["circle_id"], canteen, owner)


@pytest.fixture(params=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)
