"""What a run of the demo measured, as docs/results/demo.json, and the README's table of it.

Shows:   every row of the evaluation, the differences between drivers, the rounds of RL, time and memory of each stage.
Costs:   a second; needs a finished runs/demo.
Expect:  docs/results/demo.json, and the table in Markdown on standard output, to be pasted into the README.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from causaldrive.ground.files import read_json, write_text
from causaldrive.sft.config import has_bf16

COLUMNS = {  # part, metric: heading, factor, digits
    ("open_loop", "minade_3s_m"): ("minADE6@3s m", 1, 2),
    ("open_loop", "minade_6s4_m"): ("minADE6@6.4s m", 1, 2),
    ("closed_loop", "clean_share"): ("clean drives %", 100, 0),
    ("closed_loop", "at_fault_collision_share"): ("at-fault collision %", 100, 0),
    ("closed_loop", "off_road_share"): ("off-road %", 100, 0),
    ("closed_loop", "rule_breaking_share"): ("rule broken %", 100, 0),
    ("closed_loop", "progress"): ("progress %", 100, 0),
    ("closed_loop", "scene_score"): ("scene score", 1, 2),
    ("open_loop", "decision_accuracy"): ("decision accuracy %", 100, 0),
    ("open_loop", "cause_f1"): ("cause F1", 1, 2),
    ("closed_loop", "consistency"): ("consistency %", 100, 0),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="directory of the finished demo")
    parser.add_argument("--out", type=Path, default=Path("docs/results/demo.json"))
    arguments = parser.parse_args()
    source = arguments.run / "evaluate" / "results.json"
    if not source.exists():
        print(f"{source} is not there; expected a finished demo, so run `make demo` first.", file=sys.stderr)
        return 2
    found = published(arguments.run)
    write_text(arguments.out, json.dumps(found, indent=1) + "\n")
    print(table(found["rows"]))
    return 0


def published(run: Path) -> dict[str, Any]:
    """All that is kept of a run."""
    results = read_json(run / "evaluate" / "results.json")
    capability = torch.backends.cpu.get_cpu_capability()
    bfloat16 = "bfloat16 units" if has_bf16() else "no bfloat16 units"
    return {
        "command": "make demo",
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {capability}, {bfloat16}",
        **{name: results[name] for name in ("seeds", "samples")},
        "cost": read_json(run / "cost.json"),
        **{name: results[name] for name in ("set_aside", "failures")},
        "rl_rounds": [json.loads(line) for line in (run / "rl" / "metrics.jsonl").read_text().splitlines()],
        "rows": results["rows"],
        "differences": results["differences"],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Drivers down, metrics across, in Markdown; 95 % intervals in brackets."""
    overall = [row for row in rows if row["group"] == "all"]
    cells = {(row["driver"], row["part"], row["metric"]): row for row in overall}
    headings = [heading for heading, _, _ in COLUMNS.values()]
    lines = [f"| driver | {' | '.join(headings)} |", "| --- |" + " ---: |" * len(headings)]
    for driver in dict.fromkeys(row["driver"] for row in overall):
        shown = [_cell(cells.get((driver, *column)), *how[1:]) for column, how in COLUMNS.items()]
        lines.append(f"| {driver} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None, factor: int, digits: int) -> str:
    if row is None or row["value"] is None:
        return "–"
    value, low, high = (None if row[k] is None else f"{factor * row[k]:.{digits}f}" for k in ("value", "low", "high"))
    return f"{value}" if row["by_construction"] or low is None else f"{value} ({low}–{high})"


if __name__ == "__main__":
    sys.exit(main())
