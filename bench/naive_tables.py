"""kinpay's own tables as SQLAlchemy sees them, as far as the naive implementation needs them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, DateTime, Identity, LargeBinary, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Table(DeclarativeBase):
    """How Python's types are stored."""

    type_annotation_map = {  # noqa: RUF012  SQLAlchemy's own way to say it
        str: Text(),
        datetime: DateTime(timezone=True),
        UUID: Uuid(),
        bytes: LargeBinary(),
        int: BigInteger(),
        dict[str, Any]: JSONB(),
        list[UUID]: ARRAY(Uuid()),
    }


class Circle(Table):
    """A circle."""

    __tablename__ = "circle"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    state: Mapped[str]
    time_zone: Mapped[str]


class Mandate(Table):
    """What a payer allows a spender."""

    __tablename__ = "mandate"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    circle_id: Mapped[UUID]
    payer_id: Mapped[UUID]
    spender_id: Mapped[UUID]
    state: Mapped[str]
    version: Mapped[int]


class MandateVersion(Table):
    """Its limits."""

    __tablename__ = "mandate_version"
    mandate_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    terms: Mapped[dict[str, Any]]


class SettlementRule(Table):
    """Its agreements."""

    __tablename__ = "settlement_rule"
    mandate_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    agreement_ids: Mapped[list[UUID]]


class Agreement(Table):
    """A payer's agreement with a provider."""

    __tablename__ = "agreement"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    state: Mapped[str]


class Credential(Table):
    """What the spender showed."""

    __tablename__ = "credential"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    state: Mapped[str]


class Charge(Table):
    """A charge."""

    __tablename__ = "charge"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    circle_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int]
    operator_id: Mapped[UUID]
    merchant_id: Mapped[UUID]
    terminal_id: Mapped[UUID]
    spender_id: Mapped[UUID]
    mandate_id: Mapped[UUID | None]
    mandate_version: Mapped[int | None]
    agreement_id: Mapped[UUID | None]
    payer_id: Mapped[UUID | None]
    credential_id: Mapped[UUID | None]
    method: Mapped[str]
    mcc: Mapped[str]
    currency: Mapped[str]
    amount_minor: Mapped[int]
    state: Mapped[str]
    capture_at_once: Mapped[bool]
    refusal: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    decided_at: Mapped[datetime]
    hold_expires_at: Mapped[datetime | None]


class RequestKey(Table):
    """A request and its charge."""

    __tablename__ = "request_key"
    principal_id: Mapped[UUID] = mapped_column(primary_key=True)
    operation: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    charge_id: Mapped[UUID]
    circle_id: Mapped[UUID]
    created_at: Mapped[datetime]


class AuditLane(Table):
    """The end of a circle's chain."""

    __tablename__ = "audit_lane"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int]
    hash: Mapped[bytes]
    charge_seq: Mapped[int]


class AuditEvent(Table):
    """A link of it."""

    __tablename__ = "audit_event"
    lane: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str]
    subject_id: Mapped[UUID]
    actor_id: Mapped[UUID]
    body: Mapped[str]
    hash: Mapped[bytes]


class Outbox(Table):
    """What has to be told."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    lane: Mapped[UUID]
    topic: Mapped[str]
    subject_id: Mapped[UUID]
    created_at: Mapped[datetime]
    available_at: Mapped[datetime]
