"""API keys: what each scope opens, what a key never sees, and when it is nobody's."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from standardwebhooks.webhooks import Webhook

from kinpay.operators.api_key import TOKEN_START, authenticate_api_key
from kinpay.primitives.actor import Scope
from kinpay.primitives.ids import new_id
from kinpay.primitives.server_keys import ServerKeys
from kinpay.server.assemble import tasks
from kinpay.server.serve import Background
from kinpay.worker.run import Worker
from tests.api.asking import URL, AsPerson
from tests.api.matrix import EVERYBODY, KEYS, ROWS, Row
from tests.api.schema import operations
from tests.api.town import Town, stop_quietly
from tests.api.watching import code_of
from tests.webhooks.consumer import Consumer

OF_FAMILIES = ("circle_id", "spender_id", "payer_id", "mandate_id", "mcc", "used", "remaining", "at_most", "at_least")


async def key_with(town: Town, *scopes: str, **more: Any) -> AsPerson:
    """A new key of the first operator."""
    made = await town.owners[0].ask("POST", "/v1/api-keys", {"name": "Some", "scopes": sorted(scopes), **more})
    return AsPerson(town.http, made["token"])


async def scopes_told(town: Town) -> dict[str, str]:
    """Operation → the scope that the document says it needs of a key."""
    document = (await town.http.get(f"{URL}/openapi.json")).json()
    return {
        name: scope
        for name, _, _, operation in operations(document)
        for one in operation["security"]
        for scope in one.get("api_key", [])
    }


TABLE = Path(__file__).parents[2] / "docs" / "webhooks.md"


def opened_by(table: str, told: dict[str, str]) -> dict[str, str]:
    """Operation → scope as the page tells it: each in back-ticks; `everything under` names where the paths begin."""
    found: dict[str, str] = {}
    for scope, opens in re.findall(r"^\| `([a-z]+:[a-z]+)` \| (.*) \|$", table, re.MULTILINE):
        named = [name.partition("?")[0] for name in re.findall(r"`((?:[A-Z]+ )?/v1/[^`]*)`", opens)]
        everything = opens.startswith("everything under")
        for name in named:
            begun = [one for one in told if one.partition(" ")[2].startswith(name)] if everything else [name]
            found |= dict.fromkeys(begun, scope)
    return found


async def test_the_page_names_what_each_scope_opens(town: Town) -> None:
    told, page = await scopes_told(town), TABLE.read_text(encoding="utf-8")
    assert opened_by(page, told) == told
    assert opened_by(page.replace("`GET /v1/terminals`", "nothing yet"), told) != told


def wrongs(row: Row, *, without: str, alone: str) -> list[str]:
    """Whether a key with every other scope is refused, and one with this scope alone is not."""
    found = [] if without == "forbidden" else [f"{row.operation}: every other scope opens it ({without or 'done'})"]
    return found + ([f"{row.operation}: its scope does not open it"] if alone in ("forbidden", "unauthenticated") else [])


async def test_every_operation_needs_the_scope_that_the_document_names(town: Town) -> None:
    """What is not there is answered with not-found: enough to see that the key went past."""
    told = await scopes_told(town)
    rows = {row.operation: row for row in ROWS if row.may & KEYS and not row.may >= EVERYBODY}
    assert set(told) == set(rows)
    assert set(told.values()) == {scope.value for scope in Scope}
    found: list[str] = []
    nowhere = town.families["A"].nowhere()
    for operation, scope in told.items():
        row = rows[operation]
        some, rest = await key_with(town, scope), await key_with(town, *({one.value for one in Scope} - {scope}))
        heard = []
        for asker in (rest, some):
            headers = row.key
            heard.append(code_of(await asker.ask(row.method, row.path(nowhere), row.content(nowhere), headers=headers)))
        found += wrongs(row, without=heard[0], alone=heard[1])
    assert found == []
    assert wrongs(rows["GET /v1/charges"], without="", alone="") != []
    assert wrongs(rows["GET /v1/charges"], without="forbidden", alone="forbidden") != []


def names_in(value: Any) -> set[str]:
    """Every field's name, however deep."""
    if isinstance(value, dict):
        return set(value).union(*(names_in(inner) for inner in value.values()))
    return set().union(*(names_in(inner) for inner in value)) if isinstance(value, list) else set()


async def test_a_key_sees_what_a_till_sees(town: Town) -> None:
    """The very same answer, a refused charge among them; nothing of a family."""
    family = town.families["A"]
    till, key = town.principals["A.till"], town.principals["A.key"]
    refused = {"presented": {"code": family["card_code"]}, "amount_minor": 99_999_999, "currency": "CNY"}
    asked = await till.ask("POST", "/v1/charges", json.dumps(refused).encode(), headers={"idempotency-key": new_id()})
    assert asked.json()["state"] == "refused"
    for charge_id in (family["charge"], family["held"], asked.json()["id"]):
        by_till, by_key = [(await one.ask("GET", f"/v1/charges/{charge_id}")).json() for one in (till, key)]
        assert by_till == by_key
    listed = (await key.ask("GET", "/v1/charges?limit=100")).json()["charges"]
    assert {family["charge"], family["held"], asked.json()["id"]} <= {one["id"] for one in listed}
    assert not names_in(listed) & set(OF_FAMILIES)
    told = json.dumps(listed)
    for other in town.families.values():
        assert not any(secret in told for secret in other.secrets - {one["id"] for one in listed})


async def test_pages_go_through_every_charge_of_the_merchant_once(town: Town) -> None:
    """By cursor, newest first, for a key of one merchant and for one of the operator; another merchant's has none."""
    for name in ("A.key", "A.office"):
        seen: list[str] = []
        after = ""
        while True:
            page = (await town.principals[name].ask("GET", f"/v1/charges?limit=2{after}")).json()
            seen += [one["id"] for one in page["charges"]]
            if page["after"] is None:
                break
            after = f"&after={page['after']}"
        async with town.db.connection() as conn:
            rows = await conn.fetch(
                "SELECT id FROM charge WHERE merchant_id = $1 ORDER BY id DESC", town.families["A"]["merchant"]
            )
        assert seen == [row["id"] for row in rows]
        assert len(seen) > 6
    assert (await town.principals["A.bakery"].ask("GET", "/v1/charges")).json() == {"charges": [], "after": None}


async def test_a_key_refunds_once_under_one_key(town: Town) -> None:
    """As a till would, with the same protection against doing it twice."""
    path, key = f"/v1/charges/{town.families['A']['charge']}/refunds", new_id()
    before = (await town.principals["A.key"].ask("GET", path.removesuffix("/refunds"))).json()["refunded_minor"]
    answers = [
        await town.principals["A.key"].ask("POST", path, b'{"amount_minor":7}', headers={"idempotency-key": key})
        for _ in range(2)
    ]
    assert [one.status_code for one in answers] == [201, 201]
    assert [one.json()["refunded_minor"] for one in answers] == [before + 7] * 2
    assert not names_in(answers[0].json()) & set(OF_FAMILIES)


async def test_a_key_is_shown_once_kept_as_a_hash_and_ends_at_once(town: Town) -> None:
    """Revoked, expired, altered: nobody's, all alike."""
    owner = town.owners[0]
    made = await owner.ask("POST", "/v1/api-keys", {"name": "Short", "scopes": ["terminals:read"]})
    token, about = made["token"], made["api_key"]
    assert token.startswith(TOKEN_START)
    assert token.startswith(about["prefix"])
    assert len(token) > len(about["prefix"]) + 32
    asker = AsPerson(town.http, token)
    assert (await asker.ask("GET", "/v1/terminals")).status_code == 200
    listed = (await owner.ask("GET", "/v1/api-keys?limit=100"))["api_keys"]
    (shown,) = [one for one in listed if one["id"] == about["id"]]
    assert shown["last_used_at"] is not None
    async with town.db.connection() as conn:
        for (table,) in await conn.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
            kept = await conn.fetchval(f"SELECT count(*) FROM {table} t WHERE t::text LIKE $1", f"%{token[16:]}%")
            assert kept == 0, table
    altered = token[:-1] + ("A" if token[-1] != "A" else "B")
    assert (await AsPerson(town.http, altered).ask("GET", "/v1/terminals")).status_code == 401
    await owner.ask("DELETE", f"/v1/api-keys/{about['id']}")
    await owner.ask("DELETE", f"/v1/api-keys/{about['id']}")
    assert (await asker.ask("GET", "/v1/terminals")).status_code == 401
    expiring = await key_with(town, "terminals:read", expires_at="2999-01-01T00:00:00Z")
    assert (await expiring.ask("GET", "/v1/terminals")).status_code == 200
    async with town.db.connection() as conn:
        await conn.execute("UPDATE api_key SET expires_at = kinpay_now() WHERE expires_at IS NOT NULL")
    assert (await expiring.ask("GET", "/v1/terminals")).status_code == 401


async def test_a_keys_use_is_noted_coarsely_and_its_hash_renewed_after_a_rotation(town: Town, keys: ServerKeys) -> None:
    """A write an hour, not one a request; and a key outlives the server's root secret while the old one is accepted."""
    made = await town.owners[0].ask("POST", "/v1/api-keys", {"name": "Busy", "scopes": ["terminals:read"]})
    token, key_id, server = made["token"], made["api_key"]["id"], town.house.keys

    async def used() -> tuple[datetime, bytes]:
        async with town.db.connection() as conn:
            row = await conn.fetchrow("SELECT last_used_at, token_hash FROM api_key WHERE id = $1", key_id)
        return row["last_used_at"], row["token_hash"]

    assert await authenticate_api_key(town.db, server, token) is not None
    first, hashed = await used()
    assert await authenticate_api_key(town.db, server, token) is not None
    assert await used() == (first, hashed)
    rotated = ServerKeys((keys.roots[0], *server.roots))
    async with town.db.connection() as conn:
        await conn.execute("UPDATE api_key SET last_used_at = $2 WHERE id = $1", key_id, first - timedelta(hours=2))
    assert await authenticate_api_key(town.db, rotated, token) is not None
    again, renewed = await used()
    assert again >= first
    assert renewed != hashed
    assert await authenticate_api_key(town.db, keys, token) is not None
    assert await authenticate_api_key(town.db, server, token) is None, "the old root alone does not know it any more"


async def test_an_endpoint_is_made_changed_and_rotated_over_http(town: Town) -> None:
    """Secrets are shown once; addresses that lead inside are refused, and look like those that lead nowhere."""
    key = town.principals["A.key"]

    async def ask_json(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        response = await key.ask(method, path, b"" if body is None else json.dumps(body).encode())
        return response.json() if response.content else None

    hook = {"url": "https://127.0.0.1:1025/hook", "types": ["charge.voided"]}
    made = await ask_json("POST", "/v1/webhook-endpoints", hook)
    endpoint = made["endpoint"]
    assert made["secret"].startswith("whsec_")
    assert (endpoint["merchant_id"], endpoint["enabled"]) == (town.families["A"]["merchant"], True)
    for url in ("https://10.0.0.1/", "https://169.254.169.254/latest/meta-data", "https://[::1]/", "https://[fd00::1]:8443/"):
        for method, path in (("POST", ""), ("PATCH", f"/{endpoint['id']}")):
            refused = await ask_json(method, f"/v1/webhook-endpoints{path}", {**hook, "url": url})
            assert (refused["status"], refused["reason"]) == (422, "no_public_address")
    off = await ask_json("PATCH", f"/v1/webhook-endpoints/{endpoint['id']}", {"enabled": False})
    assert (off["disabled_reason"], off["url"]) == ("asked", hook["url"])
    assert (await ask_json("POST", f"/v1/webhook-endpoints/{endpoint['id']}/test"))["code"] == "wrong-state"
    on = await ask_json("PATCH", f"/v1/webhook-endpoints/{endpoint['id']}", {"enabled": True, "types": ["charge.held"]})
    assert (on["disabled_reason"], on["types"]) == (None, ["charge.held"])
    rotated = await ask_json("POST", f"/v1/webhook-endpoints/{endpoint['id']}/rotate", {"overlap_s": 3600})
    assert rotated["secret"].startswith("whsec_")
    assert rotated["secret"] != made["secret"]
    tested = await ask_json("POST", f"/v1/webhook-endpoints/{endpoint['id']}/test")
    (logged,) = (await ask_json("GET", f"/v1/webhook-endpoints/{endpoint['id']}/deliveries"))["deliveries"]
    assert (logged["message_id"], logged["type"], logged["state"]) == (tested["message_id"], "test", "pending")
    told = await ask_json("GET", f"/v1/webhook-deliveries/{logged['id']}")
    assert json.loads(told["body"])["type"] == "test"
    assert await ask_json("DELETE", f"/v1/webhook-endpoints/{endpoint['id']}") is None
    assert (await ask_json("GET", f"/v1/webhook-deliveries/{logged['id']}"))["code"] == "not-found"


async def test_the_house_sends_by_itself(town: Town) -> None:
    """Everything in its place: the route wakes the sender, which runs beside the worker; the library takes what comes."""
    await Worker(town.db, tasks(town.house)).run_until_idle()  # What happened before anybody listened.
    consumer = Consumer().start()
    hook = {"url": consumer.url, "types": ["charge.succeeded", "charge.refunded"]}
    made = (await town.principals["A.key"].ask("POST", "/v1/webhook-endpoints", json.dumps(hook).encode())).json()
    background = Background(town.house, work=True)
    running = asyncio.create_task(background.run())
    try:
        await town.principals["A.key"].ask("POST", f"/v1/webhook-endpoints/{made['endpoint']['id']}/test")
        await consumer.hears(1)
        body = b'{"amount_minor":9}'
        charge_id = town.families["A"]["charge"]
        await town.principals["A.key"].ask(
            "POST", f"/v1/charges/{charge_id}/refunds", body, headers={"idempotency-key": new_id()}
        )
        await consumer.hears(2)
    finally:
        background.stop()
        await stop_quietly(running)
        consumer.stop()
    told = [Webhook(made["secret"]).verify(heard.body, heard.headers) for heard in consumer.heard]
    assert [one["type"] for one in told] == ["test", "charge.refunded"]
    assert told[1]["data"]["id"] == charge_id
    assert told[1]["data"]["refund"] == {"amount_minor": 9}
