"""The grammar of limits and conditions: what may be written, what is said by silence, and the page that explains it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kinpay.mandates.terms import Terms


def _examples() -> list[Any]:
    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", page, re.DOTALL)]


@pytest.mark.parametrize("example", _examples(), ids=lambda example: ",".join(example)[:40])
def test_the_examples_of_the_page_are_what_they_say(example: dict[str, Any]) -> None:
    written = example
    if "kind" in example:
        written = {"currency": "CNY", "conditions": [example]}
    elif "metric" in example:
        written = {"currency": "CNY", "limits": [example]}
    canonical = Terms.model_validate(written).canonical()
    assert Terms.model_validate(canonical).canonical() == canonical


@pytest.mark.parametrize(
    "limit",
    [
        {"window": "trailing", "at_most": 1},
        {"window": "day", "trailing_s": 3600, "at_most": 1},
        {"window": "trailing", "trailing_s": 9, "at_most": 1},
        {"window": "trailing", "trailing_s": 32 * 86400, "at_most": 1},
        {"window": "fortnight", "at_most": 1},
        {"window": "lifetime", "alignment": "consent", "at_most": 1},
        {"window": "month", "week_start": 7, "at_most": 1},
        {"window": "week", "week_start": 7, "alignment": "consent", "at_most": 1},
        {"window": "month", "alignment": "consent", "proration": "first_period", "at_most": 1},
        {"window": "lifetime", "proration": "first_period", "at_most": 1},
        {"window": "per_payment", "refunds": "keep", "at_most": 1},
    ],
)
def test_words_that_do_not_go_together(limit: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Terms.model_validate({"currency": "CNY", "limits": [{"metric": "amount", **limit}]})


def test_what_is_said_by_silence_is_left_out() -> None:
    said = {"alignment": "calendar", "week_start": 1, "proration": "none", "refunds": "restore"}
    aloud = Terms.model_validate({"currency": "CNY", "limits": [{"metric": "amount", "window": "day", "at_most": 1, **said}]})
    silent = Terms.model_validate({"currency": "CNY", "limits": [{"metric": "amount", "window": "day", "at_most": 1}]})
    assert aloud.hash() == silent.hash()
    assert not said.keys() & aloud.canonical()["limits"][0].keys()


@pytest.mark.parametrize("day", ["2026-02-30", "26-02-01", "2026-2-1", "tomorrow", "2026-02-01T00:00:00"])
def test_a_day_is_a_day(day: str) -> None:
    with pytest.raises(ValidationError):
        Terms.model_validate({"currency": "CNY", "valid_from": day})


@pytest.mark.parametrize("day", ["9999-12-31", "2200-01-01", "1999-12-31", "0001-01-01"])
def test_a_day_that_nobody_can_mean_is_refused_and_read_where_it_is_kept(day: str) -> None:
    calendar = {"open": [{"opens": "06:00", "closes": "24:00"}], "calendar": {"on": [day]}}
    for written in ({"valid_from": day}, {"valid_to": day}, {"conditions": [{"kind": "hours", **calendar}]}):
        with pytest.raises(ValidationError):
            Terms.model_validate({"currency": "CNY", **written})
        assert Terms.kept({"currency": "CNY", **written}).canonical()["currency"] == "CNY"
    assert Terms.model_validate({"currency": "CNY", "valid_from": "2000-01-01", "valid_to": "2199-12-31"})
