"""The kit `physical-ai-av` over files that lie on disk: it opens, decodes and names; nothing is fetched.

    features.csv, clip_index.parquet, metadata/*.parquet     what there is, and which chunk holds a clip
    labels/, camera/, calibration/                           a zip or a table a feature and chunk

The kit's own interface asks the hub for a revision, and finds files only in the hub's cache. Here both are replaced: a
file of the data set is the file of that name below the directory, and what is not there is an error that names it.
Knows nothing of recordings.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from causaldrive.ground.errors import MissingExtra, UserError, unknown_name
from causaldrive.ground.files import read_table

_DAMAGED = (OSError, LookupError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, pa.ArrowException)


class Download:
    """A local copy: the clips that it indexes, and each feature of a clip as the kit decodes it.

    `scratch` takes the files that are unpacked. Raises UserError where the directory is no such copy, MissingExtra
    without the kit.
    """

    def __init__(self, root: Path, scratch: Path):
        self.root = root
        if not (root / "features.csv").exists():
            raise UserError(f"{root} holds no features.csv; expected a local copy of PhysicalAI-Autonomous-Vehicles.")
        with self._reading(root, "its features.csv, clip_index.parquet and metadata"):
            self._kit = _interface(root, scratch)
            self.chunks: dict[str, int] = {str(c): int(n) for c, n in self._kit.clip_index["chunk"].items()}
        table = self._kit.features.features_df
        self.cameras = tuple(table.index[table["directory"] == "camera"])

    def chunk_file(self, clip: str, feature: str) -> Path:
        """Where the packed feature of a clip should lie. Raises UserError for a feature the copy does not list."""
        if feature not in self._kit.features.ALL:
            raise unknown_name(f"{self.root / 'features.csv'}: feature", feature, self._kit.features.ALL)
        return self.root / self._kit.features.get_chunk_feature_filename(self.chunks[clip], feature)

    def feature(self, clip: str, name: str) -> Any:
        """The feature as the kit decodes it. Raises UserError naming the file that is missing or damaged."""
        file = self._there(clip, name)
        with self._reading(file, f"{name} of clip {clip}"):
            return self._kit.get_clip_feature(clip, name)

    def frame_times_us(self, clip: str, camera: str) -> np.ndarray:
        """(N,) int64 times of a camera's frames."""
        with self._unpacked(clip, camera, "frame_timestamps") as file:
            return read_table(file, ["timestamp"]).column("timestamp").to_numpy().astype(np.int64)

    @contextmanager
    def video(self, clip: str, camera: str) -> Iterator[Path]:
        """A camera's MP4, unpacked for as long as it is used."""
        with self._unpacked(clip, camera, "video") as file:
            yield file

    @contextmanager
    def _unpacked(self, clip: str, camera: str, member: str) -> Iterator[Path]:
        packed = self._there(clip, camera)
        with self._reading(packed, f"the {member} of clip {clip}"):
            file = self._kit.get_clip_feature_paths(clip, camera, members=member)[member]
        try:
            yield file
        finally:
            file.unlink()

    def _there(self, clip: str, feature: str) -> Path:
        file = self.chunk_file(clip, feature)
        if not file.exists():
            raise UserError(f"{file} is missing; download the feature {feature} of this chunk.")
        return file

    @contextmanager
    def _reading(self, file: Path, what: str) -> Iterator[None]:
        try:
            yield
        except _DAMAGED as error:
            raise UserError(
                f"{file} does not give {what} ({type(error).__name__}: {error}); download it again."
            ) from error


def _interface(root: Path, scratch: Path) -> Any:
    """The kit's interface, its two doors to the hub closed."""
    try:
        from physical_ai_av import PhysicalAIAVDatasetInterface
    except ImportError as error:
        raise MissingExtra("physical-ai-av", "physicalai", "`import physicalai`") from error

    class Local(PhysicalAIAVDatasetInterface):
        def _load_metadata(self) -> None:
            self.is_offline_mode = True
            super()._load_metadata()

        def _get_cached_path(self, filename: str) -> str | None:
            return str(root / filename) if (root / filename).is_file() else None

        def download_file(self, filename: str, **kwargs: Any) -> str:
            path = self._get_cached_path(filename)
            if path is None:
                raise UserError(f"{root / filename} is missing; download it, {root} lacks it.")
            return path

    return Local(revision="local", token=False, cache_dir=scratch)
