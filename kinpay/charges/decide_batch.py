"""What a batch comes to: every order judged in turn, each seeing those before it, and the rows to be written. No I/O.

The same whether the batch holds its circles' locks (`batch.py`) or has looked before it locks (`ahead.py`).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from kinpay.charges.charge import ChargeState
from kinpay.charges.decide import Approve, decide
from kinpay.charges.fares import Fares
from kinpay.charges.kept import audited
from kinpay.charges.order import Order
from kinpay.charges.request import AuthorizeRequest, Charge, Verdicts, refusal_json
from kinpay.charges.standing import TRAIL, CircleStanding, CounterKey, Moment, Trail, Usage
from kinpay.charges.store import Ends
from kinpay.charges.write import Uses, Written
from kinpay.database.audit import Event, chain
from kinpay.primitives.errors import NotFound


def first_of_each(
    requests: Sequence[AuthorizeRequest], positions: Iterable[int], held: Container[str], verdicts: Verdicts, *, wait: bool
) -> list[int]:
    """Those positions whose circle is held. The second use of a key, code or nonce within a batch waits for the next one.

    So does whatever comes behind it in its circle, or shares a mark with it: nobody overtakes.
    """
    seen: set[Mark] = set()
    behind: set[str] = set()
    mine: list[int] = []
    for position in positions:
        request = requests[position]
        if request.circle_id not in held:
            if wait:
                verdicts.answers[position] = NotFound()
            else:
                verdicts.deferred.append(position)
            continue
        marks = marks_of(request)
        if seen.isdisjoint(marks) and request.circle_id not in behind:
            mine.append(position)
        else:
            behind.add(request.circle_id)
            verdicts.deferred.append(position)
        seen.update(marks)
    return mine


Mark = tuple[str, ...]


def marks_of(request: AuthorizeRequest) -> list[Mark]:
    """What of a request may be used once only: its key, and its code and nonce if it has them."""
    marks: list[Mark] = [("key", request.key.principal_id, request.key.operation, request.key.key)]
    if request.burn:
        marks.append(("code", request.burn.code_id))
    if request.signed:
        marks.append(("nonce", request.signed.signer_id, request.signed.nonce))
    return marks


def moments_of(standings: Mapping[str, CircleStanding], now: datetime) -> dict[str, Moment]:
    """The one `now` on each circle's wall; circles of one zone share it."""
    by_zone = {time_zone: Moment(now, time_zone) for time_zone in {circle.time_zone for circle in standings.values()}}
    return {circle.id: by_zone[circle.time_zone] for circle in standings.values()}


def windows_of(
    requests: Iterable[AuthorizeRequest], standings: Mapping[str, CircleStanding], moments: Mapping[str, Moment]
) -> tuple[list[CounterKey], dict[str, datetime]]:
    """Every window that some order of the batch may look at or use, and from when on each trailing counter's uses matter."""
    wanted: dict[CounterKey, None] = {}
    trails: dict[str, datetime] = {}
    for request in requests:
        circle, moment = standings[request.circle_id], moments[request.circle_id]
        starts = moment.starts
        for bounds in circle.counting(request.order.spender_id, request.order.credential_id):
            for counter in bounds.counters:
                if counter.trailing is None:
                    wanted[(counter.id, starts[counter.window])] = None
                else:
                    trails[counter.id] = moment.now - counter.trailing
    return list(wanted), trails


def decide_all(
    requests: Sequence[AuthorizeRequest],
    standings: Mapping[str, CircleStanding],
    moments: Mapping[str, Moment],
    usage: Usage,
    ends: Ends,
    fares: Fares,
) -> Written:
    """Decides in order of arrival; each approval is added to the usage, and the rides, that the next order sees. No I/O."""
    written = Written([], [], [], {}, dict(ends.heads), dict(ends.seqs))
    for request in requests:
        circle, moment = standings[request.circle_id], moments[request.circle_id]
        order, fare_minor = fares.priced(request) if request.at_gate else (request.order, None)
        decision = decide(order, circle, usage, moment)
        charge = _charge(request, order, decision if isinstance(decision, Approve) else None, ends)
        charge.fare_minor = fare_minor
        if isinstance(decision, Approve):
            _take(order, decision, circle.id, usage, written)
            if fare_minor is not None:
                fares.ride(request, order)
        else:
            charge.state = ChargeState.REFUSED
            charge.finished_at = ends.now
            charge.refusal = refusal_json(decision)
            if decision.mandate is not None:
                charge.mandate_id, charge.mandate_version = decision.mandate.id, decision.mandate.version
                charge.payer_id = decision.mandate.payer_id
        _note(written, charge, request, ends)
    return written


def _take(order: Order, approval: Approve, circle_id: str, usage: Usage, written: Written) -> None:
    """Adds an approved order to what the next one sees, and to what will be written."""
    for counter, span in approval.uses:
        key = (counter.id, span.start)
        part = order.amount_minor if counter.filter is None else counter.filter.part_of(order)
        gained = written.uses.get(key)
        if gained is None:
            gained = written.uses[key] = Uses(circle_id, span)
        gained.amount_minor += part
        gained.count += 1
        if counter.trailing is None:
            seen = usage[key]
            seen.amount_minor += part
            seen.count += 1
        else:
            trail = usage[(counter.id, TRAIL)]
            assert isinstance(trail, Trail)
            trail.made.append((span.start, part, 1))


def _note(written: Written, charge: Charge, request: AuthorizeRequest, ends: Ends) -> None:
    """Gives the charge its place in its circle and its link in the circle's audit lane."""
    lane = charge.circle_id
    written.last_seqs[lane] += 1
    event = Event(f"charge.{charge.state}", charge.id, audited(charge), request.key.principal_id)
    links, written.heads[lane] = chain(lane, written.heads[lane], (event,), at=ends.now)
    written.links.extend(links)
    written.charges.append(charge)
    written.seqs.append(written.last_seqs[lane])


def _charge(request: AuthorizeRequest, order: Order, approval: Approve | None, ends: Ends) -> Charge:
    return Charge(
        id=request.charge_id,
        circle_id=request.circle_id,
        operator_id=request.operator_id,
        merchant_id=order.merchant_id,
        terminal_id=request.terminal_id,
        spender_id=order.spender_id,
        mandate_id=approval.mandate.id if approval else None,
        mandate_version=approval.mandate.version if approval else None,
        agreement_id=approval.agreement.id if approval else None,
        payer_id=approval.mandate.payer_id if approval else None,
        credential_id=order.credential_id,
        method=request.method,
        mcc=order.mcc,
        currency=order.currency,
        amount_minor=order.amount_minor,
        captured_minor=None,
        refunded_minor=0,
        state=ChargeState.HELD,
        capture_at_once=request.capture,
        delivered=False,
        void_requested=False,
        late=False,
        reference=request.reference,
        refusal=None,
        items=order.items,
        face=request.face,
        decided_at=ends.now,
        hold_expires_at=ends.now + timedelta(seconds=request.hold_s) if approval else None,
        finished_at=None,
    )
