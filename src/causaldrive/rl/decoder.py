"""Driving with the flow-SDE, and the log-densities of what was driven: reinforcement learning of the decoder itself.

The words are written as always; the trajectory is drawn by the stochastic sampler of `flow_sde`, whose chain is kept.
The trainer replays the chain against the same prefix. Knows nothing of rewards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from causaldrive.clips.types import Sample
from causaldrive.ground.words import FUTURE_STEPS
from causaldrive.rl.flow_sde import SdeStep, Velocity, chain_logprob, sample_chain, sde_steps
from causaldrive.rl.policy import PolicySettings, StudentPolicy, row_seed, sample_of
from causaldrive.student.batches import CompletionBatch
from causaldrive.student.generate import Generated
from causaldrive.student.model import CausalDriveModel
from causaldrive.student.processor import StudentProcessor
from causaldrive.student.statistics import initial_speeds
from causaldrive.worlds.episode import Observation, Plan

_CHAIN_STREAM = 1  # second stream of a row's random numbers: the first one writes its words and starting noise


class SdePolicy(StudentPolicy):
    """A StudentPolicy that draws its trajectory step by noisy step. `Plan.notes['chain']` (S + 1, 64, 2) is kept."""

    def __init__(
        self,
        model: CausalDriveModel,
        processor: StudentProcessor,
        settings: PolicySettings,
        noise_level: float,
        autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    ):
        super().__init__(model, processor, settings, autocast)
        self.steps = sde_steps(settings.flow_steps, noise_level)

    def _plan(self, rows: list[tuple[Observation, int]]) -> list[Plan | Exception]:
        plans = super()._plan(rows)
        generated = [plan.notes["generated"] for plan in plans if isinstance(plan, Plan)]
        samples = [sample_of(observation, self.processor.config) for observation, _ in rows]
        seeds = [row_seed(self.settings.seed, observation, member) for observation, member in rows]
        chains = self._chains(samples, generated, seeds)
        raw = self.processor.action_space.denormalise(chains[:, -1])
        xy, yaw, _ = self.processor.action_space.decode(raw, initial_speeds(samples, self.processor.action_space))
        return [
            Plan(xy[i].double().numpy(), yaw[i].double().numpy(), one.trace,
                 notes={"generated": one, "chain": chains[i].numpy()})
            for i, one in enumerate(generated)
        ]  # fmt: skip

    @torch.inference_mode()
    def _chains(self, samples: Sequence[Sample], generated: Sequence[Generated], seeds: Sequence[int]) -> Tensor:
        batch = self.processor.completions(samples, [one.token_ids for one in generated]).to(self.model.device)
        noise = torch.from_numpy(np.stack([one.noise for one in generated]))
        shape = (len(self.steps), FUTURE_STEPS, 2)
        drawn = [
            np.random.default_rng([seed, _CHAIN_STREAM, 0]).standard_normal(shape, dtype=np.float32) for seed in seeds
        ]
        velocity = velocity_of(self.model, batch)
        device = self.model.device
        return sample_chain(velocity, noise.to(device), torch.from_numpy(np.stack(drawn)).to(device), self.steps).cpu()


def velocity_of(model: CausalDriveModel, batch: CompletionBatch) -> Velocity:
    """The decoder's velocity against the prefix of each row, which has no gradient."""
    with torch.no_grad():
        encoded = model.encode(batch)
    cache, offsets = model.prefix(encoded, batch, batch.traj_start)
    return lambda x, t: model.flow_velocity(cache, offsets, x, t)


def chain_logprobs(model: CausalDriveModel, batch: CompletionBatch, chains: Tensor, steps: list[SdeStep]) -> Tensor:
    """(B,) mean log-densities of stored chains (B, S + 1, 64, 2) under the decoder as it is now."""
    return chain_logprob(velocity_of(model, batch), chains, steps)
