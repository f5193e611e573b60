"""Optimizer, learning-rate schedule and moving average of weights.

lr(s) = peak * s / warmup, then peak * (f + (1 - f) (1 + cos(pi u)) / 2), u from 0 to 1 over what is left. Knows nothing
of data or losses.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from causaldrive.sft.adapter import Adapter, is_adapted
from causaldrive.sft.config import SftConfig
from causaldrive.sft.muon import Muon
from causaldrive.sft.shards import local


class Schedule(Protocol):
    """What an optimizer is told."""

    @property
    def steps(self) -> int: ...
    @property
    def warmup_steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def final_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...


def learning_rate(config: Schedule, step: int) -> float:
    """Rate of step `step` (from 0); positive from the first step on."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / (config.warmup_steps + 1)
    left = max(config.steps - config.warmup_steps, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min((step - config.warmup_steps) / left, 1)))
    return config.learning_rate * (config.final_rate + (1 - config.final_rate) * cosine)


def choose_part(model: nn.Module, part: str, adapter: Adapter | None = None, freeze_eyes: bool = False) -> None:
    """Freeze what a run leaves alone; `model.vlm` is the backbone, its `visual` the eyes, all else the decoder.

    Of a backbone with an adapter only what that learns is learnt.
    """
    for name, parameter in model.named_parameters():
        in_backbone, in_eyes = name.startswith("vlm."), name.startswith("vlm.model.visual.")
        chosen = (part == "joint" or in_backbone == (part == "backbone")) and not (in_eyes and freeze_eyes)
        parameter.requires_grad_(chosen and (adapter is None or not in_backbone or adapter.learns(name)))


class MuonAndAdamW:
    """Muon for hidden matrices, AdamW for the rest, behind the few doors of an optimizer that a trainer uses.

    Muon's rate is scaled to AdamW's update size, so that one schedule serves both. In a run of a few hundred steps it
    is well ahead of AdamW.
    """

    def __init__(self, hidden: list[dict[str, Any]], others: torch.optim.AdamW, config: Schedule):
        self._others = others
        self._muon = Muon(hidden, config.learning_rate, config.weight_decay)
        self._others.state = self._muon.state  # no parameter is in both: one table is saved and restored
        self.state = self._muon.state
        self.param_groups = [*self._muon.param_groups, *self._others.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        self._muon.zero_grad(set_to_none)
        self._others.zero_grad(set_to_none)

    def step(self) -> None:
        self._muon.step()
        self._others.step()


def hidden_groups(hidden: list[nn.Parameter], model: nn.Module) -> list[dict[str, Any]]:
    """Muon's groups of hidden matrices: those that read several inputs side by side in as many blocks.

    The first matrix of each merger of a vision encoder in `model` reads the merge_size^2 patches of an image token.
    """
    blocks: dict[int, int] = {}
    for encoder in (m for m in model.modules() if hasattr(m, "spatial_merge_unit")):
        for merger in (m for m in encoder.modules() if type(m).__name__.endswith("PatchMerger")):
            first = next(m for m in merger.modules() if isinstance(m, nn.Linear))
            blocks[id(first.weight)] = int(cast(Any, encoder).spatial_merge_unit)
    counts = sorted({blocks.get(id(p), 1) for p in hidden})
    return [{"params": [p for p in hidden if blocks.get(id(p), 1) == n], "blocks": n} for n in counts]


def make_optimizer(model: nn.Module, config: SftConfig) -> torch.optim.AdamW | MuonAndAdamW:
    """The optimizer over what requires a gradient; weight decay only on matrices that are not embeddings.

    An adapter's factors are no hidden matrices: AdamW learns them.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    embeddings |= {id(p) for name, p in model.named_parameters() if "trainable_tokens_delta" in name}
    rows = embeddings | {id(p) for name, p in model.named_parameters() if "lm_head" in name or is_adapted(name)}
    learnt = [p for p in model.parameters() if p.requires_grad]
    hidden = [p for p in learnt if p.ndim == 2 and id(p) not in rows] if config.optimizer == "muon" else []
    taken = {id(p) for p in hidden}
    rest = [p for p in learnt if id(p) not in taken]
    decayed = [p for p in rest if p.ndim >= 2 and id(p) not in embeddings]
    others = [p for p in rest if p.ndim < 2 or id(p) in embeddings]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    adam = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
    return MuonAndAdamW(hidden_groups(hidden, model), adam, config) if hidden else adam


class MovingAverage:
    """w_ema <- d w_ema + (1 - d) w after every step, d rising to `decay` over the first steps."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.weights = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        keep = min(self.decay, (1 + step) / (10 + step))  # a short run is not held back by its start
        for name, parameter in model.named_parameters():
            if name in self.weights:
                local(self.weights[name]).lerp_(local(parameter), 1 - keep)

    @contextlib.contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model with averaged weights inside the block."""
        own = {n: p.detach().clone() for n, p in model.named_parameters() if n in self.weights}
        copy_into(model, self.weights)
        try:
            yield
        finally:
            copy_into(model, own)


@torch.no_grad()
def copy_into(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Overwrite the named parameters."""
    parameters = dict(model.named_parameters())
    for name, value in weights.items():
        parameters[name].copy_(value)
