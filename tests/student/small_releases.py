"""A released Alpamayo directory at small size: the published names and layout, scaled widths, random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from small_backbones import small_tokenizer, write_backbone
from torch import Tensor

from causaldrive.student.convert import buffers_of
from causaldrive.student.model import CausalDriveModel
from causaldrive.student.released import released_config_json, released_ids, student_config
from causaldrive.student.tokens import CHAT_NAMES

SHARDS = 3


def write_release(directory: Path, layout: str, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """Shards, index and config.json; the backbone that config.json names lies beside it. Returns the tensors."""
    backbone = write_backbone(directory.with_name("backbone"), "qwen3_vl")
    tokenizer = small_tokenizer()
    base = len(tokenizer)
    found = released_config_json(layout, str(backbone)) | {
        "vocab_size": base + 4028, "traj_token_start_idx": base, "min_pixels": 4096, "max_pixels": 8192,
        "expert_cfg": {"hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 4, "head_dim": 16},
    }  # fmt: skip
    found["action_in_proj_cfg"]["hidden_size"] = 40
    chat = {name: int(tokenizer.convert_tokens_to_ids(f"<|{name}|>")) for name in CHAT_NAMES}
    vlm = json.loads((backbone / "config.json").read_text())
    config = student_config(found, vlm, released_ids(layout, base, chat), 300)
    tensors = {name: value.to(dtype) for name, value in lively(config).state_dict().items()}
    tensors |= {name: value for name, value in buffers_of(config).items() if name in tensors}
    write_sharded(directory, tensors, found)
    return tensors


def lively(config: Any) -> CausalDriveModel:
    """Random weights large enough that every input matters; not the decoder's matrices, which multiply rounding errors
    from step to step: its highest features turn once every hundredth."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = CausalDriveModel(config).eval()
        for name, parameter in model.named_parameters():
            scale = 3.0 if parameter.ndim > 1 and name.startswith("vlm.") else 1.0
            scale = 0.03 if "trunk.0" in name else scale
            parameter.mul_(scale).add_(0.05 * torch.randn_like(parameter) * ("norm" in name or "bias" in name))
    return model


def write_sharded(directory: Path, tensors: dict[str, Tensor], config: dict[str, Any], shards: int = SHARDS) -> None:
    directory.mkdir(parents=True)
    names, weight_map = sorted(tensors), {}
    for index in range(shards):
        file = f"model-{index + 1:05d}-of-{shards:05d}.safetensors"
        part = names[index::shards]
        save_file({name: tensors[name].contiguous() for name in part}, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    total = sum(value.numel() * value.element_size() for value in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    (directory / "config.json").write_text(json.dumps(config))
