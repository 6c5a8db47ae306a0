"""How codes leave: what the person reads, and that a channel which fails says so and leaves nothing behind."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import stat
import sys
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from kinpay.database.pool import database_now
from kinpay.mandates import change_terms, end_mandate, pool, zone
from kinpay.people import freeze, membership
from kinpay.people.channel import (
    CodeMessage,
    CodeNotSent,
    CommandChannel,
    FileChannel,
    WebhookChannel,
    channel_of,
    send_code,
)
from kinpay.people.code_text import PURPOSES, code_text
from kinpay.primitives.sealed import Sealed
from kinpay.registrations import approve
from tests.people.house import House, Posted

SECRET = Sealed(bytes(range(32)))


def message(**other: Any) -> CodeMessage:
    told = {"id": "0" * 32, "address": "+8613800000001", "account": "wang", "code": "012345"}
    told |= {"purpose": "sign_in", "locale": "zh", "asked_at": "2026-03-02T08:00:00+00:00"}
    return CodeMessage(**{**told, **other})


def test_every_operation_that_wants_a_proof_is_named_in_its_message_and_nothing_else_is() -> None:
    wanted = {freeze.UNFREEZE, membership.INVITE, zone.CHANGE, pool.CHANGE, pool.END, end_mandate.RESUME, approve.OPERATION}
    wanted |= {change_terms.TERMS, change_terms.FUNDING}
    assert set(PURPOSES) == wanted | {"sign_in", "open_account"}


@pytest.mark.parametrize("locale", ["zh", "en"])
@pytest.mark.parametrize("purpose", [*PURPOSES, "something.new"])
def test_the_text_says_the_code_its_purpose_and_to_keep_it_secret(locale: str, purpose: str) -> None:
    text = code_text("012345", purpose=purpose, locale=locale, minutes=5)
    assert "012345" in text
    assert ("请勿告诉任何人" if locale == "zh" else "Never tell it to anybody") in text
    if purpose in PURPOSES:
        assert PURPOSES[purpose][0 if locale == "zh" else 1] in text


def test_a_message_does_not_show_its_code() -> None:
    assert "012345" not in repr(message())


async def test_a_program_reads_address_and_text_from_its_input(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f"import sys; open({str(out)!r}, 'w').write(sys.stdin.read())"
    await CommandChannel((sys.executable, "-c", script)).send(message())
    first, rest = out.read_text(encoding="utf-8").split("\n", 1)
    assert first == "+8613800000001"
    assert rest == message().text() + "\n"


@pytest.mark.parametrize("command", [("/nowhere/program",), (sys.executable, "-c", "raise SystemExit(3)")])
async def test_a_program_that_is_missing_or_fails_has_not_sent(command: tuple[str, ...]) -> None:
    with pytest.raises(CodeNotSent) as told:
        await CommandChannel(command).send(message())
    assert "012345" not in str(told.value)


async def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(CodeNotSent):
        await CommandChannel(("/bin/sh", "-c", f"sleep 60 & echo $! > {pid}; wait"), timeout_s=0.5).send(message())
    assert time.monotonic() - began < 5
    child = int(pid.read_text())
    for _ in range(50):
        if not alive(child):
            break
        await asyncio.sleep(0.05)
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


class Gateway(BaseHTTPRequestHandler):
    """What an operator's own SMS gateway looks like from here."""

    status: ClassVar[int] = 204
    seen: ClassVar[list[tuple[dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.seen.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.status)
        self.send_header("location", "http://127.0.0.1:1/")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


async def test_a_webhook_is_signed_over_its_body_and_believes_only_success() -> None:
    server = HTTPServer(("127.0.0.1", 0), Gateway)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        channel = WebhookChannel(f"http://127.0.0.1:{server.server_port}/sms", SECRET, clock=lambda: 1_772_438_400.9)
        await channel.send(message())
        headers, body = Gateway.seen[-1]
        signed = b"0" * 32 + b".1772438400." + body
        expected = base64.b64encode(hmac.new(SECRET.open(), signed, hashlib.sha256).digest()).decode()
        assert headers["webhook-signature"] == f"v1,{expected}"
        assert json.loads(body)["address"] == "+8613800000001"
        for status in (302, 400, 500):
            Gateway.status = status
            with pytest.raises(CodeNotSent):
                await channel.send(message())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    with pytest.raises(CodeNotSent):
        await channel.send(message())


@pytest.mark.parametrize("url", ["http://sms.example.org/", "ftp://x/", "", "file:///etc/passwd"])
def test_a_webhook_is_https(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        WebhookChannel(url, SECRET)


async def test_a_file_is_for_the_demo_and_for_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "codes"
    with pytest.raises(ValueError, match="demo"):
        channel_of("file", str(file), demo=False)
    channel = channel_of("file", str(file), demo=True)
    await channel.send(message())
    await channel.send(message(code="999999"))
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert [json.loads(line)["code"] for line in file.read_text().splitlines()] == ["012345", "999999"]
    with pytest.raises(CodeNotSent):
        await FileChannel(tmp_path / "missing" / "codes").send(message())


def test_what_the_settings_may_name() -> None:
    assert channel_of("command", "/usr/bin/sms --from 'kin pay'", demo=False) == CommandChannel(
        ("/usr/bin/sms", "--from", "kin pay")
    )
    assert isinstance(channel_of("webhook", "https://sms.example.org/", demo=False, secret=SECRET), WebhookChannel)
    for kind, target in (("command", ""), ("webhook", "https://sms.example.org/"), ("pigeon", "roof")):
        with pytest.raises(ValueError, match="code"):
            channel_of(kind, target, demo=True)


async def test_a_code_for_nobody_or_past_its_life_goes_nowhere(house: House, tmp_path: Path) -> None:
    file = FileChannel(tmp_path / "sent")
    for account in ("boss", "nobody"):
        await house.client.post("/v1/sign-in", json={"operator_id": house.operator_id, "account": account})
    async with house.db.connection() as conn:
        rows = await conn.fetch("SELECT subject_id, body FROM outbox WHERE topic = 'code.send' ORDER BY id")
        now = await database_now(conn)
    known, unknown = [Posted(row["subject_id"], row["body"]) for row in rows]
    assert known.body.keys() == unknown.body.keys()
    await send_code(unknown, file, house.keys, now=now)
    await send_code(known, file, house.keys, now=now + timedelta(minutes=6))
    assert not file.path.exists()
    await send_code(known, file, house.keys, now=now)
    assert json.loads(file.path.read_text())["account"] == "boss"
