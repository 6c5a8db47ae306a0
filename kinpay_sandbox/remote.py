"""The control of a bank from another process, for tests and the demo.

Source: docs/sandbox-bank.md §6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx

Operation = Literal[
    "debit",
    "get_debit",
    "cancel",
    "refund",
    "get_refund",
    "agreement",
    "get_agreement",
    "end",
    "bind_spender",
    "remove_spender",
]
FaultKind = Literal[
    "refuse",
    "pending",
    "hang_before_commit",
    "hang_after_commit",
    "drop_before_commit",
    "drop_after_commit",
    "garbage",
]
Form = Literal["html", "truncated", "unsigned", "wrong_amount", "other_order", "error_500"]
Mode = Literal["normal", "hold", "duplicate", "reverse", "forge"]
Forgery = Literal["unsigned", "wrong_key", "altered", "stale"]


class ControlError(Exception):
    """The bank did not do what its control was asked; `code` is its reason."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class RegisteredClient:
    """What an operator needs to speak with the bank; `bank_public_key` is raw base64, to be pinned."""

    client_id: str
    bank_key_id: str
    bank_public_key: str


@dataclass(frozen=True, slots=True)
class ProviderAccount:
    """A provider-side account and the business types it may be used for."""

    account: str
    business_types: Sequence[str]


class BankControl:
    """Every call of `/_control`, typed. Use as `async with BankControl(base_url) as control`."""

    def __init__(self, base_url: str) -> None:
        self._http = httpx.AsyncClient(base_url=base_url, timeout=30, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None, **query: str | None) -> Any:
        asked = {name: value for name, value in query.items() if value is not None}
        answer = await self._http.request(method, "/_control" + path, json=body, params=asked)
        if answer.status_code != 200:
            raise ControlError(answer.status_code, str(answer.json().get("code", "")))
        return answer.json()

    async def register_client(
        self,
        name: str,
        *,
        public_key: str,
        callback_url: str,
        return_url_prefix: str,
        accounts: Sequence[ProviderAccount],
        notify_all: bool = False,
    ) -> RegisteredClient:
        """Make an operator known; `public_key` is the raw Ed25519 key in base64."""
        body = {
            "name": name,
            "public_key": public_key,
            "callback_url": callback_url,
            "return_url_prefix": return_url_prefix,
            "accounts": [{"account": one.account, "business_types": list(one.business_types)} for one in accounts],
            "notify_all": notify_all,
        }
        told = await self._call("POST", "/clients", body)
        return RegisteredClient(told["client_id"], told["bank_key_id"], told["bank_public_key"])

    async def change_client(
        self,
        client_id: str,
        *,
        callback_url: str | None = None,
        return_url_prefix: str | None = None,
        notify_all: bool | None = None,
    ) -> None:
        """Move an operator's addresses, or let it hear of every debit and refund."""
        changes = {"callback_url": callback_url, "return_url_prefix": return_url_prefix, "notify_all": notify_all}
        await self._call("POST", f"/clients/{quote(client_id, safe='')}", changes)

    async def open_customer(self, login: str, *, password: str, name: str, balance_minor: int, currency: str = "CNY") -> str:
        """Open a customer with money in minor units; returns the payer account id the bank will give out once they sign."""
        body = {
            "login": login,
            "password": password,
            "name": name,
            "balance_minor": balance_minor,
            "currency": currency,
        }
        return str((await self._call("POST", "/customers", body))["payer_account_id"])

    async def change_customer(
        self, login: str, *, balance_minor: int | None = None, frozen: bool | None = None
    ) -> dict[str, Any]:
        """Set a balance, freeze or thaw; returns the customer. Without changes it only looks."""
        path = f"/customers/{quote(login, safe='')}"
        answer: dict[str, Any] = await self._call("POST", path, {"balance_minor": balance_minor, "frozen": frozen})
        return answer

    async def misbehave(
        self,
        operation: Operation,
        kind: FaultKind,
        *,
        times: int = 1,
        key: str | None = None,
        seconds: float | None = None,
        code: str | None = None,
        form: Form | None = None,
        commit: bool = True,
    ) -> None:
        """Let the next `times` matching calls misbehave; `commit` is whether `garbage` does the work first."""
        body = {
            "operation": operation,
            "kind": kind,
            "times": times,
            "match": {"key": key},
            "seconds": seconds,
            "code": code,
            "form": form,
            "commit": commit,
        }
        await self._call("POST", "/faults", body)

    async def faults(self) -> list[dict[str, Any]]:
        """Return the faults still to come."""
        answer: list[dict[str, Any]] = await self._call("GET", "/faults")
        return answer

    async def heal(self) -> None:
        """Forget all faults."""
        await self._call("DELETE", "/faults")

    async def debits(self, client_id: str | None = None) -> list[dict[str, Any]]:
        """Return every debit the bank has, with the payer's login and the number of times its money moved."""
        answer: list[dict[str, Any]] = (await self._call("GET", "/debits", client_id=client_id))["debits"]
        return answer

    async def refunds(self, client_id: str | None = None) -> list[dict[str, Any]]:
        """Return every refund the bank has."""
        answer: list[dict[str, Any]] = (await self._call("GET", "/refunds", client_id=client_id))["refunds"]
        return answer

    async def books(self) -> dict[str, Any]:
        """Return the sums by customer and client account, and whether the bank's ledger balances."""
        answer: dict[str, Any] = await self._call("GET", "/books")
        return answer

    async def finish_debit(
        self, key: str, state: Literal["succeeded", "failed"], *, code: str | None = None, client_id: str | None = None
    ) -> dict[str, Any]:
        """Finish a pending debit now."""
        body = {"state": state, "code": code, "client_id": client_id}
        answer: dict[str, Any] = await self._call("POST", f"/debits/{key}/finish", body)
        return answer

    async def finish_refund(
        self, key: str, state: Literal["succeeded", "failed"], *, code: str | None = None, client_id: str | None = None
    ) -> dict[str, Any]:
        """Finish a pending refund now."""
        body = {"state": state, "code": code, "client_id": client_id}
        answer: dict[str, Any] = await self._call("POST", f"/refunds/{key}/finish", body)
        return answer

    async def end_agreement(self, agreement_id: str, *, quietly: bool = False) -> dict[str, Any]:
        """Let the bank end an agreement; `quietly` tells nobody."""
        answer: dict[str, Any] = await self._call("POST", f"/agreements/{agreement_id}/end", {"quietly": quietly})
        return answer

    async def lapse_agreement(self, agreement_id: str) -> dict[str, Any]:
        """Let a pending or active agreement run out now, as its time would."""
        answer: dict[str, Any] = await self._call("POST", f"/agreements/{agreement_id}/lapse", {})
        return answer

    async def send_events(self, mode: Mode, *, copies: int | None = None, delay_s: float | None = None) -> None:
        """Say how events leave from now on."""
        await self._call("POST", "/events", {"mode": mode, "copies": copies, "delay_s": delay_s})

    async def release_events(self) -> None:
        """Let everything that waits leave now, newest first after `reverse`; the mode is normal afterwards."""
        await self._call("POST", "/events/release", {})

    async def forge_event(self, type: str, *, data: dict[str, Any], how: Forgery, client_id: str | None = None) -> int | None:
        """Send an event that never happened; returns the status it was answered with (None: nothing came back)."""
        body = {"type": type, "data": data, "how": how, "client_id": client_id}
        status: int | None = (await self._call("POST", "/events/forge", body))["status"]
        return status

    async def events(self, client_id: str | None = None) -> list[dict[str, Any]]:
        """Return every event with its sendings, forged ones among them, and how each was answered."""
        answer: list[dict[str, Any]] = (await self._call("GET", "/events", client_id=client_id))["events"]
        return answer
