"""Diffusion, trajectory tokens or text coordinates? Three students, same data and budget, that differ in this alone.

Shows:   accuracy (minADE of six), smoothness (jerk, lateral acceleration), readable paths, written tokens and time an
         answer, of `flow`, `tokens` and `text`, each trained anew from every seed; mean and 95 % interval over seeds.
Costs:   a seed is three trainings of the demo's length and three open-loop evaluations; not measured yet in full.
         --size 0.02 --seeds 1 shows that it runs.
Expect:  a printed table and runs/three_ways/three_ways.json. Time is CPU time of one answer alone on one thread.

Killed? Run it again: finished stages are not redone.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from demo import SFT_STEPS, TEST_SCENES, TEST_SEED, TRAIN_SCENES, TRAIN_SEED, Step, run_chain
from scipy import stats

from causaldrive.clips.samples import cut_sample
from causaldrive.clips.store import read_recordings
from causaldrive.clips.types import Sample
from causaldrive.ground.files import read_json, write_json
from causaldrive.label.store import read_labels
from causaldrive.student.checkpoint import load
from causaldrive.student.generate import generate

WAYS = ("flow", "tokens", "text")
METRICS = ("minade_6s4_m", "jerk_mps3", "lateral_acceleration_mps2", "path_parse_rate", "written_tokens")
TIMED = 5  # answers


def data_steps(run: Path, size: float) -> list[Step]:
    """Drives and labels, the same for all."""
    train, test = f"{run}/record", f"{run}/record-test"
    scenes = [str(max(round(size * full), least)) for full, least in ((TRAIN_SCENES, 12), (TEST_SCENES, 6))]
    return [
        ("record", ["worlds", "record", "--out", train, "--scenes", scenes[0], "--first-seed", str(TRAIN_SEED)]),
        ("record-test", ["worlds", "record", "--out", test, "--scenes", scenes[1], "--first-seed", str(TEST_SEED),
                         "--disturb", "0"]),
        ("label", ["label", "--recordings", train, "--out", f"{run}/label", "--teacher", "expert", "--every-s", "0.5"]),
        ("label-test", ["label", "--recordings", test, "--out", f"{run}/label-test", "--teacher", "expert",
                        "--every-s", "1.0"]),
    ]  # fmt: skip


def seed_steps(run: Path, seed: int, size: float) -> list[Step]:
    """A student of this seed, trained in each way, and measured."""
    data = ["--recordings", f"{run}/record", "--labels", f"{run}/label", "--seed", str(seed)]
    held = ["--recordings", f"{run}/record-test", "--labels", f"{run}/label-test"]
    at, count = f"{run}/seed{seed}", str(max(round(size * SFT_STEPS), 4))
    steps = [(f"student {seed}", ["student", "build", "--preset", "tiny", *data, "--out", f"{at}/student"])]
    for way in WAYS:
        steps += [
            (f"sft {way} {seed}", ["sft", "--student", f"{at}/student", *data, "--steps", count, "--speak", way,
                                   "--frames-cache", f"{run}/frames", "--out", f"{at}/sft-{way}"]),
            (f"evaluate {way} {seed}", ["evaluate", "--out", f"{at}/evaluate-{way}", *held, "--mode", way,
                                        "--closed-loop-scenes", "0", "--seed", str(seed), "--students",
                                        f"{way}={at}/sft-{way}/checkpoint"]),
        ]  # fmt: skip
    return steps


def measured(run: Path, seed: int, way: str) -> dict[str, float | None]:
    """One student's numbers; None where no path could be read."""
    rows = read_json(run / f"seed{seed}" / f"evaluate-{way}" / "results.json")["rows"]
    found = {row["metric"]: row["value"] for row in rows if row["driver"] == way and row["group"] == "all"}
    checkpoint = run / f"seed{seed}" / f"sft-{way}" / "checkpoint"
    return {name: found.get(name) for name in METRICS} | {"cpu_s": cpu_seconds(checkpoint, blind_sample(run), way)}


def blind_sample(run: Path) -> Sample:
    """The first labelled moment of the test drives, without its images: time does not depend on what they show."""
    label = read_labels(run / "label-test")[0]
    recordings, _ = read_recordings(run / "record-test")
    return cut_sample(next(r for r in recordings if r.recording_id == label.recording_id), label.t0_us)


def cpu_seconds(checkpoint: Path, sample: Sample, way: str) -> float:
    """Median CPU time of one answer on one thread."""
    model, processor = load(checkpoint)
    threads, times = torch.get_num_threads(), []
    torch.set_num_threads(1)
    for _ in range(TIMED + 1):
        started = time.process_time()
        generate(model, processor, [sample], mode=way)
        times.append(time.process_time() - started)
    torch.set_num_threads(threads)
    return float(np.median(times[1:]))


def summary(values: list[float | None]) -> dict[str, float | int | None]:
    """Mean and the half width of its 95 % interval (Student's t) over seeds; nothing is read where nothing is there."""
    known = [value for value in values if value is not None]
    half = None
    if len(known) > 1:
        half = float(stats.t.ppf(0.975, len(known) - 1) * np.std(known, ddof=1) / np.sqrt(len(known)))
    return {"mean": float(np.mean(known)) if known else None, "half_width": half, "seeds": len(known)}


def show(table: dict[str, dict[str, dict]]) -> None:
    print("\n" + " " * 28 + "".join(f"{way:>20s}" for way in WAYS))
    for name in (*METRICS, "cpu_s"):
        cells = [table[way][name] for way in WAYS]
        texts = [_cell(cell) for cell in cells]
        print(f"{name:28s}" + "".join(f"{text:>20s}" for text in texts))


def _cell(value: dict) -> str:
    if value["mean"] is None:
        return "-"
    return f"{value['mean']:.3f}" + ("" if value["half_width"] is None else f" ± {value['half_width']:.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/three_ways"), help="directory for everything this makes")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each way")
    parser.add_argument("--size", type=float, default=1.0, help="of scenes and steps alike")
    arguments = parser.parse_args()
    run, seeds = arguments.run, range(arguments.seeds)
    steps = data_steps(run, arguments.size) + [step for s in seeds for step in seed_steps(run, s, arguments.size)]
    if status := run_chain(steps, run):
        return status
    found = {way: [measured(run, seed, way) for seed in seeds] for way in WAYS}
    table = {way: {name: summary([one[name] for one in rows]) for name in rows[0]} for way, rows in found.items()}
    write_json(run / "three_ways.json", {"seeds": len(seeds), "size": arguments.size, "ways": table, "each": found})
    show(table)
    print(f"wrote {run}/three_ways.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
