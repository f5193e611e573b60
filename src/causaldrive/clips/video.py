"""Camera video: RGB frames to a compact MP4 and back by frame number, with quick random access.

Reads and writes one video file at a time through PyAV, streaming: never a whole video in memory. Short groups of
pictures (a keyframe every `GOP_FRAMES`) keep a random read to a few decoded frames. Knows nothing of time stamps:
frame i of the file is frame i of its table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter

from causaldrive.ground.errors import UserError

T = TypeVar("T")
GOP_FRAMES = 12
_ENCODER = {  # closed short groups without B-frames; one thread, so that the same frames give the same bytes
    # ultrafast at 20 is as near to the picture as veryfast at 18, written and read in half the time, in half as many
    # bytes again
    "crf": "20", "preset": "ultrafast", "bf": "0", "sc_threshold": "0", "threads": "1",
}  # fmt: skip


@dataclass(frozen=True)
class VideoIndex:
    """What the packets say, without decoding: presentation times in order, and which frames are keyframes."""

    pts: tuple[int, ...]  # (F,)
    keyframes: np.ndarray  # (K,) frame numbers, ascending
    width_px: int
    height_px: int


def encode_video(path: Path, frames: Iterable[np.ndarray], frames_per_s: Fraction, name: str) -> int:
    """Write (H, W, 3) uint8 RGB frames as H.264; returns their count. `name` is what errors call the video.

    Raises UserError for frames of odd or changing size, or no frame at all.
    """
    count, shape = 0, None
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = None
        for image in frames:
            if stream is None:
                shape = image.shape
                stream = _add_stream(container, shape, frames_per_s, name)
            if image.shape != shape or image.dtype != np.uint8:
                raise UserError(
                    f"{name}: frame {count} is {image.dtype} {image.shape}, the first was uint8 {shape}; expected "
                    "frames of one size."
                )
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = count, 1 / frames_per_s
            container.mux(stream.encode(frame))
            count += 1
        if stream is None:
            raise UserError(f"{name}: no frame to write; expected at least one.")
        container.mux(stream.encode(None))
    return count


def _add_stream(container: Any, shape: tuple[int, ...], frames_per_s: Fraction, name: str) -> Any:
    if len(shape) != 3 or shape[2] != 3 or shape[0] % 2 or shape[1] % 2:
        raise UserError(f"{name}: a frame has shape {shape}, expected (even height, even width, 3); crop or resize it.")
    stream = container.add_stream("libx264", rate=frames_per_s, options=dict(_ENCODER))
    stream.height, stream.width = shape[:2]
    stream.pix_fmt, stream.gop_size, stream.thread_count = "yuv420p", GOP_FRAMES, 1
    return stream


def index_video(path: Path) -> VideoIndex:
    """Packet index of a video file, remembered while the file does not change. Raises UserError when unreadable."""
    try:
        stat = path.stat()
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing; expected the video named by its recording; record or import again."
        ) from error
    return _index(str(path), stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=512)
def _index(path: str, _mtime_ns: int, _size: int) -> VideoIndex:
    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            packets = [(p.pts, p.is_keyframe) for p in container.demux(stream) if p.pts is not None and p.size]
            width, height = stream.codec_context.width, stream.codec_context.height
    except (FFmpegError, OSError, IndexError) as error:
        raise _undecodable(path, error) from error
    packets.sort()
    keyframes = np.array([number for number, (_, key) in enumerate(packets) if key], int)
    if not len(keyframes):
        raise UserError(f"{path} cannot be decoded as video (no keyframe in it); record or import it again.")
    return VideoIndex(tuple(pts for pts, _ in packets), keyframes, width, height)


def decode_frames(path: Path, numbers: Sequence[int]) -> np.ndarray:
    """Frames (N, H, W, 3) uint8 RGB by frame number, in the order asked, repeats allowed; one forward pass.

    Raises UserError when the file is damaged. Numbers must be below the video's frame count.
    """
    to_rgb = VideoReformatter()  # one for all frames: it keeps its conversion tables
    images = _decode(path, numbers, lambda frame: to_rgb.reformat(frame, format="rgb24").to_ndarray())
    return np.stack([images[number] for number in numbers])


def check_decodes(path: Path) -> None:
    """Decode the first frame and drop it, without turning it to RGB. Raises UserError when damaged."""
    _decode(path, [0], lambda _: None)


def _decode(path: Path, numbers: Sequence[int], take: Callable[[Any], T]) -> dict[int, T]:
    """What `take` makes of each frame, by number."""
    index = index_video(path)
    wanted = sorted(set(numbers))
    assert wanted and wanted[0] >= 0 and wanted[-1] < len(index.pts), "frame number outside the video"
    taken: dict[int, T] = {}
    try:
        with av.open(str(path)) as container:
            for number, frame in _seek_and_decode(container, index, wanted):
                taken[number] = take(frame)
    except (FFmpegError, OSError) as error:
        raise _undecodable(str(path), error) from error
    lost = [number for number in wanted if number not in taken]
    if lost:
        raise UserError(f"{path}: frame {lost[0]} of {len(index.pts)} cannot be decoded; record or import it again.")
    return taken


def _seek_and_decode(container: Any, index: VideoIndex, wanted: list[int]) -> Iterator[tuple[int, Any]]:
    """Wanted frames in ascending order; jumps to a keyframe only where that saves decoding."""
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    number_of = {pts: number for number, pts in enumerate(index.pts)}
    runs = np.split(wanted, np.flatnonzero(np.diff(_keyframe_rank(index, wanted)) > 1) + 1)
    for run in runs:
        start = index.keyframes[max(_keyframe_rank(index, run)[0], 0)]
        container.seek(index.pts[start], stream=stream)
        left = set(run.tolist())
        for frame in container.decode(stream):
            number = number_of.get(frame.pts, -1)
            if number in left:
                left.discard(number)
                yield number, frame
            if not left or number > run[-1]:
                break


def _keyframe_rank(index: VideoIndex, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
    """Which keyframe each frame hangs from."""
    return np.searchsorted(index.keyframes, np.asarray(numbers), side="right") - 1


def iterate_video(path: Path, size_px: tuple[int, int] | None = None) -> Iterator[np.ndarray]:
    """All frames in order as (H, W, 3) uint8 RGB; `size_px` (width, height) rescales while converting.

    Raises UserError when the file cannot be decoded. Takes any container and codec FFmpeg knows (HEVC included).
    """
    width, height = size_px or (None, None)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path} holds no video stream; expected a camera video.")
            to_rgb = VideoReformatter()
            for frame in container.decode(container.streams.video[0]):
                yield to_rgb.reformat(frame, width, height, "rgb24", interpolation="AREA").to_ndarray()
    except (FFmpegError, OSError) as error:
        raise _undecodable(str(path), error) from error


def _undecodable(path: str, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return UserError(f"{path} cannot be decoded as video ({reason}); it is truncated or damaged, so write it again.")
