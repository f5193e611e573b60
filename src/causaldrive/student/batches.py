"""What the processor hands to the model. B rows, T columns; every integer tensor is int64.

Knows nothing of how it was made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor

IGNORED = -100  # label of a token that is not learnt


@dataclass(frozen=True)
class PromptBatch:
    """Prompts, padded on `padding_side`; M-RoPE positions included so that training and sampling share them."""

    input_ids: Tensor  # (B, T)
    attention_mask: Tensor  # (B, T) 1 on real tokens
    mm_token_type_ids: Tensor  # (B, T) 1 on image tokens
    pixel_values: Tensor | None  # (patches, 3*2*16*16) float32, all images of the batch in order; None without images
    image_grid_thw: Tensor | None  # (images, 3)
    position_ids: Tensor  # (3, B, T) M-RoPE; 0 on padding
    padding_side: str  # 'left' for sampling, 'right' for training
    counters: dict[str, int] = field(default_factory=dict)  # e.g. missing_cameras

    def to(self, device: torch.device | str) -> Self:
        """The same batch on `device`."""
        moved = {f.name: value.to(device) for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}
        return replace(self, **moved)

    @property
    def visible(self) -> Tensor | None:
        """What attention is told: (B, T) real tokens, or (B, 1, T, T) pairs; None where causal attention is enough:
        no real token sees padding that comes after it."""
        return self.attention_mask if self.padding_side == "left" else None

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class TrainingBatch(PromptBatch):
    """Prompt, trace, trajectory tokens, and the normalised actions the decoder must reach. `counters`: clipped rows."""

    labels_text: Tensor = field(kw_only=True)  # (B, T) trace, <|cot_end|>, <|traj_future_start|>; else -100
    labels_traj: Tensor = field(kw_only=True)  # (B, T) 128 bins and <|traj_future_end|>; else -100
    action: Tensor = field(kw_only=True)  # (B, 64, 2) normalised, float32
    traj_start: Tensor = field(kw_only=True)  # (B,) column of <|traj_future_start|>


@dataclass(frozen=True)
class CompletionBatch(PromptBatch):
    """Prompt and the tokens that a policy wrote after it, for the decoder to read."""

    traj_start: Tensor = field(kw_only=True)  # (B,) column of the first <|traj_future_start|>, -1 where absent


@dataclass(frozen=True)
class AnswerBatch(PromptBatch):
    """B prompts with the A answers to them in the same rows, for recomputing the log-probabilities of what a policy
    wrote: at most W tokens an answer."""

    sees: Tensor = field(kw_only=True)  # (B, T, T) bool whether a token (row) sees another (column)
    answered_in: Tensor = field(kw_only=True)  # (A,) row of `input_ids` that holds the answer
    completion_mask: Tensor = field(kw_only=True)  # (A, W) bool on written tokens
    written: Tensor = field(kw_only=True)  # (A, W) their ids
    source: Tensor = field(kw_only=True)  # (A, W) column whose output they are drawn from
    is_trajectory: Tensor = field(kw_only=True)  # (A, W) bool: drawn from future bins, not from text

    @property
    def visible(self) -> Tensor | None:
        return self.sees[:, None]
