"""Diffusion, trajectory tokens or text coordinates? Three students, same data and budget, that differ in this alone.

Shows:   accuracy (minADE of six), smoothness (jerk, lateral acceleration), readable paths, written tokens and time an
         answer, of `flow`, `tokens` and `text`: from one student that has learnt to see, each way is trained with every
         seed (of order and noise); mean and 95 % interval over seeds, and the differences to `flow` paired by seed.
Costs:   a seed at --size 1 is three trainings of the demo's length and three open-loop evaluations, about half an hour
         on two cores. With --data runs/demo the demo's drives, labels and eyes are used as they are.
Expect:  a printed table and runs/three_ways/three_ways.json. Time is CPU time of one answer alone on one thread.

Killed? Run it again: finished stages are not redone, and what is measured so far stands in the table.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from demo import SFT, SFT_STEPS, Step, run_beside, shared_start
from seeds import differences, summaries, table_text

from causaldrive.clips.samples import cut_sample
from causaldrive.clips.store import read_recordings
from causaldrive.clips.types import Sample
from causaldrive.ground.files import read_json, write_json
from causaldrive.label.store import read_labels
from causaldrive.student.checkpoint import load
from causaldrive.student.config import FrameSettings
from causaldrive.student.generate import generate

WAYS = ("flow", "tokens", "text")
METRICS = ("minade_6s4_m", "jerk_mps3", "lateral_acceleration_mps2", "path_parse_rate", "written_tokens")
TIMED = 5  # answers


def seed_chains(run: Path, data: Path, seed: int, size: float, moments: int) -> list[list[Step]]:
    """By way: the student of `data`, trained in it with this seed, and measured."""
    given = ["--recordings", f"{data}/record", "--labels", f"{data}/label", "--frames-cache", f"{data}/frames"]
    held = ["--recordings", f"{data}/record-test", "--labels", f"{data}/label-test"]
    at, count = f"{run}/seed{seed}", str(max(round(size * SFT_STEPS), 4))
    return [
        [
            (f"sft {way} {seed}", ["sft", "--student", f"{data}/see/checkpoint", *given, "--seed", str(seed), "--steps",
                                   count, *SFT, "--speak", way, "--eval-every", count, "--eval-samples", "32",
                                   "--no-check-traces", "--out", f"{at}/sft-{way}"]),
            (f"evaluate {way} {seed}", ["evaluate", "--out", f"{at}/evaluate-{way}", *held, "--mode", way,
                                        "--closed-loop-scenes", "0", "--videos", "0", "--open-loop-limit", str(moments),
                                        "--seed", str(seed), "--students", f"{way}={at}/sft-{way}/checkpoint"]),
        ]
        for way in WAYS
    ]  # fmt: skip


def measured(run: Path, data: Path, seed: int, way: str) -> dict[str, float | None]:
    """One student's numbers; None where no path could be read."""
    at = run / f"seed{seed}"
    rows = read_json(at / f"evaluate-{way}" / "results.json")["rows"]
    found = {row["metric"]: row["value"] for row in rows if row["driver"] == way and row["group"] == "all"}
    timed = at / f"cpu-{way}.json"
    if not timed.exists():
        write_json(timed, {"cpu_s": cpu_seconds(at / f"sft-{way}" / "checkpoint", data, way)})
    return {name: found.get(name) for name in METRICS} | read_json(timed)


def noisy_sample(data: Path, frames: FrameSettings) -> Sample:
    """The first labelled moment of the test drives, seen as noise: time does not depend on what pictures show."""
    label = read_labels(data / "label-test")[0]
    recordings, _ = read_recordings(data / "record-test")
    recording = next(one for one in recordings if one.recording_id == label.recording_id)
    shape = (1, len(frames.frame_offsets_us), frames.image_height_px, frames.image_width_px, 3)
    noise = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    return cut_sample(recording, label.t0_us, noise, frames.camera_names, frames.frame_offsets_us)


def cpu_seconds(checkpoint: Path, data: Path, way: str) -> float:
    """Median CPU time of one answer on one thread."""
    model, processor = load(checkpoint)
    sample = noisy_sample(data, processor.config.frames())
    threads, times = torch.get_num_threads(), []
    torch.set_num_threads(1)
    for _ in range(TIMED + 1):
        started = time.process_time()
        generate(model, processor, [sample], mode=way)
        times.append(time.process_time() - started)
    torch.set_num_threads(threads)
    return float(np.median(times[1:]))


def tell(run: Path, data: Path, seeds: list[int], size: float) -> None:
    """Print and write what these seeds gave."""
    each = {way: [measured(run, data, seed, way) for seed in seeds] for way in WAYS}
    first = run / f"seed{seeds[0]}"
    rows = read_json(first / f"evaluate-{WAYS[0]}" / "results.json")["rows"]
    table = summaries(each)
    write_json(run / "three_ways.json", {
        "seeds": len(seeds), "size": size, "batch_size": 8,
        "steps": read_json(first / f"sft-{WAYS[0]}" / "run.json")["config"]["steps"],
        "moments": max(row["n"] for row in rows if row["driver"] == WAYS[0]),
        "ways": table, "minus_flow": differences(each, "flow"), "each": each,
    })  # fmt: skip
    print(f"\n{table_text(table)}\nwrote {run}/three_ways.json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/three_ways"), help="directory for everything this makes")
    parser.add_argument("--data", type=Path, help="a run of recipes/demo.py whose drives, labels and eyes to use")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each way")
    parser.add_argument("--size", type=float, default=1.0, help="of scenes and steps alike")
    parser.add_argument("--moments", type=int, default=400, help="of the test drives, evenly spread over them")
    arguments = parser.parse_args()
    run, data = arguments.run, arguments.data or arguments.run
    if status := shared_start(run, arguments.data, arguments.size):
        return status
    done: list[int] = []
    for seed in range(arguments.seeds):
        chains = seed_chains(run, data, seed, arguments.size, arguments.moments)
        if status := run_beside(chains, run, f"seed{seed}/evaluate-text"):
            return status
        done.append(seed)
        tell(run, data, done, arguments.size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
