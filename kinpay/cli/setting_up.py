"""`operator`, `merchant`, `site`, `provider`, `terminal`: what has to be entered before anybody can pay."""

from __future__ import annotations

import argparse
import base64
import binascii
import json
from pathlib import Path

from kinpay.cli.command import Commands, checked, command, group, in_house
from kinpay.database.pool import database_now
from kinpay.operators.operator import add_merchant, add_site, create_operator
from kinpay.operators.staff import set_dual_control
from kinpay.people.person import NewPerson
from kinpay.primitives import fields
from kinpay.primitives.actor import Actor, ActorKind
from kinpay.primitives.errors import Invalid
from kinpay.primitives.sealed import Sealed
from kinpay.providers.registry import FACTORIES
from kinpay.server.house import House
from kinpay.server.provider_accounts import add_provider_account
from kinpay.server.settings import Settings
from kinpay.terminals.install import expect_terminal
from kinpay.terminals.revoke import revoke_terminal
from kinpay.terminals.store import list_terminals
from kinpay.terminals.terminal import TerminalKind


def add_to(commands: Commands) -> None:
    """Enters the commands of this file."""
    _operators(group(commands, "operator", summary="whoever runs this kinpay for others"))
    _merchants(commands)
    _providers(group(commands, "provider", summary="an operator's accounts at payment providers"))
    _terminals(group(commands, "terminal", summary="an operator's devices"))


def _operators(commands: Commands) -> None:
    made = command(
        commands,
        "create",
        _create_operator,
        summary="make an operator and its first owner, who then signs in by a code",
        example='kinpay operator create "Canteens Ltd" --account boss --name "Wang Li" --phone +8613800000000',
    )
    made.add_argument("operator_name", metavar="NAME")
    made.add_argument("--time-zone", default="Asia/Shanghai", help="IANA name; the operator's days end there (%(default)s)")
    made.add_argument("--account", required=True, help="the owner's account name")
    made.add_argument("--name", required=True, help="the owner's name")
    made.add_argument("--locale", choices=("zh", "en"), default="zh", help="the owner's language (%(default)s)")
    contact = made.add_mutually_exclusive_group(required=True)
    contact.add_argument("--phone", help="where the owner's codes go")
    contact.add_argument("--email", help="where the owner's codes go")

    switched = command(
        commands,
        "dual-control",
        _switch_dual_control,
        summary="say whether privileged acts of an operator's staff take two people; here also without a second one",
        example="kinpay operator dual-control ID on",
    )
    switched.add_argument("operator", metavar="ID")
    switched.add_argument("switch", choices=("on", "off"))


def _switch_dual_control(asked: argparse.Namespace, settings: Settings) -> int:
    operator_id, on = checked(fields.Id, asked.operator, "ID"), asked.switch == "on"

    async def work(house: House) -> int:
        async with house.db.transaction() as conn:
            await set_dual_control(conn, operator_id, on=on, actor_id=None)
        _say(operator_id=operator_id, dual_control=asked.switch)
        return 0

    return in_house(settings, work)


def _create_operator(asked: argparse.Namespace, settings: Settings) -> int:
    name = checked(fields.Name, asked.operator_name, "NAME")
    owner = NewPerson(
        account=checked(fields.AccountName, asked.account, "--account"),
        display_name=checked(fields.Name, asked.name, "--name"),
        locale=asked.locale,
        birth_date=None,
        channel="phone" if asked.phone else "email",
        address=asked.phone or asked.email,
    )

    async def work(house: House) -> int:
        async with house.db.transaction() as conn:
            made = await create_operator(conn, name, time_zone=asked.time_zone, owner=owner)
        _say(operator_id=made.operator_id, owner_id=made.owner_id)
        return 0

    return in_house(settings, work)


def _merchants(commands: Commands) -> None:
    merchant = command(
        group(commands, "merchant", summary="who sells"),
        "create",
        _create_merchant,
        summary="enter a merchant of an operator",
        example='kinpay merchant create "First Canteen" --operator ID --mcc 5814',
    )
    merchant.add_argument("name", metavar="NAME")
    merchant.add_argument("--operator", required=True, metavar="ID")
    merchant.add_argument("--mcc", required=True, help="merchant category code, ISO 18245")
    site = command(
        group(commands, "site", summary="places where terminals stand"),
        "create",
        _create_site,
        summary="enter a site of a merchant",
        example='kinpay site create "Ground floor" --operator ID --merchant ID',
    )
    site.add_argument("name", metavar="NAME")
    site.add_argument("--operator", required=True, metavar="ID")
    site.add_argument("--merchant", required=True, metavar="ID")


def _create_merchant(asked: argparse.Namespace, settings: Settings) -> int:
    actor, name = _ourselves(asked.operator), checked(fields.Name, asked.name, "NAME")
    mcc = checked(fields.Mcc, asked.mcc, "--mcc")

    async def work(house: House) -> int:
        async with house.db.transaction() as conn:
            made = await add_merchant(conn, actor, name=name, mcc=mcc)
        _say(merchant_id=made.id)
        return 0

    return in_house(settings, work)


def _create_site(asked: argparse.Namespace, settings: Settings) -> int:
    actor, name = _ourselves(asked.operator), checked(fields.Name, asked.name, "NAME")
    merchant_id = checked(fields.Id, asked.merchant, "--merchant")

    async def work(house: House) -> int:
        async with house.db.transaction() as conn:
            made = await add_site(conn, actor, merchant_id=merchant_id, name=name)
        _say(site_id=made.id)
        return 0

    return in_house(settings, work)


def _providers(commands: Commands) -> None:
    made = command(
        commands,
        "add",
        _add_provider,
        summary="enter an operator's account at a provider; its callback address is printed",
        example="kinpay provider add --operator ID --provider sandbox_bank --config bank.json --secret-file bank.key --default",
    )
    made.add_argument("--operator", required=True, metavar="ID")
    made.add_argument("--provider", required=True, choices=sorted(FACTORIES))
    made.add_argument("--config", required=True, type=Path, metavar="FILE", help="JSON, as docs/operating.md says for each")
    made.add_argument("--secret-file", required=True, type=Path, metavar="FILE", help="our private key there, in base64")
    made.add_argument("--default", action="store_true", help="offer it first")


def _add_provider(asked: argparse.Namespace, settings: Settings) -> int:
    operator_id = checked(fields.Id, asked.operator, "--operator")
    configuration = _read_object(asked.config)
    secret = _read_secret(asked.secret_file)

    async def work(house: House) -> int:
        async with house.db.transaction() as conn:
            account_id = await add_provider_account(
                conn,
                house.keys,
                operator_id=operator_id,
                provider=asked.provider,
                configuration=configuration,
                secret=secret,
                is_default=asked.default,
            )
        _say(provider_account_id=account_id, callback=f"/v1/providers/{account_id}/callback")
        return 0

    return in_house(settings, work)


def _terminals(commands: Commands) -> None:
    made = command(
        commands,
        "create",
        _create_terminal,
        summary="announce a device; the install code that is printed is typed into it within 30 minutes",
        example='kinpay terminal create "Till 3" --operator ID --site ID --kind till',
    )
    made.add_argument("name", metavar="NAME")
    made.add_argument("--operator", required=True, metavar="ID")
    made.add_argument("--site", required=True, metavar="ID")
    made.add_argument("--kind", choices=[str(kind) for kind in TerminalKind], default="till", help="(%(default)s)")
    made.add_argument("--hold-s", type=int, default=60, metavar="SECONDS", help="how long it may take to capture (%(default)s)")
    ended = command(commands, "revoke", _revoke_terminal, summary="end a device; nothing it signs is believed from then on")
    ended.add_argument("terminal", metavar="ID")
    ended.add_argument("--operator", required=True, metavar="ID")
    listed = command(commands, "list", _list_terminals, summary="list an operator's devices")
    listed.add_argument("--operator", required=True, metavar="ID")


def _create_terminal(asked: argparse.Namespace, settings: Settings) -> int:
    operator_id, site_id = checked(fields.Id, asked.operator, "--operator"), checked(fields.Id, asked.site, "--site")
    name = checked(fields.Name, asked.name, "NAME")
    if not 5 <= asked.hold_s <= 604_800:
        raise Invalid("from_5_to_604800", field="--hold-s")

    async def work(house: House) -> int:
        async with house.db.transaction() as conn:
            code = await expect_terminal(
                conn,
                house.keys,
                operator_id=operator_id,
                site_id=site_id,
                name=name,
                kind=TerminalKind(asked.kind),
                hold_s=asked.hold_s,
                now=await database_now(conn),
                actor_id=None,
            )
        _say(terminal_id=code.terminal_id, install_code=code.text, expires_at=code.expires_at.isoformat())
        return 0

    return in_house(settings, work)


def _revoke_terminal(asked: argparse.Namespace, settings: Settings) -> int:
    operator_id, terminal_id = checked(fields.Id, asked.operator, "--operator"), checked(fields.Id, asked.terminal, "ID")

    async def work(house: House) -> int:
        async with house.db.transaction() as conn:
            now = await database_now(conn)
            await revoke_terminal(conn, operator_id=operator_id, terminal_id=terminal_id, now=now, actor_id=None)
        _say(terminal_id=terminal_id, state="revoked")
        return 0

    return in_house(settings, work)


def _list_terminals(asked: argparse.Namespace, settings: Settings) -> int:
    operator_id = checked(fields.Id, asked.operator, "--operator")

    async def work(house: House) -> int:
        after: str | None = None
        while True:
            async with house.db.connection() as conn:
                page = await list_terminals(conn, operator_id, after=after)
            for item in page:
                _say(terminal_id=item.id, name=item.name, kind=str(item.kind), state=str(item.state))
            if not page:
                return 0
            after = page[-1].id

    return in_house(settings, work)


def _ourselves(operator: str) -> Actor:
    """Whoever may run commands on this machine acts for the operator; the audit log names the operator itself."""
    operator_id = checked(fields.Id, operator, "--operator")
    return Actor(ActorKind.PERSON, operator_id, operator_id, frozenset({"owner"}))


def _read_object(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Invalid("not_a_json_object", field=str(path))
    return found


def _read_secret(path: Path) -> Sealed[bytes]:
    try:
        return Sealed(base64.b64decode(path.read_text(encoding="ascii").strip(), validate=True))
    except (binascii.Error, UnicodeDecodeError):
        raise Invalid("not_base64", field=str(path)) from None


def _say(**facts: str) -> None:
    """One line that people can read and programs, too."""
    print(json.dumps(facts, ensure_ascii=False), flush=True)
