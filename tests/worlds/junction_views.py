"""Hand-made moments at the junctions of the package's networks: no simulation, only states."""

from __future__ import annotations

import numpy as np

from causaldrive.clips.geometry import arc_lengths, pose_on_polyline
from causaldrive.worlds.families.draft import default_camera
from causaldrive.worlds.families.sumo_draft import EGO_FRONT_M, network_named
from causaldrive.worlds.state import AgentArrays, EgoState, LightArrays, SceneContext, WorldState

SIZE_M = (4.5, 1.85, 1.5)


def context_on(name: str, edges: tuple[str, ...], target_mps: float = 10.0) -> SceneContext:
    network = network_named(name)
    return SceneContext(network.road, network.line_through(edges), target_mps, default_camera())


def line_end_m(name: str, edge: str) -> float:
    """Arc of the end of an edge on a way that starts with it."""
    return network_named(name).length_m(edge)


def view(context: SceneContext, ego_front_m: float, speed_mps: float, cars=(), *, lights: LightArrays | None = None,
         steps: int = 15, stands: int | None = None) -> list[WorldState]:  # fmt: skip
    """1.5 s of states up to now. The ego's nose is now at `ego_front_m` of its way, moving at a steady speed.

    A car is (network, edges, nose_m now, speed, indicator, steps it has stood). `stands`: steps the ego has stood.
    """
    states = []
    for k in range(steps):
        ago = (steps - 1 - k) * 0.1
        still = stands is not None and steps - 1 - k <= stands
        speed = 0.0 if still else speed_mps if stands is None else 3.0
        back = speed_mps * ago if stands is None else 0.0 if still else 3.0 * (ago - 0.1 * stands)
        xy, yaw = pose_on_polyline(ego_front_m - EGO_FRONT_M - back, context.route_xy_in_local_m)
        ego = EgoState(xy, float(yaw), speed)
        rows = [_car(f"car_{i}", ago, steps - 1 - k, *car) for i, car in enumerate(cars)]
        states.append(WorldState(k * 100_000, ego, _agents(rows), lights or LightArrays()))
    return states


def _car(name, ago_s, steps_ago, network, edges, nose_m, speed_mps, indicator=0, stood=None):
    line = network_named(network).line_through(edges)
    moving = 3.0 * max(ago_s - 0.1 * stood, 0.0) if stood is not None else speed_mps * ago_s
    now = 0.0 if stood is not None and steps_ago <= stood else 3.0 if stood is not None else speed_mps
    arc = nose_m - SIZE_M[0] / 2 - moving
    assert 0.0 < arc < arc_lengths(line)[-1]
    xy, yaw = pose_on_polyline(arc, line)
    return name, xy, float(yaw), now, indicator


def _agents(rows) -> AgentArrays:
    if not rows:
        return AgentArrays()
    return AgentArrays(
        [r[0] for r in rows], ["car"] * len(rows), np.array([r[1] for r in rows]), np.array([r[2] for r in rows]),
        np.array([r[3] for r in rows], float), np.tile(SIZE_M, (len(rows), 1)), np.zeros(len(rows), bool),
        np.array([r[4] for r in rows], np.int8),
    )  # fmt: skip
