"""Who may ask, and that every answer can be believed."""

from __future__ import annotations

import secrets
import time

import httpx

from tests.sandbox.asking import Operator


async def test_the_bank_gives_out_the_key_that_was_pinned(operator: Operator) -> None:
    told = (await operator.http.get(operator.base_url + "/v1/keys")).json()
    assert [one["key_id"] for one in told["keys"]] == [operator.bank_key_id]


async def test_a_request_older_or_newer_than_five_minutes_is_stale(operator: Operator) -> None:
    path = "/v1/debits/by-key/K1"
    for offset, code in ((-301, "stale"), (303, "stale"), (-290, "not_found"), (290, "not_found")):
        nonce = secrets.token_urlsafe(16)
        headers = operator.signed_headers("GET", path, body=b"", nonce=nonce, at=int(time.time()) + offset)
        answer = await operator.send("GET", path, body=b"", headers=headers, nonce=nonce)
        assert (answer.status, answer.code) == (401 if code == "stale" else 404, code)


async def test_a_captured_request_is_good_once(operator: Operator) -> None:
    nonce = secrets.token_urlsafe(16)
    headers = operator.signed_headers("POST", "/v1/debits/by-key/K2/cancel", body=b"", nonce=nonce)
    first = await operator.send("POST", "/v1/debits/by-key/K2/cancel", body=b"", headers=headers, nonce=nonce)
    again = await operator.send("POST", "/v1/debits/by-key/K2/cancel", body=b"", headers=headers, nonce=nonce)
    assert first.status == 200
    assert (again.status, again.code) == (401, "replayed")


async def test_a_request_that_was_touched_is_refused(operator: Operator) -> None:
    nonce = secrets.token_urlsafe(16)
    headers = operator.signed_headers("POST", "/v1/debits", body=b"{}", nonce=nonce)
    for target, method, body in (
        ("/v1/debits", "POST", b"{ }"),
        ("/v1/refunds", "POST", b"{}"),
        ("/v1/debits?x=1", "POST", b"{}"),
        ("/v1/debits", "PUT", b"{}"),
    ):
        answer = await operator.send(method, target, body=body, headers=headers, nonce=nonce)
        assert (answer.status, answer.code) == (401, "bad_signature")
    # None of these used the nonce up: an attacker cannot spoil an honest request either.
    answer = await operator.send("POST", "/v1/debits", body=b"{}", headers=headers, nonce=nonce)
    assert (answer.status, answer.code) == (422, "bad_request")


async def test_a_stranger_and_a_missing_header_are_refused_under_signature(operator: Operator) -> None:
    nonce = secrets.token_urlsafe(16)
    headers = operator.signed_headers("GET", "/v1/x", body=b"", nonce=nonce, keyid="clnobody")
    answer = await operator.send("GET", "/v1/x", body=b"", headers=headers, nonce=nonce)
    assert (answer.status, answer.code) == (401, "unknown_client")
    answer = await operator.send("GET", "/v1/x", body=b"", headers={}, nonce="")
    assert (answer.status, answer.code) == (401, "bad_signature")


async def test_the_query_is_signed_and_unknown_paths_answer_under_signature(operator: Operator) -> None:
    answer = await operator.call("GET", "/v1/debits/by-key/K3?a=%2Fb&c")
    assert (answer.status, answer.code) == (404, "not_found")
    for method, path in (("GET", "/v1/nothing"), ("DELETE", "/v1/debits"), ("GET", "/v1/debits/by-key/a%2Fb")):
        answer = await operator.call(method, path)
        assert (answer.status, answer.code) == (404, "not_found")


async def test_a_body_over_64_kib_is_refused_under_signature(operator: Operator) -> None:
    answer = await operator.call("POST", "/v1/debits", b" " * (64 * 1024 + 1))
    assert (answer.status, answer.code) == (413, "too_large")


async def test_control_is_for_programs_on_this_machine(operator: Operator) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"X-Forwarded-For": "127.0.0.1"}, {"Host": "evil.example"}):
        answer = await operator.http.get(operator.base_url + "/_control/books", headers=headers)
        assert (answer.status_code, answer.json()) == (403, {"code": "loopback_only"})


async def test_answers_are_bound_to_their_request(operator: Operator) -> None:
    nonce = secrets.token_urlsafe(16)
    headers = operator.signed_headers("GET", "/v1/debits/by-key/K4", body=b"", nonce=nonce)
    answer: httpx.Response = await operator.http.get(operator.base_url + "/v1/debits/by-key/K4", headers=headers)
    assert answer.headers["kinbank-nonce"] == nonce
