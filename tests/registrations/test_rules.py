"""What a registration is, by itself."""

from __future__ import annotations

from datetime import UTC, date, datetime
from itertools import product

import pytest

from kinpay.registrations.registration import (
    CAPTURE_LIFE,
    REGISTRATION_LIFE,
    BindingOrder,
    CaptureState,
    Item,
    Registration,
    RegistrationState,
    Rules,
    capture_is_due,
    required,
    waiting_for,
)
from kinpay.registrations.request import years_old

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def registration(
    order: BindingOrder, ticked: frozenset[Item], *, state: RegistrationState = RegistrationState.OPEN
) -> Registration:
    return Registration(
        id="0" * 32, operator_id="1" * 32, scan_id=None, terminal_id="2" * 32, business_type="proxy", binding_order=order,
        spender_id="3" * 32, payer_id=None, payer_account="mother", match_number=42, state=state, circle_id=None,
        mandate_id=None, agreement_id=None, template_id=None,
        consented_at=NOW if Item.CONSENT in ticked else None,
        agreement_active_at=NOW if Item.AGREEMENT in ticked else None,
        enrolled_at=NOW if Item.ENROLMENT in ticked else None,
        created_at=NOW, expires_at=NOW, closed_at=None,
    )  # fmt: skip


def test_every_state_can_be_reached() -> None:
    assert REGISTRATION_LIFE.reachable() == frozenset(RegistrationState)
    assert CAPTURE_LIFE.reachable() == frozenset(CaptureState)


@pytest.mark.parametrize("order", list(BindingOrder))
def test_it_waits_for_exactly_what_is_required_and_not_ticked(order: BindingOrder) -> None:
    for chosen in product([True, False], repeat=3):
        ticked = frozenset(item for item, on in zip(Item, chosen, strict=True) if on)
        assert set(waiting_for(registration(order, ticked))) == set(required(order)) - ticked
        closed = registration(order, ticked, state=RegistrationState.EXPIRED)
        assert waiting_for(closed) == ()
        assert not capture_is_due(closed)


def test_a_capture_is_due_at_once_in_order_b_last_in_order_a_never_in_order_c() -> None:
    rest = frozenset({Item.CONSENT, Item.AGREEMENT})
    assert not capture_is_due(registration(BindingOrder.A, frozenset()))
    assert not capture_is_due(registration(BindingOrder.A, frozenset({Item.CONSENT})))
    assert capture_is_due(registration(BindingOrder.A, rest))
    assert capture_is_due(registration(BindingOrder.B, frozenset()))
    assert capture_is_due(registration(BindingOrder.B, rest))
    assert not capture_is_due(registration(BindingOrder.B, rest | {Item.ENROLMENT}))
    assert not any(capture_is_due(registration(BindingOrder.C, ticked)) for ticked in (frozenset(), rest))


def test_a_provisional_template_lives_for_at_most_a_quarter_of_an_hour() -> None:
    assert Rules().provisional_life.total_seconds() <= 15 * 60


@pytest.mark.parametrize(
    ("born", "today", "years"),
    [
        (date(2012, 3, 2), date(2026, 3, 2), 14),
        (date(2012, 3, 3), date(2026, 3, 2), 13),
        (date(2012, 2, 29), date(2026, 2, 28), 13),
        (date(2012, 2, 29), date(2026, 3, 1), 14),
    ],
)
def test_years_are_counted_whole(born: date, today: date, years: int) -> None:
    assert years_old(born, today) == years
