"""What every world that can be driven has in common: present and past, one step, snapshot and restore, and edits.

A world is a static context, a history of up to 2.0 s at 10 Hz and a `TrafficSource`; `vehicle.advance` moves the ego.
An edit takes something away as if it had never been there: the present, everything after it, and the kept history, so
that a driver who remembers the last 2 s does not remember it either. The ego's own motion is a fact and stays, except
that it is carried along when the road is straightened. Knows nothing of scenes, logs, cameras or policies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import shapely

from causaldrive.ground.words import STEP_US, STOP_WAYS
from causaldrive.worlds.keep_lane import lane_kept
from causaldrive.worlds.state import SceneContext, WorldState
from causaldrive.worlds.traffic import CannotIntervene, TrafficSource
from causaldrive.worlds.unbend import Unbend
from causaldrive.worlds.vehicle import LIMITS, VehicleLimits, advance

HISTORY_STATES = 21  # 2.0 s at 10 Hz, both ends included
THINGS = ("cone", "barrier", "sign", "other")  # what stands because somebody put it there
_BESIDE_M = 0.3


@dataclass(frozen=True)
class WorldSnapshot:
    """A moment of a world. Holds references to values that are never changed in place."""

    context: SceneContext
    history: tuple[WorldState, ...]
    traffic: Any


class DrivenWorld:
    """Drive it step by step; `history` holds the last 2.0 s of states, the last one is now."""

    def __init__(
        self, context: SceneContext, history: list[WorldState], traffic: TrafficSource, limits: VehicleLimits = LIMITS
    ):
        self.context, self.history, self.traffic, self.limits = context, history, traffic, limits

    @property
    def state(self) -> WorldState:
        return self.history[-1]

    @property
    def finished(self) -> bool:
        """Nothing is left to drive."""
        raise NotImplementedError

    @property
    def at_end(self) -> bool:
        """No further step can be made, even by a branch that outlives the scene's time."""
        return self.finished

    def step(self, acceleration_mps2: float, curvature_1pm: float) -> WorldState:
        """Advance 0.1 s and return the new state. Raises UserError for an action that is not a number."""
        now = self.state
        ego = advance(now.ego, acceleration_mps2, curvature_1pm, self.limits)
        self.traffic.step(now.ego)
        state = WorldState(now.t_us + STEP_US, ego, self.traffic.agents(), self.traffic.lights())
        self.history = [*self.history[1 - HISTORY_STATES :], state]
        return state

    def snapshot(self) -> WorldSnapshot:
        """The present moment, to `restore` later in this world or in another one of the same scene."""
        return WorldSnapshot(self.context, tuple(self.history), self.traffic.snapshot())

    def restore(self, saved: WorldSnapshot) -> None:
        """Back to a moment; edits made since are undone."""
        self.context, self.history = saved.context, list(saved.history)
        self.traffic.restore(saved.traffic)

    def remove_agent(self, agent_id: str) -> None:
        """Nobody of that id is there, or was. Raises CannotIntervene when nobody is."""
        self.traffic.remove_agent(agent_id)
        self._rewrite(lambda s: replace(s, agents=s.agents.keep([name != agent_id for name in s.agents.ids])))

    def freeze_agent(self, agent_id: str) -> None:
        """The agent stands still from now on. Raises CannotIntervene when nobody of that id is there."""
        self.traffic.freeze_agent(agent_id)
        self.history[-1] = replace(self.state, agents=self.traffic.agents())

    def walk_on(self, agent_id: str) -> None:
        """Someone who stands walks on, and came there without a stop. Raises CannotIntervene where nobody can."""
        self.traffic.walk_on(agent_id)
        now, t_us = self.traffic.agents(), self.state.t_us
        row = now.ids.index(agent_id)
        yaw, speed = float(now.yaw_rad[row]), float(now.speed_mps[row])
        step = speed * np.array([math.cos(yaw), math.sin(yaw)])

        def edit(moment: WorldState) -> WorldState:
            agents = moment.agents
            theirs = np.array([name == agent_id for name in agents.ids], bool)
            place = now.xy_in_local_m[row] - step * (t_us - moment.t_us) * 1e-6
            return replace(moment, agents=replace(
                agents, xy_in_local_m=np.where(theirs[:, None], place, agents.xy_in_local_m),
                speed_mps=np.where(theirs, speed, agents.speed_mps),
                indicator=np.where(theirs, 0, agents.indicator).astype(np.int8),
            ))  # fmt: skip

        self._rewrite(edit)

    def hold_light(self, light_id: str, state: str) -> None:
        """A light and its group show `state` from now on, and did so. Raises CannotIntervene for an unknown light."""
        before = dict(zip(self.state.lights.ids, self.state.lights.state, strict=True))
        self.traffic.hold_light(light_id, state)
        after = self.traffic.lights()
        pairs = zip(after.ids, after.state, strict=True)
        changed = {name: shown for name, shown in pairs if before.get(name) != shown or name == light_id}

        def edit(moment: WorldState) -> WorldState:
            lights = moment.lights
            shown = [changed.get(name, old) for name, old in zip(lights.ids, lights.state, strict=True)]
            return replace(moment, lights=replace(lights, state=shown))

        self._rewrite(edit)

    def delete_sign(self, sign_id: str) -> None:
        """A sign or the stop line that stands for it is gone. Raises CannotIntervene when there is neither.

        Whoever had to stop by a map's right of way still lets the others go first.
        """
        if sign_id in self.state.agents.ids:
            self.remove_agent(sign_id)
            return
        road = self.context.road
        parts = {"stop_lines": road.stop_lines, "right_of_way": road.right_of_way}
        if not any(sign_id in part for part in parts.values()):
            raise CannotIntervene(f"there is no sign or stop line {sign_id!r} in this scene")
        kept = {name: {key: v for key, v in part.items() if key != sign_id} for name, part in parts.items()}
        way = road.right_of_way.get(sign_id)
        if way is not None and way.kind in STOP_WAYS:
            kept["right_of_way"][sign_id] = replace(way, kind="yield")
        self.context = replace(self.context, road=replace(road, **kept))

    def delete_bump(self, name: str) -> None:
        """A speed bump of the map is gone. Raises CannotIntervene when there is none of that name."""
        road = self.context.road
        if name not in road.bumps:
            raise CannotIntervene(f"there is no speed bump {name!r} in this scene")
        bumps = {key: ring for key, ring in road.bumps.items() if key != name}
        self.context = replace(self.context, road=replace(road, bumps=bumps))

    def keep_lane(self) -> None:
        """The way to go lies in the lane that the car is in; where that ended it goes on, and what stood there is gone.

        Raises CannotIntervene where the car is in the lane of its route, and where its lane leads elsewhere.
        """
        self.context, added = lane_kept(self.context, self.state.ego)
        if added is None:
            return
        agents = self.state.agents
        inside = shapely.contains_xy(added.buffer(_BESIDE_M), *agents.xy_in_local_m.reshape(-1, 2).T)
        for name, kind, there in zip(agents.ids, agents.category, inside.tolist(), strict=True):
            if there and kind in THINGS:
                self.remove_agent(name)

    def straighten_road(self) -> None:
        """The route runs straight through the ego's pose, and everything keeps its place along it.

        Raises CannotIntervene where the traffic cannot follow.
        """
        unbend = Unbend.at(self.context, self.state.ego)
        self.traffic.straighten(unbend)
        self.context = unbend.context(self.context)
        self._rewrite(unbend.state)
        self.history[-1] = replace(self.state, agents=self.traffic.agents(), lights=self.traffic.lights())

    def _rewrite(self, edit: Callable[[WorldState], WorldState]) -> None:
        self.history = [edit(state) for state in self.history]
