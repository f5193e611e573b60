"""What a reviewer looks at: camera frames, bird's-eye pictures and motion around t0, at 10 Hz ticks from t0.

Tick k is the moment t0 + k / 10 s, from -20 to 64; its picture is the last frame taken at or before it, so that no
tick up to 0 shows the future. Reads recordings as they are asked for and keeps the last few. Knows nothing of edits.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from causaldrive.clips.store import MARK, find_recordings, read_frames, read_recording
from causaldrive.clips.types import Recording
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_json
from causaldrive.ground.words import FUTURE_STEPS, STEP_US
from causaldrive.label.meta_actions import MetaActions, acceleration_of, detect_signals
from causaldrive.label.recording_view import RecordingView, view_of
from causaldrive.label.store import labels_path
from causaldrive.worlds.draw_bev import draw_bev

FIRST_TICK, LAST_TICK = -20, FUTURE_STEPS
FRAME_WIDTH_PX, BEV_PX, BEV_METRES = 720, 480, 70.0
T = TypeVar("T")


class _Kept:
    """The last few results, computed once each however many requests ask for them."""

    def __init__(self, most: int):
        self._most, self._lock, self._held = most, threading.RLock(), OrderedDict[Hashable, Any]()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key not in self._held:
                self._held[key] = make()
                if len(self._held) > self._most:
                    self._held.popitem(last=False)
            self._held.move_to_end(key)
            return self._held[key]


def find_beside(labels: Path, recordings: Path | None) -> dict[str, Path]:
    """Recording id -> directory. Looks where told, else where the label run read, else beside the labels.

    Raises UserError when a directory was named and holds no recording; an empty answer when none was found.
    """
    if recordings is not None:
        return _ids(find_recordings(recordings))
    run = labels_path(labels).parent / "run.json"
    told = [Path(read_json(run).get("config", {}).get("recordings", ""))] if run.exists() else []
    home = labels_path(labels).parent
    for place in (*told, home / "recordings", home.parent / "recordings", home.parent):
        if place.is_dir() and place != Path():
            try:
                return _ids(find_recordings(place))
            except UserError:
                continue
    return {}


def _ids(directories: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for directory in directories:
        if (directory / MARK).exists():
            found.setdefault(str(read_json(directory / MARK).get("recording_id", directory.name)), directory)
    return found


class Media:
    """Pictures and motion of recordings, by recording id."""

    def __init__(self, directories: dict[str, Path]):
        self.directories = directories
        self._views, self._windows, self._bevs = _Kept(6), _Kept(8), _Kept(600)

    def view(self, recording_id: str) -> RecordingView | None:
        """The recording and what follows from it; None where it is not at hand. Raises UserError when it is broken."""
        directory = self.directories.get(recording_id)
        if directory is None:
            return None
        return self._views.get(recording_id, lambda: view_of(read_recording(directory)))

    def frame(self, recording_id: str, camera: str, t0_us: int, tick: int) -> bytes | None:
        """JPEG of the last frame at or before the tick; None where there is none (before the video, after it)."""
        view = self.view(recording_id)
        track = view.recording.cameras.get(camera) if view else None
        if view is None or track is None:
            return None
        future = tick > 0  # history is decoded apart, so that the future is not touched before it may be seen
        ticks = range(1, LAST_TICK + 1) if future else range(FIRST_TICK, 1)
        numbers = {k: _frame_at(track.t_us, t0_us + k * STEP_US) for k in ticks}
        window = self._windows.get(
            (recording_id, camera, t0_us, future), lambda: _jpegs(view.recording, camera, numbers.values())
        )
        return window.get(numbers.get(tick, -1))

    def bev(self, recording_id: str, t0_us: int, tick: int) -> bytes | None:
        """JPEG of the bird's-eye picture at a tick; None where the recording knows neither agents nor map."""
        view = self.view(recording_id)
        if view is None or not has_bev(view.recording):
            return None
        return self._bevs.get((recording_id, t0_us, tick), lambda: _bev(view, t0_us + tick * STEP_US, t0_us))

    def motion(self, recording_id: str, t0_us: int, until_tick: int) -> dict[str, Any] | None:
        """Speed, acceleration, curvature per tick and meta-action spans, up to `until_tick` and nothing later."""
        view = self.view(recording_id)
        if view is None:
            return None
        ticks = np.rint((view.ego.t_us - t0_us) / STEP_US).astype(int)
        # Acceleration and words look at frames to both sides: the motion is cut first, so that none of it leaks.
        seen = ticks <= until_tick
        speed = view.ego.speed_mps[seen]
        shown = ticks[seen] >= FIRST_TICK
        signals = {"speed_mps": speed, "acceleration_mps2": acceleration_of(speed) if len(speed) > 1 else 0 * speed,
                   "curvature_1pm": view.ego.curvature_1pm[seen]}  # fmt: skip
        return {
            "ticks": ticks[seen][shown].tolist(),
            **{name: np.round(value[shown], 4).tolist() for name, value in signals.items()},
            "spans": _spans(_words(view, seen, until_tick), t0_us, until_tick),
        }

    def present_ids(self, recording_id: str, t0_us: int) -> list[str]:
        """Agents and lights seen in the 2 s up to t0."""
        view = self.view(recording_id)
        states = view.history_states(t0_us) if view else ()
        return sorted({name for state in states for name in (*state.agents.ids, *state.lights.ids)})


def has_bev(recording: Recording) -> bool:
    return recording.agents is not None or (recording.road is not None and bool(recording.road.lanes))


def _frame_at(frame_t_us: np.ndarray, t_us: int) -> int:
    """Number of the last frame at or before a time; -1 before the first and more than 0.6 s after the last."""
    number = int(np.searchsorted(frame_t_us, t_us, side="right")) - 1
    return number if number >= 0 and t_us - frame_t_us[number] <= 6 * STEP_US else -1


def _jpegs(recording: Recording, camera: str, numbers: Any) -> dict[int, bytes]:
    wanted = sorted({number for number in numbers if number >= 0})
    if not wanted:
        return {}
    assert recording.directory is not None
    times = recording.cameras[camera].t_us[wanted]
    images = read_frames(recording.directory, camera, times)
    return {number: _jpeg(image) for number, image in zip(wanted, images, strict=True)}


def _jpeg(image: np.ndarray) -> bytes:
    picture = Image.fromarray(image)
    if picture.width > FRAME_WIDTH_PX:
        picture = picture.resize((FRAME_WIDTH_PX, round(picture.height * FRAME_WIDTH_PX / picture.width)))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=86)
    return stream.getvalue()


def _bev(view: RecordingView, t_us: int, t0_us: int) -> bytes | None:
    number = int(np.rint((t_us - view.ego.t_us[0]) / STEP_US))
    if not 0 <= number < len(view.states):
        return None
    begin = max(number - 20, 0) if t_us <= t0_us else max(int(np.rint((t0_us - view.ego.t_us[0]) / STEP_US)) - 20, 0)
    trail = view.ego.position_in_local_m[begin : number + 1, :2]
    return _jpeg(draw_bev(view.context, view.states[number], (BEV_PX, BEV_PX), BEV_METRES, trail_xy=trail))


def _words(view: RecordingView, seen: np.ndarray, until_tick: int) -> MetaActions:
    """The meta actions of the drive; of the frames seen alone while the future is hidden."""
    if until_tick > 0:
        return view.meta
    return detect_signals(view.ego.t_us[seen], view.ego.speed_mps[seen], view.ego.yaw_rad[seen])


def _spans(meta: MetaActions, t0_us: int, until_tick: int) -> list[dict[str, Any]]:
    """Meta-action spans that touch the window, in ticks, cut at its ends."""
    spans = []
    for span in meta.spans:
        start, end = ((t - t0_us) / STEP_US for t in (span.start_t_us, span.end_t_us))
        start, end = max(start, FIRST_TICK), min(end, until_tick + (1 if until_tick > 0 else 0))
        if start < end:
            spans.append({"axis": span.axis, "label": span.label, "start": round(start, 2), "end": round(end, 2)})
    return spans
