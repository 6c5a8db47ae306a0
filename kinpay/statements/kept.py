"""How rows of a statement are kept as JSON: of a day that was summed up, of a month that was closed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

import msgspec

from kinpay.statements.statement import Late, LateKind, Paid, Rows, Wanted, What

Written = list[dict[str, Any]]


def write_paid(rows: Iterable[Paid]) -> Written:
    """In an order of their own, so that the same rows always make the same text."""
    return sorted((asdict(row) | {"day": row.day.isoformat()} for row in rows), key=_order)


def read_paid(written: Iterable[Mapping[str, Any]]) -> tuple[Paid, ...]:
    """As written by `write_paid`."""
    return tuple(Paid(**{**row, "day": date.fromisoformat(row["day"])}) for row in written)


def write_unpaid(rows: Iterable[Wanted]) -> Written:
    """In an order of their own."""
    return sorted((asdict(row) | {"what": row.what.value} for row in rows), key=_order)


def read_unpaid(written: Iterable[Mapping[str, Any]]) -> tuple[Wanted, ...]:
    """As written by `write_unpaid`."""
    return tuple(Wanted(**{**row, "what": What(row["what"])}) for row in written)


def write_late(rows: Iterable[Late]) -> Written:
    """In an order of their own."""
    plain = (asdict(row) | {"day": row.day.isoformat(), "kind": row.kind.value} for row in rows)
    return sorted(plain, key=_order)


def read_late(written: Iterable[Mapping[str, Any]]) -> tuple[Late, ...]:
    """As written by `write_late`."""
    return tuple(Late(**{**row, "day": date.fromisoformat(row["day"]), "kind": LateKind(row["kind"])}) for row in written)


def _order(row: Mapping[str, Any]) -> str:
    return msgspec.json.encode(row, order="sorted").decode()


def rows_hash(month: str, rows: Rows) -> bytes:
    """SHA-256 over a month's rows, by which the audit log vouches for them."""
    kept = {"month": month, "paid": write_paid(rows.paid), "unpaid": write_unpaid(rows.unpaid), "late": write_late(rows.late)}
    return hashlib.sha256(msgspec.json.encode(kept, order="sorted")).digest()
