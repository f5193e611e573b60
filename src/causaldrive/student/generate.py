"""Think, then drive: sample a trace from the backbone and a trajectory from the decoder (or from tokens).

One prefill per sample, its cache repeated for `num_samples`; a decode loop of our own that ends once every row has
written `<|traj_future_start|>` and that token's keys and values are in the cache; then ten Euler steps of the flow
decoder over the shared prefix. Reads samples, returns `Generated`. Knows nothing of worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causaldrive.clips.types import Sample
from causaldrive.ground.errors import unknown_name
from causaldrive.ground.words import FUTURE_STEPS
from causaldrive.student import flow
from causaldrive.student.batches import PromptBatch
from causaldrive.student.decoding import StaticMemory, run_layers
from causaldrive.student.expert import Offsets
from causaldrive.student.model import CausalDriveModel, permitted_logprobs
from causaldrive.student.processor import StudentProcessor
from causaldrive.student.sampling import RowRandomness, draw_randomness, pick
from causaldrive.student.statistics import initial_speeds

MODES = ("flow", "tokens")


@dataclass(frozen=True)
class Generated:
    """One thought and one trajectory. Poses are in the rig frame at t0, 10 Hz.

    `logprobs[i]` is log_softmax(logits / temperature) of `token_ids[i]` over the permitted tokens, before the top-p
    cut (temperature 1 when greedy): what `CausalDriveModel.completion_logprobs` recomputes. Where `truncated`, the
    last token is a forced `<|traj_future_start|>` that the policy did not choose.
    """

    trace: str
    token_ids: list[int]  # completion after the prompt, up to and including <|traj_future_start|>; [] without reason
    logprobs: list[float]
    xyz_in_rig_m: np.ndarray  # (64, 3)
    yaw_rad: np.ndarray  # (64,)
    speed_mps: np.ndarray  # (65,) speed now and at each way-point
    actions: np.ndarray  # (64, 2) acceleration m/s^2, curvature 1/m
    noise: np.ndarray  # (64, 2) the flow decoder's starting noise, already scaled
    truncated: bool
    traj_token_ids: tuple[int, ...] = ()  # the 128 trajectory tokens in mode 'tokens'
    traj_logprobs: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Settings:
    temperature: float
    top_p: float
    greedy: Tensor  # (N,) rows that write the likeliest words
    greedy_path: Tensor  # (N,) rows that draw the likeliest trajectory
    max_trace_tokens: int


@torch.inference_mode()
def generate(
    model: CausalDriveModel,
    processor: StudentProcessor,
    samples: Sequence[Sample],
    *,
    num_samples: int = 1,
    seed: int | Sequence[int] = 0,
    reason: bool = True,
    temperature: float = 0.6,
    top_p: float = 0.98,
    greedy: bool = False,
    max_trace_tokens: int = 48,
    flow_steps: int | None = None,
    mode: str = "flow",
    noise_temperature: float = 1.0,
    likeliest_first: bool = False,
    greedy_path: bool = False,
) -> list[list[Generated]]:
    """`num_samples` thoughts and trajectories per sample, outer list over samples.

    `seed`: one number per sample (a row's result then does not depend on the rows beside it), or one for all, from
    which sample i takes (seed, i). `greedy` writes the likeliest text; trajectories still start from their noise.
    `greedy_path` draws the likeliest trajectory for the words that were written: trajectory tokens are greedy, and the
    decoder starts from the middle of the noise. With `likeliest_first` the first of a sample's answers is greedy in
    both, whatever the others are.
    `flow_steps` defaults to the checkpoint's. Raises UserError for an unknown mode.
    """
    if mode not in MODES:
        raise unknown_name("trajectory mode", mode, MODES)
    if not samples:
        return []
    model.eval()
    row_seeds = _row_seeds(seed, len(samples))
    randomness = draw_randomness(row_seeds, num_samples, max_trace_tokens)
    rows = torch.arange(len(samples) * num_samples)
    likeliest = rows % num_samples == 0 if likeliest_first else torch.zeros(len(rows), dtype=torch.bool)
    greedy_words, greedy_paths = ((likeliest | all_rows).to(model.device) for all_rows in (greedy, greedy_path))
    settings = _Settings(1.0 if greedy else temperature, top_p, greedy_words, greedy_paths, max_trace_tokens)
    batch = processor.prompts(samples, reason=reason).to(model.device)
    path_columns = FUTURE_STEPS if mode == "flow" else model.config.tokens_per_future_traj
    state = _Decoding(model, batch, num_samples, (max_trace_tokens + 1) * reason + path_columns)
    if reason:
        state.write_text(randomness, settings)
    speeds = initial_speeds(samples, processor.action_space).repeat_interleave(num_samples)
    noise = torch.where(greedy_paths.cpu().view(-1, 1, 1), 0.0, randomness.noise * noise_temperature)
    if mode == "flow":
        action = state.flow(noise, flow_steps or model.config.flow_steps)
        drawn: list[tuple[list[int], list[float]]] = [([], [])] * len(speeds)
    else:
        drawn = state.write_trajectory(randomness, settings)
        bins = np.array([ids for ids, _ in drawn]) - model.config.traj_token_start_idx
        action = torch.from_numpy(processor.future_tokens.decode(bins)).float()
    made = _to_generated(processor, state, action, speeds, noise, drawn, samples, num_samples)
    return [made[i : i + num_samples] for i in range(0, len(made), num_samples)]


def _row_seeds(seed: int | Sequence[int], count: int) -> list[int]:
    if isinstance(seed, int):
        return [int(np.random.SeedSequence([seed, i]).generate_state(1)[0]) for i in range(count)]
    assert len(seed) == count, "one seed per sample"
    return [int(s) for s in seed]


class _Decoding:
    """N = B * num_samples rows being written: their cache, which of its columns are real, and where text goes on."""

    def __init__(self, model: CausalDriveModel, batch: PromptBatch, num_samples: int, room: int):
        """`room`: how many columns may be written after the prompt."""
        self.model = model
        encoded = model.encode(batch)
        self.memory = StaticMemory(encoded.cache, num_samples, room)
        self.logits: Tensor = model.vlm.lm_head(encoded.hidden[:, -1]).float().repeat_interleave(num_samples, 0)
        self.mask = batch.attention_mask.bool().repeat_interleave(num_samples, 0)  # (N, columns in cache)
        self.position = (batch.position_ids[0, :, -1] + 1).repeat_interleave(num_samples, 0)  # of the next token
        rows, self.prompt_columns = self.mask.shape
        self.token_ids: list[list[int]] = [[] for _ in range(rows)]
        self.logprobs: list[list[float]] = [[] for _ in range(rows)]
        self.truncated = [False] * rows

    def write_text(self, randomness: RowRandomness, settings: _Settings) -> None:
        """Sample until every row has written `<|traj_future_start|>`; it is forced after `max_trace_tokens` tokens."""
        start = self.model.config.id_of("traj_future_start")
        pad = self.model.config.id_of("endoftext")
        done = torch.zeros(len(self.mask), dtype=torch.bool, device=self.mask.device)
        for step in range(settings.max_trace_tokens + 1):
            logprobs = permitted_logprobs(self.logits, self.model.get_buffer("text_allowed"), settings.temperature)
            if step == settings.max_trace_tokens:
                token = torch.full_like(self.position, start)
                self.truncated = (~done).tolist()
            else:
                uniform = randomness.text_uniform[:, step].to(done.device)
                token = pick(logprobs, uniform, settings.top_p, settings.greedy)
            self._record(token, logprobs, done)
            self._feed(torch.where(done, pad, token), real=~done)
            done = done | (token == start)
            if bool(done.all()):
                return

    def write_trajectory(self, randomness: RowRandomness, settings: _Settings) -> list[tuple[list[int], list[float]]]:
        """128 future bins per row with their log-probabilities, written after `<|traj_future_start|>`."""
        count = self.model.config.tokens_per_future_traj
        alive = torch.ones(len(self.mask), dtype=torch.bool, device=self.mask.device)
        ids, logs = [], []
        for step in range(count):
            logprobs = permitted_logprobs(self.logits, self.model.get_buffer("future_allowed"), settings.temperature)
            uniform = randomness.traj_uniform[:, step].to(alive.device)
            token = pick(logprobs, uniform, settings.top_p, settings.greedy_path)
            ids.append(token)
            logs.append(logprobs.gather(1, token[:, None])[:, 0])
            if step < count - 1:
                self._feed(token, real=alive)
        pairs = zip(torch.stack(ids, 1).tolist(), torch.stack(logs, 1).tolist(), strict=True)
        return [(row, log) for row, log in pairs]

    def flow(self, noise: Tensor, steps: int) -> Tensor:
        """Normalised actions (N, 64, 2) by integrating the decoder's velocity from `noise`."""
        seen = self.mask.clone()
        if not self.model.config.mask_padding:
            seen[:, : self.prompt_columns] = True
        velocity = self.model.flow_decoder(self.memory, Offsets(seen, self.position))
        return flow.integrate(velocity, noise.to(self.mask.device), steps).cpu()

    def _record(self, token: Tensor, logprobs: Tensor, done: Tensor) -> None:
        chosen = logprobs.gather(1, token[:, None])[:, 0].tolist()
        for row, (finished, value) in enumerate(zip(done.tolist(), token.tolist(), strict=True)):
            if not finished:
                self.token_ids[row].append(value)
                self.logprobs[row].append(chosen[row])

    def _feed(self, token: Tensor, real: Tensor) -> None:
        """One token per row through the backbone. Rows that are not `real` keep their logits, mask and position."""
        self.mask = torch.cat([self.mask, real[:, None]], dim=1)
        text = self.model.vlm.model.language_model
        inputs = self.model.get_input_embeddings()(token)[:, None]
        rope = text.rotary_emb(inputs, self.position[None, :, None].expand(3, -1, -1))
        hidden = run_layers(text, inputs, rope, self.memory, None if bool(self.mask.all()) else self.mask)
        self.memory.keep(1)
        logits = self.model.vlm.lm_head(hidden[:, 0]).float()
        self.logits = torch.where(real[:, None], logits, self.logits)
        self.position = self.position + real


def _to_generated(
    processor: StudentProcessor,
    state: _Decoding,
    action: Tensor,
    speeds: Tensor,
    noise: Tensor,
    drawn: list[tuple[list[int], list[float]]],
    samples: Sequence[Sample],
    num_samples: int,
) -> list[Generated]:
    raw = processor.action_space.denormalise(action)
    xy, yaw, speed = processor.action_space.decode(raw, speeds)
    made = []
    for row, (ids, logs) in enumerate(drawn):
        z = float(samples[row // num_samples].history_xyz_in_rig_m[-1, 2])
        xyz = np.column_stack([xy[row].numpy(), np.full(xy.shape[1], z)]).astype(np.float64)
        made.append(
            Generated(
                trace=processor.text_of(state.token_ids[row]), token_ids=state.token_ids[row],
                logprobs=state.logprobs[row], xyz_in_rig_m=xyz, yaw_rad=yaw[row].numpy(), speed_mps=speed[row].numpy(),
                actions=raw[row].numpy(), noise=noise[row].numpy(), truncated=state.truncated[row],
                traj_token_ids=tuple(ids), traj_logprobs=tuple(logs),
            )
        )  # fmt: skip
    return made
