"""What requests and answers about people and circles look like."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from kinpay.people import circle, person
from kinpay.people.code import CODE_PATTERN
from kinpay.people.person import NewPerson
from kinpay.people.proof import OPERATION_PATTERN, ProofGiven
from kinpay.people.sign_in import SignedIn
from kinpay.primitives.fields import AccountName, Closed, Day, Id, Name

Locale = Literal["zh", "en"]
ZoneName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$", examples=["Asia/Shanghai"])]
PHONE: str = r"^\+?[0-9]{6,15}$"
EMAIL: str = r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+$"


class PhoneIn(Closed):
    """Codes go to a phone: digits, with `+` and the country in front or without."""

    channel: Literal["phone"]
    address: Annotated[str, Field(pattern=PHONE, examples=["+8613800138000"])]


class EmailIn(Closed):
    """Codes go to a mailbox."""

    channel: Literal["email"]
    address: Annotated[str, Field(max_length=254, pattern=EMAIL, examples=["wang@example.org"])]


class AccountIn(Closed):
    """A wish for an account."""

    operator_id: Id
    account: AccountName
    display_name: Name
    locale: Locale
    birth_date: Day | None = None
    contact: Annotated[PhoneIn | EmailIn, Field(discriminator="channel")]

    def new_person(self) -> NewPerson:
        """As the domain takes it."""
        return NewPerson(
            account=self.account,
            display_name=self.display_name,
            locale=self.locale,
            birth_date=self.birth_date,
            channel=self.contact.channel,
            address=self.contact.address,
        )


class SignInIn(Closed):
    """Whose sign-in code to send."""

    operator_id: Id
    account: AccountName


class StartedOut(Closed):
    """A code may be under way: the answer is the same whether the account exists or not."""

    sign_in_id: Id
    expires_at: datetime


class CodeIn(Closed):
    """The code that was received."""

    code: Annotated[str, Field(pattern=CODE_PATTERN, examples=["402917"])]


class PersonOut(Closed):
    """A person, as they see themself."""

    id: Id
    operator_id: Id
    account: str
    display_name: str
    locale: Locale
    state: Literal["unverified", "active", "closed"]
    staff_roles: list[str]

    @classmethod
    def of(cls, found: person.Person, *, staff_roles: frozenset[str] = frozenset()) -> Self:
        """From the noun."""
        return cls.model_validate(
            {
                "id": found.id,
                "operator_id": found.operator_id,
                "account": found.account,
                "display_name": found.display_name,
                "locale": found.locale,
                "state": str(found.state),
                "staff_roles": sorted(staff_roles),
            }
        )


class SessionOut(Closed):
    """A session; the token is shown this once."""

    token: str
    expires_at: datetime
    person: PersonOut

    @classmethod
    def of(cls, signed_in: SignedIn) -> Self:
        """From a sign-in that worked."""
        return cls(token=signed_in.token.open(), expires_at=signed_in.expires_at, person=PersonOut.of(signed_in.person))


class ProfileIn(Closed):
    """What to change about oneself; at least one of the two."""

    locale: Locale | None = None
    display_name: Name | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.locale is None and self.display_name is None:
            raise ValueError("nothing to change")
        return self


class ProofIn(Closed):
    """What to prove: the operation, the thing it is done to, and the content exactly as it will be asked for."""

    operation: Annotated[str, Field(pattern=OPERATION_PATTERN, examples=["circle.unfreeze"])]
    subject_id: Id
    content: dict[str, Any]


class ProofOut(Closed):
    """A proof whose code is under way."""

    proof_id: Id
    expires_at: datetime
    summary_hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CircleIn(Closed):
    """A wish for a circle."""

    name: Name
    time_zone: ZoneName


class MemberOut(Closed):
    """A member and all their roles."""

    person_id: Id
    display_name: str
    roles: list[str]


class CircleSummaryOut(Closed):
    """A circle in a list."""

    id: Id
    name: str
    time_zone: str
    state: Literal["active", "frozen"]
    created_at: datetime

    @classmethod
    def of(cls, found: circle.Circle) -> Self:
        """From the noun."""
        names = ("id", "name", "time_zone", "state", "created_at")
        return cls.model_validate({name: getattr(found, name) for name in names})


class CircleOut(CircleSummaryOut):
    """A circle with its members."""

    members: list[MemberOut]

    @classmethod
    def of(cls, found: circle.Circle) -> Self:
        """From the noun."""
        members = [
            MemberOut(person_id=member.person_id, display_name=member.display_name, roles=sorted(member.roles))
            for member in found.members
        ]
        return cls.model_validate({**dict(CircleSummaryOut.of(found)), "members": members})


class CirclesOut(Closed):
    """A page of circles; `next` is the `after` of the following page."""

    circles: list[CircleSummaryOut]
    next: Id | None


class InviteIn(Closed):
    """Whom to invite as what. The proof's operation is `circle.invite`, its content `{account, role}`."""

    account: AccountName
    role: Literal["approver", "viewer", "payer"]
    proof: ProofGiven | None = None


class AcceptedOut(Closed):
    """Heard; nothing more is said, whether there is such an account or not."""

    status: Literal["accepted"] = "accepted"


class InvitationOut(Closed):
    """An offered role."""

    circle_id: Id
    circle_name: str
    role: str
    invited_by: Id
    invited_by_name: str
    expires_at: datetime


class InvitationsOut(Closed):
    """The offers that wait for the asker's yes."""

    invitations: list[InvitationOut]


class JoinIn(Closed):
    """Yes to an offered role."""

    role: Literal["approver", "viewer", "payer"]


class UnfreezeIn(Closed):
    """The proof's operation is `circle.unfreeze`, its content `{}`."""

    proof: ProofGiven | None = None


class CircleStateOut(Closed):
    """Where the circle stands now."""

    state: Literal["active", "frozen"]
