"""Messages are signed as the Standard Webhooks specification says; its reference library is the witness."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from kinpay.primitives.sealed import Sealed
from kinpay.webhooks.signature import secret_of, secret_text, signature, signed_headers

VECTOR = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_published_vector() -> None:
    said = signature(
        secret_of(VECTOR), message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp_s=1614265330, body=b'{"test": 2432232314}'
    )
    assert said == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(min_size=24, max_size=64), st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_the_reference_library_verifies_what_is_signed_here(secret: bytes, body: str) -> None:
    sealed = Sealed(secret)
    headers = signed_headers([sealed], message_id="msg_1", timestamp_s=int(time.time()), body=body.encode())
    Webhook(secret_text(sealed)).verify(body, headers, json_parse=False)
    assert secret_of(secret_text(sealed)).open() == secret


@pytest.mark.parametrize("forged", ["webhook-id", "webhook-timestamp", "webhook-signature", "body", "secret"])
def test_a_forged_message_does_not_verify(forged: str) -> None:
    secret, body = secret_of(VECTOR), '{"type":"charge.succeeded"}'
    headers = signed_headers([secret], message_id="msg_1", timestamp_s=int(time.time()), body=body.encode())
    given_secret = VECTOR
    if forged == "body":
        body = body.replace("succeeded", "refunded")
    elif forged == "secret":
        given_secret = secret_text(Sealed(bytes(24)))
    elif forged == "webhook-signature":
        headers[forged] = "v1," + base64.b64encode(bytes(32)).decode()
    else:
        headers[forged] = {"webhook-id": "msg_2", "webhook-timestamp": str(int(time.time()) - 1)}[forged]
    with pytest.raises(WebhookVerificationError):
        Webhook(given_secret).verify(body, headers)


def test_during_a_rotation_either_secret_verifies() -> None:
    secrets = [Sealed(bytes([number]) * 32) for number in (1, 2)]
    headers = signed_headers(secrets, message_id="msg_1", timestamp_s=int(time.time()), body=b"{}")
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in secrets:
        assert Webhook(secret_text(secret)).verify("{}", headers) == {}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret_text(Sealed(bytes(32)))).verify("{}", headers)


@pytest.mark.parametrize("text", ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_!!", "whsec_" + "A" * 120])
def test_a_secret_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"webhook|base64|padding|alphabet|Only"):
        secret_of(text)


def test_the_example_in_the_documents_verifies_and_refuses() -> None:
    """`docs/webhooks.md` shows how a receiver checks; that text is run here."""
    page = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")
    code = page.partition("```python\n")[2].partition("```")[0]
    shown: dict[str, object] = {}
    exec(code, shown)
    verify = shown["verify"]
    assert callable(verify)
    headers = signed_headers([secret_of(VECTOR)], message_id="msg_1", timestamp_s=int(time.time()), body=b'{"a":1}')
    assert verify(VECTOR, headers, b'{"a":1}') == {"a": 1}
    with pytest.raises(ValueError, match="signature"):
        verify(VECTOR, headers, b'{"a":2}')
    old = signed_headers([secret_of(VECTOR)], message_id="msg_1", timestamp_s=int(time.time()) - 400, body=b"{}")
    with pytest.raises(ValueError, match="old"):
        verify(VECTOR, old, b"{}")
