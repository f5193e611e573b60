"""Real recordings: import, label, and drive them with the student that only ever saw the town.

Shows:   a comma2k19 minute gets meta actions and honest labels whose causes are marked unobserved; Argoverse 2 logs get
         labels that explain the human driver from annotated agents and map; the town's student is evaluated on those
         logs, open loop and as closed-loop log replay, next to constant velocity.
Costs:   about three minutes on two cores, after `make demo`.
Expect:  runs/real/report/report.html. The student never saw a real road: its numbers are shown as they are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from demo import run_chain


def chain(run: Path, samples: Path, demo: Path) -> list[tuple[str, list[str]]]:
    """(name of the step, its command) in order."""
    return [
        ("import-comma2k19", ["import", "comma2k19", str(samples / "comma2k19"), "--out", f"{run}/import-comma2k19"]),
        ("label-comma2k19", ["label", "--recordings", f"{run}/import-comma2k19", "--out", f"{run}/label-comma2k19",
                             "--teacher", "motion"]),
        ("import-av2", ["import", "av2", str(samples / "av2" / "sensor"), "--out", f"{run}/import-av2"]),
        ("label-av2", ["label", "--recordings", f"{run}/import-av2", "--out", f"{run}/label-av2", "--teacher", "expert",
                       "--every-s", "0.5"]),
        ("evaluate", ["evaluate", "--out", f"{run}/evaluate", "--recordings", f"{run}/import-av2", "--labels",
                      f"{run}/label-av2", "--replay", "--mode", "tokens", "--closed-loop-scenes", "0", "--students",
                      f"trajectory={demo}/sft-trajectory/checkpoint@trajectory", f"coc={demo}/sft-coc/checkpoint",
                      f"coc+rl={demo}/rl/checkpoint"]),
        ("report", ["view", "report", "--run", str(run), "--out", f"{run}/report", "--title", "real recordings"]),
    ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/real"), help="directory for everything this makes")
    parser.add_argument("--samples", type=Path, default=Path("../shared/samples"), help="real recordings")
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"), help="a finished `make demo`")
    arguments = parser.parse_args()
    if not (arguments.demo / "rl" / "checkpoint").exists():
        print(f"{arguments.demo} holds no trained student; run `make demo` first.", file=sys.stderr)
        return 2
    if not arguments.samples.exists():
        print(f"{arguments.samples} does not exist; give the real recordings with --samples.", file=sys.stderr)
        return 2
    return run_chain(chain(arguments.run, arguments.samples, arguments.demo), arguments.run)


if __name__ == "__main__":
    sys.exit(main())
