"""Vocabulary order and trajectory tokens.

Ids: base tokenizer, then `<i0>`..., future bins first and history bins after them, then 29 special strings in a fixed
order (`<|image_pad|>` is one of them and already exists, so 28 are new). Source: the released Alpamayo-R1 vocabulary.
Knows nothing of text tokenizers or models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from causaldrive.ground.words import FUTURE_STEPS, HISTORY_STEPS
from causaldrive.student.config import StudentConfig, TrajectoryTokenSettings

SPECIAL_NAMES = (
    "prompt_start", "prompt_end",
    "image_start", "image_pre_tkn", "image_pad", "image_end",
    "traj_history_start", "traj_history_pre_tkn", "traj_history_end",
    "cot_start", "cot_end",
    "meta_action_start", "meta_action_end",
    "traj_future_start", "traj_future_pre_tkn", "traj_future_end",
    "traj_history", "traj_future",
    "vectorized_wm", "vectorized_wm_start", "vectorized_wm_end", "vectorized_wm_pre_tkn",
    "route_start", "route_pad", "route_end",
    "question_start", "question_end", "answer_start", "answer_end",
)  # fmt: skip
NAMES_OF_1_5 = {  # names that Alpamayo 1.5 gave other words; ids and order are the same
    "image_pre_tkn": "_padding_0", "traj_history_pre_tkn": "_padding_1",
    "meta_action_start": "_padding_2", "meta_action_end": "_padding_3", "traj_future_pre_tkn": "_padding_4",
    "vectorized_wm": "_padding_5", "vectorized_wm_start": "_padding_6", "vectorized_wm_end": "_padding_7",
    "vectorized_wm_pre_tkn": "_padding_8",
}  # fmt: skip
CHAT_NAMES = (
    "endoftext", "im_start", "im_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad",
)  # fmt: skip  # the Qwen marks that a tokenizer of our own needs
IN_TEXT = ("cot_end", "meta_action_start", "meta_action_end", "traj_future_start")  # may follow <|cot_start|>


def special(name: str) -> str:
    """`traj_history` -> `<|traj_history|>`."""
    return f"<|{name}|>"


def trajectory_strings(count: int) -> list[str]:
    """`<i0>` ... `<i{count-1}>`."""
    return [f"<i{i}>" for i in range(count)]


class FutureTokens:
    """bin = round((a - min) / (max - min) * (bins - 1)), flattened a_0, kappa_0, a_1, kappa_1, ...: 2 * 64 / S tokens.

    a_i is the mean of the S = `steps_per_token` actions of its group, which are read back as S equal ones: speed and
    heading at the group's end are kept exactly. S = 1 is the released layout of 128 tokens.
    """

    def __init__(self, settings: TrajectoryTokenSettings, bins: int):
        self.low = np.asarray(settings.future_dims_min, np.float64)
        self.high = np.asarray(settings.future_dims_max, np.float64)
        self.bins, self.steps = bins, settings.steps_per_token

    def encode(self, actions: NDArray) -> NDArray[np.int64]:
        """Normalised actions (..., 64, 2) to bins (..., 128 / S); half to even, clamped."""
        leading = np.shape(actions)[:-2]
        if self.steps > 1:
            actions = np.reshape(actions, (*leading, FUTURE_STEPS // self.steps, self.steps, 2)).mean(axis=-2)
        return _to_bins(actions, self.low, self.high, self.bins).reshape(*leading, -1)

    def decode(self, bins: NDArray) -> NDArray[np.float64]:
        """Bins (..., 128 / S) to normalised actions (..., 64, 2)."""
        pairs = np.asarray(bins).reshape(*np.shape(bins)[:-1], FUTURE_STEPS // self.steps, 2)
        return (self.low + pairs / (self.bins - 1) * (self.high - self.low)).repeat(self.steps, axis=-2)


class HistoryTokens:
    """Differences of the 16 history positions (dx, dy, dz per step) in linear bins.

    With `pad_origin_at_beginning` the origin is put before the 16 points (the released layout): 48 tokens, of which
    the first difference reaches from t0 back to the oldest point and saturates above about 2.7 m/s. Without it the
    15 true steps are written: 45 tokens, or those of `history_axes` and of the `history_last` newest steps alone.
    """

    def __init__(self, settings: TrajectoryTokenSettings, bins: int):
        self.low, self.high = np.asarray(settings.history_min_m), np.asarray(settings.history_max_m)
        self.bins, self.pad_origin, self.axes = bins, settings.pad_origin_at_beginning, list(settings.history_axes)
        self.last = settings.history_last

    def encode(self, history_xyz_in_rig_m: NDArray) -> NDArray[np.int64]:
        """Positions (..., 16, 3) to bins (..., N A) of the N newest steps and the A axes that are written."""
        points = np.asarray(history_xyz_in_rig_m, np.float64)
        if self.pad_origin:
            points = np.concatenate([np.zeros_like(points[..., :1, :]), points], axis=-2)
        bins = _to_bins(np.diff(points, axis=-2), self.low, self.high, self.bins)[..., -self.last :, self.axes]
        return bins.reshape(*points.shape[:-2], -1)

    def decode(self, bins: NDArray) -> NDArray[np.float64]:
        """Bins to positions (..., 16, 3) that end at the origin; the saturating first difference is not used.

        An axis that was not written stays at 0, a step that was not written at the oldest one that was.
        """
        steps = np.asarray(bins).reshape(*np.shape(bins)[:-1], -1, len(self.axes))[..., -(HISTORY_STEPS - 1) :, :]
        missing = HISTORY_STEPS - 1 - steps.shape[-2]
        steps = np.concatenate([steps[..., :1, :].repeat(missing, axis=-2), steps], axis=-2)
        deltas = np.zeros((*steps.shape[:-1], 3))
        low, high = self.low[self.axes], self.high[self.axes]
        deltas[..., self.axes] = low + steps / (self.bins - 1) * (high - low)
        points = np.concatenate([np.zeros_like(deltas[..., :1, :]), np.cumsum(deltas, axis=-2)], axis=-2)
        return points - points[..., -1:, :]


def _to_bins(values: NDArray, low: NDArray, high: NDArray, bins: int) -> NDArray[np.int64]:
    scaled = (np.asarray(values, np.float64) - low) / (high - low) * (bins - 1)
    return np.clip(np.round(scaled), 0, bins - 1).astype(np.int64)


def special_names(layout: str) -> tuple[str, ...]:
    """The 29 special names in their order, as the vocabulary of a prompt layout writes them."""
    return tuple(NAMES_OF_1_5.get(name, name) for name in SPECIAL_NAMES) if layout == "1.5" else SPECIAL_NAMES


def text_allowed(config: StudentConfig) -> NDArray[np.bool_]:
    """(vocab_size,) ids that may be written before the trajectory: plain text and the marks of IN_TEXT.

    With the 'released' text rule: everything but the trajectory bins.
    """
    allowed = np.zeros(config.vocab_size, bool)
    if config.text_rule == "released":
        bins = config.future_bins + config.history_bins
        allowed[:] = True
        allowed[config.traj_token_start_idx : config.traj_token_start_idx + bins] = False
        return allowed
    allowed[: config.text_vocab_size] = True
    allowed[[config.id_of(name) for name in IN_TEXT]] = True
    return allowed


def spelling_allowed(config: StudentConfig) -> NDArray[np.bool_]:
    """(vocab_size,) ids that spell a trajectory: plain text, and `<|traj_future_end|>` after it."""
    allowed = np.zeros(config.vocab_size, bool)
    allowed[: config.text_vocab_size] = True
    allowed[config.id_of("traj_future_end")] = True
    return allowed


def future_allowed(config: StudentConfig) -> NDArray[np.bool_]:
    """(vocab_size,) ids that may be written after `<|traj_future_start|>`: the future bins."""
    allowed = np.zeros(config.vocab_size, bool)
    allowed[config.traj_token_start_idx : config.traj_token_start_idx + config.future_bins] = True
    return allowed
