"""Draws what stands beside a road: building footprints beyond the sidewalk. For the renderer only.

Knows nothing of agents; reads the road's shape and lines.
"""

from __future__ import annotations

import numpy as np
from shapely.geometry import LineString, Polygon

from causaldrive.clips.geometry import Array, box_corners
from causaldrive.worlds.paths import Path
from causaldrive.worlds.roads import SIDEWALK_M, RoadShape


def draw_buildings(
    shape: RoadShape, forward: Path, crossing: Path | None, rng: np.random.Generator
) -> dict[str, Array]:
    """Footprints (4, 2) on both sides; those that would touch a road or its sidewalk are left out."""
    keep_clear = _ground_of_roads(shape, forward, crossing)
    buildings: dict[str, Array] = {}
    for side, edge in ((1.0, shape.left_edge_m), (-1.0, -shape.right_edge_m)):
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


def _ground_of_roads(shape: RoadShape, forward: Path, crossing: Path | None) -> Polygon:
    reach = max(shape.left_edge_m, -shape.right_edge_m) + SIDEWALK_M + 0.5
    ground = LineString(forward.xy_m[::2]).buffer(reach)
    if crossing is not None:
        ground = ground.union(LineString(crossing.xy_m).buffer(shape.junction_half_m + SIDEWALK_M + 0.5))
    return ground  # type: ignore[return-value]
