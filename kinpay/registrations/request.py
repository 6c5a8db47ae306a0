"""Asking to be paid for: by a spender's phone, or by a terminal that stands for somebody without one.

Source: [0016]-[0021] (claims 2 and 3); semantics.md "Registration".
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from kinpay.biometrics.enrol import Erased
from kinpay.database import audit
from kinpay.database.audit import Event
from kinpay.database.sql import Connection, Sql
from kinpay.people.open_account import open_assisted
from kinpay.people.person import Person
from kinpay.people.store import person_row
from kinpay.primitives.actor import Actor
from kinpay.primitives.clock import local_date
from kinpay.primitives.errors import ConsentFirst, Forbidden, Invalid, TooMany
from kinpay.primitives.ids import new_id
from kinpay.registrations import store, tell
from kinpay.registrations.bind import advance
from kinpay.registrations.card import open_provisional_circle
from kinpay.registrations.payer import Named, can_pay, reach_payer, take_turn
from kinpay.registrations.registration import BindingOrder, Registration, RegistrationState, Rules
from kinpay.terminals.codes import CardCode, Codes
from kinpay.terminals.scan import UsedScan, use_scan

_DAY: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a spender's phone asks. `information`: the decoded code with its business type; None only in order C."""

    information: str | None
    order: BindingOrder
    payer_account: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistedRequest:
    """What a terminal asks for a person without a phone. The payer is named by account or by a card of theirs."""

    information: str
    order: BindingOrder
    spender_name: str
    locale: str
    birth_date: date | None
    payer_account: str | None
    payer_card: str | None


OPERATOR_ZONE = Sql("SELECT time_zone FROM operator WHERE id = :operator_id")
LOCK_SPENDER = Sql("SELECT 1 FROM person WHERE id = :person_id FOR NO KEY UPDATE")
ASKED_SINCE = Sql("SELECT count(*) AS asked, min(created_at) AS first FROM registration"
                  " WHERE spender_id = :spender_id AND created_at > :since")  # fmt: skip


async def request(conn: Connection, codes: Codes, actor: Actor, *, asked: Request, rules: Rules, now: datetime) -> Registration:
    """Opens a registration for the asking person and pushes it to the payer they name, if that payer may be reached.

    Raises: CheckCode…, NotFound for a scan that is not theirs; TooMany for the spender's own cap; ConsentFirst;
    Invalid where business type, order and payer do not fit together; Forbidden for a minor who wants to pay for themself.
    """
    scan: UsedScan | None = None
    if asked.information is not None:
        scan = await use_scan(conn, codes, information=asked.information, asker=actor, now=now)
    business_type = _business_type(asked, scan)
    await LOCK_SPENDER.value(conn, person_id=actor.id)
    await _cap_spender(conn, actor.id, rules=rules, now=now)
    spender = await person_row(conn, actor.id)
    assert spender is not None, "an actor is a person"
    zone_name: str = await OPERATOR_ZONE.value(conn, operator_id=actor.operator_id)
    _consent_first(asked.order, spender.birth_date, today=local_date(now, zone_name), rules=rules)
    named = Named(account=asked.payer_account if business_type == "proxy" else spender.account)
    await take_turn(conn, actor.operator_id, named)
    if business_type == "self":
        if not can_pay(spender, now=now, zone_name=zone_name):
            raise Forbidden(reason="not-of-age")
        payer_id: str | None = actor.id
    else:
        payer_id = await reach_payer(
            conn, named, operator_id=actor.operator_id, spender_id=actor.id, today_zone=zone_name, rules=rules, now=now
        )
    new = _new(named, scan=scan, spender=spender, business_type=business_type, order=asked.order, payer_id=payer_id,
               circle_id=None, rules=rules, now=now)  # fmt: skip
    return await _open(conn, new, spender=spender, actor_id=actor.id, now=now)


def _business_type(asked: Request, scan: UsedScan | None) -> str:
    """What the code says; without a code (order C from the app) naming a payer makes it a proxy registration."""
    if scan is None:
        if asked.order is not BindingOrder.C:
            raise Invalid("registration_information_missing", field="registration_information")
        return "self" if asked.payer_account is None else "proxy"
    if (scan.business_type == "self") != (asked.payer_account is None):
        raise Invalid("payer_does_not_fit_business_type", field="payer_account")
    return scan.business_type


def _consent_first(order: BindingOrder, birth_date: date | None, *, today: date, rules: Rules) -> None:
    """Refuses to capture a child, or somebody of unknown age, before anybody consented. Source: threat A12."""
    if order is not BindingOrder.B or rules.capture_minors_first:
        return
    if birth_date is None or years_old(birth_date, today) < rules.minor_below_years:
        raise ConsentFirst(age_known=birth_date is not None, below_years=rules.minor_below_years)


def years_old(birth_date: date, today: date) -> int:
    """Whole years of life on the local day `today`."""
    had_birthday = (today.month, today.day) >= (birth_date.month, birth_date.day)
    return today.year - birth_date.year - (0 if had_birthday else 1)


async def _cap_spender(conn: Connection, spender_id: str, *, rules: Rules, now: datetime) -> None:
    row = await ASKED_SINCE.row(conn, spender_id=spender_id, since=now - _DAY)
    assert row is not None
    if row["asked"] >= rules.per_spender_per_day:
        raise TooMany(retry_after_s=max(1, int((row["first"] + _DAY - now).total_seconds()) + 1))


OPEN_AT = Sql("""
    SELECT count(*) FROM registration r JOIN person p ON p.id = r.spender_id
    WHERE r.terminal_id = :terminal_id AND r.state = 'open' AND r.expires_at > :now AND p.assisted
""")
LOCK_TERMINAL = Sql("SELECT 1 FROM terminal WHERE id = :terminal_id FOR NO KEY UPDATE")
SET_BIRTH_DATE = Sql("UPDATE person SET birth_date = :birth_date WHERE id = :person_id")


async def request_assisted(
    conn: Connection, codes: Codes, actor: Actor, *, asked: AssistedRequest, rules: Rules, now: datetime
) -> Registration:
    """Opens a registration for somebody without a phone, for whom the asking terminal stands, and enters that person.

    They get a circle of their own at once, which a card can name (docs/decisions/0006-assisted-cards.md).

    Raises: CheckCode…, NotFound; TooMany for the terminal's own cap; ConsentFirst; Invalid.
    """
    if asked.order is BindingOrder.C:
        raise Invalid("order_needs_a_phone", field="binding_order")
    scan = await use_scan(conn, codes, information=asked.information, asker=actor, now=now)
    if scan.business_type != "proxy":
        raise Invalid("business_type_needs_a_phone", field="registration_information")
    zone_name: str = await OPERATOR_ZONE.value(conn, operator_id=actor.operator_id)
    today = local_date(now, zone_name)
    if asked.birth_date is not None and asked.birth_date > today:
        raise Invalid("birth_date_impossible", field="birth_date")
    _consent_first(asked.order, asked.birth_date, today=today, rules=rules)
    named = read_named(codes, asked, operator_id=actor.operator_id)
    await LOCK_TERMINAL.value(conn, terminal_id=actor.id)
    if await OPEN_AT.value(conn, terminal_id=actor.id, now=now) >= rules.open_per_terminal:
        raise TooMany(retry_after_s=60)
    await take_turn(conn, actor.operator_id, named)
    payer_id = await reach_payer(
        conn, named, operator_id=actor.operator_id, spender_id=new_id(), today_zone=zone_name, rules=rules, now=now
    )
    spender = await _enter(conn, actor, asked=asked, now=now)
    circle_id = await open_provisional_circle(conn, spender, time_zone=zone_name, now=now)
    new = _new(named, scan=scan, spender=spender, business_type="proxy", order=asked.order, payer_id=payer_id,
               circle_id=circle_id, rules=rules, now=now)  # fmt: skip
    return await _open(conn, new, spender=spender, actor_id=actor.id, now=now)


async def _enter(conn: Connection, actor: Actor, *, asked: AssistedRequest, now: datetime) -> Person:
    person_id = await open_assisted(conn, actor.operator_id, asked.spender_name, asked.locale, now)
    if asked.birth_date is not None:
        await SET_BIRTH_DATE.run(conn, person_id=person_id, birth_date=asked.birth_date)
    person = await person_row(conn, person_id)
    assert person is not None
    return person


def read_named(codes: Codes, asked: AssistedRequest, *, operator_id: str) -> Named:
    """The payer as named at a terminal: exactly one of account and card. Raises: Invalid; CheckCodeAltered."""
    if (asked.payer_account is None) == (asked.payer_card is None):
        raise Invalid("name_one_payer", field="payer_account")
    if asked.payer_card is None:
        return Named(account=asked.payer_account)
    card = codes.read(asked.payer_card, CardCode)
    if card.operator_id != operator_id:
        raise Invalid("card_of_another_operator", field="payer_card")
    return Named(card=card)


def _new(
    named: Named,
    *,
    scan: UsedScan | None,
    spender: Person,
    business_type: str,
    order: BindingOrder,
    payer_id: str | None,
    circle_id: str | None,
    rules: Rules,
    now: datetime,
) -> Registration:
    return Registration(
        id=new_id(),
        operator_id=spender.operator_id,
        scan_id=None if scan is None else scan.scan_id,
        terminal_id=None if scan is None else scan.terminal_id,
        business_type=business_type,
        binding_order=order,
        spender_id=spender.id,
        payer_id=payer_id,
        payer_account=named.as_kept(),
        match_number=secrets.randbelow(90) + 10,
        state=RegistrationState.OPEN,
        circle_id=circle_id,
        mandate_id=None,
        agreement_id=None,
        template_id=None,
        consented_at=None,
        agreement_active_at=None,
        enrolled_at=None,
        created_at=now,
        expires_at=now + rules.life,
        closed_at=None,
    )


async def _open(conn: Connection, new: Registration, *, spender: Person, actor_id: str, now: datetime) -> Registration:
    """Writes it, pushes it to the payer (by the same steps when there is none), and has order B captured at once."""
    await store.insert(conn, new)
    body = {"order": str(new.binding_order), "business_type": new.business_type, "spender_id": new.spender_id,
            "terminal_id": new.terminal_id, "scan_id": new.scan_id}  # fmt: skip
    await audit.record(conn, new.lane, Event("registration.opened", new.id, body, actor_id), now=now)
    await tell.of_request(conn, new, spender=spender, now=now)
    registration, erased = await advance(conn, new, actor_id=actor_id, now=now)
    _nothing_to_erase(erased)
    return registration


def _nothing_to_erase(erased: list[Erased]) -> None:
    assert not erased, "a new registration has no template"
