"""What notices say in English."""

from __future__ import annotations

from typing import Final

from kinpay.notifications.catalogue import Catalogue
from kinpay.notifications.message import NoticeKind as Kind

_KINDS: Final[dict[Kind, tuple[str, str]]] = {
    Kind.ACCOUNT_TRIED: (
        "Somebody tried to open your account",
        "Somebody tried to open an account under your account name. It stays yours. "
        "If it was not you there is nothing to do; never tell anybody a code.",
    ),
    Kind.SECOND_PERSON_WANTED: (
        "A second person is wanted",
        "{Person} asks for your agreement: {act}. Look at exactly what it is, and agree only if you know why.",
    ),
    Kind.SECOND_PERSON_AGREED: ("Agreed: {act}", "{Person} agreed. It can be done now, once, until a day after it was asked."),
    Kind.SECOND_PERSON_REFUSED: ("Not agreed: {act}", "{Person} did not agree. Nothing was done."),
    Kind.CIRCLE_INVITED: (
        "Invitation to {circle}",
        "{Person} offered you a role in {circle}: {role}. Accept only if you know them.",
    ),
    Kind.CIRCLE_JOINED: ("New in {circle}", "{Person} joined {circle}. Role: {role}."),
    Kind.CIRCLE_LEFT: ("Somebody left {circle}", "{Person} left {circle}."),
    Kind.CIRCLE_REMOVED: ("Removed from {circle}", "A payer took all roles in {circle} away. It concerns: {person}."),
    Kind.CIRCLE_FROZEN: (
        "{circle} is frozen",
        "{Person} froze {circle}. Nothing can be paid until a payer unfreezes it.",
    ),
    Kind.CIRCLE_UNFROZEN: (
        "{circle} is no longer frozen",
        "{Person} unfroze {circle}. Payments work again, within their limits.",
    ),
    Kind.CIRCLE_RESTORED: (
        "Please look at {circle} again",
        "The service had to be restored. Every payment is accounted for. But what was changed in {circle} after {until}, "
        "such as limits, a freeze, cards or members, may be lost: please see whether it is as you want it.",
    ),
    Kind.STATEMENT_CLOSED: ("The statement of {month} is final", "What {circle} spent in {month} is added up for good."),
    Kind.TIME_ZONE_CHANGED: (
        "{circle} has another time zone",
        "Days, weeks and months of {circle} now follow {zone_to}; before: {zone_from}.",
    ),
    Kind.REGISTRATION_REQUESTED: (
        "{spender} asks you to pay for them",
        "{spender}{account} asks you to pay for them{place}. Please answer before {until}. "
        "Agree only if you know who asks, and if they can tell you the number that they see.",
    ),
    Kind.REGISTRATION_APPROVED: (
        "Registration agreed to",
        "{Spenders} registration{by} was agreed to. What is lacking still, such as a signature at the provider, comes next.",
    ),
    Kind.REGISTRATION_REFUSED: (
        "Registration not agreed to",
        "{Spenders} registration{by} was not agreed to. Nothing was set up, and nothing of it is kept.",
    ),
    Kind.REGISTRATION_EXPIRED: (
        "Registration lapsed",
        "{Spenders} registration{by} was not completed in time. Nothing was set up; what had been captured is destroyed.",
    ),
    Kind.REGISTRATION_WITHDRAWN: ("Registration taken back", "{Spenders} registration{by} was taken back. Nothing was set up."),
    Kind.REGISTRATION_BOUND: (
        "Registration complete",
        "{Spenders} registration{by} is complete. Payments work from now on, within the limits that the payer set.",
    ),
    Kind.REGISTRATION_UNSIGNED: (
        "The agreement did not come about",
        "The agreement that {spenders} registration needs was not signed, or is over. You may choose again before {until}.",
    ),
    Kind.CAPTURE_GUIDANCE: ("Please go to the terminal", "{guidance}{place}"),
    Kind.CAPTURE_FAILED: (
        "The capture did not work",
        "The terminal could not capture you. Please try again there or at another terminal, before {until}.",
    ),
    Kind.CAPTURE_LAPSED: (
        "What was captured is destroyed",
        "Nobody agreed in time, so what the terminal captured of you was destroyed. The request stays open until {until}; "
        "once it is agreed to, you will be asked to be captured again.",
    ),
    Kind.AGREEMENT_ACTIVE: (
        "Agreement with {provider}",
        "From now on payments in {circle} may be debited from your account at {provider} without a password, "
        "within the limits that you set. You can end this at any time.",
    ),
    Kind.AGREEMENT_REFUSED: (
        "No agreement with {provider}",
        "The agreement with {provider} for {circle} did not come about. Nothing will be debited under it.",
    ),
    Kind.AGREEMENT_ENDED: (
        "Agreement with {provider} ended",
        "{Payers} agreement with {provider} for {circle} ended{ended_by}. Nothing more is debited under it.",
    ),
    Kind.MANDATE_CHANGED: ("Limits for {spender}", "{Payer} {how} what {spender} may spend: {terms}."),
    Kind.MANDATE_PAUSED: ("Payments paused", "{Payer} paused payments for {spender}."),
    Kind.MANDATE_RESUMED: ("Payments go on", "{Payer} let payments for {spender} go on."),
    Kind.MANDATE_SUSPENDED: (
        "Payments suspended",
        "Payments by {payer} for {spender} are suspended{why}. The limits and what was used of them are kept.",
    ),
    Kind.MANDATE_RESTORED: ("Payments work again", "Payments by {payer} for {spender} work again, with the same limits."),
    Kind.MANDATE_ENDED: ("Payments ended", "Payments by {payer} for {spender} ended{why}."),
    Kind.POOL_MADE: ("Shared limit set", "Your shared limit “{pool}” in {circle} is in force."),
    Kind.POOL_CHANGED: ("Shared limit changed", "Your shared limit “{pool}” in {circle} was changed."),
    Kind.POOL_ENDED: ("Shared limit ended", "Your shared limit “{pool}” in {circle} is no longer in force."),
    Kind.CARD_ISSUED: (
        "New payment card",
        "There is a new payment card for {spender} in {circle}. If you did not expect it, revoke it.",
    ),
    Kind.CARD_REVOKED: ("Payment card revoked", "{Spenders} payment card in {circle} is revoked: it pays nothing any more."),
    Kind.CARD_LOCKED: (
        "Payment card locked",
        "Too many wrong PINs: {spenders} payment card takes none before {until}. If it is lost, revoke it.",
    ),
    Kind.FACE_CONSENT_WANTED: (
        "May {spenders} face be enrolled?",
        "{Spender} stands at the terminal{place} and would like to pay by face. Please read the text and say whether you "
        "agree; without your word no picture is taken. Card and codes work without it.",
    ),
    Kind.FACE_ENROLLED: (
        "A face was enrolled",
        "{Spenders} face was enrolled at the terminal{place}, so that it can pay. No picture is kept. "
        "It may be withdrawn at any time; card and codes go on working.",
    ),
    Kind.FACE_ERASED: (
        "A face was erased",
        "{Spenders} face was withdrawn: the template and its key are destroyed. Card and codes go on working.",
    ),
    Kind.FACE_LOCKED: (
        "Paying by face is locked",
        "Too many wrong faces or PINs: {spenders} face pays nothing before {until}. Card and codes go on working. "
        "If it was not you, tell the shop.",
    ),
    Kind.FACE_ALIKE: (
        "Two accounts, one face?",
        "A face that was just captured looks like one that another account has. A registration waits until you have looked.",
    ),
    Kind.PHONE_REVOKED: ("Phone does not pay any more", "{Spenders} phone no longer pays in {circle}."),
    Kind.CHARGE_HELD: ("{amount} reserved", "{amount} is reserved at {merchant}. Nobody is debited yet."),
    Kind.CHARGE_DUE: ("{captured} to be debited", "{captured} at {merchant} will be debited when the day is over."),
    Kind.DAILY_DEBITED: ("{captured} debited for {day}", "{captured} was debited for {count} payments of {day} in {circle}."),
    Kind.DAILY_OWED: (
        "{captured} of {day} is owed",
        "{captured} for {count} payments of {day} in {circle} could not be debited{cause}. It is owed, and tried again at "
        "{retry}.",
    ),
    Kind.CHARGE_REFUSED: (
        "{amount} refused",
        "{Spenders} payment of {amount} at {merchant} was refused: {reasons}.{possible}",
    ),
    Kind.CHARGE_SUCCEEDED: ("{captured} paid", "{Spender} paid {captured} at {merchant}, debited to {payer}.{left}"),
    Kind.CHARGE_SUCCEEDED_LATE: (
        "{captured} debited after all",
        "{Spenders} payment of {captured} at {merchant} had been held for failed, but was debited to {payer} after all.",
    ),
    Kind.CHARGE_VOIDED: (
        "{amount} given up",
        "{Spenders} payment of {amount} at {merchant} was given up{void}. It uses nothing of the limits.",
    ),
    Kind.CHARGE_DECLINED: (
        "{amount} declined",
        "The provider declined {spenders} payment of {amount} at {merchant}{cause}. It uses nothing of the limits.",
    ),
    Kind.CHARGE_OWED: (
        "{captured} owed",
        "{Spenders} purchase of {captured} at {merchant} was handed over, but the provider did not debit {payer}{cause}. "
        "It is owed, and tried again from {retry}; until it is paid, {payer} cannot be debited for {spender}.",
    ),
    Kind.CHARGE_REFUNDED: (
        "{refunded} on its way back",
        "{refunded} of {spenders} payment of {captured} at {merchant} is on its way back to where it came from{why_back}.",
    ),
    Kind.CHARGE_DEBITED_TWICE: (
        "Debited twice",
        "{Spenders} payment of {captured} at {merchant} was debited twice. The second debit is on its way back.",
    ),
    Kind.REFUND_SUCCEEDED: (
        "{refunded} is back",
        "{refunded} of {spenders} payment at {merchant} is back in your account.",
    ),
    Kind.REFUND_FAILED: (
        "{refunded} could not be paid back",
        "The provider refused to pay back {refunded} of {spenders} payment at {merchant}. Please ask the merchant.",
    ),
}

_PHRASES: Final[dict[str, str]] = {
    "you": "you",
    "You": "You",
    "your": "your",
    "Your": "Your",
    "of_name": "{name}'s",
    "nobody": "somebody",
    "list": ", ",
    "reasons": "; ",
    "act.staff.add": "give somebody a role in the staff",
    "act.staff.end": "end an owner",
    "act.api_key.make": "make an API key",
    "act.webhook.send": "send events to an address, or more of them",
    "act.webhook.rotate": "give an endpoint a new secret",
    "act.settlement.pay": "note a settlement as paid",
    "act.break.end": "end a difference with a provider",
    "act.break.write_off": "write a difference off",
    "act.dual_control.end": "stop asking for two people",
    "role.payer": "payer",
    "role.approver": "approver",
    "role.viewer": "viewer",
    "role.spender": "spender",
    "provider.sandbox_bank": "Sandbox Bank",
    "account": " ({account})",
    "place": " (at {terminal}, {site}, {merchant})",
    "by": " with payer {account}",
    "how.lowered": "lowered",
    "how.changed": "changed",
    "ended_by.payer": " by the payer's wish",
    "ended_by.provider": " by the provider",
    "ended_by.operator": " by the operator",
    "ended_by.client": " by the operator",
    "ended_by.bank": " by the provider",
    "why.agreement_ended": ", because no agreement that funds them is active any more",
    "why.spender_removed": ", because the spender was removed from the agreement at the provider",
    "why.payer": " by the payer's wish",
    "why.spender": " by the spender's wish",
    "why.registration": ", because the registration came to nothing",
    "left": " Left today: {left} of {limit}.",
    "possible.both": " Up to {possible} now, again at {again}.",
    "possible.now": " Up to {possible} now.",
    "possible.again": " Again at {again}.",
    "void.no_longer_allowed": ", because the right to pay had ended meanwhile",
    "why_back.late": ", because the debit came too late",
    "why_back.void": ", because the payment was given up",
    "cause.funds": ": there was not enough money",
    "cause.limit": ": a limit of the provider",
    "cause.risk": ": its risk rules",
    "cause.agreement": ": the agreement is not active there",
    "cause.closed": ": the order was closed",
    "terms.none": "no limits",
    "terms.amount.per_payment": "at most {most} each",
    "terms.amount.least": "at least {least} each",
    "terms.amount": "{most} {per}",
    "terms.count": "{most} payments {per}",
    "terms.prorated": "{limit} (the first time in part)",
    "terms.kept": "{limit} (refunds still count)",
    "terms.items": "certain goods only",
    "terms.methods": "certain ways of paying only",
    "terms.terminals": "certain terminals only",
    "terms.school_hours": "certain hours of school days only",
    "terms.valid_from": "from {day}",
    "terms.valid_to": "until {day}",
    "terms.cooling": "{hours} hours of caution after the grant and after each raise",
    "terms.filtered": "{limit} for certain shops",
    "terms.payees": "certain payees only",
    "terms.mccs": "certain kinds of shop only",
    "terms.hours": "certain hours only",
    "scope.mandate": "",
    "scope.pool": "shared ",
    "scope.card": "card's ",
    "filter.everything": "",
    "filter.category": " for such shops",
    "reason.CIRCLE_FROZEN": "the circle is frozen",
    "reason.SPENDER_INACTIVE": "the spender's account is not active",
    "reason.CREDENTIAL_REVOKED": "the card or phone was revoked",
    "reason.MANDATE_NONE": "nobody pays for the spender in this circle",
    "reason.MANDATE_PENDING": "the registration is not complete",
    "reason.MANDATE_SUSPENDED": "payments are suspended, because no agreement funds them",
    "reason.MANDATE_PAUSED": "the payer paused payments",
    "reason.MANDATE_ENDED": "payments have ended",
    "reason.MANDATE_ARREARS": "an earlier purchase is not paid yet",
    "reason.CURRENCY": "another currency was agreed",
    "reason.PAYEE": "this payee is not allowed",
    "reason.CATEGORY": "this kind of shop is not allowed",
    "reason.TIME": "not at this hour",
    "reason.PER_PAYMENT": "above the {scope}limit of {most} per payment{filter}",
    "reason.PER_PAYMENT_MIN": "below the {scope}minimum of {least} per payment{filter}",
    "reason.ITEM": "something in the basket is not allowed",
    "reason.ITEMS_UNKNOWN": "the till does not say what is bought",
    "reason.METHOD": "not by this way of paying",
    "reason.TERMINAL": "not at this terminal",
    "reason.NOT_YET_VALID": "payments are not allowed yet",
    "reason.NO_LONGER_VALID": "payments are no longer allowed",
    "reason.amount": "above the {scope}limit of {most} {per}{filter} ({used} used)",
    "reason.count": "above the {scope}limit of {most} payments {per}{filter} ({used} made)",
    "reason.cooling": "{reason}, until the change has cooled down",
    "per.day": "a day",
    "per.week": "a week",
    "per.month": "a month",
    "per.half_year": "a half-year",
    "per.year": "a year",
    "per.lifetime": "in all",
    "per.trailing": "within a while",
    "per.within": "within any {length}",
    "per.consent_day": "a day",
    "per.consent_week": "a week since the consent",
    "per.consent_fortnight": "a fortnight since the consent",
    "per.consent_month": "a month since the consent",
    "per.consent_half_year": "a half-year since the consent",
    "per.consent_year": "a year since the consent",
    "length.days": "{count} days",
    "length.hours": "{count} hours",
    "length.minutes": "{count} minutes",
    "length.seconds": "{count} seconds",
    "reason.PROVIDER": "the provider would not debit this",
    "reason.other": "a rule of this circle",
}

ENGLISH: Final = Catalogue(kinds=_KINDS, phrases=_PHRASES)
