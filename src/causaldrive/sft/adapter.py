"""LoRA through peft: low-rank additions to the language model's projections, and rows for the new tokens.

    W' = W + (alpha / r) B A,  alpha = 2 r,  B = 0 at first

Everything else of the backbone is frozen; the trajectory decoder is learnt as without LoRA. Where embeddings and head
share one table, that table is learnt whole: rows that are put beside it would reach only one of the two. Changes a
student in place; saves an adapter directory that peft reads, and merges it so that the checkpoint loads as any other.
Knows nothing of training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from causaldrive.student.model import CausalDriveModel

PROJECTIONS = r"vlm\.model\.language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
_TABLES = ("embed_tokens", "lm_head")


class Adapter:
    """LoRA of rank `rank` in `model`, which keeps its class and its doors; A drawn from `seed`."""

    def __init__(self, model: CausalDriveModel, rank: int, seed: int):
        from peft import LoraConfig, get_peft_model  # slow to import, and only here is it needed

        rows = list(range(model.config.text_vocab_size, model.config.vocab_size))
        self.tied = bool(model.config.vlm().tie_word_embeddings)
        names: tuple[str, ...] = () if self.tied else _TABLES
        tables: Any = dict.fromkeys(names, rows) or None
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=PROJECTIONS, trainable_token_indices=tables)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._wrapped: Any = get_peft_model(model, config)

    def learns(self, name: str) -> bool:
        """Whether a parameter of the backbone is learnt."""
        return is_adapted(name) or (self.tied and name.endswith("embed_tokens.weight"))

    def save(self, directory: Path) -> None:
        """`adapter_config.json` and `adapter_model.safetensors`, for `peft.PeftModel.from_pretrained`."""
        self._wrapped.save_pretrained(directory)

    def merge(self) -> None:
        """Adds the adapter into the weights it stands beside; afterwards the model is as it was built."""
        self._wrapped.merge_and_unload()


def keep_adapter(adapter: Adapter | None, directory: Path) -> None:
    """Where there is one: saves it into `directory/adapter`, then merges it."""
    if adapter is not None:
        adapter.save(directory / "adapter")
        adapter.merge()


def is_adapted(name: str) -> bool:
    """Whether a parameter of this name is an adapter's."""
    return ".lora_" in name or "trainable_tokens_delta" in name
