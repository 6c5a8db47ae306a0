"""What was recorded, told with made-up ids, times, names, codes and keys that are the same in every recording.

An id is called after the thing it is of, or after the place where it is first seen; a secret becomes the word "Example"; times
keep only roughly how far they are from the moment. What was asked with stays valid in form, and is worth nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

TODAY: Final = date(2026, 3, 2)
NOON: Final = datetime.fromisoformat("2026-03-02T04:00:00+00:00")
"""When everything happens: at noon in Shanghai."""
SHANGHAI: Final = ZoneInfo("Asia/Shanghai")
CAST: Final[Mapping[str, tuple[str, str]]] = {
    "payer": ("Lin Mei", "lin.mei"),
    "spender": ("Xiaoyu", "xiaoyu"),
    "approver": ("Chen Hao", "chen.hao"),
    "viewer": ("Lin Jun", "lin.jun"),
    "pest": ("Zhou Ping", "zhou.ping"),
    "newcomer": ("Sun Yan", "sun.yan"),
    "installer": ("Wu Qiang", "wu.qiang"),
    "support": ("He Lan", "he.lan"),
    "gone": ("Gao Wei", "gao.wei"),
}
"""Role in the town → name and account."""
NAMES: Final[Mapping[str, str]] = {
    "Canteen 0": "Canteen",
    "Canteen 1": "Canteen",
    "Till A": "Till 1",
    "Till B": "Till 2",
    "Till C": "Till 1",
    "Another": "Lin Mei",
    "Somebody": "Sun Yan",
    "Team": "Lin",
    "A.key": "Canteen's books",
    "A.office": "Back office",
    "A.bakery": "Bakery's books",
    "C.key": "Canteen's books",
}
"""What the town calls things → what the examples do; only as a whole."""
FIELDS: Final[Mapping[str, tuple[str, Any]]] = {
    "match_number": (r"\d+", 42),
    "code": (r"\d{6}", "123456"),
    "address": (r"\+86138\d+", "+8613800000001"),
    "server_time_s": (r"[\d.]+", 1_772_424_000),
    "incident": (r".*", "01a2000000000000"),
}
"""Field → the form that is replaced there, and by what."""
NICE_S: Final = (30, 60, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400, 604_800, 2_592_000, 7_776_000, 31_536_000)
_ACCOUNT: Final = re.compile(rf"\b(?:[abc]\.)?({'|'.join(CAST)})\.[0-9a-f]{{6}}\b")
_PERSON: Final = re.compile(rf"\b({'|'.join(role.title() for role in CAST)}) [0-9a-f]{{8}}\b")
_CIRCLE: Final = re.compile(r"\bCircle [0-9a-f]{8}\b")
_ID: Final = re.compile(r"(?<![0-9a-zA-Z])[0-9a-f]{32}(?![0-9a-zA-Z])")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
_DATE: Final = re.compile(r"\b\d{4}-\d\d-\d\d\b(?!T)")
_MONTH: Final = re.compile(r"\d{4}-\d\d")
_DIGEST: Final = re.compile(r"\b[0-9a-f]{64}\b")
_SECRET: Final = re.compile(r"[A-Za-z0-9+/_-]{22,}={0,2}")
_HOST: Final = re.compile(r"http://127\.0\.0\.1:\d+")
_LONGEST: Final = 88
_EMV: Final = "000201"


class Fiction:
    """One recording's, from real to made-up; `things`: real id → what it is of, `now`: when it was recorded."""

    def __init__(self, things: Mapping[str, str], now: datetime) -> None:
        self._things = things
        self._now = now
        self._ids: dict[str, str] = {}

    def told(self, value: Any, place: str) -> Any:
        """A JSON value in made-up terms; `place` says where it stands."""
        if isinstance(value, dict):
            return {name: self.told(inner, f"{place}.{name}") for name, inner in value.items()}
        if isinstance(value, list):
            return [self.told(inner, f"{place}[{number}]") for number, inner in enumerate(value)]
        form, instead = FIELDS.get(place.rpartition(".")[2], ("", None))
        if form and value is not None and re.fullmatch(form, str(value)):
            return instead
        return self.text(value, place) if isinstance(value, str) else value

    def text(self, text: str, place: str) -> str:
        """The same for a text, which may name several things."""
        if text.startswith(_EMV):
            return _checked(_SECRET.sub(lambda found: _filler(len(found[0])), _ID.sub(self._id_at(place), text)))
        if _MONTH.fullmatch(text):
            return self._day(f"{text}-01")[:7]
        text = NAMES.get(text, text)
        for form, instead in (
            (_HOST, "https://bank.example"),
            (_ACCOUNT, lambda found: CAST[found[1]][1]),
            (_PERSON, lambda found: CAST[found[1].lower()][0]),
            (_CIRCLE, "Lin"),
            (_TIME, lambda found: self._time(found[0])),
            (_DATE, lambda found: self._day(found[0])),
            (_ID, self._id_at(place)),
            (_DIGEST, lambda _: hashlib.sha256(place.encode()).hexdigest()),
            (_SECRET, _secret),
        ):
            text = form.sub(instead, text)
        return text

    def _id_at(self, place: str) -> Callable[[re.Match[str]], str]:
        def instead(found: re.Match[str]) -> str:
            real = found[0]
            if real not in self._ids:
                taken = set(self._ids.values())
                digest = hashlib.sha256(self._things.get(real, place).encode()).hexdigest()
                numbers = (f"01a2{digest[at : at + 4]:0>28}" for at in range(len(digest)))
                self._ids[real] = next(number for number in numbers if number not in taken)
            return self._ids[real]

        return instead

    def _near(self, moment: datetime) -> bool:
        return abs(moment - self._now) < timedelta(days=400)

    def _time(self, text: str) -> str:
        moment = datetime.fromisoformat(text)
        local = moment.astimezone(SHANGHAI)
        if not self._near(moment) or local.date() == TODAY:
            return text
        if (local.minute, local.second, local.microsecond) == (0, 0, 0):
            # The edge of a window: an hour stays that hour, the first of a month one of a month.
            day = date.fromisoformat(self._day(local.date().isoformat()))
            moved = datetime.combine(day, local.timetz()).astimezone(ZoneInfo("UTC"))
            return moved.isoformat().replace("+00:00", "Z")
        away_s = (moment - self._now).total_seconds()
        nice_s = min((0, *NICE_S), key=lambda nice: abs(abs(away_s) - nice)) if away_s > 0 else 0
        return (NOON + timedelta(seconds=nice_s)).isoformat().replace("+00:00", "Z")

    def _day(self, text: str) -> str:
        day, today = date.fromisoformat(text), self._now.astimezone(SHANGHAI).date()
        if abs(day - today) > timedelta(days=100) or day == TODAY:
            return text
        if day.day == 1:
            months = TODAY.year * 12 + TODAY.month - 1 + (day.year - today.year) * 12 + day.month - today.month
            return f"{months // 12:04}-{months % 12 + 1:02}-01"
        return (TODAY + (day - today)).isoformat()


def _secret(found: re.Match[str]) -> str:
    text = found[0]
    plain = text.startswith("01a2") or not (re.search(r"\d", text) and re.search(r"[A-Z]", text) and re.search(r"[a-z]", text))
    return text if plain else _filler(min(len(text), _LONGEST))


def _filler(length: int) -> str:
    return ("Example" * (length // 7 + 1))[:length]


def _checked(text: str) -> str:
    """An EMVCo code with the CRC that it must have now. Source: ISO/IEC 13239, as EMV QRCPS Merchant-Presented Mode §4.7 has it."""
    register = 0xFFFF
    for byte in text[:-4].encode():
        register ^= byte << 8
        for _ in range(8):
            register = (register << 1 ^ 0x1021 if register & 0x8000 else register << 1) & 0xFFFF
    return f"{text[:-4]}{register:04X}"
