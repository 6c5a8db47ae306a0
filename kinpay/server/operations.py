"""What every operation is called in the OpenAPI document, and the room it is found in: the API's table of contents.

A name is for ever: clients are generated from it. A verb and a noun; `list…` for what has a cursor, `get…` for one thing. New
operations get a line here and one in `tests/api/operation_ids.txt`; a test says so where one is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Room:
    """A tag: what its operations are about, in one line, and their names by `METHOD /path`."""

    description: str
    operations: Mapping[str, str]


ROOMS: Final[Mapping[str, Room]] = {
    "people": Room(
        "Signing in, oneself, and proofs for what needs a fresh one.",
        {
            "POST /v1/people": "createPerson",
            "POST /v1/sign-in": "beginSignIn",
            "POST /v1/sign-in/{sign_in_id}": "completeSignIn",
            "POST /v1/sign-out": "signOut",
            "GET /v1/me": "getMe",
            "PATCH /v1/me": "updateMe",
            "GET /v1/me/invitations": "listInvitations",
            "POST /v1/proofs": "requestProof",
        },
    ),
    "circles": Room(
        "A family or a team: who belongs to it as what, its time zone, and stopping everything at once.",
        {
            "POST /v1/circles": "createCircle",
            "GET /v1/circles": "listCircles",
            "GET /v1/circles/{circle_id}": "getCircle",
            "POST /v1/circles/{circle_id}/members": "inviteMember",
            "POST /v1/circles/{circle_id}/join": "joinCircle",
            "DELETE /v1/circles/{circle_id}/members/{person_id}": "removeMember",
            "POST /v1/circles/{circle_id}/freeze": "freezeCircle",
            "POST /v1/circles/{circle_id}/unfreeze": "unfreezeCircle",
            "PUT /v1/circles/{circle_id}/time-zone": "setCircleTimeZone",
        },
    ),
    "registrations": Room(
        "Asking somebody to be one's payer, and their answer; with a phone or at a terminal.",
        {
            "POST /v1/registrations": "requestRegistration",
            "GET /v1/registrations": "listRegistrations",
            "GET /v1/registrations/{registration_id}": "getRegistration",
            "POST /v1/registrations/{registration_id}/approve": "approveRegistration",
            "POST /v1/registrations/{registration_id}/refuse": "refuseRegistration",
            "POST /v1/registrations/{registration_id}/withdraw": "withdrawRegistration",
            "GET /v1/registration-blocks": "listRegistrationBlocks",
            "DELETE /v1/registration-blocks/{spender_id}": "removeRegistrationBlock",
            "POST /v1/terminal/registrations": "requestAssistedRegistration",
            "POST /v1/terminal/registrations/{registration_id}/card": "issueAssistedCard",
            "POST /v1/terminal/captures/{capture_id}": "submitCapture",
            "POST /v1/terminal/captures/{capture_id}/resume": "resumeCapture",
        },
    ),
    "faces": Room(
        "Enrolling a face at a terminal, paying with it, and withdrawing it; a person without one is served as well.",
        {
            "GET /v1/face-consent-text": "getFaceConsentText",
            "POST /v1/registrations/{registration_id}/face-consent": "giveFaceConsent",
            "POST /v1/terminal/captures/{capture_id}/sittings": "beginEnrolment",
            "POST /v1/terminal/captures/{capture_id}/sittings/{sitting_id}/frames": "submitEnrolment",
            "POST /v1/terminal/sittings": "beginSitting",
            "POST /v1/terminal/sittings/{sitting_id}/look": "judgePicture",
            "POST /v1/terminal/sittings/{sitting_id}/frames": "submitFrames",
            "POST /v1/terminal/sittings/{sitting_id}/pin": "submitPin",
            "GET /v1/people/{person_id}/face": "getFace",
            "DELETE /v1/people/{person_id}/face": "eraseFace",
            "GET /v1/face-findings": "listFaceFindings",
            "POST /v1/face-findings/{finding_id}/decide": "decideFaceFinding",
            "GET /v1/terminals/{terminal_id}/face-lock": "getFaceLock",
            "DELETE /v1/terminals/{terminal_id}/face-lock": "resetFaceLock",
        },
    ),
    "mandates": Room(
        "What a payer allows a spender: limits, funding, validity.",
        {
            "GET /v1/mandates": "listMandates",
            "GET /v1/mandates/{mandate_id}": "getMandate",
            "DELETE /v1/mandates/{mandate_id}": "revokeMandate",
            "PUT /v1/mandates/{mandate_id}/terms": "setMandateTerms",
            "PUT /v1/mandates/{mandate_id}/funding": "setMandateFunding",
            "POST /v1/mandates/{mandate_id}/pause": "pauseMandate",
            "POST /v1/mandates/{mandate_id}/resume": "resumeMandate",
            "GET /v1/mandates/{mandate_id}/control-parameters": "getControlParameters",
            "POST /v1/terms/control-parameters": "translateControlParameters",
        },
    ),
    "pools": Room(
        "One limit over several spenders of a circle.",
        {
            "GET /v1/circles/{circle_id}/pools": "listPools",
            "POST /v1/circles/{circle_id}/pools": "createPool",
            "PUT /v1/pools/{pool_id}": "replacePool",
            "DELETE /v1/pools/{pool_id}": "closePool",
        },
    ),
    "agreements": Room(
        "Password-free debit between a payer and a provider.",
        {
            "GET /v1/agreements": "listAgreements",
            "POST /v1/agreements/{agreement_id}/refresh": "refreshAgreement",
            "POST /v1/agreements/{agreement_id}/end": "endAgreement",
            "GET /v1/provider-accounts": "listProviderAccounts",
        },
    ),
    "cards": Room(
        "What a spender shows at a till: printed cards, and codes on a phone.",
        {
            "GET /v1/circles/{circle_id}/cards": "listCards",
            "POST /v1/circles/{circle_id}/cards": "issueCard",
            "DELETE /v1/cards/{card_id}": "blockCard",
            "POST /v1/pay-codes": "createPayCode",
        },
    ),
    "charges": Room(
        "Spending on someone's account: a reservation, then a capture; refunds, and what became of each.",
        {
            "POST /v1/charges": "createCharge",
            "GET /v1/charges": "listMerchantCharges",
            "GET /v1/charges/{charge_id}": "getCharge",
            "POST /v1/charges/{charge_id}/capture": "captureCharge",
            "POST /v1/charges/{charge_id}/void": "voidCharge",
            "POST /v1/charges/{charge_id}/refunds": "refundCharge",
            "POST /v1/charges/{charge_id}/retry": "retryCharge",
            "GET /v1/circles/{circle_id}/charges": "listCircleCharges",
            "GET /v1/circles/{circle_id}/daily-debits": "listDailyDebits",
        },
    ),
    "statements": Room(
        "What a circle's month came to.",
        {
            "GET /v1/circles/{circle_id}/statements/{month}": "getStatement",
            "GET /v1/circles/{circle_id}/statements/{month}/charges.csv": "exportStatementCharges",
        },
    ),
    "notices": Room(
        "What people are told, as a list and as it happens.",
        {
            "GET /v1/notices": "listNotices",
            "POST /v1/notices/read-all": "readAllNotices",
            "POST /v1/notices/{notice_id}/read": "readNotice",
            "GET /v1/live": "streamNotices",
        },
    ),
    "terminals": Room(
        "Devices at merchants: installing them, their codes, and what they are told to do.",
        {
            "POST /v1/terminals": "announceTerminal",
            "GET /v1/terminals": "listTerminals",
            "POST /v1/terminals/{terminal_id}/install-code": "renewInstallCode",
            "POST /v1/terminals/{terminal_id}/revoke": "revokeTerminal",
            "POST /v1/terminals/install": "installTerminal",
            "POST /v1/terminals/sessions": "openTerminalSession",
            "POST /v1/terminal/function-code": "createFunctionCode",
            "POST /v1/terminal/scans": "scanAtTerminal",
            "POST /v1/scans": "scanCode",
            "POST /v1/scans/{scan_id}/business-type": "chooseBusinessType",
            "POST /v1/terminal/payment-codes": "createPaymentCode",
            "GET /v1/terminal/payment-codes/{code_id}": "getPaymentCode",
            "POST /v1/payment-codes/read": "readPaymentCode",
            "GET /v1/terminal/commands": "listTerminalCommands",
            "POST /v1/terminal/commands/{command_id}/done": "finishTerminalCommand",
        },
    ),
    "operators": Room(
        "Who runs this installation: staff, merchants and their sites, privileged acts.",
        {
            "GET /v1/operator": "getOperator",
            "PUT /v1/operator/dual-control": "setDualControl",
            "GET /v1/staff": "listStaff",
            "POST /v1/staff": "addStaff",
            "DELETE /v1/staff/{person_id}/{role}": "removeStaff",
            "GET /v1/privileged-acts": "listPrivilegedActs",
            "GET /v1/privileged-acts/{act_id}": "getPrivilegedAct",
            "POST /v1/privileged-acts/{act_id}/approve": "approvePrivilegedAct",
            "POST /v1/privileged-acts/{act_id}/refuse": "refusePrivilegedAct",
            "POST /v1/privileged-acts/{act_id}/withdraw": "withdrawPrivilegedAct",
            "POST /v1/merchants": "createMerchant",
            "GET /v1/merchants": "listMerchants",
            "PUT /v1/merchants/{merchant_id}/fare-rule": "setFareRule",
            "GET /v1/merchants/{merchant_id}/fare-rule": "getFareRule",
            "DELETE /v1/merchants/{merchant_id}/fare-rule": "removeFareRule",
            "POST /v1/sites": "createSite",
            "GET /v1/sites": "listSites",
        },
    ),
    "settlements": Room(
        "What merchants are owed, day by day.",
        {
            "GET /v1/merchants/{merchant_id}/settlements": "listSettlements",
            "GET /v1/merchants/{merchant_id}/settlements/{day}/lines": "listSettlementLines",
            "GET /v1/merchants/{merchant_id}/settlements/{day}/lines.csv": "exportSettlementLines",
            "POST /v1/merchants/{merchant_id}/settlements/{day}/paid": "markSettlementPaid",
        },
    ),
    "reconciliation": Room(
        "What providers' daily statements say, held against our books.",
        {
            "GET /v1/reconciliation/days": "listReconciliationDays",
            "GET /v1/reconciliation/breaks": "listReconciliationBreaks",
            "PUT /v1/reconciliation/breaks/{break_id}/owner": "assignReconciliationBreak",
            "POST /v1/reconciliation/breaks/{break_id}/resolve": "resolveReconciliationBreak",
        },
    ),
    "api keys": Room(
        "Credentials of merchants' back offices, with scopes.",
        {
            "POST /v1/api-keys": "createApiKey",
            "GET /v1/api-keys": "listApiKeys",
            "DELETE /v1/api-keys/{api_key_id}": "revokeApiKey",
        },
    ),
    "webhooks": Room(
        "Telling merchants' machines what happened, by the Standard Webhooks specification.",
        {
            "POST /v1/webhook-endpoints": "createWebhookEndpoint",
            "GET /v1/webhook-endpoints": "listWebhookEndpoints",
            "PATCH /v1/webhook-endpoints/{endpoint_id}": "updateWebhookEndpoint",
            "DELETE /v1/webhook-endpoints/{endpoint_id}": "removeWebhookEndpoint",
            "POST /v1/webhook-endpoints/{endpoint_id}/rotate": "rotateWebhookSecret",
            "POST /v1/webhook-endpoints/{endpoint_id}/test": "testWebhookEndpoint",
            "GET /v1/webhook-endpoints/{endpoint_id}/deliveries": "listWebhookDeliveries",
            "POST /v1/webhook-endpoints/{endpoint_id}/redeliver": "redeliverWebhooks",
            "GET /v1/webhook-deliveries/{delivery_id}": "getWebhookDelivery",
            "POST /v1/webhook-deliveries/{delivery_id}/redeliver": "redeliverWebhook",
        },
    ),
    "providers": Room(
        "What payment providers tell us.",
        {"POST /v1/providers/{provider_account_id}/callback": "receiveProviderCallback"},
    ),
    "operating": Room(
        "Whether the server is well, and what its problems mean.",
        {
            "GET /healthz": "checkHealth",
            "GET /readyz": "checkReadiness",
            "GET /problems/{code}": "getProblemMeaning",
        },
    ),
}

NAMES: Final[Mapping[str, tuple[str, str]]] = {
    operation: (tag, name) for tag, room in ROOMS.items() for operation, name in room.operations.items()
}
"""`METHOD /path` → its tag and its name."""
