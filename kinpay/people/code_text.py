"""What a one-time code says to the person who receives it, in Chinese and English. Pure."""

from __future__ import annotations

from typing import Final

PURPOSES: Final[dict[str, tuple[str, str]]] = {
    "sign_in": ("登录", "sign in"),
    "open_account": ("开通账户", "open your account"),
    "circle.invite": ("邀请成员加入圈子", "invite somebody to your circle"),
    "circle.unfreeze": ("解除圈子冻结", "unfreeze your circle"),
    "circle.time_zone": ("更改圈子时区", "change your circle's time zone"),
    "registration.approve": ("同意为他人付款", "agree to pay for somebody"),
    "mandate.terms": ("更改付款限额", "change a spending limit"),
    "mandate.funding": ("更改扣款账户", "change the account that is debited"),
    "mandate.resume": ("恢复暂停的付款授权", "let a paused spender pay again"),
    "pool.change": ("更改共享限额", "change a shared limit"),
    "pool.end": ("取消共享限额", "end a shared limit"),
}
"""By the name of the purpose: what the code does, in Chinese and in English."""
_OTHER: Final = ("确认一项付款设置的更改", "confirm a change to payments")

_TEXTS: Final = {
    "zh": "【kinpay】验证码 {code}，用于：{act}。{minutes} 分钟内有效。"
    "请勿告诉任何人，包括自称客服的人；若非本人操作，请忽略。",
    "en": "kinpay: {code} is your code to {act}. Valid for {minutes} minutes. Never tell it to anybody, not even to us. "
    "If you did not ask for it, ignore this.",
}


def code_text(digits: str, *, purpose: str, locale: str, minutes: int) -> str:
    """The message for one code: what it does, how long it lives, and that nobody else may hear it."""
    chinese, english = PURPOSES.get(purpose, _OTHER)
    act = chinese if locale == "zh" else english
    return _TEXTS["zh" if locale == "zh" else "en"].format(code=digits, act=act, minutes=minutes)
