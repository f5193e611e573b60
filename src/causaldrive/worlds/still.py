"""A moment as a world that nobody drives on: what was seen up to now can be edited and asked about.

The edits are those of every `DrivenWorld`, so `interventions.act` and `counterfactual.changed` work on it. Needs only
the kept history, hence no later state can leak in. Knows nothing of recordings or drivers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from causaldrive.worlds.log_traffic import heads_over_line
from causaldrive.worlds.state import AgentArrays, EgoState, LightArrays, SceneContext, WorldState
from causaldrive.worlds.traffic import WALK_MPS, CannotIntervene
from causaldrive.worlds.unbend import Unbend
from causaldrive.worlds.world import HISTORY_STATES, DrivenWorld


class StillTraffic:
    """Agents and lights of one moment; a `TrafficSource` without a next step."""

    def __init__(self, now: WorldState):
        self._agents, self._lights = now.agents, now.lights

    def step(self, ego: EgoState) -> NoReturn:
        raise CannotIntervene("a still moment has no next one; drive a town or a replayed log instead")

    def agents(self) -> AgentArrays:
        return self._agents

    def lights(self) -> LightArrays:
        return self._lights

    def snapshot(self) -> Any:
        return self._agents, self._lights

    def restore(self, saved: Any) -> None:
        self._agents, self._lights = saved

    def remove_agent(self, agent_id: str) -> None:
        self._need(agent_id, self._agents.ids, "agent")
        self._agents = self._agents.keep([name != agent_id for name in self._agents.ids])

    def freeze_agent(self, agent_id: str) -> NoReturn:
        raise CannotIntervene("in a still moment everybody stands still already")

    def walk_on(self, agent_id: str) -> None:
        self._need(agent_id, self._agents.ids, "agent")
        goes = np.array([name == agent_id for name in self._agents.ids])
        speed, shown = self._agents.speed_mps, self._agents.indicator
        self._agents = replace(self._agents, speed_mps=np.where(goes, WALK_MPS, speed),
                               indicator=np.where(goes, 0, shown).astype(np.int8))  # fmt: skip

    def hold_light(self, light_id: str, state: str) -> None:
        lights = self._lights
        self._need(light_id, lights.ids, "light")
        group = heads_over_line(lights, light_id)
        shown = [state if name in group else now for name, now in zip(lights.ids, lights.state, strict=True)]
        self._lights = replace(lights, state=shown)

    def straighten(self, unbend: Unbend) -> None:
        self._agents, self._lights = unbend.agents(self._agents), unbend.lights(self._lights)

    @staticmethod
    def _need(name: str, known: Sequence[str], what: str) -> None:
        if name not in known:
            raise CannotIntervene(f"there is no {what} {name!r} at this moment")


class StillWorld(DrivenWorld):
    """The last state of `history` as the present."""

    def __init__(self, context: SceneContext, history: Sequence[WorldState]):
        super().__init__(context, list(history)[-HISTORY_STATES:], StillTraffic(history[-1]))

    @property
    def finished(self) -> bool:
        return True
