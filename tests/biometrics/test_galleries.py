"""Galleries: the same answers from both engines, and an erased person is found by no process from the commit on."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from kinpay.biometrics import enrol, renew
from kinpay.biometrics.galleries import Engine, Galleries
from kinpay.biometrics.gallery import Entry
from kinpay.biometrics.gallery_numpy import NumpyGallery
from kinpay.biometrics.gallery_store import CHANNEL, Scope
from kinpay.biometrics.matcher import Candidate, Ranking
from kinpay.biometrics.vectors import Vector
from kinpay.database.pool import Database
from kinpay.primitives.errors import Invalid, NotFound
from kinpay.primitives.ids import new_id
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys
from kinpay.worker.listen import Listener
from tests.biometrics.enrolled import NOW, Canteen, open_canteen
from tests.biometrics.seed import seed_place
from tests.biometrics.strangers import Faces, sample

ENGINES: tuple[Engine, ...] = ("numpy", "pgvector")


@pytest_asyncio.fixture
async def canteen(db: Database, keys: ServerKeys, tmp_path: Path) -> Canteen:
    return await open_canteen(db, keys, tmp_path / "keyring")


@pytest_asyncio.fixture
async def another_process(database_url: str) -> AsyncIterator[Database]:
    """A pool of its own, as another server process has."""
    database = await Database.open(database_url, max_connections=6)
    yield database
    await database.close()


def nearest(ranking: Ranking) -> str | None:
    return ranking.candidates[0].person_id if ranking.candidates and ranking.candidates[0].score > 0.5 else None


@pytest.mark.parametrize("engine", ENGINES)
async def test_whoever_is_enrolled_is_found_first_and_strangers_are_near_to_nobody(canteen: Canteen, engine: Engine) -> None:
    people = await canteen.crowd(12)
    galleries = canteen.process(engine=engine)
    for person_id, template_id, face in people:
        ranking = await galleries.search(canteen.scope(), sample(canteen.faces.like(face, 0.8)))
        best = ranking.candidates[0]
        assert (best.person_id, best.template_id, ranking.size, str(ranking.comparison)) == (person_id, template_id, 12, "3+3")
        assert best.score == pytest.approx(0.8, abs=1e-3)
    assert nearest(await galleries.search(canteen.scope(), sample(canteen.faces.somebody()))) is None
    with pytest.raises(Invalid):
        await galleries.search(canteen.scope(), sample(Faces(1, 32).somebody()))
    with pytest.raises(Invalid):
        await galleries.search(canteen.scope(), sample(canteen.faces.somebody(), model_id="another"))


async def test_both_engines_give_the_same_people_and_scores(canteen: Canteen) -> None:
    people = await canteen.crowd(40)
    twin = canteen.faces.like(people[0][2], 0.9)
    await canteen.enrol(twin)
    one, other = canteen.process(engine="numpy"), canteen.process(engine="pgvector")
    for probe in [canteen.faces.like(face, 0.7) for _, _, face in people[:15]] + [canteen.faces.somebody() for _ in range(5)]:
        a = (await one.search(canteen.scope(), sample(probe))).candidates
        b = (await other.search(canteen.scope(), sample(probe))).candidates
        assert [item.template_id for item in a[:2]] == [item.template_id for item in b[:2]]
        assert [item.score for item in a[:2]] == pytest.approx([item.score for item in b[:2]], abs=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
async def test_what_is_erased_in_one_process_is_found_by_no_other_at_once(
    canteen: Canteen, another_process: Database, engine: Engine
) -> None:
    people = await canteen.crowd(3)
    here, there = canteen.process(engine=engine), canteen.process(engine=engine, db=another_process)
    person_id, template_id, face = people[0]
    for galleries in (here, there):
        assert nearest(await galleries.search(canteen.scope(), sample(face))) == person_id
    await canteen.erase(template_id)
    ranking = await there.search(canteen.scope(), sample(face))
    assert nearest(ranking) is None
    assert ranking.size == 2
    assert {item.person_id for item in ranking.candidates} == {people[1][0], people[2][0]}
    newcomer = await canteen.enrol(face)
    for galleries in (here, there):
        assert nearest(await galleries.search(canteen.scope(), sample(face))) == newcomer[0]


class _Trusting(Galleries):
    """The planted defect: what an index holds is believed."""

    async def _still_there(self, scope: Scope, found: Sequence[Candidate]) -> tuple[Candidate, ...]:
        return tuple(found)


async def test_even_if_every_word_of_it_is_lost_an_erased_person_is_not_found(canteen: Canteen) -> None:
    person_id, template_id, face = (await canteen.crowd(3))[0]
    careful = canteen.process()
    trusting = _Trusting(canteen.db, canteen.keyring, canteen.rotations, engine="numpy")
    for galleries in (careful, trusting):
        assert nearest(await galleries.search(canteen.scope(), sample(face))) == person_id
    await canteen.erase(template_id, silently=True)
    stale = await careful.search(canteen.scope(), sample(face))
    assert stale.size == 3, "the index holds them still"
    assert nearest(stale) is None
    assert nearest(await trusting.search(canteen.scope(), sample(face))) == person_id, "without the look at the rows it is red"


async def test_a_notification_alone_empties_the_memory_of_another_process(canteen: Canteen, another_process: Database) -> None:
    people = await canteen.crowd(2)
    galleries = canteen.process(db=another_process)
    listener = Listener(another_process)
    listener.on(CHANNEL, galleries.heard)
    listening = asyncio.create_task(listener.run())
    try:
        await galleries.search(canteen.scope(), sample(people[0][2]))
        held = galleries._held[canteen.scope()].index
        assert isinstance(held, NumpyGallery)
        await asyncio.sleep(0.2)
        await canteen.erase(people[0][1])
        async with asyncio.timeout(10):
            while await held.size() == 2:  # noqa: ASYNC110  nobody tells a test
                await asyncio.sleep(0.02)
        assert await held.template_ids() == {people[1][1]}
        assert not held._matrix[1:].any(), "its place is overwritten"
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await galleries.close()
    assert not held._matrix.any()


OTHER_PROCESS = """
import asyncio, json, sys
import numpy as np
from pathlib import Path
from kinpay.biometrics.galleries import Galleries
from kinpay.biometrics.gallery_store import Scope
from kinpay.biometrics.keyring import FolderKeyring
from kinpay.biometrics.rotation import Rotations
from kinpay.database.pool import Database
from kinpay.primitives.server_keys import ServerKeys
from tests.biometrics.strangers import sample

async def main():
    asked = json.loads(sys.stdin.readline())
    keys = ServerKeys.of([bytes(range(32))])
    folder = Path(asked["folder"])
    db = await Database.open(asked["url"], max_connections=4)
    galleries = Galleries(db, FolderKeyring.open(folder, keys), Rotations(folder, keys), engine=asked["engine"])
    face = sample(np.array(asked["face"], dtype=np.float32))
    while True:
        found = (await galleries.search(Scope(**asked["scope"]), face)).candidates
        print(found[0].person_id if found and found[0].score > 0.5 else "nobody", flush=True)
        if not sys.stdin.readline():
            return

asyncio.run(main())
"""


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_process_of_its_own_stops_finding_whom_this_one_erased(
    canteen: Canteen, database_url: str, tmp_path: Path, engine: Engine
) -> None:
    person_id, template_id, face = (await canteen.crowd(3))[0]
    scope = {name: getattr(canteen.scope(), name) for name in ("operator_id", "site_id", "model_id", "dimension", "pictures")}
    asked = {"folder": str(tmp_path / "keyring"), "url": database_url, "engine": engine, "face": face.tolist(), "scope": scope}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", OTHER_PROCESS, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            process.stdin.write(json.dumps(asked).encode() + b"\n")
            assert (await process.stdout.readline()).decode().strip() == person_id
            await canteen.erase(template_id)
            process.stdin.write(b"again\n")
            assert (await process.stdout.readline()).decode().strip() == "nobody"
    finally:
        process.stdin.close()
        await process.wait()


async def test_one_is_looked_for_where_one_was_enrolled_or_allowed_and_nowhere_else(canteen: Canteen) -> None:
    person_id, _, face = (await canteen.crowd(2))[0]
    async with canteen.db.transaction() as conn:
        merchant = await conn.fetchval("SELECT merchant_id FROM site WHERE id = $1", canteen.site_id)
        kiosk = new_id()
        await conn.execute("INSERT INTO site VALUES ($1, $2, 'Kiosk', kinpay_now())", kiosk, merchant)
        foreign = await seed_place(conn)
        foreign_site = await conn.fetchval("SELECT site_id FROM terminal WHERE id = $1", foreign.terminal_id)
    galleries = canteen.process()
    at_kiosk = Scope(**{**{f: getattr(canteen.scope(), f) for f in Scope.__slots__}, "site_id": kiosk})
    assert (await galleries.search(at_kiosk, sample(face))).size == 0
    assert await canteen.allow(person_id, kiosk)
    assert not await canteen.allow(person_id, kiosk)
    assert nearest(await galleries.search(at_kiosk, sample(face))) == person_id
    assert (await galleries.search(canteen.scope(anywhere=True), sample(face))).size == 2
    assert await canteen.disallow(person_id, canteen.site_id)
    assert not await canteen.disallow(person_id, canteen.site_id)
    assert nearest(await galleries.search(canteen.scope(), sample(face))) is None
    with pytest.raises(NotFound):
        await canteen.allow(person_id, foreign_site)
    async with canteen.db.connection() as conn:
        kinds = await conn.fetch(
            "SELECT kind, body FROM audit_event WHERE subject_id = $1 AND kind LIKE 'gallery.%' ORDER BY seq", person_id
        )
    assert [row["kind"] for row in kinds] == ["gallery.joined", "gallery.joined", "gallery.left"]


async def test_a_provisional_template_is_nobody_s_until_it_is_confirmed(canteen: Canteen) -> None:
    face = canteen.faces.somebody()
    galleries = canteen.process()
    person_id, template_id = await canteen.enrol(face, provisional=NOW + timedelta(minutes=15))
    assert nearest(await galleries.search(canteen.scope(), sample(face))) is None
    async with canteen.db.transaction() as conn:
        assert await enrol.confirm(conn, template_id, lane=canteen.place.operator_id, now=NOW)
    assert nearest(await galleries.search(canteen.scope(), sample(face))) == person_id


async def test_with_the_last_template_a_person_is_looked_for_nowhere(canteen: Canteen) -> None:
    face = canteen.faces.somebody()
    person_id, first = await canteen.enrol(face)
    _, second = await canteen.enrol(canteen.faces.like(face, 0.95), person_id=person_id)

    async def sites() -> int:
        async with canteen.db.connection() as conn:
            return await conn.fetchval("SELECT count(*) FROM gallery_member WHERE person_id = $1", person_id)

    await canteen.erase(first)
    assert await sites() == 1
    assert nearest(await canteen.process().search(canteen.scope(), sample(face))) == person_id
    await canteen.erase(second)
    assert await sites() == 0


async def test_a_template_whose_key_is_gone_or_whose_row_was_changed_stays_closed(
    canteen: Canteen, caplog: pytest.LogCaptureFixture
) -> None:
    people = await canteen.crowd(3)
    async with canteen.db.transaction() as conn:
        key_id = await conn.fetchval("SELECT key_id FROM template WHERE id = $1", people[0][1])
        await conn.execute("UPDATE template_vector SET pictures = 1 WHERE template_id = $1", people[1][1])
    await canteen.keyring.destroy(key_id)
    ranking = await canteen.process().search(canteen.scope(), sample(people[0][2]))
    assert {item.person_id for item in ranking.candidates} == {people[2][0]}
    singles = Scope(**{**{f: getattr(canteen.scope(), f) for f in Scope.__slots__}, "pictures": 1})
    assert (await canteen.process().search(singles, sample(people[1][2]))).candidates == ()
    assert "templates without a key" in caplog.text
    assert "template does not open" in caplog.text


async def test_the_same_face_in_another_account_is_for_somebody_to_look_at(canteen: Canteen) -> None:
    person_id, _, face = (await canteen.crowd(5))[0]
    galleries = canteen.process()
    again = sample(canteen.faces.like(face, 0.7))
    found = await galleries.duplicates(canteen.scope(anywhere=True), again, own_person_id=new_id())
    assert found is not None
    assert found.person_ids.open() == (person_id,)
    assert person_id not in repr(found)
    assert found.threshold == 0.50
    assert await galleries.duplicates(canteen.scope(anywhere=True), again, own_person_id=person_id) is None
    stranger = sample(canteen.faces.like(face, 0.3))
    assert await galleries.duplicates(canteen.scope(anywhere=True), stranger, own_person_id=new_id()) is None


async def test_one_account_with_many_templates_does_not_hide_the_next_one(canteen: Canteen) -> None:
    face = canteen.faces.somebody()
    person_id, _ = await canteen.enrol(face)
    for _ in range(10):
        await canteen.enrol(canteen.faces.like(face, 0.98), person_id=person_id)
    twin, _ = await canteen.enrol(canteen.faces.like(face, 0.9))
    ranking = await canteen.process().search(canteen.scope(), sample(face))
    assert [item.person_id for item in ranking.by_account()] == [person_id, twin]


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_renewal_may_stop_anywhere_and_nobody_is_enrolled_again(canteen: Canteen, engine: Engine) -> None:
    people = await canteen.crowd(5)
    galleries = canteen.process(engine=engine)

    async def everybody_is_found() -> None:
        for person_id, _, face in people:
            assert nearest(await galleries.search(canteen.scope(), sample(face))) == person_id

    async def versions() -> dict[int, int]:
        async with canteen.db.connection() as conn:
            rows = await conn.fetch("SELECT rotation_version AS v, count(*) AS n FROM template_vector GROUP BY 1")
        return {row["v"]: row["n"] for row in rows}

    await everybody_is_found()
    assert await renew.begin(canteen.db, canteen.rotations, canteen.place.operator_id) == 2
    await everybody_is_found()
    _, after = await renew._turn_some(
        canteen.db, canteen.keyring, canteen.rotations, canteen.place.operator_id, after="0" * 32, at_once=2
    )
    assert after is not None
    assert await versions() == {1: 3, 2: 2}
    people.append((*(await canteen.enrol(face := canteen.faces.somebody())), face))
    await everybody_is_found()
    assert await renew.carry_on(canteen.db, canteen.keyring, canteen.rotations, at_once=2) == 3
    assert await versions() == {2: 6}
    assert await renew.carry_on(canteen.db, canteen.keyring, canteen.rotations) == 0
    await everybody_is_found()
    assert await renew.forget_seeds(canteen.db, canteen.rotations) == 0, "a copy of the database may have to be restored"
    assert await renew.forget_seeds(canteen.db, canteen.rotations, kept=timedelta(0)) == 1
    galleries = canteen.process(engine=engine)
    await everybody_is_found()
    async with canteen.db.connection() as conn:
        told = await conn.fetch("SELECT kind FROM audit_event WHERE kind LIKE 'rotation.%' ORDER BY seq")
    assert [row["kind"] for row in told] == [
        "rotation.begun", "rotation.begun", "rotation.carried_on", "rotation.carried_on", "rotation.carried_on",
        "rotation.retired", "rotation.forgotten",
    ]  # fmt: skip


async def test_two_who_enrol_first_at_once_agree_on_one_rotation(canteen: Canteen) -> None:
    faces = [canteen.faces.somebody() for _ in range(4)]
    made = await asyncio.gather(*(canteen.enrol(face) for face in faces))
    galleries = canteen.process()
    for (person_id, _), face in zip(made, faces, strict=True):
        assert nearest(await galleries.search(canteen.scope(), sample(face))) == person_id


async def test_auto_takes_pgvector_for_a_large_scope_only(canteen: Canteen) -> None:
    people = await canteen.crowd(4)
    for large, name in ((5, "NumpyGallery"), (4, "PgvectorGallery")):
        galleries = canteen.process(engine="auto", large=large)
        assert nearest(await galleries.search(canteen.scope(), sample(people[0][2]))) == people[0][0]
        assert type(galleries._held[canteen.scope()].index).__name__ == name


async def test_the_matrix_is_exact_however_it_was_filled_and_emptied() -> None:
    random, held, index = np.random.default_rng(3), {}, NumpyGallery(16)  # type: ignore[var-annotated]
    faces = Faces(3, 16)
    for step in range(400):
        if held and random.random() < 0.4:
            gone = str(random.choice(sorted(held)))
            assert await index.remove([gone, "never there"]) == 1
            del held[gone]
        else:
            held[f"t{step}"] = faces.somebody()
            await index.add([Entry(f"t{step}", f"p{step}", Sealed(held[f"t{step}"]))])
        if step % 20 == 0:
            probe: Vector = faces.somebody()
            best = sorted(held, key=lambda name: -float(held[name] @ probe))[:3]
            assert [item.template_id for item in await index.search(probe, limit=3)] == best
    assert await index.template_ids() == set(held)
    used: Any = index._matrix[await index.size() :]
    assert not used.any(), "what was removed is overwritten"
    with pytest.raises(ValueError, match="dimension"):
        await index.add([Entry("x", "y", Sealed(np.ones(15, dtype=np.float32)))])
