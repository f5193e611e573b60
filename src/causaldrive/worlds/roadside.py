"""Draws what stands beside a road: building footprints beyond the sidewalk. For the renderer only.

Knows nothing of agents; reads the road's shape and lines.
"""

from __future__ import annotations

import numpy as np
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry as Geometry

from causaldrive.clips.geometry import Array, arc_lengths, box_corners, pose_on_polyline
from causaldrive.worlds.paths import Path

SIDEWALK_M = 3.2


def draw_buildings(
    forward: Path, crossing: Path | None, widths_m: tuple[float, float, float], rng: np.random.Generator
) -> dict[str, Array]:
    """Footprints (4, 2) on both sides; those that would touch a road or its sidewalk are left out.

    `widths_m`: from the reference line to the left curb and to the right curb, and half the cross road.
    """
    keep_clear = _ground_of_roads(forward, crossing, widths_m)
    buildings: dict[str, Array] = {}
    for side, edge in ((1.0, widths_m[0]), (-1.0, widths_m[1])):
        arc = rng.uniform(0, 20)
        while arc < forward.length_m:
            length, depth = rng.uniform(9, 22), rng.uniform(8, 14)
            offset = side * (edge + SIDEWALK_M + rng.uniform(1.5, 7.0) + depth / 2)
            x, y, yaw = forward.pose(arc + length / 2, offset)
            ring = box_corners(np.array([x, y]), np.array(yaw), np.array(length), np.array(depth))
            if not keep_clear.intersects(Polygon(ring)):
                buildings[f"building_{len(buildings)}"] = ring
            arc += length + rng.uniform(2, 24)
    return buildings


def _ground_of_roads(forward: Path, crossing: Path | None, widths_m: tuple[float, float, float]) -> Geometry:
    ground: Geometry = LineString(forward.xy_m[::2]).buffer(max(widths_m[:2]) + SIDEWALK_M + 0.5)
    if crossing is not None:
        ground = ground.union(LineString(crossing.xy_m).buffer(widths_m[2] + SIDEWALK_M + 0.5))
    return ground


def buildings_along(lines: list[Array], road: Geometry, rng: np.random.Generator) -> dict[str, Array]:
    """Footprints (4, 2) to the right of each line (M, 2), clear of the road's surface and of each other."""
    taken = road.buffer(SIDEWALK_M + 0.5)
    buildings: dict[str, Array] = {}
    for line in lines:
        arc, total = rng.uniform(0, 15), arc_lengths(line)[-1]
        while arc < total:
            length, depth = rng.uniform(9, 22), rng.uniform(8, 14)
            xy, yaw = pose_on_polyline(arc + length / 2, line)
            aside = -(SIDEWALK_M + 2.0 + rng.uniform(1.0, 7.0) + depth / 2)
            centre = xy + aside * np.array([-np.sin(yaw), np.cos(yaw)])
            ring = box_corners(centre, yaw, np.array(length), np.array(depth))
            if not taken.intersects(Polygon(ring)):
                buildings[f"building_{len(buildings)}"] = ring
                taken = taken.union(Polygon(ring).buffer(1.0))
            arc += length + rng.uniform(2, 24)
    return buildings
