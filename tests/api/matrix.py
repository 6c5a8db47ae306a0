"""Every operation, a valid request for it, and who may make it: one row each (some operations have several).

`may` names what an asker is to the family whose thing is asked for; whoever is not named must be turned away, and whoever is an
outsider must not learn whether there is such a thing. An operation without a row fails the test.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.api.town import MORE, TERMS, ZONE, Family

MEMBERS: Final = frozenset({"payer", "spender", "approver", "viewer"})
STAFF: Final = frozenset({"owner", "installer", "support", "alien_staff", "alien_owner"})
PERSONS: Final = MEMBERS | STAFF | {"stranger", "foreigner"}
OF_OPERATOR: Final = PERSONS - {"foreigner", "alien_staff", "alien_owner"}
TERMINALS: Final = frozenset({"till", "other_till", "alien_till"})
KEYS: Final = frozenset({"key", "office", "other_key", "alien_key"})
"""API keys: of the family's merchant, of all merchants of its operator, of another merchant there, of another operator."""
EVERYBODY: Final = PERSONS | TERMINALS | KEYS | {"anonymous"}
OUTSIDERS: Final = frozenset(
    {"anonymous", "expelled", "stranger", "foreigner", "other_till", "alien_till", "alien_staff", "alien_owner"}
    | {"other_key", "alien_key"}
)
TURNED_AWAY: Final = frozenset({"unauthenticated", "forbidden", "not-found", "signature-invalid", "terminal-session-ended"})
ALTERED: Final = frozenset({"check-code-altered"})
POINT: Final = (
    # The generator of P-256: a point on the curve whose private key is 1.
    "BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"
)
CALENDAR: Final = MORE | {"conditions": []}
FACE: Final = {"model": "opaque", "model_version": "1", "template": base64.b64encode(bytes(range(256))).decode()}
NO_PROOF: Final = {"proof": None}

Build = Callable[[Family], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One way to ask an operation. `things`: path parameter → thing of a family, where the names differ.

    `also`: codes that turn away here, beside the usual ones. `coded`: the thing is in a signed code, which nobody can make up,
    or an account: there is no absent one to compare with. `hollow`: outsiders are answered, with what is said of nothing.
    `last`: how late the row is let in, because it ends what others need. `ends`: whoever comes later finds nothing.
    `works`: somebody's request must succeed, not only be let in. `keyed`: an Idempotency-Key is required; `unkeyed`: refused.
    """

    operation: str
    may: frozenset[str]
    things: Mapping[str, str] = field(default_factory=dict)
    body: Build | None = None
    query: str = ""
    own_key: bool = False
    keyed: bool = False
    unkeyed: bool = False
    also: frozenset[str] = frozenset()
    coded: bool = False
    hollow: bool = False
    last: int = 0
    ends: bool = False
    works: bool = True

    @property
    def key(self) -> dict[str, str]:
        """A fresh key in its header, except where it would be refused or makes no difference."""
        return {} if self.method == "GET" or self.unkeyed else {"idempotency-key": uuid.uuid4().hex}

    @property
    def method(self) -> str:
        """In capitals."""
        return self.operation.partition(" ")[0]

    @property
    def template(self) -> str:
        """The path with its parameters."""
        return self.operation.partition(" ")[2]

    @property
    def about_something(self) -> bool:
        """Whether it names a thing of somebody's, so that it makes a difference whose."""
        return "{" in self.template or self.body is not None

    def path(self, family: Family) -> str:
        """The address of the family's thing."""
        names = re.findall(r"{(\w+)}", self.template)
        path = self.template
        for name in names:
            path = path.replace("{" + name + "}", family[self.things.get(name, name.removesuffix("_id"))])
        return path + self.query

    def content(self, family: Family) -> bytes:
        """The body about the family's things."""
        return b"" if self.body is None else json.dumps(self.body(family)).encode()


def _row(operation: str, may: frozenset[str] | set[str], body: Build | None = None, **more: Any) -> Row:
    return Row(operation=operation, may=frozenset(may), body=body, **more)


def _same(content: dict[str, Any]) -> Build:
    return lambda _: content


def _contact(family: Family) -> dict[str, Any]:
    contact = {"channel": "phone", "address": "+8613800000009"}
    about = {"display_name": "Somebody", "locale": "en", "birth_date": "1990-01-01", "contact": contact}
    return {"operator_id": family["operator"], "account": family["newcomer_account"], **about}


def _approval(family: Family) -> dict[str, Any]:
    """With a proof that was never asked for, so that it is turned away where the payer is."""
    return {
        "circle_id": family["circle"],
        "terms": MORE,
        "provider_account_id": family["provider_account"],
        "payer_account_at_provider": family["payer_account"],
        "match_number": 17,
        "proof": None,
    }


OPEN_TO_ALL = [
    _row("GET /healthz", EVERYBODY),
    _row("GET /readyz", EVERYBODY),
    _row("GET /problems/{code}", EVERYBODY, things={"code": "a_code"}),
    _row("POST /v1/people", EVERYBODY, _contact),
    _row("POST /v1/sign-in", EVERYBODY, lambda f: {"operator_id": f["operator"], "account": f["pest_account"]}),
    # Nobody guesses the code: the asker is a stranger until the right one comes, and there is nothing else to see.
    _row("POST /v1/sign-in/{sign_in_id}", set(), _same({"code": "000000"}), things={"sign_in_id": "notice"}),
    # Only the provider's own signature counts here, whoever else signed; an address is no secret, as the provider has it.
    _row("POST /v1/providers/{provider_account_id}/callback", set(), coded=True),
    _row(
        "POST /v1/terminals/install",
        set(),
        lambda f: {"install_code": f"{f['announced']}.{'A' * 43}", "public_key": POINT},
    ),
]
ONESELF = [
    _row("POST /v1/sign-out", PERSONS, last=100),
    _row("GET /v1/me", PERSONS),
    _row("PATCH /v1/me", PERSONS, _same({"locale": "en", "display_name": "Another"}), last=60),
    _row("GET /v1/me/invitations", PERSONS),
    _row(
        "POST /v1/proofs", PERSONS, lambda f: {"operation": "circle.unfreeze", "subject_id": f["circle"], "content": {"a": 1}}
    ),
    _row("GET /v1/live", PERSONS),
    _row("GET /v1/notices", PERSONS, query="?limit=100&unread=true"),
    _row("POST /v1/notices/read-all", PERSONS, last=10),
    _row("POST /v1/notices/{notice_id}/read", {"payer"}),
    _row("GET /v1/agreements", PERSONS),
    _row("GET /v1/circles", PERSONS),
    _row("GET /v1/mandates", PERSONS),
    _row("GET /v1/provider-accounts", PERSONS),
    _row("GET /v1/registration-blocks", PERSONS),
    _row("GET /v1/registrations", PERSONS, query="?role=payer"),
    _row("GET /v1/registrations", PERSONS, query="?role=spender"),
    _row("DELETE /v1/registration-blocks/{spender_id}", {"payer"}, things={"spender_id": "pest"}, last=30),
]
CIRCLES = [
    _row("POST /v1/circles", PERSONS, _same({"name": "Team", "time_zone": ZONE})),
    _row("GET /v1/circles/{circle_id}", MEMBERS),
    _row(
        "POST /v1/circles/{circle_id}/members",
        {"payer"},
        lambda f: {"account": f["newcomer_account"], "role": "viewer", "proof": None},
        keyed=True,
        works=False,
    ),
    # The viewer was invited to approve, too; who is one already may say it again.
    _row("POST /v1/circles/{circle_id}/join", {"viewer", "approver"}, _same({"role": "approver"}), last=20),
    # Members are told that only payers may; the viewer may go by themself.
    _row(
        "DELETE /v1/circles/{circle_id}/members/{person_id}",
        {"payer", "viewer"},
        things={"person_id": "viewer"},
        last=70,
        ends=True,
    ),
    _row("POST /v1/circles/{circle_id}/freeze", {"payer", "spender"}, last=50),
    _row("POST /v1/circles/{circle_id}/unfreeze", {"payer"}, _same(NO_PROOF), keyed=True, works=False),
    _row(
        "PUT /v1/circles/{circle_id}/time-zone",
        {"payer"},
        _same({"time_zone": "Asia/Tokyo"} | NO_PROOF),
        keyed=True,
        works=False,
    ),
    _row("GET /v1/circles/{circle_id}/charges", MEMBERS, query="?limit=5"),
    _row("GET /v1/circles/{circle_id}/daily-debits", MEMBERS - {"spender"}),
    _row("GET /v1/circles/{circle_id}/statements/{month}", MEMBERS),
    _row("GET /v1/circles/{circle_id}/statements/{month}/charges.csv", MEMBERS),
    _row("GET /v1/circles/{circle_id}/cards", MEMBERS),
    _row(
        "POST /v1/circles/{circle_id}/cards",
        {"payer"},
        lambda f: {"person_id": f["spender"], "currency": "CNY", "terms": MORE, "pin": "2468"},
        keyed=True,
        last=40,
    ),
    _row("DELETE /v1/cards/{card_id}", {"payer", "spender"}, last=45),
    _row("GET /v1/circles/{circle_id}/pools", MEMBERS),
    _row(
        "POST /v1/circles/{circle_id}/pools",
        {"payer"},
        lambda f: {"name": "Sweets", "terms": TERMS, "spender_ids": [f["spender"]]},
        keyed=True,
    ),
    _row(
        "PUT /v1/pools/{pool_id}",
        {"payer"},
        lambda f: {"name": "All", "terms": CALENDAR, "spender_ids": [f["spender"]], "proof": None, "if_version": 1},
        keyed=True,
        works=False,
    ),
    _row("DELETE /v1/pools/{pool_id}", {"payer"}, _same(NO_PROOF), keyed=True, works=False),
]
MANDATES = [
    _row("GET /v1/mandates/{mandate_id}", MEMBERS),
    _row("GET /v1/mandates/{mandate_id}/control-parameters", MEMBERS),
    _row(
        "POST /v1/terms/control-parameters",
        PERSONS,
        _same({"MaximumIndividualAmount": {"Amount": "20.00", "Currency": "CNY"}, "PeriodicLimits": []}),
    ),
    _row(
        "PUT /v1/mandates/{mandate_id}/terms",
        {"payer"},
        lambda f: {"terms": MORE, "proof": None, "if_version": 1},
        keyed=True,
        works=False,
    ),
    _row(
        "PUT /v1/mandates/{mandate_id}/funding",
        {"payer"},
        lambda f: {"agreement_ids": [f["agreement"]], "proof": None, "if_version": 1},
        keyed=True,
    ),
    _row("POST /v1/mandates/{mandate_id}/pause", {"payer"}, last=46),
    _row("POST /v1/mandates/{mandate_id}/resume", {"payer"}, _same(NO_PROOF), keyed=True, works=False, last=47),
    _row("DELETE /v1/mandates/{mandate_id}", {"payer", "spender"}, last=65),
    _row("POST /v1/agreements/{agreement_id}/refresh", {"payer"}),
    _row("POST /v1/agreements/{agreement_id}/end", {"payer"}, last=66),
]
REGISTRATIONS = [
    _row(
        "POST /v1/registrations",
        PERSONS,
        lambda f: {"registration_information": None, "binding_order": "C", "payer_account": f["approver_account"]},
        keyed=True,
        last=15,
    ),
    _row(
        "POST /v1/registrations",
        {"spender"},
        lambda f: {"registration_information": f["information"], "binding_order": "A", "payer_account": f["payer_account"]},
        keyed=True,
        coded=True,
        last=16,
        also=ALTERED | {"check-code-other-terminal"},
    ),
    _row("GET /v1/registrations/{registration_id}", {"payer", "spender", "till"}),
    _row("GET /v1/registrations/{registration_id}", {"payer", "till"}, things={"registration_id": "assisted"}),
    _row("POST /v1/registrations/{registration_id}/approve", {"payer"}, _approval, keyed=True, works=False),
    _row("POST /v1/registrations/{registration_id}/withdraw", {"till"}, things={"registration_id": "assisted"}, last=31),
    _row("POST /v1/registrations/{registration_id}/withdraw", {"spender"}, things={"registration_id": "second"}, last=32),
    _row(
        "POST /v1/registrations/{registration_id}/refuse", {"payer"}, _same({"block": False}), keyed=True, last=31, works=True
    ),
]
OPERATOR = [
    _row("GET /v1/operator", STAFF),
    _row("PUT /v1/operator/dual-control", {"owner", "alien_owner"}, _same({"on": False})),
    _row("GET /v1/staff", STAFF),
    _row("POST /v1/staff", {"owner"}, lambda f: {"account": f["newcomer_account"], "role": "support"}, coded=True),
    _row(
        "DELETE /v1/staff/{person_id}/{role}",
        {"owner"},
        things={"person_id": "newcomer", "role": "a_role"},
        last=5,
        ends=True,
    ),
    _row("GET /v1/privileged-acts", STAFF),
    _row("GET /v1/privileged-acts/{act_id}", {"owner"}),
    _row("POST /v1/privileged-acts/{act_id}/approve", {"owner"}, last=1),
    _row("POST /v1/privileged-acts/{act_id}/refuse", {"owner"}, last=2, ends=True),
    _row("POST /v1/privileged-acts/{act_id}/withdraw", {"owner"}, things={"act_id": "own_act"}, last=3, ends=True),
]
TERMINAL_SIDE = [
    _row(
        "POST /v1/terminals",
        {"owner", "installer"},
        lambda f: {"site_id": f["site"], "name": "New", "kind": "till", "hold_s": 60},
    ),
    _row("GET /v1/terminals", STAFF | KEYS),
    _row("POST /v1/terminals/{terminal_id}/install-code", {"owner", "installer"}, things={"terminal_id": "announced"}),
    _row(
        "POST /v1/terminals/{terminal_id}/revoke",
        {"owner", "installer"},
        things={"terminal_id": "announced"},
        last=80,
        ends=True,
    ),
    _row("POST /v1/terminals/sessions", TERMINALS, _same({"agreement_key": POINT, "nonce": "A" * 32}), own_key=True, last=90),
    _row("POST /v1/merchants", {"owner", "alien_owner"}, _same({"name": "Bakery", "mcc": "5462"})),
    _row("GET /v1/merchants/{merchant_id}/settlements", {"owner", "support", "key", "office"}),
    _row(
        "GET /v1/merchants/{merchant_id}/settlements/{day}/lines",
        {"owner", "support", "key", "office"},
        things={"day": "a_day"},
    ),
    _row(
        "GET /v1/merchants/{merchant_id}/settlements/{day}/lines.csv",
        {"owner", "support", "key", "office"},
        things={"day": "a_day"},
    ),
    _row(
        "POST /v1/merchants/{merchant_id}/settlements/{day}/paid",
        {"owner"},
        _same({"currency": "CNY", "reference": "transfer 1"}),
        things={"day": "a_day"},
    ),
    _row("GET /v1/reconciliation/days", {"owner", "support", "alien_owner"}),
    _row("GET /v1/reconciliation/breaks", {"owner", "support", "alien_owner"}),
    _row(
        "PUT /v1/reconciliation/breaks/{break_id}/owner",
        {"owner", "support"},
        lambda f: {"owner_id": f["owner"]},
        things={"break_id": "a_break"},
    ),
    _row(
        "POST /v1/reconciliation/breaks/{break_id}/resolve",
        {"owner", "support"},
        _same({"resolution": "explained", "note": "of no concern"}),
        things={"break_id": "a_break"},
        last=1,
        ends=True,
    ),
    _row("GET /v1/merchants", STAFF),
    *OPERATOR,
    _row(
        "PUT /v1/merchants/{merchant_id}/fare-rule",
        {"owner"},
        _same({"currency": "CNY", "cap_per_day_minor": 800, "transfer_within_s": 3600}),
    ),
    _row("GET /v1/merchants/{merchant_id}/fare-rule", OF_OPERATOR & STAFF, last=1),
    _row("DELETE /v1/merchants/{merchant_id}/fare-rule", {"owner"}, last=2),
    _row("POST /v1/sites", {"owner"}, lambda f: {"merchant_id": f["merchant"], "name": "Yard"}),
    _row("GET /v1/sites", STAFF),
    _row("POST /v1/terminal/function-code", TERMINALS),
    _row(
        "POST /v1/terminal/scans",
        {"till"},
        lambda f: {"code": f["function_code"]},
        coded=True,
        last=5,
        also=ALTERED | {"check-code-other-terminal"},
    ),
    # A function code hangs where everybody of the operator sees it; what is scanned is then only the scanner's.
    _row("POST /v1/scans", OF_OPERATOR, lambda f: {"code": f["function_code"]}, coded=True, last=5, also=ALTERED),
    _row("POST /v1/scans/{scan_id}/business-type", {"spender"}, _same({"business_type": "proxy"})),
    _row(
        "POST /v1/scans/{scan_id}/business-type",
        {"till"},
        _same({"business_type": "proxy"}),
        things={"scan_id": "own_scan"},
    ),
    _row("GET /v1/terminal/commands", TERMINALS, query="?wait_s=0&again=true"),
    _row("POST /v1/terminal/commands/{command_id}/done", {"till"}, _same({"ok": True, "reason": None}), last=8),
    _row(
        "POST /v1/terminal/payment-codes",
        TERMINALS,
        _same({"amount_minor": 100, "currency": "CNY", "reference": "S-2", "emv": {"country": "CN", "city": "Hangzhou"}}),
    ),
    # Codes are not written down before they are used, so there is none that is absent: an outsider hears of no use, ever.
    _row("GET /v1/terminal/payment-codes/{code_id}", {"till"}, things={"code_id": "sale"}, hollow=True),
    _row("POST /v1/payment-codes/read", OF_OPERATOR, lambda f: {"payment_code": f["payment_code"]}, coded=True, also=ALTERED),
    _row(
        "POST /v1/terminal/registrations",
        {"till"},
        lambda f: {
            "registration_information": f["own_information"],
            "binding_order": "A",
            "spender_name": "Grandpa",
            "locale": "zh",
            "birth_date": "1940-01-01",
            "payer_account": f["approver_account"],
            "payer_card": None,
        },
        own_key=True,
        keyed=True,
        coded=True,
        last=17,
        also=ALTERED | {"check-code-other-terminal"},
    ),
    _row(
        "POST /v1/terminal/registrations/{registration_id}/card",
        {"till"},
        _same({"pin": "1357"}),
        things={"registration_id": "assisted"},
        own_key=True,
        keyed=True,
    ),
    _row("POST /v1/terminal/captures/{capture_id}", {"till"}, _same(FACE), own_key=True, keyed=True, last=3),
    # Any terminal of the operator may take an unfinished capture over: the spender walked to another one.
    _row("POST /v1/terminal/captures/{capture_id}/resume", {"till", "other_till"}, own_key=True, last=2),
]
PICTURE: Final = base64.b64encode(b"no picture at all" * 20).decode()
FRAMES: Final = [{"at_ms": 200 * number, "picture": PICTURE} for number in range(8)]
NONCE: Final = "N" * 24
READ: Final = {"version": "1", "language": "en"}
FACES = [
    _row("GET /v1/face-consent-text", PERSONS | TERMINALS, query="?language=zh"),
    _row("POST /v1/registrations/{registration_id}/face-consent", {"payer"}, _same(READ)),
    _row("POST /v1/terminal/captures/{capture_id}/sittings", {"till"}, _same(READ), own_key=True, unkeyed=True),
    # What is sent is no picture, and late: who may is let in, and told so.
    _row(
        "POST /v1/terminal/captures/{capture_id}/sittings/{sitting_id}/frames",
        {"till"},
        _same({"nonce": NONCE, "frames": FRAMES, "pin": "2468"}),
        things={"sitting_id": "enrol_sitting"},
        own_key=True,
        unkeyed=True,
        works=False,
    ),
    _row("POST /v1/terminal/sittings", TERMINALS, _same({"amount_minor": 300, "currency": "CNY"}), unkeyed=True),
    _row("POST /v1/terminal/sittings/{sitting_id}/look", {"till"}, _same({"picture": PICTURE}), works=False),
    _row(
        "POST /v1/terminal/sittings/{sitting_id}/frames",
        {"till"},
        _same({"nonce": NONCE, "frames": FRAMES}),
        own_key=True,
        unkeyed=True,
        works=False,
    ),
    _row("POST /v1/terminal/sittings/{sitting_id}/pin", {"till"}, _same({"pin": "2468"}), unkeyed=True, works=False),
    _row("GET /v1/people/{person_id}/face", {"spender"}, things={"person_id": "spender"}),
    _row("DELETE /v1/people/{person_id}/face", {"spender"}, things={"person_id": "spender"}, last=60),
    _row("GET /v1/face-findings", {"owner", "support", "alien_owner"}, query="?open_only=false"),
    _row(
        "POST /v1/face-findings/{finding_id}/decide",
        {"owner", "support"},
        _same({"decision": "same_person"}),
        last=5,
        ends=True,
    ),
    _row(
        "GET /v1/terminals/{terminal_id}/face-lock",
        {"owner", "installer", "support"},
        things={"terminal_id": "till"},
    ),
    _row("DELETE /v1/terminals/{terminal_id}/face-lock", {"owner", "support"}, things={"terminal_id": "till"}, last=1),
]
CHARGES = [
    # A card is shown at any till of the operator.
    _row(
        "POST /v1/charges",
        {"till", "other_till"},
        lambda f: {
            "presented": {"code": f["card_code"]},
            "amount_minor": 5,
            "currency": "CNY",
            "capture": True,
            "pin": None,
            "reference": "R-1",
        },
        keyed=True,
        coded=True,
        also=ALTERED | {"invalid-request"},
    ),
    _row(
        "POST /v1/charges",
        {"spender"},
        lambda f: {"presented": {"payment_code": f["payment_code"]}, "circle_id": f["circle"]},
        keyed=True,
        coded=True,
        also=ALTERED | {"invalid-request"},
    ),
    _row("GET /v1/charges/{charge_id}", MEMBERS | {"till", "owner", "support", "key", "office"}),
    _row("GET /v1/charges", KEYS, query="?limit=5"),
    _row(
        "POST /v1/charges/{charge_id}/capture",
        {"till"},
        _same({"amount_minor": 7}),
        things={"charge_id": "held"},
        keyed=True,
        last=1,
    ),
    _row("POST /v1/charges/{charge_id}/void", {"till"}, _same({}), things={"charge_id": "spare"}, keyed=True, last=1),
    _row(
        "POST /v1/charges/{charge_id}/refunds",
        {"till", "owner", "support", "key", "office"},
        _same({"amount_minor": 3}),
        keyed=True,
        last=1,
    ),
    _row("POST /v1/charges/{charge_id}/retry", {"payer"}, _same({}), keyed=True),
    _row("POST /v1/pay-codes", {"spender"}, lambda f: {"circle_id": f["circle"]}),
]

HOOK: Final = "https://127.0.0.1:1025/hook"
"""Nobody is there; the town lets it through."""
OFFICE: Final = frozenset({"owner", "key", "office"})
BACK_OFFICE = [
    _row(
        "POST /v1/api-keys",
        {"owner"},
        lambda f: {
            "name": "Back office",
            "scopes": ["charges:read", "charges:refund"],
            "merchant_id": f["merchant"],
            "expires_at": "2999-01-01T00:00:00Z",
        },
        unkeyed=True,
    ),
    _row("GET /v1/api-keys", {"owner", "alien_owner"}),
    _row("DELETE /v1/api-keys/{api_key_id}", {"owner"}, last=20),
    _row(
        "POST /v1/webhook-endpoints",
        OFFICE,
        lambda f: {"url": HOOK, "types": ["charge.owed"], "merchant_id": f["merchant"], "description": "Books"},
        unkeyed=True,
    ),
    _row("GET /v1/webhook-endpoints", KEYS | {"owner", "alien_owner"}),
    _row(
        "PATCH /v1/webhook-endpoints/{endpoint_id}",
        OFFICE,
        _same({"url": HOOK, "types": ["charge.owed", "charge.voided"], "description": "All", "enabled": True}),
    ),
    _row("DELETE /v1/webhook-endpoints/{endpoint_id}", OFFICE, last=85, ends=True),
    _row("POST /v1/webhook-endpoints/{endpoint_id}/rotate", OFFICE, _same({"overlap_s": 0}), unkeyed=True),
    _row("POST /v1/webhook-endpoints/{endpoint_id}/test", OFFICE),
    _row("GET /v1/webhook-endpoints/{endpoint_id}/deliveries", OFFICE, query="?state=pending&limit=5"),
    _row("POST /v1/webhook-endpoints/{endpoint_id}/redeliver", OFFICE, _same({"since": "2026-03-02T12:00:00+08:00"})),
    _row("GET /v1/webhook-deliveries/{delivery_id}", OFFICE),
    _row("POST /v1/webhook-deliveries/{delivery_id}/redeliver", OFFICE),
]

ROWS: Final = [*OPEN_TO_ALL, *ONESELF, *CIRCLES, *MANDATES, *REGISTRATIONS, *TERMINAL_SIDE, *FACES, *CHARGES, *BACK_OFFICE]
