"""Binding spenders under a payer's agreement, and taking them out again.

Source: docs/sandbox-bank.md §3; CN109191092A claim 5 (the payer sees and removes sub-accounts at the provider).
"""

from __future__ import annotations

from kinpay_sandbox import events
from kinpay_sandbox.agreement import Agreement, find_agreement
from kinpay_sandbox.books import Connection
from kinpay_sandbox.refusal import Refusal, not_found
from kinpay_sandbox.wire import REF, Fields


def read_spender(fields: Fields) -> tuple[str, str]:
    """Read `{ref, name}`. Raises: Refusal(422, bad_request)."""
    ref = fields.matching("ref", REF)
    name = fields.text("name", longest=100)
    fields.done()
    return ref, name


INSERT_SPENDER = """
INSERT INTO agreement_spenders (agreement_id, ref, name, state) VALUES ($1, $2, $3, 'active')
ON CONFLICT (agreement_id, ref) DO UPDATE SET state = 'active', name = EXCLUDED.name"""


async def bind_spender(conn: Connection, agreement: Agreement | None, *, ref: str, name: str) -> Agreement:
    """Bind a spender under a locked agreement; binding one who is bound changes nothing.

    Raises: Refusal(404, not_found); Refusal(422, agreement_inactive) when it is over, or not yet signed and the
    spender was removed.
    """
    if agreement is None:
        raise not_found()
    known = agreement.spender(ref)
    if known is not None and known.state == "active":
        return agreement
    if agreement.state != "active" and not (agreement.state == "pending" and known is None):
        raise Refusal(422, "agreement_inactive")
    await conn.execute(INSERT_SPENDER, agreement.agreement_id, ref, name)
    bound = await find_agreement(conn, agreement.agreement_id)
    assert bound is not None
    return bound


REMOVE_SPENDER = "UPDATE agreement_spenders SET state = 'removed' WHERE agreement_id = $1 AND ref = $2"


async def remove_spender(conn: Connection, agreement: Agreement | None, *, ref: str, base_url: str) -> Agreement:
    """Remove a spender from a locked agreement; one already removed changes nothing. Raises: Refusal(404, not_found)."""
    known = agreement.spender(ref) if agreement is not None else None
    if agreement is None or known is None:
        raise not_found()
    if known.state == "removed":
        return agreement
    await conn.execute(REMOVE_SPENDER, agreement.agreement_id, ref)
    left = await find_agreement(conn, agreement.agreement_id)
    assert left is not None
    await events.tell(conn, left.client_id, type="agreement.spender_removed", data=left.as_json(base_url))
    return left
