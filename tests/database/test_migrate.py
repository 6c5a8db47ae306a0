"""Which programs work on which schema, and a migration that has to wait for a table."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import asyncpg
import pytest

import kinpay_postgres
from kinpay.database.migrate import FOLDER, SchemaMismatch, is_fit, migrate, migrations


def _with(tmp_path: Path, text: str, *, name: str = "more_beside") -> Path:
    """The migrations of a version that has one more."""
    folder = tmp_path / "next"
    shutil.copytree(FOLDER, folder)
    (folder / f"{len(migrations()) + 1:04d}_{name}.sql").write_text(text)
    return folder


@pytest.fixture
def url(cluster: kinpay_postgres.Cluster, request: pytest.FixtureRequest) -> str:
    """A database of this test alone, migrated by nobody."""
    name = request.node.name[:50]
    kinpay_postgres.drop_database(cluster, name)
    return kinpay_postgres.create_database(cluster, name)


async def test_a_program_works_on_a_newer_schema_that_says_so(url: str, tmp_path: Path) -> None:
    now = len(migrations())
    await migrate(url)
    await migrate(url, folder=_with(tmp_path, "CREATE TABLE more (id uuid);"))
    conn = await asyncpg.connect(url)
    try:
        assert await is_fit(conn)
        assert await migrate(url) == [], "and does not take it for broken"
        assert await is_fit(conn, program=8), "all steps since are beside"
        assert await is_fit(conn, program=now + 1)
        assert not await is_fit(conn, program=now + 2), "nor does one that needs a newer schema"
    finally:
        await conn.close()


async def test_a_program_does_not_start_on_a_newer_schema_that_does_not_say_so(url: str, tmp_path: Path) -> None:
    await migrate(url, folder=_with(tmp_path, "CREATE TABLE more (id uuid);", name="more"))
    conn = await asyncpg.connect(url)
    try:
        assert not await is_fit(conn)
    finally:
        await conn.close()
    with pytest.raises(SchemaMismatch):
        await migrate(url)


async def test_a_migration_gives_way_to_whoever_holds_a_table_and_comes_back(url: str, tmp_path: Path) -> None:
    await migrate(url)
    folder = _with(tmp_path, "ALTER TABLE charge ADD COLUMN more text;")
    holding, asking = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        transaction = holding.transaction()
        await transaction.start()
        await holding.execute("SELECT FROM charge")
        migrating = asyncio.create_task(migrate(url, folder=folder))
        longest = 0.0
        for _ in range(20):  # whoever comes meanwhile waits behind the migration, but not for long
            began = asyncio.get_running_loop().time()
            await asking.execute("SELECT FROM charge")
            longest = max(longest, asyncio.get_running_loop().time() - began)
            await asyncio.sleep(0.1)
        assert longest < 1.5
        assert not migrating.done()
        await transaction.commit()
        assert len(await migrating) == 1
    finally:
        await asking.close()
        await holding.close()
