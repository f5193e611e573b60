"""Think, then drive: sample a trace from the backbone and a trajectory from the decoder (or from tokens, or text).

One prefill per sample, its cache repeated for `num_samples`; a decode loop of our own that ends once every row has
written `<|traj_future_start|>` and that token's keys and values are in the cache; then ten Euler steps of the flow
decoder over the shared prefix. Reads samples, returns `Generated`. Knows nothing of worlds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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
from causaldrive.student.tokens import spelling_allowed

MODES = ("flow", "tokens", "text")
Velocity = Callable[[Tensor, Tensor], Tensor]
SPELLING_TOKENS = 16  # a way-point in text has at most so many characters


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
    traj_token_ids: tuple[int, ...] = ()  # the 128 trajectory tokens in mode 'tokens', the way-points' in mode 'text'
    traj_logprobs: tuple[float, ...] = ()
    readable: bool = True  # False: mode 'text' wrote no way-points; the path then keeps speed and direction


@dataclass(frozen=True)
class _Settings:
    temperature: float
    top_p: float
    greedy: Tensor  # (N,) rows that write the likeliest words
    greedy_path: Tensor  # (N,) rows that draw the expected trajectory
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
    one_thought: bool = False,
    path_coherence: float = 0.0,
    mirror_paths: bool = False,
    routes: Sequence[str | None] | None = None,
    guidance: float = 1.0,
) -> list[list[Generated]]:
    """`num_samples` thoughts and trajectories per sample, outer list over samples.

    `seed`: one number per sample (a row's result then does not depend on the rows beside it), or one for all, from
    which sample i takes (seed, i). `greedy` writes the likeliest text; trajectories still start from their noise.
    `greedy_path` draws the expected trajectory for the words of the first answer: each trajectory token is the bin
    nearest to the mean of what may come next, and the decoder starts from the middle of the noise. With
    `likeliest_first` the first of a sample's answers is greedy in both, whatever the others are. With `one_thought` all
    answers of a sample share the words of its first: the others are other paths for the same words. With
    `path_coherence` (0 to 1) each drawn trajectory token leans the way the ones before it on its axis leant, and with
    `mirror_paths` answers 1 and 2, 3 and 4, ... of a sample draw theirs as far to opposite sides of the median.
    `routes`: one navigation text a sample, or None. With `guidance` other than 1 the decoder follows it more (or less):
    v = (1 - guidance) v_without + guidance v_with, where v_without reads the prompt without routes and the same words.
    `flow_steps` defaults to the checkpoint's. Raises UserError for an unknown mode.
    """
    if mode not in MODES:
        raise unknown_name("trajectory mode", mode, MODES)
    if not samples:
        return []
    model.eval()
    first = torch.arange(len(samples) * num_samples, device=model.device) % num_samples == 0
    settings = _Settings(
        1.0 if greedy else temperature, top_p, greedy | (first & likeliest_first),
        first & (greedy_path | likeliest_first), max_trace_tokens,
    )  # fmt: skip
    spelling = SPELLING_TOKENS * model.config.text_waypoints if mode == "text" else 0
    seeds = _row_seeds(seed, len(samples))
    randomness = draw_randomness(seeds, num_samples, max_trace_tokens, spelling, path_coherence, mirror_paths)
    path_columns = {"flow": FUTURE_STEPS, "tokens": model.config.tokens_per_future_traj, "text": spelling + 1}[mode]
    batch, every = processor.prompts(samples, reason, routes).to(model.device), num_samples if one_thought else 1
    state = _Decoding(model, batch, num_samples // every, (max_trace_tokens + 1) * reason + path_columns)
    if reason:
        state.write_text(randomness.text_uniform[::every], settings.greedy[::every], settings)
    state.repeat(every)
    speeds = initial_speeds(samples, processor.action_space).repeat_interleave(num_samples)
    noise = torch.where(settings.greedy_path.cpu().view(-1, 1, 1), 0.0, randomness.noise * noise_temperature)
    if mode == "flow":
        led = guidance != 1.0 and routes is not None
        beside = state.beside(processor.prompts(samples, reason).to(model.device), num_samples) if led else None
        velocity = _guided(beside, state, guidance)
        action = flow.integrate(velocity, noise.to(model.device), flow_steps or model.config.flow_steps).cpu()
        paths = _integrated(processor, action, speeds, [([], [])] * len(speeds))
    else:
        paths = _written(processor, state, randomness, speeds, settings, mode)
    return _to_generated(processor, state, paths, noise, samples, num_samples)


def _written(
    processor: StudentProcessor, state: _Decoding, randomness: RowRandomness, speeds: Tensor, settings: _Settings,
    mode: str,
) -> list[_Path]:  # fmt: skip
    """Paths that the backbone writes itself, in trajectory tokens or as text."""
    if mode == "text":
        return _spelt(processor, state.spell(randomness.spelling_uniform, settings), speeds)
    drawn = state.write_trajectory(randomness.traj_uniform, settings)
    bins = np.array([ids for ids, _ in drawn]) - processor.config.traj_token_start_idx
    action = torch.from_numpy(processor.future_tokens.decode(bins)).float()
    return _integrated(processor, action, speeds, drawn)


def _row_seeds(seed: int | Sequence[int], count: int) -> list[int]:
    if isinstance(seed, int):
        return [int(np.random.SeedSequence([seed, i]).generate_state(1)[0]) for i in range(count)]
    assert len(seed) == count, "one seed per sample"
    return [int(s) for s in seed]


def _guided(beside: _Decoding | None, state: _Decoding, guidance: float) -> Velocity:
    """The velocity of `state`, led away from that of the same words `beside` it where there are any."""
    given = state.velocity()
    if beside is None:
        return given
    without = beside.velocity()
    return lambda x, t: (1 - guidance) * without(x, t) + guidance * given(x, t)


class _Decoding:
    """N = B * num_samples rows being written: their cache, which of its columns are real, and where text goes on."""

    def __init__(self, model: CausalDriveModel, batch: PromptBatch, num_samples: int, room: int):
        """`room`: how many columns may be written after the prompt."""
        self.model, self.room = model, room
        encoded = model.encode(batch)
        self.memory = StaticMemory(encoded.cache, num_samples, room)
        self.logits: Tensor = model.vlm.lm_head(encoded.hidden[:, -1]).float().repeat_interleave(num_samples, 0)
        self.mask = batch.attention_mask.bool().repeat_interleave(num_samples, 0)  # (N, columns in cache)
        self.position = (batch.position_ids[0, :, -1] + 1).repeat_interleave(num_samples, 0)  # of the next token
        rows, self.prompt_columns = self.mask.shape
        self.token_ids: list[list[int]] = [[] for _ in range(rows)]
        self.logprobs: list[list[float]] = [[] for _ in range(rows)]
        self.truncated = [False] * rows

    def write_text(self, uniform: Tensor, greedy: Tensor, settings: _Settings) -> None:
        """Sample until every row has written `<|traj_future_start|>`; it is forced after `max_trace_tokens` tokens."""
        self.truncated = self._write(
            self.token_ids, self.logprobs, uniform[:, : settings.max_trace_tokens],
            self.model.get_buffer("text_allowed"), "traj_future_start", greedy, settings,
        )  # fmt: skip

    def repeat(self, times: int) -> None:
        """Every row becomes `times` neighbouring ones that have written the same so far."""
        if times == 1:
            return
        self.memory.repeat(times)
        self.logits, self.mask, self.position = (
            part.repeat_interleave(times, 0) for part in (self.logits, self.mask, self.position)
        )
        self.token_ids, self.logprobs, self.truncated = (
            [list(row) for row in self.token_ids for _ in range(times)],
            [list(row) for row in self.logprobs for _ in range(times)],
            [row for row in self.truncated for _ in range(times)],
        )

    def spell(self, uniform: Tensor, settings: _Settings) -> list[tuple[list[int], list[float]]]:
        """Way-points as text per row with their log-probabilities, up to and including `<|traj_future_end|>`."""
        ids, logs = ([[] for _ in self.token_ids] for _ in range(2))
        allowed = torch.from_numpy(spelling_allowed(self.model.config)).to(self.mask.device)
        self._write(ids, logs, uniform, allowed, "traj_future_end", settings.greedy_path, settings)
        return list(zip(ids, logs, strict=True))

    def _write(
        self, ids: list[list[int]], logs: list[list[float]], uniform: Tensor, allowed: Tensor, stop_name: str,
        greedy: Tensor, settings: _Settings,
    ) -> list[bool]:  # fmt: skip
        """Sample into `ids` and `logs` until every row has written the stop token, which is forced after as many tokens
        as there are `uniform` numbers; returns where it was forced."""
        stop, pad = self.model.config.id_of(stop_name), self.model.config.id_of("endoftext")
        done = torch.zeros(len(self.mask), dtype=torch.bool, device=self.mask.device)
        for step in range(uniform.shape[1] + 1):
            logprobs = permitted_logprobs(self.logits, allowed, settings.temperature)
            if step == uniform.shape[1]:
                token, forced = torch.full_like(self.position, stop), (~done).tolist()
            else:
                token, forced = pick(logprobs, uniform[:, step].to(done.device), settings.top_p, greedy), None
            _record(ids, logs, token, logprobs, done)
            self._feed(torch.where(done, pad, token), real=~done)
            done = done | (token == stop)
            if bool(done.all()):
                return forced or [False] * len(ids)
        raise AssertionError("the stop token was forced")

    def write_trajectory(self, uniform: Tensor, settings: _Settings) -> list[tuple[list[int], list[float]]]:
        """128 future bins per row with their log-probabilities, written after `<|traj_future_start|>`."""
        count = self.model.config.tokens_per_future_traj
        alive = torch.ones(len(self.mask), dtype=torch.bool, device=self.mask.device)
        expected = settings.greedy_path if bool(settings.greedy_path.any()) else None
        ids, logs = [], []
        for step in range(count):
            logprobs = permitted_logprobs(self.logits, self.model.get_buffer("future_allowed"), settings.temperature)
            token = pick(logprobs, uniform[:, step].to(alive.device), settings.top_p, settings.greedy_path)
            if expected is not None:
                token = torch.where(expected, self._middle_bin(), token)
            ids.append(token)
            logs.append(logprobs.gather(1, token[:, None])[:, 0])
            if step < count - 1:
                self._feed(token, real=alive)
        pairs = zip(torch.stack(ids, 1).tolist(), torch.stack(logs, 1).tolist(), strict=True)
        return [(row, log) for row, log in pairs]

    def _middle_bin(self) -> Tensor:
        """(N,) the bin nearest to the mean of what may come next.

        Bins are numbers: the likeliest of five hundred is one of many that are almost as likely, and writing it again
        and again brakes or steers for ever; the mean is where the model expects the car.
        """
        permitted = self.model.get_buffer("future_allowed")
        shares = permitted_logprobs(self.logits, permitted, 1.0).exp()
        ids = torch.arange(shares.shape[1], device=shares.device, dtype=shares.dtype)
        return (shares * ids).sum(-1).round().long()

    def beside(self, batch: PromptBatch, num_samples: int) -> _Decoding:
        """The same words after other prompts."""
        other = _Decoding(self.model, batch, num_samples, self.room)
        other.replay(self.token_ids)
        return other

    def replay(self, token_ids: Sequence[Sequence[int]]) -> None:
        """Write the words that other rows wrote."""
        pad = self.model.config.id_of("endoftext")
        for step in range(max(map(len, token_ids))):
            token = torch.tensor([row[step] if step < len(row) else pad for row in token_ids])
            real = torch.tensor([step < len(row) for row in token_ids])
            self._feed(token.to(self.mask.device), real.to(self.mask.device))

    def velocity(self) -> Velocity:
        """The decoder's velocity against what was written."""
        seen = self.mask.clone()
        if not self.model.config.mask_padding:
            seen[:, : self.prompt_columns] = True
        return self.model.flow_decoder(self.memory, Offsets(seen, self.position))

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


def _record(ids: list[list[int]], logs: list[list[float]], token: Tensor, logprobs: Tensor, done: Tensor) -> None:
    chosen = logprobs.gather(1, token[:, None])[:, 0].tolist()
    for row, (finished, value) in enumerate(zip(done.tolist(), token.tolist(), strict=True)):
        if not finished:
            ids[row].append(value)
            logs[row].append(chosen[row])


@dataclass(frozen=True)
class _Path:
    """One row's trajectory, however it was spoken; arrays as in `Generated`, xy for xyz."""

    xy: np.ndarray
    yaw: np.ndarray
    speed: np.ndarray
    actions: np.ndarray
    ids: list[int]
    logprobs: list[float]
    readable: bool = True


def _integrated(
    processor: StudentProcessor, action: Tensor, speeds: Tensor, drawn: list[tuple[list[int], list[float]]]
) -> list[_Path]:
    """Paths of normalised actions (N, 64, 2)."""
    raw = processor.action_space.denormalise(action)
    parts = (x.numpy() for x in (*processor.action_space.decode(raw, speeds), raw))
    return [_Path(*row, *spoken) for *row, spoken in zip(*parts, drawn, strict=True)]


def _spelt(processor: StudentProcessor, spoken: list[tuple[list[int], list[float]]], speeds: Tensor) -> list[_Path]:
    """Paths of way-points in text; straight ahead at the same speed where they cannot be read."""
    found = [processor.path_of(ids, float(speed)) for (ids, _), speed in zip(spoken, speeds, strict=True)]
    still = processor.action_space.normalise(torch.zeros(len(found), FUTURE_STEPS, 2))
    straight = _integrated(processor, still, speeds, spoken)
    paths = []
    for path, fallback, speed in zip(found, straight, speeds, strict=True):
        if path is None:
            paths.append(replace(fallback, readable=False))
            continue
        xy, yaw = (torch.from_numpy(x)[None].float() for x in (path.xy_in_rig_m, path.yaw_rad))
        actions = processor.action_space.encode(xy, yaw, speed[None])[0].numpy()
        paths.append(replace(fallback, xy=path.xy_in_rig_m, yaw=path.yaw_rad, speed=path.speed_mps, actions=actions))
    return paths


def _to_generated(
    processor: StudentProcessor,
    state: _Decoding,
    paths: list[_Path],
    noise: Tensor,
    samples: Sequence[Sample],
    num_samples: int,
) -> list[list[Generated]]:
    made = []
    for row, path in enumerate(paths):
        z = float(samples[row // num_samples].history_xyz_in_rig_m[-1, 2])
        xyz = np.column_stack([path.xy, np.full(len(path.xy), z)]).astype(np.float64)
        made.append(
            Generated(
                trace=processor.text_of(state.token_ids[row]), token_ids=state.token_ids[row],
                logprobs=state.logprobs[row], xyz_in_rig_m=xyz, yaw_rad=path.yaw, speed_mps=path.speed,
                actions=path.actions, noise=noise[row].numpy(), truncated=state.truncated[row],
                traj_token_ids=tuple(path.ids), traj_logprobs=tuple(path.logprobs), readable=path.readable,
            )
        )  # fmt: skip
    return [made[i : i + num_samples] for i in range(0, len(made), num_samples)]
