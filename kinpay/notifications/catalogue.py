"""What a language's texts are: a title and a text for every kind of notice, and the phrases that they are put together from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kinpay.notifications.message import NoticeKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """One language. `kinds`: title and text. `phrases`: by dotted name; all have the same names in every language.

    Placeholders of people come in four forms, of which a language uses what it needs: `spender`, `Spender` (at the start of a
    sentence), `spenders` and `Spenders` (belonging to them); whoever reads is addressed as `you`.
    """

    kinds: Mapping[NoticeKind, tuple[str, str]]
    phrases: Mapping[str, str]
