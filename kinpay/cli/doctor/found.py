"""What the doctor says of one thing: how it is, in one line, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How something is."""

    OK = "ok"
    """As it should be."""
    TOLD = "told"
    """Neither right nor wrong; worth knowing."""
    WARNING = "warning"
    """It works, and somebody should look at it."""
    WRONG = "wrong"
    """It does not work, or will not; the exit status says so."""


@dataclass(frozen=True, slots=True)
class Found:
    """One line. `do` is empty where nothing has to be done."""

    verdict: Verdict
    about: str
    says: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.verdict.value:<8} {self.about}: {self.says}" + (f" → {self.do}" if self.do else "")


def ok(about: str, says: str) -> Found:
    """As it should be."""
    return Found(Verdict.OK, about, says)


def told(about: str, says: str, do: str = "") -> Found:
    """Worth knowing."""
    return Found(Verdict.TOLD, about, says, do)


def warning(about: str, says: str, do: str) -> Found:
    """To be looked at."""
    return Found(Verdict.WARNING, about, says, do)


def wrong(about: str, says: str, do: str) -> Found:
    """To be put right."""
    return Found(Verdict.WRONG, about, says, do)
