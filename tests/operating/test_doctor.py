"""`kinpay doctor` names what is wrong, each thing shown broken once, and is content with a house that is in order."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import kinpay_postgres
from kinpay.biometrics.keyring import FolderKeyring, new_data_key
from kinpay.cli.doctor import here
from kinpay.cli.doctor.database import judge_clock, judge_keys, judge_log, judge_statements, judge_work, look_at_server
from kinpay.cli.doctor.examine import examine
from kinpay.cli.doctor.found import Found, Verdict
from kinpay.database.migrate import migrations
from kinpay.database.pool import Database
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys
from kinpay.server.backlog import Backlog
from kinpay.server.settings import read_settings
from kinpay_postgres.keep_log import SLOT
from tests.operating.running import account_of_a_bank_that_is_away
from tests.server.test_serve import environment, home, output_of

__all__ = ["home"]

ROOT_LINE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
"""The root of the `keys` fixture."""


def verdicts(found: list[Found]) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for line in found:
        told.setdefault(line.about, []).append(line.verdict.value)
    return told


def says(found: list[Found], about: str, verdict: Verdict) -> str:
    (line,) = [line for line in found if line.about == about and line.verdict is verdict]
    assert line.do or verdict in (Verdict.OK, Verdict.TOLD), "whoever complains says what to do"
    return line.says


@pytest.fixture
def in_order(home: Path, database_url: str) -> dict[str, str]:
    """The environment of a house in which nothing is wrong but that nobody can be debited."""
    (home / "secret").write_text(ROOT_LINE)
    (home / "secret").chmod(0o600)
    (home / "keyring").mkdir(mode=0o700)
    return environment(home, KINPAY_DATABASE_URL=database_url, KINPAY_PUBLIC_URL="https://pay.example")


async def test_a_house_in_order_is_told_so(in_order: dict[str, str]) -> None:
    found = await examine(in_order)
    wrong = {line.about for line in found if line.verdict is Verdict.WRONG}
    assert wrong == {"durability"}, "the tests' own database waits for no disk; everything else is right"
    told = verdicts(found)
    for about in ("Python", "secret", "disk", "way in", "PostgreSQL", "schema", "clock", "outbox", "given up", "errands"):
        assert told[about] == ["ok"], about
    assert told["keyring"] == ["ok", "ok"]
    assert told["providers"] == ["warning"]
    assert told["pgvector"] == ["told"]


async def test_every_wrong_setting_is_a_line(home: Path) -> None:
    code, out, err = await output_of(
        "doctor", "--json", env=environment(home, KINPAY_PORT="x", KINPAY_WORKER="x", KINPAY_PROT="1")
    )
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (1, "")
    assert [line["says"][:13] for line in lines if line["verdict"] == "wrong"] == ["KINPAY_PORT: ", "KINPAY_WORKER"]
    assert [line["about"] for line in lines if line["verdict"] == "warning"] == ["settings"]


async def test_an_empty_folder_is_not_changed_by_looking(home: Path) -> None:
    code, out, _ = await output_of("doctor", env=environment(home))
    assert code == 0, out
    assert os.listdir(home) == []
    assert "does not run now" in out


async def test_secret_and_keyring_are_looked_at(in_order: dict[str, str], home: Path) -> None:
    (home / "secret").chmod(0o644)
    (home / "keyring").chmod(0o755)
    found = await examine(in_order)
    assert "others can read" in says(found, "secret", Verdict.WRONG)
    assert "others may enter" in says(found, "keyring", Verdict.WRONG)
    (home / "secret").chmod(0o600)
    (home / "secret").write_text(ROOT_LINE * 2)
    assert "2 roots" in says(await examine(in_order), "secret", Verdict.TOLD)
    (home / "secret").unlink()
    assert "is missing" in says(await examine(in_order), "secret", Verdict.WRONG)


async def test_a_database_that_is_away_empty_or_newer(
    in_order: dict[str, str], cluster: kinpay_postgres.Cluster, database_url: str, db: Database
) -> None:
    away = await examine(in_order | {"KINPAY_DATABASE_URL": "postgresql://me:hidden@127.0.0.1:1/none"})
    assert "cannot be reached" in says(away, "database", Verdict.WRONG)
    assert "hidden" not in "".join(map(str, away))
    empty = kinpay_postgres.create_database(cluster, "doctor_empty", exist_ok=True)
    assert "empty" in says(await examine(in_order | {"KINPAY_DATABASE_URL": empty}), "schema", Verdict.WRONG)
    own = len(migrations())
    async with db.connection() as conn:
        add = "INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, '')"
        await conn.execute(add, own + 1, f"{own + 1:04}_more_beside")
        assert "can work with" in says(await examine(in_order), "schema", Verdict.TOLD)
        await conn.execute(add, own + 2, f"{own + 2:04}_other")
        assert "newer" in says(await examine(in_order), "schema", Verdict.WRONG)
        await conn.execute("DELETE FROM schema_migration WHERE version >= $1", own)
        assert "older" in says(await examine(in_order), "schema", Verdict.WRONG)


async def test_what_was_given_up_lies_about_or_lost_its_key_is_found(in_order: dict[str, str], db: Database) -> None:
    async with db.transaction() as conn:
        await conn.execute(
            "INSERT INTO outbox (lane, topic, subject_id, created_at, available_at, attempts, dead_at) SELECT "
            "gen_random_uuid(), 'code.send', gen_random_uuid(), now(), now() - interval '1 h', 1, "
            "CASE WHEN n = 1 THEN now() END FROM generate_series(1, 3) n"
        )
    found = await examine(in_order)
    assert "1 messages (code.send)" in says(found, "given up", Verdict.WRONG)
    assert "2 open" in says(found, "outbox", Verdict.WARNING)
    assert judge_keys(1, 2).verdict is Verdict.WRONG
    assert judge_keys(2, 1).verdict is Verdict.OK
    quiet = dict.fromkeys(
        ("outbox_oldest_s", "debits_overdue_s", "checkpoint_age_s", "webhooks_overdue_s", "statement_overdue_s"), 0.0
    )
    counts = (
        "outbox_open",
        "inbox_open",
        "debits_unknown",
        "breaks_open",
        "arrears_open",
        "webhooks_pending",
        "webhooks_disabled",
    )
    quiet |= dict.fromkeys(counts, 0)
    assert {line.verdict for line in judge_work(quiet)} == {Verdict.OK}
    assert judge_statements(21_000).verdict is Verdict.OK
    assert judge_statements(None).verdict is Verdict.TOLD
    assert judge_statements(22_000).verdict is Verdict.WARNING
    for column, about in (
        ("outbox_oldest_s", "outbox"),
        ("inbox_open", "inbox"),
        ("webhooks_overdue_s", "webhooks"),
        ("debits_overdue_s", "errands"),
        ("checkpoint_age_s", "checkpoint"),
        ("breaks_open", "reconciliation"),
    ):
        complaints = [line for line in judge_work(quiet | {column: 9999}) if line.verdict is not Verdict.OK]
        assert [(line.about, line.verdict) for line in complaints] == [(about, Verdict.WARNING)]


async def test_a_provider_that_cannot_be_reached_or_whose_secret_does_not_open(
    in_order: dict[str, str], home: Path, db: Database, keys: ServerKeys
) -> None:
    await account_of_a_bank_that_is_away(db, keys)
    about = "provider sandbox_bank canteens"
    assert "cannot be reached" in says(await examine(in_order), about, Verdict.WRONG)
    assert about not in verdicts(await examine(in_order, providers=False))
    (home / "secret").write_text("A" * 43 + "=\n")
    assert "another root" in says(await examine(in_order), about, Verdict.WRONG)


async def test_a_receiver_of_the_log_that_is_away_is_wrong(in_order: dict[str, str], db: Database) -> None:
    assert "nobody keeps the log" in says(await examine(in_order), "backup", Verdict.TOLD)
    async with db.connection() as conn:
        await conn.execute(f"SELECT pg_create_physical_replication_slot('{SLOT}', true)")
        try:
            found = await examine(in_order)
            numbers = await Backlog(db).read()
        finally:
            await conn.execute(f"SELECT pg_drop_replication_slot('{SLOT}')")
    assert "is away" in says(found, "backup", Verdict.WRONG)
    assert numbers is not None
    assert numbers["log_not_kept"] == 1
    assert judge_log({"active": True, "lost": False, "held_back": 0.0}).verdict is Verdict.OK
    assert judge_log({"active": False, "lost": True, "held_back": None}).verdict is Verdict.WRONG


def test_the_clock_is_judged_by_what_is_certain() -> None:
    assert judge_clock(1.9, uncertain_s=0).verdict is Verdict.OK
    assert judge_clock(-2.1, uncertain_s=0).verdict is Verdict.WARNING
    assert judge_clock(2.1, uncertain_s=0.2).verdict is Verdict.OK, "the way there and back took longer"


GOOD = {
    "version": 160004, "shown": "16.4", "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "connections": 97,
    "used": 3, "replica": False, "read_only": "off", "pgvector": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "about"),
    [
        ({"version": 140011}, "PostgreSQL"),
        ({"replica": True}, "PostgreSQL"),
        ({"fsync": "off"}, "durability"),
        ({"synchronous_commit": "off"}, "durability"),
        ({"connections": 10}, "connections"),
    ],
)
def test_a_database_that_could_forget_or_is_too_small_is_wrong(changed: dict[str, object], about: str) -> None:
    settings = read_settings({})
    assert {line.verdict for line in look_at_server(GOOD, settings)} <= {Verdict.OK, Verdict.TOLD}
    assert [line.about for line in look_at_server(GOOD | changed, settings) if line.verdict is Verdict.WRONG] == [about]


def test_people_come_in_by_tls() -> None:
    plain = read_settings({"KINPAY_PUBLIC_URL": "http://pay.example"})
    assert [line.verdict for line in here.look_at_the_way_in(plain)] == [Verdict.WRONG]
    local = read_settings({"KINPAY_PUBLIC_URL": "http://localhost:8700"})
    assert [line.verdict for line in here.look_at_the_way_in(local)] == [Verdict.OK]


async def test_keys_are_counted_as_the_keyring_keeps_them(home: Path, keys: ServerKeys) -> None:
    assert here.count_keys(home / "keyring") == 0
    keyring = FolderKeyring.open(home / "keyring", keys)
    await keyring.wrap(new_id(), new_data_key())
    assert here.count_keys(home / "keyring") == 1
