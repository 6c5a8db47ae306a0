"""In which circle a recognised person pays. A face selects none: where there are several, a code or a card has to."""

from __future__ import annotations

from kinpay.database.sql import Connection, Sql

SPENDS_IN = Sql("""
    SELECT m.circle_id, EXISTS (SELECT FROM mandate d WHERE d.circle_id = m.circle_id AND d.spender_id = m.person_id
                                AND d.state = 'active') AS funded
    FROM circle_member m
    WHERE m.person_id = :person_id AND m.role = 'spender' AND m.ended_at IS NULL ORDER BY m.circle_id LIMIT 100
""")
PAYERS = Sql("""
    SELECT DISTINCT p.person_id FROM circle_member s
    JOIN circle_member p ON p.circle_id = s.circle_id AND p.role = 'payer' AND p.ended_at IS NULL
    WHERE s.person_id = :person_id AND s.role = 'spender' AND s.ended_at IS NULL ORDER BY p.person_id
""")


async def circle_of(conn: Connection, person_id: str) -> str | None:
    """The one circle in which the person spends; of several the one with a mandate in force; None if that is not one."""
    rows = await SPENDS_IN.rows(conn, person_id=person_id)
    funded = [row["circle_id"] for row in rows if row["funded"]]
    if len(rows) == 1:
        return str(rows[0]["circle_id"])
    return str(funded[0]) if len(funded) == 1 else None


async def payers_of(conn: Connection, person_id: str) -> list[str]:
    """Everybody who pays in a circle in which the person spends."""
    return [row["person_id"] for row in await PAYERS.rows(conn, person_id=person_id)]
