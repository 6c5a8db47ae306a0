"""`/metrics` says what happened, in Prometheus' own format, to whoever may ask, and at the same cost for ever."""

from __future__ import annotations

import asyncio
import json
import math
import re
import signal
import time
from pathlib import Path
from typing import cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import kinpay_postgres
from kinpay.database.migrate import migrate
from kinpay.database.pool import Database
from kinpay.primitives.sealed import Sealed
from kinpay.primitives.server_keys import ServerKeys
from kinpay.primitives.tally import Histogram
from kinpay.providers.contract import Misconfigured, NotExecuted, NotKnown, UnknownOutcome
from kinpay.server.backlog import AT_MOST, BY_INDEX, LOOK, Backlog
from kinpay.server.exposition import Metric, written
from kinpay.server.front import RequestTally
from kinpay.server.metrics_port import MetricsPort
from kinpay.server.provider_accounts import Leased, ProviderAccounts
from kinpay.server.settings import SettingsWrong, read_settings
from kinpay_postgres.keep_log import SLOT
from tests.operating.running import Numbers, account_of_a_bank_that_is_away, free_port, scraped
from tests.server.conftest import client_of, small_app
from tests.server.test_serve import environment, home, kinpay, output_of, ready

__all__ = ["home"]


@given(
    st.text(alphabet=st.characters(codec="utf-8"), max_size=30),
    st.one_of(st.integers(0, 2**50), st.floats(0, 1e12, allow_nan=False)),
)
def test_what_is_written_is_read_back_by_prometheus_own_reader(label: str, value: float) -> None:
    metric = Metric("kinpay_x", "gauge", 'A \\ "quoted"\nmeaning.').add(value, of=label).add(None, of="nothing")
    (read,) = text_string_to_metric_families(written([metric]).decode())
    assert [(sample.labels, sample.value) for sample in read.samples] == [({"of": label}, value)]
    assert read.documentation == metric.meaning


@given(st.lists(st.floats(0, 20, allow_nan=False), max_size=50))
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    seen = Histogram()
    for value in values:
        seen.add(value)
    (read,) = text_string_to_metric_families(written([Metric("x", "histogram", "X.").add_histogram(seen, of="a")]).decode())
    buckets = {float(sample.labels["le"]): sample.value for sample in read.samples if sample.name == "x_bucket"}
    assert buckets == {bound: sum(value <= bound for value in values) for bound in (*seen.bounds, math.inf)}
    assert [sample.value for sample in read.samples if sample.name == "x_count"] == [len(values)]
    (total,) = [sample.value for sample in read.samples if sample.name == "x_sum"]
    assert total == pytest.approx(sum(values))


async def test_requests_are_counted_by_the_template_of_their_route() -> None:
    tally = RequestTally()
    async with client_of(small_app(tally=tally)) as client:
        await client.get("/v1/whoami")
        await client.get("/no-such/4711")
        await client.post("/v1/providers/4711/callback", content=b"x")
        await client.post("/v1/hot", json={})
        await client.request("FROB4711", "/v1/whoami")
    counted = {place: seen.answers for place, seen in tally.routes.items()}
    assert counted[("POST", "/v1/providers/{account}/callback")][2] == 1
    assert counted[("GET", "-")][4] == 1
    assert counted[("POST", "/v1/hot")][2] == 1
    assert "4711" not in repr(list(counted)), "neither an address nor a word of the asker's becomes a label"
    assert sum(sum(answers) for answers in counted.values()) == 5


def test_counting_a_request_costs_microseconds() -> None:
    tally = RequestTally()
    began = time.perf_counter()
    for _ in range(20_000):
        tally.add("POST", "/v1/charges", 201, 0.0123)
    assert (time.perf_counter() - began) / 20_000 < 10e-6, "wide enough for a busy machine; it takes less than one"


async def test_only_whoever_brings_the_token_is_told() -> None:
    async def text() -> bytes:
        return b"x 1\n"

    async with client_of(MetricsPort(text, token=Sealed(b"t" * 24))) as client:
        assert (await client.get("/metrics")).status_code == 401
        assert (await client.get("/metrics", headers={"Authorization": "Bearer " + "u" * 24})).status_code == 401
        assert (await client.get("/metrics", headers={"Authorization": "Basic " + "t" * 24})).status_code == 401
        told = await client.get("/metrics", headers={"Authorization": "Bearer " + "t" * 24})
        assert (told.status_code, told.text) == (200, "x 1\n")
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/v1/charges")).status_code == 404
        assert (await client.post("/metrics")).status_code == 405


def test_metrics_are_off_unless_asked_for_and_never_open_to_others() -> None:
    assert read_settings({}).metrics_listen is None
    assert read_settings({"KINPAY_METRICS_LISTEN": "127.0.0.1:9464"}).metrics_listen == ("127.0.0.1", 9464)
    assert read_settings({"KINPAY_METRICS_LISTEN": "[::1]:9464"}).metrics_listen == ("::1", 9464)
    for place in ("0.0.0.0:9464", "[::]:9464", "localhost:9464", "10.0.0.1:9464"):
        with pytest.raises(SettingsWrong, match="KINPAY_METRICS_TOKEN"):
            read_settings({"KINPAY_METRICS_LISTEN": place})
        assert read_settings({"KINPAY_METRICS_LISTEN": place, "KINPAY_METRICS_TOKEN": "t" * 24}).metrics_listen
    with pytest.raises(SettingsWrong, match="KINPAY_METRICS_LISTEN"):
        read_settings({"KINPAY_METRICS_LISTEN": "9464"})


async def test_every_part_of_the_backlog_goes_along_an_index_and_ends(db: Database) -> None:
    async with db.transaction() as conn:
        await BY_INDEX.run(conn)
        plan = "\n".join(row[0] for row in await conn.fetch("EXPLAIN " + LOOK.text, AT_MOST, SLOT))
        young = "\n".join(row[0] for row in await conn.fetch("EXPLAIN SELECT count(*) FROM outbox WHERE attempts > 3"))
    tables = re.findall(r"Seq Scan on (\w+)", plan)
    assert [name for name in tables if not name.startswith("pg_")] == []
    assert "Seq Scan on outbox" in young, "the reader of the plan would have seen one"
    assert len(re.findall(r"Limit ", plan)) == LOOK.text.count("LIMIT")


async def test_the_backlog_is_looked_at_once_in_a_while_and_its_absence_is_told(
    db: Database, cluster: kinpay_postgres.Cluster
) -> None:
    backlog = Backlog(db, kept_s=60)
    first, second = await asyncio.gather(backlog.read(), backlog.read())
    assert first is not None
    assert first is second, "however many ask"
    assert (first["outbox_open"], first["outbox_oldest_s"], first["checkpoint_age_s"]) == (0, None, None)
    async with db.transaction() as conn:
        await conn.execute(
            "INSERT INTO outbox (lane, topic, subject_id, created_at, available_at) SELECT gen_random_uuid(), 'x.y', "
            "gen_random_uuid(), now(), now() - interval '90 s' FROM generate_series(1, 3)"
        )
    later = await Backlog(db).read()
    assert later is not None
    assert later["outbox_open"] == 3
    assert 90 <= (later["outbox_oldest_s"] or 0) < 150
    gone = await Database.open(cluster.url(), max_connections=1)
    await gone.close()
    assert await Backlog(gone).read() is None


async def test_provider_calls_are_counted_by_what_came_of_them(db: Database, keys: ServerKeys) -> None:
    accounts = ProviderAccounts(db, keys, timeout_s=1)
    account_id = await account_of_a_bank_that_is_away(db, keys)
    provider = cast("Leased", await accounts.adapter(account_id))
    with pytest.raises(NotExecuted):
        await provider.get_agreement("0" * 32)
    calls = accounts.calls[("sandbox_bank", "get_agreement")]
    assert calls.outcomes == {"not_executed": 1}
    assert sum(calls.took.counts) == 1
    for error, outcome in ((UnknownOutcome(), "unknown"), (NotKnown(), "not_known"), (Misconfigured("x"), "misconfigured")):
        with pytest.raises(type(error)), provider._counted("debit"):
            raise error
        assert accounts.calls[("sandbox_bank", "debit")].outcomes[outcome] == 1
    await accounts.close()


async def test_server_and_worker_each_tell_their_own(home: Path, cluster: kinpay_postgres.Cluster) -> None:
    url = kinpay_postgres.create_database(cluster, "measured")
    await migrate(url)
    (home / "secret").write_text("A" * 43 + "=\n")
    (home / "secret").chmod(0o600)
    token, ports = "a-token-for-the-scraper-0123", (free_port(), free_port())
    env = environment(home, KINPAY_DATABASE_URL=url, KINPAY_METRICS_TOKEN=token, KINPAY_WORKER="apart")
    serving = await kinpay("serve", env=env | {"KINPAY_METRICS_LISTEN": f"127.0.0.1:{ports[0]}"})
    working = await kinpay("worker", env=env | {"KINPAY_METRICS_LISTEN": f"127.0.0.1:{ports[1]}"})
    try:
        address = await ready(serving)
        assert working.stdout is not None
        assert await asyncio.wait_for(working.stdout.readline(), 60)
        _, out, _ = await output_of(
            "operator", "create", "食堂", "--account", "boss", "--name", "王丽", "--phone", "1", env=env
        )
        async with httpx.AsyncClient(base_url=address) as client:
            assert (await client.get("/metrics")).status_code in (401, 404), "not on the port that people reach"
            for _ in range(3):
                await client.get("/readyz")
            asked = {"operator_id": json.loads(out)["operator_id"], "account": "boss"}
            assert (await client.post("/v1/sign-in", json=asked)).status_code == 202
        server = await scraped(ports[0], token)
        worker = await _until_delivered(ports[1], token)
    finally:
        for process in (serving, working):
            process.send_signal(signal.SIGTERM)
        ended = await asyncio.gather(*(asyncio.wait_for(process.communicate(), 30) for process in (serving, working)))
    assert [process.returncode for process in (serving, working)] == [0, 0], ended
    assert server["kinpay_http_requests_total", ("method", "GET"), ("route", "/readyz"), ("status", "2xx")] == 3
    assert server["kinpay_database_up",] == 1
    assert server["kinpay_backlog_outbox_open",] >= 0
    assert server["process_resident_memory_bytes",] > 1 << 20
    assert ("kinpay_http_connections",) not in worker
    assert worker["kinpay_errand_runs_total", ("errand", "void what ran out")] >= 1
    text = repr(server) + repr(worker)
    assert "boss" not in text
    assert not re.search(r"[0-9a-f]{32}", text), "no id is in a label"


async def _until_delivered(port: int, token: str) -> Numbers:
    delivered = ("kinpay_messages_total", ("outcome", "delivered"), ("topic", "code"))
    for _ in range(100):
        worker = await scraped(port, token)
        if delivered in worker and worker["kinpay_errand_runs_total", ("errand", "void what ran out")]:
            return worker
        await asyncio.sleep(0.1)
    raise AssertionError(sorted(read for read in worker if read[0] == "kinpay_messages_total"))
