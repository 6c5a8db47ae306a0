"""`docs/biometrics-arithmetic.md` and its picture: how sure a face has to be, worked out by the code that decides.

Drawn and written by `make documents`; a test compares, so the table is what `kinpay.biometrics.matcher` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

from kinpay.biometrics.curves import FACEPLUGIN, MEANS, SINGLES, Comparison, Shipped
from kinpay.biometrics.false_match import Curve, largest_gallery
from kinpay.biometrics.matcher import FACE_SAYS, Tolerance, Way, demanded
from kinpay.primitives.money import Money
from kinpay.server.documents import MADE

AMOUNTS: Final = (1_400, 5_000, 20_000, 100_000)
SIZES: Final = (1, 10, 40, 60, 300, 1_000, 10_000)
_USUAL: Final = Tolerance()

INTRODUCTION: Final = """# How sure a face has to be

{made}

Part of [what is decided about faces](decisions/0014-rotations-and-galleries.md); what is kept and for how long says
[privacy.md](privacy.md).
Whoever is not enrolled may by chance be taken for somebody who is. This page says how often, what follows from it for the
till, and what the figures do not say.
The tables are made by the code that decides, `kinpay/biometrics/matcher.py`; the curve by `kinpay/biometrics/curves.py`.

## The arithmetic

1. **One comparison.** Of *n* comparisons of two different people *x* came out at the threshold *t* or above. The rate lies
   below the upper end *U(t)* of the two-sided 95 % interval of Clopper and Pearson: the *p* with P(X ≤ x | n, p) = 2.5 %.
   It is computed from *x* and *n* (`false_match.upper_bound`); nobody typed it in.
2. **Between measured thresholds** the lower one's bound holds, above the last the last one's. Nothing is interpolated in
   our favour and nothing extrapolated.
3. **A gallery of N templates.** bound(t, N) = 1 − (1 − U(t))^N.
4. **The amount.** permitted(a) = bound per attempt × min(1, reference / a): {bound:g} up to the reference amount of the
   currency ({references}), in proportion less above it, so that what an attempt may cost a wrong circle on average does not
   grow. In a currency without one no face pays alone. `KINPAY_FACE_BOUND` and `KINPAY_FACE_REFERENCE` set both.
5. **The face alone pays** from the lowest threshold *t* on, not below the shipped one, at which bound(t, N) ≤ permitted(a).
6. **With a PIN** of {digits} digits, one go each time that somebody looks into the camera ({guess:g}), from the lowest *t*,
   not more than {band:g} below the shipped one, at which bound(t, N) × {guess:g} ≤ permitted(a), and bound(t, N) ≤ {says:g}
   whatever the PIN: people choose theirs, so none stands in for a face that says nothing. The simplest are refused when
   they are chosen.
7. **A code or a card** says alone who pays, and needs no face.
8. **Two accounts within {margin:g} of each other** (twins, siblings): the face counts for nothing, and a PIN has to be sure
   enough alone, times the other accounts: whoever stands there is one of them and knows their own. A third of their kin,
   who is not enrolled, would have one chance more.
9. **What a till hears** where the face alone does not pay depends on N and the amount only: the same words whether somebody
   was near or nobody. Only twins hear that a PIN is not enough.
"""

DOUBTS: Final = """
## What these figures do not say

- They were measured on press photographs of adults ({source}). **Not measured**: children, the very old, months between
  enrolment and use, masks, darker skin in little light, three frames of one burst, 1 + 3 and 3 + 1 pictures, any other
  model. Without a measured curve a face never pays alone; it only asks.
- **Comparisons are not independent.** {caution} With every two people counted once, the bound at {threshold:g} would be
  {strict:.1e} instead of {upper:.1e}, and a face alone would pay among {strict_size} people at most instead of {size}.
  Whoever wants it so sets `KINPAY_FACE_BOUND` to a {factor:.0f}th.
- Labels of that collection are partly wrong (one person under two names), which makes single pictures look worse than they
  are.
- A stranger who tries again has another go: the bound is per attempt; lock-outs bound the attempts.
- Twins, siblings and whoever holds up a picture are no strangers by chance: for the first there is the margin, for the last
  liveness, and neither is in these figures.
"""


def arithmetic() -> str:
    """`docs/biometrics-arithmetic.md`."""
    references = ", ".join(f"{Money(minor, currency).shown()} {currency}" for currency, minor in _USUAL.reference.items())
    means, singles = FACEPLUGIN[MEANS], FACEPLUGIN[SINGLES]
    pin = _USUAL.pin
    parts = [
        INTRODUCTION.format(
            made=MADE, bound=_USUAL.bound, references=references, digits=pin.digits, guess=pin.guess,
            says=FACE_SAYS, band=means.band, margin=means.margin,
        ),
        "\n## What is asked for\n\nThree enrolled pictures, three frames; the model that is shipped; a face that is seen well. "
        "*.55*: the face alone from that cosine on. Else: what has to be added.\n",
        "\n".join(_asked(means)),
        "\n\nSomebody who first said who they are (the last digits of a number, one picture against one) is a gallery of one, "
        "at its own threshold:\n",
        "\n".join(_asked(Shipped(threshold=singles.one_to_one, one_to_one=singles.one_to_one, duplicate=singles.duplicate,
                                 curve=singles.curve), sizes=(1, 3, 10))),
        "\n\n## The measured curve\n\n![False matches by threshold](biometrics-curve.svg)\n",
        *(_measured(comparison, how) for comparison, how in FACEPLUGIN.items()),
        _doubts(means),
    ]  # fmt: skip
    return "\n".join("".join(parts).splitlines()) + "\n"


def _asked(how: Shipped, *, sizes: tuple[int, ...] = SIZES) -> Iterator[str]:
    yield ""
    yield "| amount | permitted | " + " | ".join(f"N = {size:,}" for size in sizes) + " |"
    yield "|---" * (len(sizes) + 2) + "|"
    for minor in AMOUNTS:
        amount = Money(minor, "CNY")
        cells = [cell(how, size, amount) for size in sizes]
        yield f"| {amount.shown()} CNY | {_USUAL.permitted(amount):.1e} | " + " | ".join(cells) + " |"


def cell(how: Shipped, size: int, amount: Money) -> str:
    """What is asked of somebody who is enrolled and seen well."""
    demand = demanded(how, size=size, amount=amount, tolerance=_USUAL)
    if demand.threshold is not None:
        return f"{demand.threshold:.2f}".lstrip("0")
    if Way.PIN in demand.asks:
        return f"PIN (from {demand.pin_from:.2f})".replace("0.", ".")
    return "code or card"


def _measured(comparison: Comparison, how: Shipped) -> str:
    assert how.curve is not None, "what is shipped was measured"
    lines = [
        "",
        f"{comparison.enrolled} + {comparison.frames} pictures, shipped threshold {how.threshold:g}. {how.curve.source}.",
        "",
        "| threshold | false matches | of | seen | 95 % upper bound | most people at 1 in 10,000 |",
        "|---|---|---|---|---|---|",
    ]
    for point in how.curve.points:
        size = largest_gallery(point.upper, _USUAL.bound)
        counts = f"{point.false_matches:,} | {point.comparisons:,}"
        lines.append(f"| {point.threshold:.2f} | {counts} | {point.rate:.1e} | {point.upper:.2e} | {size} |")
    return "\n".join(lines) + "\n"


def _doubts(how: Shipped) -> str:
    assert how.curve is not None, "what is shipped was measured"
    upper, strict = how.curve.upper(how.threshold), how.curve.strict_upper(how.threshold)
    return DOUBTS.format(
        source=how.curve.source, caution=how.curve.caution, threshold=how.threshold, strict=strict, upper=upper,
        strict_size=largest_gallery(strict, _USUAL.bound), size=largest_gallery(upper, _USUAL.bound), factor=strict / upper,
    )  # fmt: skip


_WIDE, _HIGH, _LEFT, _TOP = 720, 420, 70, 30
_FROM, _TO, _DECADES = 0.25, 0.65, 8


def _x(threshold: float) -> float:
    return _LEFT + (threshold - _FROM) / (_TO - _FROM) * (_WIDE - _LEFT - 20)


def _y(rate: float) -> float:
    return _TOP - math.log10(max(rate, 10.0**-_DECADES)) / _DECADES * (_HIGH - _TOP - 50)


def curve() -> str:
    """`docs/biometrics-curve.svg`: what was seen (dots) and the bound that is used (steps), rates in powers of ten."""
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDE} {_HIGH}" font-family="sans-serif" font-size="12">',
        "<title>False matches by threshold: seen, and the 95 % upper bound that is used</title>",
        f'<rect width="{_WIDE}" height="{_HIGH}" fill="#fff"/>',
    ]
    for decade in range(_DECADES + 1):
        at = _y(10.0**-decade)
        drawn.append(f'<path d="M{_LEFT} {at:.1f}H{_WIDE - 20}" stroke="#ddd"/>')
        drawn.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">1e-{decade}</text>')
    for step in range(9):
        threshold = _FROM + step * 0.05
        drawn.append(f'<text x="{_x(threshold):.1f}" y="{_HIGH - 32}" text-anchor="middle">{threshold:.2f}</text>')
    drawn.append(f'<text x="{(_WIDE + _LEFT) / 2:.0f}" y="{_HIGH - 10}" text-anchor="middle">cosine threshold</text>')
    for number, (comparison, colour) in enumerate(((SINGLES, "#b35900"), (MEANS, "#0b5cad"))):
        how = FACEPLUGIN[comparison]
        assert how.curve is not None, "what is shipped was measured"
        drawn += _line(how.curve, colour)
        label = f"{comparison.enrolled} + {comparison.frames} pictures: dots seen, steps the 95 % upper bound"
        drawn.append(f'<text x="{_WIDE - 24}" y="{_TOP + 14 + 16 * number}" text-anchor="end" fill="{colour}">{label}</text>')
    return "\n".join([*drawn, "</svg>"]) + "\n"


def _line(measured: Curve, colour: str) -> Iterator[str]:
    points = measured.points
    path = f"M{_x(points[0].threshold):.1f} {_y(points[0].upper):.1f}"
    for point in points[1:]:
        path += f"H{_x(point.threshold):.1f}V{_y(measured.upper(point.threshold)):.1f}"
    yield f'<path d="{path}H{_x(_TO):.1f}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for point in points:
        if point.false_matches:
            yield f'<circle cx="{_x(point.threshold):.1f}" cy="{_y(point.rate):.1f}" r="4" fill="{colour}"/>'
        else:
            yield f'<text x="{_x(point.threshold):.1f}" y="{_y(0):.1f}" text-anchor="middle" fill="{colour}">0 seen</text>'
