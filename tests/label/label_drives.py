"""Synthetic drives for the tests of this room: speed and yaw by phases, recordings and planned motions made of them."""

from __future__ import annotations

import numpy as np

from causaldrive.clips.geometry import quat_of_yaw
from causaldrive.clips.types import AgentTracks, EgoMotion, LightTracks, Recording
from causaldrive.label.consistency import PlannedMotion
from causaldrive.worlds.expert import ExpertDriver
from causaldrive.worlds.scenes import build_scene, draw_specs
from causaldrive.worlds.state import SceneContext, WorldState
from causaldrive.worlds.town import TownWorld

STEP_S = 0.1


def speeds(start_mps: float, *phases: tuple[float, float]) -> np.ndarray:
    """Speed per 10 Hz frame for phases of (acceleration, seconds)."""
    rates = np.concatenate([np.full(round(seconds / STEP_S), rate) for rate, seconds in phases])
    return start_mps + np.concatenate([[0.0], np.cumsum(rates) * STEP_S])


def yaws(speed_mps: np.ndarray, *phases: tuple[float, float]) -> np.ndarray:
    """Yaw per frame for phases of (curvature, seconds) driven at the given speeds; the last phase is extended."""
    curvature = np.concatenate([np.full(round(seconds / STEP_S), kappa) for kappa, seconds in phases])
    curvature = (
        np.resize(curvature, len(speed_mps) - 1)
        if len(curvature) >= len(speed_mps) - 1
        else np.concatenate([curvature, np.full(len(speed_mps) - 1 - len(curvature), curvature[-1])])
    )
    return np.concatenate([[0.0], np.cumsum(curvature * speed_mps[:-1]) * STEP_S])


def path(speed_mps: np.ndarray, yaw_rad: np.ndarray) -> np.ndarray:
    """(T, 2) positions by mid-point integration."""
    mid = (speed_mps[:-1] + speed_mps[1:]) / 2 * STEP_S
    heading = (yaw_rad[:-1] + yaw_rad[1:]) / 2
    steps = np.stack([mid * np.cos(heading), mid * np.sin(heading)], axis=1)
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


def ego_of(speed_mps: np.ndarray, yaw_rad: np.ndarray | None = None, start_us: int = 0) -> EgoMotion:
    """Ego motion at 10 Hz."""
    count = len(speed_mps)
    yaw = np.zeros(count) if yaw_rad is None else yaw_rad
    position = np.column_stack([path(speed_mps, yaw), np.zeros(count)])
    velocity = np.column_stack([speed_mps, np.zeros((count, 2))])
    acceleration = np.column_stack([np.gradient(speed_mps, STEP_S), np.zeros((count, 2))])
    t_us = start_us + 100_000 * np.arange(count, dtype=np.int64)
    return EgoMotion(t_us, position, quat_of_yaw(yaw), velocity, acceleration, np.zeros(count))


def recording_of(speed_mps: np.ndarray, yaw_rad: np.ndarray | None = None, name: str = "drive", **parts) -> Recording:
    """A recording of motion alone, from the source 'test' unless told otherwise."""
    parts = {"source": "test", "licence": "none", **parts}
    return Recording(recording_id=name, ego=ego_of(speed_mps, yaw_rad), **parts)


def motion_of(
    speed_mps: np.ndarray, offset_m: np.ndarray | None = None, yaw_rad: np.ndarray | None = None
) -> PlannedMotion:
    """The first 65 frames as a planned motion; an offset is driven along a straight route."""
    speed = speed_mps[:65]
    yaw = np.zeros(65) if yaw_rad is None else yaw_rad[:65]
    xy = path(speed, yaw)
    if offset_m is not None:
        xy = np.column_stack([xy[:, 0], offset_m[:65] - offset_m[0]])
    return PlannedMotion(speed, xy, yaw, None if offset_m is None else offset_m[:65])


def swerve(peak_m: float, start_m: float = 0.0) -> np.ndarray:
    """(65,) offset that moves smoothly by `peak_m` within 3 s and stays."""
    share = np.clip(np.arange(65) / 30, 0, 1)
    return start_m + peak_m * (1 - np.cos(np.pi * share)) / 2


def town_recording(family: str, seconds: float = 16.0, first_seed: int = 0) -> Recording:
    """The expert's drive through the first causal scene of a family, without pictures."""
    spec = next(spec for spec in draw_specs(2, first_seed, [family]) if not spec.harmless)
    world = TownWorld(build_scene(spec))
    driver, states = ExpertDriver(world.context), [world.state]
    while len(states) < seconds / STEP_S and not world.finished:
        states.append(world.step(*driver.control(world.history)))
    return recording_of_states(f"town_{family}", states, world.context)


def recording_of_states(name: str, states: list[WorldState], context: SceneContext) -> Recording:
    """A recording without pictures of states and their context."""
    egos = [state.ego for state in states]
    flat = np.zeros(len(states))
    ego = EgoMotion(
        t_us=np.array([state.t_us for state in states], np.int64),
        position_in_local_m=np.column_stack([np.array([e.xy_in_local_m for e in egos]), flat]),
        quat_local_to_rig=quat_of_yaw(np.array([e.yaw_rad for e in egos])),
        velocity_in_rig_mps=np.column_stack([[e.speed_mps for e in egos], flat, flat]),
        acceleration_in_rig_mps2=np.column_stack([[e.acceleration_mps2 for e in egos], flat, flat]),
        curvature_1pm=np.array([e.curvature_1pm for e in egos]),
    )
    return Recording(
        name, "town", "none", ego, agents=_agents(states), lights=_lights(states), road=context.road,
        route_xy_in_local_m=np.asarray(context.route_xy_in_local_m),
    )  # fmt: skip


def _agents(states: list[WorldState]) -> AgentTracks:
    def all_of(name: str) -> np.ndarray:
        return np.concatenate([np.asarray(getattr(s.agents, name)) for s in states if len(s.agents)])

    xy = all_of("xy_in_local_m")
    return AgentTracks(
        t_us=np.repeat([s.t_us for s in states], [len(s.agents) for s in states]).astype(np.int64),
        agent_id=all_of("ids"), category=all_of("category"),
        xyz_in_local_m=np.column_stack([xy, np.zeros(len(xy))]), yaw_rad=all_of("yaw_rad"), size_m=all_of("size_m"),
        speed_mps=all_of("speed_mps"), brake_light=all_of("brake_light"), indicator=all_of("indicator"),
    )  # fmt: skip


def _lights(states: list[WorldState]) -> LightTracks | None:
    states = [state for state in states if len(state.lights)]
    if not states:
        return None

    def all_of(name: str) -> np.ndarray:
        return np.concatenate([np.asarray(getattr(s.lights, name)) for s in states])

    return LightTracks(
        t_us=np.repeat([s.t_us for s in states], [len(s.lights) for s in states]).astype(np.int64),
        light_id=all_of("ids"), lane_id=all_of("lane_ids"), state=all_of("state"),
        stop_xy_in_local_m=all_of("stop_xy_in_local_m"), head_xyz_in_local_m=all_of("head_xyz_in_local_m"),
        yaw_rad=all_of("yaw_rad"),
    )  # fmt: skip
