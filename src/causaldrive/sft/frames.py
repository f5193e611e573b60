"""The frame cache: every video frame that training needs, decoded once, read as memory-mapped uint8.

Reads recording videos in one forward pass each; writes a directory `frames.bin` (pixels, one frame after another) and
`index.json` (where each frame lies, and which recordings' videos are broken). The directory's name is a digest of what
went in, so that a cache is never taken for another. Knows nothing of labels or models.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock

from causaldrive.clips.store import read_frames
from causaldrive.clips.types import Recording
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import atomic_directory, digest, read_json, write_json
from causaldrive.ground.progress import Meter
from causaldrive.student.config import FrameSettings
from causaldrive.student.images import resize, target_size

FORMAT = 1
_CHUNK = 32  # frames decoded at a time: bounds memory for large cameras
FrameKey = tuple[str, str, int]  # recording id, camera, frame number of its video
FramePlan = Mapping[tuple[str, str], list[int]]  # (recording id, camera) -> ascending frame numbers


@dataclass(frozen=True)
class FrameCache:
    """Decoded frames by key, and the recordings whose videos could not be decoded."""

    pixels: np.ndarray  # (bytes,) uint8, memory-mapped
    places: dict[FrameKey, tuple[int, int, int]]  # offset, height, width
    broken: dict[str, str]  # recording id -> what is wrong with its video

    @property
    def size_mib(self) -> float:
        return self.pixels.nbytes / 2**20

    def frame(self, key: FrameKey) -> np.ndarray:
        """(H, W, 3) uint8 view of one frame."""
        offset, height, width = self.places[key]
        return self.pixels[offset : offset + height * width * 3].reshape(height, width, 3)


def open_cache(
    parent: Path, recordings: Mapping[str, Recording], plan: FramePlan, settings: FrameSettings
) -> FrameCache:
    """The cache of exactly these frames below `parent`, decoded now unless it is there.

    Frames are kept at the student's image size. A video that cannot be decoded is set aside. Of two runs that start
    together one decodes and the other waits.
    """
    directory = parent / f"frames-{_key(recordings, plan, settings)}"
    parent.mkdir(parents=True, exist_ok=True)
    with FileLock(parent / f".{directory.name}.lock"):
        if not (directory / "index.json").exists():
            with atomic_directory(directory) as temporary:
                _write(temporary, recordings, plan, settings)
    return _read(directory)


def _key(recordings: Mapping[str, Recording], plan: FramePlan, settings: FrameSettings) -> str:
    sha = hashlib.sha256(json.dumps([FORMAT, asdict(settings)]).encode())
    for (recording_id, camera), numbers in sorted(plan.items()):
        directory = recordings[recording_id].directory
        assert directory is not None, "recordings that were read from the store know where they lie"
        sha.update(json.dumps([recording_id, camera, numbers, digest(directory / f"{camera}.mp4")]).encode())
    return sha.hexdigest()[:16]


def _write(directory: Path, recordings: Mapping[str, Recording], plan: FramePlan, settings: FrameSettings) -> None:
    places: list[tuple[str, str, int, int, int, int]] = []
    broken: dict[str, str] = {}
    total = sum(len(numbers) for numbers in plan.values())
    with (directory / "frames.bin").open("wb") as stream, Meter("decode", total, "frames") as meter:
        for (recording_id, camera), numbers in sorted(plan.items()):
            try:
                rows = _append(stream, recordings[recording_id], camera, numbers, settings)
                places += [(recording_id, camera, *row) for row in rows]
            except UserError as error:
                broken[recording_id] = str(error)
            meter.advance(len(numbers))
        size = stream.tell()
    write_json(directory / "index.json", {"format": FORMAT, "bytes": size, "broken": broken, "frames": places})


def _append(
    stream: BinaryIO, recording: Recording, camera: str, numbers: list[int], settings: FrameSettings
) -> list[tuple[int, int, int, int]]:
    """Rows (frame number, offset, height, width) of the frames written."""
    assert recording.directory is not None
    t_us = recording.cameras[camera].t_us
    rows = []
    for start in range(0, len(numbers), _CHUNK):
        chunk = numbers[start : start + _CHUNK]
        for number, image in zip(chunk, read_frames(recording.directory, camera, t_us[chunk]), strict=True):
            height, width = target_size(image.shape[0], image.shape[1], settings)
            image = resize(image, height, width)
            rows.append((number, stream.tell(), *image.shape[:2]))
            stream.write(np.ascontiguousarray(image).tobytes())
    return rows


def _read(directory: Path) -> FrameCache:
    index = read_json(directory / "index.json")
    path, expected = directory / "frames.bin", index["bytes"]
    found = path.stat().st_size if path.exists() else 0
    if found != expected:
        raise UserError(f"{path} holds {found} bytes, {expected} expected; delete {directory} to decode it again.")
    pixels = np.memmap(path, np.uint8, mode="r") if expected else np.zeros(0, np.uint8)
    places = {(r, c, n): (offset, height, width) for r, c, n, offset, height, width in index["frames"]}
    return FrameCache(pixels, places, index["broken"])
