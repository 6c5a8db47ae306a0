"""Acts from still pictures: a photograph cannot blink, so acts are *warped* from the points of its face.

For the demo and the tests, where nobody stands before a camera. What it makes is no evidence that real acts are recognised or
that attacks are not; it only lets the whole way be walked. The server knows nothing of it and has no switch for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kinpay.faces.landmarks import CHIN, LEFT_EYE, NOSE_TIP, RIGHT_EYE, Points, five_points
from kinpay.faces.liveness import Act
from kinpay.faces.picture import window
from kinpay.faces.port import Picture

REACH: Final = 1.4
"""How far around the face pixels are moved, in sides of it; at the edge of that nothing moves."""
DARK: Final = np.array([38, 18, 20], np.float32)
"""The inside of a mouth."""


def acted(picture: Picture, points: Points, acts: Sequence[Act], *, steps: int = 4) -> Iterator[Picture]:
    """Frames of a person who does `acts` in turn, each from rest to its height and back in `steps` steps each way."""
    yield picture
    yield picture
    for act in acts:
        for amount in (*np.linspace(0, 1, steps + 1)[1:], *np.linspace(1, 0, steps + 1)[1:]):
            yield warp(picture, points, act, float(amount)) if amount else picture
    yield picture


def warp(picture: Picture, points: Points, act: Act, amount: float) -> Picture:
    """The picture with its face in the midst of an act; `amount` from 0 (at rest) to 1 (as far as people do it)."""
    match act:
        case Act.BLINK:
            return _eye_closed(_eye_closed(picture, points[LEFT_EYE], amount), points[RIGHT_EYE], amount)
        case Act.OPEN_MOUTH:
            target = _open_mouth(points, amount)
            return _darkened(_moved(picture, points, target), target[60:68], amount)
        case Act.TURN_LEFT:
            return _moved(picture, points, _turn(points, amount))
        case Act.TURN_RIGHT:
            return _moved(picture, points, _turn(points, -amount))


def _eye_closed(picture: Picture, eye: Points, amount: float) -> Picture:
    """What is between the lids is pressed together towards the lower lid; the skin around is stretched after it."""
    outer, inner = eye[0], eye[3]
    half = float(np.linalg.norm(inner - outer)) / 2
    along = (inner - outer) / (2 * half)
    upright = np.array([-along[1], along[0]], np.float32)
    middle = eye.mean(axis=0) * 0.4 + eye[[4, 5]].mean(axis=0) * 0.6
    reach = round(half * 2)
    left, top = round(float(middle[0])) - reach, round(float(middle[1])) - reach
    columns, rows = np.meshgrid(np.arange(2 * reach), np.arange(2 * reach))
    offset = np.stack((columns, rows), axis=-1).astype(np.float32) + np.array([left, top], np.float32) - middle
    across, down = offset @ along / (1.25 * half), offset @ upright
    opened = np.abs((eye[[1, 2, 4, 5]] - middle) @ upright).max() * 1.6
    pressed = 1 - 0.95 * amount * np.maximum(0, 1 - across**2)
    far = np.abs(down)
    stretched = opened + (far - opened * pressed) * (half - opened) / np.maximum(1e-3, half - opened * pressed)
    source = np.where(far <= opened * pressed, far / pressed, np.where(far < half, stretched, far)) * np.sign(down)
    places = np.stack((columns, rows), axis=-1) + ((source - down)[..., None] * upright)
    return _put_back(picture, _sampled(window(picture, left, top, left + 2 * reach, top + 2 * reach), places), left, top)


def _open_mouth(points: Points, amount: float) -> Points:
    """The lower lip and the chin go down."""
    target = points.copy()
    left, right, *_ = five_points(points)
    down = (points[CHIN] - (left + right) / 2) * 0.3 * amount
    target[[55, 56, 57, 58, 59, 65, 66, 67]] += down
    target[[6, 7, 8, 9, 10]] += down * 0.8
    return target


def _turn(points: Points, amount: float) -> Points:
    """A head is taken for half an ellipsoid with a nose on it, and turned about its upright axis by up to 30°."""
    target = points.copy()
    left, right, *_ = five_points(points)
    centre = (left + right + points[CHIN] * 1.0) / 3
    half = float(np.linalg.norm(points[16] - points[0])) / 2
    across, down = ((points - centre) / half).T
    depth = np.sqrt(np.maximum(0, 1 - across**2 - (down / 1.5) ** 2)) * 0.8
    depth[27:36] += np.array([0.1, 0.2, 0.3, 0.4, 0.15, 0.15, 0.2, 0.15, 0.15])
    angle = np.radians(30 * amount)
    target[:, 0] = centre[0] + half * (across * np.cos(angle) + depth * np.sin(angle))
    return target


def _moved(picture: Picture, source: Points, target: Points) -> Picture:
    """Every pixel near the face is looked up where a thin plate through the points says it came from."""
    middle = source[NOSE_TIP]
    reach = round(float(np.ptp(source[:17], axis=0).max()) * REACH)
    left, top = (round(float(value)) - reach for value in middle)
    around = window(picture, left, top, left + 2 * reach, top + 2 * reach)
    edge = np.array([[x, y] for x in (0, 0.5, 1) for y in (0, 0.5, 1) if (x, y) != (0.5, 0.5)], np.float32) * (2 * reach - 1)
    origin = np.array([left, top], np.float32)
    here, there = np.vstack((target - origin, edge)), np.vstack((source - origin, edge))
    step = max(1, reach // 60)
    coarse = np.arange(0, 2 * reach + step, step, dtype=np.float32)
    grid = np.stack(np.meshgrid(coarse, coarse), axis=-1)
    from_where = _plate(here, there, grid.reshape(-1, 2)).reshape(grid.shape)
    fine = _enlarged(from_where, step, 2 * reach)
    moved = _sampled(around, fine)
    return _put_back(picture, moved, left, top)


def _put_back(picture: Picture, part: Picture, left: int, top: int) -> Picture:
    """The picture with a part of it replaced; what of the part lies outside is dropped."""
    whole = picture.copy()
    height, width = picture.shape[:2]
    rows, columns = slice(max(0, top), min(height, top + len(part))), slice(max(0, left), min(width, left + part.shape[1]))
    whole[rows, columns] = part[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return whole


def _plate(at: NDArray[np.float32], values: NDArray[np.float32], asked: NDArray[np.float32]) -> NDArray[np.float32]:
    """The thin-plate spline that has `values` at the points `at`, evaluated where `asked`."""
    scale = float(np.ptp(at))
    known, wanted = at.astype(np.float64) / scale, asked.astype(np.float64) / scale
    count = len(known)
    affine = np.column_stack((np.ones(count), known))
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(known, known) + 1e-6 * np.eye(count)
    system[:count, count:] = affine
    system[count:, :count] = affine.T
    weights = np.linalg.solve(system, np.vstack((values, np.zeros((3, 2)))))
    found = _kernel(wanted, known) @ weights[:count] + np.column_stack((np.ones(len(wanted)), wanted)) @ weights[count:]
    return found.astype(np.float32)


def _kernel(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    squared = ((one[:, None] - other[None]) ** 2).sum(axis=-1)
    kernel: NDArray[np.float64] = squared * np.log(np.maximum(squared, 1e-12))
    return kernel


def _enlarged(coarse: NDArray[np.float32], step: int, side: int) -> NDArray[np.float32]:
    """The map for each pixel, from one for every `step`-th."""
    places = np.arange(side) / step
    low = np.minimum(places.astype(int), len(coarse) - 2)
    share = (places - low).astype(np.float32)
    rows = coarse[low] * (1 - share)[:, None, None] + coarse[low + 1] * share[:, None, None]
    fine: NDArray[np.float32] = rows[:, low] * (1 - share)[None, :, None] + rows[:, low + 1] * share[None, :, None]
    return fine


def _sampled(picture: Picture, places: NDArray[np.float32]) -> Picture:
    """Bilinear; outside, the border."""
    height, width = picture.shape[:2]
    x, y = np.clip(places[..., 0], 0, width - 1.001), np.clip(places[..., 1], 0, height - 1.001)
    column, row = x.astype(int), y.astype(int)
    right, below = (x - column)[..., None], (y - row)[..., None]
    upper = picture[row, column] * (1 - right) + picture[row, column + 1] * right
    lower = picture[row + 1, column] * (1 - right) + picture[row + 1, column + 1] * right
    return np.asarray(upper * (1 - below) + lower * below, dtype=np.uint8)


def _darkened(picture: Picture, lips: Points, amount: float) -> Picture:
    """Between the lips it is dark."""
    (left, top), (right, bottom) = lips.min(axis=0).astype(int), lips.max(axis=0).astype(int) + 1
    columns = np.arange(left, right)
    upper = np.interp(columns, lips[[0, 1, 2, 3, 4], 0], lips[[0, 1, 2, 3, 4], 1])
    lower = np.interp(columns, lips[[0, 7, 6, 5, 4], 0], lips[[0, 7, 6, 5, 4], 1])
    rows = np.arange(top, bottom)[:, None]
    within = ((rows > upper[None]) & (rows < lower[None])).astype(np.float32)[..., None] * np.float32(amount)
    whole = picture.copy()
    part = whole[top:bottom, left:right].astype(np.float32)
    whole[top:bottom, left:right] = (part * (1 - within) + DARK * within).astype(np.uint8)
    return whole
