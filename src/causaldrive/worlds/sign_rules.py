"""Rules of stop signs and school buses: who passes a sign's line without standing, or a flashing bus.

Fed with every state in order by the scorer. Reads states and the static context. Knows nothing of drivers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from causaldrive.clips.geometry import to_frame, wrap_angle
from causaldrive.worlds.state import SceneContext, WorldState

STOOD_MPS, NEAR_LINE_M, SIGN_NEAR_M, BUS_ASIDE_M = 0.3, 5.0, 9.0, 9.0
WARNING = 2


@dataclass
class SignRules:
    """Feed it states; it answers with the rules broken in the last step, each once."""

    context: SceneContext
    _stood: set[str] = field(default_factory=set)  # lines before which the car has stood
    _told: set[str] = field(default_factory=set)

    def add(self, before: WorldState, now: WorldState) -> list[tuple[str, str]]:
        """(kind, detail): 'stop_sign' or 'school_bus'."""
        found = [*self._signs(before, now), *self._buses(before, now)]
        fresh = [(kind, detail) for kind, detail in found if detail not in self._told]
        self._told |= {detail for _, detail in fresh}
        return fresh

    def fork(self) -> SignRules:
        """Another one that goes on from here."""
        return SignRules(self.context, set(self._stood), set(self._told))

    def _signs(self, before: WorldState, now: WorldState) -> list[tuple[str, str]]:
        """The front passes the line beside a sign that faces us, though the car has not stood within 5 m of it."""
        signs = [i for i, kind in enumerate(now.agents.category) if kind == "sign"]
        if not signs or not self.context.road.stop_lines:
            return []
        found = []
        for lane_id, line in self.context.road.stop_lines.items():
            middle, along = np.mean(line, axis=0), line[1] - line[0]
            yaw = float(np.arctan2(along[0], -along[1]))  # the line runs from left to right
            if abs(wrap_angle(now.ego.yaw_rad - yaw)) > 0.8 or not self._governed(now, signs, middle, yaw):
                continue
            old, new = (to_frame(front_xy(state), middle, yaw) for state in (before, now))
            if abs(new[1]) > 1.8:
                continue
            if -NEAR_LINE_M < new[0] <= 0 and now.ego.speed_mps < STOOD_MPS:
                self._stood.add(lane_id)
            if old[0] <= 0 < new[0] and lane_id not in self._stood:
                found.append(("stop_sign", f"passed the stop line of {lane_id} without standing"))
        return found

    def _governed(self, now: WorldState, signs: list[int], middle: np.ndarray, yaw: float) -> bool:
        turned = np.abs(wrap_angle(now.agents.yaw_rad[signs] - yaw)) < 0.7
        return bool((turned & (np.linalg.norm(now.agents.xy_in_local_m[signs] - middle, axis=1) < SIGN_NEAR_M)).any())

    def _buses(self, before: WorldState, now: WorldState) -> list[tuple[str, str]]:
        """The front comes level with a standing school bus whose lights flash."""
        agents, found = now.agents, []
        for i, kind in enumerate(agents.category):
            if kind != "school_bus" or agents.indicator[i] != WARNING or agents.speed_mps[i] > 0.5:
                continue
            half = agents.size_m[i, 0] / 2
            old, new = (to_frame(agents.xy_in_local_m[i], front_xy(s), s.ego.yaw_rad) for s in (before, now))
            if abs(new[1]) < BUS_ASIDE_M and old[0] - half > 0 >= new[0] - half:
                found.append(("school_bus", f"passed {agents.ids[i]} while its lights flash"))
        return found


def front_xy(state: WorldState) -> np.ndarray:
    """(2,) middle of the front bumper."""
    ego = state.ego
    ahead = ego.rear_axle_to_centre_m + ego.size_m[0] / 2
    return ego.xy_in_local_m + ahead * np.array([np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)])
