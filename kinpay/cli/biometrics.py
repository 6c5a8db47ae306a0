"""`biometrics check`: which models there are, what is known of them, and whether they run here."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from kinpay.cli.command import Commands, command, group
from kinpay.faces.check import Checked, check_model
from kinpay.faces.registry import FACE_MODELS
from kinpay.server.settings import Settings


def add_to(commands: Commands) -> None:
    """Enters the commands of this file."""
    inner = group(commands, "biometrics", summary="look after what recognises people")
    command(
        inner,
        "check",
        _check,
        summary="say which models are installed, their licence and error rates, and whether they run here; exit status 0 only "
        "if the one in use does",
        example="kinpay biometrics check",
    )


def _check(asked: argparse.Namespace, settings: Settings) -> int:
    usable = False
    for name, model in FACE_MODELS.items():
        found = check_model(model, settings.models)
        print("\n".join(_told(found, in_use=name == settings.face_model)), end="\n\n")
        usable = usable or (name == settings.face_model and not found.wrong)
    print(f"models are in {settings.models}")
    print(
        "A face is never certain. What was measured is not what will happen at your tills: measure with your own pictures\n"
        "(make bench-biometrics PICTURES=DIR), and read docs/biometrics.md before real money."
    )
    return 0 if usable else 1


def _told(found: Checked, *, in_use: bool) -> Iterator[str]:
    card = found.card
    yield f"{card.name}{'  (in use)' if in_use else ''}"
    yield f"  is          a model of the {card.modality}, {card.dimensions} dimensions, {card.model_id}"
    yield f"  from        {card.package}"
    yield f"  licence     {card.licence}"
    yield f"  caution     {card.caution}"
    for path, state in found.files.items():
        yield f"  file        {'ok   ' if state == 'right' else 'WRONG'} {path}{'' if state == 'right' else f': {state}'}"
    lines = card.thresholds
    yield (
        f"  thresholds  {lines.one_to_one} one to one, {lines.one_to_many} one to many, {lines.means} means of three; "
        f"step up {lines.step_up} below; margin {lines.margin}"
    )
    for one in card.measured:
        yield f"  measured    {one.rate}: {one.value} ({one.conditions}; {one.source})"
    if found.load_s is not None and found.face_s is not None:
        yield (
            f"  runs here   {'no' if found.wrong else 'yes'}: {found.load_s:.2f} s to load, "
            f"{found.face_s:.3f} s of processor a face"
        )
    for sentence in found.wrong:
        yield f"  WRONG       {sentence}"
