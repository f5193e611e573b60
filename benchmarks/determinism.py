"""Claim: two runs of the demo's chain with the same seed give the same table.

Runs `recipes/demo.py --size SIZE` twice from nothing, each in a fresh directory, and compares every row and paired
difference of `evaluate/results.json` (a run's times are left out). Prints what differs; writes
docs/results/determinism.json. About ten minutes on two cores at the default size. `--runs A B` compares two finished
runs instead.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHOWN = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=0.05, help="of the chain, see recipes/demo.py")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, nargs=2, help="two finished runs to compare")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "determinism.json")
    arguments = parser.parse_args()
    if arguments.runs:
        first, second = (read_table(run) for run in arguments.runs)
    else:
        first, second = (table_of(arguments.size, arguments.seed) for _ in range(2))
    different = [name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)]
    command = "python benchmarks/determinism.py" + (" --runs RUN OTHER_RUN" if arguments.runs else "")
    size = 1.0 if arguments.runs else arguments.size
    found = {"command": command, "size": size, "seed": arguments.seed,
             "rows": len(first), "different": len(different)}  # fmt: skip
    for name in different[:SHOWN]:
        print(f"{name}: {first.get(name)} and {second.get(name)}")
    print(f"{len(first)} rows, {len(different)} different")
    arguments.out.write_text(json.dumps(found, indent=2) + "\n")
    return int(bool(different))


def table_of(size: float, seed: int) -> dict[str, str]:
    """One run's rows and differences: what they are about to all that they say."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, str(ROOT / "recipes" / "demo.py"), "--run", directory, "--seed", str(seed)]
        subprocess.run([*command, "--size", str(size)], check=True, cwd=ROOT)
        return read_table(Path(directory))


def read_table(run: Path) -> dict[str, str]:
    """A finished run's rows and differences."""
    results = json.loads((run / "evaluate" / "results.json").read_text())
    keys = ("part", "driver", "other", "group", "metric")
    entries = [*results["rows"], *results["differences"]]
    return {" ".join(str(entry.get(key)) for key in keys): json.dumps(entry, sort_keys=True) for entry in entries}


if __name__ == "__main__":
    sys.exit(main())
