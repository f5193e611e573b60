"""Released Alpamayo R1 and 1.5 in our words: their configuration as a StudentConfig and back, their published numbers.

The two are one network of 11.08 B parameters; they differ in names of unused tokens, in the prompt, in whether the
decoder sees padding, and in whether seven buffers lie in the weights file (R1: 416 tensors beside the backbone; 1.5:
409). Knows nothing of weights or files.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.student.config import FrameSettings, StudentConfig
from causaldrive.student.layouts import RELEASED_DRIVE, RELEASED_REASON, RELEASED_SYSTEM
from causaldrive.student.tokens import CHAT_NAMES, SPECIAL_NAMES, special_names

KINDS = {"r1": ("alpamayo_r1", "AlpamayoR1"), "1.5": ("alpamayo1_5", "Alpamayo1_5")}  # layout -> model_type, class
TEXT_VOCAB, BASE_VOCAB = 151_643, 151_669  # of Qwen3-VL's tokenizer: plain text; with its marks
FUTURE_BINS, HISTORY_BINS = 3000, 1000
CHAT_IDS: dict[str, int] = dict(
    zip(CHAT_NAMES, (151643, 151644, 151645, 151652, 151653, 151654, 151655, 151656), strict=True)
)
CAMERAS = (
    "camera_cross_left_120fov", "camera_front_wide_120fov", "camera_cross_right_120fov", "camera_front_tele_30fov",
)  # fmt: skip
BUFFERS = (
    "action_in_proj.sinus.0.freqs", "action_in_proj.sinus.1.freqs", "action_in_proj.timestep_fourier_encoder.freqs",
    "action_space.accel_mean", "action_space.accel_std", "action_space.curvature_mean", "action_space.curvature_std",
)  # fmt: skip

ACTION_SPACE = {
    "accel_mean": 0.02902694707164455, "accel_std": 0.6810426736454882,
    "curvature_mean": 0.0002692167976330542, "curvature_std": 0.026148280660833106,
    "accel_bounds": [-9.8, 9.8], "curvature_bounds": [-0.33, 0.33], "dt": 0.1, "n_waypoints": 64,
    "theta_lambda": 1e-6, "theta_ridge": 1e-8, "v_lambda": 1e-6, "v_ridge": 1e-4,
    "a_lambda": 1e-4, "a_ridge": 1e-4, "kappa_lambda": 1e-4, "kappa_ridge": 1e-4,
}  # fmt: skip
_ACTION_FIELDS = {
    "accel_mean": "accel_mean_mps2", "accel_std": "accel_std_mps2",
    "curvature_mean": "curvature_mean_1pm", "curvature_std": "curvature_std_1pm",
    "accel_bounds": "accel_bounds_mps2", "curvature_bounds": "curvature_bounds_1pm", "dt": "dt_s",
    "n_waypoints": "n_waypoints", "theta_lambda": "heading_lambda", "theta_ridge": "heading_ridge",
    "v_lambda": "speed_lambda", "v_ridge": "speed_ridge", "a_lambda": "accel_lambda", "a_ridge": "accel_ridge",
    "kappa_lambda": "curvature_lambda", "kappa_ridge": "curvature_ridge",
}  # fmt: skip
EXPERT = {"hidden_size": 2048, "intermediate_size": 8256, "num_attention_heads": 16, "head_dim": 128}
ACTION_IN = {"hidden_size": 512, "max_freq": 100.0, "num_enc_layers": 2, "num_fourier_feats": 20}
_OF_PACKAGE = {"r1": "alpamayo_r1", "1.5": "alpamayo1_5"}


def qwen3_vl(size: str) -> dict[str, Any]:
    """The published configuration of Qwen3-VL and Cosmos-Reason2, '2b', '4b' or '8b', as a Qwen3VLConfig takes it."""
    hidden, intermediate, layers, heads, tied = _TEXT_SIZES[size]
    vision = _VISION_SIZES["8b" if size == "8b" else "2b"] | {"out_hidden_size": hidden}
    text = {
        "vocab_size": 151_936, "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 262_144,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5_000_000.0, "mrope_interleaved": True,
                            "mrope_section": [24, 20, 20]},
    }  # fmt: skip
    marks = {"image_token_id": 151_655, "video_token_id": 151_656, "vision_start_token_id": 151_652,
             "vision_end_token_id": 151_653}  # fmt: skip
    return {"text_config": text, "vision_config": vision, "tie_word_embeddings": tied, **marks}


_TEXT_SIZES = {
    "2b": (2048, 6144, 28, 16, True), "4b": (2560, 9728, 36, 32, True), "8b": (4096, 12_288, 36, 32, False),
}  # fmt: skip
_VISION = {"patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 2304}
_VISION_SIZES = {
    "2b": _VISION | {"depth": 24, "hidden_size": 1024, "num_heads": 16, "intermediate_size": 4096,
                     "deepstack_visual_indexes": [5, 11, 17]},
    "8b": _VISION | {"depth": 27, "hidden_size": 1152, "num_heads": 16, "intermediate_size": 4304,
                     "deepstack_visual_indexes": [8, 16, 24]},
}  # fmt: skip


def expert_beside(text: Mapping[str, Any]) -> dict[str, int]:
    """`expert_cfg` beside a backbone: half its width and heads, four times as wide inside; the released one for 8 B."""
    heads = max(1, int(text["num_attention_heads"]) // 2)
    kv_heads = int(text.get("num_key_value_heads") or text["num_attention_heads"])
    heads = max(kv_heads, heads // kv_heads * kv_heads)
    hidden = int(text["hidden_size"]) // 2
    return {
        "hidden_size": hidden,
        "intermediate_size": round(hidden * EXPERT["intermediate_size"] / EXPERT["hidden_size"]),
        "num_attention_heads": heads,
    }


def released_ids(layout: str, base: int = BASE_VOCAB, chat: Mapping[str, int] = CHAT_IDS) -> dict[str, int]:
    """Name -> id of chat marks and special strings, from their order alone: 28 new ones after 4000 bins."""
    names = [name for name in special_names(layout) if name != "image_pad"]
    first = base + FUTURE_BINS + HISTORY_BINS
    return dict(chat) | {name: first + index for index, name in enumerate(names)}


def released_config_json(layout: str, vlm_name_or_path: str = "nvidia/Cosmos-Reason2-8B") -> dict[str, Any]:
    """The `config.json` of a release, as far as it says anything about the network."""
    model_type, architecture = KINDS[layout]
    package = _OF_PACKAGE[layout]
    values: dict[str, Any] = {
        "architectures": [architecture], "model_type": model_type, "vlm_name_or_path": vlm_name_or_path,
        "vlm_backend": "qwenvl3", "vocab_size": BASE_VOCAB + 4000 + len(SPECIAL_NAMES) - 1, "traj_vocab_size": 4000,
        "traj_token_start_idx": BASE_VOCAB, "tokens_per_history_traj": 48, "tokens_per_future_traj": 128,
        "min_pixels": 163_840, "max_pixels": 196_608, "add_special_tokens": True, "model_dtype": "bfloat16",
        "keep_same_dtype": True, "expert_non_causal_attention": True, "expert_cfg": dict(EXPERT),
        "action_in_proj_cfg": {"_target_": f"{package}.models.action_in_proj.PerWaypointActionInProjV2", **ACTION_IN},
        "action_out_proj_cfg": {"_target_": "torch.nn.Linear"},
        "diffusion_cfg": {"_target_": f"{package}.diffusion.flow_matching.FlowMatching", "int_method": "euler",
                          "num_inference_steps": 10},
        "action_space_cfg": {"_target_": f"{package}.action_space.UnicycleAccelCurvatureActionSpace", **ACTION_SPACE},
        "traj_tokenizer_cfg": {"_target_": f"{package}.action_space.DiscreteTrajectoryTokenizer",
                               "dims_min": [-10.0, -10.0], "dims_max": [10.0, 10.0], "num_bins": FUTURE_BINS},
        "hist_traj_tokenizer_cfg": {"_target_": f"{package}.models.delta_tokenizer.DeltaTrajectoryTokenizer",
                                    "num_bins": HISTORY_BINS, "ego_xyz_min": [-4, -4, -10],
                                    "ego_xyz_max": [4, 4, 10], "predict_yaw": False},
    }  # fmt: skip
    if layout == "1.5":
        values |= {"include_camera_ids": True, "include_frame_nums": True, "padding_side": "left"}
    return values


def layout_of(config: Mapping[str, Any], where: str) -> str:
    """'r1' or '1.5' of a release's config.json. Raises UserError for another model type."""
    for layout, (model_type, _) in KINDS.items():
        if config.get("model_type") == model_type:
            return layout
    known = ", ".join(model_type for model_type, _ in KINDS.values())
    raise UserError(
        f"{where}: model_type is {config.get('model_type')!r}, expected one of {known}; pass a released directory."
    )


def student_config(
    found: Mapping[str, Any], vlm_config: Mapping[str, Any], ids: Mapping[str, int], text_vocab_size: int
) -> StudentConfig:
    """Our configuration of a release: `found` is its config.json, `ids` those of the backbone's extended tokenizer.

    Fields that `found` lacks have the published values. Raises UserError where the tokenizer gives other ids.
    """
    layout = layout_of(found, "config.json")
    full = released_config_json(layout) | dict(found)
    _check_ids(full, ids)
    vlm = copy.deepcopy(dict(vlm_config))
    vlm["text_config"] = dict(vlm["text_config"]) | {"vocab_size": full["vocab_size"]}
    future, history = full["traj_tokenizer_cfg"], full["hist_traj_tokenizer_cfg"]
    rounding = "bfloat16" if full["model_dtype"] == "bfloat16" else "float32"
    projection = {name: full["action_in_proj_cfg"].get(name, value) for name, value in ACTION_IN.items()}
    return StudentConfig(
        preset="alpamayo", vlm_config=vlm, expert_cfg=_plain(full["expert_cfg"]),
        action_in_proj_cfg=projection | {"freqs_dtype": rounding},
        action_space_cfg=_action_space(full["action_space_cfg"], rounding),
        traj_tokens_cfg={
            "future_dims_min": future["dims_min"], "future_dims_max": future["dims_max"],
            "history_min_m": history["ego_xyz_min"], "history_max_m": history["ego_xyz_max"],
            "pad_origin_at_beginning": True,
        },
        frames_cfg=_frames(full, vlm), diffusion_cfg=dict(full["diffusion_cfg"]), text_vocab_size=text_vocab_size,
        vocab_size=full["vocab_size"], traj_token_start_idx=full["traj_token_start_idx"],
        future_bins=future["num_bins"], history_bins=history["num_bins"],
        tokens_per_history_traj=full["tokens_per_history_traj"], tokens_per_future_traj=full["tokens_per_future_traj"],
        special_token_ids=dict(ids), prompt_layout=layout, text_rule="released", mask_padding=layout != "r1",
        persistent_buffers=layout == "r1", released_config=dict(found), system_prompt=RELEASED_SYSTEM,
        reason_instruction=RELEASED_REASON, drive_instruction=RELEASED_DRIVE,
    )  # fmt: skip


def released_json_of(config: StudentConfig, layout: str) -> dict[str, Any]:
    """config.json of a release for a student that came from one; `layout` may be the other kind.

    Raises UserError for a student of our own layout: no release can read its prompt and tokens.
    """
    if layout not in KINDS:
        raise unknown_name("released kind", layout, KINDS)
    if not config.released_config:
        raise UserError(
            f"a student of preset {config.preset!r} has our own prompt and tokens, which no released code reads; "
            "only students converted from a release can go back."
        )
    found = copy.deepcopy(config.released_config)
    if layout == layout_of(found, "released_config"):
        return found
    standard = released_config_json(layout)
    for name in ("include_camera_ids", "include_frame_nums", "padding_side"):
        found.pop(name, None)
    own = {"architectures", "model_type", "include_camera_ids", "include_frame_nums", "padding_side"}
    found |= {name: value for name, value in standard.items() if name in own}
    old, new = (_OF_PACKAGE[kind] for kind in (config.prompt_layout, layout))
    for value in found.values():
        if isinstance(value, dict) and str(value.get("_target_", "")).startswith(f"{old}."):
            value["_target_"] = new + value["_target_"].removeprefix(old)
    return found


def _check_ids(full: Mapping[str, Any], ids: Mapping[str, int]) -> None:
    bins = full["traj_vocab_size"]
    expected = {"first special string": full["traj_token_start_idx"] + bins, "last": full["vocab_size"] - 1}
    found = {"first special string": ids["prompt_start"], "last": ids["answer_end"]}
    if found != expected:
        raise UserError(
            f"the backbone's tokenizer puts the special strings at {found['first special string']} to {found['last']}, "
            f"config.json at {expected['first special string']} to {expected['last']}; use the tokenizer of the "
            "backbone that config.json names in vlm_name_or_path."
        )


def _plain(expert_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Without the entries that say in what precision the network is built."""
    return {name: value for name, value in expert_cfg.items() if name not in ("dtype", "torch_dtype", "_target_")}


def _action_space(found: Mapping[str, Any], rounding: str) -> dict[str, Any]:
    full = ACTION_SPACE | dict(found)
    return {ours: full[theirs] for theirs, ours in _ACTION_FIELDS.items()} | {"stats_dtype": rounding}


def _frames(full: Mapping[str, Any], vlm: Mapping[str, Any]) -> dict[str, Any]:
    """Four cameras, four moments, aspect kept; the image processor is the backbone's."""
    own = FrameSettings()
    return {
        "camera_names": list(CAMERAS), "frame_offsets_s": [-0.3, -0.2, -0.1, 0.0], "image_height_px": None,
        "image_width_px": None, "min_pixels": full["min_pixels"], "max_pixels": full["max_pixels"],
        "patch_size": vlm["vision_config"].get("patch_size", own.patch_size),
        "merge_size": vlm["vision_config"].get("spatial_merge_size", own.merge_size), "resampling": "bicubic",
    }  # fmt: skip
