"""Everything around the road: sky, ground, buildings, trees.

Sky and ground are small patches that travel with the camera, so any map has them up to the horizon; the ground's
pattern repeats at the steps it travels in, so it stands still. Reads a `RoadMap` and a `Look`. Knows nothing of cars.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence

import numpy as np

from causaldrive.clips.types import RoadMap
from causaldrive.worlds.render_look import Look
from causaldrive.worlds.render_mesh import RGB, Mesh, flat_ring, frustum, join, moved, polygons, rod

GROUND_TILE_M, GROUND_TILES = 20.0, 5  # the pattern's period is 100 m
GROUND_PERIOD_M = GROUND_TILE_M * GROUND_TILES
GROUND_REACH_M = 400.0
FLOOR_M, WINDOW_RGB, ROOF_RGB = 3.2, (66, 80, 98), (112, 104, 98)
TRUNK_RGB, LEAF_RGB = (98, 74, 52), (62, 112, 52)


def ground_patch(look: Look) -> Mesh:
    """One period of ground, its corners mottled so that one's own motion shows on it."""
    shades = 0.94 + 0.12 * np.random.default_rng(7).random((GROUND_TILES, GROUND_TILES))
    index = np.arange(GROUND_TILES)
    i, j = (axis.ravel() for axis in np.meshgrid(index, index, indexing="ij"))
    steps = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    corner = np.stack([i, j], axis=-1)[:, None] + steps
    xyz = np.concatenate([corner * GROUND_TILE_M, np.zeros((*corner.shape[:2], 1))], axis=-1)
    shade = shades[corner[..., 0] % GROUND_TILES, corner[..., 1] % GROUND_TILES]
    return polygons(xyz, shade[..., None] * np.array(look.ground_rgb))


def ground_places() -> list[tuple[float, float]]:
    """Where copies of the patch lie around the travelling origin."""
    places = np.arange(-GROUND_REACH_M, GROUND_REACH_M, GROUND_PERIOD_M)
    return [(float(x), float(y)) for x in places for y in places]


def sky_dome(look: Look) -> Mesh:
    """A drum of radius 100 m around the camera: pale at the horizon, the sky's colour above."""
    angle = 2 * np.pi * np.arange(17) / 16
    rim = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * 100.0
    zenith = look.brightness * np.array(look.sky_rgb, float)
    levels = ((-20.0, look.horizon_rgb), (0.0, look.horizon_rgb), (38.0, zenith), (160.0, 0.9 * zenith))
    bands = []
    for (low, low_rgb), (high, high_rgb) in itertools.pairwise(levels):
        a, b = (np.column_stack([rim, np.full(len(rim), z)]) for z in (low, high))
        quads = np.stack([a[:-1], a[1:], b[1:], b[:-1]], axis=1)
        colours = np.stack([low_rgb, low_rgb, high_rgb, high_rgb])
        bands.append(polygons(quads, np.broadcast_to(colours, quads.shape)))
    cap = polygons(np.column_stack([rim[:-1], np.full(16, 160.0)])[None], 0.9 * zenith)
    return join([*bands, cap])


def buildings(road: RoadMap, facades: Sequence[RGB]) -> Mesh:
    rings = {key: np.asarray(ring, float) for key, ring in road.buildings.items() if len(ring) >= 3}
    return join([_building(key, ring, facades) for key, ring in rings.items()])


def _building(key: str, ring_xy_m: np.ndarray, facades: Sequence[RGB]) -> Mesh:
    """An extruded footprint with bands of windows; colour and height come from its key and place."""
    seed = zlib.crc32(key.encode() + np.round(ring_xy_m, 1).tobytes())
    rng = np.random.default_rng(seed)
    facade = np.array(facades[int(rng.integers(len(facades)))], float) * rng.uniform(0.88, 1.08)
    floors = int(rng.integers(2, 7))
    height = floors * FLOOR_M + 1.2
    following = np.roll(ring_xy_m, -1, axis=0)
    turning = ring_xy_m[:, 0] * following[:, 1] - ring_xy_m[:, 1] * following[:, 0]
    ring = ring_xy_m if turning.sum() > 0 else ring_xy_m[::-1]
    ends = np.roll(ring, -1, axis=0)
    walls = _walls(ring, ends, 0.0, height, facade)
    windows = [_windows(a, b, floors) for a, b in zip(ring, ends, strict=True)]
    pillars = [_pillars(a, b, height, facade) for a, b in zip(ring, ends, strict=True)]
    return join([walls, *windows, *pillars, flat_ring(ring, ROOF_RGB, height)])


def _walls(start_xy_m: np.ndarray, end_xy_m: np.ndarray, low_m: float, high_m: float, rgb: np.ndarray) -> Mesh:
    """Upright quads over N ground segments, facing to the right of their direction."""
    low, high = np.full((len(start_xy_m), 1), low_m), np.full((len(start_xy_m), 1), high_m)
    a, b, c, d = (start_xy_m, low), (end_xy_m, low), (end_xy_m, high), (start_xy_m, high)
    return polygons(np.stack([np.hstack(corner) for corner in (a, b, c, d)], axis=1), rgb)


def _windows(start_xy_m: np.ndarray, end_xy_m: np.ndarray, floors: int) -> Mesh:
    """A dark band a floor on one wall."""
    length, unit, out = _wall_axes(start_xy_m, end_xy_m)
    if length < 3.0:
        return join([])
    a, b = (start_xy_m + unit * 0.7 + out * 0.08)[None], (end_xy_m - unit * 0.7 + out * 0.08)[None]
    rgb = np.array(WINDOW_RGB, float)
    return join([_walls(a, b, k * FLOOR_M + 1.0, k * FLOOR_M + 2.5, rgb) for k in range(floors)])


def _pillars(start_xy_m: np.ndarray, end_xy_m: np.ndarray, height_m: float, rgb: np.ndarray) -> Mesh:
    """Strips of wall over the bands, which so become rows of windows."""
    length, unit, out = _wall_axes(start_xy_m, end_xy_m)
    count = min(int(length // 3.2) - 1, 8)
    if count < 1:
        return join([])
    at = np.linspace(0, length, count + 2)[1:-1, None]
    a = start_xy_m + unit * (at - 0.45) + out * 0.16
    return _walls(a, a + unit * 0.9, 0.0, height_m, rgb)


def _wall_axes(start_xy_m: np.ndarray, end_xy_m: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Length, unit vector along, unit vector outward (to the right)."""
    step = end_xy_m - start_xy_m
    length = float(np.hypot(*step))
    unit = step / max(length, 1e-9)
    return length, unit, np.array([unit[1], -unit[0]])


def trees(look: Look) -> Mesh:
    """A trunk under two blunt cones, each tree a little different in green by its place."""
    return join([_tree(x, y, height) for x, y, height in look.trees])


def _tree(x_m: float, y_m: float, height_m: float) -> Mesh:
    shade = 0.85 + 0.3 * (zlib.crc32(np.round([x_m, y_m], 2).tobytes()) % 1000) / 1000
    leaf = tuple(shade * c for c in LEAF_RGB)
    wide = 0.26 * height_m
    trunk = rod((0.0, 0.0, 0.0), (0.0, 0.0, 0.4 * height_m), 0.05 * height_m, TRUNK_RGB)
    skirt = rod((0.0, 0.0, 0.3 * height_m), (0.0, 0.0, 0.58 * height_m), (0.7 * wide, wide), leaf, 6)
    crown = frustum((-0.75 * wide, 0.75 * wide, -0.75 * wide, 0.75 * wide, 0.58 * height_m),
                    (-0.3 * wide, 0.3 * wide, -0.3 * wide, 0.3 * wide, height_m), leaf)  # fmt: skip
    return moved(join([trunk, skirt, crown]), (x_m, y_m, 0.0), 0.7)
