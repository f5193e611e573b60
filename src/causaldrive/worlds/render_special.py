"""Bodies and warning lights of school buses and emergency vehicles, and speed bumps.

A vehicle stands on z = 0 with its middle at the origin, x forward. Lights are larger than real ones, like all lamps
here. Knows nothing of Panda3D or of the scene.
"""

from __future__ import annotations

import itertools

import numpy as np

from causaldrive.clips.types import RoadMap
from causaldrive.worlds.render_mesh import RGB, Mesh, block, disc, empty, join, polygons, rod
from causaldrive.worlds.render_vehicles import INDICATOR_RGB, TRIM_RGB, Size, bus_body, truck_body

WARNING = 2  # `indicator` of a vehicle whose warning lights flash
RED_RGB, BLUE_RGB, DIM_RGB, WHITE_RGB = (255, 24, 24), (60, 110, 255), (92, 16, 18), (248, 248, 248)
STRIPE_RGB, CHECK_RGB, BUMP_RGB, BUMP_MARK_RGB = (210, 30, 40), (250, 226, 60), (52, 50, 50), (250, 206, 30)
BUMP_HEIGHT_M = 0.14


def school_bus_body(size_m: Size, rgb: RGB) -> Mesh:
    """A yellow bus with a black belt on each side and dark lamp boards over its ends."""
    length, width, height = size_m
    a, b = length / 2, width / 2
    belts = [block((0.0, side * (b + 0.03), 0.36 * height), (1.94 * a, 0.03, 0.12), TRIM_RGB) for side in (1, -1)]
    boards = [block((side * (a + 0.02), 0.0, 0.91 * height), (0.06, 1.7 * b, 0.3), TRIM_RGB) for side in (1, -1)]
    return join([bus_body(size_m, rgb), *belts, *boards])


def emergency_body(size_m: Size, rgb: RGB) -> Mesh:
    """A white van in red and yellow checks, with a light bar."""
    length, width, height = size_m
    a, b = length / 2, width / 2
    bar = block((0.3 * a, 0.0, height + 0.1), (0.5, 1.5 * b, 0.2), TRIM_RGB)
    return join([truck_body(size_m, rgb), _checks(a, b, height), bar])


def _checks(a: float, b: float, height_m: float) -> Mesh:
    """Red and yellow squares along both sides, one of each across the rear."""
    low, high = 0.3 * height_m, 0.54 * height_m
    quads, colours = [], []
    for k, (u0, u1) in enumerate(itertools.pairwise(np.linspace(-0.95, 0.6, 6).tolist())):
        for y, (x0, x1) in ((-b - 0.03, (u0 * a, u1 * a)), (b + 0.03, (u1 * a, u0 * a))):
            quads.append([(x0, y, low), (x1, y, low), (x1, y, high), (x0, y, high)])
            colours.append((STRIPE_RGB, CHECK_RGB)[k % 2])
    low, high, x = 0.44 * height_m, 0.7 * height_m, -a - 0.05
    for (y0, y1), rgb in (((0.9 * b, 0.0), STRIPE_RGB), ((0.0, -0.9 * b), CHECK_RGB)):
        quads.append([(x, y0, low), (x, y1, low), (x, y1, high), (x, y0, high)])
        colours.append(rgb)
    return polygons(np.array(quads, float), np.array(colours))


def warning_lights(size_m: Size, category: str, phase: int) -> Mesh:
    """Self-lit parts while the warning lights flash; `phase` 0 or 1 says which half of them shines."""
    if category == "school_bus":
        return _school_lights(size_m, phase)
    if category == "emergency_vehicle":
        return _light_bar(size_m, phase)
    a, b, height = size_m[0] / 2, size_m[1] / 2, size_m[2]
    places = [(x, side * 0.86 * b) for x in (-a - 0.09, a + 0.05) for side in (1, -1)]
    return join([disc((x, y, 0.5 * height), (np.sign(x), 0, 0), 0.2, INDICATOR_RGB) for x, y in places if phase])


def _school_lights(size_m: Size, phase: int) -> Mesh:
    """Two red lamps at each end, taking turns, and a stop arm out to the left."""
    a, b, height = size_m[0] / 2, size_m[1] / 2, size_m[2]
    parts = []
    for end in (1.0, -1.0):
        for k, side in enumerate((1, -1)):
            rgb = RED_RGB if k == phase else DIM_RGB
            parts.append(disc((end * (a + 0.1), side * 0.62 * b, 0.91 * height), (end, 0.0, 0.0), 0.3, rgb))
        x = 0.62 * a * end
        arm = rod((x, b, 0.5 * height), (x, b + 0.4, 0.5 * height), 0.05, TRIM_RGB)
        parts.append(arm)
        for facing in (1.0, -1.0):
            at = x + 0.04 * facing
            parts.append(disc((at, b + 0.75, 0.5 * height), (facing, 0.0, 0.0), 0.46, WHITE_RGB))
            parts.append(disc((at + 0.02 * facing, b + 0.75, 0.5 * height), (facing, 0.0, 0.0), 0.4, RED_RGB))
    return join(parts)


def _light_bar(size_m: Size, phase: int) -> Mesh:
    a, b, height = size_m[0] / 2, size_m[1] / 2, size_m[2]
    colours = (RED_RGB, BLUE_RGB) if phase else (BLUE_RGB, RED_RGB)
    bar = [block((0.3 * a, side * 0.45 * b, height + 0.3), (0.7, 0.86 * b, 0.6), rgb)
           for side, rgb in zip((1, -1), colours, strict=True)]  # fmt: skip
    ends = [disc((end * (a + 0.08), side * 0.7 * b, 0.86 * height), (end, 0.0, 0.0), 0.3, rgb)
            for end in (1.0, -1.0) for side, rgb in zip((1, -1), colours, strict=True)]  # fmt: skip
    return join([*bar, *ends])


def speed_bumps(road: RoadMap) -> Mesh:
    """Low ridges with yellow arrow-like stripes; each ring is (4, 2): near edge first, then the far one."""
    return join([_bump(np.asarray(ring, float)) for ring in road.bumps.values()]) if road.bumps else empty()


def _bump(ring: np.ndarray) -> Mesh:
    near_a, far_a, far_b, near_b = ring
    ridge_a, ridge_b = (near_a + far_a) / 2, (near_b + far_b) / 2
    count = max(int(np.linalg.norm(near_b - near_a) / 0.5), 2)
    parts = []
    for k in range(count):
        u, w = k / count, (k + 1) / count
        rgb = BUMP_MARK_RGB if k % 2 else BUMP_RGB
        for start, end in (((near_a, near_b), (ridge_a, ridge_b)), ((ridge_a, ridge_b), (far_a, far_b))):
            quad = np.array([_between(*start, u), _between(*end, u), _between(*end, w), _between(*start, w)])
            heights = [0.0, BUMP_HEIGHT_M] if start[0] is near_a else [BUMP_HEIGHT_M, 0.0]
            z = np.array([heights[0], heights[1], heights[1], heights[0]])
            parts.append(_facing_up(np.column_stack([quad, z]), rgb))
    return join(parts)


def _between(a: np.ndarray, b: np.ndarray, u: float) -> np.ndarray:
    return a + u * (b - a)


def _facing_up(quad: np.ndarray, rgb: RGB) -> Mesh:
    mesh = polygons(quad[None], rgb)
    return mesh if mesh.normal[0, 2] > 0 else polygons(quad[None, ::-1], rgb)
