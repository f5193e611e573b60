"""Argoverse 2 annotations to agent tracks: categories, boxes on the ground in the local frame, smoothed speeds.

Reads nothing itself. Lamps are not annotated: brake lights and indicators stay off. Knows nothing of files or maps.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from causaldrive.clips.geometry import matrix_of_quat, yaw_of
from causaldrive.clips.resample import derivative, resample_ego
from causaldrive.clips.types import AgentTracks, EgoMotion

CATEGORIES = {  # published category -> AGENT_CATEGORIES; anything else is 'other'
    "REGULAR_VEHICLE": "car", "LARGE_VEHICLE": "truck", "BOX_TRUCK": "truck", "TRUCK": "truck", "TRUCK_CAB": "truck",
    "VEHICULAR_TRAILER": "truck", "BUS": "bus", "SCHOOL_BUS": "bus", "ARTICULATED_BUS": "bus",
    "MOTORCYCLE": "motorcycle", "MOTORCYCLIST": "motorcycle", "BICYCLIST": "cyclist", "WHEELED_RIDER": "cyclist",
    "PEDESTRIAN": "pedestrian", "STROLLER": "pedestrian", "WHEELCHAIR": "pedestrian", "OFFICIAL_SIGNALER": "pedestrian",
    "ANIMAL": "animal", "DOG": "animal", "CONSTRUCTION_CONE": "cone", "CONSTRUCTION_BARREL": "cone",
    "BOLLARD": "barrier", "SIGN": "sign", "STOP_SIGN": "sign", "MOBILE_PEDESTRIAN_SIGN": "sign",
    "MOBILE_PEDESTRIAN_CROSSING_SIGN": "sign", "MESSAGE_BOARD_TRAILER": "barrier", "TRAFFIC_LIGHT_TRAILER": "barrier",
}  # fmt: skip
_RIDDEN_WHEN_MOVING = {"BICYCLE": "cyclist", "WHEELED_DEVICE": "cyclist"}  # 'other' while it only stands
_RIDDEN_MPS = 1.0
_STANDING_MPS = 0.3  # annotation jitter of a box at rest
_FIXED = ("cone", "barrier", "sign")
_MAX_STEP_US, _SPEED_WINDOW_S = 250_000, 0.7


def agents_in_local(columns: Mapping[str, np.ndarray], t_us: np.ndarray, ego: EgoMotion, rig_z_m: float) -> AgentTracks:
    """Annotated boxes (centre and quaternion in the egovehicle frame) brought to the local frame, on the ground.

    `rig_z_m` is the height of the rig origin in the egovehicle frame. Boxes that hold the ego itself are dropped,
    boxes outside the ego's time span too.
    """
    inside = (t_us >= ego.t_us[0]) & (t_us <= ego.t_us[-1])
    order = np.flatnonzero(inside)[np.argsort(t_us[inside], kind="stable")]
    pick = {name: values[order] for name, values in columns.items()}
    stamps, row_of = np.unique(t_us[order], return_inverse=True)
    poses = resample_ego(ego, stamps)
    rotation = matrix_of_quat(poses.quat_local_to_rig)[row_of]
    size = np.stack([pick["length_m"], pick["width_m"], pick["height_m"]], axis=1)
    in_rig = np.stack([pick["tx_m"], pick["ty_m"], pick["tz_m"] - rig_z_m], axis=1)
    box_in_rig = matrix_of_quat(np.stack([pick[name] for name in ("qw", "qx", "qy", "qz")], axis=1))
    foot_in_rig = in_rig - box_in_rig[:, :, 2] * size[:, 2:] / 2
    xyz = poses.position_in_local_m[row_of] + np.einsum("nij,nj->ni", rotation, foot_in_rig)
    forward = np.einsum("nij,nj->ni", rotation, box_in_rig[:, :, 0])
    yaw = np.arctan2(forward[:, 1], forward[:, 0])
    tracks = tracks_of(t_us[order], pick["track_uuid"], pick["category"], xyz, yaw, size)
    return without_ego(tracks, poses, row_of)


def tracks_of(
    t_us: np.ndarray, agent_id: np.ndarray, published: np.ndarray, xyz: np.ndarray, yaw: np.ndarray, size: np.ndarray
) -> AgentTracks:
    """Tracks (N rows, sorted by time) with categories and speeds worked out."""
    speed, category = np.zeros(len(t_us)), np.empty(len(t_us), dtype="U16")
    for agent in np.unique(agent_id):
        rows = np.flatnonzero(agent_id == agent)
        velocity = _velocity(t_us[rows], xyz[rows, :2])
        category[rows] = _category(str(published[rows[0]]), velocity)
        speed[rows] = _speed(str(category[rows[0]]), velocity, yaw[rows])
    none = np.zeros(len(t_us), np.int8)
    return AgentTracks(t_us, agent_id.astype(str), category, xyz, yaw, size, speed, none.astype(bool), none)


def _category(published: str, velocity: np.ndarray) -> str:
    if published in _RIDDEN_WHEN_MOVING:
        moves = np.percentile(np.linalg.norm(velocity, axis=1), 90) > _RIDDEN_MPS
        return _RIDDEN_WHEN_MOVING[published] if moves else "other"
    return CATEGORIES.get(published, "other")


def _speed(category: str, velocity: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Along the box for what has wheels (negative in reverse), any direction for walkers, 0 for what is fixed."""
    total = np.linalg.norm(velocity, axis=1)
    if category in _FIXED:
        return np.zeros(len(total))
    along = np.sum(velocity * np.stack([np.cos(yaw), np.sin(yaw)], axis=1), axis=1)
    speed = total if category in ("pedestrian", "animal", "other") else along
    return np.where(np.abs(speed) < _STANDING_MPS, 0.0, speed)


def _velocity(t_us: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """(T, 2) smoothed differences; a track is cut where it was not annotated for a while."""
    velocity = np.zeros_like(xy)
    for part in np.split(np.arange(len(t_us)), np.flatnonzero(np.diff(t_us) > _MAX_STEP_US) + 1):
        if len(part) > 1:
            step_s = float(t_us[part[-1]] - t_us[part[0]]) / 1e6 / (len(part) - 1)
            velocity[part] = derivative(xy[part], step_s, 1, _SPEED_WINDOW_S)
    return velocity


def without_ego(tracks: AgentTracks, poses: EgoMotion, row_of: np.ndarray) -> AgentTracks:
    """Rows whose box holds the point a metre ahead of the ego's rear axle are the ego itself."""
    yaw = yaw_of(poses.quat_local_to_rig)[row_of]
    point = poses.position_in_local_m[row_of, :2] + np.stack([np.cos(yaw), np.sin(yaw)], axis=1)
    gap = point - tracks.xyz_in_local_m[:, :2]
    along = gap[:, 0] * np.cos(tracks.yaw_rad) + gap[:, 1] * np.sin(tracks.yaw_rad)
    across = -gap[:, 0] * np.sin(tracks.yaw_rad) + gap[:, 1] * np.cos(tracks.yaw_rad)
    outside = (np.abs(along) > tracks.size_m[:, 0] / 2) | (np.abs(across) > tracks.size_m[:, 1] / 2)
    return AgentTracks(**{name: value[outside] for name, value in vars(tracks).items()})
