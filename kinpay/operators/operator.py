"""Operators and what terminals belong to: merchants and their sites."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kinpay.database import audit
from kinpay.database.pool import database_now
from kinpay.database.sql import Connection, Sql
from kinpay.operators.staff import StaffRole, add_staff
from kinpay.people.person import NewPerson
from kinpay.primitives.actor import Actor
from kinpay.primitives.clock import zone
from kinpay.primitives.errors import NotFound
from kinpay.primitives.ids import new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOperator:
    """An operator just made, with its first owner."""

    operator_id: str
    owner_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Whoever runs this kinpay; its days end in `time_zone`. `dual_control`: its privileged acts take two people."""

    id: str
    name: str
    time_zone: str
    dual_control: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Merchant:
    """Who sells; `mcc` is the ISO 18245 category."""

    id: str
    name: str
    mcc: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place of a merchant where terminals stand."""

    id: str
    merchant_id: str
    name: str
    created_at: datetime


INSERT_OPERATOR = Sql("""
    WITH operator AS (
        INSERT INTO operator (id, name, time_zone, created_at) VALUES (:id, :name, :time_zone, :now) RETURNING id),
    owner AS (
        INSERT INTO person (id, operator_id, account, display_name, locale, birth_date, state, created_at)
        SELECT :owner_id, id, :account, :display_name, :locale, :birth_date, 'active', :now FROM operator RETURNING id)
    INSERT INTO person_contact (person_id, channel, address) SELECT id, :channel, :address FROM owner
""")


async def create_operator(conn: Connection, name: str, *, time_zone: str, owner: NewPerson) -> NewOperator:
    """Makes an operator and its first owner, who signs in by a code like everybody else. `time_zone`: IANA; its days end there.

    The owner is active at once, because whoever runs this command vouches for them.

    Raises: Invalid for a zone that does not exist.
    """
    zone(time_zone)
    now = await database_now(conn)
    made = NewOperator(operator_id=new_id(), owner_id=new_id())
    await INSERT_OPERATOR.run(
        conn,
        id=made.operator_id,
        name=name,
        time_zone=time_zone,
        owner_id=made.owner_id,
        account=owner.account,
        display_name=owner.display_name,
        locale=owner.locale,
        birth_date=owner.birth_date,
        channel=owner.channel,
        address=owner.address,
        now=now,
    )
    event = audit.Event("operator.created", made.operator_id, {"time_zone": time_zone, "owner": made.owner_id})
    await audit.record(conn, made.operator_id, event, now=now)
    await add_staff(conn, made.operator_id, person_id=made.owner_id, role=StaffRole.OWNER)
    return made


OPERATOR = Sql("SELECT id, name, time_zone, dual_control FROM operator WHERE id = :operator_id")


async def operator_row(conn: Connection, operator_id: str) -> Operator:
    """The operator. Raises: NotFound."""
    row = await OPERATOR.row(conn, operator_id=operator_id)
    if row is None:
        raise NotFound()
    return Operator(**row)


INSERT_MERCHANT = Sql("""
    INSERT INTO merchant (id, operator_id, name, mcc, created_at)
    SELECT :id, id, :name, :mcc, :now FROM operator WHERE id = :operator_id RETURNING 1
""")


async def add_merchant(conn: Connection, actor: Actor, *, name: str, mcc: str) -> Merchant:
    """Enters a merchant at the asking owner's operator. Raises: NotFound for an operator that there is not."""
    made = Merchant(id=new_id(), name=name, mcc=mcc, created_at=await database_now(conn))
    named = {"id": made.id, "operator_id": actor.operator_id, "name": name, "mcc": mcc}
    if await INSERT_MERCHANT.value(conn, **named, now=made.created_at) is None:
        raise NotFound()
    event = audit.Event("merchant.added", made.id, {"mcc": mcc}, actor.id)
    await audit.record(conn, actor.operator_id, event, now=made.created_at)
    return made


MERCHANT_NAME = Sql("SELECT name FROM merchant WHERE id = :merchant_id AND operator_id = :operator_id")


async def merchant_name(conn: Connection, operator_id: str, merchant_id: str | None) -> str | None:
    """What one of the operator's merchants is called; None for none of them in particular. Raises: NotFound."""
    if merchant_id is None:
        return None
    name: str | None = await MERCHANT_NAME.value(conn, merchant_id=merchant_id, operator_id=operator_id)
    if name is None:
        raise NotFound()
    return name


INSERT_SITE = Sql("""
    INSERT INTO site (id, merchant_id, name, created_at)
    SELECT :id, id, :name, :now FROM merchant WHERE id = :merchant_id AND operator_id = :operator_id RETURNING 1
""")


async def add_site(conn: Connection, actor: Actor, *, merchant_id: str, name: str) -> Site:
    """Enters a site of one of the operator's merchants. Raises: NotFound for any other merchant."""
    made = Site(id=new_id(), merchant_id=merchant_id, name=name, created_at=await database_now(conn))
    found = await INSERT_SITE.value(
        conn, id=made.id, merchant_id=merchant_id, operator_id=actor.operator_id, name=name, now=made.created_at
    )
    if found is None:
        raise NotFound()
    event = audit.Event("site.added", made.id, {"merchant": merchant_id}, actor.id)
    await audit.record(conn, actor.operator_id, event, now=made.created_at)
    return made


MERCHANTS = Sql("""
    SELECT id, name, mcc, created_at FROM merchant
    WHERE operator_id = :operator_id AND (:after::uuid IS NULL OR id > :after) ORDER BY id LIMIT :most
""")


async def merchants_of(conn: Connection, operator_id: str, *, after: str | None = None, limit: int = 100) -> list[Merchant]:
    """The operator's merchants in the order of their ids."""
    return [Merchant(**row) for row in await MERCHANTS.rows(conn, operator_id=operator_id, after=after, most=limit)]


SITES = Sql("""
    SELECT s.id, s.merchant_id, s.name, s.created_at FROM site s JOIN merchant m ON m.id = s.merchant_id
    WHERE m.operator_id = :operator_id AND (:merchant_id::uuid IS NULL OR s.merchant_id = :merchant_id)
      AND (:after::uuid IS NULL OR s.id > :after) ORDER BY s.id LIMIT :most
""")


async def sites_of(
    conn: Connection, operator_id: str, *, merchant_id: str | None = None, after: str | None = None, limit: int = 100
) -> list[Site]:
    """The operator's sites, of one merchant if it is named, in the order of their ids."""
    rows = await SITES.rows(conn, operator_id=operator_id, merchant_id=merchant_id, after=after, most=limit)
    return [Site(**row) for row in rows]
