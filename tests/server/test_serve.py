"""`kinpay serve` from an empty folder to a calm end, as an operator would meet it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import kinpay_postgres
from kinpay.database.migrate import migrate, migrations
from kinpay_postgres.folder import Folder


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty folder that the account of the embedded database can reach."""
    folder = Path(tempfile.mkdtemp(prefix="kinpay-home-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    if (folder / "postgres").exists():
        kinpay_postgres.stop(folder / "postgres", mode="immediate")
        shutil.rmtree(Folder(folder / "postgres").socket_dir, ignore_errors=True)
    shutil.rmtree(folder)


def environment(home: Path, **more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("KINPAY_")}
    demo = {"KINPAY_HOME": str(home), "KINPAY_DEMO": "1", "KINPAY_CODE_CHANNEL": f"file:{home / 'codes'}", "KINPAY_PORT": "0"}
    return own | demo | more


async def kinpay(*arguments: str, env: dict[str, str]) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "kinpay.cli.main", *arguments)
    return await asyncio.create_subprocess_exec(*command, env=env, stdout=pipe, stderr=pipe)


async def output_of(*arguments: str, env: dict[str, str]) -> tuple[int, str, str]:
    process = await kinpay(*arguments, env=env)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def ready(process: asyncio.subprocess.Process) -> str:
    """The address it says it answers at."""
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
    assert line.startswith("kinpay ready on http://"), line
    return line.split()[-1]


async def test_it_starts_from_an_empty_folder_serves_and_leaves_calmly(home: Path) -> None:
    env = environment(home)
    serving = await kinpay("serve", env=env)
    url = await ready(serving)
    code, out, _ = await output_of("operator", "create", "食堂", "--account", "boss", "--name", "王丽", "--phone", "1", env=env)
    assert code == 0
    operator_id = json.loads(out)["operator_id"]
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/readyz")).json() == {"status": "ok"}
        asked = {"operator_id": operator_id, "account": "boss"}
        assert (await client.post("/v1/sign-in", json=asked)).status_code == 202
        for _ in range(100):
            if (home / "codes").exists():
                break
            await asyncio.sleep(0.1)
        assert json.loads((home / "codes").read_text())["account"] == "boss", "the worker inside sent the code"
    serving.send_signal(signal.SIGTERM)
    _, log = await asyncio.wait_for(serving.communicate(), 30)
    assert serving.returncode == 0
    assert kinpay_postgres.status(home / "postgres") is None, "it started the database, so it stopped it"
    lines = [json.loads(line) for line in log.decode().splitlines()]
    assert {"stopping", "request"} <= {line["event"] for line in lines}
    assert not [line for line in lines if line["level"] == "error"]
    assert "boss" not in log.decode()


async def test_somebody_elses_database_is_migrated_only_when_asked(home: Path, cluster: kinpay_postgres.Cluster) -> None:
    url = kinpay_postgres.create_database(cluster, "elsewhere")
    env = environment(home, KINPAY_DATABASE_URL=url)
    code, _, err = await output_of("serve", env=env)
    assert (code, "kinpay migrate" in err) == (1, True)
    applied = "".join(f"applied {migration.name}\n" for migration in migrations())
    assert (await output_of("migrate", env=env))[1] == applied
    code, _, err = await output_of("serve", env=env)
    assert (code, "KINPAY_SECRET_FILE" in err) == (1, True), "its secret is never made up"
    assert await migrate(url) == []


async def test_what_is_missing_or_wrong_is_said_in_a_sentence(home: Path) -> None:
    for arguments, more, said in (
        (["serve"], {"KINPAY_CODE_CHANNEL": ""}, "KINPAY_CODE_CHANNEL"),
        (["serve"], {"KINPAY_PORT": "x"}, "KINPAY_PORT: write a whole number"),
        (["serve", "--port", "99999"], {}, "--port"),
        (["terminal", "list", "--operator", "x"], {}, "--operator"),
        (["merchant", "create", "X", "--operator", "0" * 32, "--mcc", "5814"], {}, "no such thing"),
        (["migrate"], {"KINPAY_DATABASE_URL": "postgresql://kinpay:pass/word@host/kinpay"}, "its port is no number"),
        (["config"], {"KINPAY_PROT": "1"}, "Is it KINPAY_PORT?"),
    ):
        _, _, err = await output_of(*arguments, env=environment(home, **more))
        assert said in err
        assert "Traceback" not in err


async def test_every_command_explains_itself(home: Path) -> None:
    code, out, _ = await output_of("--help", env=environment(home))
    assert code == 0
    for command in (
        "serve",
        "worker",
        "migrate",
        "config",
        "operator",
        "merchant",
        "site",
        "provider",
        "terminal",
        "statement",
        "audit",
        "demo",
    ):
        assert f"\n    {command}" in out
