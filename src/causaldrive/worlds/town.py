"""The embedded town as a world one can drive: a scene, its traffic and the ego, ten steps a second.

Reads a `Scene`; writes nothing. The same scene and actions give the same states, bit for bit; `snapshot` and
`restore` are exact. Knows nothing of cameras, policies or scores.
"""

from __future__ import annotations

import numpy as np

from causaldrive.clips.geometry import project_on_polyline
from causaldrive.worlds.families.draft import Scene
from causaldrive.worlds.state import WorldState
from causaldrive.worlds.traffic import ScriptedTraffic, TrafficSource
from causaldrive.worlds.vehicle import LIMITS, VehicleLimits
from causaldrive.worlds.world import HISTORY_STATES, DrivenWorld

__all__ = ["HISTORY_STATES", "TownWorld"]

_END_MARGIN_M = 30.0


def _traffic_of(scene: Scene) -> TrafficSource:
    """The source that the scene names: SUMO where it has a plan for it, else its script."""
    if scene.sumo is None:
        return ScriptedTraffic(scene.script, scene.ego)
    from causaldrive.worlds.sumo_traffic import SumoTraffic  # libsumo is loaded only for scenes that need it

    return SumoTraffic(scene.sumo, scene.ego)


class TownWorld(DrivenWorld):
    """Drive a scene. `history` holds the last 2.0 s of states, the last one is now."""

    def __init__(self, scene: Scene, traffic: TrafficSource | None = None, limits: VehicleLimits = LIMITS):
        self.scene = scene
        source = traffic or _traffic_of(scene)
        first = WorldState(0, scene.ego, source.agents(), source.lights())
        super().__init__(scene.context, [first], source, limits)

    @property
    def time_s(self) -> float:
        """Scene time; 0 at the first state."""
        return round(self.state.t_us * 1e-6, 6)

    @property
    def finished(self) -> bool:
        """The scene's time is over, or its road ends within 30 m."""
        return self.time_s >= self.scene.duration_s - 1e-6 or self.at_end

    @property
    def at_end(self) -> bool:
        """Less than 30 m of route are left; the scene's time may be over long before."""
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
