"""Forgetting what has had its time: dead codes and ended sessions."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from kinpay.database.pool import Database
from kinpay.database.sql import Sql

CODES_KEPT: Final = timedelta(days=2)
"""Longer than the longest cap looks back."""
SESSIONS_KEPT: Final = timedelta(days=7)

# A proof that was used is the evidence of a consent (`mandate_version.proof_id`), so it stays.
PRUNE_CODES = Sql("""
    DELETE FROM one_time_code
    WHERE created_at < kinpay_now() - :kept::interval AND (purpose = 'sign_in' OR used_at IS NULL)
""")
PRUNE_SESSIONS = Sql("DELETE FROM session WHERE coalesce(ended_at, expires_at) < kinpay_now() - :kept::interval")


async def prune(db: Database) -> int:
    """Deletes codes and sessions past any use, in a transaction of its own; returns how many."""
    async with db.transaction() as conn:
        codes = await PRUNE_CODES.run(conn, kept=CODES_KEPT)
        return codes + await PRUNE_SESSIONS.run(conn, kept=SESSIONS_KEPT)
