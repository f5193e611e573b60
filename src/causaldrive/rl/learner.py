"""One round of learning: lessons in, changed weights out.

    loss = objective(words) [+ objective(decoder's chains)] [+ anchor_weight (supervised losses)]
         [+ dagger_weight (supervised losses on the expert's answers)]

Ratios start from the sampler's own log-probabilities. The reference of the KL term is the student that the run
started from. Reads lessons; changes the model in place. Knows nothing of worlds, rewards or files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from causaldrive.ground.errors import UserError
from causaldrive.rl.advantages import Lesson
from causaldrive.rl.config import RlConfig
from causaldrive.rl.dagger import ShownAnswer
from causaldrive.rl.decoder import chain_logprobs
from causaldrive.rl.flow_sde import sde_steps
from causaldrive.rl.objectives import Bounds, Logprobs, Objective, grpo, softmax_likelihood, softmax_weights
from causaldrive.rl.parts import choose_parts, copy_of, learnt
from causaldrive.rl.rollouts import Spoken
from causaldrive.rl.speech import Below, below_last_layer, speech_logprobs
from causaldrive.sft.order import SampleOrder
from causaldrive.sft.state import TrainState
from causaldrive.student.batches import AnswerBatch, TrainingBatch
from causaldrive.student.model import CausalDriveModel
from causaldrive.student.processor import StudentProcessor

Anchor = Callable[[int], TrainingBatch]  # optimizer step -> supervised samples
Row = list[tuple[Spoken, float]]  # lessons of different tokens of one answer, each with its weight


@dataclass(frozen=True)
class Minibatch:
    """B answers of at most T tokens with the numbers that do not change during a round. `words` has no pixels: they are
    large."""

    answers: list[Spoken]
    words: AnswerBatch
    below: Below | None  # what the last layer reads, when nothing below it is trained
    weights: Tensor  # (B, T) advantage of each token, or softmax weight
    chain_weights: Tensor  # (B, 1) the same for the decoder's chain: that of the answer's one lesson
    old: Tensor  # (B, T) log-probabilities under the sampler
    reference: Tensor  # (B, T) and under the reference
    mask: Tensor  # (B, T) tokens that the policy chose
    chain_old: Tensor  # (B,) mean log-density of each chain under the decoder of this round's start; else 0
    chain_reference: Tensor  # (B,)


@dataclass(frozen=True)
class Supervisor:
    """Answers to imitate: a batch of them for each optimizer step of a round."""

    name: str
    weight: float
    batch: Anchor


class Learner:
    """The model with its optimizer and the reference it must not stray from."""

    def __init__(
        self, model: CausalDriveModel, processor: StudentProcessor, config: RlConfig, anchor: Anchor | None = None
    ):
        self.model, self.processor, self.config, self.anchor = model, processor, config, anchor
        choose_parts(model, config.part, config.train_decoder)
        self.reference = copy_of(model)
        optimizer = torch.optim.AdamW(list(learnt(model).values()), lr=config.learning_rate, betas=(0.9, 0.95),
                                      weight_decay=0.0)  # fmt: skip
        generator = torch.Generator().manual_seed(config.seed)
        self.state = TrainState(model, optimizer, generator)  # its step counts rounds
        self.bounds = Bounds(config.clip_low, config.clip_high)
        self.decoder_bounds = Bounds(config.decoder_clip, config.decoder_clip)
        self.sde = sde_steps(config.flow_steps, config.sde_noise)

    def learn(self, lessons: Sequence[Lesson], shown: Sequence[ShownAnswer] = ()) -> dict[str, float]:
        """One round; returns means to log. `shown` is learnt from beside the lessons where `dagger_weight` is above 0.
        Raises UserError when a loss is not a number."""
        self.model.eval()  # no dropout anywhere: the sampler had none
        supervisors, minibatches = self._supervisors(shown), [*self.prepare(lessons)]
        if not minibatches and supervisors:  # rewards that teach nothing, or that count nothing: imitation alone
            minibatches = [None] * math.ceil(len(shown) / self.config.anchor_batch)
        found: list[dict[str, float]] = []
        steps = self.config.epochs * max(len(minibatches), 1)
        for _ in range(self.config.epochs):
            for index in torch.randperm(len(minibatches), generator=self.state.generator).tolist():
                self._set_rate(self.state.step + len(found) / steps)
                found.append(self._step(minibatches[index], len(found), supervisors))
        self.state.step += 1
        keys = found[0] if found else ("loss", "kl", "clip_fraction", "grad_norm")
        return {key: float(np.mean([row[key] for row in found])) if found else 0.0 for key in keys} | {
            "optimizer_steps": len(found),
            "entropy": entropy_estimate(lessons),
            "tokens": sum(len(_learnt_logprobs(lesson.spoken)) for lesson in lessons),
        }

    def _set_rate(self, rounds_done: float) -> None:
        """Linear decay: what the last rounds teach is a few drives' luck, and a full step would keep it."""
        for group in self.state.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * max(1.0 - rounds_done / self.config.iterations, 0.0)

    def logprobs(self, answers: Sequence[Spoken]) -> tuple[AnswerBatch, Tensor]:
        """The answers as a batch, and log-probabilities (B, T) of their tokens under the model as it is."""
        batch = self.batch(answers)
        with self.autocast():
            return batch, self.model.completion_logprobs(batch, self.config.temperature)

    def autocast(self) -> contextlib.AbstractContextManager:
        """bfloat16 compute where asked for."""
        if self.config.precision == "bf16":
            return torch.autocast(self.model.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def batch(self, answers: Sequence[Spoken]) -> AnswerBatch:
        """Prompts and answers, on the model's device; neighbours that answer one and the same share their prompt."""
        asked = [list(own) for _, own in groupby(answers, key=lambda answer: id(answer.sample))]
        samples = [own[0].sample for own in asked]
        return self.processor.answers(samples, [[answer.token_ids for answer in own] for own in asked]).to(
            self.model.device
        )

    def prepare(self, lessons: Sequence[Lesson]) -> list[Minibatch]:
        """The answers of the lessons, cut into mini-batches: decisions in random order, all answers to one together."""
        weights = np.array([lesson.advantage for lesson in lessons])
        if self.config.objective == "softmax":
            weights = softmax_weights(weights, [lesson.group for lesson in lessons], self.config.beta)
        decisions: defaultdict[int, list[Row]] = defaultdict(list)
        for row in rows_of(lessons):
            of_row = [(lessons[i].spoken, float(weights[i])) for i in row]
            decisions[id(of_row[0][0].sample)].append(of_row)
        found = list(decisions.values())
        order = torch.randperm(len(found), generator=self.state.generator).tolist()
        return [self._minibatch(cut) for cut in _cut([found[k] for k in order], self.config.minibatch)]

    @torch.no_grad()
    def _minibatch(self, rows: list[Row]) -> Minibatch:
        answers = [row[0][0] for row in rows]
        batch = self.batch(answers)
        below = None
        if self.config.part != "language":
            with self.autocast():
                below = below_last_layer(self.model, batch)
        chain_old = self._chain_values(answers)
        with self._at_reference():
            reference = self._new_logprobs(batch, below)
            chain_reference = self._chain_values(answers)
        weights, mask = token_weights(batch, rows)
        return Minibatch(
            answers=answers,
            words=dataclasses.replace(batch, pixel_values=None),
            below=below,
            weights=weights,
            chain_weights=torch.tensor([[row[0][1]] for row in rows], dtype=torch.float32, device=self.model.device),
            old=spread([answer.logprobs for answer in answers], batch.completion_mask),
            reference=reference,
            mask=mask,
            chain_old=chain_old,
            chain_reference=chain_reference,
        )

    def _new_logprobs(self, batch: AnswerBatch, below: Below | None) -> Tensor:
        with self.autocast():
            if below is not None:
                return speech_logprobs(self.model, batch, below, self.config.temperature)
            return self.model.completion_logprobs(batch, self.config.temperature)

    @contextlib.contextmanager
    def _at_reference(self) -> Iterator[None]:
        own = copy_of(self.model)
        _write(self.reference, self.model)
        try:
            yield
        finally:
            _write(own, self.model)

    def _supervisors(self, shown: Sequence[ShownAnswer]) -> list[Supervisor]:
        """Whose answers are learnt beside the lessons of this round."""
        c, done, found = self.config, self.state.step, []
        if (anchor := self.anchor) is not None:
            found.append(Supervisor("anchor", c.anchor_weight, lambda number: anchor(done * 10_000 + number)))
        if shown and c.dagger_weight:
            order = SampleOrder([answer.decision_class for answer in shown], c.seed + done)

            def batch(number: int) -> TrainingBatch:
                chosen = [shown[i] for i in order.batch(number, c.anchor_batch)]
                return self.processor.training([one.sample for one in chosen], [one.trace for one in chosen])

            found.append(Supervisor("dagger", c.dagger_weight, batch))
        return found

    def _step(self, part: Minibatch | None, number: int, supervisors: Sequence[Supervisor]) -> dict[str, float]:
        self.state.optimizer.zero_grad(set_to_none=True)
        nothing = torch.zeros((), device=self.model.device), {"kl": 0.0, "clip_fraction": 0.0}
        loss, stats = self._loss(part) if part else nothing
        for supervisor in supervisors:
            supervised = self._supervised(supervisor.batch(number))
            loss = loss + supervisor.weight * supervised
            stats[f"{supervisor.name}_loss"] = supervised.item()
        if not math.isfinite(loss.item()):
            scenes = sorted({answer.sample.recording_id for answer in part.answers}) if part else []
            where = f" on scenes {', '.join(scenes[:4])}" if scenes else ""
            raise UserError(
                f"rl: the loss of round {self.state.step} is {loss.item()}{where}; a finite "
                "one expected, so lower --learning-rate; the same command then needs another --out."
            )
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(learnt(self.model).values()), self.config.clip_norm)
        self.state.optimizer.step()
        return stats | {"loss": loss.item(), "grad_norm": float(norm)}

    def _loss(self, part: Minibatch) -> tuple[Tensor, dict[str, float]]:
        """Loss of the words, and of the chains when the decoder is trained."""
        batch = self.batch(part.answers) if part.below is None else part.words
        new = self._new_logprobs(batch, part.below)
        words = self._objective(Logprobs(new, part.old, part.reference, part.mask), part.weights, self.bounds)
        stats = {"kl": words.kl, "clip_fraction": words.clip_fraction}
        if not self.config.train_decoder:
            return words.loss, stats
        drawn = self._drawn(part)
        return words.loss + drawn.loss, stats | {"decoder_kl": drawn.kl, "decoder_clip_fraction": drawn.clip_fraction}

    def _drawn(self, part: Minibatch) -> Objective:
        """The same objective with each answer's whole chain as its one token."""
        new = self._chain_values(part.answers)[:, None]
        mask = torch.ones_like(new, dtype=torch.bool)
        p = Logprobs(new, part.chain_old[:, None], part.chain_reference[:, None], mask)
        return self._objective(p, part.chain_weights, self.decoder_bounds)

    def _objective(self, p: Logprobs, weights: Tensor, bounds: Bounds) -> Objective:
        if self.config.objective == "softmax":
            return softmax_likelihood(p, weights, self.config.kl_weight)
        return grpo(p, weights, bounds, self.config.kl_weight)

    def _chain_values(self, answers: Sequence[Spoken]) -> Tensor:
        """(B,) mean log-densities of the answers' chains under the decoder as it is; 0 where it is not trained."""
        if not self.config.train_decoder:
            return torch.zeros(len(answers), device=self.model.device)
        chains = [answer.chain for answer in answers]
        assert all(chain is not None for chain in chains), "rollouts for the decoder keep their chains"
        drawn = torch.from_numpy(np.stack([c for c in chains if c is not None])).to(self.model.device)
        samples, ids = [answer.sample for answer in answers], [answer.token_ids for answer in answers]
        with self.autocast():
            batch = self.processor.completions(samples, ids).to(self.model.device)
            return chain_logprobs(self.model, batch, drawn, self.sde)

    def _supervised(self, batch: TrainingBatch) -> Tensor:
        """Supervised losses of everything that is being trained."""
        decodes = self.config.part == "language" or self.config.train_decoder
        with self.autocast():
            losses = self.model.forward_training(batch.to(self.model.device), self.state.generator, train_flow=decodes,
                                                 bin_spread=self.config.anchor_bin_spread,
                                                 fade_s=self.config.anchor_fade_s)  # fmt: skip
        names = ("text_loss", "traj_loss", "flow_loss") if decodes else ("text_loss", "traj_loss")
        return torch.stack([losses[name] for name in names]).sum()


@torch.no_grad()
def _write(values: dict[str, Tensor], model: CausalDriveModel) -> None:
    for name, parameter in learnt(model).items():
        parameter.copy_(values[name])


def spread(values: Sequence[np.ndarray], completion_mask: Tensor) -> Tensor:
    """Per-row values of the written tokens, put where the tokens stand: (B, T) float32, 0 elsewhere."""
    out = torch.zeros(completion_mask.shape, dtype=torch.float32, device=completion_mask.device)
    joined = np.concatenate([np.asarray(row, np.float32) for row in values])
    out[completion_mask] = torch.from_numpy(joined).to(out.device)
    return out


def rows_of(lessons: Sequence[Lesson]) -> list[list[int]]:
    """Indices of lessons, those together that are of different tokens of one answer: it is computed once for them."""
    rows: defaultdict[tuple, list[list[int]]] = defaultdict(list)
    for index, lesson in enumerate(lessons):
        beside = rows[id(lesson.spoken.sample), lesson.spoken.token_ids]
        own = set(lesson.spoken.places)
        free = (row for row in beside if all(own.isdisjoint(lessons[i].spoken.places) for i in row))
        if (row := next(free, None)) is not None:
            row.append(index)
        else:
            beside.append([index])
    return [row for found in rows.values() for row in found]


def _cut(decisions: Sequence[list[Row]], least: int) -> list[list[Row]]:
    """Decisions one after the other in parts of at least so many answers; the last part may be smaller."""
    parts: list[list[Row]] = []
    for rows in decisions:
        if not parts or len(parts[-1]) >= least:
            parts.append([])
        parts[-1].extend(rows)
    return parts


def token_weights(batch: AnswerBatch, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """(B, T) weights of the tokens that the policy chose itself and is to learn from, and where those are."""
    weights = torch.zeros(batch.completion_mask.shape, device=batch.completion_mask.device)
    mask = torch.zeros_like(batch.completion_mask)
    for index, row in enumerate(rows):
        for spoken, weight in row:
            columns = torch.tensor(spoken.places, dtype=torch.int64, device=weights.device)
            weights[index, columns], mask[index, columns] = weight, True
    return weights, mask


def _learnt_logprobs(spoken: Spoken) -> np.ndarray:
    places = spoken.places
    return spoken.logprobs[places.start : places.stop : places.step]


def entropy_estimate(lessons: Sequence[Lesson]) -> float:
    """-mean log-probability of the sampled tokens, in nats per token: unbiased for the entropy at that temperature."""
    values = [_learnt_logprobs(lesson.spoken) for lesson in lessons if lesson.spoken.chosen]
    return float(-np.concatenate(values).mean()) if values else 0.0
