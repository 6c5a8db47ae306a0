"""Error rates of one person against one (1:1), and of a stranger before a gallery (1:N), with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np

from bench.biometrics.interval import clopper_pearson
from kinpay.faces.pipeline import mean_vector
from kinpay.faces.port import Thresholds, Vectors

DRAWS: Final = 10
SIZES: Final = (5, 10, 20, 29, 50, 100, 200, 500, 1000)
FAR: Final = (100, 300, 1000, 10_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`hits` of `trials`; where there were several draws, of one on average. The interval takes trials for independent."""

    hits: float
    trials: float
    rate: float
    low: float
    high: float


def rate_of(hits: float, trials: float, *, draws: int = 1) -> Rate:
    """Of counts that were pooled over `draws` of the same pictures, which tell no more than one draw does."""
    hits, trials = hits / draws, trials / draws
    low, high = clopper_pearson(hits, trials)
    return Rate(hits=hits, trials=trials, rate=hits / trials if trials else 0.0, low=low, high=high)


@dataclass(frozen=True, slots=True)
class Kind:
    """How many pictures are enrolled and how many presented, and from which score on they are one person's."""

    enrolled: int
    presented: int
    line: float
    line_many: float


def kinds(lines: Thresholds) -> tuple[Kind, ...]:
    """The three that the product knows. Between one and three of a side, the line of 1:N for single pictures is taken."""
    return (
        Kind(1, 1, lines.one_to_one, lines.one_to_many),
        Kind(3, 1, lines.one_to_many, lines.one_to_many),
        Kind(3, 3, lines.means, lines.means),
    )


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Enrolled templates in the order of `names`; presented ones, each with the number of its person."""

    enrolled: Vectors
    presented: Vectors
    owner: np.ndarray[Any, np.dtype[np.int_]]


def _draws(vectors: dict[str, Vectors], kind: Kind, count: int) -> Iterator[_Drawn]:
    """Each time other pictures of each person are enrolled; the rest is presented, none twice."""
    chance = np.random.default_rng(7)
    enough = [each for _, each in sorted(vectors.items()) if len(each) >= kind.enrolled + kind.presented]
    for _ in range(count):
        enrolled, presented, owner = [], [], []
        for number, each in enumerate(enough):
            shuffled = each[chance.permutation(len(each))]
            enrolled.append(mean_vector(shuffled[: kind.enrolled]))
            for first in range(kind.enrolled, len(shuffled) - kind.presented + 1, kind.presented):
                presented.append(mean_vector(shuffled[first : first + kind.presented]))
                owner.append(number)
        if enrolled:
            yield _Drawn(np.stack(enrolled), np.stack(presented), np.array(owner))


def one_to_one(vectors: dict[str, Vectors], kind: Kind) -> dict[str, Any]:
    """False non-matches and false matches at the line. One picture against one: all pairs; means: ten draws."""
    own_scores, other_scores, draws = _pairs(vectors) if kind.enrolled == kind.presented == 1 else _drawn_scores(vectors, kind)
    missed, false = int((own_scores < kind.line).sum()), int((other_scores >= kind.line).sum())
    return {
        "enrolled": kind.enrolled,
        "presented": kind.presented,
        "threshold": kind.line,
        "fnmr": asdict(rate_of(missed, len(own_scores), draws=draws)),
        "fmr": asdict(rate_of(false, len(other_scores), draws=draws)),
        "lowest_own": float(own_scores.min(initial=1.0)),
        "highest_other": float(other_scores.max(initial=-1.0)),
        "fmr_if_normal": _tail(kind.line, other_scores),
    }


def _pairs(vectors: dict[str, Vectors]) -> tuple[Vectors, Vectors, int]:
    own = [(each @ each.T)[np.triu_indices(len(each), 1)] for each in vectors.values()]
    other = [(one @ another.T).ravel() for one, another in combinations(vectors.values(), 2)]
    return np.concatenate(own or [np.empty(0)]), np.concatenate(other or [np.empty(0)]), 1


def _drawn_scores(vectors: dict[str, Vectors], kind: Kind) -> tuple[Vectors, Vectors, int]:
    own, other = [np.empty(0)], [np.empty(0)]
    for drawn in _draws(vectors, kind, DRAWS):
        scores = drawn.presented @ drawn.enrolled.T
        mine = drawn.owner[:, None] == np.arange(len(drawn.enrolled))[None]
        own.append(scores[mine])
        other.append(scores[~mine])
    return np.concatenate(own), np.concatenate(other), DRAWS


def _tail(line: float, scores: Vectors) -> float:
    """The share above the line, were the scores of strangers distributed normally: a guess, and told as one."""
    if len(scores) < 2:
        return 1.0
    away = (line - float(scores.mean())) / max(1e-9, float(scores.std()))
    return 0.5 * math.erfc(away / math.sqrt(2))


def one_to_many(vectors: dict[str, Vectors], kind: Kind, margin: float) -> list[dict[str, Any]]:
    """Strangers and enrolled people before galleries of several sizes, each person being the stranger in turn."""
    people = sum(len(each) >= kind.enrolled + kind.presented for each in vectors.values())
    sizes = sorted({size for size in SIZES if size < people - 1} | ({people - 1} if people > 1 else set()))
    return [_gallery(vectors, kind, margin, size) for size in sizes]


def _gallery(vectors: dict[str, Vectors], kind: Kind, margin: float, size: int) -> dict[str, Any]:
    chance = np.random.default_rng(11)
    strangers = accepted = known = found = mistaken = 0
    for drawn in _draws(vectors, kind, DRAWS):
        scores = drawn.presented @ drawn.enrolled.T
        for row, owner in zip(scores, drawn.owner, strict=True):
            others = np.delete(np.arange(len(drawn.enrolled)), owner)
            gallery = chance.choice(others, size, replace=False)
            strangers += 1
            accepted += _answer(row[gallery], gallery, kind.line_many, margin) is not None
            with_own = np.append(gallery[1:], owner)
            answer = _answer(row[with_own], with_own, kind.line_many, margin)
            known += 1
            found += answer == owner
            mistaken += answer is not None and answer != owner
    return {
        "enrolled": kind.enrolled,
        "presented": kind.presented,
        "threshold": kind.line_many,
        "margin": margin,
        "gallery": size,
        "false_accepts_of_strangers": asdict(rate_of(accepted, strangers, draws=DRAWS)),
        "stepped_up_of_enrolled": asdict(rate_of(known - found - mistaken, known, draws=DRAWS)),
        "mistaken_of_enrolled": asdict(rate_of(mistaken, known, draws=DRAWS)),
    }


def _answer(scores: Vectors, who: np.ndarray[Any, np.dtype[np.int_]], line: float, margin: float) -> int | None:
    """Who it is, if the first is above the line and far enough before the second."""
    order = np.argsort(-scores)
    second = float(scores[order[1]]) if len(order) > 1 else -1.0
    first = float(scores[order[0]])
    return int(who[order[0]]) if first >= line and first - second >= margin else None


def computed(row: dict[str, Any], sizes: Sequence[int] = FAR) -> list[dict[str, Any]]:
    """The chance that a stranger is taken for somebody in larger galleries. Computed, not measured: see the names."""
    return [
        {
            "gallery": size,
            "at_most_by_this_run": 1 - (1 - row["fmr"]["high"]) ** size,
            "if_scores_were_normal": -math.expm1(size * math.log1p(-min(row["fmr_if_normal"], 1 - 1e-12))),
        }
        for size in sizes
    ]
