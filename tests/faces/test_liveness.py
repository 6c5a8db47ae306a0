"""Two acts, one person, in order. Still pictures cannot blink: these acts are warped from the points of the faces, and the
attacks are put together from them. Nothing here is evidence about real attacks (docs/biometrics.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import permutations

import numpy as np
import pytest

from kinpay.cli.demo.warping import acted, warp
from kinpay.faces.engine import Engine
from kinpay.faces.liveness import USUAL, Act, Frame, Outcome, Reason, Verdict, choose_acts, judge
from kinpay.faces.measures import eye_opening, mouth_opening, turn
from kinpay.faces.pipeline import look, observe
from tests.faces.people import person

PEOPLE = ("left", "right")


class Stage:
    """Frames of people's acts, each computed once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.at_rest = cache(self._at_rest)
        self.of = cache(self._of)

    def _at_rest(self, name: str) -> Frame:
        found = observe(self.engine, person(name), 0.0)
        assert found is not None
        return found

    def _of(self, name: str, act: Act) -> tuple[Frame, ...]:
        """From rest to the height of the act and back."""
        frames = [observe(self.engine, picture, 0.0) for picture in acted(person(name), self.at_rest(name).points, [act])]
        return tuple(frame for frame in frames if frame is not None)

    def play(self, name: str, acts: Sequence[Act]) -> list[Frame]:
        return timed([self.at_rest(name), *(frame for act in acts for frame in self.of(name, act))])


def timed(frames: Sequence[Frame], *, apart_s: float = 0.12) -> list[Frame]:
    return [replace(frame, at_s=number * apart_s) for number, frame in enumerate(frames)]


@pytest.fixture(scope="module")
def stage(engine: Engine) -> Stage:
    return Stage(engine)


PAIRS = list(permutations(Act, 2))


@pytest.mark.parametrize("acts", PAIRS, ids=["+".join(pair) for pair in PAIRS])
@pytest.mark.parametrize("name", PEOPLE)
def test_what_was_asked_for_and_done_passes_and_nothing_else_does(stage: Stage, name: str, acts: tuple[Act, Act]) -> None:
    frames = stage.play(name, acts)
    assert judge(frames, acts) == Verdict(Outcome.PASSED, ())
    for others in PAIRS:
        if others != acts:
            assert judge(frames, others).outcome is Outcome.REFUSED, others
    assert judge(frames, (acts[1], acts[0])).reasons == (Reason.WRONG_ORDER,)


def test_a_photograph_is_no_one(stage: Stage) -> None:
    """The same picture again and again, and one that is moved about a little."""
    still = timed([stage.at_rest("left")] * 20)
    chance = np.random.default_rng(1)
    shaken = [
        replace(frame, points=(frame.points + chance.normal(0, 0.6, frame.points.shape)).astype(np.float32)) for frame in still
    ]
    for frames in (still, shaken):
        for acts in PAIRS:
            verdict = judge(frames, acts)
            assert verdict.outcome is Outcome.REFUSED
            assert verdict.reasons


def test_a_recording_of_everything_is_refused(stage: Stage) -> None:
    """Whoever shows all acts has not listened to which were asked for."""
    frames = stage.play("left", list(Act))
    verdict = judge(frames, (Act.BLINK, Act.TURN_LEFT))
    assert verdict == Verdict(Outcome.REFUSED, (Reason.OTHER_ACT,))


def test_two_people_are_not_one(stage: Stage) -> None:
    """One shows the first act, the other the second; or a single frame is somebody else's."""
    acts = (Act.BLINK, Act.OPEN_MOUTH)
    frames = timed([stage.at_rest("left"), *stage.of("left", acts[0]), *stage.of("right", acts[1])])
    assert Reason.OTHER_PERSON in judge(frames, acts).reasons
    own = stage.play("left", acts)
    for number in range(len(own)):
        foreign = [*own[:number], replace(own[number], vector=stage.at_rest("right").vector), *own[number + 1 :]]
        assert Reason.OTHER_PERSON in judge(foreign, acts).reasons, number


def test_a_head_that_jumps_is_a_picture_exchanged(stage: Stage) -> None:
    acts = (Act.TURN_LEFT, Act.BLINK)
    turning = stage.of("left", Act.TURN_LEFT)
    height = max(range(len(turning)), key=lambda number: turn(turning[number].points))
    jumping = [stage.at_rest("left")] * 4 + [turning[height], *[stage.at_rest("left")] * 2, *stage.of("left", Act.BLINK)]
    assert judge(timed(jumping), acts).reasons == (Reason.JUMPED,)
    trembling = [*turning[: height - 1], turning[1], *turning[height:], *stage.of("left", Act.BLINK)]
    assert Reason.JUMPED in judge(timed(trembling), acts).reasons


def test_gaps_few_frames_and_times_that_do_not_grow_are_refused(stage: Stage) -> None:
    acts = (Act.BLINK, Act.TURN_LEFT)
    frames = stage.play("left", acts)
    few = Verdict(Outcome.REFUSED, (Reason.FEW_FRAMES,))
    assert judge([], acts) == judge(frames[:7], acts) == few
    assert judge(timed(frames, apart_s=0.8), acts) == few
    assert judge(timed(frames, apart_s=0.0), acts) == judge(frames[::-1], acts) == few
    late = [*frames[:9], *(replace(frame, at_s=frame.at_s + 1) for frame in frames[9:])]
    assert judge(late, acts) == few


def test_whoever_does_not_look_at_the_camera_has_no_rest(stage: Stage) -> None:
    turned = stage.of("left", Act.TURN_LEFT)[4:7]
    frames = timed([*turned, *turned[::-1], *stage.of("left", Act.BLINK)])
    assert judge(frames, (Act.BLINK, Act.TURN_LEFT)).reasons == (Reason.NOT_AT_REST,)


def test_the_passive_score_only_takes_away(stage: Stage) -> None:
    acts = (Act.OPEN_MOUTH, Act.TURN_RIGHT)
    frames = stage.play("right", acts)
    outcome = {}
    for passive in (0.0, USUAL.flat_below, 0.3, USUAL.doubt_below, 1.0):
        outcome[passive] = judge([replace(frame, passive=passive) for frame in frames], acts)
    assert outcome[0.0] == Verdict(Outcome.REFUSED, (Reason.LOOKS_FLAT,))
    assert outcome[USUAL.flat_below] == outcome[0.3] == Verdict(Outcome.STEP_UP, (Reason.FLAT_PERHAPS,))
    assert outcome[USUAL.doubt_below] == outcome[1.0] == Verdict(Outcome.PASSED, ())
    still = timed([replace(stage.at_rest("right"), passive=1.0)] * 20)
    assert judge(still, acts).outcome is Outcome.REFUSED, "the best score does not replace an act"


def test_left_is_the_persons_own(stage: Stage) -> None:
    """In a picture that is not mirrored, the nose of somebody who turns to their left goes to the right."""
    rest, left = stage.at_rest("left").points, stage.of("left", Act.TURN_LEFT)
    height = max(left, key=lambda frame: turn(frame.points)).points
    assert height[30, 0] - height[[0, 16], 0].mean() > rest[30, 0] - rest[[0, 16], 0].mean() + 5
    mirrored = [replace(frame, points=frame.points * np.float32([-1, 1]) + np.float32([480, 0])) for frame in left]
    swapped = [replace(frame, points=frame.points[MIRROR]) for frame in mirrored]
    frames = timed([swapped[0], *swapped, *swapped[:2], *stage.of("left", Act.BLINK)])
    assert Reason.NO_TURN_LEFT in judge(frames, (Act.TURN_LEFT, Act.BLINK)).reasons


MIRROR = [
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65),
]
"""Which point becomes which when a picture is mirrored."""


def test_a_warp_does_what_it_says_and_leaves_the_person(engine: Engine) -> None:
    for name in PEOPLE:
        plain = look(engine, person(name))
        assert plain is not None
        made = {act: look(engine, warp(person(name), plain.points, act, 1.0)) for act in Act}
        points = {act: face.points for act, face in made.items() if face is not None}
        assert eye_opening(points[Act.BLINK]) < 0.75 * eye_opening(plain.points)
        assert mouth_opening(points[Act.OPEN_MOUTH]) > mouth_opening(plain.points) + 0.06
        assert turn(points[Act.TURN_LEFT]) > turn(plain.points) + 0.22
        assert turn(points[Act.TURN_RIGHT]) < turn(plain.points) - 0.22
        assert all(face is not None and face.vector @ plain.vector > 0.3 for face in made.values())


def test_two_different_acts_are_chosen_and_each_pair_is() -> None:
    chosen = {choose_acts(lambda size, one=one, other=other: (one, other)[size == 3]) for one in range(4) for other in range(3)}
    assert chosen == set(PAIRS)
