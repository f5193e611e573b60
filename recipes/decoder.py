"""The decoder alone, its brain frozen: how far it gets beside joint training.

Shows:   three students of one start and one number of decoder steps: joint (backbone and decoder together); staged
         (backbone first, then the decoder on the frozen backbone); decoder on a frozen backbone that never learnt.
         minADE over six trajectories on held-out seeds, with intervals over recordings.
Costs:   about five minutes on two cores.
Expect:  runs/decoder/evaluate/report.html and the printed table. One seed and little data: the order may change with
         `--seed`; intervals say how far to believe it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from demo import Step, run_chain, until_student

TRAIN_SCENES, TEST_SCENES, STEPS = 60, 18, 120
METRICS = ("minade_3s_m", "minade_6s4_m", "ade_6s4_m")


def chain(run: Path, seed: int, size: float = 1.0) -> list[Step]:
    """(name of the step, its command) in order. `size` scales scenes and steps alike."""
    train_scenes, test_scenes, steps = (
        str(max(round(size * full), least)) for full, least in ((TRAIN_SCENES, 6), (TEST_SCENES, 6), (STEPS, 4))
    )
    train, test = f"{run}/record", f"{run}/record-test"

    def sft(name: str, part: str, student: str) -> Step:
        return (name, ["sft", "--student", student, "--recordings", train, "--labels", f"{run}/label", "--out",
                       f"{run}/{name}", "--part", part, "--steps", steps, "--seed", str(seed), "--frames-cache",
                       f"{run}/frames"])  # fmt: skip

    return [
        *until_student(run, train_scenes, test_scenes, seed),
        sft("sft-joint", "joint", f"{run}/student"),
        sft("sft-backbone", "backbone", f"{run}/student"),
        sft("sft-decoder", "decoder", f"{run}/sft-backbone/checkpoint"),
        sft("sft-decoder-untaught", "decoder", f"{run}/student"),
        ("evaluate", ["evaluate", "--out", f"{run}/evaluate", "--recordings", test, "--labels", f"{run}/label-test",
                      "--closed-loop-scenes", "0", "--videos", "0", "--seed", str(seed), "--students",
                      f"joint={run}/sft-joint/checkpoint", f"frozen brain={run}/sft-decoder/checkpoint",
                      f"untaught brain={run}/sft-decoder-untaught/checkpoint"]),
    ]  # fmt: skip


def table(results: Path) -> str:
    """Drivers down, errors in metres across, each with its 95 % interval and count."""
    rows = [r for r in json.loads(results.read_text())["rows"] if r["part"] == "open_loop" and r["group"] == "all"]
    lines = [f"{'driver':20s}" + "".join(f"{metric:>26s}" for metric in METRICS)]
    for driver in dict.fromkeys(row["driver"] for row in rows):
        found = {row["metric"]: row for row in rows if row["driver"] == driver}
        cells = [found[metric] for metric in METRICS if metric in found and found[metric]["value"] is not None]
        shown = [f"{c['value']:.2f} ({_at(c['low'])} to {_at(c['high'])}, n {c['n']})" for c in cells]
        lines.append(f"{driver:20s}" + "".join(f"{text:>26s}" for text in shown))
    return "\n".join(lines)


def _at(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/decoder"), help="directory for everything this makes")
    parser.add_argument("--seed", type=int, default=0, help="seed of student, training and evaluation")
    parser.add_argument("--size", type=float, default=1.0, help="of the whole chain: 0.2 shows that it runs")
    arguments = parser.parse_args()
    status = run_chain(chain(arguments.run, arguments.seed, arguments.size), arguments.run, report="evaluate")
    if status == 0:
        print(table(arguments.run / "evaluate" / "results.json"))
    return status


if __name__ == "__main__":
    sys.exit(main())
