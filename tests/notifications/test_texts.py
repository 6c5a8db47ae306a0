"""Every kind of notice says the same in both languages, and says it in full."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import kinpay
from kinpay.notifications.compose import CATALOGUES, compose
from kinpay.notifications.deliver import CHARGE_TOPICS, NOTICE_TOPICS
from kinpay.notifications.message import CHARGE_AUDIENCE, NoticeKind
from kinpay.notifications.wording import amount_text, moment_text, reasons_text, terms_text
from kinpay.primitives.errors import KinpayError
from kinpay.primitives.period import Unit
from kinpay.registrations.capture import GUIDANCE

CHILD, MOTHER, OTHER = "1" * 32, "2" * 32, "3" * 32
AT = datetime(2026, 3, 2, 7, 30, tzinfo=UTC)
ZONE = "Asia/Shanghai"
REFUSAL = {
    "reasons": [
        {
            "code": "DAY_AMOUNT",
            "at_most": 3500,
            "used": 2050,
            "remaining": 1450,
            "resets_at": "2026-03-02T16:00:00+00:00",
        }
    ],
    "possible_now_minor": 1450,
    "again_at": "2026-03-02T16:00:00+00:00",
}
FACTS: dict[str, Any] = {
    "circle_id": "4" * 32,
    "circle_name": "Family Wang",
    "month": "2026-03",
    "day": "2026-03-02",
    "count": 4,
    "spender_id": CHILD,
    "spender_name": "Xiaoyu",
    "spender_account": "xiaoyu",
    "payer_id": MOTHER,
    "payer_name": "Wang Fang",
    "payer_account": "wangfang",
    "person_id": MOTHER,
    "person_name": "Wang Fang",
    "role": "viewer",
    "act": "staff.add",
    "from": "Asia/Shanghai",
    "to": "Europe/Paris",
    "terminal_name": "Till 1",
    "site_name": "North School",
    "merchant_name": "Canteen",
    "expires_at": "2026-03-03T07:00:00+00:00",
    "until": "2026-03-02T07:45:00+00:00",
    "retry_at": "2026-03-05T07:45:00+00:00",
    "guidance": GUIDANCE["spender"],
    "provider": "sandbox_bank",
    "ended_by": "payer",
    "reason": "agreement_ended",
    "lowered": True,
    "terms": {"currency": "CNY", "limits": [{"metric": "amount", "window": "day", "at_most": 3500, "filter": {}}]},
    "pool_name": "All children",
    "currency": "CNY",
    "amount_minor": 1500,
    "captured_minor": 1400,
    "refund_minor": 700,
    "left_today_minor": 2850,
    "day_limit_minor": 3500,
    "refusal": REFUSAL,
    "why": "late",
    "cause": "funds",
}


def read(kind: NoticeKind, locale: str, *, reader_id: str = OTHER, facts: Mapping[str, Any] = FACTS) -> str:
    words = compose(kind, facts, reader_id=reader_id, locale=locale, time_zone=ZONE, at=AT)
    assert words.title
    return f"{words.title} | {words.text}"


def placeholders(template: str) -> set[str]:
    names = {name.lower() for _, name, _, _ in string.Formatter().parse(template) if name}
    return {re.sub(r"^(spender|payer|person)s$", r"\1", name) for name in names}


def test_every_language_has_every_kind_and_phrase_with_the_same_placeholders() -> None:
    chinese, english = CATALOGUES["zh"], CATALOGUES["en"]
    assert set(chinese.kinds) == set(english.kinds) == set(NoticeKind)
    for kind in NoticeKind:
        for one, other in zip(chinese.kinds[kind], english.kinds[kind], strict=True):
            assert placeholders(one) == placeholders(other), kind
    assert set(chinese.phrases) == set(english.phrases)
    for name, phrase in chinese.phrases.items():
        assert placeholders(phrase) == placeholders(english.phrases[name]), name


@pytest.mark.parametrize("locale", ["zh", "en"])
@pytest.mark.parametrize("kind", NoticeKind)
@pytest.mark.parametrize("reader_id", [CHILD, MOTHER, OTHER])
def test_every_kind_composes_without_a_gap(kind: NoticeKind, locale: str, reader_id: str) -> None:
    shown = read(kind, locale, reader_id=reader_id)
    assert not re.search(r"[{}]|  |“”|None| \.| ,|¥$", shown), shown
    assert not re.search(r"\b[0-9a-f]{32}\b", shown), shown


@pytest.mark.parametrize("locale", ["zh", "en"])
@pytest.mark.parametrize("kind", NoticeKind)
def test_a_kind_whose_facts_are_gone_still_says_something(kind: NoticeKind, locale: str) -> None:
    assert compose(kind, {}, reader_id=OTHER, locale=locale, time_zone=ZONE, at=AT).title


def test_a_refusal_tells_the_reason_the_amount_and_the_local_time() -> None:
    english = read(NoticeKind.CHARGE_REFUSED, "en", reader_id=MOTHER)
    assert "Xiaoyu's payment of ¥15.00 at Canteen was refused" in english
    assert "above the limit of ¥35.00 a day (¥20.50 used). Up to ¥14.50 now, again at 00:00." in english
    chinese = read(NoticeKind.CHARGE_REFUSED, "zh", reader_id=CHILD)
    assert "您的付款（Canteen，¥15.00）被拒绝：超过每日限额 ¥35.00（已用 ¥20.50）。" in chinese
    assert "现在最多可付 ¥14.50，00:00 后可付全额。" in chinese


def test_whoever_reads_is_addressed_as_you() -> None:
    assert read(NoticeKind.CHARGE_SUCCEEDED, "en", reader_id=CHILD).endswith(
        "You paid ¥14.00 at Canteen, debited to Wang Fang. Left today: ¥28.50 of ¥35.00."
    )
    assert "Xiaoyu paid ¥14.00 at Canteen, debited to you." in read(NoticeKind.CHARGE_SUCCEEDED, "en", reader_id=MOTHER)
    assert "您在Canteen付款 ¥14.00，由Wang Fang支付。今日剩余 ¥28.50（每日 ¥35.00）。" in read(
        NoticeKind.CHARGE_SUCCEEDED, "zh", reader_id=CHILD
    )


def test_names_are_told_as_they_are_and_format_nothing() -> None:
    facts = {**FACTS, "merchant_name": "{amount} {0.__class__} %s"}
    assert "{amount} {0.__class__} %s" in read(NoticeKind.CHARGE_SUCCEEDED, "en", facts=facts)


def test_a_moment_of_another_day_is_told_with_its_date() -> None:
    assert moment_text("2026-03-02T16:00:00+00:00", time_zone=ZONE, near=AT) == "00:00"
    assert moment_text("2026-03-31T16:00:00+00:00", time_zone=ZONE, near=AT) == "2026-04-01 00:00"
    assert moment_text("2026-03-02T05:00:00+00:00", time_zone="America/New_York", near=AT) == "2026-03-02 00:00"


def test_amounts_have_their_currency_and_its_own_decimals() -> None:
    assert amount_text(1450, "CNY") == "¥14.50"
    assert amount_text(1500, "JPY") == "JPY 1500"
    assert amount_text(1250, "KWD") == "KWD 1.250"


def test_terms_are_told_limit_by_limit() -> None:
    terms = {
        "currency": "CNY",
        "limits": [
            {"metric": "amount", "window": "per_payment", "at_most": 2000, "at_least": 100, "filter": {}},
            {"metric": "amount", "window": "day", "at_most": 3500, "filter": {"mccs": ["5814"]}},
            {"metric": "count", "window": "day", "at_most": 4, "filter": {}},
        ],
        "conditions": [{"kind": "hours", "open": []}, {"kind": "payees", "allow": []}, {"kind": "payees", "deny": []}],
    }
    assert terms_text(terms, CATALOGUES["en"]) == (
        "at most ¥20.00 each, at least ¥1.00 each, ¥35.00 a day for certain shops, 4 payments a day, certain hours only, "
        "certain payees only"
    )
    assert terms_text({"currency": "CNY", "limits": []}, CATALOGUES["zh"]) == "不限"


def _codes_of_decide() -> set[str]:
    """Every code that `decide` can name, from its source and the scopes, filters and windows it puts together."""
    single = {"CIRCLE_FROZEN", "SPENDER_INACTIVE", "CREDENTIAL_REVOKED", "CURRENCY", "PAYEE", "CATEGORY", "TIME", "PROVIDER"}
    mandate = {f"MANDATE_{name}" for name in ("NONE", "PENDING", "SUSPENDED", "PAUSED", "ARREARS")}
    cooled = {"PAYEE", "CATEGORY", "TIME", "ITEM", "ITEMS_UNKNOWN", "METHOD", "TERMINAL", "NOT_YET_VALID", "NO_LONGER_VALID"}
    units = {unit.name for unit in Unit}
    periods = units - {"FORTNIGHT"} | {f"CONSENT_{name}" for name in units - {"TRAILING", "LIFETIME"}}
    windows = {f"{window}_{metric}" for window in periods for metric in ("AMOUNT", "COUNT")}
    ceilings = {"PER_PAYMENT", "PER_PAYMENT_MIN", *windows}
    cooled |= {s + f + name for s in ("", "POOL_", "CARD_") for f in ("", "CATEGORY_") for name in ceilings}
    return single | mandate | cooled | {f"COOLING_{name}" for name in cooled}


@pytest.mark.parametrize("locale", ["zh", "en"])
def test_every_reason_that_decide_names_has_words_of_its_own(locale: str) -> None:
    catalogue = CATALOGUES[locale]
    seen = set()
    for code in sorted(_codes_of_decide()):
        reason = {"code": code, "at_most": 4, "at_least": 3, "used": 2}
        seen.add(text := reasons_text([reason], currency="CNY", catalogue=catalogue))
        assert text != catalogue.phrases["reason.other"], code
    same = {code for code in _codes_of_decide() if "CONSENT_DAY" in code}  # a day is a day, from wherever it is counted
    assert len(seen) == len(_codes_of_decide()) - len(same)
    assert reasons_text([{"code": "NEW"}], currency="CNY", catalogue=catalogue) == catalogue.phrases["reason.other"]


def test_decide_names_no_code_that_this_test_does_not_know() -> None:
    rules = [Path(kinpay.__file__).parent / "charges" / name for name in ("decide.py", "ceilings.py")]
    written = {
        node.value
        for path in rules
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"[A-Z]{2,}[A-Z_]*[A-Z]", node.value)
    }
    assert written - _codes_of_decide() <= {"COUNT", "AMOUNT"}


def test_where_another_currency_was_agreed_its_limits_are_not_told() -> None:
    reasons = [{"code": "CURRENCY"}, {"code": "DAY_AMOUNT", "at_most": 3500, "used": 0}]
    assert reasons_text(reasons, currency="USD", catalogue=CATALOGUES["en"]) == "another currency was agreed"


def test_every_topic_that_tells_somebody_has_a_kind() -> None:
    """Whatever the code below puts into the outbox to tell people is known here, by its literal or by its computed name."""
    computed = {f"agreement_{state}" for state in ("active", "refused", "ended")}
    computed |= {f"pool_{event}" for event in ("made", "changed", "ended")} | {"card_revoked", "phone_revoked"}
    computed |= {
        "daily_debited",
        "daily_owed",
        "circle_frozen",
        "circle_unfrozen",
        "registration_refused",
        "registration_expired",
        "registration_withdrawn",
    }
    literal: set[str] = set()
    for package in ("people", "operators", "mandates", "sittings", "registrations", "statements", "recovery"):
        for path in (Path(kinpay.__file__).parent / package).glob("*.py"):
            source = path.read_text()
            literal |= set(re.findall(r'"notice\.([a-z_]+)"', source))
            literal |= set(
                re.findall(
                    r'(?:of_request|of_outcome|payer_of|spender_of|tell_of_mandate|tell)\(\s*conn,\s*"([a-z_]+)"', source
                )
            )
            literal |= set(re.findall(r'(?:_tell\(\s*conn,(?: \w+,)?\s*|notice=)"([a-z_]+)"', source))
    known = {topic.removeprefix("notice.") for topic in NOTICE_TOPICS}
    assert literal >= {"circle_invited", "mandate_changed", "card_locked", "card_issued", "capture_failed", "account_tried"}
    assert literal | computed <= known
    assert known <= literal | computed | {"registration_requested"}


def test_every_topic_of_a_charge_has_a_kind() -> None:
    written: set[str] = set()
    for path in (Path(kinpay.__file__).parent / "charges").glob("*.py"):
        text = path.read_text()
        written |= set(re.findall(r'"((?:charge|refund)\.(?:[a-z]+_)?[a-z]+)"', text))
        if "'charge.' || state" in text:  # The statement that writes new charges words their topics itself.
            written |= {"charge.held", "charge.refused"}
    told = set(CHARGE_TOPICS)
    assert {"charge.held", "charge.refused", "charge.succeeded", "charge.owed", "refund.failed"} <= told & written
    assert set(CHARGE_TOPICS.values()) | {NoticeKind.CHARGE_SUCCEEDED_LATE} == set(CHARGE_AUDIENCE)


def test_a_locale_that_is_not_there_is_an_error() -> None:
    with pytest.raises((KeyError, KinpayError)):
        read(NoticeKind.ACCOUNT_TRIED, "fr")
