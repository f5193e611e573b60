"""One reply as a row of `answers.json`, and drawn: read, converted to pixels and metres, put onto the pictures.

Reads a moment and what was said of it; writes `pictures/<moment>.png` and `.mp4`. Knows nothing of who said it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from causaldrive.clips.geometry import matrix_of_quat, to_frame
from causaldrive.clips.resample import resample_ego
from causaldrive.clips.types import Camera
from causaldrive.clips.video import encode_video
from causaldrive.evaluate.ask import drawing
from causaldrive.evaluate.ask.askers import Said, waypoint_times_s
from causaldrive.evaluate.ask.media import Moment
from causaldrive.evaluate.ask.modes import Mode
from causaldrive.evaluate.ask.reading import Entry, Reading, Scale, read
from causaldrive.ground.files import atomic_path, write_bytes


def tell(moment: Moment, mode: Mode, said: Said, coordinates: str, width_px: int, out: Path) -> dict[str, Any]:
    """The row of one reply, with the answer drawn into files below `out`."""
    pictures = moment.clip.read(moment.numbers, width_px)
    size = pictures.shape[2], pictures.shape[1]
    reading = _reading(said, mode.answer, Scale(coordinates, *size))
    recorded = recorded_path(moment) if mode.answer == "waypoints" else None
    row: dict[str, Any] = {
        "moment": moment.name, "clip": moment.clip.name, "start_s": round(moment.start_s, 3),
        "end_s": round(moment.start_s + moment.t_s[-1], 3), "came": said.failure is None, "said": said.text,
        "text": reading.text,
        "thinking": reading.thinking, "failure": reading.failure, "reason": said.reason, "mended": reading.mended,
        "dropped": reading.dropped,
        "entries": [_entry_row(entry, mode.answer, moment, size, said) for entry in reading.entries],
    }  # fmt: skip
    if mode.answer == "waypoints" and reading.entries and recorded is not None:
        row |= _error(reading.entries[0], waypoint_times_s(len(reading.entries[0].values), _own(said)), recorded)
    return row | _draw(moment, mode, reading, pictures, recorded, out)


def _own(said: Said) -> bool:
    return said.xy_in_rig_m is not None


def _reading(said: Said, kind: str, scale: Scale) -> Reading:
    if said.failure:
        return Reading("", "", failure=said.failure)
    if said.xy_in_rig_m is not None:
        return Reading(said.text, "", (Entry(said.text, said.xy_in_rig_m),))
    return read(said.text, kind, scale)


def _entry_row(entry: Entry, kind: str, moment: Moment, size: tuple[int, int], said: Said) -> dict[str, Any]:
    values = np.array(entry.values, float)
    row: dict[str, Any] = {"label": entry.label}
    if kind in ("boxes", "paths"):
        whole = _whole_size(moment, size)
        return row | {"of_1000": _list(values * 1000, 1), "px": _list(values * np.array(whole), 1)}
    if kind == "spans":
        return row | {"start_s": moment.start_s + values[0, 0], "end_s": moment.start_s + values[0, 1]}
    if kind == "waypoints":
        return row | {"t_s": _list(waypoint_times_s(len(values), _own(said)), 2), "xy_in_rig_m": _list(values, 3)}
    row |= {"xyz_in_camera_m": _list(values[0], 2)}
    camera = moment.clip.camera
    return row if camera is None else row | {"xyz_in_rig_m": _list(to_rig(values[0], camera), 2)}


def to_rig(xyz_in_camera_m: np.ndarray, camera: Camera) -> np.ndarray:
    """p_rig = R p_camera + t, the pose of the camera in the rig; points (..., 3)."""
    rotation = matrix_of_quat(np.array(camera.rig_to_camera_quat))
    return xyz_in_camera_m @ rotation.T + np.array(camera.rig_to_camera_position_m)


def _whole_size(moment: Moment, size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the pictures as they are stored: what `px` counts in."""
    if moment.clip.camera is not None:
        return moment.clip.camera.width_px, moment.clip.camera.height_px
    whole = moment.clip.read(moment.numbers[-1:], 1_000_000).shape
    return whole[2], whole[1]


def _list(values: np.ndarray, digits: int) -> list[Any]:
    return np.round(values, digits).tolist()


def recorded_path(moment: Moment) -> np.ndarray | None:
    """(N, 3) seconds from now, x, y in the rig frame at now of what was driven; None without a recording's future."""
    recording = moment.clip.recording
    if recording is None:
        return None
    known = recording.ego.t_us
    times = moment.now_us + 100_000 * np.arange(65, dtype=np.int64)
    times = times[(times >= known[0]) & (times <= known[-1])]
    if len(times) < 2 or times[0] != moment.now_us:
        return None
    ego = resample_ego(recording.ego, times)
    xy = to_frame(ego.position_in_local_m[:, :2], ego.position_in_local_m[0, :2], float(ego.yaw_rad[0]))
    return np.column_stack([(times - moment.now_us) / 1e6, xy])


def _error(said: Entry, t_s: np.ndarray, recorded: np.ndarray) -> dict[str, float]:
    """Mean distance of the way-points to what was driven at their times, as far as that is known."""
    both = t_s <= recorded[-1, 0] + 1e-6
    if not both.any():
        return {}
    true = np.column_stack([np.interp(t_s[both], recorded[:, 0], recorded[:, axis]) for axis in (1, 2)])
    gaps = np.linalg.norm(np.array(said.values)[both] - true, axis=1)
    return {"ade_m": round(float(gaps.mean()), 3), "horizon_s": float(t_s[both][-1])}


def _draw(
    moment: Moment, mode: Mode, reading: Reading, pictures: np.ndarray, recorded: np.ndarray | None, out: Path
) -> dict[str, str]:
    """Names of the picture and of the video, which only modes that look at several pictures have."""
    shown = range(len(pictures)) if mode.sees == "video" and len(pictures) > 1 else [len(pictures) - 1]
    drawn = [_drawn(moment, mode.answer, reading, pictures[k], k, recorded) for k in shown]
    name = re.sub(r"[^\w.@-]+", "_", moment.name)
    stream = io.BytesIO()
    Image.fromarray(drawn[-1]).save(stream, "PNG")
    write_bytes(out / "pictures" / f"{name}.png", stream.getvalue())
    files = {"picture": f"pictures/{name}.png", "video": ""}
    if len(drawn) > 1:
        files["video"] = f"pictures/{name}.mp4"
        _film(out / files["video"], drawn, moment.t_s)
    return files


def _film(path: Path, drawn: Sequence[np.ndarray], t_s: Sequence[float]) -> None:
    """Pictures of one size: captions of several heights are filled up below."""
    height = max(image.shape[0] for image in drawn)
    filled = [np.pad(image, ((0, height - image.shape[0]), (0, 0), (0, 0))) for image in drawn]
    rate = Fraction((len(t_s) - 1) / max(t_s[-1], 1e-3)).limit_denominator(100)
    with atomic_path(path) as temporary:
        encode_video(temporary, (drawing.even(image) for image in filled), rate, str(path))


def _drawn(
    moment: Moment, kind: str, reading: Reading, image: np.ndarray, index: int, recorded: np.ndarray | None
) -> np.ndarray:
    entries, camera = reading.entries, moment.clip.camera
    if reading.failure:
        return drawing.draw_text(image, f"no answer can be read ({reading.failure})")
    if kind == "boxes":
        return drawing.draw_boxes(image, entries)
    if kind == "paths":
        return drawing.draw_paths(image, entries)
    if kind == "spans":
        return drawing.draw_spans(image, entries, moment.t_s[index], moment.t_s[-1])
    if kind == "points_3d" and camera is not None:
        return drawing.draw_points_3d(image, entries, camera)
    if kind == "points_3d":
        places = "; ".join(f"{e.label} at {', '.join(f'{v:.1f}' for v in e.values[0])} m" for e in entries)
        return drawing.draw_text(image, f"{places or 'nothing'} (not drawn: the camera's calibration is not known)")
    if kind == "waypoints" and entries:
        is_now = index == len(moment.numbers) - 1
        camera = camera if is_now else None  # way-points start at now: earlier pictures were taken elsewhere
        said = drawing.draw_waypoints(image, entries[0], camera, None if recorded is None else recorded[:, 1:])
        return drawing.draw_text(said, entries[0].label) if entries[0].label else said
    return drawing.draw_text(image, reading.text)
