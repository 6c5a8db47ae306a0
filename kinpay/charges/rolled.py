"""What was summed up of a day no longer holds once one of its charges changes: statements sum it up anew.

Statements stand above this floor; what is here only takes away what would be wrong.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from kinpay.charges.request import Charge
from kinpay.database.sql import Connection, Sql

ROLLED_AFTER: Final = timedelta(hours=1)
"""How long a day has been over when it is summed up at the earliest: a younger charge is in no such day."""

UNROLL = Sql("""
    WITH gone AS (
        DELETE FROM rolled_day WHERE circle_id = :circle_id AND starts <= :decided_at AND :decided_at < ends
        RETURNING circle_id)
    UPDATE roll_mark m SET open = true FROM gone WHERE m.circle_id = gone.circle_id
""")


async def unroll(conn: Connection, charge: Charge, *, now: datetime) -> None:
    """Takes the sums of the charge's day away, if there are any. Under the circle's lock."""
    if now - charge.decided_at >= ROLLED_AFTER:
        await UNROLL.run(conn, circle_id=charge.circle_id, decided_at=charge.decided_at)
