"""No template, plain or rotated, in any dump, log, file, answer or error: a planted one is searched for in all its forms."""

from __future__ import annotations

import base64
import logging
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

import kinpay_postgres
from kinpay.biometrics import enrol, renew
from kinpay.biometrics.galleries import Duplicate
from kinpay.biometrics.gallery import Entry
from kinpay.biometrics.gallery_numpy import NumpyGallery
from kinpay.biometrics.gallery_pgvector import _written
from kinpay.biometrics.matcher import Tolerance, judge, said
from kinpay.biometrics.rotation import turn
from kinpay.biometrics.template import rotated
from kinpay.biometrics.vectors import Vector, to_content
from kinpay.database.pool import Database
from kinpay.primitives.errors import Invalid, KinpayError
from kinpay.primitives.money import Money
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys
from kinpay_postgres.account import plain_environment
from kinpay_postgres.binaries import embedded_binaries
from kinpay_postgres.folder import Folder
from tests.biometrics.enrolled import NOW, Canteen, open_canteen
from tests.biometrics.strangers import Faces, sample

_WINDOW: Final = 12


@dataclass(frozen=True)
class Canary:
    """A vector, and every form in which it could have got out."""

    forms: dict[str, bytes]

    @classmethod
    def of(cls, **vectors: Vector) -> Canary:
        """Of each: the bytes of 16 and 32 bits, those in base64 (at each alignment) and hexadecimal, and numbers as text."""
        forms: dict[str, bytes] = {}
        for name, vector in vectors.items():
            for kind, raw in (("f2", to_content(vector)), ("f4", vector.astype("<f4").tobytes()), ("f8", _doubles(vector))):
                part = raw[:48]
                forms[f"{name} {kind}"] = part[:24]
                forms[f"{name} {kind} hex"] = part[:24].hex().encode()
                for shift in range(3):
                    # What surrounds it changes the first and last characters only.
                    forms[f"{name} {kind} base64 +{shift}"] = base64.b64encode(bytes(shift) + part)[4:-4]
            as_dumped = ",".join(str(number) for number in vector.astype("<f2").astype(np.float32))
            for text in (_written(vector), str(vector.tolist()), repr(vector), str(vector), as_dumped):
                forms[f"{name} text {len(forms)}"] = text.removeprefix("array(").strip("[ ").encode()[: 4 * _WINDOW]
        return cls(forms)

    def found_in(self, text: bytes | str) -> list[str]:
        """Which forms of it are in there."""
        raw = text.encode() if isinstance(text, str) else text
        return [name for name, form in self.forms.items() if form in raw]


def _doubles(vector: Vector) -> bytes:
    return vector.astype("<f8").tobytes()


async def planted(canteen: Canteen) -> tuple[str, str, Vector, Canary]:
    """Somebody enrolled, searched for by both engines, and whose rotation is being renewed."""
    face = canteen.faces.somebody()
    await canteen.crowd(3)
    person_id, template_id = await canteen.enrol(face)
    operator_id = canteen.place.operator_id
    await renew.begin(canteen.db, canteen.rotations, operator_id)
    await renew.carry_on(canteen.db, canteen.keyring, canteen.rotations)
    for engine in ("numpy", "pgvector"):
        galleries = canteen.process(engine=engine)  # type: ignore[arg-type]
        await galleries.search(canteen.scope(), sample(face))
    turned = {}
    for version in (1, 2):
        matrix = await canteen.rotations.matrix(operator_id, version, model_id=sample(face).model_id, dimension=len(face))
        turned[f"rotated{version}"] = turn(matrix, face)
    async with canteen.db.connection() as conn:
        kept = (await enrol.open_template(conn, canteen.keyring, template_id=template_id, now=NOW)).vector().open()
    return person_id, template_id, face, Canary.of(plain=face, kept=kept, **turned)


def dump(cluster: kinpay_postgres.Cluster, url: str) -> bytes:
    """What `pg_dump` writes without being told anything."""
    program = embedded_binaries() / "pg_dump"
    done = subprocess.run([program, url], capture_output=True, check=True, env=plain_environment(), timeout=60)
    assert b"template_vector" in done.stdout, "it is the whole database"
    return done.stdout


async def write_everything(administrator: Any) -> None:
    """Has the server write its memory to its files. A plain checkpoint leaves UNLOGGED tables out; copying files does not."""
    await administrator.execute("CREATE DATABASE flushed STRATEGY file_copy")
    await administrator.execute("DROP DATABASE flushed")


async def test_no_dump_log_or_file_holds_a_template(
    db: Database,
    database_url: str,
    cluster: kinpay_postgres.Cluster,
    administrator: Any,
    keys: ServerKeys,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    canteen = await open_canteen(db, keys, tmp_path / "keyring")
    _, template_id, _, canary = await planted(canteen)
    assert canary.found_in(dump(cluster, database_url)) == []
    assert canary.found_in(caplog.text) == []
    folder = Folder(cluster.data_dir)
    assert canary.found_in(folder.log_file.read_bytes()) == []
    await write_everything(administrator)
    async with db.connection() as conn:
        relation = await conn.fetchval("SELECT pg_relation_filepath('kinpay_gallery.entry')")
    assert "kept f2" in canary.found_in((folder.pgdata / relation).read_bytes()), "this search sees what there is to see"
    logged = [file for file in (folder.pgdata / "pg_wal").iterdir() if file.is_file()]
    assert [found for file in logged for found in canary.found_in(file.read_bytes())] == []
    for file in (tmp_path / "keyring").iterdir():
        assert canary.found_in(file.read_bytes()) == []
    await canteen.erase(template_id)
    await canteen.process(engine="pgvector").search(canteen.scope(), sample(Faces(5).somebody()))
    await write_everything(administrator)
    async with db.connection() as conn:
        anew = await conn.fetchval("SELECT pg_relation_filepath('kinpay_gallery.entry')")
    left = [(folder.pgdata / path) for path in (relation, anew) if (folder.pgdata / path).exists()]
    assert [found for file in left for found in canary.found_in(file.read_bytes())] == [], "an erased one's bytes are gone"


async def test_a_dump_that_took_the_index_along_would_be_seen(
    db: Database, database_url: str, cluster: kinpay_postgres.Cluster, keys: ServerKeys, tmp_path: Path
) -> None:
    canteen = await open_canteen(db, keys, tmp_path / "keyring")
    _, _, _, canary = await planted(canteen)
    async with db.connection() as conn:
        await conn.execute("ALTER EXTENSION vector DROP TABLE kinpay_gallery.entry")
    assert canary.found_in(dump(cluster, database_url)) != []


async def test_nothing_that_is_printed_answered_or_raised_shows_a_vector(
    db: Database, keys: ServerKeys, tmp_path: Path
) -> None:
    canteen = await open_canteen(db, keys, tmp_path / "keyring")
    person_id, template_id, face, canary = await planted(canteen)
    galleries = canteen.process()
    ranking = await galleries.search(canteen.scope(), sample(face))
    verdicts = [judge(ranking, Money(minor, "CNY"), Tolerance()) for minor in (100, 10_000_000)]
    duplicate = await galleries.duplicates(canteen.scope(), sample(face), own_person_id="nobody")
    assert isinstance(duplicate, Duplicate)
    matrix = await canteen.rotations.matrix(canteen.place.operator_id, 1, model_id="m", dimension=len(face))
    index = NumpyGallery(len(face))
    await index.add([Entry(template_id, person_id, Sealed(face))])
    held: list[Any] = [
        sample(face), rotated(sample(face), matrix, rotation_version=1), Entry("t", "p", Sealed(face)), index, galleries,
        ranking, *verdicts, duplicate, canteen.rotations, canteen.keyring, galleries._held, *ranking.candidates,
    ]  # fmt: skip
    for thing in held:
        assert canary.found_in(f"{thing!r} {thing!s} {thing:}") == [], type(thing)
    for verdict in verdicts:
        assert canary.found_in(str(said(verdict)) + str(verdict.evidence.record())) == []
    for wrong in (lambda: sample(face, pictures=2), lambda: sample(face, model_id="a b")):
        with pytest.raises(Invalid) as refused:
            wrong()
        assert canary.found_in(f"{refused.value!r} {refused.value}") == []
    with pytest.raises(KinpayError) as failed:
        await galleries.search(canteen.scope(), sample(face[:32]))
    assert canary.found_in(f"{failed.value!r} {failed.value}") == []
    assert canary.found_in(repr(face.tolist())), "shown in the open it is seen"
