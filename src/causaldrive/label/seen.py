"""What a language model is shown of a moment: the past as pictures, motion table and scene lines; the future as motion.

`past_of` cuts everything at t0 before anything is written down, so that no prompt made of a `Past` can hold the future.
Reads a `RecordingView` and its camera's frames. Knows nothing of prompts or endpoints.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from causaldrive.clips.geometry import to_frame
from causaldrive.clips.store import read_frames
from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.words import FUTURE_STEPS, STEP_S
from causaldrive.label.recording_view import RecordingView
from causaldrive.label.validators import HISTORY_US
from causaldrive.worlds.state import WAVES, WorldState

SEES = ("frames", "text", "both", "motion")
HISTORY_S = HISTORY_US // 1_000_000
_ROWS_EVERY_S = 0.4  # of the motion tables
_SCENE_EVERY_S = 0.5
_FARTHEST_M, _MOST_OBJECTS = 70.0, 14
_SIGNALS = {1: ["indicating left"], -1: ["indicating right"], WAVES: ["waving us on"]}

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Sight:
    """How a model is shown the past."""

    see: str = "frames"  # frames: pictures; text: annotated agents and lights as lines; both; motion: own motion only
    camera: str = ""  # which camera; the recording's first where none is named
    frames_hz: float = 2.0  # pictures a second
    image_width_px: int = 448
    jpeg_quality: int = 80

    def check(self, option: str) -> None:
        """Raises UserError for a setting that cannot work."""
        if self.see not in SEES:
            raise unknown_name(f"--{option}.see", self.see, SEES)
        for name, least, most in (("frames_hz", 0.5, 10), ("image_width_px", 28, 4096), ("jpeg_quality", 1, 100)):
            if not least <= (found := getattr(self, name)) <= most:
                flag = f"--{option}.{name.replace('_', '-')}"
                raise UserError(f"{flag} is {found}; {least} to {most} expected, so change it.")


@dataclass(frozen=True)
class Past:
    """What was seen up to now: motion (s, speed, acceleration, yaw rate), scene lines, pictures and their times."""

    ego_rows: Rows
    scene: tuple[str, ...]
    pictures: tuple[str, ...]  # JPEG data URLs, oldest first
    picture_s: tuple[float, ...]  # when each was taken, from now


def past_of(
    view: RecordingView, t0_us: int, sight: Sight, span_us: int = HISTORY_US, ready: Mapping[int, str] | None = None
) -> Past:
    """The `span_us` up to t0 as `sight` shows it. Raises UserError where the recording lacks what shall be shown.

    `ready` may hold pictures that `pictures_ahead` made with the same sight; what it lacks is read from the video.
    """
    scene: tuple[str, ...] = ()
    if sight.see in ("text", "both"):
        if view.recording.agents is None:
            raise UserError(f"{view.recording.recording_id} has no annotated agents; use --openai.see frames.")
        scene = scene_lines(view.history_states(t0_us))
    times: tuple[int, ...] = ()
    pictures: tuple[str, ...] = ()
    if sight.see in ("frames", "both"):
        times = _picture_times(view, t0_us, sight, span_us)
        pictures = _pictures(view, times, sight, ready or {})
    return Past(_history_rows(view, t0_us), scene, pictures, tuple((t - t0_us) / 1e6 for t in times))


def _history_rows(view: RecordingView, t0_us: int) -> Rows:
    """Rates are backward differences: recorded ones are smoothed over what came after."""
    t_us = view.ego.t_us
    now = int(np.searchsorted(t_us, t0_us, side="right")) - 1
    first = int(np.searchsorted(t_us, t0_us - HISTORY_US))
    step = round(_ROWS_EVERY_S / STEP_S)
    numbers = range(first + (now - first) % step, now + 1, step)
    speed, yaw = view.ego.speed_mps[: now + 1], np.unwrap(view.ego.yaw_rad[: now + 1])
    acceleration, yaw_rate = (np.diff(signal, prepend=2 * signal[0] - signal[1]) / STEP_S for signal in (speed, yaw))
    signals = (speed, acceleration, yaw_rate)
    return tuple((float(t_us[i] - t0_us) / 1e6, *(float(signal[i]) for signal in signals)) for i in numbers)


def future_rows(view: RecordingView, t0_us: int) -> Rows:
    """(s, speed m/s, m ahead, m to the left, heading rad) of what was driven from t0 on."""
    motion = view.motion_from(t0_us)
    step = round(_ROWS_EVERY_S / STEP_S)
    return tuple(
        (
            i * STEP_S,
            float(motion.speed_mps[i]),
            float(motion.xy_in_rig_m[i, 0]),
            float(motion.xy_in_rig_m[i, 1]),
            float(motion.yaw_rad[i]),
        )
        for i in range(0, FUTURE_STEPS + 1, step)
    )


def scene_lines(history: Sequence[WorldState]) -> tuple[str, ...]:
    """One line a time and object near and ahead, nearest first; the last state is now."""
    step = round(_SCENE_EVERY_S / STEP_S)
    shown = list(history)[::-1][::step][::-1]
    now_us = history[-1].t_us
    return tuple(line for state in shown for line in _lines_of(state, (state.t_us - now_us) / 1e6))


def _lines_of(state: WorldState, seconds: float) -> list[str]:
    found = [*_agents_of(state), *_lights_of(state)]
    return [f"{seconds:5.1f}  {text}" for _, text in sorted(found)[:_MOST_OBJECTS]]


def _agents_of(state: WorldState) -> list[tuple[float, str]]:
    agents, found = state.agents, []
    xy = to_frame(agents.xy_in_local_m.reshape(-1, 2), state.ego.xy_in_local_m, state.ego.yaw_rad)
    for i, (x, y) in enumerate(xy):
        distance = float(np.hypot(x, y))
        if distance <= _FARTHEST_M and x > -10:
            shown = _SIGNALS.get(int(agents.indicator[i]), [])
            signs = [*(["braking"] if agents.brake_light[i] else []), *shown]
            text = f"{agents.category[i]} {agents.ids[i]}: {x:.1f} ahead, {y:.1f} left, {agents.speed_mps[i]:.1f} m/s"
            found.append((distance, ", ".join([text, *signs])))
    return found


def _lights_of(state: WorldState) -> list[tuple[float, str]]:
    lights, found = state.lights, []
    xy = to_frame(lights.stop_xy_in_local_m.reshape(-1, 2), state.ego.xy_in_local_m, state.ego.yaw_rad)
    for i, (x, y) in enumerate(xy):
        distance = float(np.hypot(x, y))
        if distance <= _FARTHEST_M and x > -2:
            text = f"light {lights.ids[i]}: {lights.state[i]}, stop line {x:.1f} ahead, {y:.1f} left"
            found.append((distance, text))
    return found


def pictures_ahead(
    view: RecordingView, t0s_us: Sequence[int], sight: Sight, span_us: int = HISTORY_US
) -> dict[int, str]:
    """JPEG data URLs of all that several moments show, by time: what they share is read once, in one pass.

    Raises UserError as `past_of` does.
    """
    if sight.see not in ("frames", "both"):
        return {}
    times = sorted({t for t0_us in t0s_us for t in _picture_times(view, t0_us, sight, span_us)})
    return dict(zip(times, _pictures(view, times, sight, {}), strict=True))


def _camera_of(view: RecordingView, sight: Sight) -> str:
    recording = view.recording
    if not recording.cameras or recording.directory is None:
        raise UserError(f"{recording.recording_id} has no camera; use --openai.see text or motion.")
    name = sight.camera or next(iter(recording.cameras))
    if name not in recording.cameras:
        raise unknown_name(f"{recording.recording_id}: camera", name, recording.cameras)
    return name


def _picture_times(view: RecordingView, t0_us: int, sight: Sight, span_us: int) -> tuple[int, ...]:
    recording, name = view.recording, _camera_of(view, sight)
    times = _frame_times(recording.cameras[name].t_us, t0_us, sight, span_us)
    if not times:
        raise UserError(f"{recording.recording_id}: camera {name} has no frame in the 2 s before {t0_us} us.")
    return times


def _pictures(view: RecordingView, times: Sequence[int], sight: Sight, ready: Mapping[int, str]) -> tuple[str, ...]:
    directory, lacking = view.recording.directory, [t for t in times if t not in ready]
    assert directory is not None, "who has picture times has a directory"
    read = read_frames(directory, _camera_of(view, sight), lacking) if lacking else ()
    made = {t: jpeg_url(image, sight) for t, image in zip(lacking, read, strict=True)}
    return tuple(ready[t] if t in ready else made[t] for t in times)


def _frame_times(t_us: np.ndarray, t0_us: int, sight: Sight, span_us: int) -> tuple[int, ...]:
    """Times of the frames nearest to t0, t0 - 1/hz, ..., oldest first, each once, none after t0 or before the span."""
    known = t_us[(t_us <= t0_us) & (t_us >= t0_us - span_us - 50_000)]
    wanted = np.arange(t0_us, t0_us - span_us - 1, -round(1e6 / sight.frames_hz))
    picked = {int(known[np.argmin(np.abs(known - t))]) for t in wanted} if len(known) else set()
    return tuple(sorted(picked))


def jpeg_url(image: np.ndarray, sight: Sight) -> str:
    """An (H, W, 3) RGB picture as a JPEG data URL, scaled down to the width asked for."""
    height, width = image.shape[:2]
    if width > sight.image_width_px:
        size = (sight.image_width_px, round(height * sight.image_width_px / width))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, sight.jpeg_quality])
    assert done, "a picture of at least one pixel can be encoded"
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
