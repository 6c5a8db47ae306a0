"""A canteen with people whose faces are enrolled, and processes that look for them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kinpay.biometrics import enrol, gallery_store
from kinpay.biometrics.galleries import Engine, Galleries
from kinpay.biometrics.gallery_store import Scope
from kinpay.biometrics.keyring import FolderKeyring
from kinpay.biometrics.rotation import Rotations
from kinpay.biometrics.vectors import Vector
from kinpay.database.pool import Database
from kinpay.primitives.server_keys import ServerKeys
from tests.biometrics.seed import Place, seed_person, seed_place
from tests.biometrics.strangers import MODEL, Faces, sample

NOW = datetime(2026, 3, 2, 7, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Canteen:
    """An operator's site; what is needed to enrol and to look."""

    db: Database
    keyring: FolderKeyring
    rotations: Rotations
    place: Place
    site_id: str
    faces: Faces

    def scope(self, *, anywhere: bool = False) -> Scope:
        """The site's gallery of three-picture templates; `anywhere`: the operator's."""
        return Scope(
            operator_id=self.place.operator_id,
            site_id=None if anywhere else self.site_id,
            model_id=MODEL,
            dimension=self.faces.dimension,
            pictures=3,
        )

    def process(self, *, engine: Engine = "numpy", db: Database | None = None, large: int = 20_000) -> Galleries:
        """The galleries of another server process."""
        return Galleries(db or self.db, self.keyring, self.rotations, engine=engine, large=large)

    async def enrol(
        self, face: Vector, *, person_id: str | None = None, provisional: datetime | None = None
    ) -> tuple[str, str]:
        """Enrols `face`; returns person and template."""
        async with self.db.transaction() as conn:
            person = person_id or await seed_person(conn, self.place.operator_id)
            template_id = await enrol.enrol_sample(
                conn, self.keyring, self.rotations, person_id=person, sample=sample(face), captured_by=self.place.terminal_id,
                provisional_until=provisional, lane=self.place.operator_id, now=NOW,
            )  # fmt: skip
        return person, template_id

    async def crowd(self, count: int) -> list[tuple[str, str, Vector]]:
        """Enrols several people who look like nobody else."""
        made = []
        for _ in range(count):
            face = self.faces.somebody()
            made.append((*(await self.enrol(face)), face))
        return made

    async def erase(self, template_id: str, *, silently: bool = False) -> None:
        """Destroys a template. `silently`: without a word to any process, and without a new version: a lost notification."""
        lane = self.place.operator_id
        async with self.db.transaction() as conn:
            erased = await enrol.destroy(conn, template_id, reason="asked", lane=lane, now=NOW)
            if silently:
                await conn.execute("UPDATE gallery_place SET version = version - 1")
        await enrol.finish(self.keyring, [erased])

    async def allow(self, person_id: str, site_id: str) -> bool:
        """Lets somebody be looked for at another site."""
        async with self.db.transaction() as conn:
            return await gallery_store.allow(conn, person_id, site_id=site_id, lane=self.place.operator_id, now=NOW)

    async def disallow(self, person_id: str, site_id: str) -> bool:
        """The opposite."""
        async with self.db.transaction() as conn:
            return await gallery_store.disallow(conn, person_id, site_id=site_id, lane=self.place.operator_id, now=NOW)


async def open_canteen(db: Database, keys: ServerKeys, folder: Path, *, dimension: int = 64) -> Canteen:
    """A canteen without anybody in it."""
    keyring = FolderKeyring.open(folder, keys)
    async with db.transaction() as conn:
        place = await seed_place(conn)
        site_id = await conn.fetchval("SELECT site_id FROM terminal WHERE id = $1", place.terminal_id)
    return Canteen(db, keyring, Rotations(folder, keys), place, site_id, Faces(11, dimension))


async def second_site(canteen: Canteen) -> Place:
    """Another merchant with a site, of another operator."""
    async with canteen.db.transaction() as conn:
        return await seed_place(conn)
