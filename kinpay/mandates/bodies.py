"""What requests about mandates, pools, agreements and cards hold, and what their answers do."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field

from kinpay.mandates.agreement import Agreement
from kinpay.mandates.change_terms import Changed
from kinpay.mandates.credential import Credential
from kinpay.mandates.limit import Limit
from kinpay.mandates.look import LimitLook, MandateLook
from kinpay.mandates.mandate import Debited, Mandate, MandateVersion
from kinpay.mandates.pool import Pool
from kinpay.mandates.provider_account import ProviderAccount
from kinpay.mandates.terms import Terms
from kinpay.people.proof import ProofGiven
from kinpay.primitives.fields import Closed, Currency, Id, Name, Pin

Version = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
ZoneName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$", examples=["Asia/Shanghai"])]


class TermsIn(Closed):
    """Other terms for a mandate; `if_version` refuses them if somebody else was faster."""

    terms: Terms
    proof: ProofGiven | None = None
    if_version: Version | None = None


class TermsReadOut(Closed):
    """Terms read from another standard's words, and the names of what they do not carry."""

    terms: Terms
    left_out: list[str]


class FundingIn(Closed):
    """Other funding for a mandate: the payer's own active agreements, in the order to try; debited with each charge or daily.

    `debited` null: as before.
    """

    agreement_ids: list[Id] = Field(min_length=1, max_length=10)
    debited: Debited | None = None
    proof: ProofGiven | None = None
    if_version: Version | None = None


class ProvenIn(Closed):
    """A proof and nothing else; it is missing in a first try, to learn that it is needed."""

    proof: ProofGiven | None = None


class PoolIn(Closed):
    """A payer's ceiling over several spenders; `spender_ids` null: everybody this payer pays for in the circle."""

    name: Name
    terms: Terms
    spender_ids: list[Id] | None = Field(default=None, min_length=1, max_length=100)


class PoolChangeIn(PoolIn):
    """The pool as it is to be from now on, whole."""

    proof: ProofGiven | None = None
    if_version: Version | None = None


class ZoneIn(Closed):
    """Another time zone for a circle, by its IANA name."""

    time_zone: ZoneName
    proof: ProofGiven | None = None


class CardIn(Closed):
    """A card for a spender; without `terms` it gets the preset cap in `currency`."""

    person_id: Id
    currency: Currency = "CNY"
    terms: Terms | None = None
    pin: Pin | None = None


class PayCodeIn(Closed):
    """In which circle the asker wants to pay."""

    circle_id: Id


class ChangedOut(Closed):
    """The version now in force, and whether it allows nothing more than the one before.

    `cools_until`: what held before binds besides until then, by the longest cooling time of all that still binds.
    """

    version: int
    lowered: bool
    cools_until: datetime | None

    @classmethod
    def of(cls, changed: Changed) -> Self:
        """From what a change came to."""
        return cls(version=changed.version, lowered=changed.lowered, cools_until=changed.cools_until)


class MandateOut(Closed):
    """A mandate in a list."""

    mandate_id: str
    circle_id: str
    payer_id: str
    spender_id: str
    state: Literal["pending", "active", "suspended", "paused", "ended"]
    reason: str | None
    version: int
    created_at: datetime
    active_at: datetime | None
    ended_at: datetime | None

    @classmethod
    def of(cls, mandate: Mandate) -> Self:
        """From the noun."""
        return cls.model_validate(
            {
                "mandate_id": mandate.id,
                "circle_id": mandate.circle_id,
                "payer_id": mandate.payer_id,
                "spender_id": mandate.spender_id,
                "state": str(mandate.state),
                "reason": mandate.reason,
                "version": mandate.version,
                "created_at": mandate.created_at,
                "active_at": mandate.active_at,
                "ended_at": mandate.ended_at,
            }
        )


class MandatesOut(Closed):
    """One page; `next` is the cursor of the following one."""

    mandates: list[MandateOut]
    next: str | None


class LimitOut(Closed):
    """A limit as set, and its window around now; `used` and `remaining` in minor units, or payments for a count."""

    limit: Limit
    window_start: datetime | None
    window_end: datetime | None
    used: int | None
    remaining: int | None

    @classmethod
    def of(cls, look: LimitLook) -> Self:
        """From a look at it."""
        return cls(
            limit=look.limit,
            window_start=None if look.window is None else look.window.start,
            window_end=None if look.window is None else look.window.end,
            used=look.used,
            remaining=look.remaining,
        )


class VersionOut(Closed):
    """Terms as they were consented to, by their hash (SHA-256 of the canonical form, 64 hexadecimal digits)."""

    version: int
    terms: Terms
    terms_hash: str
    agreed_by: str
    proof_id: str | None
    since: datetime
    cools_until: datetime | None

    @classmethod
    def of(cls, version: MandateVersion) -> Self:
        """From the noun."""
        return cls(
            version=version.version,
            terms=Terms.kept(version.terms),
            terms_hash=version.terms_hash.hex(),
            agreed_by=version.agreed_by,
            proof_id=version.proof_id,
            since=version.since,
            cools_until=version.cools_until,
        )


class CoolingOut(Closed):
    """What binds besides until an instant: limits of caution after the grant, or the terms before a raise."""

    until: datetime
    terms: Terms
    limits: list[LimitOut]


class MandateLookOut(Closed):
    """A mandate with what remains now, its funding and every version, the newest first."""

    mandate: MandateOut
    terms: Terms
    limits: list[LimitOut]
    cooling: list[CoolingOut]
    agreement_ids: list[str]
    debited: Debited | None
    funding_version: int | None
    versions: list[VersionOut]

    @classmethod
    def of(cls, look: MandateLook) -> Self:
        """From a look at it."""
        return cls(
            mandate=MandateOut.of(look.mandate),
            terms=look.terms,
            limits=[LimitOut.of(one) for one in look.limits],
            cooling=[
                CoolingOut(until=one.until, terms=one.terms, limits=[LimitOut.of(limit) for limit in one.limits])
                for one in look.cooling
            ],
            agreement_ids=[] if look.funding is None else list(look.funding.agreement_ids),
            debited=None if look.funding is None else look.funding.debited,
            funding_version=None if look.funding is None else look.funding.version,
            versions=[VersionOut.of(one) for one in look.versions],
        )


class PoolOut(Closed):
    """A pool with what remains now."""

    pool_id: str
    circle_id: str
    name: str
    spender_ids: list[str] | None
    state: Literal["active", "ended"]
    version: int
    terms: Terms
    limits: list[LimitOut]

    @classmethod
    def of(cls, pool: Pool, looks: list[LimitLook]) -> Self:
        """From the noun and a look at its limits."""
        return cls.model_validate(
            {
                "pool_id": pool.id,
                "circle_id": pool.circle_id,
                "name": pool.name,
                "spender_ids": None if pool.spender_ids is None else list(pool.spender_ids),
                "state": pool.state,
                "version": pool.version,
                "terms": pool.terms,
                "limits": [LimitOut.of(look) for look in looks],
            }
        )


class PoolsOut(Closed):
    """The payer's open pools in a circle; there are few."""

    pools: list[PoolOut]


class PoolMadeOut(Closed):
    """The pool now in force."""

    pool_id: str
    version: int


class AgreementOut(Closed):
    """An agreement as its payer sees it; `sign_url` is where they sign while it is pending."""

    agreement_id: str
    circle_id: str
    provider_account_id: str
    payer_account: str
    payer_account_id: str | None
    business_type: str
    currency: str
    per_debit_minor: int | None
    per_day_minor: int | None
    state: Literal["created", "pending", "active", "ended", "refused"]
    sign_url: str | None
    expires_at: datetime | None
    active_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None

    @classmethod
    def of(cls, agreement: Agreement) -> Self:
        """From the noun."""
        same = {name: getattr(agreement, name) for name in cls.model_fields if hasattr(agreement, name)}
        named = {"agreement_id": agreement.id, "state": str(agreement.state), "sign_url": agreement.action_url}
        return cls.model_validate({**same, **named})


class AgreementsOut(Closed):
    """One page; `next` is the cursor of the following one."""

    agreements: list[AgreementOut]
    next: str | None


class ProviderAccountOut(Closed):
    """A provider that the payer may choose."""

    provider_account_id: str
    provider: str
    account: str
    is_default: bool

    @classmethod
    def of(cls, account: ProviderAccount) -> Self:
        """From the noun."""
        return cls(
            provider_account_id=account.id,
            provider=account.provider,
            account=account.account,
            is_default=account.is_default,
        )


class ProviderAccountsOut(Closed):
    """The operator's choices, the default one first."""

    provider_accounts: list[ProviderAccountOut]


class CardOut(Closed):
    """A card, without its code."""

    card_id: str
    circle_id: str
    person_id: str
    state: Literal["active", "revoked"]
    terms: Terms | None
    has_pin: bool
    pin_locked_until: datetime | None
    issued_at: datetime
    revoked_at: datetime | None

    @classmethod
    def of(cls, card: Credential) -> Self:
        """From the noun."""
        same = {name: getattr(card, name) for name in cls.model_fields if hasattr(card, name)}
        return cls.model_validate({**same, "card_id": card.id})


class CardsOut(Closed):
    """One page; `next` is the cursor of the following one."""

    cards: list[CardOut]
    next: str | None


class CardIssuedOut(Closed):
    """A card to be printed: the static code, and its QR code as an SVG element."""

    card_id: str
    code: str
    svg: str


class PayCodeOut(Closed):
    """A code for one payment; `emv_code` is the same as an EMVCo consumer-presented code."""

    pay_code: str
    expires_at: datetime
    emv_code: str


class DoneOut(Closed):
    """It is done."""

    done: Literal[True] = True


class ZoneOut(Closed):
    """The zone now in force."""

    time_zone: str
