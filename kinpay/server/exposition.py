"""Prometheus' text format, version 0.0.4: metrics of samples in, text out.

Source: prometheus.io, "Exposition formats". Ours are few lines; a client library would bring counters with locks and labels
built for each request, where the hot path has plain integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from kinpay.primitives.tally import Histogram

MEDIA_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]


@dataclass(slots=True)
class Metric:
    """One metric: its name, what it means, and what it is now for each set of labels."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    samples: list[tuple[str, Labels, float]] = field(default_factory=list)
    """What is appended to the name, labels, value."""

    def add(self, value: float | None, **labels: str) -> Metric:
        """Adds a sample; None is not known now, and is left out."""
        if value is not None:
            self.samples.append(("", labels, value))
        return self

    def add_histogram(self, seen: Histogram, **labels: str) -> Metric:
        """Adds a histogram: what was at most each bound, counted together, then the sum and the number."""
        below = 0
        for bound, count in zip((*seen.bounds, math.inf), seen.counts, strict=True):
            below += count
            self.samples.append(("_bucket", {**labels, "le": _number(bound)}, below))
        self.samples += [("_sum", labels, seen.total), ("_count", labels, below)]
        return self


def written(metrics: Iterable[Metric]) -> bytes:
    """The text of all metrics, in their order."""
    return "".join(line + "\n" for metric in metrics for line in _lines(metric)).encode()


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {_escaped(metric.meaning)}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for suffix, labels, value in metric.samples:
        yield f"{metric.name}{suffix}{_labels(labels)} {_number(value)}"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value, quoted=True)}"' for name, value in labels.items()) + "}"


def _escaped(text: str, *, quoted: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quoted else text


def _number(value: float) -> str:
    if value == math.inf:
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
