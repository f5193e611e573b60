"""Drawing into camera pictures: trajectories as ribbons on the ground, and a panel of text below.

Reads pictures, a `Camera` and rig-frame points. Works on copies. Knows nothing of worlds or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from causaldrive.clips.geometry import matrix_of_quat, rotate
from causaldrive.clips.types import Camera

NEAR_M = 0.5  # nearer points are cut off: they would project to anywhere
STEP_M = 0.5  # ribbons are cut this fine, so that their edges follow the perspective
OPACITY, OVERSAMPLING, SHIFT = 0.75, 2, 4
PANEL_RGB, TEXT_RGB = (24, 26, 30), (236, 238, 240)
MARGIN_PX = 6


def draw_path(
    image: np.ndarray, camera: Camera, xy_in_rig_m: np.ndarray, rgb: tuple[int, int, int], width: float = 0.5
) -> np.ndarray:
    """A copy of `image` (H, W, 3) with a trajectory (T, 2) drawn on the ground (z = 0) as a ribbon `width` metres wide.

    The ribbon is clipped at the camera's near plane and stays at least one pixel wide far away. `image` may be an
    enlarged picture of this camera: coordinates scale with it.
    """
    middle, edges = _ribbon(np.asarray(xy_in_rig_m, float).reshape(-1, xy_in_rig_m.shape[-1])[:, :2], width)
    scale = OVERSAMPLING * np.array([image.shape[1] / camera.width_px, image.shape[0] / camera.height_px])
    mask = np.zeros((OVERSAMPLING * image.shape[0], OVERSAMPLING * image.shape[1]), np.uint8)
    left, right, centre = (_in_camera(line, camera) for line in (*edges, middle))
    for k in range(len(middle) - 1):
        piece = np.stack([left[k], left[k + 1], right[k + 1], right[k]])
        _fill_piece(mask, _clipped(piece), camera, scale)
        _thin_line(mask, _clipped(centre[k : k + 2]), camera, scale)
    return _blended(image, cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_AREA), rgb)


def _blended(image: np.ndarray, mask: np.ndarray, rgb: tuple[int, int, int]) -> np.ndarray:
    """A copy with `rgb` laid over it where the mask (H, W) of 0..255 says, at three quarters of full strength."""
    drawn, rows = image.copy(), mask.any(axis=1)
    share = mask[rows][..., None] * np.float32(OPACITY / 255)
    drawn[rows] = np.rint(image[rows] + share * (np.array(rgb, np.float32) - image[rows])).astype(np.uint8)
    return drawn


def _ribbon(xy_m: np.ndarray, width_m: float) -> tuple[np.ndarray, np.ndarray]:
    """The trajectory resampled every 0.5 m (M, 2), and its left and right edges (2, M, 2).

    A trajectory that goes nowhere gives empty arrays.
    """
    moving = np.concatenate([[True], np.linalg.norm(np.diff(xy_m, axis=0), axis=1) > 1e-4]) if len(xy_m) else []
    points = xy_m[np.asarray(moving, bool)]
    if len(points) < 2:
        return np.zeros((0, 2)), np.zeros((2, 0, 2))
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0, arc[-1], max(int(np.ceil(arc[-1] / STEP_M)), 1) + 1)
    middle = np.column_stack([np.interp(at, arc, points[:, axis]) for axis in (0, 1)])
    ahead = np.gradient(middle, axis=0)
    unit = ahead / np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
    side = rotate(unit, np.pi / 2) * width_m / 2
    return middle, np.stack([middle + side, middle - side])


def _in_camera(xy_in_rig_m: np.ndarray, camera: Camera) -> np.ndarray:
    """Ground points (K, 2) of the rig in the optical frame (K, 3)."""
    xyz = np.column_stack([xy_in_rig_m, np.zeros(len(xy_in_rig_m))])
    return (xyz - np.array(camera.rig_to_camera_position_m)) @ matrix_of_quat(np.array(camera.rig_to_camera_quat))


def _clipped(points: np.ndarray) -> np.ndarray:
    """What of a ring (or segment) of optical points (K, 3) lies beyond the near plane."""
    kept = []
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        if a[2] >= NEAR_M:
            kept.append(a)
        if (a[2] >= NEAR_M) != (b[2] >= NEAR_M):
            kept.append(a + (b - a) * (NEAR_M - a[2]) / (b[2] - a[2]))
    return np.array(kept).reshape(-1, 3)


def _pixels(points: np.ndarray, camera: Camera, scale: np.ndarray) -> np.ndarray:
    """Optical points to OpenCV's fixed-point pixels, whose integer coordinates are pixel middles."""
    u = camera.fx_px * points[:, 0] / points[:, 2] + camera.cx_px
    v = camera.fy_px * points[:, 1] / points[:, 2] + camera.cy_px
    pixels = np.clip(np.column_stack([u, v]) * scale - 0.5, -30_000, 30_000)
    return np.rint(pixels * 2**SHIFT).astype(np.int32)


def _fill_piece(mask: np.ndarray, ring: np.ndarray, camera: Camera, scale: np.ndarray) -> None:
    if len(ring) >= 3:
        cv2.fillPoly(mask, [_pixels(ring, camera, scale)], 255, cv2.LINE_AA, SHIFT)


def _thin_line(mask: np.ndarray, segment: np.ndarray, camera: Camera, scale: np.ndarray) -> None:
    """Keeps the ribbon visible where perspective makes it thinner than a pixel."""
    if len(segment) >= 2:
        cv2.polylines(mask, [_pixels(segment, camera, scale)], False, 255, OVERSAMPLING, cv2.LINE_AA, SHIFT)


def caption(image: np.ndarray, lines: Sequence[str]) -> np.ndarray:
    """`image` (H, W, 3) with a dark panel below that holds `lines`, each wrapped to the width: (H + panel, W, 3)."""
    width = image.shape[1]
    font = _font(int(np.clip(round(width / 26), 11, 28)))
    wrapped = [piece for line in lines for piece in _wrap(line, font, width - 2 * MARGIN_PX)]
    if not wrapped:
        return image.copy()
    top, bottom = font.getbbox("Ag")[1::2]
    step = round(1.35 * (bottom - top))
    panel = Image.new("RGB", (width, len(wrapped) * step + 2 * MARGIN_PX), PANEL_RGB)
    draw = ImageDraw.Draw(panel)
    for k, text in enumerate(wrapped):
        draw.text((MARGIN_PX, MARGIN_PX + k * step - top), text, TEXT_RGB, font)
    return np.concatenate([image, np.asarray(panel)])


@lru_cache(maxsize=8)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: the same on every machine."""
    return ImageFont.load_default(size_px)


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> list[str]:
    """Lines no wider than `width_px`, broken between words, and inside words that are wider than a line."""
    rows = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if font.getlength(longer) <= width_px:
            rows[-1] = longer
            continue
        rows += [word] if rows[-1] else []
        rows[-1] = rows[-1] or word
        while font.getlength(rows[-1]) > width_px and len(rows[-1]) > 1:
            fits = sum(font.getlength(rows[-1][: n + 1]) <= width_px for n in range(len(rows[-1])))
            rows[-1:] = [rows[-1][: max(fits, 1)], rows[-1][max(fits, 1) :]]
    return rows
