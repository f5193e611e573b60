"""Log-probabilities when only speech is trained: everything below the last layer is computed once and kept.

Vision and all layers but the last do not change while speech is learnt, so their output for a given text can be kept
over all passes of a round; a pass then costs the last layer and the language head. Gives what
`CausalDriveModel.completion_logprobs` gives. Knows nothing of objectives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from causaldrive.student.batches import CompletionBatch
from causaldrive.student.model import CausalDriveModel, permitted_logprobs


@dataclass(frozen=True)
class Below:
    """What the last layer is called with."""

    hidden: Tensor  # (B, T, hidden)
    arguments: dict[str, Any]  # mask and rotary embeddings


@torch.no_grad()
def below_last_layer(model: CausalDriveModel, batch: CompletionBatch) -> Below:
    """Run the backbone up to its last layer."""
    found: list[Below] = []

    def keep(_module: Any, arguments: tuple, named: dict[str, Any]) -> None:
        found.append(Below(arguments[0], {**named, "past_key_values": None, "use_cache": False}))

    handle = model.vlm.model.language_model.layers[-1].register_forward_pre_hook(keep, with_kwargs=True)
    try:
        model.encode(batch)
    finally:
        handle.remove()
    return found[0]


def speech_logprobs(model: CausalDriveModel, batch: CompletionBatch, below: Below, temperature: float) -> Tensor:
    """(B, T) log-probabilities of the written tokens, 0 elsewhere, under last layer, norm and head as they are now."""
    language = model.vlm.model.language_model
    hidden = language.norm(language.layers[-1](below.hidden, **below.arguments))
    rows, columns = batch.completion_mask[:, 1:].nonzero(as_tuple=True)
    start = batch.traj_start[rows]
    is_trajectory = (start >= 0) & (columns >= start)
    text, future = model.get_buffer("text_allowed"), model.get_buffer("future_allowed")
    permitted = torch.where(is_trajectory[:, None], future, text)
    logprobs = permitted_logprobs(model.vlm.lm_head(hidden[rows, columns]), permitted, temperature)
    chosen = logprobs.gather(1, batch.input_ids[rows, columns + 1][:, None])[:, 0]
    return torch.zeros(batch.input_ids.shape, device=chosen.device).index_put((rows, columns + 1), chosen)
