"""Raw requests as each kind of asker makes them: anything can be sent, rightly signed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol, Self

import httpx

from kinpay_client.signing import Agreeing, OwnKeySigner, SessionSigner, TerminalKey, sign_request

URL = "http://kinpay.test"
JSON = {"content-type": "application/json"}


class Principal(Protocol):
    """Somebody who asks."""

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, headers: Mapping[str, Any] | None = None, own_key: bool = False
    ) -> httpx.Response:
        """Sends exactly these bytes."""
        ...

    def before(self, http: httpx.AsyncClient) -> Principal:
        """The same asker, by way of another client."""
        ...


def request_of(
    http: httpx.AsyncClient, method: str, path: str, *, body: bytes, headers: Mapping[str, Any] | None
) -> httpx.Request:
    """A request; header values may be bytes."""
    given = {**(JSON if body else {}), **(headers or {})}
    encoded = [
        (name.encode(), value if isinstance(value, bytes) else value.encode("latin-1"))
        for name, values in given.items()
        for value in (values if isinstance(values, list) else [values])
        if value is not None
    ]
    return http.build_request(method, URL + path, content=body, headers=encoded)


class Anonymous:
    """Nobody in particular."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, headers: Mapping[str, Any] | None = None, own_key: bool = False
    ) -> httpx.Response:
        """Without credentials."""
        return await self._http.send(request_of(self._http, method, path, body=body, headers=headers))

    def before(self, http: httpx.AsyncClient) -> Principal:
        """Nobody there either."""
        return Anonymous(http)


class AsPerson:
    """Somebody with a session's token."""

    def __init__(self, http: httpx.AsyncClient, token: str) -> None:
        self._http = http
        self.token = token

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, headers: Mapping[str, Any] | None = None, own_key: bool = False
    ) -> httpx.Response:
        """With the token."""
        request = request_of(self._http, method, path, body=body, headers=headers)
        if "authorization" not in request.headers:
            request.headers["authorization"] = f"Bearer {self.token}"
        return await self._http.send(request)

    def before(self, http: httpx.AsyncClient) -> Principal:
        """With the same token."""
        return AsPerson(http, self.token)


class AsTerminal:
    """An installed terminal: by its session's key, or by its own."""

    def __init__(self, http: httpx.AsyncClient, own: OwnKeySigner, session: SessionSigner) -> None:
        self._http = http
        self._own = own
        self._session = session

    @classmethod
    async def of(cls, http: httpx.AsyncClient, kept: Mapping[str, str]) -> Self:
        """From what a terminal keeps of itself; opens a session."""
        own = OwnKeySigner(kept["terminal_id"], TerminalKey.from_pem(kept["private_key"]))
        agreeing = Agreeing.begin()
        request = http.build_request("POST", f"{URL}/v1/terminals/sessions", json=agreeing.asked())
        sign_request(request, own, now_s=time.time())
        opened = await http.send(request)
        assert opened.status_code == 201, opened.text
        return cls(http, own, agreeing.finish(opened.json(), terminal_id=kept["terminal_id"]))

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, headers: Mapping[str, Any] | None = None, own_key: bool = False
    ) -> httpx.Response:
        """Signed."""
        request = request_of(self._http, method, path, body=body, headers=headers)
        signer = self._own if own_key else self._session
        key = request.headers.get("idempotency-key", "")
        if not key.isascii():
            # No signature can cover it; so it comes uncovered, as an attacker would add it.
            raw = [item for item in request.headers.raw if item[0].lower() == b"idempotency-key"]
            del request.headers["idempotency-key"]
            sign_request(request, signer, now_s=time.time())
            request.headers = httpx.Headers([*request.headers.raw, *raw])
        else:
            sign_request(request, signer, now_s=time.time())
        return await self._http.send(request)

    def before(self, http: httpx.AsyncClient) -> Principal:
        """With the same keys."""
        return AsTerminal(http, self._own, self._session)
