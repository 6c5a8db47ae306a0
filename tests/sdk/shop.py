"""A canteen's till, a spender with a payer, and both kinds of client behind one face."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from typing import Any

from kinpay.cli.demo.cast import Device, Player
from tests.stories.conftest import House


@dataclass
class Shop:
    """A till, a spender with a payer, and the way to the server."""

    house: House
    till: Device
    payer: Player
    spender: Player
    circle_id: str
    merchant_id: str
    owner: Player


class Asking:
    """A client of either kind behind one face: whatever it is asked is awaited, the waiting one in a thread of its own."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*args: Any, **how: Any) -> Any:
            if inspect.iscoroutinefunction(method):
                return await method(*args, **how)
            return await asyncio.to_thread(method, *args, **how)

        return call


def surface(kind: type) -> dict[str, str]:
    """The public methods with what they take; how one awaits is the one difference there may be."""
    names = [name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))]
    shapes = {name: str(inspect.signature(getattr(kind, name))) for name in names}
    return {name: shape.replace("AsyncClient", "Client") for name, shape in shapes.items()}
