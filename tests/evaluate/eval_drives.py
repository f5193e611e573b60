"""Made-up moments, drives and recordings for the tests of this room."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from causaldrive.clips.geometry import quat_of_yaw
from causaldrive.clips.resample import motion_from_poses
from causaldrive.clips.store import write_recording
from causaldrive.clips.types import Camera, CameraTrack, Recording
from causaldrive.evaluate.reasoning import motion_as_json
from causaldrive.label.consistency import PlannedMotion
from causaldrive.label.store import write_labels
from causaldrive.label.types import Cause, CocLabel
from causaldrive.student.checkpoint import save
from causaldrive.student.model import build
from causaldrive.student.presets import ActionStatistics, tiny
from causaldrive.student.processor import StudentProcessor
from causaldrive.student.text import train_tokenizer

STOP = "Stop and keep the lane because the traffic light ahead is red."
KEEP = "Keep the speed and the lane because the road is clear."
HEIGHT_PX, WIDTH_PX = 64, 96


def straight_motion(speed_mps: float, acceleration_mps2: float) -> PlannedMotion:
    """65 frames straight ahead with constant acceleration, standing once at rest."""
    speed = np.maximum(speed_mps + acceleration_mps2 * 0.1 * np.arange(65), 0.0)
    ahead = np.concatenate([[0.0], np.cumsum(speed[1:]) * 0.1])
    return PlannedMotion(speed, np.stack([ahead, np.zeros(65)], axis=1), np.zeros(65), np.zeros(65))


def truth(longitudinal: str, kinds: tuple[str, ...]) -> dict[str, Any]:
    return {"longitudinal": longitudinal, "lateral": "lane_keeping", "direction": None, "cause_kinds": list(kinds)}


def moment(name: str, cluster: str, error_m: float, text: str | None = None, **changes: Any) -> dict[str, Any]:
    """An open-loop record whose two samples are off by `error_m` and by 1 m more at every way-point."""
    record = {
        "item": name, "cluster": cluster, "family": "red_light", "harmless": False, "failure": None,
        "error_m": [[error_m] * 64, [error_m + 1] * 64], "text": text,
        "truth": truth("stop_for_static_constraint", ("red_light",)),
        "motion": motion_as_json(straight_motion(8.0, -2.0)),
    }  # fmt: skip
    return record | changes


def curved_recording(directory: Path, curvature_1pm: float, seed: int, speed_mps: float = 8.0) -> Path:
    """A 12 s circle with a 10 Hz camera, written below `directory`."""
    t_us = np.arange(121, dtype=np.int64) * 100_000
    yaw = speed_mps * curvature_1pm * t_us * 1e-6
    xy = np.stack([np.sin(yaw), 1 - np.cos(yaw)], axis=1) / curvature_1pm
    ego = motion_from_poses(t_us, np.column_stack([xy, np.zeros(121)]), quat_of_yaw(yaw))
    camera = Camera("front", WIDTH_PX, HEIGHT_PX, 60.0, 60.0, 48.0, 32.0, (1.6, 0.0, 1.5), (0.5, -0.5, 0.5, -0.5))
    name = f"town_sharp_curve_{seed}"
    recording = Recording(
        name, "town", "none", ego, {"front": CameraTrack(camera, t_us)}, route_xy_in_local_m=xy[::5],
        meta={"family": "sharp_curve", "seed": seed, "harmless": bool(seed % 2)},
    )  # fmt: skip
    frames = (np.full((HEIGHT_PX, WIDTH_PX, 3), 40 + i, np.uint8) for i in range(121))
    write_recording(directory / name, recording, {"front": frames})
    return directory / name


def label(recording_id: str, t0_us: int, **changes: Any) -> CocLabel:
    fields: dict[str, Any] = {
        "recording_id": recording_id, "t0_us": t0_us, "origin": "periodic",
        "decision_longitudinal": "speed_adaptation", "decision_lateral": "lane_keeping", "direction": None,
        "causes": (Cause("road_event", "a sharp left curve is ahead", "sharp_curve", None, t0_us),),
        "trace": "Adapt the speed and keep the lane because a sharp left curve is ahead.", "meta_history": (),
        "meta_future": (), "teacher": "expert", "prompt_hash": "", "status": "accepted",
    }  # fmt: skip
    return CocLabel(**(fields | changes))


def labelled_recordings(directory: Path, count: int = 2) -> tuple[Path, Path]:
    """(recordings, labels): `count` drives with a label each half second, and one rejected."""
    recordings, labels = directory / "recordings", directory / "labels"
    written = []
    for index in range(count):
        path = curved_recording(recordings, 0.005 * (index + 1), 2_000_000 + index)
        written += [label(path.name, t0) for t0 in range(2_000_000, 5_000_001, 500_000)]
        written.append(label(path.name, 5_500_000, status="rejected"))
    write_labels(labels, written)
    return recordings, labels


def write_student(directory: Path, seed: int = 0) -> Path:
    """A small untrained student's checkpoint."""
    tokenizer = train_tokenizer([STOP, KEEP, "You drive.", "Reason, then drive."] * 3, 400)
    statistics = ActionStatistics(0.1, 1.0, 0.001, 0.03, (-4.1, -5.0), (3.9, 4.9))
    config = tiny(tokenizer, statistics, frames={"image_height_px": HEIGHT_PX, "image_width_px": WIDTH_PX})
    save(directory, build(config, seed), StudentProcessor(tokenizer, config))
    return directory


def other_rooms(room: str, name: str) -> ModuleType:
    """The helper module `name` of another room's tests."""
    directory = str(Path(__file__).parents[1] / room)
    if directory not in sys.path:
        sys.path.append(directory)
    return importlib.import_module(name)
