"""The Parquet tables of a recording: ego, agents, lights, map and route to Arrow and back.

Each `*_table` function makes a table, each `read_*` function reads the file back and checks it. Vectors are stored
as one plain column per component, polylines as one list of interleaved x, y. Knows nothing of recordings or video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from causaldrive.clips.types import AgentTracks, EgoMotion, Lane, LightTracks, RightOfWay, RoadMap
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_table
from causaldrive.ground.words import RIGHT_OF_WAY_KINDS


@dataclass(frozen=True)
class _Field:
    """How one array field lies in a table: its columns (several for a vector) and NumPy type."""

    name: str
    columns: tuple[str, ...]
    dtype: Any = float


def _vector(name: str, stem: str, parts: str, unit: str = "") -> _Field:
    return _Field(name, tuple(f"{stem}_{part}{unit}" for part in parts))


_EGO = (
    _Field("t_us", ("t_us",), np.int64),
    _vector("position_in_local_m", "position", "xyz", "_m"),
    _vector("quat_local_to_rig", "quat", "wxyz"),
    _vector("velocity_in_rig_mps", "velocity", "xyz", "_mps"),
    _vector("acceleration_in_rig_mps2", "acceleration", "xyz", "_mps2"),
    _Field("curvature_1pm", ("curvature_1pm",)),
)
_AGENTS = (
    _Field("t_us", ("t_us",), np.int64),
    _Field("agent_id", ("agent_id",), str),
    _Field("category", ("category",), str),
    _Field("xyz_in_local_m", ("x_m", "y_m", "z_m")),
    _Field("yaw_rad", ("yaw_rad",)),
    _Field("size_m", ("length_m", "width_m", "height_m")),
    _Field("speed_mps", ("speed_mps",)),
    _Field("brake_light", ("brake_light",), bool),
    _Field("indicator", ("indicator",), np.int8),
)
_LIGHTS = (
    _Field("t_us", ("t_us",), np.int64),
    _Field("light_id", ("light_id",), str),
    _Field("lane_id", ("lane_id",), str),
    _Field("state", ("state",), str),
    _Field("stop_xy_in_local_m", ("stop_x_m", "stop_y_m")),
    _Field("head_xyz_in_local_m", ("head_x_m", "head_y_m", "head_z_m")),
    _Field("yaw_rad", ("yaw_rad",)),
)
_ROUTE = (_Field("xy_in_local_m", ("x_m", "y_m")),)
_FRAMES = (_Field("t_us", ("t_us",), np.int64),)


def _to_table(fields: Sequence[_Field], values: Mapping[str, np.ndarray]) -> pa.Table:
    columns: dict[str, Any] = {}
    for entry in fields:
        value = np.asarray(values[entry.name])
        if entry.dtype is str:
            columns[entry.columns[0]] = pa.array(value.tolist(), pa.string())
        elif len(entry.columns) == 1:
            columns[entry.columns[0]] = pa.array(value.astype(entry.dtype))
        else:
            parts = value.astype(entry.dtype).reshape(-1, len(entry.columns)).T
            columns.update(
                {c: pa.array(np.ascontiguousarray(part)) for c, part in zip(entry.columns, parts, strict=True)}
            )
    return pa.table(columns)


def _from_table(fields: Sequence[_Field], path: Path) -> dict[str, np.ndarray]:
    table = read_table(path, [column for entry in fields for column in entry.columns])
    values = {}
    for entry in fields:
        parts = [_column(path, table, column, entry.dtype) for column in entry.columns]
        values[entry.name] = parts[0] if len(parts) == 1 else np.stack(parts, axis=-1)
    return values


def _column(path: Path, table: pa.Table, name: str, dtype: Any) -> np.ndarray:
    column = table.column(name)
    if column.null_count and dtype is not float:  # a null number becomes NaN and is reported by the type's own check
        raise UserError(f"{path}: column {name} has {column.null_count} empty cells; a value in each row expected.")
    if dtype is str:
        if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
            raise UserError(f"{path}: column {name} is {column.type}, expected text; write it as strings.")
        return np.array(column.to_pylist(), dtype=str)
    try:
        return column.to_numpy().astype(dtype)
    except (ValueError, TypeError, pa.ArrowException) as error:
        expected = np.dtype(dtype).name
        raise UserError(f"{path}: column {name} is {column.type}, expected {expected}; export it again.") from error


def check_times(path: Path, t_us: np.ndarray, strictly: bool) -> None:
    """Raises UserError at the first row where time runs backwards (or stands still, when `strictly`)."""
    steps = np.diff(t_us)
    back = np.flatnonzero(steps <= 0 if strictly else steps < 0)
    if len(back):
        row = int(back[0]) + 1
        raise UserError(
            f"{path}: time stamps run backwards at row {row} ({t_us[row - 1]} then {t_us[row]} us); "
            f"{'strictly increasing' if strictly else 'sorted'} times expected, so sort or repair them."
        )


def ego_table(ego: EgoMotion) -> pa.Table:
    return _to_table(_EGO, vars(ego))


def read_ego(path: Path) -> EgoMotion:
    """Raises UserError for a damaged file, missing columns, NaN, or times that run backwards."""
    ego = EgoMotion(**_from_table(_EGO, path))
    ego.validate(str(path))
    return ego


def agents_table(agents: AgentTracks) -> pa.Table:
    return _to_table(_AGENTS, vars(agents))


def read_agents(path: Path) -> AgentTracks:
    agents = AgentTracks(**_from_table(_AGENTS, path))
    agents.validate(str(path))
    check_times(path, agents.t_us, strictly=False)
    return agents


def lights_table(lights: LightTracks) -> pa.Table:
    return _to_table(_LIGHTS, vars(lights))


def read_lights(path: Path) -> LightTracks:
    lights = LightTracks(**_from_table(_LIGHTS, path))
    lights.validate(str(path))
    check_times(path, lights.t_us, strictly=False)
    return lights


def route_table(xy_in_local_m: np.ndarray) -> pa.Table:
    return _to_table(_ROUTE, {"xy_in_local_m": xy_in_local_m})


def read_route(path: Path) -> np.ndarray:
    """(R, 2) route; raises UserError when it is not finite or shorter than two points."""
    route = _from_table(_ROUTE, path)["xy_in_local_m"]
    if len(route) < 2 or not np.isfinite(route).all():
        raise UserError(
            f"{path}: {len(route)} route points or values that are not numbers; at least 2 finite points expected."
        )
    return route


def frame_times_table(t_us: np.ndarray) -> pa.Table:
    return _to_table(_FRAMES, {"t_us": t_us})


def read_frame_times(path: Path) -> np.ndarray:
    """(F,) int64 frame times, strictly increasing."""
    t_us = _from_table(_FRAMES, path)["t_us"]
    check_times(path, t_us, strictly=True)
    return t_us


_XY = pa.list_(pa.float64())
_MAP_SCHEMA = pa.schema([
    ("element", pa.string()),  # lane, crosswalk, drivable, stop_line, building, bump, right_of_way
    ("id", pa.string()),
    ("xy_m", _XY),  # a lane's centre line; a ring or segment for the other elements
    ("left_xy_m", _XY), ("right_xy_m", _XY),
    ("speed_limit_mps", pa.float64()), ("kind", pa.string()), ("in_junction", pa.bool_()),
    ("left_mark", pa.string()), ("right_mark", pa.string()),
    ("successors", pa.list_(pa.string())), ("predecessors", pa.list_(pa.string())),
    ("left_neighbour", pa.string()), ("right_neighbour", pa.string()),
])  # fmt: skip
_SHAPES = {
    "crosswalk": "crosswalks",
    "drivable": "drivable",
    "stop_line": "stop_lines",
    "building": "buildings",
    "bump": "bumps",
}
_LANE_SCALARS = (
    "speed_limit_mps", "kind", "in_junction", "left_mark", "right_mark", "left_neighbour", "right_neighbour",
)  # fmt: skip


def map_table(road: RoadMap) -> pa.Table:
    """One row an element; columns that an element does not have are empty."""
    rows = [_lane_row(lane) for lane in road.lanes.values()]
    for element, name in _SHAPES.items():
        rows += [{"element": element, "id": key, "xy_m": _flat(xy)} for key, xy in getattr(road, name).items()]
    rows += [_right_of_way_row(way) for way in road.right_of_way.values()]
    return pa.Table.from_pylist(rows, schema=_MAP_SCHEMA)


def _lane_row(lane: Lane) -> dict[str, Any]:
    row: dict[str, Any] = {"element": "lane", "id": lane.lane_id, "xy_m": _flat(lane.centre_xy_m)}
    row |= {"left_xy_m": _flat(lane.left_xy_m), "right_xy_m": _flat(lane.right_xy_m)}
    row |= {"successors": list(lane.successors), "predecessors": list(lane.predecessors)}
    return row | {name: getattr(lane, name) for name in _LANE_SCALARS}


def read_map(path: Path) -> RoadMap:
    """Raises UserError for a damaged file, an unknown element, or a polyline that is not finite."""
    road = RoadMap()
    for row in read_table(path, _MAP_SCHEMA.names).to_pylist():
        element, key = row["element"], row["id"]
        where = f"{path}: {element} {key}"
        if element == "lane":
            road.lanes[key] = _lane_of(row, where)
        elif element in _SHAPES:
            getattr(road, _SHAPES[element])[key] = _points(row["xy_m"], where)
        elif element == "right_of_way":
            road.right_of_way[key] = _right_of_way_of(row, where)
        else:
            names = ", ".join(("lane", *_SHAPES, "right_of_way"))
            raise UserError(f"{where}: expected one of {names}; export the map again.")
    return road


def _right_of_way_row(way: RightOfWay) -> dict[str, Any]:
    """`xy_m` holds the waiting place and a point one metre ahead; `successors` the lanes that go first."""
    ahead = way.stop_xy_m + np.array([np.cos(way.yaw_rad), np.sin(way.yaw_rad)])
    return {"element": "right_of_way", "id": way.lane_id, "xy_m": _flat(np.stack([way.stop_xy_m, ahead])),
            "kind": way.kind, "successors": list(way.foes)}  # fmt: skip


def _right_of_way_of(row: dict[str, Any], where: str) -> RightOfWay:
    kind, points = row["kind"], _points(row["xy_m"], where)
    if kind not in RIGHT_OF_WAY_KINDS:
        expected = ", ".join(RIGHT_OF_WAY_KINDS)
        raise UserError(f"{where}: kind {kind!r} found, expected one of {expected}; export the map again.")
    yaw = float(np.arctan2(*(points[1] - points[0])[::-1]))
    return RightOfWay(kind, row["id"], points[0], yaw, tuple(row["successors"] or ()))


def _lane_of(row: dict[str, Any], where: str) -> Lane:
    left, right = (_points(row[name], where) for name in ("left_xy_m", "right_xy_m"))
    return Lane(
        lane_id=row["id"],
        centre_xy_m=_points(row["xy_m"], where),
        left_xy_m=left,
        right_xy_m=right,
        successors=tuple(row["successors"] or ()),
        predecessors=tuple(row["predecessors"] or ()),
        **{name: row[name] for name in _LANE_SCALARS},
    )


def _flat(xy: np.ndarray) -> list[float]:
    return np.asarray(xy, float).reshape(-1).tolist()


def _points(flat: list[float] | None, where: str) -> np.ndarray:
    values = np.array(flat or [], float)
    if len(values) < 4 or len(values) % 2 or not np.isfinite(values).all():
        raise UserError(f"{where} has {len(values)} coordinates or some that are not numbers; pairs of x, y expected.")
    return values.reshape(-1, 2)
