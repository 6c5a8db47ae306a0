"""What requests and answers about operators, their merchants, sites and staff look like."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from kinpay.operators import act, operator, staff
from kinpay.primitives.fields import AccountName, Closed, Id, Mcc, Name

Role = Literal["owner", "installer", "support"]


class MerchantIn(Closed):
    """A merchant to enter."""

    name: Name
    mcc: Mcc


class MerchantOut(Closed):
    """A merchant."""

    id: Id
    name: str
    mcc: str
    created_at: datetime

    @classmethod
    def of(cls, found: operator.Merchant) -> Self:
        """From the noun."""
        return cls(id=found.id, name=found.name, mcc=found.mcc, created_at=found.created_at)


class MerchantsOut(Closed):
    """A page of merchants."""

    merchants: list[MerchantOut]
    next: Id | None


class SiteIn(Closed):
    """A site to enter."""

    merchant_id: Id
    name: Name


class SiteOut(Closed):
    """A site."""

    id: Id
    merchant_id: Id
    name: str
    created_at: datetime

    @classmethod
    def of(cls, found: operator.Site) -> Self:
        """From the noun."""
        return cls(id=found.id, merchant_id=found.merchant_id, name=found.name, created_at=found.created_at)


class SitesOut(Closed):
    """A page of sites."""

    sites: list[SiteOut]
    next: Id | None


class OperatorOut(Closed):
    """The operator. `dual_control`: its privileged acts take two people."""

    id: Id
    name: str
    time_zone: str
    dual_control: bool

    @classmethod
    def of(cls, found: operator.Operator) -> Self:
        """From the noun."""
        return cls(id=found.id, name=found.name, time_zone=found.time_zone, dual_control=found.dual_control)


class DualControlIn(Closed):
    """Whether privileged acts take two people from now on."""

    on: bool


class StaffIn(Closed):
    """A role for somebody who has an account at the operator and has signed in once."""

    account: AccountName
    role: Role


class StaffOut(Closed):
    """Somebody of the staff; `since` the first of their roles."""

    person_id: Id
    account: str
    display_name: str
    roles: list[Role]
    since: datetime

    @classmethod
    def of(cls, found: staff.Staff) -> Self:
        """From the noun."""
        told: dict[str, Any] = {name: getattr(found, name) for name in cls.model_fields}
        return cls(**told)


class StaffListOut(Closed):
    """A page of the staff."""

    staff: list[StaffOut]
    next: Id | None


class PrivilegedActOut(Closed):
    """What somebody of the staff wants to do, and whether a second person agreed. `about` holds exactly what would be done."""

    id: Id
    kind: act.ActKind
    about: dict[str, Any]
    state: act.ActState
    asked_by: Id
    asked_by_name: str
    asked_at: datetime
    expires_at: datetime
    decided_by: Id | None
    decided_at: datetime | None
    done_at: datetime | None

    @classmethod
    def of(cls, found: act.PrivilegedAct) -> Self:
        """From the noun."""
        told: dict[str, Any] = {name: getattr(found, name) for name in cls.model_fields}
        return cls(**{**told, "about": dict(found.about)})


class PrivilegedActsOut(Closed):
    """A page, newest first."""

    privileged_acts: list[PrivilegedActOut]
    next: Id | None
