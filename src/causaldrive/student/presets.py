"""Named sizes of the student. A preset turns a tokenizer and action statistics into a StudentConfig.

Knows nothing of weights or files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast

from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.student.config import ActionSpaceSettings, FrameSettings, StudentConfig, TrajectoryTokenSettings
from causaldrive.student.layouts import fixed_texts
from causaldrive.student.text import add_phrases, extend_tokenizer

NEEDS_WEIGHTS = {
    "2b": "Qwen3-VL-2B, Cosmos-Reason2-2B or Qwen2.5-VL-3B weights",
    "4b": "Qwen3-VL-4B weights",
    "8b": "Qwen3-VL-8B, Cosmos-Reason2-8B or Cosmos-Reason1-7B weights",
    "alpamayo": "released Alpamayo-R1 or 1.5 weights, or a backbone to give their prompt, tokens and decoder",
}

FOLLOW_WEIGHT = 0.1  # of corrections in m/s^2 against misses in m: real logs end within 2 cm, noise is left alone
_PROMPT = ("system_prompt", "reason_instruction", "drive_instruction")


@dataclass(frozen=True)
class ActionStatistics:
    """What `statistics.fit_action_statistics` measures on training data; goes into the configuration."""

    accel_mean_mps2: float
    accel_std_mps2: float
    curvature_mean_1pm: float
    curvature_std_1pm: float
    token_min: tuple[float, float]  # normalised range of the future bins; raw zero lies exactly on the middle bin
    token_max: tuple[float, float]


@dataclass(frozen=True)
class _Size:
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mrope_section: tuple[int, int, int]
    vision_hidden: int
    vision_intermediate: int
    vision_depth: int
    vision_heads: int
    deepstack: tuple[int, ...]
    expert: dict[str, int]
    projection_hidden: int


_NANO = _Size(
    hidden=96, intermediate=256, layers=3, heads=3, kv_heads=3, head_dim=32, mrope_section=(8, 4, 4),
    vision_hidden=64, vision_intermediate=192, vision_depth=3, vision_heads=2, deepstack=(0, 1),
    expert={"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 3}, projection_hidden=64,
)  # fmt: skip
_TINY = _Size(
    hidden=192, intermediate=512, layers=4, heads=6, kv_heads=3, head_dim=32, mrope_section=(8, 4, 4),
    vision_hidden=128, vision_intermediate=384, vision_depth=3, vision_heads=4, deepstack=(0, 1),
    expert={"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 3}, projection_hidden=128,
)  # fmt: skip
_MINI = _Size(
    hidden=320, intermediate=896, layers=6, heads=10, kv_heads=5, head_dim=32, mrope_section=(8, 4, 4),
    vision_hidden=192, vision_intermediate=576, vision_depth=4, vision_heads=6, deepstack=(0, 1),
    expert={"hidden_size": 192, "intermediate_size": 576, "num_attention_heads": 5}, projection_hidden=192,
)  # fmt: skip
_SMALL = _Size(
    hidden=640, intermediate=1792, layers=12, heads=10, kv_heads=5, head_dim=64, mrope_section=(16, 8, 8),
    vision_hidden=448, vision_intermediate=1344, vision_depth=9, vision_heads=7, deepstack=(2, 4, 6),
    expert={"hidden_size": 320, "intermediate_size": 960, "num_attention_heads": 10}, projection_hidden=256,
)  # fmt: skip


def tiny(tokenizer: PreTrainedTokenizerFast, statistics: ActionStatistics, **changes: Any) -> StudentConfig:
    """About 5 M parameters: the chain on two CPU cores. Extends `tokenizer` in place; `changes` replace fields.

    Its two frames share one grid of temporal patches: half the image tokens, which on a CPU is a third more samples.
    It speaks one pair of trajectory tokens for every 0.4 s: 32 instead of 128, written in a quarter of the time. Of its
    history it is told its speed alone, one token instead of 45. Told how it steers, a small student goes on steering
    so, whatever the road does; told that it is slowing down, it finds a reason for that, and finds none before.
    """
    return _for_a_cpu("tiny", _TINY, tokenizer, statistics, **changes)


def nano(tokenizer: PreTrainedTokenizerFast, statistics: ActionStatistics, **changes: Any) -> StudentConfig:
    """About 1 M parameters, in all else as `tiny`: the small end of a scaling curve."""
    return _for_a_cpu("nano", _NANO, tokenizer, statistics, **changes)


def mini(tokenizer: PreTrainedTokenizerFast, statistics: ActionStatistics, **changes: Any) -> StudentConfig:
    """About 14 M parameters, in all else as `tiny`: three times its work a sample."""
    return _for_a_cpu("mini", _MINI, tokenizer, statistics, **changes)


def small(tokenizer: PreTrainedTokenizerFast, statistics: ActionStatistics, **changes: Any) -> StudentConfig:
    """About 100 M parameters: the scaling point for one GPU."""
    return _from_size("small", _SMALL, tokenizer, statistics, **changes)


PRESETS: dict[str, Callable[..., StudentConfig]] = {"nano": nano, "tiny": tiny, "mini": mini, "small": small}


def preset(name: str) -> Callable[..., StudentConfig]:
    """The function of a preset. Raises UserError for an unknown name, or one that cannot be made from nothing."""
    if name in NEEDS_WEIGHTS:
        raise UserError(
            f"preset {name!r} starts from {NEEDS_WEIGHTS[name]}; add --backbone PATH_OR_HUB_ID, or pass --preset tiny."
        )
    if name not in PRESETS:
        raise unknown_name("preset", name, [*PRESETS, *NEEDS_WEIGHTS])
    return PRESETS[name]


def _for_a_cpu(
    name: str, size: _Size, tokenizer: PreTrainedTokenizerFast, statistics: ActionStatistics, **changes: Any
) -> StudentConfig:
    """What `tiny` says of its frames, trajectory tokens and history."""
    told = {"history_axes": (0,), "history_last": 1}
    changes["traj_tokens"] = {"steps_per_token": 4} | told | changes.get("traj_tokens", {})
    changes["frames"] = {"pair_frames": True} | changes.get("frames", {})
    return _from_size(name, size, tokenizer, statistics, **changes)


def _from_size(
    name: str, size: _Size, tokenizer: PreTrainedTokenizerFast, statistics: ActionStatistics, **changes: Any
) -> StudentConfig:
    future_bins, history_bins = changes.pop("future_bins", 513), changes.pop("history_bins", 256)
    text_vocab_size = len(tokenizer) - len(tokenizer.get_added_vocab())
    frames = dataclasses.replace(FrameSettings(), **changes.pop("frames", {}))
    prompt = StudentConfig(frames_cfg=dataclasses.asdict(frames), **{n: changes[n] for n in _PROMPT if n in changes})
    add_phrases(tokenizer, fixed_texts(prompt))
    base_size = len(tokenizer)
    ids = extend_tokenizer(tokenizer, future_bins, history_bins)
    tokens = TrajectoryTokenSettings.corrected(
        statistics.token_min, statistics.token_max, **changes.pop("traj_tokens", {})
    )
    values: dict[str, Any] = {
        "preset": name,
        "vlm_config": _vlm_config(size, len(tokenizer), ids, frames),
        "expert_cfg": dict(size.expert),
        "action_in_proj_cfg": {
            "num_enc_layers": 2, "hidden_size": size.projection_hidden, "num_fourier_feats": 20,
            "min_freq": 0.05, "max_freq": 5.0,
        },
        "action_space_cfg": dataclasses.asdict(action_space_of(statistics)),
        "traj_tokens_cfg": dataclasses.asdict(tokens),
        "frames_cfg": dataclasses.asdict(frames),
        "text_vocab_size": text_vocab_size,
        "vocab_size": len(tokenizer),
        "traj_token_start_idx": base_size,
        "future_bins": future_bins,
        "history_bins": history_bins,
        "tokens_per_history_traj": tokens.tokens_per_history_traj,
        "tokens_per_future_traj": tokens.tokens_per_future_traj,
        "special_token_ids": ids,
    }  # fmt: skip
    return StudentConfig(**(values | changes))


def action_space_of(statistics: ActionStatistics) -> ActionSpaceSettings:
    """The action space normalised by `statistics`; bounds and solver constants are the released ones.

    Unlike there, the path follows the recorded points where the recorded heading leads past them.
    """
    return ActionSpaceSettings(
        accel_mean_mps2=statistics.accel_mean_mps2,
        accel_std_mps2=statistics.accel_std_mps2,
        curvature_mean_1pm=statistics.curvature_mean_1pm,
        curvature_std_1pm=statistics.curvature_std_1pm,
        follow_weight=FOLLOW_WEIGHT,
    )


def _vlm_config(size: _Size, vocab_size: int, ids: dict[str, int], frames: FrameSettings) -> dict[str, Any]:
    text = {
        "vocab_size": vocab_size, "hidden_size": size.hidden, "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers, "num_attention_heads": size.heads, "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_dim, "max_position_embeddings": 8192, "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_interleaved": True,
                            "mrope_section": list(size.mrope_section)},
    }  # fmt: skip
    vision = {
        "hidden_size": size.vision_hidden, "intermediate_size": size.vision_intermediate, "depth": size.vision_depth,
        "num_heads": size.vision_heads, "out_hidden_size": size.hidden, "patch_size": frames.patch_size,
        "spatial_merge_size": frames.merge_size, "num_position_embeddings": 576,
        "deepstack_visual_indexes": list(size.deepstack),
    }  # fmt: skip
    return {
        "text_config": text, "vision_config": vision, "tie_word_embeddings": False,
        "image_token_id": ids["image_pad"], "video_token_id": ids["video_pad"],
        "vision_start_token_id": ids["vision_start"], "vision_end_token_id": ids["vision_end"],
    }  # fmt: skip
