"""The training loop: batches to losses to one optimizer step, with validation, exact resume and a stop at NaN.

loss = text_weight CE(trace) + traj_weight CE(trajectory tokens) + flow_weight E|v - (x - noise)|^2, each a mean over
what it is about in the whole batch, however it is cut into micro batches and over processes, which changes neither the
noise nor, beyond rounding, the loss. Float32 master weights; bfloat16 by autocast. Reads samples; writes metrics and
states. Knows nothing of recordings, labels or reports.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from causaldrive.ground.errors import UserError
from causaldrive.ground.progress import Meter
from causaldrive.ground.runs import Run
from causaldrive.sft.adapter import Adapter
from causaldrive.sft.attention import MatmulAttention
from causaldrive.sft.best import Best
from causaldrive.sft.check import LIMIT, check
from causaldrive.sft.config import SftConfig
from causaldrive.sft.dataset import SampleSet
from causaldrive.sft.harness import Harness
from causaldrive.sft.loader import Loader
from causaldrive.sft.optim import MovingAverage, choose_part, copy_into, learning_rate, make_optimizer
from causaldrive.sft.order import SampleOrder
from causaldrive.sft.state import TrainState, final_weights, keep_best, restore_state, save_state
from causaldrive.student import checkpoint
from causaldrive.student.batches import IGNORED, TrainingBatch
from causaldrive.student.flow import Draws, draw
from causaldrive.student.model import CausalDriveModel
from causaldrive.student.processor import StudentProcessor

LOSSES: tuple[str, ...] = ("text_loss", "traj_loss", "flow_loss")
_LIVE = ("loss", *LOSSES, "grad_norm", "samples_per_s", "tokens_per_s", "rss_mib")


@dataclass(frozen=True)
class Prepared:
    """One optimizer step's data: `parts` are its micro batches, `names` its samples."""

    parts: tuple[TrainingBatch, ...]
    names: tuple[tuple[str, ...], ...]  # of each micro batch
    clipped: tuple[str, ...] = ()  # names of samples whose trajectory goes beyond the action bounds

    @property
    def samples(self) -> int:
        return sum(len(part) for part in self.parts)

    @property
    def tokens(self) -> int:
        """Without padding."""
        return sum(int(part.attention_mask.sum()) for part in self.parts)

    def counts(self) -> dict[str, int]:
        """How many tokens or samples each loss of the whole is the mean of."""
        return {name: sum(loss_counts(part)[name] for part in self.parts) for name in LOSSES}


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
        clipped = [name for part, cut in zip(parts, cuts, strict=True) for name in self._clipped(part, cut)]
        return Prepared(parts, names, tuple(clipped))

    def _batch(self, indices: Sequence[int]) -> TrainingBatch:
        traces: list[str | None] = [*self.samples.traces(indices)] if self.with_trace else [None] * len(indices)
        return self.processor.training(
            self.samples.samples(indices), traces, traj_tokens="tokens" in self.speak, traj_text=self.speak == "text"
        )

    def _clipped(self, batch: TrainingBatch, indices: Sequence[int]) -> list[str]:
        if not batch.counters.get("clipped_trajectories", 0):
            return []
        items = [self.samples.items[i] for i in indices]
        within = self.processor.within_bounds([item.sample for item in items])
        return [item.name for item, is_within in zip(items, within, strict=True) if not is_within]

    def lengths(self) -> list[int]:
        """About how many tokens each row has: its images' and its trace's; the rest is alike in all."""
        frames = self.processor.config.frames()
        side = frames.patch_size * frames.merge_size
        pictures = [sum(self.samples.cache.frame(key)[..., 0].size for row in item.frame_keys for key in row)
                    for item in self.samples.items]  # fmt: skip
        images = [size // side**2 // (2 if frames.pair_frames else 1) for size in pictures]
        if not self.with_trace:
            return images
        return [n + len(self.processor.tokenizer.encode(item.label.trace, add_special_tokens=False))
                for n, item in zip(images, self.samples.items, strict=True)]  # fmt: skip


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
        harness: Harness | None = None,
    ):
        self.config, self.run, self.model = config, run, model
        self.harness = harness or Harness(config)
        self.device, self.precision = self.harness.device, config.resolved_precision()
        self.adapter = Adapter(model, config.lora_rank, config.seed) if config.lora_rank else None
        model.float().train()
        if config.checkpointing:
            model.checkpoint_layers()
        torch.nn.Module.to(model, self.device)  # the class's own `to` is typed for a string only
        choose_part(model, config.part, self.adapter, config.freeze_eyes)
        self.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.called = self.harness.prepared(model, config.shard)
        self.learnt = [p for p in model.parameters() if p.requires_grad]
        average = MovingAverage(model, config.ema_decay) if config.ema_decay else None
        generator = torch.Generator().manual_seed(config.seed)
        self.state = TrainState(model, make_optimizer(model, config), generator, average)
        with_trace = config.mode == "coc"
        self.batcher = Batcher(processor, train, with_trace, config.micro_batch, config.speak)
        lengths = self.batcher.lengths() if config.length_buckets else []
        self.order = SampleOrder(train.classes, config.seed, lengths, config.length_buckets)
        self.evaluator = Batcher(processor, validation, with_trace, speak=config.speak)
        self.best, self.clipped = Best(config.best_by), 0
        self.process = psutil.Process()

    @property
    def states_directory(self) -> Path:
        return self.run.directory / "state"

    def fit(self) -> None:
        """Train up to `config.steps`. Raises UserError when a loss or gradient is not a number."""
        if restore_state(self.states_directory, self.state):
            print(f"sft: continuing after step {self.state.step}", flush=True)
        self.run.keep_metrics(lambda line: 0 < self.state.step >= line["step"])
        self.harness.wait()
        for line in self.run.metrics():
            if line["split"] == "validation":
                self.best.offer(line["step"], line)
        self.harness.track(self.run.record.get("config", {}))
        if self.state.step == 0:
            self._validate()
        steps = range(self.state.step, self.config.steps)
        loader = Loader(self._prepare, steps)
        with Meter("sft", self.config.steps, "steps", done=self.state.step, quiet=not self.harness.main) as meter:
            for prepared in loader:
                row = self._timed_step(prepared, loader)
                meter.advance(1, **{name: row[name] for name in _LIVE})
                self._after_step(row)
        self.harness.close()

    def _prepare(self, step: int) -> Prepared:
        return self.batcher.prepare(self.harness.own(self.order.batch(step, self.config.batch_size)))

    def _timed_step(self, prepared: Prepared, loader: Loader) -> dict[str, float]:
        started = time.perf_counter()
        row = self._step(prepared)
        elapsed = time.perf_counter() - started + loader.waited_s
        samples, tokens, clipped = self.harness.total((prepared.samples, prepared.tokens, len(prepared.clipped)))
        self._warn_of(prepared.clipped)
        memory = {"rss_mib": self.process.memory_info().rss / 2**20}
        if self.device.type == "cuda":
            memory["cuda_mib"] = torch.cuda.max_memory_allocated() / 2**20
        return (
            row
            | {
                "samples_per_s": samples / elapsed,
                "tokens_per_s": tokens / elapsed,
                "wait_s": loader.waited_s,
                "clipped_trajectories": int(clipped),
            }
            | memory
        )

    def _warn_of(self, clipped: Sequence[str]) -> None:
        if clipped and not self.clipped:
            space = self.batcher.processor.action_space.settings
            (slow, fast), (right, left) = space.accel_bounds_mps2, space.curvature_bounds_1pm
            print(
                f"sft: warning: the trajectory of {', '.join(clipped[:3])} leaves the action space (acceleration "
                f"{slow:g} to {fast:g} m/s^2, curvature {right:g} to {left:g} 1/m) and is clipped to it; more are "
                "counted as clipped_trajectories in metrics.jsonl, so look at such recordings with causaldrive clips "
                "check.",
                file=sys.stderr,
                flush=True,
            )
        self.clipped += len(clipped)

    def _step(self, prepared: Prepared) -> dict[str, float]:
        rate = learning_rate(self.config, self.state.step)
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate
        self.state.optimizer.zero_grad(set_to_none=True)
        losses = self._accumulate(prepared)
        norm = self.harness.clip(self.learnt, self.config.clip_norm)
        if not math.isfinite(norm):
            raise self._not_a_number("gradient", [name for part in prepared.names for name in part])
        self.state.optimizer.step()
        self.state.step += 1
        if self.state.average is not None:
            self.state.average.update(self.model, self.state.step)
        return losses | {"lr": rate, "grad_norm": norm}

    def _accumulate(self, prepared: Prepared) -> dict[str, float]:
        """Gradients of the whole batch's loss; returns its values."""
        names, processes = list(LOSSES), self.harness.processes
        counts = dict(zip(names, self.harness.total(prepared.counts().values()), strict=True))
        draws = self._draws(prepared)
        sums = dict.fromkeys(LOSSES, 0.0)
        for number, part in enumerate(prepared.parts):
            of_part = loss_counts(part)
            with self._computing(), self.harness.accumulating(self.called, number + 1 == len(prepared.parts)):
                found = self._losses(part, drawn=draws[number])
                scaled = {name: found[name] * (of_part[name] / max(counts[name], 1)) for name in names if name in found}
                total = torch.stack([self._weight(name) * value for name, value in scaled.items()]).sum()
                if not torch.isfinite(total):
                    raise self._not_a_number("loss", _bad_rows(found, part, prepared.names[number]))
                (total * processes if processes > 1 else total).backward()  # gradients are averaged over processes
            for name, value in scaled.items():
                sums[name] += float(value.detach())
        sums = dict(zip(names, self.harness.total(sums.values()), strict=True))
        return {"loss": self._total(sums), **sums}

    def _draws(self, prepared: Prepared) -> list[Draws | None]:
        """Times and noise of each micro batch: the whole batch's, drawn at once in every process, and cut as it is."""
        if self.config.part == "backbone":
            return [None] * len(prepared.parts)
        each, size = self.config.flow_draws, prepared.samples
        shape = (size * self.harness.processes * each, *prepared.parts[0].action.shape[1:])
        drawn = draw(shape, self.state.generator)
        starts = np.cumsum([self.harness.index * size, *(len(part) for part in prepared.parts[:-1])])
        return [drawn.rows(int(start), len(part), each) for start, part in zip(starts, prepared.parts, strict=True)]

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        """Lower precision where asked for; the backward pass may compute layers again, so it belongs inside."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.harness.accelerator.autocast())
            is_replayed = self.config.checkpointing  # in the backward pass, where this attention would not be found
            if self.precision == "bf16" and self.device.type == "cpu" and not is_replayed:
                stack.enter_context(MatmulAttention())
            yield

    def _losses(
        self, batch: TrainingBatch, generator: torch.Generator | None = None, drawn: Draws | None = None
    ) -> dict[str, Tensor]:
        return self.called(
            batch.to(self.device),
            generator or self.state.generator,
            flow_draws=self.config.flow_draws,
            train_backbone=self.config.part != "decoder",
            train_flow=self.config.part != "backbone" and self.config.speaks_flow,
            bin_spread=self.config.bin_spread if self.model.training else 0.0,
            fade_s=self.config.fade_s if self.model.training else 0.0,
            drawn=drawn,
        )

    def _weight(self, name: str) -> float:
        return getattr(self.config, name.replace("_loss", "_weight"))

    def _total(self, losses: dict[str, float]) -> float:
        return sum(self._weight(name) * losses[name] for name in LOSSES)

    def _after_step(self, row: dict[str, float]) -> None:
        step, last = self.state.step, self.state.step == self.config.steps
        self.run.log(step=step, split="train", **row)
        self.harness.log("train", step, row)
        if step % self.config.eval_every == 0 or last:
            self._validate()
        if step % self.config.save_every == 0 or last:
            save_state(self.states_directory, self.state, write=self.harness.main)
            self.harness.wait()

    def _validate(self) -> None:
        step, row = self.state.step, self.validation_losses()
        if not row:
            return
        if "ade_m" in self.best.weights:
            row["ade_m"] = self._validation_ade_m()
        if self.harness.agree(self.best.offer(step, row)):
            keep_best(self.states_directory, step, final_weights(self.state), write=self.harness.main)
        self.run.log(step=step, split="validation", **row)
        self.harness.log("validation", step, row)

    def _validation_ade_m(self) -> float:
        """Mean distance over 6.4 s, driving greedily from validation samples."""
        samples = self.evaluator.samples
        indices = spread_indices(len(samples), LIMIT)
        self.model.eval()
        with self._averaged():
            found = check(self.model, self.evaluator.processor, samples, indices, self.evaluator.with_trace,
                          self.config.seed)  # fmt: skip
        self.model.train()
        return found.ade_m

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        return self.state.average.applied(self.model) if self.state.average else contextlib.nullcontext()

    def finished(self, weights: dict[str, Tensor]) -> tuple[CausalDriveModel, Adapter | None]:
        """A whole model with these learnt weights, ready to be saved; and its adapter, which is not merged yet.

        The trained model itself where it is in one piece. Only for the first process, after training.
        """
        model, adapter = self.model, None
        if self.adapter or self.config.shard:
            model = checkpoint.load(self.config.student)[0]
            adapter = Adapter(model, self.config.lora_rank, self.config.seed) if self.adapter else None
        elif self.config.checkpointing:
            model.gradient_checkpointing_disable()
        copy_into(model, weights)
        return model.eval(), adapter

    @torch.no_grad()
    def validation_losses(self) -> dict[str, float]:
        """Losses over the validation samples, the same draws every time; empty when there are none."""
        count = min(self.config.eval_samples, len(self.evaluator.samples))
        if count == 0:
            return {}
        generator = torch.Generator().manual_seed(self.config.seed)
        sums, totals = dict.fromkeys(LOSSES, 0.0), dict.fromkeys(LOSSES, 0)
        with self._averaged(), self._computing():
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
