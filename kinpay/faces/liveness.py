"""Were two acts that the server chose done before the camera, by one person? Pure functions over frames.

What it stops: a photograph, and a recording of other acts. What it does not: a recording of these acts, a camera that is a
program, a mask (docs/biometrics.md). Everything is measured against the same person at rest, as people's eyes differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from statistics import median
from types import MappingProxyType
from typing import Final

import numpy as np

from kinpay.faces.landmarks import Points
from kinpay.faces.measures import eye_opening, mouth_opening, turn
from kinpay.faces.port import Vectors


class Act(StrEnum):
    """What a person can be asked to do."""

    BLINK = "blink"
    """Close both eyes and open them again."""
    TURN_LEFT = "turn_left"
    """Turn the head to one's own left and back."""
    TURN_RIGHT = "turn_right"
    """Turn the head to one's own right and back."""
    OPEN_MOUTH = "open_mouth"
    """Open the mouth and close it again."""


class Outcome(StrEnum):
    """What the frames come to. There is no way from the passive score to `PASSED`."""

    PASSED = "passed"
    """The acts were done by one person, and nothing speaks against it."""
    STEP_UP = "step_up"
    """The acts were done, but something is doubtful: ask for a PIN or a code."""
    REFUSED = "refused"
    """The acts were not seen, or something is wrong: nothing follows from these frames."""


class Reason(StrEnum):
    """Why it was not `PASSED`."""

    FEW_FRAMES = "few_frames"
    """Fewer frames than can show two acts, or frames whose times do not grow, or gaps in which a picture could be changed."""
    NOT_AT_REST = "not_at_rest"
    """The frames do not begin with a face that looks straight ahead; there is nothing to compare with."""
    NO_BLINK = "no_blink"
    """Asked for and not seen."""
    NO_TURN_LEFT = "no_turn_left"
    """Asked for and not seen."""
    NO_TURN_RIGHT = "no_turn_right"
    """Asked for and not seen."""
    NO_OPEN_MOUTH = "no_open_mouth"
    """Asked for and not seen."""
    WRONG_ORDER = "wrong_order"
    """Both were seen, but the second before the first."""
    JUMPED = "jumped"
    """The head did not turn steadily: between two frames it was elsewhere, as when a picture is exchanged."""
    OTHER_ACT = "other_act"
    """An act was seen that was not asked for: a recording of all of them would show it."""
    OTHER_PERSON = "other_person"
    """Some frame shows somebody else."""
    LOOKS_FLAT = "looks_flat"
    """The passive score says: a picture of a picture."""
    FLAT_PERHAPS = "flat_perhaps"
    """The passive score is not sure; the only reason that leaves a way, by stepping up."""


NOT_SEEN: Final[Mapping[Act, Reason]] = MappingProxyType({act: Reason(f"no_{act}") for act in Act})


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame: `at_s` seconds since the challenge, the 68 points, the vector of length 1, the passive score (0 to 1)."""

    at_s: float
    points: Points
    vector: Vectors
    passive: float

    def __repr__(self) -> str:
        return f"Frame(at_s={self.at_s:.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where the lines are. Chosen on warped stills and on ORL; not tested against ISO/IEC 30107-3."""

    frames_min: int = 8
    gap_s: float = 0.7
    """The longest time between two frames."""
    straight: float = 0.35
    """A head at rest is turned by less."""
    blink_below: float = 0.75
    """Eyes are closed below this part of their opening at rest, and open above `blink_above`."""
    blink_above: float = 0.85
    turned_by: float = 0.22
    """How far beyond its rest a head counts as turned."""
    back_within: float = 0.11
    """How near to its rest it counts as returned."""
    jump: float = 0.3
    """The most that a head turns between two frames."""
    unsteady: float = 0.06
    """How far a turn may go back on its way; points tremble."""
    mouth_by: float = 0.12
    same: float = 0.45
    """What a frame's vector at rest has to have with the mean of those at rest …"""
    same_turned: float = 0.30
    """… one in the midst of an act …"""
    same_next: float = 0.45
    """… and any frame with the one before it."""
    flat_below: float = 0.05
    """Of the median passive score: refused below, stepped up below `doubt_below`."""
    doubt_below: float = 0.5


USUAL: Final = Bounds()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. `reasons` is empty exactly if it `PASSED`."""

    outcome: Outcome
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class _Course:
    """One measure over the frames, as the difference from (or share of) its value at rest."""

    turned: tuple[float, ...]
    eyes: tuple[float, ...]
    mouth: tuple[float, ...]


def choose_acts(pick: Callable[[int], int]) -> tuple[Act, Act]:
    """Two different acts. `pick(n)` is a fair choice of 0 to n - 1 that nobody can foresee (`secrets.randbelow`)."""
    rest = list(Act)
    first = rest.pop(pick(len(rest)))
    return first, rest[pick(len(rest))]


def judge(frames: Sequence[Frame], acts: Sequence[Act], bounds: Bounds = USUAL) -> Verdict:
    """Whether `frames` show `acts`, in this order, by one person who is there."""
    if not _continuous(frames, bounds):
        return Verdict(Outcome.REFUSED, (Reason.FEW_FRAMES,))
    if abs(median(turn(frame.points) for frame in frames[:2])) > bounds.straight:
        return Verdict(Outcome.REFUSED, (Reason.NOT_AT_REST,))
    course = _course(frames)
    reasons = [*_acts_missing(course, acts, bounds), *_unasked(course, acts, bounds)]
    reasons += _one_person(frames, course, bounds)
    passive = median(frame.passive for frame in frames)
    if passive < bounds.flat_below:
        reasons.append(Reason.LOOKS_FLAT)
    if reasons:
        return Verdict(Outcome.REFUSED, tuple(reasons))
    if passive < bounds.doubt_below:
        return Verdict(Outcome.STEP_UP, (Reason.FLAT_PERHAPS,))
    return Verdict(Outcome.PASSED, ())


def _continuous(frames: Sequence[Frame], bounds: Bounds) -> bool:
    gaps = [later.at_s - earlier.at_s for earlier, later in pairwise(frames)]
    return len(frames) >= bounds.frames_min and all(0 < gap <= bounds.gap_s for gap in gaps)


def _course(frames: Sequence[Frame]) -> _Course:
    """Rest is the first two frames for the head, and what is usual (the median) for eyes and mouth."""
    turns = [turn(frame.points) for frame in frames]
    eyes = [eye_opening(frame.points) for frame in frames]
    mouths = [mouth_opening(frame.points) for frame in frames]
    rest, open_eyes = median(turns[:2]), max(1e-6, median(eyes))
    closed = median(sorted(mouths)[: max(2, len(mouths) // 2)])
    return _Course(
        tuple(value - rest for value in turns),
        tuple(value / open_eyes for value in eyes),
        tuple(value - closed for value in mouths),
    )


def _seen_at(course: _Course, act: Act, bounds: Bounds) -> int | None:
    """The frame in which the act is at its height, if it was begun from rest and ended there."""
    if act is Act.BLINK:
        values, reached, back = [-value for value in course.eyes], -bounds.blink_below, -bounds.blink_above
    elif act is Act.OPEN_MOUTH:
        values, reached, back = list(course.mouth), bounds.mouth_by, bounds.mouth_by / 2
    else:
        sign = 1 if act is Act.TURN_LEFT else -1
        values, reached, back = [sign * value for value in course.turned], bounds.turned_by, bounds.back_within
    height = int(np.argmax(values))
    before, after = values[:height], values[height + 1 :]
    if values[height] >= reached and before and after and min(before) <= back and min(after) <= back:
        return height
    return None


def _acts_missing(course: _Course, acts: Sequence[Act], bounds: Bounds) -> list[Reason]:
    heights = [_seen_at(course, act, bounds) for act in acts]
    missing = [NOT_SEEN[act] for act, height in zip(acts, heights, strict=True) if height is None]
    if missing:
        return missing
    found = [height for height in heights if height is not None]
    reasons = [] if all(one < other for one, other in pairwise(found)) else [Reason.WRONG_ORDER]
    turns = [(act, height) for act, height in zip(acts, found, strict=True) if act in (Act.TURN_LEFT, Act.TURN_RIGHT)]
    if not all(_steady(course, act, height, bounds) for act, height in turns):
        reasons.append(Reason.JUMPED)
    return reasons


def _steady(course: _Course, act: Act, height: int, bounds: Bounds) -> bool:
    """Whether the head went from rest to the height of the turn by and by, and never back on its way."""
    sign = 1 if act is Act.TURN_LEFT else -1
    values = [sign * value for value in course.turned]
    began = max(index for index in range(height) if values[index] <= bounds.back_within)
    way = values[began : height + 1]
    return len(way) >= 3 and all(-bounds.unsteady <= later - earlier <= bounds.jump for earlier, later in pairwise(way))


def _unasked(course: _Course, acts: Sequence[Act], bounds: Bounds) -> list[Reason]:
    """People blink unasked; they do not turn away or open their mouths."""
    others = (act for act in Act if act not in acts and act is not Act.BLINK)
    return [Reason.OTHER_ACT] if any(_seen_at(course, act, bounds) is not None for act in others) else []


def _one_person(frames: Sequence[Frame], course: _Course, bounds: Bounds) -> list[Reason]:
    """Every frame against those at rest, and against the one before it: an exchange shows in either."""
    resting = [abs(by) <= bounds.back_within for by in course.turned]
    vectors = np.stack([frame.vector for frame in frames])
    rest = vectors[:2].mean(axis=0)
    rest /= np.linalg.norm(rest) or 1.0
    alike = vectors @ rest
    neighbours = (vectors[1:] * vectors[:-1]).sum(axis=1)
    needed = np.where(resting, bounds.same, bounds.same_turned)
    same = bool((alike >= needed).all() and (neighbours >= bounds.same_next).all())
    return [] if same else [Reason.OTHER_PERSON]
