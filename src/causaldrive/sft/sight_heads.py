"""What a student's eyes are asked: heads on every image token, their losses, and gradients made by several threads.

    loss = CE(kind) + 2 L1(measures) + 2 L1(ground) + 2 L1(path), on the image tokens; 0.3 of it on each deepstack level

Every sum over a batch is divided by what is known in the whole of it, so that shares of a batch, each computed by a
thread of its own, add up to the batch. Reads pictures as patches with their targets (see `sights`). Knows nothing of
files, steps or optimizers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from causaldrive.sft.sights import AHEAD_M, KINDS, MEASURES
from causaldrive.student.model import CausalDriveModel

KIND_WEIGHTS = (0.4, 1.0, 5.0, 4.0, 1.0, 4.0, 4.0, 3.0)  # small things and lights fill few cells
DEEPSTACK_WEIGHT = 0.3
HEAD_COUNT = len(AHEAD_M) + 1  # numbers read from the whole picture


@dataclass(frozen=True)
class Batch:
    """Pictures as patches, and their targets (B, N, ...)."""

    pixels: Tensor
    grids: Tensor  # (B, 3)
    kind: Tensor
    measures: Tensor
    ground: Tensor
    path: Tensor

    def shares(self, count: int) -> list[Batch]:
        """The batch cut into at most `count` batches of whole pictures."""
        patches_each = len(self.pixels) // len(self.grids)
        shares = []
        for numbers in np.array_split(np.arange(len(self.grids)), min(count, len(self.grids))):
            first, stop = int(numbers[0]), int(numbers[-1]) + 1
            rows = (getattr(self, field.name)[first:stop] for field in fields(self)[1:])
            shares.append(Batch(self.pixels[first * patches_each : stop * patches_each], *rows))
        return shares


class Heads(nn.Module):
    """Read kinds, measures and ground from each token (B, N, width), and the path by attention over all of them."""

    def __init__(self, width: int, tokens: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.kind, self.measures = nn.Linear(width, len(KINDS)), nn.Linear(width, len(MEASURES))
        self.ground = nn.Linear(width, 1)
        self.place = nn.Parameter(0.05 * torch.randn(tokens, width))
        self.query, self.answer = (nn.Parameter(0.05 * torch.randn(HEAD_COUNT, width)) for _ in range(2))
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = self.norm(tokens)
        placed = x + self.place
        share = torch.einsum("qw,bnw->bqn", self.query, self.key(placed)).softmax(-1)
        path = (torch.einsum("bqn,bnw->bqw", share, self.value(placed)) * self.answer).sum(-1)
        return self.kind(x), self.measures(x), self.ground(x)[..., 0], path


class Eyes(nn.Module):
    """The vision encoder of a student with heads on its image tokens and on each deepstack level."""

    def __init__(self, model: CausalDriveModel, tokens: int, seed: int):
        super().__init__()
        self.visual = model.vlm.model.visual
        vision = cast(Any, model.config.vlm().vision_config)
        levels = 1 + len(getattr(vision, "deepstack_visual_indexes", ()))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.heads = nn.ModuleList(Heads(vision.out_hidden_size, tokens) for _ in range(levels))
        self.register_buffer("kind_weights", torch.tensor(KIND_WEIGHTS), persistent=False)

    def levels(self, batch: Batch) -> list[Tensor]:
        """Image tokens and deepstack levels, (B, N, width) each."""
        out = self.visual(batch.pixels, grid_thw=batch.grids)
        return [level.view(len(batch.grids), batch.kind.shape[1], -1)
                for level in (out.pooler_output, *(getattr(out, "deepstack_features", None) or ()))]  # fmt: skip

    def forward(self, batch: Batch, counts: dict[str, Tensor]) -> dict[str, Tensor]:
        """`loss` over all levels, and the parts of the image tokens' own: sums over the batch by `counts`."""
        found = [self._losses(head, level, batch, counts)
                 for head, level in zip(self.heads, self.levels(batch), strict=True)]  # fmt: skip
        weights = [1.0, *[DEEPSTACK_WEIGHT] * (len(found) - 1)]
        totals = [f["kind"] + 2 * (f["measures"] + f["ground"] + f["path"]) for f in found]
        return {"loss": torch.stack([w * t for w, t in zip(weights, totals, strict=True)]).sum(), **found[0]}

    def _losses(self, head: nn.Module, level: Tensor, batch: Batch, counts: dict[str, Tensor]) -> dict[str, Tensor]:
        kind, *numbers = head(level)
        weights = self.get_buffer("kind_weights")
        off = functional.cross_entropy(kind.flatten(0, 1), batch.kind.flatten(), weight=weights, reduction="sum")
        known = {name: _known_l1(found, wanted)
                 for (name, wanted), found in zip(_numbers(batch).items(), numbers, strict=True)}  # fmt: skip
        return {name: value / counts[name] for name, value in ({"kind": off} | known).items()}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """What the sums of a batch are divided by: weights of its tokens' kinds, and numbers that are known."""
        weights = self.get_buffer("kind_weights")
        known = {name: wanted.isfinite().sum().clamp(min=1) for name, wanted in _numbers(batch).items()}
        return {"kind": weights[batch.kind].sum()} | known


def _numbers(batch: Batch) -> dict[str, Tensor]:
    """Targets that are numbers, NaN where not known, in the order of the heads."""
    measures = torch.where((batch.kind > 0)[..., None], batch.measures, torch.nan)
    return {"measures": measures, "ground": batch.ground, "path": batch.path}


def _known_l1(found: Tensor, wanted: Tensor) -> Tensor:
    """Smooth L1, summed over what is known."""
    known = wanted.isfinite()
    off = functional.smooth_l1_loss(found, torch.where(known, wanted, 0.0), reduction="none")
    return (off * known).sum()


@dataclass(frozen=True)
class Crew:
    """Threads that compute side by side."""

    threads: int
    pool: ThreadPoolExecutor


@contextmanager
def crew_of(threads: int) -> Iterator[Crew]:
    """A crew; when it is of several, each keeps to one core."""
    before = torch.get_num_threads()
    if threads > 1:
        torch.set_num_threads(1)  # threads made from here on take it over
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield Crew(threads, pool)
    finally:
        torch.set_num_threads(before)


def write_gradients(eyes: Eyes, batch: Batch, crew: Crew) -> dict[str, float]:
    """Write the gradients of a whole batch, the threads' shares added in order; returns the losses."""
    parameters, counts = [p for p in eyes.parameters() if p.requires_grad], eyes.counts(batch)

    def one(share: Batch) -> tuple[dict[str, Tensor], tuple[Tensor | None, ...]]:
        losses = eyes(share, counts)
        return losses, torch.autograd.grad(losses["loss"], parameters, allow_unused=True)

    done = list(crew.pool.map(one, batch.shares(crew.threads)))
    for number, parameter in enumerate(parameters):
        parameter.grad = _added([gradients[number] for _, gradients in done])
    return {name: sum(float(losses[name].detach()) for losses, _ in done) for name in done[0][0]}


def _added(shares: Sequence[Tensor | None]) -> Tensor | None:
    known = [share for share in shares if share is not None]
    return sum(known[1:], start=known[0]) if known else None
