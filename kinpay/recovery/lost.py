"""What all of booking what was lost works with: the debit as its provider knows it, what came of it, and why nothing can."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kinpay.database.sql import Connection, Record
from kinpay.people.lock import LockedCircle
from kinpay.providers.contract import KnownDebit


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """What came of one. `doubt`: it is booked, but somebody has to look at this; its break stays open."""

    charge_ids: tuple[str, ...] = ()
    doubt: str | None = None


class Objection(Exception):
    """It cannot be booked, and nothing was written.

    `circle_ids`: whose money it may be about. Nothing is sent for those before somebody has looked. None: nobody knows whose.
    """

    def __init__(self, code: str, circle_ids: frozenset[str] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.circle_ids = circle_ids


@dataclass(frozen=True, slots=True)
class LostDebit:
    """One lost debit, under the lock of its circle, in the transaction that books it. `agreement`: its row."""

    conn: Connection
    circle: LockedCircle
    agreement: Record
    known: KnownDebit
    now: datetime

    @property
    def key(self) -> str:
        """The debit's id, which is its order number."""
        return self.known.debit.key

    def objection(self, code: str) -> Objection:
        """One that concerns this circle."""
        return Objection(code, frozenset({self.circle.id}))
