"""The student at the wheel: observations in, plans out.

A row's random numbers come from (seed, scene, member, time) alone, so a drive does not depend on which other drives
share its batch. Reads a loaded model and processor. Knows nothing of rewards or training.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from causaldrive.clips.types import Sample
from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.student.config import StudentConfig
from causaldrive.student.generate import MODES, Generated, generate
from causaldrive.student.model import CausalDriveModel
from causaldrive.student.processor import StudentProcessor
from causaldrive.worlds.episode import DriveSettings, Observation, Plan


@dataclass(frozen=True)
class PolicySettings:
    """How a student speaks and plans."""

    reason: bool = True  # False: the trajectory-only student
    mode: str = "flow"  # 'flow', 'tokens' or 'text': which part of the student draws the trajectory
    temperature: float = 0.6
    top_p: float = 0.98
    greedy: bool = False
    greedy_path: bool = False  # the likeliest trajectory for the words that were drawn
    one_thought: bool = False  # all samples have the first one's words; greedy_path is for the first alone
    likeliest_first: bool = False  # the sample that is driven is the likeliest in both; the others are drawn
    path_coherence: float = 0.0  # how far the drawn tokens of a path lean one way together
    mirror_paths: bool = False  # paths 1 and 2, 3 and 4, ... are drawn to opposite sides
    num_samples: int = 1  # the first is driven, all are kept for pictures
    flow_steps: int = 10
    noise_temperature: float = 0.6  # of the starting noise: less than 1 drives nearer to the most likely path
    max_trace_tokens: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown_name("policy mode", self.mode, MODES)
        if self.num_samples < 1:
            raise UserError(f"num_samples is {self.num_samples}, expected at least 1; ask for one sample or more.")


class StudentPolicy:
    """worlds.episode.Policy over a loaded student. `Plan.notes` holds the driven sample's Generated ('generated') and
    those of the other samples ('others')."""

    def __init__(
        self,
        model: CausalDriveModel,
        processor: StudentProcessor,
        settings: PolicySettings,
        autocast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    ):
        """`autocast` makes the context that the networks compute in; float32 by default."""
        self.model, self.processor, self.settings, self.autocast = model, processor, settings, autocast

    def act(self, observations: Sequence[Observation]) -> list[Plan | Exception]:
        """One plan per observation, or the exception that kept the student from planning it."""
        return self.plan(observations, [0] * len(observations))

    def plan(self, observations: Sequence[Observation], members: Sequence[int]) -> list[Plan | Exception]:
        """Like `act`; `members` tells apart drives of one scene, so that each draws its own random numbers."""
        rows = list(zip(observations, members, strict=True))
        if not rows:
            return []
        try:
            with self.autocast():
                return self._plan(rows)
        except Exception as error:  # one row must not take the others down: find out which one it is
            if len(rows) == 1:
                return [error]
            return [self.plan([observation], [member])[0] for observation, member in rows]

    def _plan(self, rows: list[tuple[Observation, int]]) -> list[Plan | Exception]:
        s = self.settings
        generated = generate(
            self.model,
            self.processor,
            [sample_of(observation, self.processor.config) for observation, _ in rows],
            num_samples=s.num_samples,
            seed=[row_seed(s.seed, observation, member) for observation, member in rows],
            reason=s.reason,
            temperature=s.temperature,
            top_p=s.top_p,
            greedy=s.greedy,
            greedy_path=s.greedy_path,
            one_thought=s.one_thought,
            path_coherence=s.path_coherence,
            mirror_paths=s.mirror_paths,
            likeliest_first=s.likeliest_first,
            max_trace_tokens=s.max_trace_tokens,
            flow_steps=s.flow_steps,
            mode=s.mode,
            noise_temperature=s.noise_temperature,
        )
        return [_plan_or_error(samples) for samples in generated]


def _plan_or_error(samples: Sequence[Generated]) -> Plan | Exception:
    """The plan of the samples whose path can be read, or why there is none."""
    readable = [sample for sample in samples if sample.readable]
    return plan_of(readable) if readable else UserError("none of the student's answers spells a path that can be read.")


def plan_of(samples: Sequence[Generated]) -> Plan:
    """The first sample as the plan to drive; all of them for pictures when there are several."""
    first = samples[0]
    several = yaws = None
    if len(samples) > 1:
        several = np.stack([sample.xyz_in_rig_m[:, :2] for sample in samples]).astype(float)
        yaws = np.stack([sample.yaw_rad for sample in samples]).astype(float)
    xy, yaw = np.asarray(first.xyz_in_rig_m)[:, :2], np.asarray(first.yaw_rad)
    notes = {"generated": first, "others": samples[1:]}
    return Plan(xy.astype(float), yaw.astype(float), first.trace, several, yaws, notes)


def row_seed(seed: int, observation: Observation, member: int = 0) -> int:
    """A non-negative 63-bit seed from (seed, scene, member, time)."""
    scene = zlib.crc32(observation.scene_id.encode())
    state = np.random.SeedSequence([seed, scene, member, observation.t_us]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def sample_of(observation: Observation, config: StudentConfig) -> Sample:
    """What the student sees at one decision step, under its first camera's name."""
    frames = config.frames()
    names = frames.camera_names[:1] or ("front",)
    return Sample(
        recording_id=observation.scene_id,
        t0_us=observation.t_us,
        frames=None if observation.frames is None else observation.frames[None],
        camera_names=names,
        frame_offsets_us=frames.frame_offsets_us,
        history_xyz_in_rig_m=observation.history_xyz_in_rig_m,
        history_yaw_rad=observation.history_yaw_rad,
        future_xyz_in_rig_m=None,
        future_yaw_rad=None,
    )


def drive_settings_of(config: StudentConfig, duration_s: float, decision_every_s: float) -> DriveSettings:
    """Drives whose observations hold the frames that this student expects."""
    offsets = config.frames().frame_offsets_s
    return DriveSettings(decision_every_s=decision_every_s, duration_s=duration_s, frame_offsets_s=offsets)
