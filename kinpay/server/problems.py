"""Every error as a problem document: one table from code to status and words, complete by test.

Source: RFC 9457. Refusals of charges are values, not problems (`charges/decide.py`).
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from kinpay.primitives.errors import Busy, Conflict, KinpayError, NotFound
from kinpay.primitives.ids import new_id
from kinpay.server.asgi import Headers
from kinpay.server.guard import BodyMalformed

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = b"application/problem+json"
MAX_ERRORS: Final = 20
_RESERVED: Final = frozenset({"type", "title", "status", "detail", "instance", "code", "errors", "incident"})
_FIELD = re.compile(r"[^A-Za-z0-9_.\-]")


class MethodNotAllowed(KinpayError):
    """The path exists, but not with this method; `Allow` names those that do."""

    code = "method-not-allowed"


@dataclass(frozen=True, slots=True)
class Words:
    """What an error is to an asker. `ours`: the fault is on this side, so the asker is told an incident and no facts."""

    status: int
    en: str
    zh: str
    ours: bool = False


WORDS: Final[Mapping[str, Words]] = {
    "ambiguous-credentials": Words(401, "Two kinds of credentials in one request.", "一个请求里有两种身份凭证。"),
    "body-too-large": Words(413, "The request's body is too large.", "请求内容过大。"),
    "busy": Words(
        503,
        "Busy at the moment. Nothing was changed; send the same request again.",
        "系统繁忙，什么都没有改变，请重发同一请求。",
    ),
    "charged-before": Words(
        409, "This request was charged before the restore; it is not charged again.", "此请求在系统恢复前已扣款，不会再次扣款。"
    ),
    "check-code-altered": Words(422, "This code is not one of ours, or was changed.", "此码不是本系统签发的，或已被改动。"),
    "check-code-expired": Words(410, "This code has expired; scan the new one.", "此码已过期，请扫描新的码。"),
    "check-code-other-terminal": Words(409, "This code belongs to another terminal.", "此码属于另一台终端。"),
    "check-code-used": Words(409, "This code was used already; scan the new one.", "此码已被使用，请扫描新的码。"),
    "conflict": Words(409, "Somebody else changed this, or it exists already.", "已被他人更改，或已经存在。"),
    "emv-code-malformed": Words(422, "This is not a well-formed EMVCo code.", "此码不符合 EMVCo 二维码格式。"),
    "forbidden": Words(403, "You may not do this.", "您无权执行此操作。"),
    "idempotency-key-in-use": Words(
        409,
        "The first request under this Idempotency-Key is still being carried out.",
        "使用此 Idempotency-Key 的首个请求仍在处理中。",
    ),
    "idempotency-key-missing": Words(400, "This request needs an Idempotency-Key.", "此请求需要 Idempotency-Key。"),
    "idempotency-key-not-kept": Words(
        400,
        "The answer to this request is kept under no Idempotency-Key: leave it out, and look before you ask again.",
        "此请求的应答不会按 Idempotency-Key 保存：请去掉该请求头，重新请求前先查看结果。",
    ),
    "idempotency-key-reused": Words(
        422, "This Idempotency-Key was used for another request.", "此 Idempotency-Key 已用于另一个请求。"
    ),
    "internal": Words(500, "Something went wrong on our side.", "系统内部出错。", ours=True),
    "invalid-request": Words(422, "The request is not valid.", "请求无效。"),
    "key-gone": Words(500, "Something went wrong on our side.", "系统内部出错。", ours=True),
    "rotation-gone": Words(500, "Something went wrong on our side.", "系统内部出错。", ours=True),
    "gallery-engine-missing": Words(500, "Something went wrong on our side.", "系统内部出错。", ours=True),
    "lease-lost": Words(500, "Something went wrong on our side.", "系统内部出错。", ours=True),
    "malformed-request": Words(400, "The request cannot be read.", "无法读取请求。"),
    "method-not-allowed": Words(405, "This address does not know that method.", "此地址不支持该方法。"),
    "model-altered": Words(
        500,
        "A model's file is not the one that was measured; it is not used.",
        "模型文件与经过测量的文件不符，不予使用。",
        ours=True,
    ),
    "model-missing": Words(500, "A model is not installed here.", "此处没有安装所需的模型。", ours=True),
    "not-found": Words(404, "There is no such thing.", "未找到。"),
    "owners-needed": Words(
        409, "There would not be owners enough; name another one first.", "所有者人数将不足，请先增加一位所有者。"
    ),
    "proof-invalid": Words(
        403,
        "The proof does not hold: wrong, expired, used, or for something else.",
        "验证无效：错误、过期、已使用，或用于其他内容。",
    ),
    "proof-required": Words(403, "This needs a fresh proof that it is you.", "此操作需要重新验证您的身份。"),
    "provider-unavailable": Words(
        503, "The payment provider gave no answer; nothing is decided.", "支付机构没有答复，尚无结果。"
    ),
    "request-replayed": Words(401, "This signed request was sent before.", "此签名请求已发送过。"),
    "request-stale": Words(401, "This signed request is too old; check the clock.", "此签名请求已过时，请检查时钟。"),
    "request-timeout": Words(408, "The request did not arrive in time.", "请求未在时限内到达。"),
    "restored": Words(
        503,
        "Restored from a backup and being compared with the payment providers. Nothing was changed; ask again later.",
        "系统刚从备份恢复，正与支付机构核对。什么都没有改变，请稍后重试。",
    ),
    "schema-mismatch": Words(503, "The database is of another version.", "数据库版本不符。", ours=True),
    "seal-broken": Words(500, "Something went wrong on our side.", "系统内部出错。", ours=True),
    "signature-invalid": Words(401, "The request's signature does not hold.", "请求签名无效。"),
    "terminal-session-ended": Words(401, "The terminal's session has ended; open a new one.", "终端会话已结束，请重新建立。"),
    "too-many-requests": Words(429, "Too many attempts; try again later.", "尝试次数过多，请稍后再试。"),
    "second-person-needed": Words(
        403,
        "This takes two people: another owner was asked. Send the same request again once they agreed.",
        "此操作需要两人：已请另一位所有者确认，同意后请重发同一请求。",
    ),
    "topic-unknown": Words(500, "Something went wrong on our side.", "系统内部出错。", ours=True),
    "unauthenticated": Words(401, "Sign in first.", "请先登录。"),
    "unsupported-media-type": Words(415, "The body must be application/json.", "请求内容必须是 application/json。"),
    "validation-failed": Words(422, "Some fields are not valid.", "有字段无效。"),
    "wrong-state": Words(409, "This is not possible in its present state.", "当前状态下无法执行。"),
    "pin-wrong": Words(403, "That is not the card's PIN.", "卡片密码不正确。"),
    "pin-required": Words(403, "The card asks for its PIN.", "此卡需要输入密码。"),
    "pin-locked": Words(429, "Too many wrong PINs; the card is locked for a while.", "密码错误次数过多，卡片暂时锁定。"),
    "consent-first": Words(409, "The payer must consent before a capture.", "须先由付款人同意，才能采集。"),
    "match-number-wrong": Words(403, "Not the number that the spender sees.", "与消费人看到的数字不符。"),
    "sitting-used": Words(409, "This challenge was answered or is over; begin anew.", "此次拍摄已用过或已结束，请重新开始。"),
    "sitting-late": Words(410, "The challenge's seconds are over; begin anew.", "拍摄已超时，请重新开始。"),
    "nonce-wrong": Words(403, "These pictures answer another challenge.", "这些画面不属于本次拍摄。"),
    "face-locked": Words(
        429, "Too many faces were not recognised; codes and cards work.", "识别失败次数过多，暂停刷脸；付款码和卡片仍可使用。"
    ),
    "face-disabled": Words(
        403,
        "This terminal recognises no faces until the operator's staff has looked; codes and cards work.",
        "本终端已停用刷脸，须由运营方人员检查后恢复；付款码和卡片仍可使用。",
    ),
    "pin-not-asked": Words(409, "No PIN is asked for here; pay by code or card.", "此处不需要密码，请使用付款码或卡片。"),
    "method-not-offered": Words(422, "This way of paying is not offered.", "暂不支持这种支付方式。"),
}

RETRY_AFTER_S: Final[Mapping[str, int]] = {
    "busy": 1,
    "idempotency-key-in-use": 1,
    "provider-unavailable": 5,
    "restored": 30,
    "schema-mismatch": 30,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that says what went wrong."""

    status: int
    code: str
    members: Mapping[str, Any]
    headers: Headers

    def encode(self, locale: str) -> bytes:
        """The document; its title in `locale` (zh or en)."""
        words = WORDS[self.code]
        title = words.zh if locale == "zh" else words.en
        head = {"type": f"/problems/{self.code}", "title": title, "status": self.status, "code": self.code}
        return msgspec.json.encode(head | dict(self.members))


def problem_of(error: Exception) -> Problem:
    """What the asker hears of `error`. Whatever is not expected is logged, without its text, and becomes an incident."""
    if isinstance(error, KinpayError):
        return _of_ours(error)
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
    if isinstance(error, HTTPException):
        return _of_http(error)
    if isinstance(error, asyncpg.DataError | asyncpg.CharacterNotInRepertoireError | asyncpg.UntranslatableCharacterError):
        log.warning("the database could not read a value", extra={"error": type(error).__name__})
        return _of_ours(BodyMalformed(reason="value"))
    if isinstance(error, asyncpg.UniqueViolationError):
        log.warning("a uniqueness that no code foresaw", extra={"constraint": error.constraint_name})
        return _of_ours(Conflict())
    return _incident(error, "internal")


def _of_ours(error: KinpayError) -> Problem:
    if isinstance(error, Busy) and isinstance(error.__cause__, ValueError):
        # The driver could not even write down a parameter; a repetition would fare no better.
        return _of_ours(BodyMalformed(reason="value"))
    words = WORDS.get(error.code)
    if words is None or words.ours:
        return _incident(error, error.code if words is not None else "internal")
    members = {name: value for name, value in error.detail.items() if name not in _RESERVED and value not in ("", None)}
    return Problem(words.status, error.code, members, _headers(error.code, error.detail, words.status))


def _headers(code: str, detail: Mapping[str, Any], status: int) -> Headers:
    retry_s = detail.get("retry_after_s", RETRY_AFTER_S.get(code))
    headers: Headers = []
    if retry_s is not None:
        headers.append((b"retry-after", str(max(1, int(retry_s))).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="kinpay"'))
    if status in (408, 413):
        # What is still on its way would otherwise be read as the next request.
        headers.append((b"connection", b"close"))
    return headers


def _of_http(error: HTTPException) -> Problem:
    if error.status_code == 405:
        problem = _of_ours(MethodNotAllowed())
        return Problem(405, problem.code, {}, [(b"allow", (error.headers or {}).get("Allow", "").encode("latin-1"))])
    if error.status_code == 404:
        return _of_ours(NotFound())
    if 400 <= error.status_code < 500:
        return _of_ours(BodyMalformed(reason="http"))
    return _incident(error, "internal")


def _of_validation(error: RequestValidationError) -> Problem:
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return _of_ours(BodyMalformed(reason="not_json"))
    return Problem(422, "validation-failed", {"errors": [_field_error(item) for item in found[:MAX_ERRORS]]}, [])


def _field_error(item: Mapping[str, Any]) -> dict[str, str]:
    """Where and which rule; never what was sent there (a name that we do not know is what was sent)."""
    where: Sequence[Any] = item["loc"]
    known = where[:-1] if item["type"] == "extra_forbidden" else where
    path = ".".join(_FIELD.sub("", str(part))[:40] for part in known[1:][:12])
    reason = item["type"]
    if reason == "value_error":
        reason = _FIELD.sub("_", str(item.get("ctx", {}).get("error", reason)))[:60]
    return {"in": str(where[0]) if where else "body", "field": path, "reason": reason}


def _incident(error: Exception, code: str) -> Problem:
    incident = new_id()
    log.error("unexpected error", extra={"incident": incident, "error": type(error).__name__, "at_code": where(error)})
    headers = _headers(code, {}, WORDS[code].status)
    return Problem(WORDS[code].status, code, {"incident": incident}, headers)


def where(error: BaseException) -> list[str]:
    """Where it happened, innermost last, and its causes; without its text, which may quote people's data."""
    frames = [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return frames[-12:] + ([f"because of {type(cause).__name__}", *where(cause)[-6:]] if cause is not None else [])


def _short(path: str) -> str:
    return "/".join(path.rsplit("/", 3)[-3:])


def locale_of(accept_language: bytes | None) -> str:
    """The better of our two languages for an `Accept-Language`; English where it says nothing."""
    best, weight = "en", 0.0
    for part in (accept_language or b"").decode("latin-1").lower().split(",")[:10]:
        tag, _, quality = part.strip().partition(";q=")
        try:
            value = float(quality) if quality else 1.0
        except ValueError:
            continue
        language = tag.strip().partition("-")[0]
        if language in ("zh", "en") and value > weight:
            best, weight = language, value
    return best
