"""How a command is entered, and the house it works in."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvloop
from pydantic import TypeAdapter, ValidationError

from kinpay.primitives.errors import Invalid
from kinpay.server.house import House, open_house
from kinpay.server.serve import located
from kinpay.server.settings import Settings

T = TypeVar("T")
Commands = Any
"""argparse's own type for a group of commands has no public name."""
Run = Callable[[argparse.Namespace, Any], int]


def command(commands: Commands, name: str, run: Run, *, summary: str, example: str = "") -> argparse.ArgumentParser:
    """Enters a command; its summary is also its help, followed by an example."""
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}" if example else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run=run)
    return made


def group(commands: Commands, name: str, *, summary: str) -> Commands:
    """A command that only has commands of its own."""
    made = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    return made.add_subparsers(title="commands", metavar="COMMAND", required=True)


def in_house(settings: Settings, work: Callable[[House], Awaitable[int]]) -> int:
    """Opens the house, lets `work` work in it, and closes it; the embedded database runs on if it ran before."""

    async def run() -> int:
        async with _opened(settings) as house:
            return await work(house)

    return to_its_end(run())


def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on a loop of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def checked(kind: Any, value: str, place: str) -> Any:
    """`value` as the routes would take it. Raises: Invalid, naming `place`."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise Invalid(error.errors()[0]["type"], field=place) from None


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[House]:
    async with located(settings) as url, open_house(settings, url, public_url=settings.public_url or "") as house:
        yield house
