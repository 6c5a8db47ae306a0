"""What is said over HTTP about sittings, faces and consents. No answer says who was near, or holds a template or a picture."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from kinpay.primitives.fields import Amount, Closed, Currency, Id, Pin, Token
from kinpay.sittings.consent import Consent

Picture = Annotated[str, Field(min_length=16, max_length=262_144, pattern=r"^[A-Za-z0-9+/]+={0,2}$")]
"""A JPEG, PNG or WebP in base64."""
Nonce = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{22,64}$")]
Language = Literal["zh", "en"]
ActName = Literal["blink", "turn_left", "turn_right", "open_mouth"]
OtherWay = Literal["pin", "code", "card"]


class ClaimIn(Closed):
    """Who somebody says they are: exactly one of the two. A one-time code is used up by it."""

    code: Token | None = None
    phone_digits: Annotated[str, Field(pattern=r"^[0-9]{4,10}$")] | None = None


class SittingIn(Closed):
    """A payment to be made by face. Without `claim` it is searched for among everybody of the site."""

    amount_minor: Amount
    currency: Currency
    claim: ClaimIn | None = None


class SentenceOut(Closed):
    """A sentence in both languages."""

    zh: str
    en: str


class SittingOut(Closed):
    """The challenge. Show `guidance` one after the other: still first, then the acts in this order.

    The frames come once, signed with the terminal's own key, with this nonce, before `expires_at`; the last at most
    `from_first_frame_s` after the first.
    """

    sitting_id: Id
    nonce: Nonce
    acts: Annotated[list[ActName], Field(min_length=2, max_length=2)]
    guidance: list[SentenceOut]
    expires_at: datetime
    from_first_frame_s: int
    frames_at_least: int
    frames_at_most: int
    picture_bytes_at_most: int


class FrameIn(Closed):
    """One picture, and when it was taken: milliseconds of the terminal's clock from any moment on."""

    at_ms: Annotated[int, Field(ge=0, le=10_000_000_000_000)]
    picture: Picture


class FramesIn(Closed):
    """What the camera saw while the acts were done."""

    nonce: Nonce
    frames: Annotated[list[FrameIn], Field(min_length=1, max_length=40)]


class EnrolFramesIn(FramesIn):
    """The same, to make a template; with the PIN that the person chose, for when the face alone does not pay."""

    pin: Pin | None = None


class LookIn(Closed):
    """One picture to be judged for guidance. Nothing of it is kept."""

    picture: Picture


class Hint(Closed):
    """What is to be done better: `problem` for machines, the rest for people."""

    problem: str
    zh: str
    en: str


class LookOut(Closed):
    """Whether such a picture would do, and if not, why."""

    good: bool
    hints: list[Hint]


class PaidByFaceOut(Closed):
    """`recognised`: show `face` to POST /v1/charges before `expires_at`. `step_up`: any one of `asks` would do, whoever it
    is. `refused`: the frames are worth nothing; `hints` say what to do better, `reasons` what was wrong.
    """

    outcome: Literal["recognised", "step_up", "refused"]
    face: str | None
    asks: list[OtherWay]
    reasons: list[str]
    hints: list[Hint]
    expires_at: datetime | None


class PinIn(Closed):
    """The PIN of whoever stands there; one go a sitting."""

    pin: Pin


class ConsentTextOut(Closed):
    """What is to be read before a face is kept. A consent names `version` and `language`."""

    version: str
    language: Language
    text: str
    sha256: str


class ConsentIn(Closed):
    """The text was read and agreed to."""

    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z._-]{1,16}$")]
    language: Language


class ConsentOut(Closed):
    """A consent as it is kept. `terminal_id`: on whose screen it was read; null: on the giver's own device."""

    consent_id: Id
    given_by: Id
    registration_id: Id
    terminal_id: Id | None
    text_version: str
    language: Language
    given_at: datetime
    withdrawn_at: datetime | None

    @classmethod
    def of(cls, consent: Consent) -> ConsentOut:
        """From its row."""
        return cls.model_validate(
            {
                "consent_id": consent.id,
                "given_by": consent.given_by,
                "registration_id": consent.registration_id,
                "terminal_id": consent.terminal_id,
                "text_version": consent.text_version,
                "language": consent.language,
                "given_at": consent.given_at,
                "withdrawn_at": consent.withdrawn_at,
            }
        )


class TemplateOut(Closed):
    """That something is, or was, kept; never what. `erased_at` with `erased_reason` is the receipt of its end."""

    template_id: Id
    model: str
    modality: str
    site: str
    made_at: datetime
    provisional: bool
    erased_at: datetime | None
    erased_reason: str | None


class FaceOut(Closed):
    """What is kept of a person's face, and by whose word."""

    person_id: Id
    enrolled: bool
    has_pin: bool
    templates: list[TemplateOut]
    consents: list[ConsentOut]


class ErasedOut(Closed):
    """The receipt: these templates are gone, with their keys, on every server; `was_enrolled` is false where there were none.

    Card and codes go on working.
    """

    person_id: Id
    was_enrolled: bool
    erased: list[Id]
    erased_at: datetime


class LockOut(Closed):
    """What wrong faces and PINs came to at a terminal."""

    terminal_id: Id
    in_a_row: int
    tally: int
    locked_until: datetime | None
    disabled_at: datetime | None
