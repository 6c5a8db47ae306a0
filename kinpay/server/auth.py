"""Who is asking: a person by their session's token, a back office by its API key, a terminal by its signature on this request.

What they may do is not decided here; every route asks `primitives/actor.py` and is refused when nobody is noted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kinpay.operators.api_key import TOKEN_START
from kinpay.primitives.actor import Actor
from kinpay.primitives.errors import Unauthenticated
from kinpay.server.asgi import App, Receive, Scope, Send, header, state
from kinpay.terminals.signature import RequestParts

PersonCheck = Callable[[str], Awaitable[Actor | None]]
"""A session token's holder; None for nobody."""
KeyCheck = Callable[[str], Awaitable[Actor | None]]
"""An API key's token; None for one that is not, or no longer."""
TerminalCheck = Callable[[RequestParts], Awaitable[Actor | None]]
"""The signer; None for one that cannot be known yet. Raises: Unauthenticated and its kin."""

_BEARER = b"bearer "


class SignedTwice(Unauthenticated):
    """A request that says it comes from a person *and* from a terminal: one of the two would be believed by mistake."""

    code = "ambiguous-credentials"


async def no_key(_: str) -> Actor | None:
    """Where there are no API keys."""
    return None


@dataclass(frozen=True, slots=True)
class Checks:
    """How each kind of asker is known."""

    person: PersonCheck
    terminal: TerminalCheck
    api_key: KeyCheck = no_key


class Authentication:
    """Notes the asker as `request.state.actor`, or refuses a credential that is not good (not a missing one)."""

    def __init__(self, app: App, checks: Checks, *, skip: Callable[[str], bool] = lambda _: False) -> None:
        """`skip`: the paths that prove by themselves who is asking (a provider's callback)."""
        self._app = app
        self._checks = checks
        self._skip = skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises: Unauthenticated and its kin."""
        actor = None if self._skip(scope["path"]) else await find_actor(scope, self._checks)
        if actor is not None:
            state(scope)["actor"] = actor
        await self._app(scope, receive, send)


async def find_actor(scope: Scope, checks: Checks) -> Actor | None:
    """Who is asking, or None if the request names nobody. Raises: Unauthenticated and its kin for a bad credential."""
    bearer = header(scope, b"authorization")
    signed = header(scope, b"signature") is not None or header(scope, b"signature-input") is not None
    if bearer is None and not signed:
        return None
    if bearer is not None and signed:
        raise SignedTwice()
    if bearer is None:
        return await checks.terminal(parts_of(scope))
    token = token_of(bearer)
    actor = await (checks.api_key(token) if token.startswith(TOKEN_START) else checks.person(token))
    if actor is None:
        raise Unauthenticated()
    return actor


def token_of(authorization: bytes) -> str:
    """The token of `Authorization: Bearer …`. Raises: Unauthenticated for another scheme or odd characters."""
    if authorization[: len(_BEARER)].lower() != _BEARER:
        raise Unauthenticated()
    token = authorization[len(_BEARER) :].strip()
    if not token or not token.isascii() or len(token) > 512:
        raise Unauthenticated()
    return token.decode("ascii")


def parts_of(scope: Scope) -> RequestParts:
    """The request as it was signed; the guard has read its body."""
    return RequestParts.of(
        scope["method"],
        scope.get("raw_path") or scope["path"].encode(),
        query=scope.get("query_string", b""),
        headers=scope["headers"],
        body=state(scope)["body"],
    )
