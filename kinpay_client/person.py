"""A person's side: signed in by a one-time code, then carrying a session token."""

from __future__ import annotations

from typing import Any, Self

import httpx

from kinpay_client.answer import Answer
from kinpay_client.wire import Wire


class Person:
    """Somebody's program. Without a token it can only do what needs none."""

    def __init__(self, base_url: str, token: str | None = None, *, http: httpx.AsyncClient | None = None) -> None:
        self._wire = Wire.to(base_url, http)
        self._token = token

    @property
    def token(self) -> str | None:
        """The session token, to be kept like a password."""
        return self._token

    async def begin_sign_in(self, operator_id: str, account: str) -> Answer:
        """Asks for a one-time code; the answer's `sign_in_id` belongs to it, also where there is no such account."""
        return await self.request("POST", "/v1/sign-in", {"operator_id": operator_id, "account": account})

    async def finish_sign_in(self, sign_in_id: str, code: str) -> Answer:
        """Gives the code; from here on requests carry the session's token. Raises: Problem for a wrong one."""
        answer = await self.request("POST", f"/v1/sign-in/{sign_in_id}", {"code": code})
        self._token = answer["token"]
        return answer

    async def sign_out(self) -> None:
        """Ends the session."""
        await self.request("POST", "/v1/sign-out")
        self._token = None

    async def request(
        self,
        method: str,
        path: str,
        content: dict[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Asks anything; repeated after a lost answer only if it reads or has an idempotency key.

        Raises: Problem, Unreachable.
        """
        repeatable = method == "GET" or idempotency_key is not None
        return await self._wire.send(
            method,
            path,
            credentials=self._credentials,
            content=content,
            key=idempotency_key,
            repeatable=repeatable,
            timeout_s=timeout_s,
        )

    async def close(self) -> None:
        """Closes its connections."""
        await self._wire.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()

    async def _credentials(self, request: httpx.Request) -> None:
        if self._token is not None:
            request.headers["authorization"] = f"Bearer {self._token}"
