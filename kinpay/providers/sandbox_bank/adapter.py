"""The provider port over the sandbox bank's signed HTTP.

An answer that is not exactly what the page says, for exactly what was asked, is *unknown*.
Source: docs/sandbox-bank.md; providers.md §6 and §10.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import date
from io import TextIOWrapper
from itertools import islice
from tempfile import TemporaryFile
from typing import BinaryIO, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kinpay.primitives.money import EXPONENTS
from kinpay.primitives.sealed import Sealed
from kinpay.providers.contract import (
    AgreementRequest,
    AgreementState,
    BadSignature,
    Capabilities,
    DebitRequest,
    DebitState,
    Failure,
    FailureCause,
    Inbound,
    KnownDebit,
    Misconfigured,
    Notification,
    NotKnown,
    ProviderAgreement,
    ProviderDebit,
    ProviderRefund,
    RefundRequest,
    SpenderAtProvider,
    StatementLine,
    UnknownOutcome,
)
from kinpay.providers.http import MAX_ANSWER_BYTES, Answer, Kept, Transport
from kinpay.providers.sandbox_bank import signing, wire
from kinpay.providers.sandbox_bank.configuration import BankConfiguration, read_configuration
from kinpay.providers.sandbox_bank.refusal import Refusal, accepted, as_exception, believing, granted, refusal_of

STATEMENT_MAX_BYTES: Final = 4 << 30
"""It lies in a file: a million lines are some 150 MiB."""
STATEMENT_TIMEOUT_S: Final = 600.0
_LINES_AT_ONCE: Final = 1_000
"""Lines read in a thread at a time, and then given out without a pause."""

Said = TypeVar("Said", Answer, Kept)

_REFUSED_PAYERS: Final = {
    "unknown_payer_account": FailureCause.OTHER,
    "account_frozen": FailureCause.RISK,
    "limit_exceeded": FailureCause.LIMIT,
}
"""What the bank says of the payer, not of us, when an agreement is asked for."""


class SandboxBank:
    """One operator's account at the sandbox bank."""

    def __init__(
        self,
        configuration: BankConfiguration,
        *,
        secret: Sealed[bytes],
        clock: Callable[[], float] = time.time,
        nonces: Callable[[], str] = lambda: secrets.token_urlsafe(24),
    ) -> None:
        """`secret` is the client's raw Ed25519 private key; `clock` gives Unix seconds. Raises: Misconfigured."""
        self.name = "sandbox_bank"
        self.can = Capabilities(
            ad_hoc_debits=True,
            binds_spenders=True,
            cancels_debits=True,
            partial_refunds=True,
            per_debit_max_minor=None,
            currencies=frozenset(EXPONENTS),
            # Keys live for ever and a cancel closes them, so *never received* may be acted on at once by either.
            settle_grace_s=0,
        )
        try:
            self._private_key = Ed25519PrivateKey.from_private_bytes(secret.open())
        except (ValueError, TypeError):
            raise Misconfigured("secret") from None
        self._configuration = configuration
        self._transport = Transport(timeout_s=configuration.timeout_s)
        self._clock = clock
        self._nonces = nonces

    async def begin_agreement(self, request: AgreementRequest) -> ProviderAgreement:
        """Asks for an agreement; what the bank holds against the payer is a REFUSED value, without a `provider_ref`.

        Raises: Misconfigured for what it holds against us: `unknown_account`, `business_type_not_allowed` …
        """
        _check_key(request.key)
        if request.account != self._configuration.account:
            raise Misconfigured("other_account")
        body = wire.agreement_body(request)
        said = await self._ask("POST", "/v1/agreements", body)
        if isinstance(said, Refusal):
            cause = _REFUSED_PAYERS.get(said.code)
            if cause is None:
                raise Misconfigured(said.code)
            return _refused(request.key, Failure(cause=cause, code=said.code))
        with believing():
            if not wire.is_agreement_asked_for(said, body):
                raise wire.Unreadable("other_terms")
            return wire.read_agreement(said)

    async def get_agreement(self, key: str) -> ProviderAgreement:
        """The agreement under our key, as it stands. Raises: NotKnown if the bank never received the key."""
        _check_key(key)
        said = granted(await self._ask("GET", f"/v1/agreements/by-key/{key}"))
        with believing():
            seen = self._read_agreement(said)
            if seen.key != key:
                raise wire.Unreadable("other_key")
            return seen

    async def end_agreement(self, agreement_ref: str, *, reason: str) -> ProviderAgreement:
        """Ends it from our side; already ended is the same answer. Raises: NotKnown if there is no such agreement."""
        _check_reference(agreement_ref)
        said = granted(await self._ask("POST", f"/v1/agreements/{agreement_ref}/end", {"reason": reason}))
        with believing():
            seen = self._read_agreement(said, agreement_ref)
            if seen.state in (AgreementState.PENDING, AgreementState.ACTIVE):
                raise wire.Unreadable("not_ended")
            return seen

    async def bind_spender(self, agreement_ref: str, spender: SpenderAtProvider) -> ProviderAgreement:
        """Has the bank record the spender under the payer's agreement (claim 5, [0024]); idempotent by reference.

        An agreement that is no longer in force binds nobody: then it is returned as it stands. Raises: NotKnown.
        """
        _check_reference(agreement_ref)
        _check_reference(spender.ref)
        body = wire.spender_body(spender)
        said = await self._ask("POST", f"/v1/agreements/{agreement_ref}/spenders", body)
        if isinstance(said, Refusal) and said.code == "agreement_inactive":
            standing = granted(await self._ask("GET", f"/v1/agreements/{agreement_ref}"))
            with believing():
                return self._read_agreement(standing, agreement_ref)
        said = granted(said)
        with believing():
            seen = self._read_agreement(said, agreement_ref)
            if wire.spender_states(said).get(spender.ref) != "active":
                raise wire.Unreadable("not_bound")
            return seen

    async def unbind_spender(self, agreement_ref: str, *, spender_ref: str) -> ProviderAgreement:
        """Has the bank remove the spender; idempotent. Raises: NotKnown if it knows no such agreement or spender."""
        _check_reference(agreement_ref)
        _check_reference(spender_ref)
        said = granted(await self._ask("POST", f"/v1/agreements/{agreement_ref}/spenders/{spender_ref}/remove", {}))
        with believing():
            if wire.spender_states(said).get(spender_ref) == "active":
                raise wire.Unreadable("not_removed")
            return self._read_agreement(said, agreement_ref)

    async def debit(self, request: DebitRequest) -> ProviderDebit:
        """Debits the payer. Idempotent by key, for ever."""
        _check_key(request.key)
        said = accepted(await self._ask("POST", "/v1/debits", wire.debit_body(request)))
        with believing():
            return wire.read_debit(said, request)

    async def get_debit(self, request: DebitRequest) -> ProviderDebit:
        """The order under our key, as it stands. Raises: NotKnown if the bank never received the key."""
        _check_key(request.key)
        said = granted(await self._ask("GET", f"/v1/debits/by-key/{request.key}"))
        with believing():
            return wire.read_debit(said, request)

    async def look_up_debit(self, key: str) -> KnownDebit:
        """All that the bank knows of the order under a key. Raises: NotKnown, also for a key closed before it was received."""
        _check_key(key)
        said = granted(await self._ask("GET", f"/v1/debits/by-key/{key}"))
        with believing():
            known = wire.read_known_debit(said)
            if known is None:
                raise NotKnown("closed_unreceived")
            if known.debit.key != key:
                raise wire.Unreadable("other_key")
            return known

    async def cancel_debit(self, request: DebitRequest) -> ProviderDebit:
        """Closes the key for good, received or not; SUCCEEDED if it was too late."""
        _check_key(request.key)
        said = accepted(await self._ask("POST", f"/v1/debits/by-key/{request.key}/cancel", {}))
        with believing():
            seen = wire.read_debit(said, request)
            if seen.state is DebitState.PENDING:
                raise wire.Unreadable("not_final")
            return seen

    async def refund(self, request: RefundRequest) -> ProviderRefund:
        """Gives money back; more than the rest is FAILED with `over_refund`. Idempotent by key."""
        _check_key(request.key)
        _check_key(request.debit_key)
        said = accepted(await self._ask("POST", "/v1/refunds", wire.refund_body(request)))
        with believing():
            return wire.read_refund(said, request)

    async def get_refund(self, request: RefundRequest) -> ProviderRefund:
        """The refund under our key, as it stands. Raises: NotKnown if the bank never received the key."""
        _check_key(request.key)
        said = granted(await self._ask("GET", f"/v1/refunds/by-key/{request.key}"))
        with believing():
            return wire.read_refund(said, request)

    def receive(self, inbound: Inbound) -> Notification:
        """Verifies a callback by the pinned keys and reads it. Pure.

        A verified event of a kind, or in a form, that we cannot read says nothing (`seen` None): the truth is then
        found by query. Raises: BadSignature, also if the body names another event than the signature.
        """
        event_id = signing.verify_event(inbound, self._configuration.bank_keys)
        try:
            event = wire.read_object(inbound.body)
        except wire.Unreadable as error:
            raise BadSignature("body") from error
        if event.get("event_id") != event_id:
            raise BadSignature("other_event")
        try:
            return Notification(notice_id=event_id, seen=self._read_event(event))
        except wire.Unreadable:
            return Notification(notice_id=event_id, seen=None)

    async def statement(self, day: date) -> AsyncGenerator[StatementLine, None]:
        """The bank's own account of one UTC day: whole and verified before the first line is given out.

        It comes into a file, and is read by a thread, so that nobody else who is served by this process waits for it.

        Raises: UnknownOutcome, also at a line that cannot be read; NotExecuted; Misconfigured; NotKnown if the bank has no
        statement of that day.
        """
        path = f"/v1/statements/{day.isoformat()}.csv"
        with TextIOWrapper(TemporaryFile(), encoding="utf-8", newline="") as table:
            kept = await self._keep(path, table.buffer)
            table.seek(0)
            refusal = refusal_of(kept.status, lambda: table.buffer.read(MAX_ANSWER_BYTES))
            if refusal is not None:
                raise as_exception(refusal)
            lines = wire.read_statement(table, day)
            with believing():
                while some := await asyncio.to_thread(lambda: list(islice(lines, _LINES_AT_ONCE))):
                    for line in some:
                        yield line

    async def close(self) -> None:
        """Lets go of connections."""
        await self._transport.close()

    async def _ask(self, method: str, path: str, data: wire.Json | None = None) -> wire.Json | Refusal:
        """One signed exchange of JSON; the bank's verified word, granted or refused."""
        answer = await self._exchange(method, path, b"" if data is None else wire.write_object(data))
        refusal = refusal_of(answer.status, lambda: answer.body)
        if refusal is not None:
            return refusal
        with believing():
            return wire.read_object(answer.body)

    async def _exchange(
        self,
        method: str,
        path: str,
        body: bytes = b"",
    ) -> Answer:
        nonce = self._nonces()
        headers = self._signed(method, path, body, nonce=nonce)
        if body:
            headers["Content-Type"] = "application/json"
        answer = await self._transport.send(method, self._configuration.base_url + path, headers=headers, body=body)
        return self._verified(answer, nonce=nonce)

    async def _keep(self, path: str, file: BinaryIO) -> Kept:
        """One signed question whose long answer goes into a file."""
        nonce = self._nonces()
        kept = await self._transport.fetch(
            self._configuration.base_url + path,
            file,
            headers=self._signed("GET", path, b"", nonce=nonce),
            timeout_s=max(STATEMENT_TIMEOUT_S, self._configuration.timeout_s),
            max_bytes=STATEMENT_MAX_BYTES,
        )
        return self._verified(kept, nonce=nonce)

    def _signed(self, method: str, path: str, body: bytes, *, nonce: str) -> dict[str, str]:
        authorization = signing.authorization(
            self._private_key,
            client_id=self._configuration.client_id,
            method=method,
            path=path,
            body=body,
            timestamp=int(self._clock()),
            nonce=nonce,
        )
        return {"Authorization": authorization}

    def _verified(self, answer: Said, *, nonce: str) -> Said:
        try:
            signing.verify_answer(answer, self._configuration.bank_keys, nonce=nonce)
        except BadSignature as error:
            raise UnknownOutcome(f"answer_not_signed: {error}") from error
        return answer

    def _read_agreement(self, data: wire.Json, agreement_ref: str | None = None) -> ProviderAgreement:
        seen = wire.read_agreement(data)
        if data.get("account") != self._configuration.account:
            raise wire.Unreadable("other_account")
        if agreement_ref is not None and seen.provider_ref != agreement_ref:
            raise wire.Unreadable("other_agreement")
        return seen

    def _read_event(self, event: wire.Json) -> ProviderAgreement | ProviderDebit | ProviderRefund | None:
        kind, data = event.get("type"), event.get("data")
        if not isinstance(kind, str) or not isinstance(data, dict):
            return None
        if kind in _AGREEMENT_EVENTS:
            return self._read_agreement(data)
        if kind in _DEBIT_EVENTS:
            return wire.read_debit(data)
        return wire.read_refund(data) if kind in _REFUND_EVENTS else None


_AGREEMENT_EVENTS: Final = frozenset(
    ("agreement.active", "agreement.refused", "agreement.expired", "agreement.ended", "agreement.spender_removed")
)
_DEBIT_EVENTS: Final = frozenset(("debit.succeeded", "debit.failed", "debit.cancelled"))
_REFUND_EVENTS: Final = frozenset(("refund.succeeded", "refund.failed"))


def open_sandbox_bank(configuration: Mapping[str, object], secret: Sealed[bytes]) -> SandboxBank:
    """The adapter for one provider account. Raises: Misconfigured."""
    return SandboxBank(read_configuration(configuration), secret=secret)


def _refused(key: str, failure: Failure) -> ProviderAgreement:
    return ProviderAgreement(
        key=key,
        provider_ref="",
        state=AgreementState.REFUSED,
        action_url=None,
        expires_at=None,
        payer_account_id=None,
        ended_by=None,
        failure=failure,
    )


def _check_key(key: str) -> None:
    if not wire.is_key(key):
        raise ValueError("not a key that the bank takes")


def _check_reference(reference: str) -> None:
    if not wire.is_reference(reference):
        raise ValueError("not a reference that can stand in a path")
