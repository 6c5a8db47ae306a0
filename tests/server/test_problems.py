"""Every error has a status, words in two languages and a stable code; none of them tells what it should not."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import logging
import pkgutil
from collections.abc import Iterator

import asyncpg
import pytest
from fastapi import APIRouter

import kinpay
from kinpay.primitives import errors
from kinpay.primitives.errors import Busy, KeyInFlight, KinpayError, TooMany
from kinpay.server import journal
from kinpay.server.problems import WORDS, locale_of, problem_of
from tests.server.conftest import TOKEN, client_of, small_app


def every_error(root: type[KinpayError] = KinpayError) -> Iterator[type[KinpayError]]:
    yield root
    for kind in root.__subclasses__():
        if kind.__module__.startswith("kinpay."):
            yield from every_error(kind)


def test_every_error_of_every_module_has_words_and_every_word_an_error() -> None:
    for module in pkgutil.walk_packages(kinpay.__path__, "kinpay."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    codes = {kind.code for kind in every_error()}
    assert codes - WORDS.keys() == set(), "server/problems.py must say what these are"
    assert WORDS.keys() - codes == {"validation-failed"}, "nobody raises these"


@pytest.mark.parametrize("code", WORDS)
def test_words_are_sentences(code: str) -> None:
    words = WORDS[code]
    assert words.en.endswith(".")
    assert words.zh.endswith("。")
    assert 400 <= words.status <= 599
    assert words.ours == (words.status == 500 or code == "schema-mismatch")


def failing_with(error: Exception) -> APIRouter:
    routes = APIRouter()

    @routes.get("/v1/fail")
    async def fail() -> None:
        raise error

    return routes


async def test_an_unexpected_error_is_an_incident_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with client_of(small_app(failing_with(ValueError("王小明 13800000000")))) as client:
            answer = await client.get("/v1/fail")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (500, "internal")
    record = next(record for record in caplog.records if record.getMessage() == "unexpected error")
    assert vars(record)["incident"] == problem["incident"]
    assert "王小明" not in answer.text + caplog.text + str(vars(record))
    assert any("test_problems.py" in place for place in vars(record)["at_code"])


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (Busy(), 503, "1"),
        (KeyInFlight(), 409, "1"),
        (TooMany(retry_after_s=90), 429, "90"),
        (errors.NotFound(), 404, None),
        (errors.Unauthenticated(), 401, None),
        (asyncpg.DataError("x"), 400, None),
        (asyncpg.CharacterNotInRepertoireError("x"), 400, None),
        (asyncpg.UniqueViolationError("x"), 409, None),
    ],
)
async def test_each_has_its_status_and_when_to_come_back(error: Exception, status: int, retry: str | None) -> None:
    async with client_of(small_app(failing_with(error))) as client:
        answer = await client.get("/v1/fail")
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, retry)
    assert answer.json()["type"] == f"/problems/{answer.json()['code']}"


async def test_unknown_places_and_methods_are_problems_too() -> None:
    async with client_of(small_app()) as client:
        nowhere, wrong = await client.get("/v1/nowhere"), await client.delete("/v1/orders")
        slash = await client.get("/v1/whoami/")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not-found")
    assert (wrong.status_code, wrong.json()["code"], wrong.headers["allow"]) == (405, "method-not-allowed", "POST")
    assert slash.status_code == 404


async def test_the_hot_route_fails_like_every_other() -> None:
    async with client_of(small_app()) as client:
        answer = await client.post("/v1/hot", json={"raise": 1}, headers={"accept-language": "zh-CN,en;q=0.5"})
    assert answer.status_code in (201, 500)
    async with client_of(small_app()) as client:
        answer = await client.post("/v1/hot", content=b'{"raise":1}', headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")


def test_the_language_asked_for() -> None:
    assert locale_of(None) == "en"
    assert locale_of(b"zh-CN,zh;q=0.9,en;q=0.8") == "zh"
    assert locale_of(b"en;q=0.2, zh;q=0.7") == "zh"
    assert locale_of(b"fr, \xff;q=x, en-GB;q=0.1") == "en"
    assert "。" in problem_of(Busy()).encode("zh").decode()


async def test_every_answer_carries_the_headers_of_safety_and_an_id() -> None:
    async with client_of(small_app()) as client:
        answers = [await client.get("/v1/nowhere"), await client.post("/v1/orders", json={"name": "a", "amount_minor": 7})]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["strict-transport-security"]
        assert len(answer.headers["x-request-id"]) == 32
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in answers[0].headers


async def test_who_asks_is_known_by_token_and_a_bad_one_is_refused() -> None:
    async with client_of(small_app()) as client:
        good = await client.get("/v1/whoami", headers={"authorization": f"Bearer {TOKEN}"})
        assert good.json()["id"].endswith("1")
        for bad in ("Bearer wrong-token", "Basic abc", "Bearer", f"Bearer {TOKEN} ", "Bearer \xe9"):
            answer = await client.get("/v1/whoami", headers=[(b"authorization", bad.encode("latin-1"))])
            assert answer.status_code == (200 if bad.strip().endswith(TOKEN) else 401), bad
        assert (await client.get("/v1/whoami")).json()["code"] == "unauthenticated"
        both = {"authorization": f"Bearer {TOKEN}", "signature": "a=:b:"}
        assert (await client.get("/v1/whoami", headers=both)).json()["code"] == "ambiguous-credentials"


async def test_the_access_log_has_the_route_and_ids_but_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(journal, "_access", [journal.Together(stream)])
    async with client_of(small_app()) as client:
        await client.post("/v1/providers/secret-code/callback?a=1", content=b"x")
        await client.get("/v1/nowhere-secret-code")
    await asyncio.sleep(0)
    seen = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {(line["level"], line["from"], line["event"]) for line in seen} == {("info", "kinpay.access", "request")}
    assert all(len(line["request_id"]) == 32 for line in seen)
    assert [(line["route"], line["status"]) for line in seen] == [("/v1/providers/{account}/callback", 200), ("-", 404)]
    assert "secret-code" not in str(seen)


async def test_the_openapi_document_is_3_1_and_tells_of_problems_and_the_hot_route() -> None:
    async with client_of(small_app()) as client:
        document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert "/v1/hot" in document["paths"]
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["responses"]["default"]["content"]["application/problem+json"]
            assert "422" not in operation["responses"]
    assert {"person", "api_key", "terminal"} == set(document["components"]["securitySchemes"])
