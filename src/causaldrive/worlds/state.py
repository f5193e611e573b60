"""One world state between traffic source, renderer, expert and scorer: arrays of agents and lights, and the ego.

The same arrays come from the embedded town and from a replayed real log. Everything is in the local frame.
Knows nothing of where the state came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from causaldrive.clips.types import Camera, RoadMap

WAVES = 3  # `indicator` of a person who stands and waves us on


@dataclass
class AgentArrays:
    """N agents at one moment. Boxes are centred on their footprint."""

    ids: list[str] = field(default_factory=list)
    category: list[str] = field(default_factory=list)  # of AGENT_CATEGORIES
    xy_in_local_m: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    yaw_rad: np.ndarray = field(default_factory=lambda: np.zeros(0))
    speed_mps: np.ndarray = field(default_factory=lambda: np.zeros(0))
    size_m: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))  # length, width, height
    brake_light: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    indicator: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int8))  # 1 left, -1 right, 2 both, 3 waves

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, there: Sequence[bool]) -> AgentArrays:
        """Only the agents for which the mask (N,) holds."""
        rows = np.flatnonzero(np.asarray(there, bool))
        arrays = (self.xy_in_local_m, self.yaw_rad, self.speed_mps, self.size_m, self.brake_light, self.indicator)
        names = [self.ids[row] for row in rows], [self.category[row] for row in rows]
        return AgentArrays(*names, *(array[rows] for array in arrays))


@dataclass
class LightArrays:
    """L signal heads at one moment."""

    ids: list[str] = field(default_factory=list)
    lane_ids: list[str] = field(default_factory=list)
    state: list[str] = field(default_factory=list)  # of LIGHT_STATES
    stop_xy_in_local_m: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    head_xyz_in_local_m: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    yaw_rad: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.ids)

    def keep(self, there: Sequence[bool]) -> LightArrays:
        """Only the heads for which the mask (L,) holds."""
        rows = np.flatnonzero(np.asarray(there, bool))
        ids, lanes, states = ([part[row] for row in rows] for part in (self.ids, self.lane_ids, self.state))
        stop, head, yaw = (part[rows] for part in (self.stop_xy_in_local_m, self.head_xyz_in_local_m, self.yaw_rad))
        return LightArrays(ids, lanes, states, stop, head, yaw)


@dataclass
class EgoState:
    """The ego at its rear axle (the rig origin)."""

    xy_in_local_m: np.ndarray  # (2,)
    yaw_rad: float
    speed_mps: float
    acceleration_mps2: float = 0.0
    curvature_1pm: float = 0.0
    size_m: tuple[float, float, float] = (4.6, 1.9, 1.6)
    rear_axle_to_centre_m: float = 1.4

    @property
    def centre_xy_in_local_m(self) -> np.ndarray:
        """(2,) centre of the ego's box."""
        heading = np.array([np.cos(self.yaw_rad), np.sin(self.yaw_rad)])
        return self.xy_in_local_m + self.rear_axle_to_centre_m * heading


@dataclass
class WorldState:
    """Everything dynamic at one moment."""

    t_us: int
    ego: EgoState
    agents: AgentArrays
    lights: LightArrays


@dataclass
class SceneContext:
    """Everything static of one scene: what renderer, expert and scorer need beside the state."""

    road: RoadMap
    route_xy_in_local_m: np.ndarray  # (R, 2) centre line of the way to go
    target_speed_mps: float
    camera: Camera
    appearance: dict = field(default_factory=dict)  # renderer hints: sky, fog, ground, agent colours, ...
