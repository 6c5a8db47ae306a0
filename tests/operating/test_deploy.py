"""The files in `deploy/` say what is so: names of settings, metrics and files are ours, and what is installed is locked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from kinpay.database.migrate import migrations
from kinpay.primitives.server_keys import ServerKeys
from kinpay.server.assemble import errands, tasks
from kinpay.server.backlog import Backlog
from kinpay.server.house import open_house
from kinpay.server.metrics import metrics
from kinpay.server.secret_file import read_keys
from kinpay.server.settings import CONFIG, SETTINGS, SettingsWrong, read_settings
from kinpay.worker.run import Worker
from kinpay.worker.schedule import Schedule
from tests.operating.container_steps import copy, first_stage, instructions
from tests.server.test_serve import environment, home
from tests.tidy.source import ROOT

__all__ = ["home"]

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus-alerts.yml"
NOT_METRICS = {
    *("sum", "max", "min", "count", "rate", "increase", "time", "histogram_quantile", "offset", "up"),
    *("instance", "provider", "topic", "errand", "version", "schema", "outcome", "route", "status", "job"),
}
"""Words of the language, labels, and what Prometheus makes itself."""


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def named_in(expression: str) -> set[str]:
    """The metrics of a PromQL expression: every word outside of quotes that is none of the language's and no label."""
    return set(re.findall(r"[a-z_:][a-z0-9_:]{2,}", re.sub(r'"[^"]*"', "", expression))) - NOT_METRICS


async def test_every_metric_in_an_alert_is_one_that_is_told(home: Path, database_url: str) -> None:
    (home / "secret").write_text("A" * 43 + "=\n")
    (home / "secret").chmod(0o600)
    settings = read_settings(environment(home, KINPAY_DATABASE_URL=database_url))
    async with open_house(settings, database_url, public_url="http://localhost") as house:
        numbers = await Backlog(house.db).read()
        worker, schedule = Worker(house.db, tasks(house)), Schedule(house.db, errands(house))
        everything = list(metrics(house, numbers, worker=worker, schedule=schedule, connections=0))
    told = {metric.name for metric in everything}
    assert len(told) == len(everything), "each is told once"
    told |= {
        f"{metric.name}_{part}" for metric in everything if metric.kind == "histogram" for part in ("bucket", "sum", "count")
    }
    assert {rule["alert"]: named_in(rule["expr"]) - told for rule in rules() if named_in(rule["expr"]) - told} == {}
    assert named_in('sum(rate(kinpay_no_such_total{outcome="unknown"}[5m])) > 0') - told == {"kinpay_no_such_total"}


def test_an_alert_is_whole_and_has_its_row() -> None:
    for rule in rules():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}, rule
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))
    rows = re.findall(
        r"^\| `(Kinpay\w+)` \((page|ticket)\) \|", (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8"), re.M
    )
    assert rows == [(rule["alert"], rule["labels"]["severity"]) for rule in rules()]


def test_every_setting_that_is_named_is_one() -> None:
    ours = {setting.name for setting in SETTINGS} | {CONFIG}
    for file in sorted(DEPLOY.iterdir()):
        named = set(re.findall(r"KINPAY_[A-Z_]+", file.read_text(encoding="utf-8")))
        assert named <= ours, file
    assert "KINPAY_SECRET_FILE" in (DEPLOY / "kinpay-serve.service").read_text(encoding="utf-8")


def test_what_compose_sets_starts_a_server(tmp_path: Path) -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert {"database", "migrate", "worker", "server"} == services.keys()
    assert services["database"]["image"] == "postgres:16"
    for name in ("server", "worker", "migrate"):
        assert set(services[name]["secrets"]) <= compose["secrets"].keys()
        config = tmp_path / "config"
        config.write_text(
            "KINPAY_DATABASE_URL=postgresql://kinpay:x@database/kinpay\nKINPAY_CODE_CHANNEL=command:/bin/true\n"
            f"KINPAY_METRICS_TOKEN={'t' * 24}\n"
        )
        settings = read_settings(services[name]["environment"] | {CONFIG: str(config)})
        assert (settings.worker, settings.embedded) == ("apart", False)
        config.write_text("KINPAY_CODE_CHANNEL=command:/bin/true\n")
        with pytest.raises(SettingsWrong, match="KINPAY_METRICS_TOKEN"):
            read_settings(services[name]["environment"] | {CONFIG: str(config)})


def pinned(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Name → version and hashes."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"^([a-z0-9.-]+)==(\S+)(.*)$", text, re.M)
    return {name: (version, frozenset(re.findall(r"sha256:\w+", rest))) for name, version, rest in found}


def test_a_container_gets_what_is_locked_and_no_tools() -> None:
    slim, whole = pinned(DEPLOY / "requirements.lock"), pinned(ROOT / "requirements.lock")
    assert {name: pin for name, pin in slim.items() if whole.get(name) != pin} == {}, "run `make lock`"
    assert all(hashes for _, hashes in slim.values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {re.split(r"[\[><= ]", name)[0] for name in project["dependencies"]} <= slim.keys()
    tools = {re.split(r"[\[><= ]", name)[0] for name in project["optional-dependencies"]["dev"]}
    assert tools & slim.keys() == set()


def test_what_the_container_copies_is_a_whole_program(tmp_path: Path) -> None:
    """Its own last step, into a folder; what the lock file names is taken from where the tests run."""
    *_, install = [rest for word, rest in first_stage() if word == "RUN"]
    for word, rest in first_stage():
        if word == "COPY":
            copy(rest, tmp_path)
    arguments = [*install.split()[1:], "--quiet", "--target", str(tmp_path / "out")]
    subprocess.run([sys.executable, "-m", "pip", *arguments], cwd=tmp_path, check=True, capture_output=True)
    asked = "import kinpay.cli.main, kinpay_client, kinpay.database.migrate as m; print(m.__file__, len(m.migrations()))"
    told = subprocess.run(
        [sys.executable, "-c", asked], env={"PYTHONPATH": str(tmp_path / "out")}, cwd="/", check=True, capture_output=True
    )
    assert told.stdout.decode().split() == [str(tmp_path / "out/kinpay/database/migrate.py"), str(len(migrations()))]
    words = dict(instructions())
    assert words["USER"] == "kinpay"
    assert "/healthz" in words["HEALTHCHECK"]
    assert words["CMD"] == '["serve"]'


@pytest.mark.parametrize("name", ["kinpay-serve.service", "kinpay-worker.service"])
def test_service_files_are_understood_by_systemd_where_there_is_one(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    for hardened in (
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "StateDirectory=kinpay",
        "LoadCredential=secret:",
        "UMask=0077",
    ):
        assert f"\n{hardened}" in text
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        return  # What stands above is what can be said without it.
    (tmp_path / name).write_text(text.replace("/opt/kinpay/.venv/bin/kinpay", "/bin/true"))
    (tmp_path / "bad.service").write_text("[Service]\nExecStart=/bin/true\nNoNewPrivilege=yes\n")
    told = subprocess.run([analyze, "verify", str(tmp_path / name)], capture_output=True, check=False)
    assert name not in told.stderr.decode(), told.stderr
    bad = subprocess.run([analyze, "verify", str(tmp_path / "bad.service")], capture_output=True, check=False)
    assert "NoNewPrivilege" in bad.stderr.decode(), "it does say what it does not know"


def test_a_credential_of_systemd_may_show_its_access_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("A" * 43 + "=\n")
    secret.chmod(0o440)
    with pytest.raises(SettingsWrong, match="others can read"):
        read_keys(secret, may_create=False)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert isinstance(read_keys(secret, may_create=False), ServerKeys)
    secret.chmod(0o444)
    with pytest.raises(SettingsWrong, match="others can read"):
        read_keys(secret, may_create=False)
