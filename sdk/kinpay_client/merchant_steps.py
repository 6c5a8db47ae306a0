"""What a merchant's back office says to the server, step by step, by an API key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx

from kinpay_client.answer import Answer
from kinpay_client.exchange import Driven, Prepare, Steps, exchange, new_key, until_known
from kinpay_client.merchant_results import (
    DeliveryPage,
    DeliveryTold,
    SecretMade,
    SettlementLinePage,
    SettlementPage,
    TerminalPage,
    WebhookEndpoint,
    WebhookMade,
    WebhookPage,
)
from kinpay_client.reading import typed
from kinpay_client.results import Charge, ChargePage

A = TypeVar("A", bound=Answer)


class MerchantSteps(Driven):
    """A back office, apart from how its requests are carried out. What its key has no scope for is a `Problem` (403)."""

    def __init__(self, wire: Any, api_key: str) -> None:
        self._wire = wire
        self._api_key = api_key

    # ------------------------------------------------------------------- charges and money

    def _charges(self, *, merchant_id: str | None = None, limit: int = 50, after: str | None = None) -> Steps[ChargePage]:
        """Charges as a till sees them, newest first (`charges:read`); `after`: that of the page before."""
        return self._read(ChargePage, "/v1/charges", merchant_id=merchant_id, limit=limit, after=after)

    def _charge_state(self, charge_id: str) -> Steps[Charge]:
        """One charge as it is now (`charges:read`)."""
        return self._read(Charge, f"/v1/charges/{charge_id}")

    def _settled(self, charge: Charge, *, within_s: float = 60.0) -> Steps[Charge]:
        """The charge, as soon as the provider's answer is known; at once if it is. Raises: NotSettled; Problem, Unreachable."""
        return until_known(lambda: self._charge_state(charge.id), charge, within_s=within_s)

    def _refund(self, charge_id: str, amount_minor: int, *, key: str | None = None) -> Steps[Charge]:
        """Gives back part or all of a charge (`charges:refund`). Give `key` to go on after a restart.

        Raises: Problem; Unreachable if it is not known whether it was given back: ask again under the same key.
        """
        path = f"/v1/charges/{charge_id}/refunds"
        return self._ask(Charge, "POST", path, content={"amount_minor": amount_minor}, key=key or new_key())

    def _terminals(self, *, limit: int = 50, after: str | None = None) -> Steps[TerminalPage]:
        """Their tills (`terminals:read`)."""
        return self._read(TerminalPage, "/v1/terminals", limit=limit, after=after)

    def _settlements(self, merchant_id: str, *, before: str | None = None, limit: int = 31) -> Steps[SettlementPage]:
        """Closed days, newest first (`settlements:read`); `before`: a day, `YYYY-MM-DD`."""
        return self._read(SettlementPage, f"/v1/merchants/{merchant_id}/settlements", before=before, limit=limit)

    def _settlement_lines(
        self, merchant_id: str, day: str, *, currency: str = "CNY", after: str | None = None, limit: int = 100
    ) -> Steps[SettlementLinePage]:
        """What a closed day is made of, in order (`settlements:read`)."""
        path = f"/v1/merchants/{merchant_id}/settlements/{day}/lines"
        return self._read(SettlementLinePage, path, currency=currency, after=after, limit=limit)

    # ------------------------------------------------------- webhooks (`webhooks:manage`)

    def _webhooks(self, *, limit: int = 50, after: str | None = None) -> Steps[WebhookPage]:
        """The endpoints, newest first; also which are disabled and why."""
        return self._read(WebhookPage, "/v1/webhook-endpoints", limit=limit, after=after)

    def _make_webhook(
        self, url: str, types: Sequence[str], *, merchant_id: str | None = None, description: str | None = None
    ) -> Steps[WebhookMade]:
        """Makes an endpoint; keep its `secret`, it is shown this once. Without an answer: look whether it is there."""
        content = {"url": url, "types": list(types), "merchant_id": merchant_id, "description": description}
        return self._ask(WebhookMade, "POST", "/v1/webhook-endpoints", content=content)

    def _change_webhook(
        self,
        endpoint_id: str,
        *,
        url: str | None = None,
        types: Sequence[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> Steps[WebhookEndpoint]:
        """Changes what is given; `enabled=True` also takes back that it was disabled for failing."""
        path = f"/v1/webhook-endpoints/{endpoint_id}"
        named = {"url": url, "types": types and list(types), "description": description, "enabled": enabled}
        change = {name: value for name, value in named.items() if value is not None}
        return self._ask(WebhookEndpoint, "PATCH", path, content=change, repeatable=True)

    def _remove_webhook(self, endpoint_id: str) -> Steps[None]:
        """Removes an endpoint with its log; nothing more is sent there."""
        yield from self._send("DELETE", f"/v1/webhook-endpoints/{endpoint_id}")

    def _rotate_secret(self, endpoint_id: str, *, overlap_s: int = 86_400) -> Steps[SecretMade]:
        """Makes a new secret; for `overlap_s` seconds messages are signed with the one before, too."""
        path = f"/v1/webhook-endpoints/{endpoint_id}/rotate"
        return self._ask(SecretMade, "POST", path, content={"overlap_s": overlap_s})

    def _test_webhook(self, endpoint_id: str) -> Steps[str]:
        """Sends a message of type `test`; returns its `webhook-id`."""
        answer = yield from self._send("POST", f"/v1/webhook-endpoints/{endpoint_id}/test")
        return str(answer["message_id"])

    def _deliveries(
        self, endpoint_id: str, *, state: str | None = None, limit: int = 50, after: str | None = None
    ) -> Steps[DeliveryPage]:
        """What was and is to be delivered there, newest first; `state`: pending, delivered, failed."""
        path = f"/v1/webhook-endpoints/{endpoint_id}/deliveries"
        return self._read(DeliveryPage, path, state=state, limit=limit, after=after)

    def _delivery(self, delivery_id: str) -> Steps[DeliveryTold]:
        """One delivery: the text as it is sent, and every attempt."""
        return self._read(DeliveryTold, f"/v1/webhook-deliveries/{delivery_id}")

    def _redeliver(self, delivery_id: str) -> Steps[int]:
        """Has one event delivered again, under the id that it always had; returns how many will be."""
        answer = yield from self._send("POST", f"/v1/webhook-deliveries/{delivery_id}/redeliver", repeatable=True)
        return int(answer["deliveries"])

    def _redeliver_failed(self, endpoint_id: str, since: datetime) -> Steps[int]:
        """Has everything delivered again that happened since then and was given up; returns how many. `since`: aware."""
        path, content = f"/v1/webhook-endpoints/{endpoint_id}/redeliver", {"since": since.isoformat()}
        answer = yield from self._send("POST", path, content=content, repeatable=True)
        return int(answer["deliveries"])

    # ------------------------------------------------------------------------------ asking

    def _request(
        self, method: str, path: str, content: dict[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Steps[Answer]:
        """Asks anything; repeated after a lost answer only if it reads or has an idempotency key.

        Raises: Problem, Unreachable.
        """
        return self._send(method, path, content=content, key=idempotency_key)

    def _read(self, kind: type[A], path: str, **asked: str | int | None) -> Steps[A]:
        named = urlencode({name: value for name, value in asked.items() if value is not None})
        return self._ask(kind, "GET", f"{path}?{named}" if named else path)

    def _ask(self, kind: type[A], method: str, path: str, **how: Any) -> Steps[A]:
        return typed(kind, (yield from self._send(method, path, **how)))

    def _send(self, method: str, path: str, *, key: str | None = None, repeatable: bool = False, **how: Any) -> Steps[Answer]:
        again = repeatable or method == "GET" or key is not None
        return exchange(method, path, credentials=self._credentials, key=key, repeatable=again, **how)

    def _credentials(self) -> Steps[Prepare]:
        """The same for every attempt; a generator, as a terminal's are."""
        api_key = self._api_key

        def prepare(request: httpx.Request) -> None:
            request.headers["authorization"] = f"Bearer {api_key}"

        return prepare
        yield
