"""The sandbox bank's JSON and CSV, to and from the port's values. Pure; whatever does not read exactly is `Unreadable`.

Source: docs/sandbox-bank.md §3-5.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from ipaddress import ip_address
from typing import Final, NoReturn
from urllib.parse import urlsplit

from kinpay.primitives.money import EXPONENTS, MAX_MINOR, Money
from kinpay.providers.contract import (
    AgreementRequest,
    AgreementState,
    DebitRequest,
    DebitState,
    Failure,
    FailureCause,
    KnownDebit,
    ProviderAgreement,
    ProviderDebit,
    ProviderRefund,
    RefundRequest,
    SpenderAtProvider,
    StatementLine,
)

Json = Mapping[str, object]

STATEMENT_COLUMNS: Final = (
    "kind", "key", "debit_key", "agreement_id", "spender_ref", "amount_minor", "currency", "finished_at",
)  # fmt: skip

_KEY = re.compile(r"[A-Za-z0-9]{1,32}", re.ASCII)
_REFERENCE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,16}", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]00:00)", re.ASCII)

_CAUSES: Final = {
    "insufficient_funds": FailureCause.FUNDS,
    "limit_exceeded": FailureCause.LIMIT,
    "agreement_inactive": FailureCause.AGREEMENT,
    "spender_removed": FailureCause.AGREEMENT,
    "account_frozen": FailureCause.RISK,
    "risk": FailureCause.RISK,
    "closed": FailureCause.CLOSED,
}


class Unreadable(ValueError):
    """Not what the page says: nothing may be concluded from it, success or failure."""


def read_object(body: bytes) -> Json:
    """A JSON object without doubled names, non-finite numbers or bottomless nesting. Raises: Unreadable."""
    try:
        data = json.loads(body.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise Unreadable("json") from error
    if not isinstance(data, dict):
        raise Unreadable("not_an_object")
    return data


def write_object(data: Json) -> bytes:
    """The same bytes for the same data, always: a repeated key must come with an identical body."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def is_key(text: object) -> bool:
    """Whether the bank takes `text` as a key."""
    return isinstance(text, str) and _KEY.fullmatch(text) is not None


def is_reference(text: object) -> bool:
    """Whether `text` can stand in a path as it is, so that there is only one way to sign it."""
    return isinstance(text, str) and _REFERENCE.fullmatch(text) is not None


def is_web_address(text: str) -> bool:
    """Whether `text` is an absolute https address; http is for the machine itself."""
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))


def write_moment(moment: datetime) -> str:
    """RFC 3339 in UTC, to the microsecond. Raises: ValueError for a naive time."""
    if moment.tzinfo is None:
        raise ValueError("naive time")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def read_moment(text: object) -> datetime:
    """The inverse of `write_moment`. Raises: Unreadable, also for offsets other than UTC."""
    if not isinstance(text, str) or not _MOMENT.fullmatch(text):
        raise Unreadable("time")
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00").replace("-00:00", "+00:00")).astimezone(UTC)
    except ValueError as error:
        raise Unreadable("time") from error


def read_money(data: Json) -> Money:
    """`amount_minor` (positive, whole) and `currency`. Raises: Unreadable."""
    return _money(data.get("amount_minor"), data.get("currency"))


def agreement_body(request: AgreementRequest) -> Json:
    """The body of `POST /v1/agreements`."""
    return {
        "key": request.key,
        "payer_account": request.payer_account,
        "account": request.account,
        "business_type": request.business_type,
        "limits": {
            "per_debit_minor": request.per_debit_minor,
            "per_day_minor": request.per_day_minor,
            "currency": request.currency,
        },
        "valid_until": None if request.valid_until is None else write_moment(request.valid_until),
        "return_url": request.return_url,
        "spender": None if request.spender is None else spender_body(request.spender),
    }


def spender_body(spender: SpenderAtProvider) -> Json:
    """The body of `POST /v1/agreements/{id}/spenders`."""
    return {"ref": spender.ref, "name": spender.name}


def debit_body(request: DebitRequest) -> Json:
    """The body of `POST /v1/debits`."""
    return {
        "key": request.key,
        "agreement_id": request.agreement_ref,
        "spender_ref": request.spender_ref,
        "amount_minor": request.amount.minor,
        "currency": request.amount.currency,
        "description": request.description,
    }


def refund_body(request: RefundRequest) -> Json:
    """The body of `POST /v1/refunds`."""
    return {
        "key": request.key,
        "debit_key": request.debit_key,
        "amount_minor": request.amount.minor,
        "currency": request.amount.currency,
    }


def read_agreement(data: Json) -> ProviderAgreement:
    """An `Agreement`. Raises: Unreadable, also for states the page does not name."""
    state = _agreement_state(data)
    payer_account_id = _optional_text(data, "payer_account_id")
    action_url = _web_address(data, "approve_url") if state is AgreementState.PENDING else None
    if state is AgreementState.ACTIVE and not payer_account_id:
        raise Unreadable("active_without_payer")
    return ProviderAgreement(
        key=_key(data, "key"),
        provider_ref=_reference(data, "agreement_id"),
        state=state,
        action_url=action_url,
        expires_at=None if data.get("expires_at") is None else read_moment(data["expires_at"]),
        payer_account_id=payer_account_id,
        ended_by=_optional_text(data, "ended_by"),
        removed_spender_refs=frozenset(ref for ref, state_there in spender_states(data).items() if state_there == "removed"),
        failure=Failure(cause=FailureCause.AGREEMENT, code=_text(data, "state")) if state is AgreementState.REFUSED else None,
    )


def spender_states(data: Json) -> dict[str, str]:
    """The spenders of an `Agreement`: reference → `active` or `removed`. Raises: Unreadable."""
    spenders = data.get("spenders")
    if not isinstance(spenders, list):
        raise Unreadable("spenders")
    states: dict[str, str] = {}
    for spender in spenders:
        if not isinstance(spender, dict):
            raise Unreadable("spenders")
        reference, state = _text(spender, "ref"), _text(spender, "state")
        if state not in ("active", "removed") or reference in states:
            raise Unreadable("spenders")
        states[reference] = state
    return states


def is_agreement_asked_for(data: Json, body: Json) -> bool:
    """Whether an `Agreement` carries the terms of our request, not another's."""
    return all(data.get(name) == body[name] for name in ("key", "account", "business_type", "limits"))


def read_debit(data: Json, asked: DebitRequest | None = None) -> ProviderDebit:
    """A `Debit`; if `asked` is given it must be that order, to the last unit.

    A key that was closed before it was received is all that the bank knows of the order: it may come without amount
    and agreement, and then has those that were asked. Raises: Unreadable.
    """
    key = _key(data, "key")
    state, failure = _outcome(data, extra={"cancelled": (DebitState.FAILED, FailureCause.CLOSED)})
    never_received = failure is not None and failure.cause is FailureCause.CLOSED and not data.get("amount_minor")
    if asked is not None and key != asked.key:
        raise Unreadable("other_key")
    amount = asked.amount if asked is not None and never_received else read_money(data)
    if asked is not None and not never_received:
        terms = (amount, data.get("agreement_id"), data.get("spender_ref"))
        if terms != (asked.amount, asked.agreement_ref, asked.spender_ref):
            raise Unreadable("other_terms")
    return ProviderDebit(
        key=key,
        provider_ref=_optional_text(data, "debit_id") or "" if never_received else _text(data, "debit_id"),
        state=state,
        amount=amount,
        failure=failure,
        finished_at=None if data.get("finished_at") is None else read_moment(data["finished_at"]),
    )


def read_known_debit(data: Json) -> KnownDebit | None:
    """A `Debit` with whatever else the bank knows of it; None for a key that was closed unreceived. Raises: Unreadable."""
    if not data.get("amount_minor"):
        return None
    description = data.get("description")
    if not isinstance(description, str):
        raise Unreadable("description")
    return KnownDebit(
        debit=read_debit(data),
        agreement_ref=_reference(data, "agreement_id"),
        spender_ref=_optional_text(data, "spender_ref"),
        description=description,
    )


def read_refund(data: Json, asked: RefundRequest | None = None) -> ProviderRefund:
    """A `Refund`; if `asked` is given it must be that one. Raises: Unreadable."""
    state, failure = _outcome(data, extra={})
    seen = ProviderRefund(
        key=_key(data, "key"),
        debit_key=_key(data, "debit_key"),
        provider_ref=_text(data, "refund_id"),
        state=state,
        amount=read_money(data),
        failure=failure,
    )
    if asked is not None and (seen.key, seen.debit_key, seen.amount) != (asked.key, asked.debit_key, asked.amount):
        raise Unreadable("other_terms")
    return seen


def read_refusal(body: bytes) -> str:
    """The `code` of an answer that refuses. Raises: Unreadable."""
    code = read_object(body).get("code")
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise Unreadable("code")
    return code


def read_statement(table: Iterable[str], day: date) -> Iterator[StatementLine]:
    """The lines of one UTC day's CSV, one by one; wrong in one place, none is to be believed. Raises: Unreadable, there."""
    rows = csv.reader(table, strict=True)
    try:
        if tuple(next(rows, ())) != STATEMENT_COLUMNS:
            raise Unreadable("columns")
        for row in rows:
            yield _line(row, day)
    except (UnicodeDecodeError, csv.Error) as error:
        raise Unreadable("csv") from error


def _line(row: list[str], day: date) -> StatementLine:
    """There may be a million of them."""
    if len(row) != len(STATEMENT_COLUMNS):
        raise Unreadable("columns")
    kind, key, debit_key, _, _, amount_minor, currency, finished = row
    if kind not in ("debit", "refund"):
        raise Unreadable("kind")
    if not is_key(key) or (debit_key and not is_key(debit_key)):
        raise Unreadable("key")
    if not _WHOLE.fullmatch(amount_minor):
        raise Unreadable("amount")
    finished_at = read_moment(finished)
    if finished_at.date() != day:
        raise Unreadable("other_day")
    amount = _money(int(amount_minor), currency)
    return StatementLine(kind=kind, key=key, debit_key=debit_key or None, amount=amount, finished_at=finished_at)


def _agreement_state(data: Json) -> AgreementState:
    state = data.get("state")
    if state == "expired":
        # Only a pending agreement lapses unsigned; one that had told us the payer was in force until then.
        return AgreementState.REFUSED if data.get("payer_account_id") is None else AgreementState.ENDED
    if not isinstance(state, str) or state not in ("pending", "active", "refused", "ended"):
        raise Unreadable("state")
    return AgreementState(state)


def _outcome(data: Json, *, extra: Mapping[str, tuple[DebitState, FailureCause]]) -> tuple[DebitState, Failure | None]:
    """The state, and the failure that a failed one must and no other may have."""
    state, failure = data.get("state"), data.get("failure")
    if isinstance(state, str) and state in extra:
        mapped, cause = extra[state]
        return mapped, Failure(cause=cause, code=state)
    if not isinstance(state, str) or state not in ("succeeded", "pending", "failed"):
        raise Unreadable("state")
    if state != "failed":
        if failure is not None:
            raise Unreadable("failure")
        return DebitState(state), None
    if not isinstance(failure, dict):
        raise Unreadable("failure")
    code = _text(failure, "code")
    return DebitState.FAILED, Failure(cause=_CAUSES.get(code, FailureCause.OTHER), code=code)


def _money(minor: object, currency: object) -> Money:
    if not isinstance(minor, int) or isinstance(minor, bool) or not 0 < minor <= MAX_MINOR:
        raise Unreadable("amount")
    if not isinstance(currency, str) or currency not in EXPONENTS:
        raise Unreadable("currency")
    return Money(minor, currency)


def _text(data: Json, name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise Unreadable(name)
    return value


def _optional_text(data: Json, name: str) -> str | None:
    return None if data.get(name) is None else _text(data, name)


def _key(data: Json, name: str) -> str:
    value = _text(data, name)
    if not is_key(value):
        raise Unreadable(name)
    return value


def _web_address(data: Json, name: str) -> str:
    """A page that a person may be sent to: never another scheme, however well it is signed."""
    address = _text(data, name)
    if not is_web_address(address):
        raise Unreadable(name)
    return address


def _reference(data: Json, name: str) -> str:
    value = _text(data, name)
    if not is_reference(value):
        raise Unreadable(name)
    return value


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a name twice")
    return data


def _constant(text: str) -> NoReturn:
    raise ValueError(text)
