"""The drivers that are compared: two that need no model, the recorded or privileged one, and student checkpoints.

Reads checkpoints. Knows nothing of scores.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.files import read_json
from causaldrive.ground.words import FUTURE_STEPS, STEP_S
from causaldrive.rl.policy import PolicySettings, StudentPolicy
from causaldrive.student.checkpoint import load
from causaldrive.student.config import FrameSettings
from causaldrive.worlds.episode import Observation, Plan
from causaldrive.worlds.pool import ConstantVelocity

CONSTANT_VELOCITY, CONSTANT_TURN, EXPERT = "constant velocity", "constant turn", "expert"
BUILT_IN = (CONSTANT_VELOCITY, CONSTANT_TURN, EXPERT)
MODES = ("coc", "trajectory")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.+-]*")


@dataclass(frozen=True)
class StudentEntry:
    """A checkpoint under the name it has in the tables. `reason` False: it drives without writing a trace."""

    name: str
    path: Path
    reason: bool
    mode: str = "flow"  # how it draws its trajectories

    @property
    def frame_offsets_us(self) -> tuple[int, ...]:
        """When its frames are taken, relative to t0, from its config.json alone."""
        config = read_json(self.path / "config.json")
        frames = config.get("frames_cfg") if isinstance(config, dict) else None
        return tuple(round(1e6 * s) for s in (frames or {}).get("frame_offsets_s", FrameSettings().frame_offsets_s))

    def open(self, samples: int, seed: int) -> StudentPolicy:
        """The policy over the loaded checkpoint. Raises UserError when it cannot be loaded."""
        model, processor = load(self.path)
        return StudentPolicy(
            model,
            processor,
            PolicySettings(reason=self.reason, mode=self.mode, likeliest_first=True, num_samples=samples, seed=seed),
        )


def parse_students(entries: Sequence[str]) -> list[StudentEntry]:
    """Entries `name=path` or `name=path@trajectory`. Raises UserError for what cannot be read or is there twice."""
    students = [_parse(entry) for entry in entries]
    names = [student.name for student in students]
    for name in names:
        if name in BUILT_IN or names.count(name) > 1:
            raise UserError(f"--students: the name {name!r} is taken; give each student a name of its own.")
    return students


def _parse(entry: str) -> StudentEntry:
    name, equals, rest = entry.partition("=")
    path, _, mode = rest.partition("@")
    if not equals or not path or not _NAME.fullmatch(name):
        raise UserError(
            f"--students: found {entry!r}, expected name=path or name=path@trajectory, for example "
            "coc=runs/demo/sft-coc/checkpoint; names hold letters, digits, blanks and _.+- only."
        )
    if mode and mode not in MODES:
        raise unknown_name(f"--students: the mode of {name}", mode, MODES)
    if not (Path(path) / "config.json").exists():
        raise UserError(f"--students: {path} holds no config.json; expected a checkpoint directory for {name}.")
    return StudentEntry(name, Path(path), mode != "trajectory")


def constant_turn_plan(speed_mps: float, curvature_1pm: float) -> Plan:
    """Speed v and curvature kappa kept: x = sin(kappa v t) / kappa, y = (1 - cos(kappa v t)) / kappa."""
    ahead_m = speed_mps * STEP_S * np.arange(1, FUTURE_STEPS + 1)
    yaw = curvature_1pm * ahead_m
    half = np.sinc(yaw / (2 * np.pi))  # sin(yaw/2) / (yaw/2), sound at zero curvature
    xy = (ahead_m * half)[:, None] * np.stack([np.cos(yaw / 2), np.sin(yaw / 2)], axis=1)
    return Plan(xy, yaw)


class ConstantTurn:
    """Keeps speed and curvature."""

    def act(self, observations: Sequence[Observation]) -> list[Plan]:
        return [constant_turn_plan(o.speed_mps, o.curvature_1pm) for o in observations]


SIMPLE_POLICIES = {CONSTANT_VELOCITY: ConstantVelocity, CONSTANT_TURN: ConstantTurn}
