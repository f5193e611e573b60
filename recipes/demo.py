"""The whole chain from nothing on two CPU cores.

Shows:   an expert drives a town, its drives become labels with causes, a student of about four million parameters
         learns to see, to think and to act from them, drives itself and is rewarded for safe driving, true reasons and
         doing what it says; then everything is measured on scenes it never saw, next to constant velocity and the
         expert.
Costs:   12 to 30 minutes on two cores after the packages are installed; under 3 GiB of memory, about 4 GB of disk.
Expect:  runs/demo/report.html, a table of five rows with intervals, training curves, and videos of held-out scenes.

Every line below is a command that you can run yourself. Killed? Run it again: finished stages are not redone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from meter import MemoryMeter

Step = tuple[str, list[str]]  # name and words of a command
Group = tuple[tuple[str, ...], ...]  # chains of steps, by name: they run side by side, each in its own order

TRAIN_SCENES, TEST_SCENES = 320, 36
EYES_STEPS, SFT_STEPS, RL_SCENES = 900, 560, 30  # scenes of each of two rounds
SFT = ("--batch-size", "8", "--freeze-eyes", "--text-weight", "3", "--bin-spread", "3")
NEAR = ("--fade-s", "0.8")  # in closed loop the first steps are driven, and then it thinks again
PATHS = ("--paths", "6", "--path-coherence", "0.9", "--mirror-paths")  # of each decision, compared with each other
REWARDS = ("--drive-weight", "0.3", "--reasoning-weight", "0.3", "--consistency-weight", "1", "--balance", "0.5")
LEARNING = ("--epochs", "1", "--minibatch", "64", "--learning-rate", "2e-4", "--kl-weight", "0.1")
BESIDE: tuple[Group, ...] = (
    (("record-test", "label-test"), ("see",)),
    (("sft-trajectory",), ("sft-coc",)),
)
TRAIN_SEED, RL_SEED, TEST_SEED, DRIVE_SEED = 0, 500_000, 2_000_000, 2_100_000


def chain(run: Path, seed: int, size: float = 1.0) -> list[Step]:
    """(name of the step, its command) in order. `size` scales scenes and steps alike."""
    test_scenes, steps, rl_scenes = (
        str(max(round(size * full), least)) for full, least in ((TEST_SCENES, 12), (SFT_STEPS, 4), (RL_SCENES, 4))
    )
    train, test = f"{run}/record", f"{run}/record-test"
    data = ["--recordings", train, "--labels", f"{run}/label", "--seed", str(seed)]
    sft = ["sft", "--student", f"{run}/see/checkpoint", *data, "--steps", steps, *SFT, *NEAR,
           "--flow-draws", "1", "--frames-cache", f"{run}/frames"]  # fmt: skip
    return [
        *until_eyes(run, seed, size),
        ("sft-trajectory", [*sft, "--mode", "trajectory", "--out", f"{run}/sft-trajectory"]),
        ("sft-coc", [*sft, "--mode", "coc", "--out", f"{run}/sft-coc"]),
        ("rl", ["rl", "--student", f"{run}/sft-coc/checkpoint", "--out", f"{run}/rl", "--first-seed", str(RL_SEED),
                "--mode", "tokens", *PATHS, "--group-size", "2", "--iterations", "2", "--scenes-per-iteration",
                rl_scenes, *REWARDS, *LEARNING, "--probe-scenes", "0", "--seed", str(seed)]),
        ("evaluate", ["evaluate", "--out", f"{run}/evaluate", "--recordings", test, "--labels", f"{run}/label-test",
                      "--first-seed", str(DRIVE_SEED), "--closed-loop-scenes", test_scenes, "--mode", "tokens",
                      "--beside", "2", "--seed", str(seed), "--students",
                      f"trajectory={run}/sft-trajectory/checkpoint@trajectory", f"coc={run}/sft-coc/checkpoint",
                      f"coc+rl={run}/rl/checkpoint"]),
        ("report", ["view", "report", "--run", str(run), "--out", f"{run}/report", "--title", "causaldrive demo"]),
    ]  # fmt: skip


def until_student(run: Path, train_scenes: str, test_scenes: str, seed: int) -> list[Step]:
    """Drives to learn from and to be tested on, their labels, and a student drawn from nothing."""
    train, test = f"{run}/record", f"{run}/record-test"
    return [
        ("record", ["worlds", "record", "--out", train, "--scenes", train_scenes, "--first-seed", str(TRAIN_SEED),
                    "--disturb", "0.4", "--late", "0.4", "--camera-hz", "5"]),
        ("label", ["label", "--recordings", train, "--out", f"{run}/label", "--teacher", "expert", "--every-s", "0.5"]),
        ("student", ["student", "build", "--preset", "tiny", "--recordings", train, "--labels", f"{run}/label",
                     "--out", f"{run}/student", "--seed", str(seed)]),
        ("record-test", ["worlds", "record", "--out", test, "--scenes", test_scenes, "--first-seed", str(TEST_SEED),
                         "--disturb", "0", "--workers", "1"]),
        ("label-test", ["label", "--recordings", test, "--out", f"{run}/label-test", "--teacher", "expert",
                        "--every-s", "1.0", "--workers", "1"]),
    ]  # fmt: skip


def until_eyes(run: Path, seed: int, size: float) -> list[Step]:
    """The same, and the student learns what is where in the pictures."""
    train_scenes, test_scenes, looks = (
        str(max(round(size * full), least)) for full, least in ((TRAIN_SCENES, 24), (TEST_SCENES, 12), (EYES_STEPS, 4))
    )
    return [
        *until_student(run, train_scenes, test_scenes, seed),
        ("see", ["student", "see", "--student", f"{run}/student", "--recordings", f"{run}/record", "--out",
                 f"{run}/see", "--steps", looks, "--every-s", "0.8", "--threads", "2", "--seed", str(seed)]),
    ]  # fmt: skip


def shared_start(run: Path, data: Path | None, size: float) -> int:
    """Drives, labels and a student that sees, for recipes that go on from there: those of a demo's run in `data`, or
    made in `run`. Returns an exit status."""
    if data is None:
        return run_chain(until_eyes(run, 0, size), run, report="see")
    if (data / "see" / "checkpoint").is_dir():
        return 0
    print(f"--data {data} holds no see/checkpoint; give a run of recipes/demo.py, or leave it out.", file=sys.stderr)
    return 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="directory for everything the demo makes")
    parser.add_argument("--seed", type=int, default=0, help="seed of student, training and evaluation")
    parser.add_argument(
        "--size", type=float, default=1.0, help="of the whole chain: 0.05 shows in minutes that it runs"
    )
    arguments = parser.parse_args()
    steps = chain(arguments.run, arguments.seed, arguments.size)
    return run_chain(steps, arguments.run, beside=BESIDE)


def run_chain(steps: list[Step], run: Path, beside: Sequence[Group] = (), report: str = "report") -> int:
    """Run the steps in order; stop at the first that fails. Times and peak memory go to cost.json.

    The chains of a group in `beside`, whose steps follow each other in `steps`, run side by side, a thread each: two
    small trainings on two cores are done in two thirds of the time that they take one after the other on both.
    """
    group_of = {name: number for number, group in enumerate(beside) for names in group for name in names}
    run.mkdir(parents=True, exist_ok=True)
    cost_path = run / "cost.json"
    cost = json.loads(cost_path.read_text()) if cost_path.exists() else {}
    done = 0
    for _, wave in groupby(steps, key=lambda step: group_of.get(step[0], step[0])):
        together = list(wave)
        for name, words in together:
            done += 1
            print(f"\n[{done}/{len(steps)}] {name}: causaldrive {' '.join(words)}", flush=True)
        finished = all(_finished(Path(words[words.index("--out") + 1])) for _, words in together)
        started = time.monotonic()
        with MemoryMeter() as meter:
            failed, own_s = _run_together(_chains(together, beside))
        if failed:
            name, status = failed
            print(f"{name} ended with status {status}; mend what it says and run the same command again.")
            return status
        seconds = time.monotonic() - started
        if not finished:  # finished stages that only say so keep the cost of their real run
            names = " and ".join(name for name, _ in together)
            cost[names] = {"seconds": round(seconds, 1), "peak_memory_mib": round(meter.peak_mib)}
            if len(together) > 1:
                cost[names]["own_seconds"] = own_s
        cost_path.write_text(json.dumps(cost, indent=2) + "\n")
    total = sum(step["seconds"] for step in cost.values())
    peak = max(step["peak_memory_mib"] for step in cost.values())
    print(f"\n{total / 60:.1f} minutes in all, at most {peak / 1024:.2f} GiB of memory.")
    print(f"Open {run}/{report}/report.html.")
    return 0


def run_beside(chains: Sequence[list[Step]], run: Path, report: str) -> int:
    """Run chains of steps side by side, a thread each. Returns an exit status."""
    group = tuple(tuple(name for name, _ in chain) for chain in chains)
    return run_chain([step for chain in chains for step in chain], run, beside=[group], report=report)


def _chains(steps: list[Step], beside: Sequence[Group]) -> list[list[Step]]:
    """The steps of one wave as the chains of their group that have any; a step of no group is a chain alone."""
    chains = [names for group in beside for names in group if any(name in names for name, _ in steps)]
    return [[step for step in steps if step[0] in names] for names in chains] or [steps]


def _run_together(chains: list[list[Step]]) -> tuple[tuple[str, int] | None, dict[str, float]]:
    """Name and status of the first step that failed (None when all went well), and the seconds of each.

    A chain ends where a step of it fails.
    """
    own_s: dict[str, float] = {}
    threads = {"OMP_NUM_THREADS": "1"} if len(chains) > 1 else {}
    command = [sys.executable, "-m", "causaldrive.cli"]

    def run_one(steps: list[Step]) -> tuple[str, int] | None:
        for name, words in steps:
            started = time.monotonic()
            status = subprocess.run([*command, *words], env=os.environ | threads).returncode
            own_s[name] = round(time.monotonic() - started, 1)
            if status:
                return name, status
        return None

    with ThreadPoolExecutor(len(chains)) as pool:
        ended = list(pool.map(run_one, chains))
    return next((failed for failed in ended if failed), None), own_s


def _finished(out: Path) -> bool:
    record = out / "run.json"
    return record.exists() and json.loads(record.read_text()).get("state") == "finished"


if __name__ == "__main__":
    sys.exit(main())
