"""Drives of own cameras for the tests: a winding road, its poses as CSV, a textured panorama as its video."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from causaldrive.clips.video import encode_video

WIDTH, HEIGHT, FOCAL = 320, 160, 250.0


@dataclass
class Drive:
    """Poses at 20 Hz and frames at 10 Hz, on one clock."""

    t_s: np.ndarray
    xy_m: np.ndarray
    yaw_rad: np.ndarray
    speed_mps: np.ndarray
    frame_t_s: np.ndarray

    def yaw_at(self, t_s: np.ndarray) -> np.ndarray:
        return np.interp(t_s, self.t_s, self.yaw_rad)


def winding(seconds: float = 14.0, start_yaw: float = 0.5, seed: int = 0) -> Drive:
    """8 to 13 m/s through bends that never repeat."""
    generator = np.random.default_rng(seed)
    t = np.arange(round(seconds * 20) + 1) * 0.05
    phase = generator.uniform(0, 6, 3)
    rate = 0.16 * np.sin(0.9 * t + phase[0]) + 0.1 * np.sin(2.1 * t + phase[1])
    speed = 10.5 + 2.5 * np.sin(0.5 * t + phase[2])
    yaw = start_yaw + np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * 0.05)])
    mid, heading = (speed[1:] + speed[:-1]) / 2 * 0.05, (yaw[1:] + yaw[:-1]) / 2
    steps = np.stack([mid * np.cos(heading), mid * np.sin(heading)], axis=1)
    return Drive(t, np.concatenate([[[0, 0]], np.cumsum(steps, axis=0)]), yaw, speed, np.arange(0, seconds, 0.1))


def write_poses(directory: Path, drive: Drive, **columns: np.ndarray) -> Path:
    """`poses.csv`; a column given by name replaces or joins those of the drive, None leaves one out."""
    directory.mkdir(parents=True, exist_ok=True)
    table = {"t_s": drive.t_s + 100.0, "x_m": drive.xy_m[:, 0], "y_m": drive.xy_m[:, 1], "yaw_rad": drive.yaw_rad,
             "speed_mps": drive.speed_mps, **columns}  # fmt: skip
    table = {name: value for name, value in table.items() if value is not None}
    lines = [",".join(table), *(",".join(f"{v:.9f}" for v in row) for row in zip(*table.values(), strict=True))]
    (directory / "poses.csv").write_text("\n".join(lines) + "\n")
    return directory


def write_video(directory: Path, drive: Drive, offset_s: float = 0.0, mirrored: bool = False) -> None:
    """`front.mp4` of a far panorama that turns with the car; `front.csv` holds its times, `offset_s` late."""
    generator = np.random.default_rng(1)
    noise = generator.integers(0, 255, (HEIGHT, 4000), dtype=np.uint8)
    panorama = cv2.GaussianBlur(noise, (0, 0), 2.0)
    panorama = cv2.normalize(panorama, None, 0, 255, cv2.NORM_MINMAX)
    images = []
    for yaw in drive.yaw_at(drive.frame_t_s):
        angle = np.arctan((np.arange(WIDTH) - WIDTH / 2) / FOCAL)
        columns = (2000 + FOCAL * (angle - (-yaw if mirrored else yaw))).astype(np.float32)
        rows = np.repeat(np.arange(HEIGHT, dtype=np.float32)[:, None], WIDTH, axis=1)
        grey = cv2.remap(panorama, np.repeat(columns[None], HEIGHT, axis=0), rows, cv2.INTER_LINEAR)
        images.append(np.repeat(grey[..., None], 3, axis=2))
    encode_video(directory / "front.mp4", images, Fraction(10), "front.mp4")
    lines = [f"{t + 100.0 + offset_s:.6f}" for t in drive.frame_t_s]
    (directory / "front.csv").write_text("t_s\n" + "\n".join(lines) + "\n")
    calibration = f'{{"front": {{"fx_px": {FOCAL}, "fy_px": {FOCAL}, "cx_px": {WIDTH / 2}, "cy_px": {HEIGHT / 2}}}}}'
    (directory / "cameras.json").write_text(calibration)
