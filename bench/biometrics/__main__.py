"""`python -m bench.biometrics`: measures the face model in use on a folder of pictures, writes the report."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench.biometrics.page import write_page
from bench.biometrics.people import Gathered, gather
from bench.biometrics.rates import computed, kinds, one_to_many, one_to_one
from bench.machine import describe_machine
from kinpay.faces.engine import installed_folder, open_engine
from kinpay.faces.port import ModelCard
from kinpay.faces.registry import DEFAULT_FACE_MODEL, FACE_MODELS

ORL = Path("..") / "shared" / "data" / "orl_faces"
FNMR_BAR = 0.01
SECONDS_BAR = 0.060


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured; with the usual pictures, also: within the bars. 1: not. 2: there are no pictures."""
    asked = _parser().parse_args(arguments)
    folder: Path = asked.pictures or Path(os.environ.get("PICTURES") or ORL)
    if not folder.is_dir():
        print(
            f"there are no pictures in {folder}: PICTURES=DIR names a folder with one folder of pictures a person "
            "(the ORL faces, for example; they are not part of this project)",
            file=sys.stderr,
        )
        return 2
    card = FACE_MODELS[asked.model].card
    gathered = gather(open_engine(asked.models, asked.model), folder)
    if len(gathered.vectors) < 2:
        print(f"{folder} has faces of {len(gathered.vectors)} people; two are needed at least", file=sys.stderr)
        return 2
    report = _report(card, gathered, asked.source or folder.name)
    out: Path = asked.out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if asked.page:
        write_page(asked.page, report)
    _tell(report, out)
    return 0 if all(report["bars"].values()) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.biometrics", description="Faces: found, error rates, seconds.")
    parser.add_argument(
        "--pictures", type=Path, help="a folder with one folder of pictures a person ($PICTURES; the ORL faces)"
    )
    parser.add_argument("--source", help="what to call these pictures in the report (the folder's name)")
    parser.add_argument("--model", choices=sorted(FACE_MODELS), default=DEFAULT_FACE_MODEL, help="the face model")
    parser.add_argument("--models", type=Path, default=installed_folder(), help="the folder of models")
    parser.add_argument("--out", type=Path, default=Path("build") / "biometrics.json", help="the report")
    parser.add_argument("--page", type=Path, help="a page with marks, whose tables are written anew (docs/biometrics.md)")
    return parser


def _report(card: ModelCard, gathered: Gathered, source: str) -> dict[str, Any]:
    ways = kinds(card.thresholds)
    singles = [one_to_one(gathered.vectors, kind) for kind in ways]
    many = [row for kind in ways for row in one_to_many(gathered.vectors, kind, card.thresholds.margin)]
    wall, processor = np.array(gathered.wall_s), np.array(gathered.processor_s)
    means = singles[-1]
    strangers = [row["false_accepts_of_strangers"]["hits"] for row in many if row["enrolled"] == row["presented"] == 3]
    return {
        "command": shlex.join(["python", "-m", "bench.biometrics", *sys.argv[1:]]),
        "made_at": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": describe_machine("none"),
        "model": card.model_id,
        "pictures": {
            "source": source,
            "people": len(gathered.vectors),
            "pictures": gathered.pictures,
            "found": gathered.pictures - len(gathered.not_found),
            "not_found": gathered.not_found,
        },
        "one_to_one": singles,
        "one_to_many": many,
        "computed": computed(means),
        "speed": {
            "wall_ms_p50": float(np.median(wall) * 1e3),
            "wall_ms_p95": float(np.quantile(wall, 0.95) * 1e3),
            "processor_ms_p50": float(np.median(processor) * 1e3),
            "processor_ms_p95": float(np.quantile(processor, 0.95) * 1e3),
            "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        },
        "bars": {
            "every picture found": not gathered.not_found,
            "no stranger accepted, three and three": not any(strangers) and not means["fmr"]["hits"],
            "FNMR at most 1 %, three and three": means["fnmr"]["rate"] <= FNMR_BAR,
            "at most 60 ms of processor a picture": float(np.median(processor)) <= SECONDS_BAR,
        },
    }


def _tell(report: dict[str, Any], out: Path) -> None:
    pictures, speed = report["pictures"], report["speed"]
    print(f"found {pictures['found']} of {pictures['pictures']} pictures of {pictures['people']} people")
    for row in report["one_to_one"]:
        print(
            f"{row['enrolled']} enrolled, {row['presented']} presented, line {row['threshold']}: "
            f"FNMR {row['fnmr']['rate']:.2%} (to {row['fnmr']['high']:.2%}), "
            f"FMR {row['fmr']['rate']:.4%} (to {row['fmr']['high']:.4%})"
        )
    print(f"{speed['processor_ms_p50']:.0f} ms of processor a picture, {speed['rss_mib']} MiB")
    for bar, kept in report["bars"].items():
        print(f"{'ok   ' if kept else 'FAILS'} {bar}")
    print(f"the report is in {out}")


if __name__ == "__main__":
    sys.exit(main())
