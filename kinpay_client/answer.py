"""What comes back: an answer, a problem document (RFC 9457), or nothing at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True, slots=True)
class Answer:
    """A success. `status` 202 means that the outcome is not known yet; `replayed`: it was said before under this key."""

    status: int
    body: dict[str, Any]
    replayed: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.body[name]


class Problem(Exception):
    """The server's refusal. `code` is stable; `body` is the whole problem document."""

    def __init__(self, status: int, *, code: str, body: dict[str, Any], retry_after_s: float | None = None) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.body = body
        self.retry_after_s = retry_after_s


class Unreachable(Exception):
    """No answer arrived, so it is not known whether the request took effect. With a request key, ask again under the same."""


def read_answer(response: httpx.Response) -> Answer:
    """The answer in a response. Raises: Problem."""
    body = _json(response)
    if response.is_success:
        return Answer(response.status_code, body, response.headers.get("Idempotency-Replayed") == "true")
    raise Problem(
        response.status_code,
        code=str(body.get("code") or str(body.get("type", "")).rsplit("/", 1)[-1] or "unknown"),
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


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
