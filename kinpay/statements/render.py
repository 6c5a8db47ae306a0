"""A statement as plain text, for whoever reads it in a terminal window. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import Final

from kinpay.primitives.money import shown_amount
from kinpay.statements.statement import Line, Part, Statement, Tally

TEXTS: Final = MappingProxyType(
    {
        "en": {
            "title": "{circle}: {month} ({time_zone})",
            "own": "Only what one spender spent.",
            "nothing": "Nothing was asked for this month.",
            "count": "number",
            "gross": "gross",
            "refunded": "refunded",
            "net": "net",
            "total": "Total",
            "by_day": "By day",
            "by_spender": "By spender",
            "by_payer": "By payer",
            "by_merchant": "By merchant",
            "by_category": "By category",
            "refused": "Refused by limits",
            "declined": "Declined by providers",
            "owed": "Owed",
            "pending": "Not settled yet",
            "before": "Net of the month before",
            "late": "Of closed months",
            "debited": "debited after all",
            "refund_failed": "refund refused",
            "dropped": "not debited after all",
            "closed": "Final since {at}.",
        },
        "zh": {
            "title": "{circle}：{month}（{time_zone}）",
            "own": "仅一位使用人的消费。",
            "nothing": "本月没有消费。",
            "count": "笔数",
            "gross": "支付",
            "refunded": "退款",
            "net": "净额",
            "total": "合计",
            "by_day": "按日",
            "by_spender": "按使用人",
            "by_payer": "按付款人",
            "by_merchant": "按商户",
            "by_category": "按商户类别",
            "refused": "超限被拒",
            "declined": "支付机构拒绝",
            "owed": "欠款",
            "pending": "尚未结清",
            "before": "上月净额",
            "late": "涉及已结账月份",
            "debited": "补扣款",
            "refund_failed": "退款未成功",
            "dropped": "最终未扣款",
            "closed": "{at} 已结账，不再变动。",
        },
    }
)
"""Every word of it, by language."""

_GROUPS: Final = ("by_day", "by_spender", "by_payer", "by_merchant", "by_category")
_NAME_WIDTH: Final = 30
_NUMBER_WIDTH: Final = 14


def render_text(statement: Statement, locale: str) -> str:
    """The statement in `locale` (zh or en), one table a currency, amounts in whole units with their decimals."""
    words = TEXTS[locale]
    lines = [words["title"].format(circle=statement.circle_name, month=statement.month, time_zone=statement.time_zone)]
    if statement.spender_id is not None:
        lines.append(words["own"])
    if statement.closed_at is not None:
        lines.append(words["closed"].format(at=f"{statement.closed_at:%Y-%m-%d}"))
    if not statement.parts:
        lines.append(words["nothing"])
    for part in statement.parts:
        lines += ["", *_part(part, locale)]
    return "\n".join(lines) + "\n"


def _part(part: Part, locale: str) -> Iterator[str]:
    words, currency = TEXTS[locale], part.currency
    yield _row(currency, [words[name] for name in ("count", "gross", "refunded", "net")])
    yield _line(part.total, currency, name=words["total"])
    for group in _GROUPS:
        # Who and what had money in the month before alone has a line for the comparison's sake, which is not shown here.
        lines: Sequence[Line] = [line for line in getattr(part, group) if line.count or line.gross_minor or line.refunded_minor]
        if lines:
            yield words[group]
        for line in lines:
            yield _line(line, currency, name=f"  {line.name}")
    if part.total.before_net_minor:
        yield _row(words["before"], ["", "", "", shown_amount(part.total.before_net_minor, currency)])
    for late in part.late:
        name = f"{words['late']}: {late.month} {words[late.kind.value]}"
        yield _row(name, ["", "", "", shown_amount(late.amount_minor, currency)])
    for name in ("refused", "declined", "owed", "pending"):
        tally: Tally = getattr(part.unpaid, name)
        if tally.count:
            yield _row(words[name], [str(tally.count), shown_amount(tally.amount_minor, currency)])


def _line(line: Line, currency: str, *, name: str) -> str:
    amounts = (line.gross_minor, line.refunded_minor, line.net_minor)
    return _row(name, [str(line.count), *(shown_amount(amount, currency) for amount in amounts)])


def _row(name: str, cells: Sequence[str]) -> str:
    """A name and right-aligned cells; Chinese characters are two columns wide."""
    return _fit(name) + "".join(" " * max(1, _NUMBER_WIDTH - _width(cell)) + cell for cell in cells)


def _width(text: str) -> int:
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _fit(name: str) -> str:
    """Exactly the width of the name's column; what is longer is cut, and says so."""
    if _width(name) > _NAME_WIDTH:
        while _width(name) > _NAME_WIDTH - 1:
            name = name[:-1]
        name += "…"
    return name + " " * (_NAME_WIDTH - _width(name))
