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

from causaldrive.student.batches import AnswerBatch
from causaldrive.student.model import CausalDriveModel


@dataclass(frozen=True)
class Below:
    """What the last layer is called with."""

    hidden: Tensor  # (B, T, hidden)
    arguments: dict[str, Any]  # mask and rotary embeddings


@torch.no_grad()
def below_last_layer(model: CausalDriveModel, batch: AnswerBatch) -> Below:
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


def speech_logprobs(model: CausalDriveModel, batch: AnswerBatch, below: Below, temperature: float) -> Tensor:
    """(A, W) log-probabilities of the written tokens, 0 elsewhere, under last layer, norm and head as they are now."""
    language = model.vlm.model.language_model
    hidden = language.norm(language.layers[-1](below.hidden, **below.arguments))
    return model.written_logprobs(hidden, batch, temperature)
