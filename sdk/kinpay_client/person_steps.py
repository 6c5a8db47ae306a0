"""What a person's program says to the server, step by step: signed in by a one-time code, then carrying a session token."""

from __future__ import annotations

from typing import Any, TypeVar

import httpx

from kinpay_client.answer import Answer
from kinpay_client.exchange import Driven, Prepare, Steps, exchange, new_key, until_known
from kinpay_client.reading import read, typed
from kinpay_client.results import (
    Charge,
    ChargePage,
    Choice,
    CodeSent,
    Offer,
    PayCode,
    ProofSent,
    ProviderAccount,
    Registration,
    Scan,
    SignedIn,
)

A = TypeVar("A", bound=Answer)


class PersonSteps(Driven):
    """Somebody's program, apart from how its requests are carried out. Without a token it can only do what needs none."""

    def __init__(self, wire: Any, token: str | None = None) -> None:
        self._wire = wire
        self._token = token

    @property
    def token(self) -> str | None:
        """The session token, to be kept like a password."""
        return self._token

    # -------------------------------------------------------------------------- signing in

    def _open_account(
        self,
        operator_id: str,
        account: str,
        *,
        name: str,
        phone: str | None = None,
        email: str | None = None,
        birth_date: str | None = None,
        locale: str = "en",
    ) -> Steps[CodeSent]:
        """Opens an account, reached by `phone` or `email`; the code that is sent there finishes it (`finish_sign_in`).

        `birth_date`: `YYYY-MM-DD`; a payer has to be of age. The answer is the same for a name that is taken.
        """
        contact = {"channel": "phone", "address": phone} if phone is not None else {"channel": "email", "address": email}
        content = {
            "operator_id": operator_id, "account": account, "display_name": name, "locale": locale, "birth_date": birth_date,
            "contact": contact,
        }  # fmt: skip
        return self._typed(CodeSent, "POST", "/v1/people", content=content)

    def _begin_sign_in(self, operator_id: str, account: str) -> Steps[CodeSent]:
        """Asks for a one-time code; the answer's `sign_in_id` belongs to it, also where there is no such account."""
        return self._typed(CodeSent, "POST", "/v1/sign-in", content={"operator_id": operator_id, "account": account})

    def _finish_sign_in(self, sign_in_id: str, code: str) -> Steps[SignedIn]:
        """Gives the code; from here on requests carry the session's token. Raises: Problem for a wrong one."""
        answer = yield from self._typed(SignedIn, "POST", f"/v1/sign-in/{sign_in_id}", content={"code": code})
        self._token = answer.token
        return answer

    def _sign_out(self) -> Steps[None]:
        """Ends the session."""
        yield from self._send("POST", "/v1/sign-out")
        self._token = None

    def _prove(self, operation: str, subject_id: str, content: dict[str, Any]) -> Steps[ProofSent]:
        """Has a code sent for a fresh proof that they want exactly this."""
        asked = {"operation": operation, "subject_id": subject_id, "content": content}
        return self._typed(ProofSent, "POST", "/v1/proofs", content=asked, key=new_key())

    # -------------------------------------------------------------------- becoming allowed

    def _scan(self, code: str) -> Steps[Scan]:
        """Scans a terminal's code; it is used up by this."""
        return self._typed(Scan, "POST", "/v1/scans", content={"code": code})

    def _choose(self, scan_id: str, business_type: str) -> Steps[Choice]:
        """Chooses `self` or `proxy` for a scan of theirs."""
        content = {"business_type": business_type}
        return self._typed(Choice, "POST", f"/v1/scans/{scan_id}/business-type", content=content, repeatable=True)

    def _register(
        self,
        binding_order: str,
        *,
        payer_account: str | None = None,
        registration_information: str | None = None,
        key: str | None = None,
    ) -> Steps[Registration]:
        """Asks somebody to pay for them (None: themself). Order `C` needs no scan; `A` and `B` bring what `choose` gave."""
        content: dict[str, Any] = {"binding_order": binding_order, "payer_account": payer_account}
        if registration_information is not None:
            content["registration_information"] = registration_information
        return self._typed(Registration, "POST", "/v1/registrations", content=content, key=key or new_key())

    def _registration(self, registration_id: str) -> Steps[Registration]:
        """Their part of a registration, as it is now."""
        return self._typed(Registration, "GET", f"/v1/registrations/{registration_id}")

    def _provider_accounts(self) -> Steps[list[ProviderAccount]]:
        """The banks and wallets that a payer may choose, the default one first."""
        answer = yield from self._send("GET", "/v1/provider-accounts")
        return [read(ProviderAccount, one) for one in answer["provider_accounts"]]

    def _approve(
        self, registration_id: str, *, proof_id: str, code: str, content: dict[str, Any], match_number: int, bank_account: str,
        key: str | None = None,
    ) -> Steps[Registration]:  # fmt: skip
        """Says yes. `content` is what the proof is for: `terms`, `provider_account_id`, `circle` (an id, or name and zone).

        `match_number`: what the spender told them; `bank_account`: what they are called at the provider.
        """
        circle = content["circle"]
        body = {
            "terms": content["terms"],
            "provider_account_id": content["provider_account_id"],
            "payer_account_at_provider": bank_account,
            "match_number": match_number,
            "proof": {"proof_id": proof_id, "code": code},
            ("circle_id" if isinstance(circle, str) else "new_circle"): circle,
        }
        path = f"/v1/registrations/{registration_id}/approve"
        return self._typed(Registration, "POST", path, content=body, key=key or new_key())

    # ------------------------------------------------------------------------------ paying

    def _pay_code(self, circle_id: str) -> Steps[PayCode]:
        """A one-time code for their phone to show; it selects the circle."""
        return self._typed(PayCode, "POST", "/v1/pay-codes", content={"circle_id": circle_id}, key=new_key())

    def _read_payment_code(self, code: str) -> Steps[Offer]:
        """What a terminal's payment code (or EMVCo code) asks for, before anything is paid."""
        return self._typed(Offer, "POST", "/v1/payment-codes/read", content={"payment_code": code}, repeatable=True)

    def _pay(self, payment_code: str, circle_id: str, *, key: str | None = None) -> Steps[Charge]:
        """Pays what a terminal's payment code (or EMVCo code) asks for. A refusal is a charge, not an exception: see `state`.

        Raises: Problem; Unreachable if it is not known whether it was paid: ask again under the same key.
        """
        content = {"presented": {"payment_code": payment_code}, "circle_id": circle_id}
        return self._typed(Charge, "POST", "/v1/charges", content=content, key=key or new_key())

    def _charge_state(self, charge_id: str) -> Steps[Charge]:
        """A charge as they see it."""
        return self._typed(Charge, "GET", f"/v1/charges/{charge_id}")

    def _settled(self, charge: Charge, *, within_s: float = 60.0) -> Steps[Charge]:
        """The charge, as soon as the provider's answer is known; at once if it is. Raises: NotSettled; Problem, Unreachable."""
        return until_known(lambda: self._charge_state(charge.id), charge, within_s=within_s)

    def _charges(self, circle_id: str, *, limit: int = 50, after: str | None = None) -> Steps[ChargePage]:
        """A circle's charges, newest first; a spender sees their own."""
        more = f"&after={after}" if after is not None else ""
        return self._typed(ChargePage, "GET", f"/v1/circles/{circle_id}/charges?limit={limit}{more}")

    def _retry(self, charge_id: str, *, key: str | None = None) -> Steps[Charge]:
        """Has what is owed tried again now; for its payer."""
        return self._typed(Charge, "POST", f"/v1/charges/{charge_id}/retry", content={}, key=key or new_key())

    # ------------------------------------------------------------------------------ asking

    def _request(
        self,
        method: str,
        path: str,
        content: dict[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
    ) -> Steps[Answer]:
        """Asks anything; repeated after a lost answer only if it reads or has an idempotency key.

        Raises: Problem, Unreachable.
        """
        return self._send(method, path, content=content, key=idempotency_key, timeout_s=timeout_s)

    def _typed(self, kind: type[A], method: str, path: str, **how: Any) -> Steps[A]:
        return typed(kind, (yield from self._send(method, path, **how)))

    def _send(self, method: str, path: str, *, key: str | None = None, repeatable: bool = False, **how: Any) -> Steps[Answer]:
        again = repeatable or method == "GET" or key is not None
        return exchange(method, path, credentials=self._credentials, key=key, repeatable=again, **how)

    def _credentials(self) -> Steps[Prepare]:
        """The same for every attempt; a generator, as a terminal's are."""
        token = self._token

        def prepare(request: httpx.Request) -> None:
            if token is not None:
                request.headers["authorization"] = f"Bearer {token}"

        return prepare
        yield
