"""Synthetic drives and a small, lively student for the tests of this room."""

from __future__ import annotations

import numpy as np
import torch

from causaldrive.clips.types import Sample
from causaldrive.student import model as models
from causaldrive.student.presets import ActionStatistics, tiny
from causaldrive.student.processor import StudentProcessor
from causaldrive.student.text import train_tokenizer

HEIGHT_PX, WIDTH_PX = 64, 96
TRACES = (
    "Slow down because a lead vehicle ahead is braking.",
    "Keep lane and speed because the road is clear.",
    "Nudge left to pass the stopped vehicle on the right.",
    "Stop because the traffic light is red.",
)
STATISTICS = ActionStatistics(0.1, 1.0, 0.001, 0.03, (-4.1, -5.0), (3.9, 4.9))


def arc(speed_mps: float, curvature_1pm: float, accel_mps2: float = 0.0) -> np.ndarray:
    """(80, 3) x, y, yaw of a drive along a circle at t0 - 1.5 s ... t0 + 6.4 s, in the rig frame at t0."""
    t = np.arange(-15, 65) * 0.1
    along = speed_mps * t + 0.5 * accel_mps2 * t**2
    yaw = curvature_1pm * along
    safe = curvature_1pm if abs(curvature_1pm) > 1e-9 else 1e-9
    return np.stack([np.sin(safe * along) / safe, (1 - np.cos(safe * along)) / safe, yaw], axis=1)


def make_sample(index: int, frames: bool = True, future: bool = True) -> Sample:
    """A drive with its own speed, curve and noise image."""
    rng = np.random.default_rng(index)
    path = arc(rng.uniform(1, 14), rng.uniform(-0.04, 0.04), rng.uniform(-0.5, 1.0))
    xyz = np.column_stack([path[:, :2], np.zeros(80)])
    images = rng.integers(0, 255, (1, 2, HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8) if frames else None
    return Sample(
        f"drive{index}", 0, images, ("front",) if frames else (), (-400_000, 0), xyz[:16], path[:16, 2],
        xyz[16:] if future else None, path[16:, 2] if future else None,
    )  # fmt: skip


def make_student(seed: int = 0, lively: bool = True) -> tuple[models.CausalDriveModel, StudentProcessor]:
    """The tiny preset with small images; `lively` weights are three times as large, so that inputs matter."""
    tokenizer = train_tokenizer([*TRACES, "You drive.", "Reason, then drive."] * 3, 400)
    frames = {"image_height_px": HEIGHT_PX, "image_width_px": WIDTH_PX}
    config = tiny(tokenizer, STATISTICS, frames=frames)
    model = models.build(config, seed)
    if lively:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(3)
    return model.eval(), StudentProcessor(tokenizer, config)
