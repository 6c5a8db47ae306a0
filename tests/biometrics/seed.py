"""The few rows that a template stands on, written directly."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import date
from typing import Any

from kinpay.primitives.ids import new_id


@dataclass(frozen=True, slots=True)
class Place:
    """An operator with one merchant, site and active terminal."""

    operator_id: str
    terminal_id: str


async def seed_place(conn: Any) -> Place:
    """Writes an operator down to an active terminal."""
    operator_id, merchant_id, site_id, terminal_id = (new_id() for _ in range(4))
    await conn.execute("INSERT INTO operator VALUES ($1, 'School', 'Asia/Shanghai', kinpay_now())", operator_id)
    await conn.execute("INSERT INTO merchant VALUES ($1, $2, 'Canteen', '5814', kinpay_now())", merchant_id, operator_id)
    await conn.execute("INSERT INTO site VALUES ($1, $2, 'Hall', kinpay_now())", site_id, merchant_id)
    await conn.execute(
        "INSERT INTO terminal (id, operator_id, merchant_id, site_id, name, kind, state, public_key, created_at)"
        " VALUES ($1, $2, $3, $4, 'Till', 'till', 'active', $5, kinpay_now())",
        terminal_id, operator_id, merchant_id, site_id, os.urandom(65),
    )  # fmt: skip
    return Place(operator_id, terminal_id)


async def seed_person(conn: Any, operator_id: str, *, birth_date: date | None = None) -> str:
    """Writes an active person."""
    person_id = new_id()
    await conn.execute(
        "INSERT INTO person (id, operator_id, account, display_name, locale, birth_date, state, created_at)"
        " VALUES ($1, $2, $3, 'Somebody', 'zh', $4, 'active', kinpay_now())",
        person_id, operator_id, person_id, birth_date,
    )  # fmt: skip
    return person_id
