"""Messages go to public addresses alone, and to the very address that was judged (server-side request forgery)."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from kinpay.primitives.errors import Invalid
from kinpay.webhooks.address import Rules, all_allowed, may_go_to, networks_of, read_url
from kinpay.webhooks.outbound import MAX_ANSWER_BYTES, Outbound
from tests.webhooks.consumer import Consumer, answer, chatter, drip, hang

LOOPBACK = Rules(http=True, networks=networks_of("127.0.0.0/8"))
INSIDE = [
    "127.0.0.1", "127.255.255.255", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "169.254.169.254", "169.254.0.1", "100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.192",
    "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "168.63.129.16", "192.88.99.1",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "fe80::1",
    "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001::1", "2001:db8::1", "2002:7f00:1::1", "3fff::1",
    "4000::1",
    "", "localhost", "127.1", "0x7f000001", "2130706433", "127.0.0.1.", "1.2.3", "::g",
]  # fmt: skip
OUTSIDE = ["8.8.8.8", "93.184.216.34", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "2606:4700::1", "2a00:1450::1"]


@pytest.mark.parametrize("address", INSIDE)
def test_inside_is_refused(address: str) -> None:
    assert not may_go_to(address, Rules())
    assert not all_allowed(["8.8.8.8", address], Rules()), "one address inside spoils the name"


@pytest.mark.parametrize("address", OUTSIDE)
def test_outside_is_allowed(address: str) -> None:
    assert all_allowed([address], Rules())


def test_python_says_so_too() -> None:
    """The standard library's own table as a second witness: nothing it holds for private or special is allowed here."""
    for address in (*INSIDE, *OUTSIDE):
        try:
            found = ip_address(address)
        except ValueError:
            continue
        if may_go_to(address, Rules()):
            assert found.is_global
            assert not found.is_multicast


def test_no_address_at_all_is_refused() -> None:
    assert not all_allowed([], LOOPBACK)


def test_a_network_that_is_let_through_is_and_no_other() -> None:
    assert may_go_to("127.0.0.9", LOOPBACK)
    assert not may_go_to("10.0.0.1", LOOPBACK)
    assert not may_go_to("::1", LOOPBACK)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://shop.example/hook", "url_not_https"),
        ("ftp://shop.example/", "url_malformed"),
        ("https://user:secret@shop.example/", "url_malformed"),
        ("https://user@shop.example/", "url_malformed"),
        ("https://shop.example@127.0.0.1/", "url_malformed"),
        ("https://shop.example\\@127.0.0.1/", "url_malformed"),
        ("https://shop.example#@127.0.0.1/", "url_malformed"),
        ("https://shop.example/a#b", "url_malformed"),
        ("https://shop.example/a b", "url_malformed"),
        ("https://shop.example/\r\nx: y", "url_malformed"),
        ("https://shöp.example/", "url_malformed"),
        ("https:///hook", "url_malformed"),
        ("https://shop.example:22/", "port_not_allowed"),
        ("https://shop.example:80/", "port_not_allowed"),
        ("https://shop.example:1023/", "port_not_allowed"),
        ("https://shop.example:65536/", "port_not_allowed"),
        ("https://shop.example:0/", "port_not_allowed"),
        ("https://" + "a" * 500, "url_malformed"),
    ],
)
def test_an_address_of_another_form_is_refused(url: str, reason: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_url(url, Rules())
    assert refused.value.detail["reason"] == reason


def test_an_address_is_read() -> None:
    target = read_url("https://Shop.Example:8443/a/b?c=d", Rules())
    assert (target.host, target.port, target.path, target.authority) == ("shop.example", 8443, "/a/b?c=d", "shop.example:8443")
    assert read_url("https://[2606:4700::1]/", Rules()).authority == "[2606:4700::1]"
    assert read_url("http://localhost:8080/x", LOOPBACK).port == 8080


# ----------------------------------------------------------------------------------------------------------- the way out

NAMES: dict[str, Sequence[str]] = {
    "inside.example": ["10.0.0.1"],
    "metadata.example": ["169.254.169.254"],
    "both.example": ["93.184.216.34", "127.0.0.1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "empty.example": [],
    "here.example": ["127.0.0.1"],
}


async def look_up(name: str) -> Sequence[str]:
    if name not in NAMES:
        raise socket.gaierror
    return NAMES[name]


@pytest_asyncio.fixture
async def outbound() -> AsyncIterator[Outbound]:
    made = Outbound(LOOPBACK, resolve=look_up, timeout_s=0.6)
    yield made
    await made.close()


@pytest.mark.parametrize("name", ["inside.example", "metadata.example", "mapped.example", "empty.example", "nowhere.example"])
async def test_a_name_that_leads_inside_is_not_asked_and_looks_like_none(outbound: Outbound, name: str) -> None:
    sent = await outbound.post(f"https://{name}/", headers={}, body=b"{}")
    assert (sent.status, sent.error) == (None, "no_public_address")


async def test_a_name_that_leads_inside_besides_is_not_asked() -> None:
    strict = Outbound(Rules(http=True), resolve=look_up)
    consumer = Consumer().start()
    for name in ("both.example", "here.example"):
        assert (await strict.post(consumer.named(name), headers={}, body=b"{}")).error == "no_public_address"
    for literal in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"):
        assert (await strict.post(consumer.named(literal), headers={}, body=b"{}")).error == "no_public_address"
    assert consumer.heard == []
    consumer.stop()
    await strict.close()


async def test_the_connection_goes_to_the_address_that_was_judged(outbound: Outbound) -> None:
    """The name exists only in our resolver: nobody else is asked for it, so nobody can change the answer in between."""
    consumer = Consumer().start()
    sent = await outbound.post(consumer.named("here.example"), headers={"x-a": "b"}, body=b"{}")
    consumer.stop()
    assert (sent.status, sent.error) == (204, None)
    (heard,) = consumer.heard
    assert heard.headers["host"] == f"here.example:{consumer.port}"
    assert heard.path == "/hook?of=till"


async def test_a_name_that_turns_inward_is_refused_at_the_next_attempt() -> None:
    """DNS rebinding between two attempts."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])

    async def turning(_: str) -> Sequence[str]:
        return next(answers)

    made, consumer = Outbound(LOOPBACK, resolve=turning), Consumer().start()
    assert (await made.post(consumer.named("turning.example"), headers={}, body=b"{}")).status == 204
    assert (await made.post(consumer.named("turning.example"), headers={}, body=b"{}")).error == "no_public_address"
    assert len(consumer.heard) == 1
    consumer.stop()
    await made.close()


async def test_a_second_address_is_tried_when_the_first_refuses() -> None:
    async def two(_: str) -> Sequence[str]:
        return ["127.0.0.2", "127.0.0.1"]

    made, consumer = Outbound(LOOPBACK, resolve=two), Consumer().start()
    assert (await made.post(consumer.named("two.example"), headers={}, body=b"{}")).status == 204
    consumer.stop()
    await made.close()


async def test_a_redirect_is_a_failure_and_is_not_followed(outbound: Outbound) -> None:
    elsewhere = Consumer().start()
    consumer = Consumer(answer(302, headers=f"location: {elsewhere.url}\r\n")).start()
    sent = await outbound.post(consumer.url, headers={}, body=b"{}")
    assert (sent.status, sent.error, elsewhere.heard) == (302, "redirect", [])
    consumer.stop()
    elsewhere.stop()


@pytest.mark.parametrize("behave", [hang, drip])
async def test_who_hangs_or_drips_is_cut_off_at_the_time_out(outbound: Outbound, behave: object) -> None:
    consumer = Consumer(behave).start()  # type: ignore[arg-type]
    began = time.monotonic()
    sent = await outbound.post(consumer.url, headers={}, body=b"{}")
    assert sent.error == "timeout"
    assert 0.5 < time.monotonic() - began < 2
    consumer.stop()


async def test_of_an_endless_answer_only_the_beginning_is_read() -> None:
    made, consumer = Outbound(LOOPBACK, timeout_s=3), Consumer(chatter).start()
    sent = await made.post(consumer.url, headers={}, body=b"{}")
    assert (sent.status, sent.error) == (200, None)
    assert sent.answer is not None
    assert len(sent.answer) == 500
    assert "\0" not in sent.answer
    assert MAX_ANSWER_BYTES < 100_000
    consumer.stop()
    await made.close()


async def test_nobody_there_is_a_failure(outbound: Outbound) -> None:
    consumer = Consumer().start()
    consumer.stop()
    assert (await outbound.post(consumer.url, headers={}, body=b"{}")).error == "connect"


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for `name`, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(called).issuer_name(called).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(key, SHA256())
    )  # fmt: skip
    file = folder / "both.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(made.public_bytes(pem) + private)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    client = ssl.create_default_context(cadata=made.public_bytes(pem).decode())
    return server, client


async def test_the_certificate_is_checked_for_the_name_and_not_for_the_address(tmp_path: Path) -> None:
    server, client = certificate(tmp_path, "here.example")
    NAMES["other.example"] = ["127.0.0.1"]
    consumer = Consumer(tls=server).start()
    trusting = Outbound(LOOPBACK, resolve=look_up, tls=client)
    assert (await trusting.post(consumer.named("here.example"), headers={}, body=b"{}")).status == 204
    assert (await trusting.post(consumer.named("other.example"), headers={}, body=b"{}")).error == "certificate"
    usual = Outbound(LOOPBACK, resolve=look_up)
    assert (await usual.post(consumer.named("here.example"), headers={}, body=b"{}")).error == "certificate"
    assert len(consumer.heard) == 1
    consumer.stop()
    await trusting.close()
    await usual.close()
