"""What an account name and a date may look like once they are normalised."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from kinpay.primitives.fields import AccountName, Day, Name

NAME, DAY = TypeAdapter[str](AccountName), TypeAdapter[object](Day)


@pytest.mark.parametrize(
    "text",
    [
        "\uff0fcard\uff0f0199f3a2",  # full-width slashes: it would read like a payer who was named by a card
        "a\uff20b@c",
        "a\uff3cb",
        "ab\u00b4cd",  # normalises to a space
        "wang\u200bli",
        "wang\u00adli",
        "\ufdfa" * 3,
        "\u3300" * 40,  # grows past any bound
    ],
)
def test_an_account_name_has_its_shape_after_normalising(text: str) -> None:
    with pytest.raises(ValidationError):
        NAME.validate_python(text)


@pytest.mark.parametrize(
    ("text", "name"), [("Wang.Li", "wang.li"), ("\uff37ang", "wang"), ("王小明", "王小明"), ("a@B.c", "a@b.c")]
)
def test_account_names_are_told_apart_by_what_they_are(text: str, name: str) -> None:
    assert NAME.validate_python(text) == name
    assert NAME.validate_python(name) == name


@pytest.mark.parametrize(
    "given", ["86400", '"86400"', "0", "1.5", "true", '"2010-02-03T00:00:00Z"', '"2010-2-3"', '"２010-02-03"']
)
def test_a_date_is_written_as_one(given: str) -> None:
    with pytest.raises(ValidationError):
        DAY.validate_json(given)


def test_a_date_is_read() -> None:
    assert str(DAY.validate_json('"2010-02-03"')) == "2010-02-03"


def test_no_mark_turns_the_writing_direction_of_a_name() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter[str](Name).validate_python("Li\u061c gnaW")
