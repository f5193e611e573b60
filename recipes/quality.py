"""Do words help, and what do more data and larger students give? Five seeds an arm, means and intervals.

Shows:   `--arms words`: students with and without reasoning, from one student that has learnt to see, on scenes with a
         cause to be seen: minADE of six, clean drives, scene score, differences paired by seed. `--arms data`: the same
         student with 1, 3 and 10 tenths of the drives. `--arms size`: presets drawn from nothing, which learn to see
         first.
Costs:   an arm of one seed is one training of the demo's length and one evaluation: the arms of a seed, side by side
         on two cores, a quarter of an hour and more at --size 1 for `tiny`, some four times that for `mini`. With
         --data runs/demo the demo's drives, labels and eyes are used as they are.
Expect:  a printed table and runs/quality/quality-ARMS.json, written anew after every seed.

Killed? Run it again: finished stages are not redone.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from demo import DRIVE_SEED, EYES_STEPS, NEAR, SFT, SFT_STEPS, TEST_SCENES, Step, run_beside, shared_start
from seeds import differences, summaries, table_text

from causaldrive.ground.files import read_json, write_json

GROUPS = ("variant:cause", "all")
METRICS = (("open_loop", "minade_6s4_m"), ("closed_loop", "clean_share"), ("closed_loop", "scene_score"))


@dataclass(frozen=True)
class Arm:
    """What one student has that the others have not."""

    name: str
    mode: str = "coc"
    tenths: int = 10  # of the training drives
    preset: str = ""  # drawn from nothing; none: the student of the data, which sees already


ARMS = {
    "words": (Arm("trajectory", "trajectory"), Arm("coc")),
    "data": (Arm("1x", tenths=1), Arm("3x", tenths=3), Arm("10x")),
    "size": (Arm("nano", preset="nano"), Arm("tiny", preset="tiny"), Arm("mini", preset="mini")),
}


def some_drives(record: Path, out: Path, tenths: int) -> Path:
    """A directory that shows the first so many tenths of the recordings, in order of their names."""
    if tenths == 10:
        return record
    drives = sorted(path for path in (record / "recordings").iterdir() if path.is_dir())
    for drive in drives[: max(len(drives) * tenths // 10, 1)]:
        place = out / "recordings" / drive.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.symlink_to(drive.resolve())
    return out


def steps_of(run: Path, data: Path, arm: Arm, seed: int, size: float) -> list[Step]:
    """The student of this arm and seed, trained and measured."""
    at, record = f"{run}/seed{seed}/{arm.name}", f"{run}/record-{arm.tenths}" if arm.tenths < 10 else f"{data}/record"
    given = ["--recordings", record, "--labels", f"{data}/label", "--seed", str(seed)]
    looks, count = (str(max(round(size * full), 4)) for full in (EYES_STEPS, SFT_STEPS))
    start, steps = f"{data}/see/checkpoint", []
    if arm.preset:
        start = f"{at}/see/checkpoint"
        steps = [
            (f"student {arm.name} {seed}", ["student", "build", "--preset", arm.preset, *given, "--out",
                                            f"{at}/student"]),
            (f"see {arm.name} {seed}", ["student", "see", "--student", f"{at}/student", "--recordings", record, "--out",
                                        f"{at}/see", "--steps", looks, "--every-s", "0.8", "--seed", str(seed)]),
        ]  # fmt: skip
    checkpoint = f"{at}/sft/checkpoint" + ("@trajectory" if arm.mode == "trajectory" else "")
    return [
        *steps,
        (f"sft {arm.name} {seed}", ["sft", "--student", start, *given, "--steps", count, *SFT, *NEAR, "--flow-draws",
                                    "1", "--mode", arm.mode, "--frames-cache", f"{data}/frames", "--out", f"{at}/sft"]),
        (f"evaluate {arm.name} {seed}", ["evaluate", "--out", f"{at}/evaluate", "--recordings", f"{data}/record-test",
                                         "--labels", f"{data}/label-test", "--first-seed", str(DRIVE_SEED),
                                         "--closed-loop-scenes", str(max(round(size * TEST_SCENES), 6)), "--mode",
                                         "tokens", "--videos", "0", "--seed", str(seed), "--students",
                                         f"{arm.name}={checkpoint}"]),
    ]  # fmt: skip


def measured(run: Path, arm: Arm, seed: int) -> dict[str, float | None]:
    """One student's numbers, where there is a cause to be seen and everywhere."""
    rows = read_json(run / f"seed{seed}" / arm.name / "evaluate" / "results.json")["rows"]
    found = {(r["part"], r["group"], r["metric"]): r["value"] for r in rows if r["driver"] == arm.name}
    return {f"{metric} {group.split(':')[-1]}": found.get((part, group, metric))
            for group in GROUPS for part, metric in METRICS}  # fmt: skip


def tell(run: Path, chosen: str, seeds: int, size: float) -> None:
    """Print and write what the seeds so far gave."""
    arms = ARMS[chosen]
    each = {arm.name: [measured(run, arm, seed) for seed in range(seeds)] for arm in arms}
    table = summaries(each)
    path = run / f"quality-{chosen}.json"
    write_json(path, {"seeds": seeds, "size": size, "arms": table, "minus_first": differences(each, arms[0].name),
                      "each": each})  # fmt: skip
    print(f"\n{table_text(table)}\nwrote {path}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", choices=ARMS, default="words", help="what differs between the students")
    parser.add_argument("--run", type=Path, default=Path("runs/quality"), help="directory for everything this makes")
    parser.add_argument("--data", type=Path, help="a run of recipes/demo.py whose drives, labels and eyes to use")
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each arm")
    parser.add_argument("--size", type=float, default=1.0, help="of scenes and steps alike")
    arguments = parser.parse_args()
    run, data, size = arguments.run, arguments.data or arguments.run, arguments.size
    if status := shared_start(run, arguments.data, size):
        return status
    for arm in ARMS[arguments.arms]:
        some_drives(data / "record", run / f"record-{arm.tenths}", arm.tenths)
    for seed in range(arguments.seeds):
        chains = [steps_of(run, data, arm, seed, size) for arm in ARMS[arguments.arms]]
        if status := run_beside(chains, run, f"seed{seed}/{ARMS[arguments.arms][0].name}/evaluate"):
            return status
        tell(run, arguments.arms, seed + 1, size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
