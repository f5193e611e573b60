"""What a training step costs: waiting for data, samples a second, and how much of the machine's products it uses.

The real trainer on the `tiny` student and on samples made up at its image size (noise pictures, traces of many lengths)
that come through the frame cache's door. Model FLOP use = floating-point operations of the step's matrix products /
(seconds x what one large product reaches here). Under three minutes on one core.

Prints a table and writes JSON. Run: python benchmarks/sft.py [--steps 12] [--out docs/results/sft_speed.json]
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from causaldrive.clips.types import Sample
from causaldrive.ground.files import write_json
from causaldrive.ground.runs import Run, read_metrics
from causaldrive.label.trace import compose
from causaldrive.label.types import Cause, CocLabel
from causaldrive.sft.config import SftConfig
from causaldrive.sft.dataset import SampleSet, TrainingItem
from causaldrive.sft.frames import FrameCache
from causaldrive.sft.order import SampleOrder
from causaldrive.sft.trainer import Trainer
from causaldrive.student.model import build
from causaldrive.student.presets import ActionStatistics, tiny
from causaldrive.student.processor import StudentProcessor
from causaldrive.student.text import train_tokenizer

CAUSES = (
    Cause("traffic_light", "the traffic light ahead is red", "red_light", "light", 0),
    Cause("vehicle", "a van is stopped in the lane ahead", "stopped_vehicle", "van", 0),
    Cause("pedestrian", "a pedestrian walks across the road from the right", "pedestrian", "walker", 0),
)
WARM_UP = 2  # steps that are not counted


def trace(index: int) -> tuple[str, tuple[Cause, ...]]:
    causes = CAUSES[: index % 4]
    longitudinal = "stop_for_static_constraint" if causes else "set_speed_tracking"
    return compose(longitudinal, "lane_keeping", None, causes), causes


def made_up(count: int, height: int, width: int, offsets_us: tuple[int, ...]) -> SampleSet:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, count * len(offsets_us) * height * width * 3, dtype=np.uint8)
    places, items = {}, []
    for index in range(count):
        path_x_m = np.arange(-15, 65) * 0.1 * rng.uniform(2, 12)
        xyz, yaw = np.column_stack([path_x_m, np.zeros((80, 2))]), np.zeros(80)
        name, (text, causes) = f"drive-{index:03d}", trace(index)
        keys = tuple((name, "front", frame) for frame in range(len(offsets_us)))
        for key in keys:
            places[key] = (len(places) * height * width * 3, height, width)
        sample = Sample(name, 0, None, ("front",), offsets_us, xyz[:16], yaw[:16], xyz[16:], yaw[16:])
        label = CocLabel(name, 0, "periodic", "set_speed_tracking", "lane_keeping", None, causes, text, (), (),
                         "expert", "", (), "accepted")  # fmt: skip
        items.append(TrainingItem(sample, label, (keys,)))
    return SampleSet(tuple(items), FrameCache(pixels, places, {}))


def trainer_of(steps: int, batch_size: int, out: Path) -> Trainer:
    tokenizer = train_tokenizer([trace(index)[0] for index in range(4)] * 3, 640)
    config = tiny(tokenizer, ActionStatistics(0.0, 1.0, 0.0, 0.05, (-4.0, -4.0), (4.0, 4.0)))
    frames = config.frames()
    samples = made_up(192, frames.image_height_px, frames.image_width_px, tuple(frames.frame_offsets_us))
    settings = SftConfig(out, out, out, out, steps=steps, batch_size=batch_size, device="cpu", save_every=10**6)
    nothing = SampleSet((), samples.cache)
    return Trainer(
        build(config, 0), StudentProcessor(tokenizer, config), samples, nothing, settings, Run(out, {}, False)
    )


def peak_flops(dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Operations a second of one product of 1024 x 1024 matrices."""
    a, b = (torch.randn(1024, 1024).to(dtype) for _ in range(2))
    a @ b
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        a @ b
        done += 1
    return 2 * 1024**3 * done / (time.perf_counter() - started)


def padding(trainer: Trainer, buckets: int, batches: int = 48) -> float:
    """Share of the tokens that are padding."""
    first = trainer.batcher.prepare(range(1))
    lengths = trainer.batcher.lengths()
    rest = first.tokens - lengths[0]
    rows = np.array(lengths) + rest
    order = SampleOrder(trainer.batcher.samples.classes, 0, lengths, buckets)
    size = trainer.config.batch_size
    cuts = [rows[order.batch(step, size)] for step in range(batches)]
    return 1 - sum(cut.sum() for cut in cuts) / sum(cut.max() * size for cut in cuts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("docs/results/sft_speed.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        trainer = trainer_of(options.steps, options.batch_size, Path(name))
        peak = peak_flops(torch.bfloat16 if trainer.precision == "bf16" else torch.float32)
        prepared = trainer._prepare(0)
        with FlopCounterMode(display=False) as counter:
            trainer._accumulate(prepared)
        trainer.fit()
        rows = read_metrics(Path(name))[WARM_UP:]
    seconds = sum(options.batch_size / row["samples_per_s"] for row in rows)
    waited = sum(row["wait_s"] for row in rows)
    result = {
        "student": "tiny", "parameters": trainer.parameters, "batch_size": options.batch_size,
        "flow_draws": trainer.config.flow_draws, "precision": trainer.precision,
        "threads": torch.get_num_threads(), "processor": platform.processor() or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(), "steps": len(rows),
        "seconds_a_step": seconds / len(rows), "samples_per_s": options.batch_size * len(rows) / seconds,
        "tokens_per_s": float(np.mean([row["tokens_per_s"] for row in rows])),
        "share_waiting_for_data": waited / seconds,
        "gflop_a_step": counter.get_total_flops() / 1e9, "peak_gflop_per_s": peak / 1e9,
        "model_flop_use": counter.get_total_flops() * len(rows) / seconds / peak,
        "padding": padding(trainer, 0), "padding_with_8_buckets": padding(trainer, 8),
    }  # fmt: skip
    for key, value in result.items():
        print(f"{key:26s} {value:.4g}" if isinstance(value, float) else f"{key:26s} {value}")
    write_json(options.out, result)


if __name__ == "__main__":
    main()
