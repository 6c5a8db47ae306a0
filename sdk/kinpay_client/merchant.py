"""A merchant's side: a back office that carries an API key."""

from __future__ import annotations

import httpx

from kinpay_client.drive import AsyncClosing, AsyncWire, SyncClosing, SyncWire, awaited, blocking
from kinpay_client.merchant_steps import MerchantSteps


class Merchant(AsyncClosing, MerchantSteps):
    """A back office's program. `api_key`: `kp_live_…`, kept like a password."""

    def __init__(self, base_url: str, api_key: str, *, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(AsyncWire.to(base_url, http), api_key)

    charges = awaited(MerchantSteps._charges)
    charge_state = awaited(MerchantSteps._charge_state)
    settled = awaited(MerchantSteps._settled)
    refund = awaited(MerchantSteps._refund)
    terminals = awaited(MerchantSteps._terminals)
    settlements = awaited(MerchantSteps._settlements)
    settlement_lines = awaited(MerchantSteps._settlement_lines)
    webhooks = awaited(MerchantSteps._webhooks)
    make_webhook = awaited(MerchantSteps._make_webhook)
    change_webhook = awaited(MerchantSteps._change_webhook)
    remove_webhook = awaited(MerchantSteps._remove_webhook)
    rotate_secret = awaited(MerchantSteps._rotate_secret)
    test_webhook = awaited(MerchantSteps._test_webhook)
    deliveries = awaited(MerchantSteps._deliveries)
    delivery = awaited(MerchantSteps._delivery)
    redeliver = awaited(MerchantSteps._redeliver)
    redeliver_failed = awaited(MerchantSteps._redeliver_failed)
    request = awaited(MerchantSteps._request)


class SyncMerchant(SyncClosing, MerchantSteps):
    """A back office's program, without an event loop."""

    def __init__(self, base_url: str, api_key: str, *, http: httpx.Client | None = None) -> None:
        super().__init__(SyncWire.to(base_url, http), api_key)

    charges = blocking(MerchantSteps._charges)
    charge_state = blocking(MerchantSteps._charge_state)
    settled = blocking(MerchantSteps._settled)
    refund = blocking(MerchantSteps._refund)
    terminals = blocking(MerchantSteps._terminals)
    settlements = blocking(MerchantSteps._settlements)
    settlement_lines = blocking(MerchantSteps._settlement_lines)
    webhooks = blocking(MerchantSteps._webhooks)
    make_webhook = blocking(MerchantSteps._make_webhook)
    change_webhook = blocking(MerchantSteps._change_webhook)
    remove_webhook = blocking(MerchantSteps._remove_webhook)
    rotate_secret = blocking(MerchantSteps._rotate_secret)
    test_webhook = blocking(MerchantSteps._test_webhook)
    deliveries = blocking(MerchantSteps._deliveries)
    delivery = blocking(MerchantSteps._delivery)
    redeliver = blocking(MerchantSteps._redeliver)
    redeliver_failed = blocking(MerchantSteps._redeliver_failed)
    request = blocking(MerchantSteps._request)
