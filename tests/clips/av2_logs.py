"""A made-up Argoverse 2 log in the published layout, with known truth."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from scipy.spatial.transform import Rotation

CITY_M = np.array([1500.0, -200.0, 30.0])  # where the log starts in the city
START_NS = 315_973_157_000_000_000
HEADING = 0.5
SPEED_MPS = 6.0
AXLE_M = 0.33
LENGTH_S = 6.0


def ego_city(t_s: np.ndarray) -> np.ndarray:
    """(T, 3) the rear axle, driving straight at constant speed."""
    along = SPEED_MPS * np.asarray(t_s, float)
    return CITY_M + np.column_stack([along * np.cos(HEADING), along * np.sin(HEADING), 0 * along])


def write_log(directory: Path, images: bool = False, agents: bool = True) -> Path:
    directory.mkdir(parents=True)
    t = np.repeat(np.arange(0, LENGTH_S, 0.005), 2)
    stamps = START_NS + np.rint(t * 1e9).astype(np.int64) + np.tile([0, 2], len(t) // 2)  # pairs 2 ns apart
    write_feather(directory / "city_SE3_egovehicle.feather", poses(stamps, ego_city(t), len(t)))
    rows = boxes() if agents else []
    write_feather(directory / "annotations.feather", {name: [row[name] for row in rows] for name in boxes()[0]})
    (directory / "map").mkdir()
    archive = directory / "map" / f"log_map_archive_{directory.name}____PIT_city_1.json"
    archive.write_text(json.dumps(city_map()))
    if images:
        write_images(directory)
    return directory


def write_feather(path: Path, columns: dict) -> None:
    pyarrow.feather.write_feather(pa.table(columns), str(path))


def poses(stamps: np.ndarray, xyz: np.ndarray, count: int) -> dict:
    quat = np.tile(Rotation.from_euler("Z", HEADING).as_quat(scalar_first=True), (count, 1))
    names = ("qw", "qx", "qy", "qz")
    return {"timestamp_ns": stamps, **dict(zip(names, quat.T, strict=True)),
            **dict(zip(("tx_m", "ty_m", "tz_m"), xyz.T, strict=True))}  # fmt: skip


def boxes() -> list[dict]:
    """A lead car 20 m ahead at 6 m/s, a parked and a ridden bicycle, a walker crossing, and the ego itself."""
    rows = []
    for t in np.arange(0.05, LENGTH_S - 0.1, 0.1):
        stamp = START_NS + round(t * 1e9)
        turn = Rotation.from_euler("Z", HEADING)
        for key, published, in_log, yaw, size in (
            ("lead", "REGULAR_VEHICLE", (20 + 6 * t, 0), 0.0, (4.5, 1.9, 1.6)),
            ("parked", "BICYCLE", (30, -4), 0.1, (1.7, 0.6, 1.1)),
            ("ridden", "BICYCLE", (10 + 4 * t, 4), 0.0, (1.7, 0.6, 1.7)),
            ("walker", "PEDESTRIAN", (40, -3 + 1.4 * t), 0.0, (0.7, 0.7, 1.8)),
            ("mystery", "UNHEARD_OF", (5, 8), 0.0, (1.0, 1.0, 1.0)),
            ("self", "REGULAR_VEHICLE", (1.4 + 6 * t, 0), 0.0, (4.9, 1.9, 1.5)),
        ):
            ground = CITY_M - [0, 0, AXLE_M] + turn.apply([in_log[0], in_log[1], size[2] / 2])
            in_ego = turn.inv().apply(ground - ego_city(np.array([t]))[0])
            quat = Rotation.from_euler("Z", yaw).as_quat(scalar_first=True)
            row = {"timestamp_ns": stamp, "track_uuid": key, "category": published}
            row |= dict(zip(("length_m", "width_m", "height_m"), size, strict=True))
            row |= dict(zip(("qw", "qx", "qy", "qz"), quat, strict=True))
            rows.append(row | dict(zip(("tx_m", "ty_m", "tz_m"), in_ego, strict=True)))
    return rows


def city_map() -> dict:
    """Lanes 1 -> 2 ahead of the ego, 3 beside it in its direction, 4 oncoming; one crosswalk, one area."""
    turn = Rotation.from_euler("Z", HEADING)

    def line(x0: float, x1: float, y: float) -> list[dict]:
        points = CITY_M + turn.apply([[x, y, -AXLE_M] for x in (x0, (x0 + x1) / 2, x1)])
        return [dict(zip("xyz", map(float, point), strict=True)) for point in points]

    def lane(key: int, x: tuple, y: tuple, **links) -> dict:
        shape = {"left_lane_boundary": line(*x, y[0]), "right_lane_boundary": line(*x, y[1])}
        base = {"id": key, "is_intersection": False, "lane_type": "VEHICLE", "left_lane_mark_type": "DASHED_WHITE",
                "right_lane_mark_type": "DOUBLE_SOLID_YELLOW", "successors": [], "predecessors": [],
                "right_neighbor_id": None, "left_neighbor_id": None}  # fmt: skip
        return base | shape | links

    lanes = [
        lane(1, (-20, 40), (1.7, -1.7), successors=[2, 999], left_neighbor_id=3, right_neighbor_id=4),
        lane(2, (40, 220), (1.7, -1.7), predecessors=[1], is_intersection=True, lane_type="BUS"),
        lane(3, (-20, 40), (5.1, 1.7), lane_type="BIKE", right_neighbor_id=1),
        lane(4, (40, -20), (-5.1, -1.7), right_neighbor_id=1),
    ]
    edges = [line(x, x, -5)[:1] + line(x, x, 5)[:1] for x in (38, 41)]
    crossing = {"id": 7, "edge1": edges[0], "edge2": edges[1]}
    area = {"id": 9, "area_boundary": line(-20, 220, -6) + line(220, -20, 6)}
    return {
        "lane_segments": {str(entry["id"]): entry for entry in lanes},
        "pedestrian_crossings": {"7": crossing},
        "drivable_areas": {"9": area},
    }


def write_images(directory: Path) -> None:
    folder = directory / "sensors" / "cameras" / "ring_front_center"
    folder.mkdir(parents=True)
    for number in range(30):
        stamp = START_NS + 50_000_000 * number
        cv2.imwrite(str(folder / f"{stamp}.jpg"), np.full((204, 155, 3), (200, 30, 10 + number), np.uint8))
    (directory / "calibration").mkdir()
    names = ["ring_rear_left", "ring_front_center"]
    pinhole = {"fx_px": 177.6, "fy_px": 177.6, "cx_px": 77.8, "cy_px": 101.3, "k1": -0.24, "k2": -0.2, "k3": 0.3}
    inner = {name: [1.0, value] for name, value in pinhole.items()} | {"width_px": [1, 155], "height_px": [1, 204]}
    write_feather(directory / "calibration" / "intrinsics.feather", {"sensor_name": names, **inner})
    outer = {"qw": [1.0, 0.5], "qx": [0.0, -0.5], "qy": [0.0, 0.5], "qz": [0.0, -0.5], "tx_m": [0.0, 1.63],
             "ty_m": [0.0, 0.0], "tz_m": [0.0, 1.4]}  # fmt: skip
    write_feather(directory / "calibration" / "egovehicle_SE3_sensor.feather", {"sensor_name": names, **outer})


def write_scenario(directory: Path) -> Path:
    """Eleven seconds: the ego's centre 1.4 m ahead of its axle, and one cyclist."""
    directory.mkdir(parents=True)
    rows = []
    for step in range(110):
        centre = ego_city(np.array([step * 0.1]))[0] + 1.4 * np.array([np.cos(HEADING), np.sin(HEADING), 0])
        rows.append(("AV", "vehicle", step, centre[0], centre[1], HEADING))
        rows.append(("17", "cyclist", step, CITY_M[0] + 0.3 * step, CITY_M[1] + 9, 0.0))
    names = ("track_id", "object_type", "timestep", "position_x", "position_y", "heading")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), directory / f"scenario_{directory.name}.parquet")
    (directory / f"log_map_archive_{directory.name}.json").write_text(json.dumps(city_map()))
    return directory
