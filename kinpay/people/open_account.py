"""Opening an account, and being entered at a terminal without one. Whether a name is taken cannot be seen from outside."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from kinpay.database import audit, outbox
from kinpay.database.pool import Database, database_now
from kinpay.database.sql import Connection, Sql
from kinpay.people import code
from kinpay.people.person import NewPerson
from kinpay.primitives.clock import local_date
from kinpay.primitives.errors import Invalid, NotFound
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys

ABANDONED: Final = timedelta(days=1)
"""An account that nobody verified within this time may be opened anew, so that names cannot be squatted on."""
EARLIEST_BIRTH: Final = date(1900, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A sign-in that waits for its code, for at most a few minutes."""

    sign_in_id: str
    expires_at: datetime


OPERATOR_ZONE = Sql("SELECT time_zone FROM operator WHERE id = :operator_id")

# One statement for a free, an abandoned and a taken name. `opened` is null for a taken one, `owner` for a free one.
# The codes of an abandoned attempt die with it, or whoever asked for them could still verify what is no longer theirs.
OPEN = Sql("""
    WITH opened AS (
        INSERT INTO person (id, operator_id, account, display_name, locale, birth_date, state, created_at)
        VALUES (:id, :operator_id, :account, :display_name, :locale, :birth_date, 'unverified', :now)
        ON CONFLICT (operator_id, account) DO UPDATE
            SET display_name = excluded.display_name, locale = excluded.locale, birth_date = excluded.birth_date,
                created_at = excluded.created_at
            WHERE person.state = 'unverified' AND person.created_at < :abandoned_before
        RETURNING id),
    contact AS (
        INSERT INTO person_contact (person_id, channel, address) SELECT id, :channel, :address FROM opened
        ON CONFLICT (person_id, channel) DO UPDATE SET address = excluded.address, verified_at = NULL),
    other_contact AS (
        DELETE FROM person_contact WHERE person_id IN (SELECT id FROM opened) AND channel <> :channel),
    old_codes AS (
        UPDATE one_time_code SET used_at = :now WHERE person_id IN (SELECT id FROM opened) AND used_at IS NULL)
    SELECT (SELECT id FROM opened) AS opened,
           (SELECT id FROM person WHERE operator_id = :operator_id AND account = :account) AS owner
""")


async def open_account(db: Database, keys: ServerKeys, *, operator_id: str, new: NewPerson) -> Started:
    """Opens an account and sends its first sign-in code; for a name that is taken, tells its owner that somebody tried.

    Both answers, and the statements behind them, are the same in form and number. Asked accounts share the cap of sign-ins; an
    address to which too many codes went lately gets silence.

    Raises: NotFound for an unknown operator; Invalid for an impossible birthday; TooMany.
    """
    ref = code.account_ref(keys, operator_id, new.account)
    async with db.transaction() as conn:
        await code.lock_name(conn, ref)
        now = await database_now(conn)
        await _check_birth(conn, operator_id, birth_date=new.birth_date, now=now)
        await code.cap_sign_ins(conn, ref, now=now)
        row = await OPEN.row(
            conn,
            id=new_id(),
            operator_id=operator_id,
            account=new.account,
            display_name=new.display_name,
            locale=new.locale,
            birth_date=new.birth_date,
            channel=new.channel,
            address=new.address,
            now=now,
            abandoned_before=now - ABANDONED,
        )
        assert row is not None
        return await _tell(
            conn, keys, ref=ref, operator_id=operator_id, new=new, opened=row["opened"], owner=row["owner"], now=now
        )


async def _check_birth(conn: Connection, operator_id: str, *, birth_date: date | None, now: datetime) -> None:
    time_zone = await OPERATOR_ZONE.value(conn, operator_id=operator_id)
    if time_zone is None:
        raise NotFound()
    if birth_date is not None and not EARLIEST_BIRTH <= birth_date <= local_date(now, time_zone):
        raise Invalid("birth_date_impossible", field="birth_date")


async def _tell(
    conn: Connection,
    keys: ServerKeys,
    *,
    ref: str,
    operator_id: str,
    new: NewPerson,
    opened: str | None,
    owner: str | None,
    now: datetime,
) -> Started:
    """The code for whoever opened it, or the notice for whoever has it already."""
    may_send = await code.may_send_to_stranger(conn, keys, operator_id=operator_id, address=new.address, now=now)
    sent = await code.keep_code(conn, keys, code_id=code.sign_in_code_id(ref), person_id=opened, content_hash=None, now=now)
    if opened is not None:
        recipient = code.Recipient(address=new.address if may_send else None, account=new.account, locale=new.locale)
        await code.enqueue_code(conn, keys, code=sent, recipient=recipient, purpose="open_account", now=now)
        event = audit.Event("person.opened", opened, {"assisted": False}, opened)
    else:
        assert owner is not None, "a name that could not be opened has an owner"
        await outbox.enqueue(conn, "notice.account_tried", lane=owner, subject_id=owner, body={"people": [owner]}, now=now)
        event = audit.Event("person.tried", owner, {})
    await audit.record(conn, operator_id, event, now=now)
    return Started(sign_in_id=sent.id, expires_at=sent.expires_at)


OPEN_ASSISTED = Sql("""
    INSERT INTO person (id, operator_id, account, display_name, locale, assisted, state, created_at)
    VALUES (:id, :operator_id, :account, :display_name, :locale, true, 'active', :now)
""")


async def open_assisted(conn: Connection, operator_id: str, display_name: str, locale: str, now: datetime) -> str:
    """Enters a person without a phone, for whom a terminal stands; they have no contact and cannot sign in. Returns their id.

    Source: semantics.md "Registration".
    """
    person_id = new_id()
    # The random half of the id: a name that nobody can have chosen, short enough to be read out.
    account = f"assisted-{person_id[16:]}"
    await OPEN_ASSISTED.run(
        conn, id=person_id, operator_id=operator_id, account=account, display_name=display_name, locale=locale, now=now
    )
    await audit.record(conn, operator_id, audit.Event("person.opened", person_id, {"assisted": True}), now=now)
    return person_id
