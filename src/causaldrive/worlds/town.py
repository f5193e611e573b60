"""The embedded town as a world one can drive: a scene, its traffic and the ego, ten steps a second.

Reads a `Scene`; writes nothing. The same scene and actions give the same states, bit for bit; `snapshot` and
`restore` are exact. Knows nothing of cameras, policies or scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causaldrive.clips.geometry import project_on_polyline
from causaldrive.ground.words import STEP_S, STEP_US
from causaldrive.worlds.families.draft import Scene
from causaldrive.worlds.state import SceneContext, WorldState
from causaldrive.worlds.traffic import ScriptedTraffic, TrafficSource
from causaldrive.worlds.vehicle import advance

HISTORY_STATES = 21  # 2.0 s at 10 Hz, both ends included
_END_MARGIN_M = 30.0


def _traffic_of(scene: Scene) -> TrafficSource:
    """The source that the scene names: SUMO where it has a plan for it, else its script."""
    if scene.sumo is None:
        return ScriptedTraffic(scene.script, scene.ego)
    from causaldrive.worlds.sumo_traffic import SumoTraffic  # libsumo is loaded only for scenes that need it

    return SumoTraffic(scene.sumo, scene.ego)


@dataclass(frozen=True)
class TownSnapshot:
    """A moment of a town. Holds references to values that are never changed in place."""

    history: tuple[WorldState, ...]
    traffic: Any
    steps: int


class TownWorld:
    """Drive a scene. `history` holds the last 2.0 s of states, the last one is now."""

    def __init__(self, scene: Scene, traffic: TrafficSource | None = None):
        self.scene = scene
        self.context: SceneContext = scene.context
        self.traffic: TrafficSource = traffic or _traffic_of(scene)
        self._steps = 0
        self.history: list[WorldState] = [WorldState(0, scene.ego, self.traffic.agents(), self.traffic.lights())]

    @property
    def state(self) -> WorldState:
        return self.history[-1]

    @property
    def time_s(self) -> float:
        """Scene time; 0 at the first state."""
        return round(self._steps * STEP_S, 6)

    @property
    def finished(self) -> bool:
        """The scene's time is over, or its road ends within 30 m."""
        if self.time_s >= self.scene.duration_s - 1e-6:
            return True
        route = self.context.route_xy_in_local_m
        end = route[-1] - self.state.ego.xy_in_local_m
        if float(end @ end) > 100.0**2:
            return False
        nearest = int(np.argmin(np.sum((route - self.state.ego.xy_in_local_m) ** 2, axis=1)))
        if nearest < len(route) - 200:  # a way that comes back near its end is not at its end
            return False
        past, _ = project_on_polyline(self.state.ego.xy_in_local_m, route[-200:])
        total, _ = project_on_polyline(route[-1], route[-200:])
        return bool(total - past < _END_MARGIN_M)

    def step(self, acceleration_mps2: float, curvature_1pm: float) -> WorldState:
        """Advance 0.1 s and return the new state. Raises UserError for an action that is not a number."""
        ego = advance(self.state.ego, acceleration_mps2, curvature_1pm)
        self.traffic.step(self.state.ego)
        self._steps += 1
        state = WorldState(self._steps * STEP_US, ego, self.traffic.agents(), self.traffic.lights())
        self.history = [*self.history[1 - HISTORY_STATES :], state]
        return state

    def snapshot(self) -> TownSnapshot:
        """The present moment, to `restore` later in this world or in another one of the same scene."""
        return TownSnapshot(tuple(self.history), self.traffic.snapshot(), self._steps)

    def restore(self, saved: TownSnapshot) -> None:
        self.history, self._steps = list(saved.history), saved.steps
        self.traffic.restore(saved.traffic)
