"""A private cluster: from an empty folder to a server, and what it survives."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

import kinpay_postgres
from kinpay_postgres import Cluster, ClusterError, postmaster
from kinpay_postgres.account import account_for, run_as
from kinpay_postgres.folder import Folder
from kinpay_postgres.postmaster import exists, wait_until_gone

from .asking import ask

REPOSITORY = Path(kinpay_postgres.__file__).parents[1]
COMMAND = [sys.executable, "-m", "kinpay_postgres"]


def test_an_empty_folder_becomes_a_server_with_checksums_and_the_documented_settings(data_dir: Path) -> None:
    began = time.monotonic()
    cluster = kinpay_postgres.start(data_dir)
    assert time.monotonic() - began < 15, "starting from an empty folder takes a second or two on a quiet machine"
    assert cluster.version == ask(cluster.url(), "SELECT split_part(current_setting('server_version'), ' ', 1)")
    assert ask(cluster.url(), "SELECT current_setting('data_checksums')") == "on"
    assert ask(cluster.url(), "SELECT current_setting('server_encoding')") == "UTF8"
    assert ask(cluster.url(), "SELECT current_setting('fsync') || current_setting('synchronous_commit')") == "onon"
    assert ask(cluster.url(), "SELECT current_setting('listen_addresses')") == ""
    assert ask(cluster.url(), "SELECT current_setting('TimeZone')") == "UTC"
    assert ask(cluster.url(), "SELECT lower('É')") == "é"
    assert cluster.password not in repr(cluster)


def test_everything_in_the_folder_is_closed_to_others(data_dir: Path) -> None:
    cluster = kinpay_postgres.start(data_dir)
    for path in (data_dir, data_dir / "password", data_dir / "server.log", data_dir / "pgdata", cluster.socket_dir):
        assert path.stat().st_mode & 0o077 == 0, path
    hba = (data_dir / "pgdata" / "pg_hba.conf").read_text().splitlines()
    methods = {line.split()[-1] for line in hba if line.strip() and not line.startswith("#")}
    assert methods == {"scram-sha-256"}


def test_a_wrong_password_is_refused(cluster: Cluster) -> None:
    wrong = cluster.url().replace(quote(cluster.password, safe=""), "wrong")
    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(wrong, "SELECT 1")
    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(cluster.url().replace(":" + quote(cluster.password, safe=""), ""), "SELECT 1")


def test_the_url_serves_psql_as_well(cluster: Cluster) -> None:
    psql = kinpay_postgres.client_binaries(cluster) / "psql"
    environment = {**os.environ, "PGPORT": "1", "PGHOST": "nowhere"}
    answer = subprocess.run(
        [psql, "-XAtc", "SELECT 6 * 7", cluster.url()], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout == "42\n"


def test_a_second_start_attaches_and_says_which_settings_wait(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="kinpay_postgres"):
        assert kinpay_postgres.start(cluster.data_dir) == cluster
        assert not caplog.records
        assert kinpay_postgres.start(cluster.data_dir, settings={"work_mem": "8MB"}) == cluster
    assert "work_mem" in caplog.text
    assert kinpay_postgres.status(cluster.data_dir) == cluster


def test_stop_is_idempotent_and_settings_are_remembered(data_dir: Path) -> None:
    kinpay_postgres.stop(data_dir)
    kinpay_postgres.stop(data_dir / "missing")
    cluster = kinpay_postgres.start(data_dir, settings={"work_mem": "7MB"})
    kinpay_postgres.stop(cluster)
    kinpay_postgres.stop(cluster)
    assert kinpay_postgres.status(data_dir) is None
    again = kinpay_postgres.start(data_dir, settings={"max_connections": "20"})
    assert ask(again.url(), "SELECT current_setting('work_mem') || current_setting('max_connections')") == "7MB20"


def test_committed_data_survive_kill_9_of_the_server(data_dir: Path) -> None:
    cluster = kinpay_postgres.start(data_dir)
    ask(cluster.url(), "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    for round_ in range(3):
        os.kill(cluster.pid, signal.SIGKILL)
        cluster = kinpay_postgres.start(data_dir)
        assert ask(cluster.url(), "SELECT count(*) FROM kept") == 1000 + round_
        ask(cluster.url(), "INSERT INTO kept VALUES (0)")


@pytest.mark.parametrize("lock_file_remains", [True, False])
def test_a_child_of_the_killed_server_is_waited_for(data_dir: Path, lock_file_remains: bool) -> None:
    cluster = kinpay_postgres.start(data_dir)
    psql = kinpay_postgres.client_binaries(cluster) / "psql"
    # A session that computes notices the death of its server only when it is done.
    busy = "SELECT count(*) FROM generate_series(1, 4000000)"
    with subprocess.Popen([psql, "-Xc", busy, cluster.url()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        while ask(cluster.url(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%4000000)'") == 0:
            time.sleep(0.01)
        os.kill(cluster.pid, signal.SIGKILL)
        if not lock_file_remains:
            (data_dir / "pgdata" / "postmaster.pid").unlink()
        again = kinpay_postgres.start(data_dir)
    assert again.pid != cluster.pid
    assert "pre-existing shared memory block" in (data_dir / "server.log").read_text(), "the child was still there"
    assert ask(again.url(), "SELECT 1") == 1


@pytest.mark.parametrize("reaped", [True, False], ids=["another process", "an unreaped process"])
def test_a_lock_file_with_the_number_of_something_else_is_no_obstacle(data_dir: Path, reaped: bool) -> None:
    cluster = kinpay_postgres.start(data_dir)
    lock_file = data_dir / "pgdata" / "postmaster.pid"
    os.kill(cluster.pid, signal.SIGKILL)
    wait_until_gone(cluster.pid)
    account = account_for(data_dir)
    user = account.uid if os.geteuid() == 0 else None
    with subprocess.Popen(["/bin/sleep", "60" if reaped else "0"], user=user, cwd="/") as other:
        while not reaped and exists(other.pid):
            time.sleep(0.01)
        lines = lock_file.read_text().splitlines(keepends=True)
        lock_file.write_text("".join([f"{other.pid}\n", *lines[1:]]))
        assert kinpay_postgres.status(data_dir) is None
        assert kinpay_postgres.start(data_dir).pid != other.pid
        other.kill()


def test_a_living_server_that_does_not_answer_yet_is_waited_for_and_reported(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(postmaster, "PATIENCE_S", 0.2)
    cluster = kinpay_postgres.start(data_dir)
    os.kill(cluster.pid, signal.SIGSTOP)
    try:
        with caplog.at_level(logging.INFO, logger="kinpay_postgres"), ThreadPoolExecutor(1) as threads:
            attaching = threads.submit(kinpay_postgres.start, data_dir)
            with pytest.raises(TimeoutError):
                attaching.result(timeout=2.5)
            os.kill(cluster.pid, signal.SIGCONT)
            assert attaching.result(timeout=10) == cluster
    finally:
        os.kill(cluster.pid, signal.SIGCONT)
    assert f"process {cluster.pid}" in caplog.text


def test_two_starters_at_once_share_one_server(data_dir: Path) -> None:
    command = [*COMMAND, "start", str(data_dir), "--set", "fsync=off"]
    starters = [
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    answers = [starter.communicate(timeout=60) for starter in starters]
    assert [starter.returncode for starter in starters] == [0, 0, 0], answers
    assert len({said for said, _ in answers}) == 1
    assert sum("serves" in logged for _, logged in answers) == 1, "exactly one of them started it"


def test_the_server_outlives_its_starter(data_dir: Path) -> None:
    script = (
        "import pathlib, sys, time, kinpay_postgres\n"
        "print(kinpay_postgres.start(pathlib.Path(sys.argv[1])).pid, flush=True)\n"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(data_dir)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        os.killpg(starter.pid, signal.SIGKILL)
    assert kinpay_postgres.start(data_dir).pid == pid


def test_an_interrupted_initdb_is_begun_anew(data_dir: Path) -> None:
    (data_dir / "lock").touch()
    (data_dir / "pgdata.new-interrupted").mkdir()
    (data_dir / "pgdata.new-interrupted" / "PG_VERSION").write_text("18\n")
    cluster = kinpay_postgres.start(data_dir)
    assert ask(cluster.url(), "SELECT 1") == 1
    assert not list(data_dir.glob("pgdata.new-*"))


def test_a_folder_with_other_things_is_refused_and_left_alone(data_dir: Path) -> None:
    (data_dir / "thesis.txt").write_text("do not touch")
    before = data_dir.stat()
    with pytest.raises(ClusterError, match="neither empty nor"):
        kinpay_postgres.start(data_dir)
    assert (data_dir.stat().st_uid, data_dir.stat().st_mode) == (before.st_uid, before.st_mode)
    assert os.listdir(data_dir) == ["thesis.txt"]


def test_a_setting_that_prevents_the_start_is_named_and_forgotten(data_dir: Path) -> None:
    with pytest.raises(ClusterError, match="shared_buffers"):
        kinpay_postgres.start(data_dir, settings={"shared_buffers": "many"})
    with pytest.raises(ClusterError, match="port"):
        kinpay_postgres.start(data_dir, settings={"port": "1"})
    assert ask(kinpay_postgres.start(data_dir).url(), "SELECT 1") == 1


def test_a_path_too_long_for_a_socket_gets_its_socket_elsewhere(data_dir: Path) -> None:
    deep = data_dir / ("d" * 100)
    data_dir.chmod(0o755)
    cluster = kinpay_postgres.start(deep)
    try:
        assert len(str(cluster.socket_dir)) < 100
        assert cluster.socket_dir.stat().st_mode & 0o777 == 0o700
        assert ask(cluster.url(), "SELECT 1") == 1
        assert kinpay_postgres.start(deep) == cluster
    finally:
        kinpay_postgres.stop(cluster, mode="immediate")
        Folder(deep).socket_dir.rmdir()


def test_databases_are_made_copied_and_removed_whatever_their_name(cluster: Cluster) -> None:
    url = kinpay_postgres.create_database(cluster, 'a "quoted" näme/1?')
    ask(url, "CREATE TABLE t AS SELECT 5 AS n")
    assert ask(url, "SELECT current_database()") == 'a "quoted" näme/1?'
    assert ask(kinpay_postgres.create_database(cluster, "copy", template='a "quoted" näme/1?'), "SELECT n FROM t") == 5
    with pytest.raises(ClusterError, match="already exists"):
        kinpay_postgres.create_database(cluster, "copy")
    assert kinpay_postgres.create_database(cluster, "copy", exist_ok=True) == cluster.url("copy")
    kinpay_postgres.drop_database(cluster, "copy")
    kinpay_postgres.drop_database(cluster, "copy")
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        ask(cluster.url("copy"), "SELECT 1")
    with pytest.raises(ClusterError, match="not a possible"):
        kinpay_postgres.create_database(cluster, "x" * 64)


def test_the_command_line_starts_tells_and_stops(data_dir: Path) -> None:
    def say(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert say("status", str(data_dir)).returncode == 3
    assert say("start", str(data_dir)).returncode == 0
    url = say("url", str(data_dir), "--database", "postgres").stdout.strip()
    assert ask(url, "SELECT 1") == 1
    assert "process" in say("status", str(data_dir)).stdout
    assert say("stop", str(data_dir)).returncode == 0
    assert say("status", str(data_dir)).returncode == 3
    wrong = say("start", "/proc/nowhere")
    assert wrong.returncode == 1
    assert "Traceback" not in wrong.stderr


def test_commands_of_root_run_as_an_account_without_privileges(cluster: Cluster) -> None:
    account = account_for(cluster.data_dir)
    assert account.uid != 0
    assert run_as(account, ["/usr/bin/id", "-u"]).stdout.strip() == str(account.uid)
    assert ask(cluster.url(), "SELECT 1") == 1
