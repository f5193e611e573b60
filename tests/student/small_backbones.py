"""Small checkpoints on disk in the layout of Qwen3-VL and Qwen2.5-VL, with a small real tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from student_drives import TRACES
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from causaldrive.student.text import train_tokenizer

UNUSED_ROWS = 20  # Qwen's tables have rows that no token uses
_TEXT = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "max_position_embeddings": 8192}  # fmt: skip
_ROPE = {"rope_type": "default", "rope_theta": 5_000_000.0}


def small_tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([*TRACES, "You are a driving assistant", "front camera: no image"] * 3, 320)


def qwen3_config(tied: bool = False) -> dict[str, Any]:
    rope = _ROPE | {"mrope_interleaved": True, "mrope_section": [4, 2, 2]}
    text = _TEXT | {"head_dim": 16, "rope_parameters": rope}
    vision = {"hidden_size": 32, "intermediate_size": 64, "depth": 2, "num_heads": 2, "out_hidden_size": 64,
              "num_position_embeddings": 576, "deepstack_visual_indexes": [0]}  # fmt: skip
    return {"text_config": text, "vision_config": vision, "tie_word_embeddings": tied}


def qwen2_5_config() -> dict[str, Any]:
    text = _TEXT | {"rope_parameters": _ROPE | {"mrope_section": [4, 2, 2]}}
    vision = {"hidden_size": 32, "intermediate_size": 64, "depth": 2, "num_heads": 2, "out_hidden_size": 64,
              "fullatt_block_indexes": [1], "window_size": 56}  # fmt: skip
    return {"text_config": text, "vision_config": vision, "tie_word_embeddings": False}


def write_backbone(directory: Path, family: str, tied: bool = False, seed: int = 0) -> Path:
    """A checkpoint of `family` in `directory`, weights and tokenizer."""
    tokenizer = small_tokenizer()
    values = qwen3_config(tied) if family == "qwen3_vl" else qwen2_5_config()
    values["text_config"]["vocab_size"] = len(tokenizer) + UNUSED_ROWS
    for name, mark in (("image_token_id", "image_pad"), ("video_token_id", "video_pad"),
                       ("vision_start_token_id", "vision_start"), ("vision_end_token_id", "vision_end")):  # fmt: skip
        values[name] = tokenizer.convert_tokens_to_ids(f"<|{mark}|>")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family == "qwen3_vl":
            model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(**values))
        else:
            model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**values))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
