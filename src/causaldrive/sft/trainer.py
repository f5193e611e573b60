"""The training loop: batches to losses to one optimizer step, with validation, exact resume and a stop at NaN.

loss = text_weight CE(trace) + traj_weight CE(trajectory tokens) + flow_weight E|v - (x - noise)|^2, each a mean over
what it is about in the whole batch, however it is cut into micro batches. Float32 master weights; bfloat16 by autocast.
Reads samples; writes metrics and states. Knows nothing of recordings, labels or reports.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from causaldrive.ground.errors import UserError
from causaldrive.ground.progress import Meter
from causaldrive.ground.runs import Run
from causaldrive.sft.attention import MatmulAttention
from causaldrive.sft.config import SftConfig
from causaldrive.sft.dataset import SampleSet
from causaldrive.sft.loader import Loader
from causaldrive.sft.optim import MovingAverage, choose_part, learning_rate, make_optimizer
from causaldrive.sft.order import SampleOrder
from causaldrive.sft.state import TrainState, restore_state, save_state
from causaldrive.student.batches import IGNORED, TrainingBatch
from causaldrive.student.model import CausalDriveModel
from causaldrive.student.processor import StudentProcessor

LOSSES: tuple[str, ...] = ("text_loss", "traj_loss", "flow_loss")


@dataclass(frozen=True)
class Prepared:
    """One optimizer step's data: `parts` are its micro batches, `names` its samples."""

    parts: tuple[TrainingBatch, ...]
    names: tuple[tuple[str, ...], ...]  # of each micro batch
    clipped_trajectories: int

    def shares(self) -> list[dict[str, float]]:
        """For each micro batch, the weight of each of its mean losses in the mean of the whole batch."""
        counts = [loss_counts(part) for part in self.parts]
        totals = {name: max(sum(count[name] for count in counts), 1) for name in LOSSES}
        return [{name: count[name] / totals[name] for name in LOSSES} for count in counts]


def loss_counts(batch: TrainingBatch) -> dict[str, int]:
    """How many tokens or samples each loss of a batch is the mean of."""
    text, traj = (int((labels != IGNORED).sum()) for labels in (batch.labels_text, batch.labels_traj))
    return {"text_loss": text, "traj_loss": traj, "flow_loss": len(batch)}


class Batcher:
    """Indices of a sample set to prepared batches. In mode 'trajectory' the trace is left out, nothing else differs."""

    def __init__(self, processor: StudentProcessor, samples: SampleSet, with_trace: bool, micro_batch: int = 0,
                 speak: str = "flow+tokens"):  # fmt: skip
        self.processor, self.samples = processor, samples
        self.with_trace, self.micro_batch, self.speak = with_trace, micro_batch, speak

    def prepare(self, indices: Sequence[int]) -> Prepared:
        size = self.micro_batch or len(indices)
        cuts = [indices[start : start + size] for start in range(0, len(indices), size)]
        parts = tuple(self._batch(cut) for cut in cuts)
        names = tuple(tuple(self.samples.items[i].name for i in cut) for cut in cuts)
        return Prepared(parts, names, sum(part.counters.get("clipped_trajectories", 0) for part in parts))

    def _batch(self, indices: Sequence[int]) -> TrainingBatch:
        traces: list[str | None] = [*self.samples.traces(indices)] if self.with_trace else [None] * len(indices)
        return self.processor.training(
            self.samples.samples(indices), traces, traj_tokens="tokens" in self.speak, traj_text=self.speak == "text"
        )


class Trainer:
    """Trains `model` in place; `fit` continues from the newest state in the run directory."""

    def __init__(
        self,
        model: CausalDriveModel,
        processor: StudentProcessor,
        train: SampleSet,
        validation: SampleSet,
        config: SftConfig,
        run: Run,
    ):
        self.config, self.run, self.model = config, run, model
        self.device, self.precision = config.resolved_device(), config.resolved_precision()
        model.float().train()
        torch.nn.Module.to(model, self.device)  # the class's own `to` is typed for a string only
        choose_part(model, config.part, config.freeze_eyes)
        self.learnt = [p for p in model.parameters() if p.requires_grad]
        average = MovingAverage(model, config.ema_decay) if config.ema_decay else None
        generator = torch.Generator().manual_seed(config.seed)
        self.state = TrainState(model, make_optimizer(model, config), generator, average)
        self.order = SampleOrder(train.classes, config.seed)
        with_trace = config.mode == "coc"
        self.batcher = Batcher(processor, train, with_trace, config.micro_batch, config.speak)
        self.evaluator = Batcher(processor, validation, with_trace, speak=config.speak)
        self.process = psutil.Process()

    @property
    def states_directory(self) -> Path:
        return self.run.directory / "state"

    def fit(self) -> None:
        """Train up to `config.steps`. Raises UserError when a loss or gradient is not a number."""
        if restore_state(self.states_directory, self.state):
            print(f"sft: continuing after step {self.state.step}", flush=True)
        self.run.keep_metrics(lambda line: 0 < self.state.step >= line["step"])
        if self.state.step == 0:
            self._validate()
        steps = range(self.state.step, self.config.steps)
        loader = Loader(lambda step: self.batcher.prepare(self.order.batch(step, self.config.batch_size)), steps)
        with Meter("sft", self.config.steps, "steps", done=self.state.step) as meter:
            for prepared in loader:
                row = self._timed_step(prepared, loader)
                meter.advance(1, **{name: row[name] for name in ("loss", *LOSSES, "grad_norm", "samples_per_s")})
                self._after_step(row)

    def _timed_step(self, prepared: Prepared, loader: Loader) -> dict[str, float]:
        started = time.perf_counter()
        row = self._step(prepared)
        elapsed = time.perf_counter() - started + loader.waited_s
        samples = sum(len(part) for part in prepared.parts)
        return row | {
            "samples_per_s": samples / elapsed,
            "wait_s": loader.waited_s,
            "rss_mib": self.process.memory_info().rss / 2**20,
            "clipped_trajectories": prepared.clipped_trajectories,
        }

    def _step(self, prepared: Prepared) -> dict[str, float]:
        rate = learning_rate(self.config, self.state.step)
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate
        self.state.optimizer.zero_grad(set_to_none=True)
        losses = self._accumulate(prepared)
        norm = float(torch.nn.utils.clip_grad_norm_(self.learnt, self.config.clip_norm))
        if not math.isfinite(norm):
            raise self._not_a_number("gradient", [name for part in prepared.names for name in part])
        self.state.optimizer.step()
        self.state.step += 1
        if self.state.average is not None:
            self.state.average.update(self.model, self.state.step)
        return losses | {"lr": rate, "grad_norm": norm}

    def _accumulate(self, prepared: Prepared) -> dict[str, float]:
        """Gradients of the whole batch's loss; returns its values."""
        sums = dict.fromkeys(LOSSES, 0.0)
        for part, names, share in zip(prepared.parts, prepared.names, prepared.shares(), strict=True):
            found = self._losses(part, self.state.generator)
            scaled = {name: found[name] * share[name] for name in LOSSES if name in found}
            total = torch.stack([self._weight(name) * value for name, value in scaled.items()]).sum()
            if not torch.isfinite(total):
                raise self._not_a_number("loss", _bad_rows(found, part, names))
            total.backward()
            for name, value in scaled.items():
                sums[name] += float(value.detach())
        return {"loss": self._total(sums), **sums}

    def _losses(self, batch: TrainingBatch, generator: torch.Generator) -> dict[str, Tensor]:
        with contextlib.ExitStack() as stack:
            if self.precision == "bf16":
                stack.enter_context(torch.autocast(self.device.type, torch.bfloat16))
                if self.device.type == "cpu":
                    stack.enter_context(MatmulAttention())
            return self.model.forward_training(
                batch.to(self.device),
                generator,
                flow_draws=self.config.flow_draws,
                train_backbone=self.config.part != "decoder",
                train_flow=self.config.part != "backbone" and self.config.speaks_flow,
                bin_spread=self.config.bin_spread if self.model.training else 0.0,
            )

    def _weight(self, name: str) -> float:
        return getattr(self.config, name.replace("_loss", "_weight"))

    def _total(self, losses: dict[str, float]) -> float:
        return sum(self._weight(name) * losses[name] for name in LOSSES)

    def _after_step(self, row: dict[str, float]) -> None:
        step, last = self.state.step, self.state.step == self.config.steps
        self.run.log(step=step, split="train", **row)
        if step % self.config.eval_every == 0 or last:
            self._validate()
        if step % self.config.save_every == 0 or last:
            save_state(self.states_directory, self.state)

    def _validate(self) -> None:
        losses = self.validation_losses()
        if losses:
            self.run.log(step=self.state.step, split="validation", **losses)

    @torch.no_grad()
    def validation_losses(self) -> dict[str, float]:
        """Losses over the validation samples, the same draws every time; empty when there are none."""
        count = min(self.config.eval_samples, len(self.evaluator.samples))
        if count == 0:
            return {}
        averaged = self.state.average.applied(self.model) if self.state.average else contextlib.nullcontext()
        generator = torch.Generator().manual_seed(self.config.seed)
        sums, totals = dict.fromkeys(LOSSES, 0.0), dict.fromkeys(LOSSES, 0)
        with averaged:
            for prepared in self._validation_batches(count):
                found = self._losses(prepared.parts[0], generator)
                for name, weight in loss_counts(prepared.parts[0]).items():
                    sums[name] += float(found.get(name, 0.0)) * weight
                    totals[name] += weight
        losses = {name: sums[name] / max(totals[name], 1) for name in LOSSES}
        return {"loss": self._total(losses), **losses}

    def _validation_batches(self, count: int) -> Loader[Prepared]:
        spread = spread_indices(len(self.evaluator.samples), count)
        size = self.config.micro_batch or self.config.batch_size
        cuts = [spread[start : start + size] for start in range(0, count, size)]
        return Loader(lambda number: self.evaluator.prepare(cuts[number]), range(len(cuts)))

    def _not_a_number(self, what: str, names: Sequence[str]) -> UserError:
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return UserError(
            f"sft: the {what} of step {self.state.step + 1} is not a finite number (samples {shown}); the last "
            f"good state is kept in {self.states_directory}, so check those samples or lower --learning-rate."
        )


def spread_indices(size: int, count: int) -> list[int]:
    """At most `count` of `size` indices, evenly spread."""
    return np.linspace(0, size - 1, min(count, size)).round().astype(int).tolist()


def _bad_rows(found: dict[str, Tensor], batch: TrainingBatch, names: Sequence[str]) -> list[str]:
    """Names of the samples whose own loss is not finite; all of them when none stands out."""
    bad = torch.zeros(len(batch), dtype=torch.bool)
    counts = {"text_loss": (batch.labels_text != IGNORED).sum(1), "traj_loss": (batch.labels_traj != IGNORED).sum(1)}
    for name in LOSSES:
        if (values := found.get(f"{name}_per_sample")) is not None:
            has_any = counts.get(name, torch.ones(len(batch))) > 0  # rows without such tokens are NaN by contract
            bad |= ~torch.isfinite(values.cpu()) & has_any
    return [name for name, is_bad in zip(names, bad.tolist(), strict=True) if is_bad] or list(names)
