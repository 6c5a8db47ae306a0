"""The shapes of what terminals, staff and scanners send and hear."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from kinpay.primitives.fields import Amount, Closed, Currency, Id, Name, Note, Token
from kinpay.terminals.fare import FareRule

Kind = Literal["till", "vending", "gate", "kiosk"]
BusinessType = Literal["self", "proxy"]
Point = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{87}$")]
"""A P-256 public point, uncompressed, base64url without padding."""
Reference = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
"""The till's own number for a sale."""
Scan = Annotated[str, Field(min_length=8, max_length=512, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""What a phone read, a code of ours or an EMVCo one; that may hold names in any writing."""


class NewTerminal(Closed):
    """Announces a terminal. `hold_s`: how long its authorisations wait for a capture."""

    site_id: Id
    name: Name
    kind: Kind
    hold_s: Annotated[int, Field(ge=5, le=604_800)] = 60


class NewInstallCode(Closed):
    """Single use; `expires_at` is 30 minutes from now. Shown once: only its hash is kept."""

    terminal_id: Id
    install_code: str
    expires_at: datetime


class TerminalShown(Closed):
    """A terminal, as staff see it."""

    id: Id
    name: str
    kind: Kind
    state: Literal["expected", "active", "revoked"]
    merchant_id: Id
    merchant: str
    site_id: Id
    site: str
    hold_s: int
    created_at: datetime
    installed_at: datetime | None
    revoked_at: datetime | None


class TerminalList(Closed):
    """`next`: give it as `after` to read on; null at the end."""

    terminals: list[TerminalShown]
    next: Id | None


class Install(Closed):
    """Sent by the device, signed with the key it brings (`keyid` is the terminal's id in the code)."""

    install_code: Annotated[str, Field(pattern=r"^[0-9a-f]{32}\.[A-Za-z0-9_-]{20,64}$")]
    public_key: Point


class Installed(Closed):
    """Who the device now is."""

    terminal_id: Id
    operator_id: Id
    name: str
    kind: Kind
    merchant: str
    site: str


class OpenSession(Closed):
    """Signed with the terminal's own key. `agreement_key`: an ephemeral point; `nonce`: salt, 16 to 64 bytes base64url."""

    agreement_key: Point
    nonce: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{22,86}$")]


class SessionOpened(Closed):
    """Our ephemeral point, and an HMAC over the exchange that proves that we hold the same key."""

    session_id: Id
    agreement_key: str
    expires_at: datetime
    confirmation: str


class FunctionCodeShown(Closed):
    """The address to draw as the terminal's one code; fetch the next after `rotates_in_s`."""

    code: str
    rotates_in_s: int
    expires_at: datetime


class NewScan(Closed):
    """What was scanned: our address, or the code in it."""

    code: Token


class Place(Closed):
    """Where a terminal stands, in words for people."""

    id: Id
    name: str
    merchant: str
    site: str


class ScanMade(Closed):
    """Choose one of `business_types` next."""

    scan_id: Id
    terminal: Place
    business_types: list[BusinessType]
    expires_at: datetime


class ChooseBusinessType(Closed):
    """For oneself, or with somebody else as payer."""

    business_type: BusinessType


class BusinessTypeChosen(Closed):
    """The decoded information ([0017]); `registration_information` is its signed form, which registering takes."""

    registration_information: str
    scan_id: Id
    terminal_id: Id
    business_type: BusinessType
    expires_at: datetime


class CommandShown(Closed):
    """Something to do before `expires_at`."""

    id: Id
    kind: Literal["capture", "cancel_capture", "show"]
    body: dict[str, Any]
    created_at: datetime
    expires_at: datetime


class CommandList(Closed):
    """Open commands, oldest first."""

    commands: list[CommandShown]


class CommandDone(Closed):
    """What came of a command; `reason` says why not."""

    ok: bool
    reason: Note | None = None


class EmvPlaceIn(Closed):
    """Where the shop is, as EMVCo codes say it: country (ISO 3166), city in plain characters, language of the shop's name."""

    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$", examples=["CN"])]
    city: Annotated[str, Field(min_length=1, max_length=15, pattern=r"^[\x21-\x7e]+( [\x21-\x7e]+)*$", examples=["Hangzhou"])]
    language: Annotated[str, Field(pattern=r"^[a-z]{2}$")] = "zh"


class NewPaymentCode(Closed):
    """One sale. `emv`: also as an EMVCo merchant-presented code."""

    amount_minor: Amount
    currency: Currency
    reference: Reference | None = None
    emv: EmvPlaceIn | None = None


class PaymentCodeShown(Closed):
    """The code to draw: ours, or, if it was asked for, the same sale as an EMVCo merchant-presented code."""

    payment_code_id: Id
    payment_code: str
    expires_at: datetime
    emv_code: str | None = None


class PaymentCodeState(Closed):
    """Whether somebody used the code, and the charge it went into."""

    payment_code_id: Id
    used: bool
    charge_id: Id | None


class PresentedPaymentCode(Closed):
    """A terminal's payment code as scanned: ours, or an EMVCo code of ours."""

    payment_code: Scan


class AmountShown(Closed):
    """Minor units of a currency."""

    amount_minor: int
    currency: str


class PaymentCodeRead(Closed):
    """What the spender is about to pay, and where."""

    terminal: Place
    amount: AmountShown
    reference: str | None
    expires_at: datetime


class FareRuleIn(Closed):
    """A merchant's fare rule; amounts in minor units. Null: no cap, no free transfers."""

    currency: Currency
    cap_per_day_minor: Amount | None = None
    transfer_within_s: Annotated[int, Field(strict=True, ge=60, le=86_400)] | None = None


class FareRuleOut(Closed):
    """The rule in force."""

    merchant_id: str
    version: int
    currency: str
    cap_per_day_minor: int | None
    transfer_within_s: int | None

    @classmethod
    def of(cls, rule: FareRule) -> Self:
        """From the noun."""
        return cls(**{name: getattr(rule, name) for name in cls.model_fields})
