"""A person's side: signed in by a one-time code, then carrying a session token."""

from __future__ import annotations

import httpx

from kinpay_client.drive import AsyncClosing, AsyncWire, SyncClosing, SyncWire, awaited, blocking
from kinpay_client.person_steps import PersonSteps


class Person(AsyncClosing, PersonSteps):
    """Somebody's program. Without a token it can only do what needs none."""

    def __init__(self, base_url: str, token: str | None = None, *, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(AsyncWire.to(base_url, http), token)

    open_account = awaited(PersonSteps._open_account)
    begin_sign_in = awaited(PersonSteps._begin_sign_in)
    finish_sign_in = awaited(PersonSteps._finish_sign_in)
    sign_out = awaited(PersonSteps._sign_out)
    prove = awaited(PersonSteps._prove)
    scan = awaited(PersonSteps._scan)
    choose = awaited(PersonSteps._choose)
    register = awaited(PersonSteps._register)
    registration = awaited(PersonSteps._registration)
    provider_accounts = awaited(PersonSteps._provider_accounts)
    approve = awaited(PersonSteps._approve)
    pay_code = awaited(PersonSteps._pay_code)
    read_payment_code = awaited(PersonSteps._read_payment_code)
    pay = awaited(PersonSteps._pay)
    charge_state = awaited(PersonSteps._charge_state)
    settled = awaited(PersonSteps._settled)
    charges = awaited(PersonSteps._charges)
    retry = awaited(PersonSteps._retry)
    request = awaited(PersonSteps._request)


class SyncPerson(SyncClosing, PersonSteps):
    """Somebody's program, without an event loop."""

    def __init__(self, base_url: str, token: str | None = None, *, http: httpx.Client | None = None) -> None:
        super().__init__(SyncWire.to(base_url, http), token)

    open_account = blocking(PersonSteps._open_account)
    begin_sign_in = blocking(PersonSteps._begin_sign_in)
    finish_sign_in = blocking(PersonSteps._finish_sign_in)
    sign_out = blocking(PersonSteps._sign_out)
    prove = blocking(PersonSteps._prove)
    scan = blocking(PersonSteps._scan)
    choose = blocking(PersonSteps._choose)
    register = blocking(PersonSteps._register)
    registration = blocking(PersonSteps._registration)
    provider_accounts = blocking(PersonSteps._provider_accounts)
    approve = blocking(PersonSteps._approve)
    pay_code = blocking(PersonSteps._pay_code)
    read_payment_code = blocking(PersonSteps._read_payment_code)
    pay = blocking(PersonSteps._pay)
    charge_state = blocking(PersonSteps._charge_state)
    settled = blocking(PersonSteps._settled)
    charges = blocking(PersonSteps._charges)
    retry = blocking(PersonSteps._retry)
    request = blocking(PersonSteps._request)
