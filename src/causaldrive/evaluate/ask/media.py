"""What is asked about: videos, pictures and recordings, and the moments of them that are shown.

A moment is a window of pictures; its last picture is "now". Reads MP4 and other videos, PNG and JPEG, recording
directories, and directories of all those. What cannot be read is set aside with its reason. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from causaldrive.clips.store import MARK, SetAside, find_recordings, nearest_index, read_recording
from causaldrive.clips.types import Camera, Recording
from causaldrive.clips.video import decode_frames, index_video
from causaldrive.ground.errors import UserError, unknown_name

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".hevc", ".ts")


@dataclass(frozen=True)
class Clip:
    """One video, picture or recording's camera. `t_us` (F,) are the pictures' times on its own clock."""

    name: str
    path: Path  # the file that holds the pictures
    t_us: np.ndarray
    recording: Recording | None = None
    camera: Camera | None = None

    @property
    def is_picture(self) -> bool:
        return self.path.suffix.lower() in PICTURES

    def read(self, numbers: Sequence[int], width_px: int) -> np.ndarray:
        """Pictures (N, H, W, 3), scaled down to `width_px` where they are wider, sides even."""
        found = _picture(self.path)[None] if self.is_picture else decode_frames(self.path, numbers)
        height, width = found.shape[1:3]
        share = min(width_px / width, 1.0)
        size = tuple(max(2 * round(side * share / 2), 2) for side in (width, height))
        return np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in found])


@dataclass(frozen=True)
class Moment:
    """A window of a clip: the numbers of the pictures shown, and their times from its beginning."""

    clip: Clip
    numbers: tuple[int, ...]

    @property
    def t_s(self) -> tuple[float, ...]:
        """(F,) seconds from the first picture shown."""
        first = self.clip.t_us[self.numbers[0]]
        return tuple(float(self.clip.t_us[n] - first) / 1e6 for n in self.numbers)

    @property
    def now_us(self) -> int:
        """When the last picture was taken, on the clip's clock."""
        return int(self.clip.t_us[self.numbers[-1]])

    @property
    def start_s(self) -> float:
        """When the first picture shown was taken, from the clip's first."""
        return float(self.clip.t_us[self.numbers[0]] - self.clip.t_us[0]) / 1e6

    @cached_property
    def name(self) -> str:
        ends_s = self.start_s + self.t_s[-1]
        return self.clip.name if self.clip.is_picture else f"{self.clip.name}@{ends_s:.1f}s"


def find_clips(path: Path, camera: str = "") -> tuple[list[Clip], list[SetAside]]:
    """The clips at `path`, and what cannot be read with its reason.

    Raises UserError where nothing is there or nothing can be read.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; a video, a picture, a recording or a directory of those expected.")
    clips, aside = [], []
    for place in _places(path):
        try:
            clips.append(_open(place, camera))
        except UserError as error:
            aside.append(SetAside(place, str(error)))
    if not clips and len(aside) == 1:
        raise UserError(aside[0].reason)
    if not clips:
        why = f"; the first of {len(aside)}: {aside[0].reason}" if aside else ""
        raise UserError(f"{path} holds no video, picture or recording that can be read; add one{why}.")
    return _named_apart(clips), aside


def _places(path: Path) -> list[Path]:
    if not path.is_dir() or (path / MARK).exists():
        return [path]
    files = [p for p in path.iterdir() if p.suffix.lower() in (*PICTURES, *VIDEOS) and not p.name.startswith(".")]
    try:
        return sorted([*files, *find_recordings(path)])
    except UserError:
        return sorted(files)


def _open(place: Path, camera: str) -> Clip:
    if place.is_dir():
        return _recording_clip(place, camera)
    if place.suffix.lower() in PICTURES:
        _picture(place)
        return Clip(place.stem, place, np.zeros(1, np.int64))
    index = index_video(place)
    if not index.pts:
        raise UserError(f"{place} holds no frame; a video of at least one expected, so write it again.")
    with av.open(str(place)) as container:
        base = container.streams.video[0].time_base
    seconds = np.array(index.pts, float) * float(base or 1 / 30)
    return Clip(place.stem, place, np.rint((seconds - seconds[0]) * 1e6).astype(np.int64))


def _recording_clip(directory: Path, camera: str) -> Clip:
    recording = read_recording(directory)
    if not recording.cameras:
        raise UserError(f"{directory} has no camera; a recording with video expected, so record or import one.")
    name = camera or next(iter(recording.cameras))
    if name not in recording.cameras:
        raise unknown_name(f"{directory}: camera", name, recording.cameras)
    track = recording.cameras[name]
    return Clip(recording.recording_id, directory / f"{name}.mp4", track.t_us, recording, track.camera)


def _picture(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as a picture ({str(error)[:100]}); write it again.") from error


def _named_apart(clips: list[Clip]) -> list[Clip]:
    """Clips of one name (a.mp4 beside a.png) get a number, so that their files do."""
    seen: dict[str, int] = {}
    named = []
    for clip in clips:
        seen[clip.name] = count = seen.get(clip.name, 0) + 1
        name = clip.name if count == 1 else f"{clip.name}-{count}"
        named.append(Clip(name, clip.path, clip.t_us, clip.recording, clip.camera))
    return named


def moments(clip: Clip, start_s: float, window_s: float, every_s: float, frames_hz: float) -> Iterator[Moment]:
    """Windows of `window_s` (0: all there is) from `start_s` on: one, or one each `every_s` while they fit.

    Raises UserError where the clip ends before the first begins.
    """
    last_s = float(clip.t_us[-1] - clip.t_us[0]) / 1e6
    if start_s > last_s:
        raise UserError(f"{clip.path} ends after {last_s:.1f} s; --start-s {start_s:g} is later, so choose less.")
    begin_s = start_s
    while True:
        end_s = min(begin_s + window_s, last_s) if window_s else last_s
        yield Moment(clip, _shown(clip, begin_s, end_s, frames_hz))
        begin_s += every_s
        if not every_s or begin_s + window_s > last_s + 1e-6:
            return


def _shown(clip: Clip, begin_s: float, end_s: float, frames_hz: float) -> tuple[int, ...]:
    """Pictures nearest to the end and each 1/hz before it, oldest first, each once."""
    wanted_s = end_s - np.arange(0, end_s - begin_s + 1e-6, 1 / frames_hz)
    numbers = nearest_index(clip.t_us, clip.t_us[0] + np.rint(wanted_s * 1e6).astype(np.int64))
    return tuple(sorted(set(numbers.tolist())))
