"""Action statistics of training data: what the normalisation and the token range of a preset are made from.

Reads samples. Knows nothing of recordings or files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from causaldrive.clips.types import Sample
from causaldrive.ground.errors import UserError
from causaldrive.student.action_space import UnicycleActionSpace
from causaldrive.student.config import ActionSpaceSettings
from causaldrive.student.presets import FOLLOW_WEIGHT, ActionStatistics

_RANGE_QUANTILE = 0.999  # the token range covers this share of |action|, plus a tenth
_STD_FLOOR = (0.1, 1e-3)  # a set of drives that never brake or never turn still needs a scale
_CHUNK = 256


def raw_actions(samples: Sequence[Sample], space: UnicycleActionSpace) -> tuple[Tensor, Tensor]:
    """Raw actions (N, 64, 2) and initial speeds (N,) of samples with a known future."""
    actions, speeds = [], []
    for begin in range(0, len(samples), _CHUNK):
        part = samples[begin : begin + _CHUNK]
        speed = initial_speeds(part, space)
        future = np.stack([_future(sample) for sample in part])
        xyyaw = torch.from_numpy(future).float()
        actions.append(space.encode(xyyaw[..., :2], xyyaw[..., 2], speed))
        speeds.append(speed)
    return torch.cat(actions), torch.cat(speeds)


def initial_speeds(samples: Sequence[Sample], space: UnicycleActionSpace) -> Tensor:
    """v_0 (N,) in m/s from the samples' histories."""
    xy = torch.from_numpy(np.stack([s.history_xyz_in_rig_m[:, :2] for s in samples])).float()
    yaw = torch.from_numpy(np.stack([s.history_yaw_rad for s in samples])).float()
    return space.initial_speed(xy, yaw)


def _future(sample: Sample) -> np.ndarray:
    """(64, 3) x, y, yaw."""
    if sample.future_xyz_in_rig_m is None or sample.future_yaw_rad is None:
        raise UserError(
            f"{sample.recording_id} at t0 {sample.t0_us} us has no ego future; 6.4 s after t0 are needed to train, "
            "so choose an earlier t0."
        )
    return np.concatenate([sample.future_xyz_in_rig_m[:, :2], sample.future_yaw_rad[:, None]], axis=1)


def fit_action_statistics(samples: Sequence[Sample]) -> ActionStatistics:
    """Mean and standard deviation of acceleration and curvature, and a token range symmetric about raw zero.

    With an odd number of bins, standing still and driving straight then fall exactly on the middle bin.
    Raises UserError when there are no samples.
    """
    if not samples:
        raise UserError(
            "no training samples found to fit action statistics; at least one expected, so label more drives."
        )
    settings = ActionSpaceSettings(follow_weight=FOLLOW_WEIGHT)
    space = UnicycleActionSpace(settings)
    actions = space.clip(raw_actions(samples, space)[0]).double().reshape(-1, 2).numpy()
    mean, std = actions.mean(axis=0), np.maximum(actions.std(axis=0), _STD_FLOOR)
    bound = np.array([settings.accel_bounds_mps2[1], settings.curvature_bounds_1pm[1]])
    reach = np.clip(1.1 * np.quantile(np.abs(actions), _RANGE_QUANTILE, axis=0), 3 * std, bound)
    low, high = (-reach - mean) / std, (reach - mean) / std
    return ActionStatistics(
        float(mean[0]), float(std[0]), float(mean[1]), float(std[1]),
        (float(low[0]), float(low[1])), (float(high[0]), float(high[1])),
    )  # fmt: skip
