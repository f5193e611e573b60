"""One small drive with video and agents, and labels on it, for the tests of the review."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from causaldrive.clips.geometry import quat_of_yaw
from causaldrive.clips.resample import motion_from_poses
from causaldrive.clips.store import write_recording
from causaldrive.clips.types import AgentTracks, Camera, CameraTrack, EgoMotion, Recording
from causaldrive.label.store import write_labels
from causaldrive.label.types import Cause, CocLabel

WIDTH, HEIGHT, FRAMES = 64, 48, 121


def shade(number: int) -> int:
    return 10 + 2 * number  # frame n is one grey of its own


def write_drive(directory: Path, name: str = "drive") -> Path:
    """12 s straight ahead at 10 Hz, slowing from the fifth second on behind a car."""
    t = np.arange(FRAMES) * 0.1
    x = 10 * t - 0.5 * np.maximum(t - 5, 0) ** 2
    t_us = np.rint(t * 1e6).astype(np.int64)
    zeros = np.zeros(FRAMES)
    ego = motion_from_poses(t_us, np.column_stack([x, zeros, zeros]), quat_of_yaw(zeros))
    ahead = AgentTracks(
        t_us=t_us, agent_id=np.full(FRAMES, "car-1"), category=np.full(FRAMES, "car"),
        xyz_in_local_m=np.column_stack([x + 20, zeros, zeros]), yaw_rad=zeros,
        size_m=np.tile([4.5, 1.9, 1.5], (FRAMES, 1)), speed_mps=zeros + 5, brake_light=zeros > 0,
        indicator=np.zeros(FRAMES, np.int8),
    )  # fmt: skip
    camera = Camera("front", WIDTH, HEIGHT, 50.0, 50.0, 32.0, 24.0, (1.6, 0.0, 1.5), (0.5, -0.5, 0.5, -0.5))
    recording = Recording(name, "test", "none", ego, {"front": CameraTrack(camera, t_us)}, agents=ahead)
    frames = (np.full((HEIGHT, WIDTH, 3), shade(n), np.uint8) for n in range(FRAMES))
    write_recording(directory / name, recording, {"front": frames})
    return directory


def moving(name: str, speed_mps: np.ndarray) -> Recording:
    """Straight ahead at 10 Hz with these speeds, exact at every frame, nothing around."""
    flat, count = np.zeros(len(speed_mps)), len(speed_mps)
    x = np.concatenate([[0.0], np.cumsum(speed_mps[:-1]) * 0.1])
    ego = EgoMotion(np.arange(count, dtype=np.int64) * 100_000, np.column_stack([x, flat, flat]), quat_of_yaw(flat),
                    np.column_stack([speed_mps, flat, flat]), np.zeros((count, 3)), flat)  # fmt: skip
    return Recording(name, "test", "none", ego)


def label(t0_s: float, name: str = "drive", **changes: Any) -> CocLabel:
    cause = Cause("critical_object", "a car ahead is slowing", "lead_vehicle", "car-1", round(t0_s * 1e6) - 100_000)
    fields: dict[str, Any] = {
        "recording_id": name, "t0_us": round(t0_s * 1e6), "origin": "transition",
        "decision_longitudinal": "lead_obstacle_following", "decision_lateral": "lane_keeping", "direction": None,
        "causes": (cause,), "trace": "Keep the gap and the lane because a car ahead is slowing.",
        "meta_history": ("a/b",), "meta_future": ("c/d",), "teacher": "expert", "prompt_hash": "", "status": "accepted",
    }  # fmt: skip
    return CocLabel(**{**fields, **changes})


def write_set(directory: Path) -> Path:
    """A label run's directory with recordings beside it: three labels, one of a recording that is not there."""
    write_drive(directory / "recordings")
    write_labels(directory / "labels", [label(3.0), label(4.5), label(5.0, name="lost")])
    return directory / "labels"


def edit_body(label: CocLabel, revision: int = 0, **changes: Any) -> dict[str, Any]:
    """What the page sends for an edit."""
    names = ("decision_longitudinal", "decision_lateral", "direction", "trace")
    body = {name: getattr(label, name) for name in names} | {"causes": [vars(cause) for cause in label.causes]}
    return {"action": "edit", "revision": revision, **body, **changes}


class Client:
    """A plain HTTP client of the review server."""

    def __init__(self, url: str):
        self.url = url

    def ask(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """(status, JSON or bytes)."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if data is not None else {}
        request = urllib.request.Request(self.url.rstrip("/") + path, data, {**kind, **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, self._content(answer)
        except urllib.error.HTTPError as error:
            return error.code, self._content(error)

    @staticmethod
    def _content(answer: Any) -> Any:
        content = answer.read()
        return json.loads(content) if "json" in answer.headers["Content-Type"] else content


def serving(server: Any) -> Iterator[Client]:
    """Serve in a thread for as long as the generator lives."""
    import threading

    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield Client(server.url)
    server.shutdown()
    server.server_close()
    thread.join()
