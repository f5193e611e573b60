"""Log replay: a recording's agents, lights and map as a world that the ego can drive in.

Other agents and lights follow the log by time; the ego moves by the town's unicycle and actuator limits from the
moment the policy takes over, with its recorded motion as the history before that. Reads recordings. Knows nothing of
policies or rendering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causaldrive.clips.geometry import project_on_polyline, to_frame, wrap_angle
from causaldrive.clips.resample import driven_path, resample_ego
from causaldrive.clips.types import Camera, EgoMotion, Recording, RoadMap
from causaldrive.ground.errors import UserError
from causaldrive.ground.words import HISTORY_STEPS, STEP_US
from causaldrive.worlds.log_traffic import AgentTimeline, LightTimeline, LogTraffic
from causaldrive.worlds.reactive_log import ReactiveLogTraffic
from causaldrive.worlds.scenes import default_camera
from causaldrive.worlds.state import EgoState, SceneContext, WorldState
from causaldrive.worlds.vehicle import LIMITS, VehicleLimits
from causaldrive.worlds.world import HISTORY_STATES, DrivenWorld

_MIN_TARGET_MPS = 5.0  # a log that stands still all the time still has somewhere to go


def context_of(recording: Recording) -> SceneContext:
    """What is static: map, route, target speed and camera.

    The route is the recorded one, else the driven path. The target speed is the highest recorded speed, at most the
    speed limit of the lanes where the map has any. The camera is the recording's first, else the town's.
    """
    route = recording.route_xy_in_local_m
    return SceneContext(
        road=recording.road or RoadMap(),
        route_xy_in_local_m=_path_and_a_metre(recording.ego) if route is None else route,
        target_speed_mps=_target_speed_mps(recording),
        camera=_camera(recording),
    )


def _camera(recording: Recording) -> Camera:
    tracks = list(recording.cameras.values())
    return tracks[0].camera if tracks else default_camera()


def _target_speed_mps(recording: Recording) -> float:
    """What the driver aims for: written down by a world of ours, else the fastest that was driven within the limit."""
    if "target_speed_mps" in recording.meta:
        return float(recording.meta["target_speed_mps"])
    fastest = max(float(recording.ego.speed_mps.max()), _MIN_TARGET_MPS)
    lanes = recording.road.lanes.values() if recording.road else ()
    limits = [lane.speed_limit_mps for lane in lanes if lane.kind == "vehicle"]
    return min(fastest, max(limits)) if limits else fastest


def _path_and_a_metre(ego: EgoMotion) -> np.ndarray:
    """(R, 2) the driven path and a metre straight ahead, so that a standing ego has a way to go too."""
    heading = np.array([np.cos(ego.yaw_rad[-1]), np.sin(ego.yaw_rad[-1])])
    return np.vstack([driven_path(ego), ego.position_in_local_m[-1:, :2] + heading])


def states_of(recording: Recording, t_us: np.ndarray | Sequence[int]) -> list[WorldState]:
    """The logged world at each time (N,); agents between two annotations are interpolated.

    Raises UserError when a time lies outside the ego's recorded span.
    """
    times = np.asarray(t_us, np.int64)
    agents, lights = AgentTimeline(recording.agents), LightTimeline(recording.lights)
    egos = _egos(recording, times)
    return [WorldState(int(t), ego, agents.at(int(t)), lights.at(int(t))) for t, ego in zip(times, egos, strict=True)]


def _egos(recording: Recording, t_us: np.ndarray) -> list[EgoState]:
    ego = resample_ego(recording.ego, t_us)
    yaw = ego.yaw_rad
    return [
        EgoState(
            xy_in_local_m=ego.position_in_local_m[i, :2],
            yaw_rad=float(yaw[i]),
            speed_mps=float(ego.speed_mps[i]),
            acceleration_mps2=float(ego.acceleration_in_rig_mps2[i, 0]),
            curvature_1pm=float(ego.curvature_1pm[i]),
            size_m=recording.ego_size_m,
            rear_axle_to_centre_m=recording.rear_axle_to_centre_m,
        )
        for i in range(len(t_us))
    ]


@dataclass(frozen=True)
class _LogGains:
    """How firmly `log_control` holds the logged path: time constants of about a second."""

    speed_1ps: float = 2.0
    along_1ps2: float = 1.0
    heading_1pm: float = 0.35
    lateral_1pm2: float = 0.05


class ReplayWorld(DrivenWorld):
    """A recording from `t_start_us` on, with the doors of the embedded town: context, state, history, step, finished.

    The others follow the log by time, or, `reactive`, brake for the ego on their logged paths (`reactive_log.py`).
    Raises UserError when `t_start_us` has less than 1.5 s of log before it or nothing after it.
    """

    def __init__(self, recording: Recording, t_start_us: int, limits: VehicleLimits = LIMITS, reactive: bool = False):
        first, last = _span_us(recording)
        earliest = first + (HISTORY_STEPS - 1) * STEP_US
        if not earliest <= t_start_us <= last - STEP_US:
            raise UserError(
                f"{recording.recording_id}: a replay cannot start at t_us {t_start_us}; a time from {earliest} to "
                f"{last - STEP_US} expected, so that there is history before it and log after it."
            )
        self._recording, self._last_us = recording, last
        kept = min(HISTORY_STATES, (t_start_us - first) // STEP_US + 1)
        history = states_of(recording, t_start_us + np.arange(1 - kept, 1) * STEP_US)
        traffic = (ReactiveLogTraffic if reactive else LogTraffic)(recording, t_start_us)
        super().__init__(context_of(recording), history, traffic, limits)

    @property
    def finished(self) -> bool:
        """True when the log has no further step."""
        return self.state.t_us + STEP_US > self._last_us

    def step(self, acceleration_mps2: float, curvature_1pm: float) -> WorldState:
        """0.1 s on: the ego by `vehicle.advance`, everything else by the log."""
        assert not self.finished, "the log is at its end"
        return super().step(acceleration_mps2, curvature_1pm)

    def log_ego(self, t_us: int) -> EgoState:
        """Where the recorded driver was. Raises UserError outside the recording."""
        return _egos(self._recording, np.array([t_us], np.int64))[0]

    def log_control(self, history: Sequence[WorldState]) -> tuple[float, float]:
        """(acceleration, curvature) that keep the ego on the log: the logged ones plus feedback on what is off."""
        gains = _LogGains()
        now = history[-1]
        log = self.log_ego(min(now.t_us + STEP_US // 2, self._last_us))  # the command acts over the coming step
        reference = self.log_ego(now.t_us)
        along, left = to_frame(reference.xy_in_local_m, now.ego.xy_in_local_m, now.ego.yaw_rad)
        turn = float(wrap_angle(reference.yaw_rad - now.ego.yaw_rad))
        acceleration = log.acceleration_mps2 + gains.speed_1ps * (reference.speed_mps - now.ego.speed_mps)
        curvature = log.curvature_1pm + gains.heading_1pm * turn + gains.lateral_1pm2 * float(left)
        return acceleration + gains.along_1ps2 * float(along), curvature

    def log_distance_m(self, t_from_us: int, t_to_us: int) -> float:
        """How far along the route the recorded driver came between two times, cut to the log's end."""
        route = self.context.route_xy_in_local_m
        ends = [self.log_ego(min(t, self._last_us)).xy_in_local_m for t in (t_from_us, t_to_us)]
        arcs, _ = project_on_polyline(np.array(ends), route)
        return float(arcs[1] - arcs[0])


def _span_us(recording: Recording) -> tuple[int, int]:
    """First and last time that can be replayed: inside the ego's log and, where there are agents, their log."""
    first, last = int(recording.ego.t_us[0]), int(recording.ego.t_us[-1])
    if recording.agents is not None and len(recording.agents.t_us):
        first = max(first, int(recording.agents.t_us[0]))
        last = min(last, int(recording.agents.t_us[-1]))
    return first, last
