"""What a driver sees, measured along the route: each agent's arc, offset and their rates; each light's state over time.

Reads up to 2 s of `WorldState`s, the last is now. Knows nothing of decisions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causaldrive.clips.geometry import wrap_angle
from causaldrive.worlds.route import Route
from causaldrive.worlds.state import WorldState

VEHICLES = ("car", "truck", "bus", "motorcycle", "school_bus", "emergency_vehicle")
REACTION_S = 0.6  # a driver acts on what was seen so long ago
_REACH_M = 90.0
_RATE_STEPS = 5  # rates come from 0.5 s of motion


@dataclass(frozen=True)
class Seen:
    """One agent along the route. `offset_before_m` is its offset at the start of the history (None: not seen then)."""

    index: int
    agent_id: str
    category: str
    arc_m: float
    offset_m: float
    arc_rate_mps: float
    offset_rate_mps: float
    speed_mps: float
    turned_rad: float  # heading relative to the route
    half_length_m: float  # along the route
    half_width_m: float  # across it
    brake_light: bool
    indicator: int
    slowing_mps2: float  # how fast it loses speed
    offset_before_m: float | None

    @property
    def rear_m(self) -> float:
        return self.arc_m - self.half_length_m

    @property
    def front_m(self) -> float:
        return self.arc_m + self.half_length_m

    def side_gap_m(self, course_offset_m: float, half_corridor_m: float) -> float:
        """Free distance aside between the agent and a corridor around `course_offset_m`; negative: inside."""
        return abs(self.offset_m - course_offset_m) - self.half_width_m - half_corridor_m


@dataclass(frozen=True)
class SeenLight:
    """A signal that governs the route ahead. `states` are its states over the history, oldest first."""

    light_id: str
    state: str
    stop_arc_m: float
    states: tuple[str, ...]


@dataclass(frozen=True)
class Sight:
    """The present moment along the route."""

    history: Sequence[WorldState]
    route: Route
    arc_m: float  # of the rear axle
    offset_m: float
    speed_mps: float
    front_m: float  # arc of the front bumper
    rear_m: float
    half_width_m: float
    agents: tuple[Seen, ...]
    lights: tuple[SeenLight, ...]

    @property
    def t_us(self) -> int:
        return self.history[-1].t_us


def bend_error_m(sight: Sight, seen: Seen) -> float:
    """How far aside a car seems to be in a bend: kappa (d^2 / 2 + d length / 2), d = 0.6 s v.

    The driver acts on what was seen 0.6 s ago, carried straight on; whoever follows a bend seems to leave it then.
    """
    carried = REACTION_S * seen.speed_mps
    return abs(float(sight.route.curvature(seen.arc_m))) * carried * (carried / 2 + seen.half_length_m)


def look(history: Sequence[WorldState], route: Route) -> Sight:
    """Measure the last state of `history` along `route`."""
    ego = history[-1].ego
    arc, offset = (float(v) for v in route.project(ego.xy_in_local_m))
    half = ego.size_m[0] / 2
    return Sight(
        history, route, arc, offset, float(ego.speed_mps), arc + ego.rear_axle_to_centre_m + half,
        arc + ego.rear_axle_to_centre_m - half, ego.size_m[1] / 2,
        _agents(history, route, arc), _lights(history, route, arc),
    )  # fmt: skip


def _agents(history: Sequence[WorldState], route: Route, ego_arc_m: float) -> tuple[Seen, ...]:
    now = history[-1].agents
    if not len(now):
        return ()
    near = np.linalg.norm(now.xy_in_local_m - history[-1].ego.xy_in_local_m, axis=1) < _REACH_M
    rows = np.flatnonzero(near)
    if not len(rows):
        return ()
    xy = now.xy_in_local_m[rows]
    arc, offset = route.project(xy, ego_arc_m)
    turned = wrap_angle(now.yaw_rad[rows] - route.heading(arc))
    earlier, first = history[max(len(history) - 1 - _RATE_STEPS, 0)], history[0]
    before = _places(earlier, now.ids, rows, route, ego_arc_m)
    start = _places(first, now.ids, rows, route, ego_arc_m)
    elapsed = (history[-1].t_us - earlier.t_us) * 1e-6
    cos, sin = np.abs(np.cos(turned)), np.abs(np.sin(turned))
    length, width = now.size_m[rows, 0], now.size_m[rows, 1]
    half_length, half_width = (cos * length + sin * width) / 2, (sin * length + cos * width) / 2
    found = []
    for k, row in enumerate(rows.tolist()):
        speed, angle = float(now.speed_mps[row]), float(turned[k])
        rates, slowing = (speed * math.cos(angle), speed * math.sin(angle)), 0.0
        if row in before and elapsed > 0:
            then = before[row]
            rates = ((float(arc[k]) - then[0]) / elapsed, (float(offset[k]) - then[1]) / elapsed)
            slowing = (then[2] - speed) / elapsed
        found.append(Seen(
            row, now.ids[row], now.category[row], float(arc[k]), float(offset[k]), *rates, speed, angle,
            float(half_length[k]), float(half_width[k]), bool(now.brake_light[row]), int(now.indicator[row]), slowing,
            start[row][1] if row in start else None,
        ))  # fmt: skip
    return tuple(found)


def _places(
    state: WorldState, ids: list[str], rows: np.ndarray, route: Route, ego_arc_m: float
) -> dict[int, tuple[float, float, float]]:
    """(arc, offset, speed) in another state of the agents that are at `rows` now."""
    there = {name: i for i, name in enumerate(state.agents.ids)}
    pairs = [(row, there[ids[row]]) for row in rows.tolist() if ids[row] in there]
    if not pairs:
        return {}
    index = [i for _, i in pairs]
    arc, offset = route.project(state.agents.xy_in_local_m[index], ego_arc_m)
    speed = state.agents.speed_mps[index]
    return {row: (float(arc[k]), float(offset[k]), float(speed[k])) for k, (row, _) in enumerate(pairs)}


def _lights(history: Sequence[WorldState], route: Route, ego_arc_m: float) -> tuple[SeenLight, ...]:
    """Lights whose stop line lies on the route, face its traffic, and are near."""
    now = history[-1].lights
    if not len(now):
        return ()
    arc, offset = route.project(now.stop_xy_in_local_m, ego_arc_m)
    facing = np.abs(wrap_angle(now.yaw_rad - route.heading(arc))) < math.radians(60)
    governs = facing & (np.abs(offset) < 1.6) & (arc - ego_arc_m > -12.0) & (arc - ego_arc_m < _REACH_M)
    found = []
    for row in np.flatnonzero(governs).tolist():
        states = tuple(
            s.lights.state[s.lights.ids.index(now.ids[row])] for s in history if now.ids[row] in s.lights.ids
        )
        found.append(SeenLight(now.ids[row], now.state[row], float(arc[row]), states))
    return tuple(found)
