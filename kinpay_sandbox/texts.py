"""What the bank's pages say, in English and in 中文."""

from __future__ import annotations

TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "bank": "Sandbox Bank",
        "tagline": "A bank for trying things out. No real money.",
        "sign_in": "Sign in",
        "sign_out": "Sign out",
        "login": "Login name",
        "password": "Password",
        "to_continue": "Sign in to see what you are being asked to agree to.",
        "wrong_login": "Login name or password is not right.",
        "paused": "Too many attempts. Please wait a minute and try again.",
        "other_account": "This request is meant for another account. Sign in with that one.",
        "sign_again": "Please give your password again to go on.",
        "terms_title": "Agree to password-free debits?",
        "terms_lead": "may take money from your account without asking for your password each time.",
        "operator": "Operator",
        "their_account": "Their account",
        "business_type": "What it is for",
        "from_account": "From your account",
        "per_debit": "At most each time",
        "per_day": "At most each day (UTC)",
        "no_limit": "no limit at the bank",
        "valid_until": "Valid until",
        "until_ended": "until you end it",
        "spender": "Who will spend",
        "only_you": "only you",
        "promise": "You can remove a spender or end this agreement here at any time.",
        "agree": "Agree",
        "refuse": "Refuse",
        "decided_active": "You have agreed. You can close this page.",
        "decided_refused": "You have refused. Nothing was set up.",
        "decided_expired": "This request has lapsed. Ask the operator to send it again.",
        "decided_ended": "This agreement has been ended.",
        "frozen": "Your account is frozen, so nothing can be agreed to now.",
        "frozen_mark": "frozen",
        "not_found": "There is nothing at this address.",
        "form_expired": "This form is no longer valid. Please go back and try again.",
        "my_title": "Your account",
        "balance": "Balance",
        "agreements": "Agreements",
        "no_agreements": "You have not agreed to anything.",
        "spenders": "Spenders",
        "no_spenders": "no spenders",
        "remove": "Remove",
        "removed": "removed",
        "end": "End agreement",
        "state_active": "active",
        "state_ended": "ended",
        "state_expired": "run out",
        "type_self": "your own purchases",
        "type_proxy": "purchases of somebody you pay for",
        "other_language": "中文",
    },
    "zh": {
        "bank": "沙箱银行",
        "tagline": "供试用的银行，不涉及真实资金。",
        "sign_in": "登录",
        "sign_out": "退出",
        "login": "登录名",
        "password": "密码",
        "to_continue": "请先登录，查看需要您确认的内容。",
        "wrong_login": "登录名或密码不正确。",
        "paused": "尝试次数过多，请一分钟后再试。",
        "other_account": "此请求属于另一个账户，请用那个账户登录。",
        "sign_again": "请再次输入密码以继续。",
        "terms_title": "是否同意免密代扣？",
        "terms_lead": "今后可从您的账户扣款，无需每次输入密码。",
        "operator": "运营方",
        "their_account": "收款账户",
        "business_type": "业务类型",
        "from_account": "扣款账户",
        "per_debit": "单笔上限",
        "per_day": "每日上限（UTC）",
        "no_limit": "银行侧不设上限",
        "valid_until": "有效期至",
        "until_ended": "直至您解除",
        "spender": "使用人",
        "only_you": "仅您本人",
        "promise": "您可随时在此移除使用人或解除协议。",
        "agree": "同意",
        "refuse": "拒绝",
        "decided_active": "您已同意，可以关闭此页面。",
        "decided_refused": "您已拒绝，未建立任何协议。",
        "decided_expired": "此请求已失效，请让运营方重新发起。",
        "decided_ended": "此协议已解除。",
        "frozen": "您的账户已被冻结，目前无法签约。",
        "frozen_mark": "已冻结",
        "not_found": "此地址没有内容。",
        "form_expired": "此表单已失效，请返回重试。",
        "my_title": "我的账户",
        "balance": "余额",
        "agreements": "代扣协议",
        "no_agreements": "您还没有签署任何协议。",
        "spenders": "使用人",
        "no_spenders": "没有使用人",
        "remove": "移除",
        "removed": "已移除",
        "end": "解除协议",
        "state_active": "生效中",
        "state_ended": "已解除",
        "state_expired": "已到期",
        "type_self": "本人消费",
        "type_proxy": "代他人付款",
        "other_language": "English",
    },
}

EXPONENTS = {"JPY": 0, "KRW": 0, "VND": 0, "CLP": 0, "BHD": 3, "JOD": 3, "KWD": 3, "OMR": 3, "TND": 3}
SIGNS = {"CNY": "¥"}


def choose_language(asked: str | None, remembered: str | None, accepted: str) -> str:
    """Return `zh` or `en`: what was asked for, else what was chosen before, else what the browser prefers."""
    for choice in (asked, remembered):
        if choice in TEXTS:
            return choice
    ranked: list[tuple[float, str]] = []
    for part in accepted.split(","):
        tag, _, weight = part.strip().partition(";q=")
        try:
            ranked.append((-float(weight or 1), tag.lower().split("-")[0]))
        except ValueError:
            continue
    return next((tag for _, tag in sorted(ranked, key=lambda one: one[0]) if tag in TEXTS), "en")


def write_money(amount_minor: int, currency: str) -> str:
    """Write minor units for people: `¥1,234.50`, `JPY 300`."""
    exponent = EXPONENTS.get(currency, 2)
    whole, part = divmod(amount_minor, 10**exponent)
    figure = f"{whole:,}" + (f".{part:0{exponent}d}" if exponent else "")
    return SIGNS[currency] + figure if currency in SIGNS else f"{currency} {figure}"
