"""The light ahead is red, or turns red before us, and later green; harmless: it is green and stays green."""

from __future__ import annotations

import math

import numpy as np

from causaldrive.worlds.actors import SignalHead, SignalStage, Trigger
from causaldrive.worlds.families.bystanders import add_bystanders
from causaldrive.worlds.families.draft import Draft, draw_draft
from causaldrive.worlds.roads import CROSS_ARM_M, STOP_SETBACK_M

DESCRIPTION = "the light ahead is red or turns red, then green; harmless: it is green and stays green"
FOCUS_KIND = "red_light"
_HEAD_HEIGHT_M, _CROSS_HEIGHT_M = 4.1, 3.5
_HEAD_BEYOND_M = 7.5  # beyond the stop line, so that it stays in the picture of a waiting car


def draw(rng: np.random.Generator, harmless: bool) -> Draft:
    draft = draw_draft(rng, junction_s=float(rng.uniform(6.5, 9.0)))
    add_heads(draft)
    draft.program = (SignalStage("green", "red"),) if harmless else _program(draft)
    draft.focus_id = f"light_main_{draft.ego_lane}"
    add_cross_traffic(draft, harmless)
    if draft.shape.forward_lanes == 2 and rng.random() < 0.4:
        offset = draft.shape.forward_offset_m(1 - draft.ego_lane)
        draft.add_car("neighbour", "forward", draft.arc_after(rng.uniform(-0.5, 2.0)), offset, draft.start_mps)
    add_bystanders(draft)
    return draft


def _program(draft: Draft) -> tuple[SignalStage, ...]:
    """Red from the start, or turning red as the ego comes near; one in eight stays red."""
    rng = draft.rng
    stays = rng.random() < 1 / 8
    if rng.random() < 0.5:
        before = (SignalStage("red", "green", Trigger("clock", float(rng.uniform(8.0, 11.5)))),)
    else:
        arrival = Trigger("arrival", float(rng.uniform(4.2, 5.2)), draft.shape.stop_at_m)
        before = (
            SignalStage("green", "red", arrival),
            SignalStage("yellow", "red", Trigger("elapsed", 2.0)),
            SignalStage("red", "red", Trigger("elapsed", 1.0)),
            SignalStage("red", "green", Trigger("elapsed", float(rng.uniform(3.5, 6.0)))),
        )
    if stays:
        return (*before[:-1], SignalStage("red", "green"))
    return (
        *before,
        SignalStage("red", "yellow", Trigger("elapsed", 2.0)),
        SignalStage("red", "red", Trigger("elapsed", 1.0)),
        SignalStage("green", "red"),
    )


def add_heads(draft: Draft) -> None:
    """One head over each approach lane, facing the traffic that it stops."""
    shape, forward, crossing = draft.shape, draft.road.forward, draft.road.crossing
    assert crossing is not None and shape.junction_at_m is not None
    near, far = shape.stop_at_m, 2 * shape.junction_at_m - shape.stop_at_m
    heads = []
    for lane in range(shape.forward_lanes):
        offset = shape.forward_offset_m(lane)
        x, y, yaw = forward.pose(near, offset)
        hx, hy, _ = forward.pose(near + _HEAD_BEYOND_M, offset - 0.4)
        lane_id = draft.road.lane_id_at(lane, near - 0.5)
        heads.append(SignalHead(f"light_main_{lane}", lane_id, "main", (x, y), (hx, hy, _HEAD_HEIGHT_M), yaw))
    for lane in range(shape.opposite_lanes):
        offset = (lane + 0.5) * shape.lane_width_m
        x, y, yaw = forward.pose(far, offset)
        hx, hy, _ = forward.pose(far - _HEAD_BEYOND_M, offset + 0.4)
        lane_id = draft.road.lane_id_at(lane, far + 0.5).replace("forward", "opposite")
        heads.append(SignalHead(f"light_back_{lane}", lane_id, "main", (x, y), (hx, hy, _HEAD_HEIGHT_M), yaw + math.pi))
    in_arc, out_arc = cross_stops(draft)
    for way, sign, arc, ahead in (("rightward", -1, in_arc, 1), ("leftward", 1, out_arc, -1)):
        x, y, yaw = crossing.pose(arc, sign * shape.lane_width_m / 2)
        hx, hy, _ = crossing.pose(arc + ahead * 2.0, sign * (shape.junction_half_m + 1.0))
        turned = yaw + (0.0 if ahead > 0 else math.pi)
        heads.append(SignalHead(f"light_{way}", f"{way}_in", "cross", (x, y), (hx, hy, _CROSS_HEIGHT_M), turned))
    draft.heads = tuple(heads)


def cross_stops(draft: Draft) -> tuple[float, float]:
    """Arcs of the two stop lines on the crossing line."""
    shape = draft.shape
    return (CROSS_ARM_M - shape.left_edge_m - STOP_SETBACK_M, CROSS_ARM_M - shape.right_edge_m + STOP_SETBACK_M)


def add_cross_traffic(draft: Draft, harmless: bool) -> None:
    """Cars on the cross road: they pass while we wait, and wait while we pass."""
    shape, rng, crossing = draft.shape, draft.rng, draft.road.crossing
    assert crossing is not None and shape.junction_at_m is not None
    draft.lines |= {"rightward": crossing, "leftward": crossing.reversed()}
    in_arc, out_arc = cross_stops(draft)
    far = 2 * shape.junction_at_m - shape.stop_at_m
    stops = {"rightward": in_arc, "leftward": crossing.length_m - out_arc}
    backward_stop = draft.lines["backward"].length_m - far
    draft.stop_arcs_m = (
        ("forward", "main", shape.stop_at_m), ("backward", "main", backward_stop),
        *((way, "cross", arc) for way, arc in stops.items()),
    )  # fmt: skip
    for way, arc in stops.items():
        if rng.random() < (0.5 if harmless else 0.7):
            start = arc - rng.uniform(4.0, 30.0)
            moving = 0.0 if harmless else float(rng.uniform(3, 7))
            draft.add_car(f"cross_{way}", way, start, -shape.lane_width_m / 2, moving, 8.0)
