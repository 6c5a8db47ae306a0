"""The shapes of what is asked and answered about registrations: each side has a view of its own."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from kinpay.biometrics.template import CONTENT_MAX_BYTES, Template, read_template
from kinpay.mandates.terms import Terms
from kinpay.people.proof import ProofGiven
from kinpay.primitives.errors import Invalid
from kinpay.primitives.fields import AccountName, Closed, Day, Id, Name, Note, Pin, Token
from kinpay.registrations.approve import Approval, NewCircle
from kinpay.registrations.registration import BindingOrder
from kinpay.registrations.request import AssistedRequest
from kinpay.registrations.request import Request as SpenderRequest

Order = Literal["A", "B", "C"]
State = Literal["open", "bound", "refused", "expired", "withdrawn"]
Missing = Literal["consent", "agreement", "enrolment"]
ZoneName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$")]
ProviderAccountName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[\x21-\x7e]+$")]
"""The payer's account name at the provider, as the provider spells it."""
_BASE64_MAX = (CONTENT_MAX_BYTES + 2) // 3 * 4


class RequestIn(Closed):
    """A spender asks. Without `registration_information` only order C; without `payer_account` they pay for themself."""

    registration_information: Token | None = None
    binding_order: Order
    payer_account: AccountName | None = None

    def asked(self) -> SpenderRequest:
        """As the domain takes it."""
        order = BindingOrder(self.binding_order)
        return SpenderRequest(information=self.registration_information, order=order, payer_account=self.payer_account)


class AssistedRequestIn(Closed):
    """A terminal asks for a person without a phone; the payer is named by account or by a printed card of theirs."""

    registration_information: Token
    binding_order: Order
    spender_name: Name
    locale: Literal["zh", "en"]
    birth_date: Day | None = None
    payer_account: AccountName | None = None
    payer_card: Token | None = None

    def asked(self) -> AssistedRequest:
        """As the domain takes it."""
        return AssistedRequest(
            information=self.registration_information,
            order=BindingOrder(self.binding_order),
            spender_name=self.spender_name,
            locale=self.locale,
            birth_date=self.birth_date,
            payer_account=self.payer_account,
            payer_card=self.payer_card,
        )


class NewCircleIn(Closed):
    """A circle opened with the payer's yes; for an assisted spender the one they were entered in takes this name and zone."""

    name: Name
    time_zone: ZoneName


class ApproveIn(Closed):
    """The payer's yes. The proof is bound to `{terms (canonical), provider_account_id, circle}`, where `circle` is `circle_id`
    or `new_circle`. `payer_account_at_provider` is taken to be the payer's account here when it is left out.
    """

    circle_id: Id | None = None
    new_circle: NewCircleIn | None = None
    terms: Terms
    provider_account_id: Id
    payer_account_at_provider: ProviderAccountName | None = None
    match_number: Annotated[int, Field(strict=True, ge=0, le=99)]
    proof: ProofGiven | None = None

    @model_validator(mode="after")
    def _one_circle(self) -> Self:
        if (self.circle_id is None) == (self.new_circle is None):
            raise ValueError("give either circle_id or new_circle")
        return self

    def approval(self) -> Approval:
        """As the domain takes it."""
        new = self.new_circle
        return Approval(
            circle=self.circle_id or (NewCircle(name=new.name, time_zone=new.time_zone) if new is not None else ""),
            terms=self.terms,
            provider_account_id=self.provider_account_id,
            payer_account=self.payer_account_at_provider,
            match_number=self.match_number,
        )


class RefuseIn(Closed):
    """The payer's no; with `block`, this spender does not reach this payer again until it is taken back."""

    block: bool = False


class CaptureIn(Closed):
    """What a terminal captured, base64, or why it could not."""

    model: Annotated[str, Field(max_length=64)] | None = None
    model_version: Annotated[str, Field(max_length=64)] | None = None
    template: Annotated[str, Field(max_length=_BASE64_MAX)] | None = Field(default=None, repr=False)
    failed: Note | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        given = (self.model, self.model_version, self.template)
        whole, nothing = all(item is not None for item in given), all(item is None for item in given)
        if not (whole if self.failed is None else nothing):
            raise ValueError("give model, model_version and template, or failed alone")
        return self

    def read(self) -> Template:
        """The template in the clear. Raises: Invalid."""
        try:
            content = base64.b64decode(self.template or "", validate=True)
        except (binascii.Error, ValueError):
            raise Invalid("template_not_base64", field="template") from None
        return read_template(content, model=self.model or "", model_version=self.model_version or "")


class CardIn(Closed):
    """The number that an assisted spender chose at the terminal."""

    pin: Pin = Field(repr=False)


class Checklist(Closed):
    """What is ticked; `enrolled` is null where the order needs no capture."""

    consented: bool
    agreement_active: bool
    enrolled: bool | None


class PlaceOut(Closed):
    """Where a terminal stands."""

    terminal_id: Id
    name: str
    merchant: str
    site: str


class CaptureOut(Closed):
    """The newest attempt to capture; `guidance` in the reader's language."""

    capture_id: Id
    state: Literal["asked", "captured", "failed", "cancelled"]
    reason: str | None
    guidance: str
    expires_at: datetime


class Shared(Closed):
    """What every side sees."""

    registration_id: Id
    state: State
    business_type: Literal["self", "proxy"]
    binding_order: Order
    checklist: Checklist
    waiting_for: list[Missing]
    created_at: datetime
    expires_at: datetime
    closed_at: datetime | None


class SpenderView(Shared):
    """As the spender sees it. It reads the same until it ends, whether or not anybody has that account."""

    seen_as: Literal["spender"] = "spender"
    payer_account: str | None
    match_number: int | None
    terminal: PlaceOut | None
    capture: CaptureOut | None
    circle_id: Id | None
    mandate_id: Id | None


class SpenderShown(Closed):
    """Who asks, as the payer sees them; `account` is null for somebody without a phone."""

    person_id: Id
    display_name: str
    account: str | None


class AgreementShown(Closed):
    """The agreement that the yes rests on. While it is pending, `sign_url` is where the payer signs at the provider."""

    agreement_id: Id
    state: Literal["created", "pending", "active", "ended", "refused"]
    sign_url: str | None


class PayerView(Shared):
    """As the payer sees it. The match number is not here: the spender tells it."""

    seen_as: Literal["payer"] = "payer"
    spender: SpenderShown
    terminal: PlaceOut | None
    agreement: AgreementShown | None
    circle_id: Id | None
    mandate_id: Id | None


class TerminalView(Shared):
    """As the terminal sees it. Name, match number and account are there only where it stands for the spender."""

    seen_as: Literal["terminal"] = "terminal"
    spender_name: str | None
    payer_account: str | None
    match_number: int | None
    capture: CaptureOut | None


class RegistrationList(Closed):
    """The newest first. `next`: give it as `after` to read on; null at the end."""

    registrations: list[SpenderView | PayerView]
    next: Id | None


class CaptureGuidance(Closed):
    """A capture as a terminal takes it up; `guidance` by reader (terminal, spender), then by language."""

    capture_id: Id
    registration_id: Id
    guidance: dict[str, dict[str, str]]
    expires_at: datetime


class CaptureTaken(Closed):
    """What became of a capture."""

    capture_id: Id
    state: Literal["captured", "failed"]
    registration: TerminalView


class CardOut(Closed):
    """A card to print: the code, and the same as an SVG picture. It pays nothing before the payer agreed."""

    credential_id: Id
    code: str
    qr_svg: str


class BlockOut(Closed):
    """A spender who does not reach this payer."""

    spender_id: Id
    display_name: str
    since: datetime


class BlockList(Closed):
    """Whom a payer has blocked."""

    blocks: list[BlockOut]
