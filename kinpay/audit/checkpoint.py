"""Checkpoints: a signed Merkle root over the ends of all lanes, and its export, to be kept where no insider of the database is.

A chain alone can be rewritten from its first link on, or cut off; whoever keeps an exported checkpoint elsewhere (an *anchor*)
finds that. An anchor names the end of every lane, so that it needs nothing but the audit log to be held against.
Source: RFC 6962 §2.1 (Merkle tree hashing), RFC 8032 (Ed25519); semantics.md "Concurrency"; threat A29.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from kinpay.audit.findings import Finding, Findings
from kinpay.database.sql import Connection, Sql
from kinpay.primitives.errors import NotFound
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys

ANCHOR: Final = "I11 hash_chain (anchor)"
_FORMAT: Final = "kinpay checkpoint 1"


class End(msgspec.Struct, frozen=True, array_like=True):
    """The end of a lane: its id, how many events it had, and the hash of the last one (hexadecimal)."""

    lane: str
    seq: int
    hash: str


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """An exported checkpoint. Hashes and signature in hexadecimal; `ends` sorted by lane."""

    format: str
    id: str
    at: str
    root: str
    key_id: str
    signature: str
    ends: list[End]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signed root over the ends of `lanes` lanes."""

    id: str
    at: datetime
    lanes: int
    root: bytes
    key_id: str
    signature: bytes


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root of RFC 6962 §2.1 over the leaves in their order: leaf and node hashes never pass for each other."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        # Pairing from the left, an odd one carried up, is the same tree as splitting at the largest power of two.
        paired = [hashlib.sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = paired + ([level[-1]] if len(level) % 2 else [])
    return level[0]


def _root_of(ends: Sequence[End]) -> bytes:
    return merkle_root([bytes.fromhex(end.lane) + end.seq.to_bytes(8, "big") + bytes.fromhex(end.hash) for end in ends])


def key_id_of(public_key: bytes) -> str:
    """A short name for a raw Ed25519 public key: the start of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


def public_key_of(keys: ServerKeys) -> bytes:
    """The raw public key (32 bytes) that anchors are verified with; to be kept beside them."""
    return keys.signing_key().public_key().public_bytes_raw()


def _message(*, checkpoint_id: str, at: str, lanes: int, root: str, key_id: str) -> bytes:
    return "\n".join((_FORMAT, checkpoint_id, at, str(lanes), root, key_id)).encode()


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


ENDS = Sql("SELECT id, seq, hash FROM audit_lane ORDER BY id")
# What the last checkpoint that named a lane said of it.
KNOWN = Sql("""
    SELECT DISTINCT ON (l.lane) l.lane, l.seq, l.hash FROM checkpoint_lane l JOIN checkpoint c ON c.id = l.checkpoint_id
    ORDER BY l.lane, c.at DESC, c.id DESC
""")
LAST = Sql("SELECT id, at, lanes, root, key_id, signature FROM checkpoint ORDER BY at DESC, id DESC LIMIT 1")
WRITE = Sql(
    "INSERT INTO checkpoint (id, at, lanes, root, key_id, signature) VALUES (:id, :at, :lanes, :root, :key_id, :signature)"
)
WRITE_LANES = Sql("""
    INSERT INTO checkpoint_lane (checkpoint_id, lane, seq, hash)
    SELECT :id, * FROM unnest(:lanes::uuid[], :seqs::bigint[], :hashes::bytea[])
""")
ONE_AT_A_TIME = Sql("LOCK TABLE checkpoint IN SHARE ROW EXCLUSIVE MODE")


async def make_checkpoint(conn: Connection, keys: ServerKeys, now: datetime) -> Checkpoint:
    """Signs the ends of all lanes as they are; writes those that moved since the last checkpoint. Nothing moved: the last one.

    Runs in its caller's transaction. Lanes are read in one statement, so the ends are of one moment.
    """
    await ONE_AT_A_TIME.run(conn)
    ends = [End(row["id"], row["seq"], bytes(row["hash"]).hex()) for row in await ENDS.rows(conn)]
    known = {row["lane"]: (row["seq"], bytes(row["hash"]).hex()) for row in await KNOWN.rows(conn)}
    moved = [end for end in ends if known.get(end.lane) != (end.seq, end.hash)]
    last = await LAST.row(conn)
    if last is not None and not moved and last["lanes"] == len(ends):
        return Checkpoint(**last)
    signing = keys.signing_key()
    root, checkpoint_id, key_id = _root_of(ends), new_id(), key_id_of(public_key_of(keys))
    message = _message(checkpoint_id=checkpoint_id, at=_moment(now), lanes=len(ends), root=root.hex(), key_id=key_id)
    made = Checkpoint(id=checkpoint_id, at=now, lanes=len(ends), root=root, key_id=key_id, signature=signing.sign(message))
    await WRITE.run(
        conn, id=made.id, at=made.at, lanes=made.lanes, root=made.root, key_id=made.key_id, signature=made.signature
    )
    await WRITE_LANES.run(
        conn,
        id=made.id,
        lanes=[end.lane for end in moved],
        seqs=[end.seq for end in moved],
        hashes=[bytes.fromhex(end.hash) for end in moved],
    )
    return made


async def anchor_of(conn: Connection) -> Anchor:
    """The last checkpoint with the end of every lane that it was made of. Raises: NotFound before the first."""
    row = await LAST.row(conn)
    if row is None:
        raise NotFound()
    ends = [End(known["lane"], known["seq"], bytes(known["hash"]).hex()) for known in await KNOWN.rows(conn)]
    return Anchor(
        format=_FORMAT,
        id=row["id"],
        at=_moment(row["at"]),
        root=bytes(row["root"]).hex(),
        key_id=row["key_id"],
        signature=bytes(row["signature"]).hex(),
        ends=ends,
    )


async def export(conn: Connection, path: Path) -> Anchor:
    """Writes the last checkpoint as a file, whole or not at all; keep it where nobody who administers the database writes.

    Raises: NotFound before the first checkpoint; OSError.
    """
    anchor = await anchor_of(conn)
    await asyncio.to_thread(_write_whole, path, msgspec.json.format(msgspec.json.encode(anchor), indent=1) + b"\n")
    return anchor


def _write_whole(path: Path, content: bytes) -> None:
    """Through a new file beside it, so that a crash leaves the old one or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_anchor(content: bytes) -> Anchor:
    """An anchor from its file. Raises: msgspec.ValidationError or msgspec.DecodeError for anything else."""
    return msgspec.json.decode(content, type=Anchor)


# Three answers: whether the lane is there, how far it goes, and which hash its event of that number has.
THERE = Sql("""
    SELECT a.lane, l.seq, e.hash
    FROM unnest(:lanes::uuid[], :seqs::bigint[]) AS a (lane, seq)
    LEFT JOIN audit_lane l ON l.id = a.lane LEFT JOIN audit_event e ON e.lane = a.lane AND e.seq = a.seq
""")


async def verify_anchor(conn: Connection, anchor: Anchor, public_key: bytes) -> list[Finding]:
    """Holds the audit log against an anchor: finds what was cut off, rewritten as a whole, or vanished since.

    `public_key` is raw, 32 bytes. Together with `check`, which verifies the chain up to those ends, everything that happened
    before the anchor is as it was.
    """
    findings = Findings()
    if not _is_genuine(anchor, public_key, findings):
        return findings.all()
    rows = await THERE.rows(conn, lanes=[end.lane for end in anchor.ends], seqs=[end.seq for end in anchor.ends])
    there = {row["lane"]: row for row in rows}
    for end in anchor.ends:
        row = there[end.lane]
        if row["seq"] is None:
            findings.add(ANCHOR, "audit_lane", (end.lane,), "the lane has vanished")
        elif row["seq"] < end.seq or (end.seq > 0 and row["hash"] is None):
            said = f"was cut off: it had {end.seq} events at {anchor.at} and has {row['seq']}"
            findings.add(ANCHOR, "audit_lane", (end.lane,), said)
        elif end.seq > 0 and bytes(row["hash"]).hex() != end.hash:
            said = f"was rewritten: it had another hash at {anchor.at}"
            findings.add(ANCHOR, "audit_event", (end.lane, str(end.seq)), said)
    return findings.all()


def _is_genuine(anchor: Anchor, public_key: bytes, findings: Findings) -> bool:
    """Whether the file is one that we signed, and its ends are those that were signed."""
    message = _message(checkpoint_id=anchor.id, at=anchor.at, lanes=len(anchor.ends), root=anchor.root, key_id=anchor.key_id)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(bytes.fromhex(anchor.signature), message)
        genuine = anchor.format == _FORMAT and _root_of(anchor.ends).hex() == anchor.root
    except (InvalidSignature, ValueError, OverflowError):
        genuine = False
    if not genuine:
        findings.add(ANCHOR, "checkpoint", (anchor.id,), "the anchor itself was altered, or was signed with another key")
    return genuine
