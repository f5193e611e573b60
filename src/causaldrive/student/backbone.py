"""Surgery: a Qwen3-VL or Qwen2.5-VL checkpoint becomes a student.

Its vocabulary grows by trajectory bins and special strings, a new decoder of the same depth, KV heads and head size
is put beside it. Reads a directory in the Hugging Face layout, or a name on its hub; Cosmos-Reason1 and 2 are such
checkpoints. Knows nothing of training.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_json
from causaldrive.student.config import FrameSettings, StudentConfig, TrajectoryTokenSettings
from causaldrive.student.layouts import RELEASED_DRIVE, RELEASED_REASON, RELEASED_SYSTEM
from causaldrive.student.model import CausalDriveModel, around, ordinal_rows
from causaldrive.student.presets import ActionStatistics, action_space_of
from causaldrive.student.processor import StudentProcessor
from causaldrive.student.released import (
    FUTURE_BINS,
    HISTORY_BINS,
    KINDS,
    expert_beside,
    released_config_json,
    student_config,
)
from causaldrive.student.text import extend_tokenizer

FAMILIES = {"qwen3_vl": Qwen3VLForConditionalGeneration, "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration}
SMALL_NOISE = 0.1  # standard deviation of new embeddings about the mean of the old ones, in those of the old ones
_CLIP = {"image_mean": (0.48145466, 0.4578275, 0.40821073), "image_std": (0.26862954, 0.26130258, 0.27577711)}
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.jinja")


def find_backbone(path_or_id: str) -> Path:
    """The directory of a backbone; a name on the hub is fetched into the usual cache.

    Raises UserError where neither is there.
    """
    path = Path(path_or_id)
    if path.is_dir():
        return path
    try:
        return Path(snapshot_download(path_or_id, allow_patterns=list(_WANTED)))
    except Exception as error:  # the hub client raises a dozen kinds: offline, gated, no such name, malformed name
        raise UserError(
            f"backbone {path_or_id!r} is no directory here and cannot be fetched from the hub "
            f"({type(error).__name__}); pass the path of a downloaded Qwen-VL checkpoint, or go online first."
        ) from error


def backbone_config(directory: Path) -> dict[str, Any]:
    """`config.json` of a backbone. Raises UserError for a family that the student cannot be built on."""
    found = read_json(directory / "config.json")
    family = found.get("model_type") if isinstance(found, dict) else None
    if family not in FAMILIES:
        hint = "; a released model is read by `causaldrive student convert`" if family in _released_types() else ""
        raise UserError(
            f"{directory / 'config.json'}: model_type is {family!r}, expected one of {', '.join(FAMILIES)}{hint}."
        )
    parsed = FAMILIES[family].config_class.from_dict(found).to_dict()
    return cast(dict[str, Any], json.loads(json.dumps(parsed, default=str)))


def _released_types() -> set[str]:
    return {model_type for model_type, _ in KINDS.values()}


def backbone_tokenizer(directory: Path) -> PreTrainedTokenizerFast:
    """Raises UserError where the directory holds no tokenizer."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{directory} holds no tokenizer that can be read ({str(error).splitlines()[0][:120]}); copy "
            "tokenizer.json and tokenizer_config.json of the backbone into it."
        ) from error
    return tokenizer


def student_on(
    directory: Path, preset: str, statistics: ActionStatistics, seed: int
) -> tuple[CausalDriveModel, StudentProcessor]:
    """A student on the backbone in `directory`, in the precision of its weights, new parts drawn from `seed`.

    Preset 'alpamayo' takes prompt, tokens and action space of Alpamayo 1.5; the others our own. Raises UserError for a
    directory that is no backbone, or whose tokenizer lacks Qwen's marks.
    """
    vlm_config, tokenizer = backbone_config(directory), backbone_tokenizer(directory)
    make = _alpamayo_config if preset == "alpamayo" else _own_config
    config = make(preset, vlm_config, tokenizer, statistics)
    config.frames_cfg |= image_settings(directory, vlm_config)
    vlm = load_backbone(directory, vlm_config)
    widen(vlm, config, torch.Generator().manual_seed(seed))
    return around(vlm, config, seed), StudentProcessor(tokenizer, config)


def load_backbone(directory: Path, vlm_config: dict[str, Any]) -> PreTrainedModel:
    """Raises UserError for weights that are missing, truncated or do not fit."""
    kind = FAMILIES[vlm_config["model_type"]]
    try:
        model, info = kind.from_pretrained(directory, dtype="auto", output_loading_info=True)
    except Exception as error:  # SafetensorError, OSError, RuntimeError and others, by what is broken
        raise UserError(
            f"{directory}: the weights cannot be loaded ({(str(error).splitlines() or [''])[0][:160]}); a file is "
            "missing, truncated or damaged, so fetch it again."
        ) from error
    if info["missing_keys"]:
        raise UserError(
            f"{directory}: {len(info['missing_keys'])} tensors are missing, the first is "
            f"{min(info['missing_keys'])}; fetch the weights again."
        )
    return model


@torch.no_grad()
def widen(vlm: PreTrainedModel, config: StudentConfig, generator: torch.Generator) -> None:
    """Grow input and output embeddings to `config.vocab_size` rows.

    New row = mean of the old rows + 0.1 std N(0, 1), std per column; bins of one quantity get a noise in which
    neighbours are alike. Old are the rows that the backbone's own tokenizer uses: the unused ones that pad its table
    become new ones.
    """
    old, new = config.traj_token_start_idx, config.vocab_size
    vlm.resize_token_embeddings(new, mean_resizing=False)
    tables = [cast(nn.Embedding, vlm.get_input_embeddings()).weight]
    head = cast(nn.Linear, vlm.get_output_embeddings()).weight
    if head.data_ptr() != tables[0].data_ptr():
        tables.append(head)
    for table in tables:
        table[old:new] = _new_rows(table[:old].float(), config, generator).to(table.dtype)


def _new_rows(old: Tensor, config: StudentConfig, generator: torch.Generator) -> Tensor:
    width, rest = old.shape[1], config.vocab_size - config.traj_token_start_idx
    noise = torch.randn(rest, width, generator=generator)
    first = 0
    for count in (config.future_bins, config.history_bins):
        noise[first : first + count] = ordinal_rows(count, width, 1.0, generator)
        first += count
    return old.mean(dim=0) + SMALL_NOISE * old.std(dim=0) * noise


def _alpamayo_config(
    preset: str, vlm_config: dict[str, Any], tokenizer: PreTrainedTokenizerFast, statistics: ActionStatistics
) -> StudentConfig:
    """The released configuration of 1.5 on this backbone; its statistics are the release's, not the data's."""
    base, text = len(tokenizer), _text_size(tokenizer)
    ids = extend_tokenizer(tokenizer, FUTURE_BINS, HISTORY_BINS, "1.5")
    found = released_config_json("1.5") | {
        "vocab_size": len(tokenizer), "traj_token_start_idx": base,
        "expert_cfg": expert_beside(vlm_config["text_config"]),
    }  # fmt: skip
    return student_config(found, vlm_config, ids, text)


def _own_config(
    preset: str, vlm_config: dict[str, Any], tokenizer: PreTrainedTokenizerFast, statistics: ActionStatistics
) -> StudentConfig:
    """Our prompt with every camera of the sample, four moments; bins as many as released, ranges from the data."""
    base, text = len(tokenizer), _text_size(tokenizer)
    ids = extend_tokenizer(tokenizer, FUTURE_BINS, HISTORY_BINS)
    tokens = TrajectoryTokenSettings.corrected(statistics.token_min, statistics.token_max)
    vlm_config["text_config"] |= {"vocab_size": len(tokenizer)}
    frames = FrameSettings(
        camera_names=(), frame_offsets_s=(-0.3, -0.2, -0.1, 0.0), image_height_px=None, image_width_px=None,
        resampling="bicubic",
    )  # fmt: skip
    return StudentConfig(
        preset=preset, vlm_config=vlm_config, expert_cfg=expert_beside(vlm_config["text_config"]),
        action_space_cfg=dataclasses.asdict(action_space_of(statistics)),
        traj_tokens_cfg=dataclasses.asdict(tokens), frames_cfg=dataclasses.asdict(frames), text_vocab_size=text,
        vocab_size=len(tokenizer), traj_token_start_idx=base, future_bins=FUTURE_BINS, history_bins=HISTORY_BINS,
        tokens_per_history_traj=tokens.tokens_per_history_traj, special_token_ids=ids,
        system_prompt=RELEASED_SYSTEM, reason_instruction=RELEASED_REASON, drive_instruction=RELEASED_DRIVE,
    )  # fmt: skip


def _text_size(tokenizer: PreTrainedTokenizerFast) -> int:
    return len(tokenizer) - len(tokenizer.get_added_vocab())


def image_settings(directory: Path, vlm_config: dict[str, Any]) -> dict[str, Any]:
    """Patch and merge size from the vision tower; mean and deviation from the image processor's file, or the family."""
    vision = vlm_config["vision_config"]
    found: dict[str, Any] = {"patch_size": vision["patch_size"], "merge_size": vision["spatial_merge_size"]}
    usual = _CLIP if vlm_config["model_type"] == "qwen2_5_vl" else {}
    path = directory / "preprocessor_config.json"
    file = read_json(path) if path.exists() else {}
    return found | usual | {name: tuple(file[name]) for name in ("image_mean", "image_std") if name in file}
