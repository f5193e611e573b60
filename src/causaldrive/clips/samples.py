"""Samples: what the student sees and must produce at one t0, cut from a recording.

History is 16 poses from t0 - 1.5 s to t0, future 64 poses from t0 + 0.1 s to t0 + 6.4 s, at 10 Hz, in the rig frame at
t0 with its full 3-D rotation taken out. Reads video only in `sample_frames`. Knows nothing of labels or tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from causaldrive.clips.geometry import matrix_of_quat
from causaldrive.clips.resample import resample_ego
from causaldrive.clips.store import read_frames
from causaldrive.clips.types import EgoMotion, Recording, Sample
from causaldrive.ground.errors import UserError
from causaldrive.ground.words import FUTURE_STEPS, HISTORY_STEPS, STEP_US

HISTORY_OFFSETS_US = np.arange(1 - HISTORY_STEPS, 1, dtype=np.int64) * STEP_US
FUTURE_OFFSETS_US = np.arange(1, FUTURE_STEPS + 1, dtype=np.int64) * STEP_US
MAX_GAP_US = 500_000  # poses further apart than this are not interpolated into a sample


def usable_range(recording: Recording, need_future: bool = True) -> tuple[int, int]:
    """(first_t0_us, last_t0_us), both included, for which history and (unless told otherwise) future are recorded.

    Raises UserError when the recording is too short for a single sample.
    """
    first = int(recording.ego.t_us[0] - HISTORY_OFFSETS_US[0])
    last = int(recording.ego.t_us[-1] - (FUTURE_OFFSETS_US[-1] if need_future else 0))
    if last < first:
        lasts_s = (recording.ego.t_us[-1] - recording.ego.t_us[0]) / 1e6
        needed_s = lasts_s + (first - last) / 1e6
        raise UserError(
            f"{recording.recording_id} lasts {lasts_s:.1f} s, at least {needed_s:.1f} s expected for one sample; "
            "record or export more of the drive."
        )
    return first, last


def cut_sample(
    recording: Recording,
    t0_us: int,
    frames: np.ndarray | None = None,
    camera_names: Sequence[str] = (),
    frame_offsets_us: Sequence[int] = (0,),
    need_future: bool = True,
) -> Sample:
    """The sample at t0. p_i in rig = R0^T (p_i - p0), yaw_i = yaw of R0^T R_i.

    `frames` (C, F, H, W, 3) uint8 as `sample_frames` gives them; None for no video. With `need_future` False the
    future is None, as in driving. Raises UserError when t0 is outside `usable_range` or poses are missing there.
    """
    first, last = usable_range(recording, need_future)
    if not first <= t0_us <= last:
        raise UserError(
            f"{recording.recording_id}: t0 {t0_us} us is out of range; a time from {first} to {last} us expected."
        )
    offsets = np.concatenate([HISTORY_OFFSETS_US, FUTURE_OFFSETS_US]) if need_future else HISTORY_OFFSETS_US
    _refuse_gap(recording, t0_us + offsets[[0, -1]])
    xyz, yaw = _poses_in_rig_at(resample_ego(recording.ego, t0_us + offsets), HISTORY_STEPS - 1)
    sample = Sample(
        recording_id=recording.recording_id,
        t0_us=int(t0_us),
        frames=frames,
        camera_names=tuple(camera_names),
        frame_offsets_us=tuple(int(offset) for offset in frame_offsets_us),
        history_xyz_in_rig_m=xyz[:HISTORY_STEPS],
        history_yaw_rad=yaw[:HISTORY_STEPS],
        future_xyz_in_rig_m=xyz[HISTORY_STEPS:] if need_future else None,
        future_yaw_rad=yaw[HISTORY_STEPS:] if need_future else None,
    )
    sample.validate()
    return sample


def _refuse_gap(recording: Recording, span_us: np.ndarray) -> None:
    known = recording.ego.t_us
    start, stop = np.searchsorted(known, span_us[0], side="right") - 1, np.searchsorted(known, span_us[1])
    steps = np.diff(known[max(start, 0) : stop + 1])
    if len(steps) and steps.max() > MAX_GAP_US:
        at = known[max(start, 0) + int(np.argmax(steps))]
        raise UserError(
            f"{recording.recording_id}: no ego pose for {steps.max() / 1e6:.1f} s after {at} us; at most "
            f"{MAX_GAP_US / 1e6:.1f} s expected inside a sample, so choose another t0."
        )


def _poses_in_rig_at(ego: EgoMotion, zero: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (T, 3) and yaws (T,) in the rig frame of pose `zero`."""
    rotation = matrix_of_quat(ego.quat_local_to_rig)
    to_rig = rotation[zero].T
    xyz = (ego.position_in_local_m - ego.position_in_local_m[zero]) @ to_rig.T
    forward = (to_rig @ rotation)[:, :, 0]
    return xyz, np.arctan2(forward[:, 1], forward[:, 0])


def sample_frames(
    directory: Path, camera_names: Sequence[str], t0_us: int, frame_offsets_us: Sequence[int]
) -> np.ndarray:
    """Camera frames (C, F, H, W, 3) uint8 at t0 + each offset, oldest first.

    Raises UserError for an unknown camera, a time without a frame, or cameras of different size.
    """
    times = [t0_us + int(offset) for offset in frame_offsets_us]
    images = [read_frames(directory, name, times) for name in camera_names]
    if len({image.shape for image in images}) > 1:
        sizes = ", ".join(f"{n} {i.shape[2]}x{i.shape[1]}" for n, i in zip(camera_names, images, strict=True))
        raise UserError(f"{directory}: cameras of one size expected in a sample, found {sizes}; choose others.")
    return np.stack(images)
