"""A day's debit that was lost: its charges are found one by one, by what the provider was told of them, or made again.

Where it cannot be told of which charges it was, nothing is booked and nothing is sent: the next try would debit them twice.
Source: semantics.md "Charge" (daily debit); reliability.md F26.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import product
from typing import Final

from kinpay.charges.books import write_debit
from kinpay.charges.charge import ChargeState
from kinpay.charges.description import Said, SaidPart, digest_of
from kinpay.charges.request import Charge
from kinpay.charges.store import CHARGE_COLUMNS, charge_of
from kinpay.database.audit import record
from kinpay.database.sql import Sql
from kinpay.recovery.known_charge import take_known
from kinpay.recovery.lost import Booked, LostDebit
from kinpay.recovery.lost_charge import BETWEEN, find_charge, make_again
from kinpay.recovery.unknown_seller import seller_of


async def book_day(lost: LostDebit, said: Said, day: date) -> Booked:
    """Writes the debit with its charges; to be settled then. Raises: Objection where it does not fit what is here."""
    if said.parts is None:
        shares = [(charge, charge.debited_minor) for charge in await _whole(lost, day, said.digest)]
        return await _book(lost, day, shares, [], doubt=None)
    found = [(part, await find_charge(lost, part)) for part in said.parts]
    shares = [(charge, part.amount_minor or charge.debited_minor) for part, charge in found if charge is not None]
    missing = [part for part, charge in found if charge is None]
    if len({charge.id for charge, _ in shares}) < len(shares):
        raise lost.objection("day_differs")
    rest_minor = lost.known.debit.amount.minor - sum(amount_minor for _, amount_minor in shares)
    if missing and missing[0].amount_minor is None:
        return await _book(lost, day, shares, _divided(lost, missing, rest_minor), doubt="seller not known")
    return await _book(lost, day, shares, [(part, part.amount_minor or 0) for part in missing], doubt=None)


def _divided(lost: LostDebit, missing: Sequence[SaidPart], rest_minor: int) -> list[tuple[SaidPart, int]]:
    """How much each was is not known, only what they were together."""
    each_minor, more_minor = divmod(rest_minor, len(missing))
    if each_minor < 1:
        raise lost.objection("day_differs")
    return [(part, each_minor + (more_minor if number == 0 else 0)) for number, part in enumerate(missing)]


async def _book(
    lost: LostDebit,
    day: date,
    shares: Sequence[tuple[Charge, int]],
    missing: Sequence[tuple[SaidPart, int]],
    *,
    doubt: str | None,
) -> Booked:
    if sum(amount_minor for _, amount_minor in [*shares, *missing]) != lost.known.debit.amount.minor:
        raise lost.objection("day_differs")
    owed = any(charge.state is ChargeState.ARREARS for charge, _ in shares)
    charges = []
    for charge, amount_minor in shares:
        await take_known(lost, charge, amount_minor=amount_minor, day=day)
        charges.append(charge)
    for part, amount_minor in missing:
        seller = await seller_of(lost.conn, lost.circle.operator_id, terminal_end=part.terminal_end, now=lost.now)
        doubt = doubt if seller.known else "seller not known"
        charges.append(await make_again(lost, part, seller, amount_minor=amount_minor, day=day))
    if not charges:
        raise lost.objection("day_differs")
    kind = "arrears" if owed else "daily"
    _, sent = await write_debit(
        lost.conn, charges, kind=kind, day=day, now=lost.now, debit_id=lost.key, agreement_id=lost.agreement["id"]
    )
    await record(lost.conn, lost.circle.id, sent, now=lost.now)
    return Booked(charge_ids=tuple(charge.id for charge in charges), doubt=doubt)


OF_DAY = Sql(f"""
    SELECT {CHARGE_COLUMNS} FROM charge
    WHERE circle_id = :circle_id AND payer_id = :payer_id AND decided_at > :since AND currency = :currency
      AND (due_on = :day AND state IN ('due', 'submitted', 'arrears') OR state = 'held')
    ORDER BY decided_at, id FOR UPDATE
""")


async def _whole(lost: LostDebit, day: date, digest: str | None) -> list[Charge]:
    """The payer's charges of that day, on whatever agreement, that this debit was for: by its digest.

    Debits from before descriptions told anything of their charges have none: then by the amount, if just one choice comes
    to it. Raises: Objection if none is found.
    """
    amount = lost.known.debit.amount
    rows = await OF_DAY.rows(
        lost.conn,
        circle_id=lost.circle.id,
        payer_id=lost.agreement["payer_id"],
        since=(lost.known.debit.finished_at or lost.now) - BETWEEN,
        currency=amount.currency,
        day=day,
    )
    choices: dict[tuple[str, ...], list[Charge]] = {}
    for run in _runs([charge_of(row) for row in rows], amount.minor):
        ids = tuple(sorted(charge.id for charge in run))
        if digest is None or digest_of(ids) == digest:
            choices[ids] = run
    if len(choices) != 1:
        raise lost.objection("day_differs")
    return next(iter(choices.values()))


_TOGETHER: Final = (
    {ChargeState.DUE},
    {ChargeState.DUE, ChargeState.HELD},
    {ChargeState.ARREARS},
    {ChargeState.SUBMITTED},
    set(ChargeState),
)


def _runs(charges: Sequence[Charge], amount_minor: int) -> Iterator[list[Charge]]:
    """Whatever may have been frozen together and comes to the amount: of those that stood alike, on one agreement or on
    several, some in a row.
    """
    agreements = {charge.agreement_id for charge in charges}
    for states, of in product(_TOGETHER, [*({agreement_id} for agreement_id in agreements), agreements]):
        alike = [charge for charge in charges if charge.state in states and charge.agreement_id in of]
        for start in range(len(alike)):
            total = 0
            for end in range(start, len(alike)):
                total += alike[end].debited_minor
                if total >= amount_minor:
                    break
            if total == amount_minor:
                yield alike[start : end + 1]
