"""What keeps the log goes on after a restore and after a loss, or ends and says why; a restore follows the newest history."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import kinpay_postgres
from kinpay_postgres import Cluster, ClusterError
from kinpay_postgres.base_backup import Place, make_base, segments
from kinpay_postgres.folder import Folder
from kinpay_postgres.kept_log import leads_to
from kinpay_postgres.programs import programs_for
from kinpay_postgres.recover import recover
from kinpay_postgres.restoring import restoring
from tests.postgres.test_backup import KEEP, QUICK, Shop, _ask, root, shop

__all__ = ["root", "shop"]


def _keep(place: Place, cluster: Cluster) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", KEEP, str(place.path), cluster.url("shop"), cluster.version]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _says(keeper: subprocess.Popen[str], wanted: str) -> None:
    assert keeper.stdout is not None
    for line in keeper.stdout:
        if wanted in line:
            return
    raise AssertionError(f"it never said {wanted}: {keeper.communicate()[1]}")


def _brought(keeper: subprocess.Popen[str], cluster: Cluster) -> None:
    """Waits until everything that was written is kept, and ends the keeper."""
    behind = "SELECT pg_current_wal_lsn() > flush_lsn FROM pg_stat_replication WHERE application_name = 'pg_receivewal'"
    for _ in range(300):
        if _ask(cluster, behind) == [(False,)]:
            break
        time.sleep(0.1)
    keeper.terminate()
    keeper.communicate(timeout=60)
    assert keeper.returncode == 0


def test_a_second_life_is_kept_beside_the_first_and_followed(shop: Shop, root: Path) -> None:
    """Restored to a moment before the first life's end; the keeper goes on, and the next restore has the second life."""
    place = Place(root / "lives")
    shutil.copytree(shop.place.path, place.path)
    (base,) = place.bases()
    folder = root / "second"
    with restoring(folder):
        recover(base, place.wal, folder, until=shop.between, settings=QUICK)
    second = kinpay_postgres.start(folder)
    try:
        keeper = _keep(place, second)
        _says(keeper, "keeping the log")
        _ask(second, "INSERT INTO sold VALUES (5)", "SELECT pg_switch_wal()", "INSERT INTO sold VALUES (6)")
        _brought(keeper, second)
    finally:
        kinpay_postgres.stop(folder, mode="immediate")
        shutil.rmtree(Folder(folder).socket_dir, ignore_errors=True)
    assert {one.timeline for one in segments(place.wal)} == {1, 2}
    again = Shop(root, place, base, shop.between, shop.version)
    assert again.recover("second-end") == [1, 2, 5, 6]
    assert leads_to(place, [base]) == [base]
    for history in place.wal.glob("*/*.history"):
        history.unlink()
    assert leads_to(place, [base]) == []
    with pytest.raises(ClusterError, match="did not come of"):
        again.recover("unknown-history")


def test_a_keeper_ends_when_another_has_the_slot_and_begins_anew_after_a_loss(root: Path) -> None:
    small = {**QUICK, "max_slot_wal_keep_size": "16MB", "max_wal_size": "32MB", "min_wal_size": "32MB"}
    cluster = kinpay_postgres.start(root / "small-slot", settings=small)
    try:
        url = kinpay_postgres.create_database(cluster, "shop")
        place = Place(root / "small-backups")
        first = _keep(place, cluster)
        _says(first, "keeping the log")
        rival = _keep(place, cluster)
        assert "another receiver" in rival.communicate(timeout=120)[1]
        assert rival.returncode == 1
        _brought(first, cluster)
        make_base(place, programs_for(url, server_version=cluster.version), about={})
        _ask(cluster, "CREATE TABLE sold (i integer)")
        for _ in range(8):
            _ask(cluster, "INSERT INTO sold VALUES (1)", "SELECT pg_switch_wal()")
        _ask(cluster, "CHECKPOINT")
        assert _ask(cluster, "SELECT wal_status FROM pg_replication_slots") == [("lost",)]
        late = _keep(place, cluster)
        assert "has thrown away log" in late.communicate(timeout=120)[1]
        assert late.returncode == 1
        anew = _keep(place, cluster)
        _says(anew, "may follow no copy")
        _says(anew, "keeping the log")
        time.sleep(1)
        assert anew.poll() is None
        _brought(anew, cluster)
        assert len(list(place.wal.iterdir())) == 2
    finally:
        kinpay_postgres.stop(root / "small-slot", mode="immediate")
        shutil.rmtree(Folder(root / "small-slot").socket_dir, ignore_errors=True)


def test_a_place_is_for_one_cluster(shop: Shop) -> None:
    with pytest.raises(ClusterError, match="another cluster"):
        shop.place.want_of("1")
