"""The student's configuration: one Hugging Face `config.json` that says everything about model, tokens and prompt.

Field names follow the released Alpamayo configuration where it has one, so that released values can be put in.
Knows nothing of files beyond what transformers does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from transformers import PretrainedConfig, Qwen2_5_VLConfig, Qwen3VLConfig
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig

from causaldrive.ground.errors import UserError
from causaldrive.ground.words import FUTURE_STEPS

ARCHITECTURE_VERSION = 1  # raised when an older program could not run a newer checkpoint


@dataclass(frozen=True)
class ActionSpaceSettings:
    """Unicycle acceleration/curvature space. Statistics normalise; bounds clip training targets; the rest solves."""

    accel_mean_mps2: float = 0.0
    accel_std_mps2: float = 1.0
    curvature_mean_1pm: float = 0.0
    curvature_std_1pm: float = 0.05
    accel_bounds_mps2: tuple[float, float] = (-9.8, 9.8)
    curvature_bounds_1pm: tuple[float, float] = (-0.33, 0.33)
    dt_s: float = 0.1
    n_waypoints: int = 64
    heading_lambda: float = 1e-6
    heading_ridge: float = 1e-8
    speed_lambda: float = 1e-6
    speed_ridge: float = 1e-4
    accel_lambda: float = 1e-4
    accel_ridge: float = 1e-4
    curvature_lambda: float = 1e-4
    curvature_ridge: float = 1e-4
    follow_weight: float = 0.0  # above 0: actions are corrected until their path follows the points; 0: released
    stats_dtype: str = "float32"  # released weights were trained with 'bfloat16' statistics


@dataclass(frozen=True)
class TrajectoryTokenSettings:
    """Linear bins. Future: normalised actions; history: differences of poses in metres."""

    future_dims_min: tuple[float, float] = (-10.0, -10.0)  # normalised acceleration, curvature
    future_dims_max: tuple[float, float] = (10.0, 10.0)
    history_min_m: tuple[float, float, float] = (-4.0, -4.0, -10.0)
    history_max_m: tuple[float, float, float] = (4.0, 4.0, 10.0)
    pad_origin_at_beginning: bool = True  # True: released layout, 48 tokens, the first difference saturates
    history_axes: tuple[int, ...] = (0, 1, 2)  # of the differences, 0 x, 1 y, 2 z, which ones are written
    history_last: int = 0  # only so many newest differences are written; 0: all
    steps_per_token: int = 1  # consecutive 0.1 s actions that share a pair of future tokens: a divisor of 64

    @classmethod
    def corrected(
        cls, future_min: tuple[float, float], future_max: tuple[float, float], **changes: Any
    ) -> TrajectoryTokenSettings:
        """Our own presets': true 10 Hz differences of up to 40 m/s, so that no history token saturates."""
        history = (-0.5, -1.0, -0.5), (4.0, 1.0, 0.5)
        return cls(future_min, future_max, *history, pad_origin_at_beginning=False, **changes)

    @property
    def tokens_per_future_traj(self) -> int:
        """128 in the released layout, a pair for every 0.1 s."""
        return 2 * FUTURE_STEPS // self.steps_per_token

    @property
    def tokens_per_history_traj(self) -> int:
        """48 in the released layout; 45 when only true 10 Hz differences are written, fewer of fewer axes or steps."""
        return (self.history_last or (16 if self.pad_origin_at_beginning else 15)) * len(self.history_axes)


@dataclass(frozen=True)
class FrameSettings:
    """Which camera frames the student sees and how large."""

    camera_names: tuple[str, ...] = ("front",)  # order of the prompt; empty: every camera of the sample, in its order
    frame_offsets_s: tuple[float, ...] = (-0.4, 0.0)
    image_height_px: int | None = 192  # None: keep the aspect, between min_pixels and max_pixels
    image_width_px: int | None = 320
    min_pixels: int = 163840
    max_pixels: int = 196608
    patch_size: int = 16
    merge_size: int = 2
    resampling: str = "area"  # area average when shrinking; 'bicubic': as the Qwen image processors do
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of values 0 to 1; Qwen2.5-VL has CLIP's
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    pair_frames: bool = False  # two consecutive frames fill one temporal patch, as in Qwen3-VL's own video input

    @property
    def frame_offsets_us(self) -> tuple[int, ...]:
        return tuple(round(1e6 * offset) for offset in self.frame_offsets_s)

    def moments(self) -> tuple[str, ...]:
        """How the prompt names the time (s) of each image grid: one frame's, or both of a pair."""
        texts = [f"{offset:+.1f}" for offset in self.frame_offsets_s]
        if not self.pair_frames:
            return tuple(texts)
        if len(texts) % 2:
            raise UserError(
                f"pair_frames needs an even number of frames, found frame_offsets_s of {len(texts)}; add one or turn "
                "pair_frames off."
            )
        return tuple(f"{first} {second}" for first, second in zip(texts[::2], texts[1::2], strict=True))


class StudentConfig(PretrainedConfig):
    """Backbone, expert, projections, action space, tokens and prompt of one student."""

    model_type = "causaldrive_student"

    architecture_version: int = ARCHITECTURE_VERSION
    preset: str = "tiny"
    vlm_config: dict[str, Any] = field(default_factory=dict)  # a Qwen3VLConfig, or Qwen2_5_VLConfig by its model_type
    expert_cfg: dict[str, Any] = field(default_factory=dict)  # text config keys that the expert overrides
    action_in_proj_cfg: dict[str, Any] = field(
        default_factory=lambda: {
            "num_enc_layers": 2,
            "hidden_size": 512,
            "max_freq": 100.0,
            "num_fourier_feats": 20,
        }
    )
    action_space_cfg: dict[str, Any] = field(default_factory=dict)  # ActionSpaceSettings
    traj_tokens_cfg: dict[str, Any] = field(default_factory=dict)  # TrajectoryTokenSettings
    frames_cfg: dict[str, Any] = field(default_factory=dict)  # FrameSettings
    diffusion_cfg: dict[str, Any] = field(default_factory=lambda: {"num_inference_steps": 10})
    text_vocab_size: int = 0  # ids below are plain text; from there on chat marks, trajectory bins, special strings
    vocab_size: int = 0
    traj_token_start_idx: int = 0  # id of <i0>
    future_bins: int = 3000
    history_bins: int = 1000
    tokens_per_history_traj: int = 48
    tokens_per_future_traj: int = 128
    special_token_ids: dict[str, int] = field(default_factory=dict)  # 'traj_future_start' -> id
    text_waypoints: int = 8  # way-points of a trajectory written as text, up to 6.4 s; divides 64
    text_decimals: int = 1  # of a metre, in such way-points
    prompt_layout: str = "causaldrive"  # who says what where (see `layouts`); released weights: 'r1', '1.5'
    text_rule: str = "plain"  # before the trajectory: plain text and four marks; 'released': all but trajectory bins
    mask_padding: bool = True  # the decoder does not see padding; released R1 does
    persistent_buffers: bool = False  # statistics and frequencies lie in the weights file, as in released R1
    released_config: dict[str, Any] = field(default_factory=dict)  # config.json of the release it was converted from
    system_prompt: str = "You drive."
    reason_instruction: str = "Reason, then drive."
    drive_instruction: str = "Drive."

    def action_space(self) -> ActionSpaceSettings:
        return _settings(ActionSpaceSettings, self.action_space_cfg)

    def traj_tokens(self) -> TrajectoryTokenSettings:
        return _settings(TrajectoryTokenSettings, self.traj_tokens_cfg)

    def frames(self) -> FrameSettings:
        return _settings(FrameSettings, self.frames_cfg)

    @property
    def is_qwen2_5(self) -> bool:
        """Whether the backbone is a Qwen2.5-VL (Cosmos-Reason1); otherwise it is a Qwen3-VL."""
        return self.vlm_config.get("model_type") == Qwen2_5_VLConfig.model_type

    def vlm(self) -> Qwen3VLConfig | Qwen2_5_VLConfig:
        """The backbone's configuration as an object of its own."""
        return Qwen2_5_VLConfig(**self.vlm_config) if self.is_qwen2_5 else Qwen3VLConfig(**self.vlm_config)

    def expert(self) -> Qwen3VLTextConfig:
        """The backbone's text configuration with `expert_cfg` written over it: equal depth, KV heads and head size.

        A Qwen3-VL text model beside a Qwen2.5-VL backbone too: way-points have one position on all three axes, where
        both families rotate alike.
        """
        text = dict(self.vlm_config["text_config"]) | dict(self.expert_cfg)
        if self.is_qwen2_5:
            text = _as_qwen3(self.vlm_config["text_config"], self.expert_cfg)
        text["vocab_size"] = 1  # its embedding is deleted: the expert reads way-points, not tokens
        text["pad_token_id"] = None
        return Qwen3VLTextConfig(**text)

    def id_of(self, name: str) -> int:
        """Token id of `<|name|>`."""
        return self.special_token_ids[name]

    @property
    def flow_steps(self) -> int:
        return int(self.diffusion_cfg["num_inference_steps"])


def _as_qwen3(text: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """What a Qwen3-VL text configuration needs of a Qwen2.5-VL one."""
    shared = ("num_hidden_layers", "num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "rope_parameters")
    head_dim = text["hidden_size"] // text["num_attention_heads"]
    return {name: text[name] for name in shared if name in text} | {"head_dim": head_dim} | dict(changes)


def _settings(kind: type, values: dict[str, Any]) -> Any:
    """A settings dataclass from JSON values; lists become tuples."""
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
