"""Draws a road: a smooth reference line with lanes on both sides, an optional junction, crosswalk, strips, buildings.

Right-hand traffic. Arc lengths run along the reference line, which separates the two driving directions; offsets are
left positive, so forward lanes have negative offsets. Writes nothing. Knows nothing of agents or scenes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from causaldrive.clips.geometry import Array
from causaldrive.clips.types import Lane, RoadMap
from causaldrive.worlds.paths import Path
from causaldrive.worlds.roadside import draw_buildings

SPACING_M = 1.0
CROSS_ARM_M = 60.0  # how far a junction's cross road reaches to each side
STOP_SETBACK_M = 5.0  # stop line before the junction's edge; the crosswalk lies between
CROSSWALK_M = 3.0
_SEGMENT_M = 60.0
_EASING_M = 14.0  # length over which curvature changes


@dataclass(frozen=True)
class RoadShape:
    """What to build. `bends` are (length_m, curvature_1pm) from arc 0 on; curvature is eased between them."""

    bends: tuple[tuple[float, float], ...]
    lane_width_m: float = 3.5
    forward_lanes: int = 1
    opposite_lanes: int = 1
    right_strip_m: float = 0.6  # drivable shoulder or parking strip beyond the outer lane
    left_strip_m: float = 0.6
    junction_at_m: float | None = None
    crosswalk_at_m: float | None = None

    @property
    def length_m(self) -> float:
        return sum(length for length, _ in self.bends)

    @property
    def right_edge_m(self) -> float:
        """Offset (negative) of the right curb."""
        return -(self.forward_lanes * self.lane_width_m + self.right_strip_m)

    @property
    def left_edge_m(self) -> float:
        """Offset of the left curb."""
        return self.opposite_lanes * self.lane_width_m + self.left_strip_m

    def forward_offset_m(self, lane: int) -> float:
        """Centre of a forward lane; lane 0 is next to the reference line."""
        return -(lane + 0.5) * self.lane_width_m

    @property
    def junction_half_m(self) -> float:
        """Half the width of the cross road (one lane each way and shoulders)."""
        return self.lane_width_m + 0.6

    @property
    def stop_at_m(self) -> float:
        """Arc length of the forward stop line."""
        assert self.junction_at_m is not None
        return self.junction_at_m - self.junction_half_m - STOP_SETBACK_M


@dataclass(frozen=True)
class Road:
    """A built road: its lines to drive along and its map. `crossing` goes left to right through the junction."""

    shape: RoadShape
    forward: Path
    backward: Path
    crossing: Path | None
    road_map: RoadMap

    def lane_id_at(self, lane: int, arc_m: float) -> str:
        """Id of the forward lane segment that holds an arc length."""
        cuts = _cuts(self.shape)
        return f"forward_{lane}_{max(i for i, cut in enumerate(cuts[:-1]) if cut <= max(arc_m, 0.0))}"


@dataclass
class _MapParts:
    lanes: dict[str, Lane] = field(default_factory=dict)
    crosswalks: dict[str, Array] = field(default_factory=dict)
    drivable: dict[str, Array] = field(default_factory=dict)
    stop_lines: dict[str, Array] = field(default_factory=dict)


def draw_bends(
    rng: np.random.Generator, length_m: float, min_radius_m: float, straight: tuple[float, float] | None = None
) -> tuple[tuple[float, float], ...]:
    """Straights and arcs of radius `min_radius_m`..300 m that fill `length_m`; one road in three is straight.

    `straight` (from, to) is kept without curvature, for a junction. Turns are held under 100 degrees a bend.
    """
    if rng.random() < 1 / 3:
        return ((length_m, 0.0),)
    low, high = straight if straight else (length_m, length_m)
    before = _bend_run(rng, low, min_radius_m)
    after = _bend_run(rng, length_m - high, min_radius_m)
    return (*before, *(((high - low, 0.0),) if high > low else ()), *after)


def _bend_run(rng: np.random.Generator, length_m: float, min_radius_m: float) -> list[tuple[float, float]]:
    if length_m < 40:
        return [(length_m, 0.0)] if length_m > 0 else []
    lead_in = min(rng.uniform(10, 40), length_m / 4)
    left, side, bends = length_m - lead_in, rng.choice([-1.0, 1.0]), [(lead_in, 0.0)]
    while left > 1e-6:
        radius = rng.uniform(max(min_radius_m, 60.0), 300.0)
        part = min(left, radius * math.radians(rng.uniform(35, 95)))
        part = left if left - part < 30 else part
        bends.append((part, side / radius))
        left, side = left - part, -side
    return bends


def curvature_profile(bends: tuple[tuple[float, float], ...]) -> Array:
    """Curvature (M,) every metre, eased by a moving average of 14 m."""
    ends = np.cumsum([length for length, _ in bends])
    arcs = np.arange(0.0, ends[-1] + SPACING_M / 2, SPACING_M)
    raw = np.array([k for _, k in bends])[np.minimum(np.searchsorted(ends, arcs, side="right"), len(bends) - 1)]
    half = int(_EASING_M / SPACING_M / 2)
    padded = np.pad(raw, half, mode="edge")
    return np.convolve(padded, np.ones(2 * half + 1) / (2 * half + 1), mode="valid")


def build_road(shape: RoadShape, rng: np.random.Generator) -> Road:
    """Build the map of `shape`; `rng` draws the buildings only."""
    forward = Path.of_curvature(curvature_profile(shape.bends), SPACING_M)
    parts = _MapParts()
    _add_main_lanes(parts, shape, forward)
    crossing = _add_junction(parts, shape, forward) if shape.junction_at_m is not None else None
    if shape.crosswalk_at_m is not None:
        parts.crosswalks["crosswalk"] = _band(shape, forward, shape.crosswalk_at_m - CROSSWALK_M / 2)
    _add_strips(parts, shape, forward)
    widths = (shape.left_edge_m, -shape.right_edge_m, shape.junction_half_m)
    buildings = draw_buildings(forward, crossing, widths, rng)
    road_map = RoadMap(parts.lanes, parts.crosswalks, parts.drivable, parts.stop_lines, buildings)
    return Road(shape, forward, forward.reversed(), crossing, road_map)


def _cuts(shape: RoadShape) -> list[float]:
    """Arc lengths where lanes are cut into segments; the junction is a segment of its own."""
    length = math.floor(shape.length_m)
    cuts = np.linspace(0.0, length, max(round(length / _SEGMENT_M), 1) + 1).tolist()
    if shape.junction_at_m is None:
        return cuts
    near, far = shape.stop_at_m, 2 * shape.junction_at_m - shape.stop_at_m
    return [c for c in cuts if c < near - 5] + [near, far] + [c for c in cuts if c > far + 5]


def _add_main_lanes(parts: _MapParts, shape: RoadShape, forward: Path) -> None:
    cuts = _cuts(shape)
    for k in range(len(cuts) - 1):
        junction = shape.junction_at_m is not None and cuts[k] < shape.junction_at_m < cuts[k + 1]
        for i in range(shape.forward_lanes):
            lane = _main_lane(shape, forward, "forward", i, k, cuts, junction)
            parts.lanes[lane.lane_id] = lane
        for j in range(shape.opposite_lanes):
            lane = _main_lane(shape, forward, "opposite", j, k, cuts, junction)
            parts.lanes[lane.lane_id] = lane


def _main_lane(
    shape: RoadShape, forward: Path, way: str, index: int, k: int, cuts: list[float], junction: bool
) -> Lane:
    """One segment. Boundaries and centre run in driving direction, so opposite lanes are turned round."""
    width, last = shape.lane_width_m, len(cuts) - 2
    sign = -1.0 if way == "forward" else 1.0
    count = shape.forward_lanes if way == "forward" else shape.opposite_lanes
    lines = [forward.offset_line(sign * o * width, cuts[k], cuts[k + 1]) for o in (index + 0.5, index, index + 1)]
    if way == "opposite":
        lines = [line[::-1].copy() for line in lines]
    centre, left, right = lines
    after, before = (k + 1, k - 1) if way == "forward" else (k - 1, k + 1)
    return Lane(
        f"{way}_{index}_{k}",
        centre,
        left,
        right,
        in_junction=junction,
        left_mark="none" if junction else "solid_yellow" if index == 0 else "dashed_white",
        right_mark="none" if junction else "solid_white" if index == count - 1 else "dashed_white",
        successors=(f"{way}_{index}_{after}",) if 0 <= after <= last else (),
        predecessors=(f"{way}_{index}_{before}",) if 0 <= before <= last else (),
        left_neighbour=f"{way}_{index - 1}_{k}" if index > 0 else None,
        right_neighbour=f"{way}_{index + 1}_{k}" if index < count - 1 else None,
    )


def _add_junction(parts: _MapParts, shape: RoadShape, forward: Path) -> Path:
    """Cross road, crosswalks, stop lines and the junction's floor. Returns the line from left to right."""
    assert shape.junction_at_m is not None
    x, y, yaw = forward.pose(shape.junction_at_m)
    start = np.array([x - CROSS_ARM_M * math.sin(yaw), y + CROSS_ARM_M * math.cos(yaw)])
    crossing = Path.straight(start, yaw - math.pi / 2, 2 * CROSS_ARM_M)
    stops = (CROSS_ARM_M - shape.left_edge_m - STOP_SETBACK_M, CROSS_ARM_M - shape.right_edge_m + STOP_SETBACK_M)
    for way, sign in (("rightward", -0.5), ("leftward", 0.5)):
        _add_cross_lanes(parts, crossing, way, sign * shape.lane_width_m, stops)
    near, far = shape.stop_at_m, 2 * shape.junction_at_m - shape.stop_at_m
    for lane in [n for n, lane in parts.lanes.items() if lane.in_junction]:
        for entry in parts.lanes[lane].predecessors:
            parts.stop_lines[entry] = np.stack([parts.lanes[entry].left_xy_m[-1], parts.lanes[entry].right_xy_m[-1]])
    parts.crosswalks["crosswalk_near"] = _band(shape, forward, near + 1.0)
    parts.crosswalks["crosswalk_far"] = _band(shape, forward, far - 1.0 - CROSSWALK_M)
    parts.drivable["junction"] = _ring(forward, near, far, shape.right_edge_m, shape.left_edge_m)
    half = shape.junction_half_m
    parts.drivable["cross_road"] = _ring(crossing, 0.0, 2 * CROSS_ARM_M, -half, half)
    return crossing


def _add_cross_lanes(parts: _MapParts, crossing: Path, way: str, offset_m: float, stops: tuple[float, float]) -> None:
    cuts = (0.0, *stops, 2 * CROSS_ARM_M)
    order = ("in", "through", "out") if way == "rightward" else ("out", "through", "in")
    for k, name in enumerate(order):
        inner, outer = (0.0, 2 * offset_m)
        lines = [crossing.offset_line(o, cuts[k], cuts[k + 1], every_m=10.0) for o in (offset_m, inner, outer)]
        if way == "leftward":
            lines = [line[::-1].copy() for line in lines]
        centre, left, right = lines
        follow = {"in": ("through",), "through": ("out",), "out": ()}[name]
        precede = {"in": (), "through": ("in",), "out": ("through",)}[name]
        junction = name == "through"
        parts.lanes[f"{way}_{name}"] = Lane(
            f"{way}_{name}", centre, left, right, in_junction=junction,
            left_mark="none" if junction else "solid_yellow",
            right_mark="none" if junction else "solid_white", successors=tuple(f"{way}_{n}" for n in follow),
            predecessors=tuple(f"{way}_{n}" for n in precede),
        )  # fmt: skip


def _band(shape: RoadShape, path: Path, from_m: float) -> Array:
    """(4, 2) crosswalk across the whole main road."""
    return _ring(path, from_m, from_m + CROSSWALK_M, shape.right_edge_m, shape.left_edge_m, every_m=CROSSWALK_M)


def _ring(path: Path, from_m: float, to_m: float, low_m: float, high_m: float, every_m: float = 2.0) -> Array:
    """(K, 2) polygon between two offsets along a stretch of a line."""
    return np.concatenate([
        path.offset_line(low_m, from_m, to_m, every_m), path.offset_line(high_m, from_m, to_m, every_m)[::-1]
    ])  # fmt: skip


def _add_strips(parts: _MapParts, shape: RoadShape, forward: Path) -> None:
    """Shoulders or parking strips beyond the outer lanes, cut like the lanes, none through the junction."""
    cuts = _cuts(shape)
    right = (shape.right_edge_m, shape.right_edge_m + shape.right_strip_m)
    left = (shape.left_edge_m - shape.left_strip_m, shape.left_edge_m)
    for k in range(len(cuts) - 1):
        if shape.junction_at_m is not None and cuts[k] < shape.junction_at_m < cuts[k + 1]:
            continue
        parts.drivable[f"right_strip_{k}"] = _ring(forward, cuts[k], cuts[k + 1], *right)
        parts.drivable[f"left_strip_{k}"] = _ring(forward, cuts[k], cuts[k + 1], *left)
