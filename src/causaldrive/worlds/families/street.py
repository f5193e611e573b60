"""What the wider families share: weather and light from the seed, vans and other bodies, edits of the road.

Adds to a `Draft`. Knows nothing of the expert.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from causaldrive.clips.types import RoadMap
from causaldrive.worlds.actors import Event
from causaldrive.worlds.families.draft import Draft
from causaldrive.worlds.paths import Path

VAN_M, SCHOOL_BUS_M, AMBULANCE_M = (5.4, 2.0, 2.4), (10.5, 2.5, 3.1), (6.0, 2.1, 2.6)
CYCLIST_M, CONE_M, SIGN_M = (1.8, 0.6, 1.75), (0.45, 0.45, 0.9), (0.2, 1.2, 3.0)
WHITE_RGB, BUS_RGB, CONE_RGB, SIGN_RGB = (236, 236, 232), (246, 178, 20), (255, 106, 20), (206, 22, 28)
JACKETS_RGB = ((235, 60, 60), (60, 200, 235), (250, 210, 40), (150, 230, 80))
GUIDE_RGB = (40, 190, 110)
_SKY_RGB = {"overcast": (158, 164, 172), "fog": (190, 194, 198), "dusk": (150, 110, 120), "clear": None}


def vary_weather(draft: Draft, *, dusk: bool = True) -> None:
    """Clear in half of the scenes, else overcast, fog or dusk; replaces sky, fog and brightness."""
    rng = draft.rng
    kind = str(rng.choice(["clear", "clear", "clear", "overcast", "fog", "dusk" if dusk else "overcast"]))
    sky = _SKY_RGB[kind]
    if sky is None:
        return
    shade = rng.integers(-10, 11, size=3)
    brightness = {"overcast": 0.86, "fog": 0.95, "dusk": 0.7}[kind] * float(rng.uniform(0.95, 1.05))
    fog = {"overcast": 0.002, "fog": float(rng.uniform(0.009, 0.014)), "dusk": 0.003}[kind]
    draft.weather = {
        "sky_rgb": np.clip(np.array(sky) + shade, 0, 255).tolist(),
        "fog": round(fog, 4),
        "brightness": round(brightness, 3),
    }


def paint_guide_line(draft: Draft) -> None:
    """The way to go is painted on the road: which lane it needs can be seen, in both variants of a scene."""
    draft.weather = draft.weather | {"guide_rgb": list(GUIDE_RGB)}


def add_van(draft: Draft, name: str, line: str, arc_m: float, offset_m: float) -> None:
    draft.add_object(name, "truck", VAN_M, line, arc_m, offset_m, WHITE_RGB)


def add_cyclist(draft: Draft, name: str, arc_m: float, offset_m: float, speed_mps: float,
                events: tuple[Event, ...] = ()) -> None:  # fmt: skip
    rgb = JACKETS_RGB[int(draft.rng.integers(len(JACKETS_RGB)))]
    draft.add_object(name, "cyclist", CYCLIST_M, "forward", arc_m, offset_m, rgb, speed_mps=speed_mps, events=events)


def add_sign(draft: Draft, name: str, line: str, arc_m: float, offset_m: float) -> None:
    """A stop sign for the traffic of `line`."""
    draft.add_object(name, "sign", SIGN_M, line, arc_m, offset_m, SIGN_RGB)


def add_cones(draft: Draft, arc_m: float, length_m: float, from_offset_m: float, to_offset_m: float) -> None:
    """A taper of cones from one offset to another, then a row along, closed by a barrier across at the taper's end."""
    taper = min(14.0, 0.45 * length_m)
    for index, along in enumerate(np.linspace(0.0, length_m, max(round(length_m / 3.5), 5)).tolist()):
        u = min(along / taper, 1.0)
        offset = from_offset_m + u * (to_offset_m - from_offset_m)
        draft.add_object(f"cone_{index}", "cone", CONE_M, "forward", arc_m + along, offset, CONE_RGB)
    width = max(abs(to_offset_m - from_offset_m) - 0.6, 0.8)
    middle = to_offset_m - math.copysign(width / 2 + 0.35, to_offset_m - from_offset_m)
    draft.add_object("works", "barrier", (0.3, round(width, 2), 1.1), "forward", arc_m + taper + 4.0, middle,
                     (214, 40, 36))  # fmt: skip


def end_right_lane(draft: Draft, arc_m: float) -> float:
    """Take the rightmost lane away from the segment after `arc_m` on, with a taper; returns where it ends."""
    shape, road, forward = draft.shape, draft.road.road_map, draft.road.forward
    last = shape.forward_lanes - 1
    mine = sorted((k for k in road.lanes if k.startswith(f"forward_{last}_")), key=lambda k: int(k.split("_")[2]))
    ends = [_arc_of(forward, road.lanes[k].centre_xy_m[-1], arc_m) for k in mine]
    keep = next(i for i, end in enumerate(ends) if end >= arc_m)
    end_m = ends[keep]
    for k in mine[keep + 1 :]:
        _drop_lane(road, k)
        index = k.split("_")[2]
        inner = shape.right_edge_m + shape.lane_width_m
        stretch = road.lanes[f"forward_{last - 1}_{index}"].right_xy_m
        road.drivable.pop(f"right_strip_{index}", None)
        from_m, to_m = (_arc_of(forward, stretch[i], end_m) for i in (0, -1))
        road.drivable[f"narrow_strip_{index}"] = _ring(draft, from_m, to_m, inner, inner + shape.right_strip_m)
    road.lanes[mine[keep]] = replace(road.lanes[mine[keep]], successors=())
    taper = [(end_m - 0.5, shape.right_edge_m), (end_m + 25.0, shape.right_edge_m + shape.lane_width_m),
             (end_m - 0.5, shape.right_edge_m + shape.lane_width_m)]  # fmt: skip
    road.drivable["taper"] = np.array([forward.pose(s, d)[:2] for s, d in taper])
    return end_m


def _arc_of(line: Path, xy_m: np.ndarray, near_arc_m: float) -> float:
    return line.project(float(xy_m[0]), float(xy_m[1]), near_arc_m)[0]


def _drop_lane(road: RoadMap, lane_id: str) -> None:
    lane = road.lanes.pop(lane_id)
    if lane.left_neighbour is not None:
        left = road.lanes[lane.left_neighbour]
        road.lanes[left.lane_id] = replace(left, right_neighbour=None, right_mark="solid_white")


def _ring(draft: Draft, from_m: float, to_m: float, low_m: float, high_m: float) -> np.ndarray:
    forward = draft.road.forward
    low, high = (forward.offset_line(d, from_m, to_m) for d in (low_m, high_m))
    return np.concatenate([low, high[::-1]])


def bump_ring(draft: Draft, arc_m: float, low_m: float, high_m: float) -> np.ndarray:
    """(4, 2) a bump of 1.8 m between two offsets."""
    pose = draft.road.forward.pose
    corners = ((arc_m, low_m), (arc_m + 1.8, low_m), (arc_m + 1.8, high_m), (arc_m, high_m))
    return np.array([pose(s, d)[:2] for s, d in corners])
