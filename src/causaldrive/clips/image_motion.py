"""How a camera moved, from its images alone: yaw rate and the growth of the picture, frame to frame.

    du = f w (1 + x^2) dt + e x          dv = e y        x, y: pixel offset from the principal point over f

w (rad/s, left positive) turns the picture sideways; e is its growth by moving ahead (speed over depth). Corners are
followed by pyramidal Lucas-Kanade there and back, both unknowns fitted with outliers down-weighted. Reads frames;
knows nothing of poses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

WIDTH_PX = 320
_CORNERS: dict[str, Any] = {"maxCorners": 160, "qualityLevel": 0.01, "minDistance": 7, "blockSize": 5}
_FLOW: dict[str, Any] = {"winSize": (17, 17), "maxLevel": 3}
_LEAST_POINTS, _ROUNDS, _BACK_PX = 12, 6, 0.7


@dataclass(frozen=True)
class ImageMotion:
    """Between frames n and n + 1, N - 1 values each; NaN where too little could be followed."""

    mid_t_us: np.ndarray  # (N - 1,) midway between the two frames
    yaw_rate_radps: np.ndarray  # (N - 1,) left positive
    growth_1ps: np.ndarray  # (N - 1,) e / dt: about speed over the depth of what is seen


def image_motion(frames: Iterable[np.ndarray], t_us: np.ndarray, focal_px: float, centre_px: tuple[float, float],
                 width_px: int) -> ImageMotion:  # fmt: skip
    """Motion of a camera that looks ahead, from its frames (H, W, 3) uint8 and their times (N,); intrinsics in pixels
    of an image `width_px` wide."""
    scale = WIDTH_PX / width_px
    focal, centre = focal_px * scale, np.array(centre_px) * scale
    previous, found = None, []
    for image in frames:
        grey = _small(image)
        if previous is not None:
            found.append(_between(previous, grey, focal, centre))
        previous = grey
    step_s = np.diff(t_us[: len(found) + 1]) / 1e6
    pairs = np.array(found).reshape(-1, 2)
    return ImageMotion((t_us[: len(found)] + t_us[1 : len(found) + 1]) // 2, pairs[:, 0] / step_s, pairs[:, 1] / step_s)


def _small(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height = round(grey.shape[0] * WIDTH_PX / grey.shape[1])
    return cv2.resize(grey, (WIDTH_PX, height), interpolation=cv2.INTER_AREA)


def _between(first: np.ndarray, second: np.ndarray, focal: float, centre: np.ndarray) -> tuple[float, float]:
    """(turn in rad, growth) from one small grey image to the next; NaN where too few corners could be followed."""
    corners = cv2.goodFeaturesToTrack(first, **_CORNERS)
    if corners is None or len(corners) < _LEAST_POINTS:
        return np.nan, np.nan
    there, seen, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, None, **_FLOW)  # type: ignore[call-overload]
    back, again, _ = cv2.calcOpticalFlowPyrLK(second, first, there, None, **_FLOW)  # type: ignore[call-overload]
    kept = (seen[:, 0] == 1) & (again[:, 0] == 1) & (np.linalg.norm(back - corners, axis=2)[:, 0] < _BACK_PX)
    if kept.sum() < _LEAST_POINTS:
        return np.nan, np.nan
    return _fit((corners[kept, 0] - centre) / focal, (there[kept, 0] - corners[kept, 0]) / focal)


def _fit(at: np.ndarray, moved: np.ndarray) -> tuple[float, float]:
    """Turn and growth by least squares with Cauchy weights; pitch is a third unknown, so that bumps do no harm."""
    x, y = at[:, 0], at[:, 1]
    zero = np.zeros(len(x))
    rows = np.concatenate([np.stack([1 + x * x, x, zero], 1), np.stack([x * y, y, 1 + y * y], 1)])
    value, weight = np.concatenate([moved[:, 0], moved[:, 1]]), np.ones(2 * len(x))
    answer = np.zeros(3)
    for _ in range(_ROUNDS):
        answer = np.linalg.lstsq(rows * weight[:, None], value * weight, rcond=None)[0]
        miss = np.abs(value - rows @ answer)
        spread = max(1.5 * float(np.median(miss)), 1e-4)
        weight = 1 / np.sqrt(1 + (miss / spread) ** 2)
    return float(answer[0]), float(answer[1])
