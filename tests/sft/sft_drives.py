"""Synthetic drives with a lesson in them: a red picture means braking, a blue one means going on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from causaldrive.clips.samples import cut_sample
from causaldrive.clips.store import write_recording
from causaldrive.clips.types import Camera, CameraTrack, EgoMotion, Recording
from causaldrive.label.store import write_labels
from causaldrive.label.trace import compose
from causaldrive.label.types import Cause, CocLabel
from causaldrive.student import checkpoint
from causaldrive.student.model import build
from causaldrive.student.presets import tiny
from causaldrive.student.processor import StudentProcessor
from causaldrive.student.statistics import fit_action_statistics
from causaldrive.student.text import train_tokenizer

WIDTH, HEIGHT = 64, 32
T0_US = (2_000_000, 2_400_000)
RED = Cause("traffic_light", "the traffic light ahead is red", "red_light", "light", 2_000_000)


def drive(number: int, seed: int | None = None) -> Recording:
    """A straight drive of 9.5 s; even numbers brake after 2 s, odd ones keep their speed."""
    t_s = np.arange(96) * 0.1
    start_mps = 6.0 + 0.5 * (number % 4)
    acceleration = np.where(t_s > 2.0, -1.0, 0.0) if number % 2 == 0 else np.zeros_like(t_s)
    speed = np.maximum(start_mps + np.cumsum(acceleration) * 0.1, 0.0)
    x = np.cumsum(speed) * 0.1
    zeros = np.zeros_like(x)
    t_us = (t_s * 1e6).round().astype(np.int64)
    ego = EgoMotion(
        t_us=t_us,
        position_in_local_m=np.stack([x, zeros, zeros], 1),
        quat_local_to_rig=np.tile([1.0, 0.0, 0.0, 0.0], (len(x), 1)),
        velocity_in_rig_mps=np.stack([speed, zeros, zeros], 1),
        acceleration_in_rig_mps2=np.stack([acceleration, zeros, zeros], 1),
        curvature_1pm=zeros,
    )
    camera = Camera("front", WIDTH, HEIGHT, 50.0, 50.0, WIDTH / 2, HEIGHT / 2, (1.5, 0.0, 1.4), (0.5, -0.5, 0.5, -0.5))
    meta = {} if seed is None else {"seed": seed}
    track = CameraTrack(camera, t_us[:60])
    return Recording(f"drive-{number:03d}", "town", "test", ego, {"front": track}, meta=meta)


def write_drive(directory: Path, number: int, seed: int | None = None) -> Recording:
    recording = drive(number, seed)
    colour = (200, 30, 30) if number % 2 == 0 else (30, 30, 200)
    images = (np.full((HEIGHT, WIDTH, 3), colour, np.uint8) for _ in range(60))
    write_recording(directory / recording.recording_id, recording, {"front": images})
    return recording


def label(number: int, t0_us: int, status: str = "accepted") -> CocLabel:
    stops = number % 2 == 0
    longitudinal, causes = ("stop_for_static_constraint", (RED,)) if stops else ("set_speed_tracking", ())
    trace = compose(longitudinal, "lane_keeping", None, causes)
    return CocLabel(f"drive-{number:03d}", t0_us, "periodic", longitudinal, "lane_keeping", None, causes, trace,
                    (), (), "expert", "", (), status)  # fmt: skip


def labels_of(count: int) -> list[CocLabel]:
    return [label(number, t0_us) for number in range(count) for t0_us in T0_US]


def write_data(root: Path, count: int) -> tuple[Path, Path]:
    """(recordings, labels.parquet) of `count` drives with two labels each."""
    for number in range(count):
        write_drive(root / "recordings", number)
    write_labels(root / "labels.parquet", labels_of(count))
    return root / "recordings", root / "labels.parquet"


def write_student(directory: Path) -> Path:
    """A student of two layers and 64 hidden units that sees 64 x 32 pixels."""
    samples = [cut_sample(drive(number), t0_us) for number in range(4) for t0_us in T0_US]
    tokenizer = train_tokenizer([row.trace for row in labels_of(2)], 320)
    frames = {"image_height_px": HEIGHT, "image_width_px": WIDTH}
    config = tiny(tokenizer, fit_action_statistics(samples), frames=frames, future_bins=65, history_bins=32)
    config.vlm_config["text_config"] |= {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                                         "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip
    config.vlm_config["vision_config"] |= {"hidden_size": 32, "intermediate_size": 64, "depth": 1, "num_heads": 2,
                                           "out_hidden_size": 64, "deepstack_visual_indexes": [0]}  # fmt: skip
    config.expert_cfg = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config.action_in_proj_cfg["hidden_size"] = 32
    checkpoint.save(directory, build(config, seed=0), StudentProcessor(tokenizer, config))
    return directory
