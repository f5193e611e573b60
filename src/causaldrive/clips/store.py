"""The recording store: one directory a recording, Parquet tables and one MP4 a camera.

Writes `recording.json`, `ego.parquet`, `<camera>.mp4` + `<camera>.parquet`, and where known `agents.parquet`,
`lights.parquet`, `map.parquet`, `route.parquet`; the directory appears only when complete. Reads it back with every
check, so that what a reader gets is sound. Knows nothing of where a recording came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from causaldrive.clips import tables
from causaldrive.clips.types import Camera, CameraTrack, Recording
from causaldrive.clips.video import check_decodes, decode_frames, encode_video, index_video, iterate_video
from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.files import atomic_directory, read_json, write_json

FORMAT = 1
MARK = "recording.json"
MAX_FRAME_LAG_US = 60_000  # a frame further from the asked time than this is not the moment it stands for
_DEPTH = 3
_OPTIONAL: dict[str, tuple[str, Callable[[Any], pa.Table], Callable[[Path], Any]]] = {
    "agents": ("agents", tables.agents_table, tables.read_agents),
    "lights": ("lights", tables.lights_table, tables.read_lights),
    "map": ("road", tables.map_table, tables.read_map),
    "route": ("route_xy_in_local_m", tables.route_table, tables.read_route),
}


@dataclass(frozen=True)
class SetAside:
    """A recording that was left out, and the sentence that says why."""

    path: Path
    reason: str


def write_recording(directory: Path, recording: Recording, frames: Mapping[str, Iterable[np.ndarray]]) -> None:
    """Write a whole recording directory; an older one of that name is replaced only when the new one is complete.

    `frames` maps each camera of the recording to its (H, W, 3) uint8 RGB images, streamed, one per time stamp.
    Raises UserError when frames and time stamps differ in number, sizes are wrong, or the disk is full.
    """
    assert set(frames) == set(recording.cameras), "frames are expected for exactly the recording's cameras"
    _check(directory, recording)
    with atomic_directory(directory) as temporary:
        pq.write_table(tables.ego_table(recording.ego), temporary / "ego.parquet", compression="zstd")
        for name, (attribute, to_table, _) in _OPTIONAL.items():
            value = getattr(recording, attribute)
            if value is not None:
                pq.write_table(to_table(value), temporary / f"{name}.parquet", compression="zstd")
        for name, track in recording.cameras.items():
            _write_camera(temporary, directory, name, track, frames[name])
        write_json(temporary / MARK, _to_json(recording))


def _check(directory: Path, recording: Recording) -> None:
    """What cannot be read back is not written."""
    recording.ego.validate(f"{directory}/ego.parquet")
    for name, tracks in (("agents", recording.agents), ("lights", recording.lights)):
        if tracks is not None:
            tracks.validate(f"{directory}/{name}.parquet")
            tables.check_times(directory / f"{name}.parquet", tracks.t_us, strictly=False)


def _write_camera(target: Path, final: Path, name: str, track: CameraTrack, images: Iterable[np.ndarray]) -> None:
    assert name not in {"ego", *_OPTIONAL} and Path(name).name == name, f"a camera cannot be named {name!r}"
    pq.write_table(tables.frame_times_table(track.t_us), target / f"{name}.parquet", compression="zstd")
    count = encode_video(target / f"{name}.mp4", images, _rate(track.t_us), str(final / f"{name}.mp4"))
    if count != len(track.t_us):
        raise UserError(
            f"{final}: camera {name} has {count} frames and {len(track.t_us)} time stamps; one each expected, so cut "
            "the longer one or repair the source."
        )


def _rate(t_us: np.ndarray) -> Fraction:
    """Nominal frames per second for players; the true times stand in the table."""
    step_us = int(np.median(np.diff(t_us))) if len(t_us) > 1 else 100_000
    return Fraction(1_000_000, max(step_us, 1)).limit_denominator(1001)


def _to_json(recording: Recording) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "recording_id": recording.recording_id,
        "source": recording.source,
        "licence": recording.licence,
        "clock": {"unit": "us", "first": int(recording.ego.t_us[0]), "last": int(recording.ego.t_us[-1])},
        "ego_size_m": list(recording.ego_size_m),
        "rear_axle_to_centre_m": recording.rear_axle_to_centre_m,
        "cameras": [asdict(track.camera) for track in recording.cameras.values()],
        "tables": [name for name, (attribute, _, _) in _OPTIONAL.items() if getattr(recording, attribute) is not None],
        "meta": recording.meta,
    }


def read_recording(directory: Path) -> Recording:
    """Read and check a recording directory (video frames are counted; the first is decoded).

    Raises UserError naming the file and field that is missing, damaged or inconsistent.
    """
    directory = Path(directory)
    if not (directory / MARK).exists():
        raise UserError(f"{directory} holds no recording; expected a directory with {MARK}, so record or import one.")
    head = _read_head(directory / MARK)
    optional = {attribute: read(directory / f"{name}.parquet")
                for name, (attribute, _, read) in _OPTIONAL.items() if name in head["tables"]}  # fmt: skip
    return Recording(
        recording_id=head["recording_id"],
        source=head["source"],
        licence=head["licence"],
        ego=tables.read_ego(directory / "ego.parquet"),
        cameras={track.camera.name: track for track in (_read_camera(directory, e) for e in head["cameras"])},
        ego_size_m=tuple(head["ego_size_m"]),
        rear_axle_to_centre_m=head["rear_axle_to_centre_m"],
        meta=head["meta"],
        directory=directory,
        **optional,
    )


_HEAD_FIELDS: dict[str, type | tuple[type, ...]] = {
    "recording_id": str, "source": str, "licence": str, "ego_size_m": list,
    "rear_axle_to_centre_m": (int, float), "cameras": list, "tables": list, "meta": dict,
}  # fmt: skip


def _read_head(path: Path) -> dict[str, Any]:
    head = read_json(path)
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        found = head.get("format") if isinstance(head, dict) else type(head).__name__
        raise UserError(f"{path}: format {found!r} found, {FORMAT} expected; record or import it with this version.")
    for name, kind in _HEAD_FIELDS.items():
        if not isinstance(head.get(name), kind):
            raise UserError(f"{path}: field {name!r} is missing or of the wrong kind; record or import it again.")
    return head


def read_cameras(directory: Path) -> list[Camera]:
    """The cameras that `recording.json` names, without a look at their videos."""
    return [_camera_of(directory, entry) for entry in _read_head(directory / MARK)["cameras"]]


def _camera_of(directory: Path, entry: Any) -> Camera:
    try:
        vectors = {name: tuple(entry[name]) for name in ("rig_to_camera_position_m", "rig_to_camera_quat")}
        return Camera(**{**entry, **vectors})
    except (TypeError, KeyError) as error:
        raise UserError(f"{directory / MARK}: a camera entry is incomplete ({error}); import it again.") from error


def _read_camera(directory: Path, entry: Any) -> CameraTrack:
    camera = _camera_of(directory, entry)
    table, video = directory / f"{camera.name}.parquet", directory / f"{camera.name}.mp4"
    t_us, index = tables.read_frame_times(table), index_video(video)
    if len(t_us) != len(index.pts):
        raise UserError(f"{video} has {len(index.pts)} frames, its table {table.name} has {len(t_us)} time stamps; "
                        "the same number expected, so record or import it again.")  # fmt: skip
    found, stated = (index.width_px, index.height_px), (camera.width_px, camera.height_px)
    if found != stated:
        raise UserError(
            f"{video} is {found[0]}x{found[1]} pixels, {MARK} says {stated[0]}x{stated[1]}; the same size expected, so "
            "scale the intrinsics with the video."
        )
    check_decodes(video)
    return CameraTrack(camera, t_us)


def find_recordings(path: Path) -> list[Path]:
    """Recording directories at `path` or at most three levels below it, sorted.

    A directory with only part of a recording counts: reading it says what is missing. Raises UserError for none.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path} is not a directory; expected a recording or a directory of recordings.")
    found = _search(path, _DEPTH)
    if not found:
        raise UserError(f"{path} holds no recording; expected directories with {MARK}, so record or import some.")
    return found


def _search(path: Path, depth: int) -> list[Path]:
    if (path / MARK).exists() or (path / "ego.parquet").exists():
        return [path]
    children = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")) if depth else []
    return [found for child in children for found in _search(child, depth - 1)]


def read_recordings(path: Path) -> tuple[list[Recording], list[SetAside]]:
    """All sound recordings under `path`, sorted by path, and those set aside with the reason. Empty subdirectories
    and a second recording of the same id are set aside too. Raises UserError when there is nothing to read at all."""
    path = Path(path)
    sound: dict[str, Recording] = {}
    aside = [SetAside(p, f"{p} holds no recording; it is empty.") for p in _empty_below(path)]
    for directory in find_recordings(path):
        try:
            recording = read_recording(directory)
            first = sound.setdefault(recording.recording_id, recording)
            if first is not recording:
                raise UserError(
                    f"{directory}: recording id {recording.recording_id!r} is also that of {first.directory}; ids must "
                    "differ, so remove one of the two."
                )
        except UserError as error:
            aside.append(SetAside(directory, str(error)))
    return list(sound.values()), sorted(aside, key=lambda entry: entry.path)


def _empty_below(path: Path) -> list[Path]:
    children = [p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")] if path.is_dir() else []
    return [p for p in sorted(children) if not any(p.iterdir())]


def read_frames(
    directory: Path, camera: str, t_us_list: Sequence[int] | np.ndarray, tolerance_us: int = MAX_FRAME_LAG_US
) -> np.ndarray:
    """The frames (N, H, W, 3) uint8 RGB nearest to each time; decodes only the groups of pictures they lie in.

    Raises UserError for an unknown camera or a time without a frame within `tolerance_us`.
    """
    directory = Path(directory)
    wanted = np.asarray(t_us_list, np.int64)
    t_us = tables.read_frame_times(_camera_table(directory, camera))
    numbers = nearest_index(t_us, wanted)
    far = np.abs(t_us[numbers] - wanted)
    if far.max(initial=0) > tolerance_us:
        worst = int(np.argmax(far))
        raise UserError(f"{directory / camera}.mp4 has no frame within {tolerance_us / 1e3:.0f} ms of t_us "
                        f"{wanted[worst]}; the nearest is at {t_us[numbers[worst]]}, so choose a time inside the "
                        "video.")  # fmt: skip
    return decode_frames(directory / f"{camera}.mp4", numbers.tolist())


def iterate_frames(directory: Path, camera: str) -> Iterator[tuple[int, np.ndarray]]:
    """(t_us, (H, W, 3) uint8 RGB) of every frame in order, decoded as asked for."""
    directory = Path(directory)
    t_us = tables.read_frame_times(_camera_table(directory, camera))
    count = 0
    for t, image in zip(t_us, iterate_video(directory / f"{camera}.mp4"), strict=False):
        yield int(t), image
        count += 1
    if count < len(t_us):
        raise UserError(
            f"{directory / camera}.mp4 has {count} frames, its table {len(t_us)} time stamps; the same number "
            "expected, so record or import it again."
        )


def _camera_table(directory: Path, camera: str) -> Path:
    table = directory / f"{camera}.parquet"
    if not (directory / f"{camera}.mp4").exists() or not table.exists():
        known = [entry["name"] for entry in _read_head(directory / MARK)["cameras"]]
        if camera not in known:
            raise unknown_name(f"{directory}: camera", camera, known)
    return table


def seen_by(cameras: Iterable[CameraTrack], t_us: np.ndarray) -> np.ndarray:
    """Whether each camera has a frame within `MAX_FRAME_LAG_US` of each time (...): bool (...), true for no camera."""
    seen = np.ones(np.shape(t_us), bool)
    for track in cameras:
        seen &= np.abs(track.t_us[nearest_index(track.t_us, t_us)] - t_us) <= MAX_FRAME_LAG_US
    return seen


def nearest_index(sorted_t_us: np.ndarray, t_us: np.ndarray) -> np.ndarray:
    """Index (...) of the nearest of the sorted times (F,) for each time (...)."""
    right = np.clip(np.searchsorted(sorted_t_us, t_us), 1, max(len(sorted_t_us) - 1, 1))
    left = right - 1
    if len(sorted_t_us) == 1:
        return np.zeros_like(left)
    return np.where(t_us - sorted_t_us[left] <= sorted_t_us[right] - t_us, left, right)
