"""What comes back: an answer, a problem document (RFC 9457), or nothing at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Answer:
    """A success. `status` 202 means that the outcome is not known yet; `replayed`: it was said before under this key.

    `body` is all that the server said, also what this version of the client has no name for; `answer["name"]` reads it.
    """

    status: int
    body: dict[str, Any]
    replayed: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.body[name]


@dataclass(frozen=True, slots=True)
class WrongField:
    """A field that the server refused. `reason` is stable; `where` says in which part of the request (`body`, `query` …)."""

    field: str
    reason: str
    where: str = "body"


class Problem(Exception):
    """The server's refusal. `code` is stable; `body` is the whole problem document.

    `retry_after_s`: when it says to come back, in seconds.
    """

    def __init__(self, status: int, *, code: str, body: dict[str, Any], retry_after_s: float | None = None) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.body = body
        self.retry_after_s = retry_after_s

    @property
    def title(self) -> str:
        """What it is, for people, in the language asked for."""
        return _text(self.body.get("title"))

    @property
    def detail(self) -> str:
        """Which rule it was (`reason`), if the server says so; never what was sent."""
        return _text(self.body.get("detail") or self.body.get("hint") or self.body.get("reason"))

    @property
    def fields(self) -> tuple[WrongField, ...]:
        """The fields that were refused, as far as the server names them."""
        listed = self.body.get("errors")
        found = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        if not found and "field" in self.body:
            found = [self.body]
        return tuple(
            WrongField(_text(one.get("field")), _text(one.get("reason")), _text(one.get("in")) or "body") for one in found
        )


class Unreachable(Exception):
    """No answer arrived, so it is not known whether the request took effect. With a request key, ask again under the same."""


class UnexpectedAnswer(Exception):
    """A success that lacks what every version of the server says: perhaps it is no kinpay that answered."""


def read_answer(response: httpx.Response) -> Answer:
    """The answer in a response. Raises: Problem."""
    body = _json(response)
    if response.is_success:
        return Answer(response.status_code, body, response.headers.get("Idempotency-Replayed") == "true")
    raise Problem(
        response.status_code,
        code=_text(body.get("code")) or _text(body.get("type")).rsplit("/", 1)[-1] or "unknown",
        body=body,
        retry_after_s=_seconds(response.headers.get("Retry-After")),
    )


def _json(response: httpx.Response) -> dict[str, Any]:
    if not response.content:
        return {}
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
