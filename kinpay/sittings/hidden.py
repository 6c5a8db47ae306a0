"""What a sitting keeps to itself between two requests: whom it may be about. Sealed in its row, always of one length."""

from __future__ import annotations

from typing import Final

import msgspec

from kinpay.primitives.server_keys import ServerKeys

_PURPOSE: Final = "sitting"
_STEP: Final = 2048
_MOST: Final = 50
"""Persons, as many as fit into one step: nobody tells from a row's length how many there are."""


class Hidden(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`people`: who it is said to be (before the frames), or who was near (after them). `factor`: by which way it was said.

    `circle_id`: which one a card or code selects. `counted`: whether this sitting stands as a failure already.
    `asks`: what a step-up asks for.
    """

    people: tuple[str, ...] = ()
    circle_id: str | None = None
    factor: str = "none"
    counted: bool = False
    asks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.people) > _MOST:
            raise ValueError("more people than are ever compared")


_decode = msgspec.json.Decoder(Hidden).decode


def seal(keys: ServerKeys, hidden: Hidden, *, sitting_id: str) -> bytes:
    """For the row of that sitting, and no other."""
    plain = msgspec.json.encode(hidden)
    return keys.seal(plain.ljust(_STEP), purpose=_PURPOSE, bound_to=sitting_id)


def unseal(keys: ServerKeys, sealed: bytes | None, *, sitting_id: str) -> Hidden:
    """What the row hides; nothing where it hides nothing. Raises: SealBroken."""
    if sealed is None:
        return Hidden()
    return _decode(keys.unseal(sealed, purpose=_PURPOSE, bound_to=sitting_id))
