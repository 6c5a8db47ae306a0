"""What 68 points say of a head: how it is turned, how far eyes and mouth are open. Without units; compare with the same person.

Left and right: a head turns to *its own* left, which in a picture that is not mirrored is the right.
"""

from __future__ import annotations

import math

import numpy as np

from kinpay.faces.landmarks import LEFT_EYE, LIPS_INSIDE, NOSE_TIP, RIGHT_EYE, Points, five_points


def roll_degrees(points: Points) -> float:
    """How far the line through the eyes is from level; positive: its right end in the picture is lower."""
    left, right, *_ = five_points(points)
    across, down = right - left
    return math.degrees(math.atan2(float(down), float(across)))


def level(points: Points) -> Points:
    """The points with the eyes' line level, so that what follows does not mistake a tilted head for a turned one."""
    angle = math.radians(roll_degrees(points))
    cos, sin = math.cos(angle), math.sin(angle)
    turned: Points = ((points - points.mean(axis=0)) @ np.array([[cos, -sin], [sin, cos]])).astype(np.float32)
    return turned


def turn(points: Points) -> float:
    """Where the tip of the nose is between the sides of the jaw: 0 in the middle, towards 1 turned to the person's left."""
    upright = level(points)
    left, right, nose = upright[2, 0], upright[14, 0], upright[NOSE_TIP, 0]
    return float((2 * nose - left - right) / max(1e-6, right - left))


def nod(points: Points) -> float:
    """Where the tip of the nose is between eyes (0) and mouth (1); smaller looking up, larger looking down."""
    left, right, nose, mouth_left, mouth_right = five_points(level(points))
    eyes, mouth = (left[1] + right[1]) / 2, (mouth_left[1] + mouth_right[1]) / 2
    return float((nose[1] - eyes) / max(1e-6, mouth - eyes))


def eye_opening(points: Points) -> float:
    """Height by width of the eyes, the mean of both (the eye aspect ratio). Open ones of people differ twofold."""
    return (_opening(points[LEFT_EYE]) + _opening(points[RIGHT_EYE])) / 2


def _opening(eye: Points) -> float:
    outer, above, above_inner, inner, below_inner, below = eye
    height = float(np.linalg.norm(above - below) + np.linalg.norm(above_inner - below_inner))
    return height / max(1e-6, 2 * float(np.linalg.norm(outer - inner)))


def mouth_opening(points: Points) -> float:
    """The gap between the lips by the height of the face from the eyes to the mouth's corners."""
    lips = level(points)[LIPS_INSIDE]
    gap = (lips[[7, 6, 5]] - lips[[1, 2, 3]])[:, 1].mean()
    left, right, _, mouth_left, mouth_right = five_points(level(points))
    height = (mouth_left[1] + mouth_right[1] - left[1] - right[1]) / 2
    return float(max(0.0, gap) / max(1e-6, height))
