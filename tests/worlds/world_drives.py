"""Plans, logs and policies shared by the tests of episodes and their pool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from drawing import straight_road

from causaldrive.clips.geometry import quat_of_yaw
from causaldrive.clips.resample import motion_from_poses
from causaldrive.clips.store import write_recording
from causaldrive.clips.types import AgentTracks, Recording, RoadMap
from causaldrive.worlds.episode import DriveSettings, EpisodeResult, Observation, Plan
from causaldrive.worlds.pool import BrokenScene, Reply, Worker
from causaldrive.worlds.state import WorldState

BLIND = DriveSettings(camera=False, duration_s=5.0)


def arc_plan(speed_mps: float, acceleration_mps2: float = 0.0, curvature_1pm: float = 0.0, left_m: float = 0.0) -> Plan:
    """s = v t + a t^2 / 2 until rest; x = sin(k s) / k, y = (1 - cos(k s)) / k, yaw = k s, moved `left_m` aside."""
    t = 0.1 * np.arange(1, 65)
    if acceleration_mps2 < 0:
        t = np.minimum(t, -speed_mps / acceleration_mps2)
    s = speed_mps * t + 0.5 * acceleration_mps2 * t**2
    yaw = curvature_1pm * s
    x = s * np.sinc(yaw / np.pi)
    y = s * np.sinc(yaw / 2 / np.pi) * np.sin(yaw / 2)
    return Plan(np.stack([x, y + left_m], axis=1), yaw, "Keep going.")


def log(seconds: float = 8.0, speed_mps: float = 8.0, road: RoadMap | None = None, x_m: float = -40.0) -> Recording:
    """A car that drives straight along the right lane of `straight_road` at constant speed, one car far ahead."""
    t = np.arange(round(seconds * 10) + 1) * 0.1
    t_us = np.rint(t * 1e6).astype(np.int64)
    xyz = np.column_stack([x_m + speed_mps * t, np.full(len(t), -1.75), np.zeros(len(t))])
    count = len(t)
    agents = AgentTracks(
        t_us=t_us,
        agent_id=np.array(["lead"] * count),
        category=np.array(["car"] * count),
        xyz_in_local_m=xyz + np.array([60.0, 0.0, 0.0]),
        yaw_rad=np.zeros(count),
        size_m=np.tile([4.6, 1.9, 1.5], (count, 1)),
        speed_mps=np.full(count, speed_mps),
        brake_light=np.zeros(count, bool),
        indicator=np.zeros(count, np.int8),
    )
    ego = motion_from_poses(t_us, xyz, quat_of_yaw(np.zeros(count)))
    return Recording("straight", "av2", "none", ego, agents=agents, road=road)


def wide_road() -> RoadMap:
    """`straight_road` on a square large enough that leaving the log is not leaving the road."""
    square = np.array([[-60.0, -30.0], [210.0, -30.0], [210.0, 30.0], [-60.0, 30.0]])
    road = straight_road()
    return RoadMap(road.lanes, drivable={"square": square})


def written(directory: Path, recording: Recording) -> Path:
    write_recording(directory, recording, {})
    return directory


class InProcess:
    """The pool's two doors over a worker of this process, which is what the pool is compared with."""

    def __init__(self, settings: DriveSettings = BLIND):
        self.settings, self.worker = settings, Worker(settings)

    def start(self, jobs: Sequence[tuple]) -> dict[int, Reply]:
        return {key: self.worker.start(key, spec) for key, spec in jobs}

    def advance(self, plans: Sequence[tuple]) -> dict[int, Reply]:
        return {key: self.worker.advance(key, plan) for key, plan in plans}


class Swerving:
    """A plan of its own for every observation, a function of what is seen alone."""

    def act(self, observations: Sequence[Observation]) -> list[Plan]:
        return [arc_plan(o.speed_mps, 0.5 * np.sin(o.t_us * 1e-6), -0.5 * o.curvature_1pm) for o in observations]


def finished(outcome: EpisodeResult | BrokenScene) -> EpisodeResult:
    assert isinstance(outcome, EpisodeResult), outcome
    return outcome


def same_drive(one: EpisodeResult, two: EpisodeResult) -> bool:
    """Bit for bit: poses of all states, events, decisions, score and end."""
    poses = [[_numbers(state) for state in result.states] for result in (one, two)]
    plans = [[(d.t_us, d.text, d.truth, *d.lane_offset_m, *d.speeds_mps) for d in r.decisions] for r in (one, two)]
    rest = [(r.spec, r.events, r.score, r.failure, r.ended) for r in (one, two)]
    return poses[0] == poses[1] and plans[0] == plans[1] and rest[0] == rest[1]


def _numbers(state: WorldState) -> tuple[float, ...]:
    ego = state.ego
    return state.t_us, *ego.xy_in_local_m, ego.yaw_rad, ego.speed_mps, *state.agents.xy_in_local_m.ravel()
