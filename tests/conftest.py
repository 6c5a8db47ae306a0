"""What every test may lean on: a private PostgreSQL for the session, a fresh migrated database, a movable clock.

After every test that had a database its books are checked; a test that breaks them on purpose says so with
`@pytest.mark.books_broken`.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

import kinpay_postgres
from kinpay.database.migrate import migrate
from kinpay.database.pool import Database, prepare_connection
from kinpay.primitives.server_keys import ServerKeys
from kinpay_postgres.folder import Folder

TEMPLATE = "kinpay_template"
_numbers = count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Names our markers, so that a misspelt one is an error."""
    config.addinivalue_line("markers", "books_broken: leaves the books broken on purpose; they are not checked afterwards")


_LONGEST = ("simulation", "stories", "recovery", "bench", "postgres", "api", "faces", "biometrics", "sittings")
"""Folders of few and long files. They begin first, or one of the workers sits idle at the end while the other does them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first; all others stay in their order."""
    places = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.path.parent.name, len(places)))


@pytest.fixture(scope="session")
def cluster() -> Iterator[kinpay_postgres.Cluster]:
    """A private PostgreSQL, one for each test process. It is thrown away, so nothing waits for the disk."""
    folder = Path(tempfile.mkdtemp(prefix="kinpay-tests-", dir="/tmp"))
    quick = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "64MB", "max_connections": "150"}
    try:
        yield kinpay_postgres.start(folder, settings=quick)
    finally:
        kinpay_postgres.stop(folder, mode="immediate")
        shutil.rmtree(Folder(folder).socket_dir, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture(scope="session")
async def template(cluster: kinpay_postgres.Cluster) -> str:
    """The name of a migrated, empty database from which the others are copied."""
    url = kinpay_postgres.create_database(cluster, TEMPLATE)
    await migrate(url)
    await watch_lanes(url)
    return TEMPLATE


@pytest_asyncio.fixture(scope="session")
async def administrator(cluster: kinpay_postgres.Cluster) -> AsyncIterator[Any]:
    """A connection that makes and removes databases."""
    conn = await asyncpg.connect(cluster.url())
    yield conn
    await conn.close()


@pytest_asyncio.fixture
async def database_url(
    cluster: kinpay_postgres.Cluster, administrator: Any, template: str, request: pytest.FixtureRequest
) -> AsyncIterator[str]:
    """A fresh migrated database of this test alone; its books are checked when the test is over."""
    name = f"test_{next(_numbers)}"
    # Copying files is a third faster than the default way, which writes the copy through the log.
    await administrator.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    try:
        yield cluster.url(name)
        if request.node.get_closest_marker("books_broken") is None:
            await check_books(cluster.url(name))
    finally:
        await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest_asyncio.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """A pool of twelve connections to the test's database."""
    database = await Database.open(database_url, max_connections=12)
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture(scope="session")
def keys() -> ServerKeys:
    """The server's keys, made from a root that is the same in every test."""
    return ServerKeys.of([bytes(range(32))])


async def check_books(url: str) -> None:
    """Fails with every finding if the books, the history or the schema of the database at `url` do not add up."""
    # Imported late, so that tests below the floor of the audit do not wait for all that stands beneath it.
    check = importlib.import_module("kinpay.audit.check").check
    conn = await asyncpg.connect(url)
    try:
        await prepare_connection(conn)
        # Most tests run no worker, so nothing is late.
        findings = await check(conn, overdue_after=None)
    finally:
        await conn.close()
    assert not findings, "the books do not add up:\n" + "\n".join(str(finding) for finding in findings)


# What batches trust when they decide before they lock (docs/decisions/0010): at every commit in every test, whatever changed
# what a circle has used, or the version of its rules, has moved the end of its audit lane too. What is pruned is beyond every
# window.
WATCH_LANES = """
    CREATE FUNCTION lane_has_moved() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE circle uuid := coalesce(to_jsonb(NEW), to_jsonb(OLD)) ->> TG_ARGV[0];
    BEGIN
        IF NOT EXISTS (SELECT FROM audit_lane WHERE id = circle AND pg_xact_status(xmin::text::xid8) = 'in progress') THEN
            RAISE EXCEPTION '% of % without a word in the audit lane of the circle', TG_OP, TG_TABLE_NAME;
        END IF;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER lane_watch AFTER INSERT OR UPDATE ON usage DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION lane_has_moved('circle_id');
    CREATE CONSTRAINT TRIGGER lane_watch_pruned AFTER DELETE ON usage DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (OLD.window_end > now() - interval '1 hour') EXECUTE FUNCTION lane_has_moved('circle_id');
    CREATE CONSTRAINT TRIGGER lane_watch AFTER UPDATE ON circle DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION lane_has_moved('id');
"""


async def watch_lanes(url: str) -> None:
    """Makes every commit of the database at `url` fail that changes usage or rules and leaves the audit lane where it was."""
    conn = await asyncpg.connect(url)
    try:
        await conn.execute(WATCH_LANES)
    finally:
        await conn.close()


async def set_clock(conn: Any, moment: datetime) -> None:
    """Moves the database's clock to `moment`; it goes on running from there.

    The schema says that nothing but `kinpay_now()` reads the time, so this moves everything there is.
    """
    offset_s = (moment - await conn.fetchval("SELECT clock_timestamp()")).total_seconds()
    await conn.execute(
        "CREATE OR REPLACE FUNCTION kinpay_now() RETURNS timestamptz LANGUAGE sql VOLATILE "
        f"AS 'SELECT clock_timestamp() + make_interval(secs => {offset_s:.6f})'"
    )
