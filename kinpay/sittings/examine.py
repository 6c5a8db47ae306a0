"""What a camera saw, looked at in order: is it a picture, one face and good enough, one person, the acts, somebody real; and
then the three best frames become a sample. For a thread: pictures come in, a vector goes out, and nothing else stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kinpay.biometrics.template import Modality, Sample, read_sample
from kinpay.faces.engine import Engine
from kinpay.faces.liveness import Act, Frame, Outcome, Reason, judge
from kinpay.faces.passive import passive_score
from kinpay.faces.picture import decode
from kinpay.faces.pipeline import Face, look
from kinpay.faces.port import Vectors
from kinpay.faces.quality import ENROLMENT, RECOGNITION, Advice, Quality, advise, measure
from kinpay.sittings.frames import Taken

TEMPLATE_PICTURES: Final = 3
"""How many good frames make a sample: the thresholds were measured for the mean of three."""
OF_ACTING: Final = frozenset({Advice.LOOK_HERE, Advice.HEAD_UPRIGHT, Advice.HOLD_STILL})
"""What is said of a head that moves as it was asked to."""
_HONEST: Final = frozenset({Reason.FEW_FRAMES, Reason.NOT_AT_REST})


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """`sample`: None where nothing follows from the frames; then `reasons` say why, and `advice` what to do better.

    `badly_taken`: nothing was attempted, it only has to be done again. `flat_perhaps`: they may be pictures of a picture.
    """

    sample: Sample | None
    reasons: tuple[str, ...] = ()
    advice: tuple[Advice, ...] = ()
    badly_taken: bool = False
    flat_perhaps: bool = False


def examine(engine: Engine, frames: Sequence[Taken], acts: tuple[Act, Act], *, enrolling: bool) -> Examined:
    """Looks at every frame. About 40 ms each.

    Raises: Invalid for what is no picture.
    """
    demands = ENROLMENT if enrolling else RECOGNITION
    seen: list[tuple[Face, Quality]] = []
    watched: list[Frame] = []
    advice: list[tuple[Advice, ...]] = []
    for frame in frames:
        picture = decode(frame.picture.open())
        face = look(engine, picture)
        quality = None if face is None else measure(face)
        advice.append(advise(quality, demands))
        if face is None or quality is None or face.similar:
            # Without a face, or with two, nobody can say whose acts the others show.
            return _badly_taken(advice[-1:])
        seen.append((face, quality))
        at_s = (frame.at_ms - frames[0].at_ms) / 1000
        passive = passive_score(engine.passive, picture, face.box)
        watched.append(Frame(at_s=at_s, points=face.points, vector=face.vector, passive=passive))
    if sum(not said for said in advice) < TEMPLATE_PICTURES:
        return _badly_taken(advice)
    verdict = judge(watched, acts)
    if verdict.outcome is Outcome.REFUSED or (enrolling and verdict.outcome is Outcome.STEP_UP):
        # Where somebody is enrolled there is nothing to step up to: what is doubtful is done again.
        reasons = tuple(str(reason) for reason in verdict.reasons)
        return Examined(sample=None, reasons=reasons, badly_taken=_HONEST.issuperset(verdict.reasons))
    sample = read_sample(_best(seen, advice), model_id=engine.embedder.model_id, modality=Modality.FACE)
    return Examined(sample=sample, flat_perhaps=verdict.outcome is Outcome.STEP_UP)


def look_once(engine: Engine, picture: bytes, *, enrolling: bool) -> tuple[Advice, ...]:
    """What a person should do better before the acts begin; empty if it is good. Raises: Invalid."""
    face = look(engine, decode(picture))
    return advise(None if face is None else measure(face), ENROLMENT if enrolling else RECOGNITION)


def _lasting(said: Sequence[Advice]) -> list[Advice]:
    """What is wrong apart from the movement that was asked for."""
    return [advice for advice in said if advice not in OF_ACTING]


def _badly_taken(advice: Sequence[Sequence[Advice]]) -> Examined:
    """What was wrong most often, first."""
    counted = Counter(one for said in advice for one in (_lasting(said) or said))
    often = tuple(one for one, _ in counted.most_common(3))
    return Examined(sample=None, reasons=tuple(str(one) for one in often), advice=often, badly_taken=True)


def _best(seen: Sequence[tuple[Face, Quality]], advice: Sequence[Sequence[Advice]]) -> list[Vectors]:
    """The vectors of the three frames that look straightest, of those of which nothing bad is said."""
    good = [(abs(quality.turn), place) for place, (_, quality) in enumerate(seen) if not advice[place]]
    return [seen[place][0].vector for _, place in sorted(good)[:TEMPLATE_PICTURES]]
