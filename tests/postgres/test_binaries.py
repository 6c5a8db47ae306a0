"""Programs out of the server account's reach, and a second PostgreSQL."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import kinpay_postgres
from kinpay_postgres import ClusterError, binaries
from kinpay_postgres.account import account_for
from kinpay_postgres.binaries import major, version_of

from .asking import ask

REPOSITORY = Path(kinpay_postgres.__file__).parents[1]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends the server to another account")


@pytest.fixture
def private_folder() -> Iterator[Path]:
    """A folder that nobody but its maker may enter, like /root."""
    folder = Path(tempfile.mkdtemp(prefix="kpg-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def shared_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stand-in for the shared place, so that tests leave nothing on the machine."""
    folder = Path(tempfile.mkdtemp(prefix="kpg-", dir="/tmp"))
    monkeypatch.setattr(binaries, "SHARED_PLACE", folder / "shared")
    folder.chmod(0o755)
    yield folder / "shared"
    shutil.rmtree(folder)


@as_root
def test_binaries_in_a_private_folder_are_copied_once_to_a_shared_place(
    data_dir: Path, private_folder: Path, shared_place: Path
) -> None:
    package = kinpay_postgres.embedded_binaries().parents[1]
    shutil.copytree(package, private_folder / package.name, ignore=shutil.ignore_patterns("include"))
    shutil.copytree(package.with_name(package.name + ".libs"), private_folder / (package.name + ".libs"))
    hidden = private_folder / package.name / "pginstall" / "bin"
    cluster = kinpay_postgres.start(data_dir, binaries=hidden)
    assert ask(cluster.url(), "SELECT 1") == 1
    ask(kinpay_postgres.create_database(cluster, "faces"), "CREATE EXTENSION vector")
    copies = os.listdir(shared_place)
    assert len(copies) == 1
    assert copies[0].startswith(f"postgresql-{cluster.version}-")
    assert private_folder.stat().st_mode & 0o777 == 0o700
    kinpay_postgres.stop(cluster)
    made_at = (shared_place / copies[0]).stat().st_mtime_ns
    kinpay_postgres.start(data_dir)
    assert os.listdir(shared_place) == copies
    assert (shared_place / copies[0]).stat().st_mtime_ns == made_at


@as_root
def test_a_copy_that_somebody_else_made_is_not_trusted(private_folder: Path, shared_place: Path) -> None:
    source = kinpay_postgres.embedded_binaries()
    made = binaries._copy_into(shared_place, source)
    assert (made / "postgres").exists()
    os.chown(next(shared_place.iterdir()), 65534, 65534)
    with pytest.raises(PermissionError):
        binaries._copy_into(shared_place, source)


@as_root
def test_a_data_folder_in_a_private_folder_is_refused_by_name_and_no_mode_is_changed(private_folder: Path) -> None:
    with pytest.raises(ClusterError, match=f"cannot enter {private_folder}.*chmod o\\+x"):
        kinpay_postgres.start(private_folder / "data")
    assert private_folder.stat().st_mode & 0o777 == 0o700


@as_root
def test_an_ordinary_user_has_a_cluster_of_its_own_and_root_may_attach(data_dir: Path) -> None:
    user = pwd.getpwnam("nobody")
    os.chown(data_dir, user.pw_uid, user.pw_gid)
    python = _python_for(user)
    command = [python, "-m", "kinpay_postgres", "start", str(data_dir)]
    answer = _run_as(user, command)
    assert answer.returncode == 0, answer.stderr
    cluster = kinpay_postgres.start(data_dir)
    assert f"process {cluster.pid}," in answer.stdout
    assert Path(f"/proc/{cluster.pid}").stat().st_uid == user.pw_uid
    assert ask(cluster.url(), "SELECT 1") == 1
    kinpay_postgres.stop(cluster)
    assert account_for(data_dir).uid == user.pw_uid
    assert ask(kinpay_postgres.start(data_dir).url(), "SELECT 1") == 1


def _run_as(user: pwd.struct_passwd, command: list[str]) -> subprocess.CompletedProcess[str]:
    packages = kinpay_postgres.embedded_binaries().parents[2]
    return subprocess.run(
        command,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        cwd="/",
        env={"PATH": os.defpath, "PYTHONPATH": f"{REPOSITORY}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def _python_for(user: pwd.struct_passwd) -> str:
    check = "import sys, kinpay_postgres as k; k.embedded_binaries(); sys.exit(sys.version_info < (3, 11))"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            if _run_as(user, [python, "-c", check]).returncode == 0:
                return python
        except OSError:
            continue
    pytest.skip("no Python 3.11 with these packages is within the reach of an ordinary user here")


@pytest.mark.second_postgres
def test_another_postgresql_is_found_and_serves(data_dir: Path) -> None:
    other = kinpay_postgres.find_binaries()
    if other is None:
        pytest.skip("this machine has no second PostgreSQL of at least version 15")
    embedded = major(version_of(kinpay_postgres.embedded_binaries()))
    assert major(version_of(other)) != embedded
    assert major(version_of(other)) >= 15
    cluster = kinpay_postgres.start(data_dir, binaries=other)
    assert ask(cluster.url(), "SELECT current_setting('server_version_num')::int / 10000") == major(cluster.version)
    assert major(cluster.version) != embedded
    kinpay_postgres.create_database(cluster, "second")
    kinpay_postgres.stop(cluster)
    with pytest.raises(ClusterError, match="was written by PostgreSQL"):
        kinpay_postgres.start(data_dir, binaries=kinpay_postgres.embedded_binaries())
    assert kinpay_postgres.start(data_dir).version == cluster.version, "the binaries are remembered"


def test_a_folder_without_postgresql_is_named(data_dir: Path) -> None:
    with pytest.raises(ClusterError, match="/nowhere/postgres does not run"):
        kinpay_postgres.start(data_dir, binaries=Path("/nowhere"))
