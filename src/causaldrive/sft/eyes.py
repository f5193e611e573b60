"""The `student see` stage: a student drawn from nothing first learns to see, from annotated recordings.

    loss = CE(kind) + 2 L1(measures) + 2 L1(ground) + 2 L1(path), on the image tokens; 0.3 of it on each deepstack level

A released backbone has seen millions of pictures; a new one has seen none, and a trace or a trajectory a picture tells
it too little to learn that from a few thousand samples. Here every image token has its own targets (see `sights`). The
heads that read them are thrown away; only the vision encoder's weights change. Reads a checkpoint and recordings;
writes a checkpoint, `metrics.jsonl` and `report.html`, and while it runs `state/` and `frames/`. Knows nothing of
labels.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from causaldrive.clips.store import read_recordings
from causaldrive.clips.types import Recording
from causaldrive.ground.errors import UserError
from causaldrive.ground.progress import Meter
from causaldrive.ground.runs import Run, open_run
from causaldrive.sft.dataset import refuse_held_out, validation_recordings
from causaldrive.sft.eyes_report import Shown, write_report
from causaldrive.sft.frames import FrameCache, FrameKey, open_cache
from causaldrive.sft.loader import Loader
from causaldrive.sft.optim import MuonAndAdamW, hidden_groups, learning_rate
from causaldrive.sft.order import SampleOrder
from causaldrive.sft.sight_heads import Batch, Crew, Eyes, crew_of, write_gradients
from causaldrive.sft.sights import KINDS, SCALES, Sight, sights_of
from causaldrive.sft.state import TrainState, restore_state, save_state
from causaldrive.student import checkpoint
from causaldrive.student.config import FrameSettings
from causaldrive.student.images import patches, target_size


@dataclass(frozen=True)
class EyesConfig:
    """Teach a new student's vision encoder what is where, from annotated recordings with video."""

    student: Path  # checkpoint directory to start from
    recordings: Path  # recordings with video and agents, a map or lights (training seeds only)
    out: Path  # run directory; the result is its `checkpoint`
    steps: int = 1000  # optimizer steps
    batch_size: int = 8  # pictures an optimizer step; many small steps learn more than few large ones
    threads: int = 1  # on a CPU: each computes its share of a step's pictures, which small networks gain from
    learning_rate: float = 3e-3  # highest rate, after warm-up
    final_rate: float = 0.02  # share of the highest rate that the cosine ends at
    warmup_steps: int = 40  # linear warm-up
    weight_decay: float = 0.01  # of matrices
    every_s: float = 0.5  # between two pictures of a recording
    most_pictures: int = 16_000  # evenly thinned out to this many
    brightness: float = 0.3  # pictures are made up to this much brighter or darker, and a third of it in colour
    seed: int = 0  # of picture order, brightness and the heads' first weights
    eval_every: int = 500  # steps between two looks at recordings that are held back
    eval_pictures: int = 384  # of these looks
    save_every: int = 250  # steps between resumable states

    def validate(self) -> None:
        """Raises UserError for a number out of range."""
        for name in ("steps", "batch_size", "threads", "learning_rate", "every_s", "most_pictures", "eval_every",
                     "save_every"):  # fmt: skip
            if getattr(self, name) <= 0:
                option = "--" + name.replace("_", "-")
                raise UserError(f"student see: {option} is {getattr(self, name)}, a number above 0 expected.")
        if not 0 <= self.brightness < 1:
            raise UserError(f"student see: --brightness is {self.brightness}, a share from 0 to below 1 expected.")


@dataclass(frozen=True)
class Picture:
    """One moment of one camera."""

    recording: Recording
    camera: str
    t_us: int
    keys: tuple[FrameKey, ...]  # one frame, or the two of a pair, oldest first


class PictureSet:
    """Pictures with their targets by index."""

    def __init__(self, pictures: Sequence[Picture], cache: FrameCache, settings: FrameSettings, columns: int):
        self.pictures, self.cache, self.settings, self.columns = pictures, cache, settings, columns
        self.sights: list[Sight] = []

    def look(self, rows: int) -> None:
        """Make every picture's targets."""
        with Meter("targets", len(self.pictures), "pictures") as meter:
            for _, group in groupby(self.pictures, key=lambda picture: (id(picture.recording), picture.camera)):
                alike = list(group)
                times_us = [picture.t_us for picture in alike]
                self.sights += sights_of(alike[0].recording, alike[0].camera, times_us, rows, self.columns)
                meter.advance(len(alike))

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def classes(self) -> list[tuple[int, ...]]:
        """The kinds of things in each picture: what sampling is balanced over."""
        return [tuple(np.unique(sight.kind).tolist()) for sight in self.sights]

    def batch(self, indices: Sequence[int], brightness: float = 0.0, rng: np.random.Generator | None = None) -> Batch:
        frames = np.stack([[self.cache.frame(key) for key in self.pictures[i].keys] for i in indices])
        if rng is not None and brightness:
            frames = _relit(frames, brightness, rng)
        flat, grid = patches(frames.reshape(-1, *frames.shape[2:]), self.settings)
        sights = [self.sights[i] for i in indices]
        made = (np.stack([getattr(s, name) for s in sights]) for name in ("kind", "measures", "ground", "path"))
        return Batch(torch.from_numpy(flat), torch.tensor([grid] * len(indices)), *map(torch.from_numpy, made))


def _relit(frames: np.ndarray, most: float, rng: np.random.Generator) -> np.ndarray:
    """Frames (B, F, H, W, 3) under another light: level <- gain * tint * level + shift, drawn for each picture."""
    count = len(frames)
    gain = rng.uniform(1 - most, 1 + most, (count, 1, 1, 1, 1)) * rng.uniform(
        1 - most / 3, 1 + most / 3, (count, 1, 1, 1, 3)
    )
    shift = rng.uniform(-64 * most, 64 * most, (count, 1, 1, 1, 1))
    return np.clip(frames * gain.astype(np.float32) + shift.astype(np.float32), 0, 255).astype(np.uint8)


def run(config: EyesConfig) -> None:
    """Train and write `config.out/checkpoint`. Raises UserError for settings or recordings that cannot be used."""
    config.validate()
    with open_run(
        config.out, "student see", config, {"student": config.student, "recordings": config.recordings}
    ) as found:
        if found.done:
            return
        model, processor = checkpoint.load(config.student)
        train, held = open_pictures(config, model.config.frames())
        print(f"student see: {len(train)} pictures to learn from, {len(held)} held back", flush=True)
        eyes = Eyes(model.float(), train.sights[0].kind.size, config.seed)
        seen = teach(eyes, train, held, config, found)
        card = f"## Eyes\n\nVision encoder taught on {len(train)} annotated pictures, {config.steps} steps.\n"
        checkpoint.save(config.out / "checkpoint", model.eval(), processor, card)
        found.record["seen"] = seen
        write_report(config.out / "report.html", found.metrics(), seen, look_again(eyes, held))
    for name in ("state", "frames"):
        shutil.rmtree(config.out / name, ignore_errors=True)


def open_pictures(config: EyesConfig, settings: FrameSettings) -> tuple[PictureSet, PictureSet]:
    """Pictures to learn from, and those of every 12th recording. Raises UserError when there is none."""
    sound, aside = read_recordings(config.recordings)
    for entry in aside:
        print(f"student see: set aside: {entry.reason}", flush=True)
    refuse_held_out(sound)
    annotated = [r for r in sound if r.cameras and (r.agents or r.lights or r.route_xy_in_local_m is not None)]
    pictures = [p for recording in annotated for p in _pictures(recording, settings, config.every_s)]
    if not pictures:
        raise UserError(
            f"{config.recordings} has no picture with agents, lights or a route beside it in {len(sound)} recordings; "
            "annotated recordings with video expected, so record some with `causaldrive worlds record`."
        )
    kept = np.linspace(0, len(pictures) - 1, min(config.most_pictures, len(pictures))).round().astype(int)
    pictures = [pictures[i] for i in kept]
    plan: dict[tuple[str, str], set[int]] = {}
    for picture in pictures:
        for recording_id, camera, number in picture.keys:
            plan.setdefault((recording_id, camera), set()).add(number)
    by_id = {recording.recording_id: recording for recording in annotated}
    cache = open_cache(config.out / "frames", by_id, {video: sorted(n) for video, n in plan.items()}, settings)
    pictures = [picture for picture in pictures if picture.recording.recording_id not in cache.broken]
    held = validation_recordings(picture.recording.recording_id for picture in pictures)
    size = target_size(*_first_size(pictures[0]), settings)
    rows, columns = (side // (settings.patch_size * settings.merge_size) for side in size)
    sets = []
    for is_held in (False, True):
        chosen = [p for p in pictures if (p.recording.recording_id in held) == is_held]
        sets.append(PictureSet(chosen, cache, settings, columns))
        sets[-1].look(rows)
    return sets[0], sets[1]


def _first_size(picture: Picture) -> tuple[int, int]:
    camera = picture.recording.cameras[picture.camera].camera
    return camera.height_px, camera.width_px


def _pictures(recording: Recording, settings: FrameSettings, every_s: float) -> list[Picture]:
    """Every `every_s` of every camera: the frame, and the one before it that fills the same patch."""
    offsets_us = settings.frame_offsets_us[-2:] if settings.pair_frames else settings.frame_offsets_us[-1:]
    pictures = []
    for name in settings.camera_names or tuple(recording.cameras):
        if name not in recording.cameras:
            continue
        number_of = {int(t): number for number, t in enumerate(recording.cameras[name].t_us)}
        due_us = -math.inf
        for t_us in number_of:
            times = [t_us + offset for offset in offsets_us]
            if t_us < due_us or not all(time in number_of for time in times):
                continue
            due_us = t_us + 1e6 * every_s
            keys = tuple((recording.recording_id, name, number_of[time]) for time in times)
            pictures.append(Picture(recording, name, t_us, keys))
    return pictures


def teach(eyes: Eyes, train: PictureSet, held: PictureSet, config: EyesConfig, run: Run) -> dict[str, float | None]:
    """All steps, from the newest state on; returns what `judge` found last. Raises UserError for a loss that is NaN."""
    eyes.train()
    seen: dict[str, float | None] = {}
    state = TrainState(eyes, _optimizer(eyes, config), torch.Generator())
    states = config.out / "state"
    restore_state(states, state)
    run.keep_metrics(lambda line: 0 < state.step >= line["step"])
    order = SampleOrder(train.classes, config.seed)

    def make(step: int) -> Batch:
        rng = np.random.default_rng([config.seed, 11, step])
        return train.batch(order.batch(step, config.batch_size), config.brightness, rng)

    loader = Loader(make, range(state.step, config.steps))
    with Meter("student see", config.steps, "steps", done=state.step) as meter, crew_of(config.threads) as crew:
        for batch in loader:
            row = _step(eyes, batch, state, config, crew)
            meter.advance(1, loss=row["loss"])
            run.log(split="train", step=state.step, **row)
            if held and (state.step % config.eval_every == 0 or state.step == config.steps):
                seen = judge(eyes, held, config)
                run.log(split="validation", step=state.step, **seen)
            if state.step % config.save_every == 0 and state.step < config.steps:
                save_state(states, state)
    return seen


def _optimizer(eyes: Eyes, config: EyesConfig) -> MuonAndAdamW:
    """Muon on the encoder's matrices, AdamW on the rest, as in `sft`."""
    hidden = [p for name, p in eyes.visual.named_parameters() if p.ndim == 2 and "pos_embed" not in name]
    taken = {id(p) for p in hidden}
    rest = [p for p in eyes.parameters() if id(p) not in taken and p.requires_grad]
    adam = torch.optim.AdamW(rest, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    return MuonAndAdamW(hidden_groups(hidden, eyes), adam, config)


def _step(eyes: Eyes, batch: Batch, state: TrainState, config: EyesConfig, crew: Crew) -> dict[str, float]:
    started = time.perf_counter()
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(config, state.step)
    values = write_gradients(eyes, batch, crew)
    norm = float(torch.nn.utils.clip_grad_norm_(eyes.parameters(), 1.0))
    if not (math.isfinite(norm) and math.isfinite(values["loss"])):
        raise UserError(
            f"student see: the loss of step {state.step + 1} is not a finite number; lower --learning-rate (now "
            f"{config.learning_rate:g}) and run again."
        )
    state.optimizer.step()
    state.step += 1
    return values | {"pictures_per_s": len(batch.grids) / (time.perf_counter() - started)}


@torch.no_grad()
def judge(eyes: Eyes, held: PictureSet, config: EyesConfig) -> dict[str, float | None]:
    """On pictures held back: recall and precision of each kind, and mean errors in metres."""
    eyes.eval()
    indices = np.linspace(0, len(held) - 1, min(config.eval_pictures, len(held))).round().astype(int).tolist()
    table = np.zeros((len(KINDS), len(KINDS)))
    errors: dict[str, list[Tensor]] = {"ground_m": [], "path_m": [], "offset_m": []}
    for start in range(0, len(indices), config.batch_size):
        batch = held.batch(indices[start : start + config.batch_size])
        kind, _, ground, path = eyes.heads[0](eyes.levels(batch)[0])
        np.add.at(table, (batch.kind.flatten().numpy(), kind.argmax(-1).flatten().numpy()), 1)
        errors["ground_m"].append((ground - batch.ground).abs().flatten() * SCALES["ground"])
        errors["path_m"].append((path - batch.path)[:, :-1].abs().flatten() * SCALES["path"])
        errors["offset_m"].append((path - batch.path)[:, -1].abs() * SCALES["offset"])
    eyes.train()
    found: dict[str, float | None] = {}
    for name, parts in errors.items():
        known = torch.cat(parts)
        known = known[known.isfinite()]
        found[name] = float(known.mean()) if len(known) else None
    for k, name in enumerate(KINDS):
        found[f"recall {name}"] = float(table[k, k] / table[k].sum()) if table[k].sum() else None
        found[f"precision {name}"] = float(table[k, k] / table[:, k].sum()) if table[:, k].sum() else None
    return found


@torch.no_grad()
def look_again(eyes: Eyes, held: PictureSet, count: int = 12) -> list[Shown]:
    """Pictures held back, evenly spread, with the kinds that are in their cells and those that were seen."""
    if not len(held):
        return []
    indices = np.linspace(0, len(held) - 1, min(count, len(held))).round().astype(int).tolist()
    batch = held.batch(indices)
    seen = eyes.heads[0](eyes.levels(batch)[0])[0].argmax(-1)
    shape = (-1, held.columns)
    return [
        Shown(held.cache.frame(held.pictures[i].keys[-1]), true.reshape(shape).numpy(), found.reshape(shape).numpy())
        for i, true, found in zip(indices, batch.kind, seen, strict=True)
    ]
