"""World states to a recording: what was driven in a world, in the store's types.

Pure conversion; writes nothing. Knows nothing of how the states came about.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from causaldrive.clips.geometry import quat_of_yaw
from causaldrive.clips.types import AgentTracks, CameraTrack, EgoMotion, LightTracks, Recording
from causaldrive.worlds.state import SceneContext, WorldState

LICENCE = "Apache-2.0 (made by causaldrive's embedded town)"


def recording_of(
    recording_id: str, states: Sequence[WorldState], context: SceneContext, frame_t_us: np.ndarray, meta: dict
) -> Recording:
    """A recording of consecutive states; its one camera has frames at `frame_t_us` (F,), none when F is 0."""
    camera = context.camera
    cameras = {camera.name: CameraTrack(camera, frame_t_us)} if len(frame_t_us) else {}
    ego = states[0].ego
    return Recording(
        recording_id, "town", LICENCE, ego_motion_of(states), cameras, _agent_tracks(states), _light_tracks(states),
        context.road, context.route_xy_in_local_m, ego.size_m, ego.rear_axle_to_centre_m, meta,
    )  # fmt: skip


def ego_motion_of(states: Sequence[WorldState]) -> EgoMotion:
    """Poses and motion of the ego; lateral acceleration is v^2 curvature."""
    speed = np.array([s.ego.speed_mps for s in states])
    curvature = np.array([s.ego.curvature_1pm for s in states])
    zero = np.zeros(len(states))
    forward = np.array([s.ego.acceleration_mps2 for s in states])
    xy = np.array([s.ego.xy_in_local_m for s in states])
    return EgoMotion(
        np.array([s.t_us for s in states], np.int64),
        np.column_stack([xy, zero]),
        quat_of_yaw(np.array([s.ego.yaw_rad for s in states])),
        np.column_stack([speed, zero, zero]),
        np.column_stack([forward, speed**2 * curvature, zero]),
        curvature,
    )


def _agent_tracks(states: Sequence[WorldState]) -> AgentTracks:
    agents = [s.agents for s in states]
    xy = np.concatenate([a.xy_in_local_m for a in agents])
    return AgentTracks(
        _times(states, [len(a) for a in agents]),
        np.array([i for a in agents for i in a.ids], dtype=object),
        np.array([c for a in agents for c in a.category], dtype=object),
        np.column_stack([xy, np.zeros(len(xy))]),
        np.concatenate([a.yaw_rad for a in agents]),
        np.concatenate([a.size_m for a in agents]),
        np.concatenate([a.speed_mps for a in agents]),
        np.concatenate([a.brake_light for a in agents]).astype(bool),
        np.concatenate([a.indicator for a in agents]).astype(np.int8),
    )


def _light_tracks(states: Sequence[WorldState]) -> LightTracks | None:
    lights = [s.lights for s in states]
    if not any(len(light) for light in lights):
        return None
    return LightTracks(
        _times(states, [len(light) for light in lights]),
        np.array([i for light in lights for i in light.ids], dtype=object),
        np.array([i for light in lights for i in light.lane_ids], dtype=object),
        np.array([v for light in lights for v in light.state], dtype=object),
        np.concatenate([light.stop_xy_in_local_m for light in lights]),
        np.concatenate([light.head_xyz_in_local_m for light in lights]),
        np.concatenate([light.yaw_rad for light in lights]),
    )


def _times(states: Sequence[WorldState], counts: list[int]) -> np.ndarray:
    return np.repeat(np.array([s.t_us for s in states], np.int64), counts)
