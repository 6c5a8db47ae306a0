"""A provider whose every answer is scripted, with honest books of its own: what it did is known, whatever it said."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Literal, NoReturn

from kinpay.providers.contract import (
    AgreementRequest,
    BadSignature,
    Capabilities,
    DebitRequest,
    DebitState,
    Failure,
    FailureCause,
    Inbound,
    NotExecuted,
    Notification,
    NotKnown,
    Provider,
    ProviderAgreement,
    ProviderDebit,
    ProviderRefund,
    RefundRequest,
    SpenderAtProvider,
    StatementLine,
    UnknownOutcome,
)

Step = Literal["pays", "fails", "pends", "lost_before", "lost_after_paying", "lost_after_failing", "lost_pending", "unreached"]
STEPS: tuple[Step, ...] = (
    "pays", "fails", "pends", "lost_before", "lost_after_paying", "lost_after_failing", "lost_pending", "unreached",
)  # fmt: skip
_DOES: dict[Step, DebitState | None] = {
    "pays": DebitState.SUCCEEDED,
    "fails": DebitState.FAILED,
    "pends": DebitState.PENDING,
    "lost_after_paying": DebitState.SUCCEEDED,
    "lost_after_failing": DebitState.FAILED,
    "lost_pending": DebitState.PENDING,
    "lost_before": None,
    "unreached": None,
}
NO_FUNDS = Failure(cause=FailureCause.FUNDS, code="insufficient_funds")
CLOSED = Failure(cause=FailureCause.CLOSED, code="closed")

ABLE = Capabilities(
    ad_hoc_debits=True,
    binds_spenders=True,
    cancels_debits=True,
    partial_refunds=True,
    per_debit_max_minor=None,
    currencies=frozenset({"CNY"}),
    settle_grace_s=0,
)


@dataclass
class Order:
    """A debit or refund in the provider's own books."""

    request: DebitRequest | RefundRequest
    state: DebitState
    failure: Failure | None = None
    received: int = 1

    @property
    def minor(self) -> int:
        """What it is over."""
        return self.request.amount.minor


@dataclass
class ScriptedBank:
    """The provider; also where adapters come from: it is the one for every account."""

    steps: deque[Step] = field(default_factory=deque)
    refund_steps: deque[Step] = field(default_factory=deque)
    query_steps: deque[Step] = field(default_factory=deque)
    cancel_steps: deque[Step] = field(default_factory=deque)
    debits: dict[str, Order] = field(default_factory=dict)
    refunds: dict[str, Order] = field(default_factory=dict)
    name: str = "scripted"
    before_debit: Callable[[str], None] | None = None
    can: Capabilities = ABLE

    async def adapter(self, provider_account_id: str) -> Provider:
        """Itself."""
        return self

    async def debit(self, request: DebitRequest) -> ProviderDebit:
        """Carries out the next step, once for each key."""
        if self.before_debit is not None:
            self.before_debit(request.key)
        step = self.steps.popleft() if self.steps else "pays"
        known = self.debits.get(request.key)
        if known is not None:
            known.received += 1
            assert (known.request.amount, known.request.key) == (request.amount, request.key), "another body under one key"
        elif (state := _DOES[step]) is not None:
            self.debits[request.key] = Order(request, state, NO_FUNDS if state is DebitState.FAILED else None)
        _be_lost(step)
        return self.seen(request.key)

    async def get_debit(self, request: DebitRequest) -> ProviderDebit:
        """What is in the books."""
        _be_lost(self.query_steps.popleft() if self.query_steps else "pays")
        if request.key not in self.debits:
            raise NotKnown
        return self.seen(request.key)

    async def cancel_debit(self, request: DebitRequest) -> ProviderDebit:
        """Closes the key for good."""
        step = self.cancel_steps.popleft() if self.cancel_steps else "pays"
        if step in ("lost_before", "unreached"):
            _be_lost(step)
        order = self.debits.setdefault(request.key, Order(request, DebitState.PENDING, received=0))
        if order.state is DebitState.PENDING:
            order.state, order.failure = DebitState.FAILED, CLOSED
        _be_lost(step)
        return self.seen(request.key)

    async def refund(self, request: RefundRequest) -> ProviderRefund:
        """Carries out the next step, once for each key; never more than was debited."""
        step = self.refund_steps.popleft() if self.refund_steps else "pays"
        if request.key in self.refunds:
            self.refunds[request.key].received += 1
        elif (state := _DOES[step]) is not None:
            fits = self.kept_minor(request.debit_key, pending=True) >= request.amount.minor
            assert fits, "asked back more than was debited"
            self.refunds[request.key] = Order(request, state, NO_FUNDS if state is DebitState.FAILED else None)
        _be_lost(step)
        return self.refund_seen(request.key)

    async def get_refund(self, request: RefundRequest) -> ProviderRefund:
        """What is in the books."""
        _be_lost(self.query_steps.popleft() if self.query_steps else "pays")
        if request.key not in self.refunds:
            raise NotKnown
        return self.refund_seen(request.key)

    def seen(self, key: str) -> ProviderDebit:
        """A debit as it is told."""
        order = self.debits[key]
        return ProviderDebit(
            key=key,
            provider_ref=f"b{key}",
            state=order.state,
            amount=order.request.amount,
            failure=order.failure,
            finished_at=None if order.state is DebitState.PENDING else datetime.now(UTC),
        )

    def refund_seen(self, key: str) -> ProviderRefund:
        """A refund as it is told."""
        order = self.refunds[key]
        assert isinstance(order.request, RefundRequest)
        return ProviderRefund(
            key=key,
            debit_key=order.request.debit_key,
            provider_ref=f"r{key}",
            state=order.state,
            amount=order.request.amount,
            failure=order.failure,
        )

    def kept_minor(self, debit_key: str, *, pending: bool = False) -> int:
        """What of a debit the payer has not got back."""
        order = self.debits.get(debit_key)
        if order is None or order.state is not DebitState.SUCCEEDED:
            return 0
        gone = (DebitState.SUCCEEDED, DebitState.PENDING) if pending else (DebitState.SUCCEEDED,)
        back = [r.minor for r in self.refunds.values() if _debit_key(r) == debit_key and r.state in gone]
        return order.minor - sum(back)

    def finish(self, key: str, *, paid: bool) -> None:
        """Ends a pending debit or refund; a failed debit may turn out to have been paid all the time."""
        order = self.debits.get(key) or self.refunds[key]
        order.state = DebitState.SUCCEEDED if paid else DebitState.FAILED
        order.failure = None if paid else NO_FUNDS

    def keys(self, state: DebitState) -> list[str]:
        """The debits in a state."""
        return [key for key, order in self.debits.items() if order.state is state]

    async def begin_agreement(self, request: AgreementRequest) -> ProviderAgreement:
        _not_asked()

    async def get_agreement(self, key: str) -> ProviderAgreement:
        _not_asked()

    async def end_agreement(self, agreement_ref: str, *, reason: str) -> ProviderAgreement:
        _not_asked()

    async def bind_spender(self, agreement_ref: str, spender: SpenderAtProvider) -> ProviderAgreement:
        _not_asked()

    async def unbind_spender(self, agreement_ref: str, *, spender_ref: str) -> ProviderAgreement:
        _not_asked()

    def receive(self, inbound: Inbound) -> Notification:
        raise BadSignature

    async def statement(self, day: date) -> AsyncGenerator[StatementLine, None]:
        _not_asked()
        yield

    async def close(self) -> None:
        """Nothing to let go of."""


def _debit_key(order: Order) -> str:
    assert isinstance(order.request, RefundRequest)
    return order.request.debit_key


def _be_lost(step: Step) -> None:
    if step == "unreached":
        raise NotExecuted
    if step.startswith("lost"):
        raise UnknownOutcome


def _not_asked() -> NoReturn:
    raise AssertionError("no test asks this of the scripted provider")
