"""A world small enough for tests: a straight road, and a picture that says what is true.

A red picture means stopping for a red light, a blue one a clear road. Same types as the town; runs in-process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from causaldrive.clips.types import Sample
from causaldrive.ground.words import STEP_US
from causaldrive.label.trace import compose
from causaldrive.label.types import Cause
from causaldrive.rl.engines import ENGINES
from causaldrive.rl.policy import StudentPolicy
from causaldrive.rl.rollouts import Job, Rollout, roll
from causaldrive.student import checkpoint
from causaldrive.student.model import CausalDriveModel, build
from causaldrive.student.presets import tiny
from causaldrive.student.processor import StudentProcessor
from causaldrive.student.statistics import fit_action_statistics
from causaldrive.student.text import train_tokenizer
from causaldrive.worlds.episode import (
    WARM_UP_S,
    DecisionRecord,
    DriveSettings,
    EpisodeResult,
    Observation,
    Plan,
    Shown,
    plan_speeds,
)
from causaldrive.worlds.explanation import Explanation, Factor
from causaldrive.worlds.pool import BrokenScene, Reply
from causaldrive.worlds.scenes import SceneSpec
from causaldrive.worlds.scoring import Event, score_drive
from causaldrive.worlds.state import AgentArrays, EgoState, LightArrays, WorldState

WIDTH, HEIGHT = 64, 32
START_MPS = 8.0
ROUTE_XY_M = np.array([[-100.0, 0.0], [1000.0, 0.0]])
LIGHT = Factor("red_light", "light", 0, -2.0, 0.0, "the traffic light ahead is red")
STOP = Explanation("stop_for_static_constraint", "lane_keeping", None, (LIGHT,), (), -2.0, 0.0)
GO = Explanation("set_speed_tracking", "lane_keeping", None, (), (), 0.0, 0.0)
SENTENCES = (
    compose("stop_for_static_constraint", "lane_keeping", None, [Cause("traffic_light", LIGHT.text, "red_light")]),
    compose("set_speed_tracking", "lane_keeping", None, []),
)


def picture(red: bool) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), (200, 30, 30) if red else (30, 30, 200), np.uint8)


def state_at(tick: int, x_m: float, speed_mps: float, acceleration_mps2: float = 0.0) -> WorldState:
    ego = EgoState(np.array([x_m, 0.0]), 0.0, speed_mps, acceleration_mps2)
    return WorldState(tick * STEP_US, ego, AgentArrays(), LightArrays())


def coasting(count: int, speed_mps: float = START_MPS) -> list[WorldState]:
    return [state_at(i, i * speed_mps * 0.1, speed_mps) for i in range(count)]


def straight_plan(speed_mps: float, acceleration_mps2: float = 0.0) -> Plan:
    t_s = np.arange(1, 65) * 0.1
    speeds = np.maximum(speed_mps + acceleration_mps2 * t_s, 0.0)
    return Plan(np.stack([np.cumsum(speeds) * 0.1, np.zeros(64)], 1), np.zeros(64))


def decision(tick: int, plan: Plan, speed_mps: float, text: str, truth: Explanation) -> DecisionRecord:
    others = plan.samples_xy_in_rig_m
    offsets = None if others is None else np.pad(others[..., 1], ((0, 0), (1, 0)))  # the road runs along x
    return DecisionRecord(tick, tick * STEP_US, text, truth, plan_speeds(plan, speed_mps), plan.xy_in_rig_m,
                          plan.yaw_rad, np.zeros(65), others, offsets)  # fmt: skip


def episode(states: Sequence[WorldState], events: Sequence[Event] = (), texts: Sequence[str] = (), truth=GO):
    """A finished drive of these states, with a decision every five ticks after the warm-up."""
    warm = round(WARM_UP_S * 10)
    ticks = range(warm, len(states) - 1, 5)
    said = [texts[i % len(texts)] if texts else SENTENCES[1] for i in range(len(ticks))]
    made = [decision(tick, straight_plan(states[tick].ego.speed_mps), states[tick].ego.speed_mps, text, truth)
            for tick, text in zip(ticks, said, strict=True)]  # fmt: skip
    score = score_drive(list(events), list(states[warm:]), ROUTE_XY_M, 50.0)
    return EpisodeResult(SceneSpec("red_light", 1), list(states), made, list(events), score)


class ToyDrive:
    """One drive: follows each plan's first five way-points along the road."""

    def __init__(self, spec: SceneSpec, settings: DriveSettings):
        self.spec, self.settings = spec, settings
        self.red = spec.seed % 2 == 0
        self.states = coasting(round(WARM_UP_S * 10) + 1)
        self.decisions: list[DecisionRecord] = []

    def observe(self) -> Observation:
        now = self.states[-1]
        x_m = np.array([s.ego.xy_in_local_m[0] for s in self.states[-16:]]) - now.ego.xy_in_local_m[0]
        frames = np.stack([picture(self.red)] * len(self.settings.frame_offsets_s))
        history = np.stack([x_m, np.zeros(16), np.zeros(16)], 1)
        return Observation(self.spec.scene_id, now.t_us, frames, history, np.zeros(16), now.ego.speed_mps, 0.0, 0.0,
                           STOP if self.red else GO)  # fmt: skip

    def advance(self, plan: Plan | Exception) -> Reply:
        problem = f"{type(plan).__name__}: {plan}" if isinstance(plan, Exception) else plan.problem()
        if problem is not None or isinstance(plan, Exception):
            return EpisodeResult(self.spec, self.states, self.decisions, [], None, str(problem), "failure")
        start, tick = self.states[-1].ego, len(self.states) - 1
        made = decision(tick, plan, start.speed_mps, plan.text, STOP if self.red else GO)
        self.decisions.append(replace(made, shown=self._shown(start.speed_mps)))
        steps = np.clip(np.diff(plan.xy_in_rig_m[:5, 0], prepend=0.0), 0.0, 2.0)
        for metres in steps:
            before = self.states[-1].ego
            self.states.append(state_at(len(self.states), before.xy_in_local_m[0] + metres, metres / 0.1))
        if len(self.states) - 1 < round(self.settings.duration_s * 10):
            return self.observe()
        score = score_drive([], self.states[round(WARM_UP_S * 10) :], ROUTE_XY_M, START_MPS * 4)
        return EpisodeResult(self.spec, self.states, self.decisions, [], score)

    def _shown(self, speed_mps: float) -> Shown | None:
        way = straight_plan(speed_mps, -3.0 if self.red else 0.0)
        return Shown(way.xy_in_rig_m, way.yaw_rad, np.zeros(65)) if self.settings.show_expert else None


class ToyPool:
    """worlds.pool.WorldPool in-process over ToyDrive; scenes whose seed is in `broken` cannot be opened."""

    def __init__(self, settings: DriveSettings, broken: frozenset[int] = frozenset()):
        self.settings, self.broken = settings, broken
        self.drives: dict[int, ToyDrive] = {}

    def start(self, jobs: Sequence[tuple[int, SceneSpec]]) -> dict[int, Reply]:
        replies: dict[int, Reply] = {}
        for key, spec in jobs:
            if spec.seed in self.broken:
                replies[key] = BrokenScene("the road is missing")
            else:
                self.drives[key] = ToyDrive(spec, self.settings)
                replies[key] = self.drives[key].observe()
        return replies

    def advance(self, plans: Sequence[tuple[int, Plan | Exception]]) -> dict[int, Reply]:
        return {key: self.drives[key].advance(plan) for key, plan in plans}


class ToyEngine:
    """An engine of its own, as Ray's will be: the same interface over another place to drive."""

    def __init__(self, settings: DriveSettings, workers: int, batch: int):
        self.pool, self.batch = ToyPool(settings), batch
        self.jobs: list[Job] = []

    def load(self, policy: StudentPolicy) -> None:
        self.policy = policy

    def submit(self, jobs: Sequence[Job], label: str) -> None:
        self.jobs += jobs

    def results(self) -> list[Rollout]:
        jobs, self.jobs = self.jobs, []
        return roll(jobs, self.policy, self.pool, self.batch, "toy")  # type: ignore[arg-type]

    def close(self) -> None:
        self.pool.drives.clear()


def use_toy_engine() -> None:
    ENGINES["toy"] = ToyEngine


def toy_sample(red: bool, speed_mps: float = START_MPS) -> Sample:
    """A training sample of this world: red brakes, blue goes on."""
    x_m = np.arange(-15, 1) * speed_mps * 0.1
    future = straight_plan(speed_mps, -2.0 if red else 0.0).xy_in_rig_m
    return Sample(
        "toy", 0, np.stack([picture(red)] * 2)[None], ("front",), (-400_000, 0),
        np.stack([x_m, np.zeros(16), np.zeros(16)], 1), np.zeros(16), np.column_stack([future, np.zeros(64)]),
        np.zeros(64),
    )  # fmt: skip


def make_student(seed: int = 0) -> tuple[CausalDriveModel, StudentProcessor]:
    """Two layers, 64 hidden units, untrained."""
    samples = [toy_sample(red, speed) for red in (True, False) for speed in (4.0, 8.0, 12.0)]
    tokenizer = train_tokenizer(SENTENCES, 320)
    frames = {"image_height_px": HEIGHT, "image_width_px": WIDTH}
    config = tiny(tokenizer, fit_action_statistics(samples), frames=frames, future_bins=65, history_bins=32)
    config.vlm_config["text_config"] |= {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                                         "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
    config.vlm_config["vision_config"] |= {"hidden_size": 32, "intermediate_size": 64, "depth": 1, "num_heads": 2,
                                           "out_hidden_size": 64, "deepstack_visual_indexes": [0]}  # fmt: skip
    config.expert_cfg = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config.action_in_proj_cfg["hidden_size"] = 32
    return build(config, seed), StudentProcessor(tokenizer, config)


def write_speaking_student(directory: Path, steps: int = 100) -> Path:
    """A student that writes one of the two sentences, and has seen each with either picture equally often."""
    model, processor = make_student()
    rows = [(toy_sample(red), sentence) for red in (True, False) for sentence in SENTENCES] * 2
    batch = processor.training([sample for sample, _ in rows], [text for _, text in rows])
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    model.train()
    for _ in range(steps):
        losses = model.forward_training(batch, generator)
        (losses["text_loss"] + 0.3 * losses["traj_loss"] + losses["flow_loss"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    checkpoint.save(directory, model.eval(), processor)
    return directory
