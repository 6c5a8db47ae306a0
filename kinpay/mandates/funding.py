"""Whether a mandate is paid for: it is suspended when its last agreement goes, and goes on when there is one again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kinpay.database.sql import Connection
from kinpay.mandates.agreement import OPEN_STATES, Agreement, AgreementState
from kinpay.mandates.agreement_store import agreements
from kinpay.mandates.mandate import Mandate, MandateEvent, MandateState, Reason
from kinpay.mandates.store import is_funded, move_mandate
from kinpay.mandates.tell import tell_of_mandate
from kinpay.primitives.errors import Invalid, NotFound, WrongState


async def settle_funding(
    conn: Connection, mandate: Mandate, *, now: datetime, reason: Reason = Reason.AGREEMENT_ENDED
) -> Mandate:
    """Suspends an active mandate that nothing funds any more, restores a suspended one that is funded again, and tells why.

    Counters are untouched. The caller holds the circle's lock. Returns the mandate as it is now.
    """
    if mandate.state not in (MandateState.ACTIVE, MandateState.SUSPENDED):
        return mandate
    funded = await is_funded(conn, mandate)
    if mandate.state is MandateState.ACTIVE and not funded:
        moved = await move_mandate(conn, mandate, MandateEvent.SUSPEND, now=now, reason=reason)
        await tell_of_mandate(conn, "mandate_suspended", moved, now=now)
        return moved
    if mandate.state is MandateState.SUSPENDED and funded:
        moved = await move_mandate(conn, mandate, MandateEvent.RESTORE, now=now)
        await tell_of_mandate(conn, "mandate_restored", moved, now=now)
        return moved
    return mandate


async def own_agreements(
    conn: Connection, agreement_ids: Sequence[str], *, circle_id: str, payer_id: str, currency: str, only_active: bool
) -> list[Agreement]:
    """The agreements that are to fund a mandate, in that order: all of this payer, in this circle and this currency.

    Raises: NotFound for another's; WrongState for one that is final (or, with `only_active`, not active); Invalid.
    """
    if len(set(agreement_ids)) != len(agreement_ids) or not agreement_ids:
        raise Invalid("agreements_not_distinct", field="agreement_ids")
    found = await agreements(conn, agreement_ids)
    if len(found) != len(agreement_ids) or any((a.circle_id, a.payer_id) != (circle_id, payer_id) for a in found):
        raise NotFound()
    allowed = {AgreementState.ACTIVE} if only_active else OPEN_STATES
    for agreement in found:
        if agreement.state not in allowed:
            raise WrongState("agreement", state=str(agreement.state))
        if agreement.currency != currency:
            raise Invalid("currency_differs", field="agreement_ids")
    return found
