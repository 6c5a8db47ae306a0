"""What was recorded, told with made-up ids, times, names, codes and keys that are the same in every recording.

An id is called after the thing it is of, or after the place where it is first seen; a secret becomes the word "Example"; times
keep only roughly how far they are from the moment. What was asked with stays valid in form, and is worth nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from kinpay.terminals import emv_consumer, emv_merchant
from kinpay.terminals.emv_codes import consumer_presented
from kinpay.terminals.emv_merchant import MerchantCode

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
    "payer_account_id": (r"pa[0-9a-f]{24}", "pa0123456789abcdef01234567"),
    "prefix": (r"kp_live_.{8}", "kp_live_ExampleE"),
    "duration_ms": (r"\d+", 12),
    "picture": (r"[A-Za-z0-9+/=]+", "/9j/4AAQSkZJRgABAQAAAQABAAD"),
    "nonce": (r"[A-Za-z0-9_-]{24}", "ExampleExampleExampleExa"),
    "bound": (r"[0-9.e-]+", 0.00001),
    "face_bound": (r"[0-9.e-]+", 0.00001),
    "retry_after_s": (r"\d+", 60),
}
"""Field → the form that is replaced there, and by what."""
NICE_S: Final = (30, 60, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400, 604_800, 2_592_000, 7_776_000, 31_536_000)
HOSTS: Final[Mapping[str, str]] = {
    "http://kinpay.test": "https://kinpay.example",
    "https://127.0.0.1:1025": "https://canteen.example",
}
"""Where we are, and where the merchants' machines are; any other address of this machine is the bank's."""
_BEFORE: Final = r"(?<![0-9A-Za-z])"
_AFTER: Final = r"(?![0-9A-Za-z])"
"""The edge of a word in a text that may be Chinese, which Python's own `\\b` does not see."""
_ACCOUNT: Final = re.compile(rf"{_BEFORE}(?:[abc]\.)?({'|'.join(CAST)})\.[0-9a-f]{{6}}{_AFTER}")
_PERSON: Final = re.compile(rf"{_BEFORE}({'|'.join(role.title() for role in CAST)}) [0-9a-f]{{8}}{_AFTER}")
_CIRCLE: Final = re.compile(rf"{_BEFORE}Circle [0-9a-f]{{8}}{_AFTER}")
_PLACE: Final = re.compile(rf"{_BEFORE}(?:Canteen [01]|Till [ABC]){_AFTER}")
_ID: Final = re.compile(rf"{_BEFORE}[0-9a-f]{{32}}{_AFTER}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
_WALL: Final = re.compile(r"(?<![\d-])(\d{4}-\d\d-\d\d)(?! ?T)(?: (\d\d:\d\d)(:\d\d)?)?(?![\d-])")
"""A date, maybe with what the circle's wall clock shows."""
_MONTH: Final = re.compile(r"(?<![\d-])20\d\d-\d\d(?![\d-])")
_DIGEST: Final = re.compile(rf"{_BEFORE}[0-9a-f]{{64}}{_AFTER}")
_SECRET: Final = re.compile(r"(kp_live_|whsec_)?([A-Za-z0-9+/_-]{22,}={0,2})")
_HOST: Final = re.compile(r"https?://(?:127\.0\.0\.1:\d+|kinpay\.test)")
_DRAWING: Final = re.compile(r' d="[^"]{40,}"')
_LONGEST: Final = 88
_OURS: Final = ("26", "01")
"""Where an EMVCo code carries what we signed."""


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
        if text.startswith(emv_merchant.START):
            return _merchant_presented(text)
        if text.startswith(emv_consumer.START):
            return consumer_presented(f"K1P.{_filler(_LONGEST)}")
        text = NAMES.get(text, text)
        for form, instead in (
            (_DRAWING, ' d="M4 4.5h7"'),
            (_HOST, lambda found: HOSTS.get(found[0], "https://bank.example")),
            (_ACCOUNT, lambda found: CAST[found[1]][1]),
            (_PERSON, lambda found: CAST[found[1].lower()][0]),
            (_PLACE, lambda found: NAMES[found[0]]),
            (_CIRCLE, "Lin"),
            (_TIME, lambda found: self._time(found[0])),
            (_WALL, self._wall),
            (_MONTH, lambda found: self._day(f"{found[0]}-01")[:7]),
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

    def _wall(self, found: re.Match[str]) -> str:
        day, minute, second = found.groups()
        if minute is None:
            return self._day(day)
        moment = datetime.fromisoformat(f"{day}T{minute}").replace(tzinfo=SHANGHAI)
        if minute != "00:00":
            # The seconds are cut off, and a full hour that something happened in is no edge of a window.
            moment += timedelta(seconds=30)
        told = datetime.fromisoformat(self._time(moment.isoformat())).astimezone(SHANGHAI)
        return told.strftime(f"%Y-%m-%d %H:%M{':00' if second else ''}")

    def _day(self, text: str) -> str:
        day, today = date.fromisoformat(text), self._now.astimezone(SHANGHAI).date()
        if abs(day - today) > timedelta(days=100) or day == TODAY:
            return text
        if day.day == 1:
            months = TODAY.year * 12 + TODAY.month - 1 + (day.year - today.year) * 12 + day.month - today.month
            return f"{months // 12:04}-{months % 12 + 1:02}-01"
        return (TODAY + (day - today)).isoformat()


def _secret(found: re.Match[str]) -> str:
    start, text = found[1] or "", found[2]
    plain = text.startswith("01a2") or not (re.search(r"\d", text) and re.search(r"[A-Z]", text) and re.search(r"[a-z]", text))
    return start + (text if plain and not start else _filler(min(len(text), _LONGEST)))


def _filler(length: int) -> str:
    return ("Example" * (length // 7 + 1))[:length]


def _merchant_presented(text: str) -> str:
    """The same EMVCo code with nothing in it that was signed."""
    template, name = _OURS
    objects = [
        replace(one, value=tuple(replace(inner, value=_filler(70)) if inner.id == name else inner for inner in one.value))
        if one.id == template and not isinstance(one.value, str)
        else one
        for one in emv_merchant.parse(text).objects
    ]
    return emv_merchant.produce(MerchantCode(tuple(objects)))
