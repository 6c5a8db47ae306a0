"""`serve`, `worker`, `migrate`, `config`: running it."""

from __future__ import annotations

import argparse

from kinpay.cli.command import Commands, command, to_its_end
from kinpay.database.migrate import migrate
from kinpay.server.embedded import find_database
from kinpay.server.journal import open_journal
from kinpay.server.serve import serve, work
from kinpay.server.settings import Settings, shown


def add_to(commands: Commands) -> None:
    """Enters the commands of this file."""
    serving = command(
        commands,
        "serve",
        _serve,
        summary="answer requests, and do the background work unless KINPAY_WORKER=apart",
        example="KINPAY_DEMO=1 KINPAY_CODE_CHANNEL=file:/tmp/codes kinpay serve --port 0",
    )
    serving.add_argument("--host", help="instead of KINPAY_HOST")
    serving.add_argument("--port", help="instead of KINPAY_PORT; 0 takes a free one, and the first line printed names it")
    command(commands, "worker", _worker, summary="do the background work alone: the outbox and what is due by time")
    command(commands, "migrate", _migrate, summary="bring the database's schema up to date")
    command(commands, "config", _config, summary="print every setting, what it is now and what it means")


def _serve(asked: argparse.Namespace, settings: Settings) -> int:
    open_journal(settings.log_level)
    to_its_end(serve(overridden(settings, host=asked.host, port=asked.port), _say))
    return 0


def overridden(settings: Settings, *, host: str | None, port: str | None) -> Settings:
    """`settings` with what the command line says instead, checked like everything else. Raises: SettingsWrong."""
    return settings.with_texts({name: text for name, text in (("host", host), ("port", port)) if text is not None})


def _worker(_: argparse.Namespace, settings: Settings) -> int:
    open_journal(settings.log_level)
    to_its_end(work(settings, _say))
    return 0


def _migrate(_: argparse.Namespace, settings: Settings) -> int:
    done = to_its_end(_migrated(settings))
    _say("\n".join(f"applied {name}" for name in done) or "nothing to do")
    return 0


async def _migrated(settings: Settings) -> list[str]:
    place = find_database(settings)
    try:
        return await migrate(place.url)
    finally:
        await place.leave()


def _config(_: argparse.Namespace, settings: Settings) -> int:
    for name, value, meaning in shown(settings):
        _say(f"# {meaning}\n{name}={value}\n")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)
