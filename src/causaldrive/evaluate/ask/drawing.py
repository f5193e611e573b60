"""Answers drawn onto the pictures they are about.

Boxes, points and paths where they are said to be; spans as bars on a time line; way-points as a ribbon on the ground
where the camera's calibration is known, and from above always. Works on copies. Knows nothing of models or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from causaldrive.clips.types import Camera
from causaldrive.evaluate.ask.reading import Entry
from causaldrive.worlds.overlay import caption, draw_path

COLOURS = ((255, 196, 0), (0, 200, 255), (255, 96, 96), (120, 230, 120), (214, 140, 255), (255, 150, 40))
RECORDED_RGB, BAR_PX = (90, 200, 110), 16
_MOST_TEXT = 420


def colour_of(index: int) -> tuple[int, int, int]:
    return COLOURS[index % len(COLOURS)]


def draw_boxes(image: np.ndarray, entries: Sequence[Entry]) -> np.ndarray:
    """Boxes, each with its label above it."""
    drawn = image.copy()
    places = []
    for index, entry in enumerate(entries):
        (x0, y0), (x1, y1) = (_pixel(point, image) for point in entry.values)
        cv2.rectangle(drawn, (x0, y0), (x1, y1), colour_of(index), _line_px(image), cv2.LINE_AA)
        places.append((x0, y0))
    return _labels(drawn, entries, places)


def draw_paths(image: np.ndarray, entries: Sequence[Entry]) -> np.ndarray:
    """Paths as lines with their points; the label stands at the end."""
    drawn = image.copy()
    places = []
    for index, entry in enumerate(entries):
        points = [_pixel(point, image) for point in entry.values]
        cv2.polylines(drawn, [np.array(points, np.int32)], False, colour_of(index), _line_px(image) + 1, cv2.LINE_AA)
        for point in points:
            cv2.circle(drawn, point, _line_px(image) + 2, colour_of(index), -1, cv2.LINE_AA)
        places.append(points[-1])
    return _labels(drawn, entries, places)


def draw_points_3d(image: np.ndarray, entries: Sequence[Entry], camera: Camera) -> np.ndarray:
    """Points of the camera's frame (m) where they project to, with their distance; `image` may be a scaled picture."""
    drawn, places, named = image.copy(), [], []
    scale = np.array([image.shape[1] / camera.width_px, image.shape[0] / camera.height_px])
    for index, entry in enumerate(entries):
        x, y, z = entry.values[0]
        pixel = np.array([camera.fx_px * x / z + camera.cx_px, camera.fy_px * y / z + camera.cy_px]) * scale
        place = tuple(int(v) for v in np.clip(np.rint(pixel), -10_000, 10_000))
        cv2.drawMarker(drawn, place, colour_of(index), cv2.MARKER_CROSS, 8 * _line_px(image), _line_px(image) + 1)
        places.append(place)
        named.append(Entry(f"{entry.label} {np.linalg.norm(entry.values[0]):.1f} m".strip(), entry.values))
    return _labels(drawn, named, places)


def draw_spans(image: np.ndarray, entries: Sequence[Entry], now_s: float, end_s: float) -> np.ndarray:
    """A time line below the picture, one bar an event, a mark at now, and what happens now in words."""
    height, width = BAR_PX * max(len(entries), 1) + 8, image.shape[1]
    strip = np.full((height + height % 2, width, 3), 24, np.uint8)
    at = (width - 8) / max(end_s, 1e-6)
    for index, entry in enumerate(entries):
        start, end = entry.values[0]
        top = 4 + BAR_PX * index
        left, right = (4 + round(at * min(max(t, 0.0), end_s)) for t in (start, end))
        cv2.rectangle(strip, (left, top + 2), (max(right, left + 2), top + BAR_PX - 3), colour_of(index), -1)
    mark = 4 + round(at * now_s)
    cv2.line(strip, (mark, 0), (mark, len(strip)), (255, 255, 255), 1, cv2.LINE_AA)
    words = [f"{e.label} ({e.values[0][0]:.1f}-{e.values[0][1]:.1f} s)" for e in entries
             if e.values[0][0] - 0.25 <= now_s <= e.values[0][1] + 0.25]  # fmt: skip
    below = np.concatenate([image, strip])
    return caption(below, [f"{now_s:.1f} s: {'; '.join(words) or 'nothing named'}"])


def draw_waypoints(
    image: np.ndarray, entry: Entry, camera: Camera | None, recorded_xy_in_rig_m: np.ndarray | None
) -> np.ndarray:
    """The trajectory on the ground, and beside the picture from above: said (yellow) and driven (green)."""
    said = np.array([(0.0, 0.0), *entry.values])
    drawn = image.copy()
    for xy, rgb in ((recorded_xy_in_rig_m, RECORDED_RGB), (said, COLOURS[0])):
        if camera is not None and xy is not None:
            drawn = draw_path(drawn, camera, xy, rgb)
    return np.concatenate([drawn, _from_above(image.shape[0], said, recorded_xy_in_rig_m)], axis=1)


def _from_above(height_px: int, said: np.ndarray, recorded: np.ndarray | None) -> np.ndarray:
    """(height, height, 3) x up, y to the left, both at one scale, a grid line each 10 m."""
    panel = np.full((height_px, height_px // 2 * 2, 3), 24, np.uint8)
    lines = [said] + ([recorded] if recorded is not None else [])
    reach = max(10.0, *(float(np.abs(line).max()) for line in lines)) * 1.1
    middle, scale = panel.shape[1] / 2, min(height_px - 12, panel.shape[1] / 2) / reach

    def place(xy: np.ndarray) -> np.ndarray:
        return np.rint(np.column_stack([middle - scale * xy[:, 1], height_px - 6 - scale * xy[:, 0]])).astype(np.int32)

    for metres in range(0, int(reach) + 1, 10):
        row = int(place(np.array([[metres, 0.0]]))[0, 1])
        cv2.line(panel, (0, row), (panel.shape[1], row), (60, 62, 66), 1)
        cv2.putText(panel, f"{metres} m", (3, max(row - 3, 10)), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (150, 150, 150), 1)
    for line, rgb in zip(lines[::-1], (RECORDED_RGB, COLOURS[0])[-len(lines) :], strict=True):
        cv2.polylines(panel, [place(line)], False, rgb, 2, cv2.LINE_AA)
    return panel


def draw_text(image: np.ndarray, text: str) -> np.ndarray:
    """The words below the picture, cut where they would fill the page."""
    words = " ".join(text.split())
    return caption(image, [words if len(words) <= _MOST_TEXT else f"{words[:_MOST_TEXT]} ..."])


def even(image: np.ndarray) -> np.ndarray:
    """The picture with an even height and width, as video wants them."""
    return np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")


def _pixel(share: tuple[float, ...], image: np.ndarray) -> tuple[int, int]:
    """A place as shares of the sides, in pixels of the picture."""
    height, width = image.shape[:2]
    return min(round(share[0] * width), width - 1), min(round(share[1] * height), height - 1)


def _line_px(image: np.ndarray) -> int:
    return max(round(image.shape[1] / 400), 1)


def _labels(image: np.ndarray, entries: Sequence[Entry], places: Sequence[tuple[int, int]]) -> np.ndarray:
    """Labels on dark plates beside their places, inside the picture."""
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(max(image.shape[1] // 45, 10))
    for index, (entry, (x, y)) in enumerate(zip(entries, places, strict=True)):
        if not entry.label:
            continue
        left, top, right, bottom = draw.textbbox((0, 0), entry.label[:60], font)
        width, height = right - left + 6, bottom - top + 4
        x, y = (int(np.clip(v, 0, most)) for v, most in ((x, image.shape[1] - width), (y - height, image.shape[0])))
        draw.rectangle((x, y, x + width, y + height), (20, 20, 20))
        draw.text((x + 3, y + 2 - top), entry.label[:60], colour_of(index), font)
    return np.asarray(canvas)
