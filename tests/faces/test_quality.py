"""A good picture is taken, a bad one is refused with what to do; two languages."""

from __future__ import annotations

import numpy as np
import pytest

from kinpay.faces.engine import Engine
from kinpay.faces.pipeline import look
from kinpay.faces.port import Picture
from kinpay.faces.quality import ENROLMENT, GUIDANCE, RECOGNITION, Advice, Demands, advise, measure
from tests.faces.people import blurred, brighter, cropped, person, sample, tilted

GOOD = cropped(person("left"), 0.1)


def advised(engine: Engine, picture: Picture, demands: Demands = ENROLMENT) -> tuple[Advice, ...]:
    face = look(engine, picture)
    return advise(measure(face) if face else None, demands)


@pytest.mark.parametrize("name", ["left", "third", "right"])
def test_a_good_picture_needs_no_advice(engine: Engine, name: str) -> None:
    picture = cropped(person(name), 0.17)
    assert advised(engine, picture) == ()
    assert advised(engine, picture, RECOGNITION) == ()


def half_dark(picture: Picture) -> Picture:
    shade = np.ones(picture.shape[1]) * 0.25
    shade[picture.shape[1] // 2 :] = 1
    return (picture * shade[None, :, None]).astype(np.uint8)


@pytest.mark.parametrize(
    ("picture", "advice"),
    [
        (np.full((200, 200, 3), 90, np.uint8), Advice.NO_FACE),
        (sample(6), Advice.ONE_PERSON),
        (GOOD[::4, ::4], Advice.COME_CLOSER),
        (cropped(person("second"), 0.17), Advice.LOOK_HERE),
        (tilted(GOOD, 35), Advice.HEAD_UPRIGHT),
        (brighter(GOOD, 0.2), Advice.MORE_LIGHT),
        (brighter(GOOD, 4.0), Advice.LESS_LIGHT),
        (half_dark(GOOD), Advice.EVEN_LIGHT),
        (blurred(GOOD, 5), Advice.HOLD_STILL),
    ],
    ids=[str(advice) for advice in Advice],
)
def test_a_bad_one_is_told_what_to_do(engine: Engine, picture: Picture, advice: Advice) -> None:
    assert advice in advised(engine, np.ascontiguousarray(picture))


def test_the_till_takes_what_an_enrolment_does_not(engine: Engine) -> None:
    slightly = blurred(GOOD, 2.6)
    assert advised(engine, slightly) == (Advice.HOLD_STILL,)
    assert advised(engine, slightly, RECOGNITION) == ()


def test_every_advice_has_words_in_both_languages() -> None:
    assert set(GUIDANCE) == set(Advice)
    for words in GUIDANCE.values():
        assert words.en.endswith(".")
        assert words.zh.endswith("。")
