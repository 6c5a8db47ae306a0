"""What a request of a batch hears that is not to be decided: its own earlier charge, or why it is not believed.

Source: reliability.md §1c; semantics.md "Security".
"""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Final

from kinpay.charges.charge import ChargeState
from kinpay.charges.request import Authorized, AuthorizeRequest, Charge, Verdicts
from kinpay.charges.store import READ_DEBIT_WAITS, Loaded, Locked, find_keys, forget_keys, read_charges
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import (
    CheckCodeExpired,
    CheckCodeUsed,
    KeyInFlight,
    KeyReused,
    KinpayError,
    RequestReplayed,
    TerminalSessionEnded,
    Unauthenticated,
)

_EXECUTING: Final = timedelta(seconds=30)
"""How long after its decision a charge that captures at once may still be in the hands of the request that made it."""


async def sort_out(
    conn: Connection, chosen: list[AuthorizeRequest], mine: list[int], loaded: Loaded, locked: Locked, verdicts: Verdicts
) -> list[int]:
    """Answers repetitions and dead codes; returns the indexes (into `chosen`) that own their key and are to be decided."""
    unclaimed = [index for index in range(len(chosen)) if index not in loaded.claimed]
    if unclaimed:
        repeated = [chosen[index] for index in unclaimed]
        known = await find_keys(conn, repeated)
        charges = await read_charges(conn, [row["charge_id"] for row in known.values() if row["charge_id"]])
        waits = {row[0] for row in await READ_DEBIT_WAITS.rows(conn, ids=list(charges))}
        for at, index in enumerate(unclaimed):
            row = known.get(at)
            charge = charges.get(row["charge_id"]) if row else None
            objection = _objection(index, loaded)
            verdict = _repetition(chosen[index], row["fingerprint"] if row else None, charge, objection, locked)
            if isinstance(verdict, Authorized) and not verdict.fresh and _executing(verdict.charge, waits, locked):
                verdict = KeyInFlight(retry_after_s=1)
            verdicts.answers[mine[index]] = verdict
    revoked = [i for i in sorted(loaded.claimed) if chosen[i].terminal_id in loaded.revoked_terminals]
    for index in revoked:
        verdicts.answers[mine[index]] = Unauthenticated(reason="terminal_revoked")
    if revoked:
        await forget_keys(conn, [chosen[index].charge_id for index in revoked])
    return [index for index in sorted(loaded.claimed) if chosen[index].terminal_id not in loaded.revoked_terminals]


# A charge that was lost with the database and found again at its provider: its key is gone, its id still bears the key's mark.
RECOVERED = Sql("""
    SELECT r.charge_id FROM recovered_charge r JOIN charge c ON c.id = r.charge_id AND c.circle_id = r.circle_id
    WHERE r.mark = :mark AND r.circle_id = :circle_id ORDER BY r.recovered_at LIMIT 1
""")


async def recovered_charge(conn: Connection, request: AuthorizeRequest) -> Charge | None:
    """The recovered charge that this request had made before the database was restored, as it is now; None if there is none.

    What was captured of it is all that is known; of a held one that may have been less than was asked for.

    Raises: KeyReused if it was for another amount or spender.
    """
    found = await RECOVERED.value(conn, mark=request.charge_id[-8:], circle_id=request.circle_id)
    charge = (await read_charges(conn, [found])).get(found) if found is not None else None
    if charge is None:
        return None
    order = request.order
    fits = charge.amount_minor == order.amount_minor if request.capture else charge.amount_minor <= order.amount_minor
    if not fits or (charge.currency, charge.spender_id) != (order.currency, order.spender_id):
        raise KeyReused()
    return charge


def _objection(index: int, loaded: Loaded) -> KinpayError | None:
    """Why a signed request must not be believed."""
    if index not in loaded.fresh:
        return RequestReplayed()
    return None if index in loaded.in_session else TerminalSessionEnded()


def _repetition(
    request: AuthorizeRequest, fingerprint: bytes | None, charge: Charge | None, objection: KinpayError | None, locked: Locked
) -> Authorized | KinpayError:
    """What a request hears that did not get its key: its own earlier charge, or why it is not believed."""
    if charge is not None and charge.id == request.charge_id:
        return Authorized(charge, fresh=True)  # Ours: the commit's acknowledgement was lost.
    if objection is not None:
        return objection
    if fingerprint is not None:
        if charge is None or not hmac.compare_digest(fingerprint, request.key.fingerprint):
            return KeyReused()
        return Authorized(charge, fresh=False)
    if request.burn is not None and request.burn.expires_at < locked.now:
        return CheckCodeExpired()
    return CheckCodeUsed()


def _executing(charge: Charge, waits: set[str], locked: Locked) -> bool:
    """Whether the first request under the key still carries the charge out (and nobody was told *unknown* yet)."""
    young = locked.now - charge.decided_at < _EXECUTING
    busy = charge.state is ChargeState.HELD or (charge.state is ChargeState.SUBMITTED and charge.id in waits)
    return charge.capture_at_once and young and busy
