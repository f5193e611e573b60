"""Stop and yield signs beside the lanes that must wait, from the map's rights of way.

Oversized like the signal lamps, so that a sign can be told from 40 m in a 320 x 192 picture. Knows nothing of
Panda3D or of who drives.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from causaldrive.clips.geometry import rotate
from causaldrive.clips.types import RightOfWay, RoadMap
from causaldrive.ground.words import STOP_WAYS
from causaldrive.worlds.render_mesh import Mesh, disc, join, moved, polygons, rod

STOP_RGB, WHITE_RGB, BACK_RGB, POLE_RGB = (205, 20, 28), (246, 246, 246), (120, 124, 128), (92, 96, 100)
RADIUS_M, HEIGHT_M, ASIDE_M = 0.62, 2.3, 1.0
_YIELD_KINDS = ("yield", "roundabout", "merge")
# Strokes of S, T, O, P in a 1 x 1 box: (x0, y0, x1, y1) rectangles.
_LETTERS = (
    ((0, 0, 1, 0.2), (0.75, 0, 1, 0.6), (0, 0.4, 1, 0.6), (0, 0.4, 0.25, 1), (0, 0.8, 1, 1)),
    ((0.38, 0, 0.62, 1), (0, 0.8, 1, 1)),
    ((0, 0, 0.25, 1), (0.75, 0, 1, 1), (0, 0, 1, 0.2), (0, 0.8, 1, 1)),
    ((0, 0, 0.25, 1), (0, 0.8, 1, 1), (0.75, 0.4, 1, 1), (0, 0.4, 1, 0.6)),
)


def signs(road: RoadMap) -> Mesh:
    """One sign for each lane that ends at a stop or yield line."""
    meshes = []
    for way, xy in _places(road):
        sign = _stop_sign() if way.kind in STOP_WAYS else _yield_sign()
        meshes.append(moved(sign, (float(xy[0]), float(xy[1]), 0.0), way.yaw_rad))
    return join(meshes)


def _places(road: RoadMap) -> Iterator[tuple[RightOfWay, np.ndarray]]:
    """Each sign's right of way and its foot: beside the right edge of the approaching lane, at its end."""
    seen: set[tuple[float, ...]] = set()
    for way in road.right_of_way.values():
        key = tuple(np.round(way.stop_xy_m, 1).tolist())
        lane = road.lanes.get(way.lane_id)
        before = road.lanes.get(lane.predecessors[0]) if lane is not None and lane.predecessors else None
        if way.kind not in (*STOP_WAYS, *_YIELD_KINDS) or before is None or key in seen:
            continue
        seen.add(key)
        edge = before.right_xy_m[-1]
        yield way, edge + rotate(np.array([-0.4, -ASIDE_M]), way.yaw_rad)


def _stop_sign() -> Mesh:
    """In the sign's own frame: x is the driving direction, so its face looks to -x."""
    return join([_pole(), _back(8), stop_face(RADIUS_M, HEIGHT_M, STOP_RGB)])


def stop_face(radius_m: float, height_m: float, rgb: tuple[int, int, int]) -> Mesh:
    """A white-rimmed octagon with the word STOP, looking to -x, its middle at `height_m`."""
    rim = disc((-0.05, 0.0, height_m), (-1.0, 0.0, 0.0), radius_m, WHITE_RGB)
    face = disc((-0.07, 0.0, height_m), (-1.0, 0.0, 0.0), 0.92 * radius_m, rgb)
    return join([rim, face, _word(radius_m / RADIUS_M, height_m)])


def _word(scale: float, height_m: float) -> Mesh:
    """STOP in white strokes, read from the side of -x (so that letters run to -y)."""
    wide, tall, step = 0.2 * scale, 0.36 * scale, 0.25 * scale
    quads = []
    for place, strokes in enumerate(_LETTERS):
        for x0, y0, x1, y1 in strokes:
            left = 2 * step - place * step - 0.03 * scale
            ys = (left - x0 * wide, left - x1 * wide)
            zs = (height_m + (y0 - 0.5) * tall, height_m + (y1 - 0.5) * tall)
            quads.append([(-0.09, ys[0], zs[0]), (-0.09, ys[1], zs[0]), (-0.09, ys[1], zs[1]), (-0.09, ys[0], zs[1])])
    return polygons(np.array(quads), WHITE_RGB)


def _yield_sign() -> Mesh:
    """A triangle on its point, white in a red rim."""
    outer, inner = _triangle(1.25 * RADIUS_M, -0.05), _triangle(0.72 * RADIUS_M, -0.07)
    return join([_pole(), _back(3), polygons(outer[None], STOP_RGB), polygons(inner[None], WHITE_RGB)])


def _triangle(radius_m: float, x_m: float) -> np.ndarray:
    """Corners (3, 3) with the point down, counter-clockwise as seen from -x."""
    angle = np.deg2rad([-90.0, 150.0, 30.0])
    return np.column_stack([np.full(3, x_m), radius_m * np.cos(angle), HEIGHT_M + radius_m * np.sin(angle)])


def _back(sides: int) -> Mesh:
    if sides == 3:
        return polygons(_triangle(1.25 * RADIUS_M, 0.0)[None, ::-1], BACK_RGB)
    return disc((0.0, 0.0, HEIGHT_M), (1.0, 0.0, 0.0), RADIUS_M, BACK_RGB)


def _pole() -> Mesh:
    return rod((0.03, 0.0, 0.0), (0.03, 0.0, HEIGHT_M), 0.06, POLE_RGB)
