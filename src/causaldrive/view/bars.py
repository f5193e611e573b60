"""The bars of the demo, each computed from the numbers of the run: what was asked, what was measured, met or not.

Reads evaluation rows and stage costs. Knows nothing of pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causaldrive.evaluate.drivers import CONSTANT_VELOCITY
from causaldrive.evaluate.tables import Rows, shown
from causaldrive.ground.files import read_json
from causaldrive.view.stages import Stage

MOST_MINUTES, MOST_GIB = 25.0, 6.0
LEAST_GAIN, LEAST_CLEAN_FACTOR, LEAST_DECISION, LEAST_F1 = 0.30, 2.0, 0.70, 0.60


@dataclass(frozen=True)
class Bar:
    """One bar. `met` is None where it cannot be judged."""

    asked: str
    measured: str
    met: bool | None


@dataclass(frozen=True)
class Roles:
    """Which student plays which part in the bars; None where there is none."""

    trajectory: str | None
    coc: str | None
    rl: str | None


def roles_of(results: dict[str, Any]) -> Roles:
    """By what made the checkpoint (the run.json beside it), and by whether the student writes a trace."""
    trajectory = coc = rl = None
    for name, student in results["students"].items():
        made_by = _made_by(Path(student["path"])) or ("rl" if "rl" in name.lower() else "sft")
        if not student["reason"]:
            trajectory = trajectory or name
        elif made_by == "rl":
            rl = rl or name
        else:
            coc = coc or name
    return Roles(trajectory, coc, rl)


def _made_by(checkpoint: Path) -> str | None:
    record = checkpoint.parent / "run.json"
    return read_json(record).get("stage") if record.exists() else None


def bars_of(rows: Rows, roles: Roles, stages: Sequence[Stage]) -> list[Bar]:
    """Every bar of the demo that this run has numbers for."""
    bars = _cost_bars(stages)
    if roles.coc is not None:
        bars += _coc_bars(rows, roles.coc)
        if roles.rl is not None:
            bars += _rl_bars(rows, roles.coc, roles.rl)
    return bars


def _cost_bars(stages: Sequence[Stage]) -> list[Bar]:
    timed = [stage.seconds for stage in stages if stage.seconds is not None and stage.stage != "view report"]
    minutes = sum(timed) / 60
    weighed = [stage.peak_memory_mib for stage in stages if stage.peak_memory_mib is not None]
    complete = all(stage.seconds is not None for stage in stages if stage.stage != "view report")
    bars = [Bar(f"the whole chain in {MOST_MINUTES:g} minutes on two cores", f"{minutes:.1f} minutes",
                minutes <= MOST_MINUTES if complete else None)]  # fmt: skip
    if weighed:
        gib = max(weighed) / 1024
        bars.append(Bar(f"at most {MOST_GIB:g} GiB of memory", f"{gib:.2f} GiB", gib <= MOST_GIB))
    return bars


def _coc_bars(rows: Rows, coc: str) -> list[Bar]:
    ade, rival = (rows.value("open_loop", name, "minade_6s4_m") for name in (coc, CONSTANT_VELOCITY))
    clean, rival_clean = (_count(rows, name) for name in (coc, CONSTANT_VELOCITY))
    gain = None if ade is None or not rival else 1 - ade / rival
    factor = None if clean is None or rival_clean is None else clean >= LEAST_CLEAN_FACTOR * rival_clean and clean > 0
    return [
        Bar(f"{coc}: minADE @6.4 s at least {LEAST_GAIN:.0%} below constant velocity",
            f"{ade:.2f} m against {rival:.2f} m ({-gain:+.0%})" if gain is not None else "not measured",
            None if gain is None else gain >= LEAST_GAIN),
        Bar(f"{coc}: at least {LEAST_CLEAN_FACTOR:g} times as many clean scenes as constant velocity",
            f"{clean:.0f} against {rival_clean:.0f}" if factor is not None else "not measured", factor),
        _at_least(rows, coc, "decision_accuracy", LEAST_DECISION, "decision right in at least"),
        _at_least(rows, coc, "cause_f1", LEAST_F1, "cause F1 at least"),
    ]  # fmt: skip


def _count(rows: Rows, driver: str) -> float | None:
    row = rows.get("closed_loop", driver, "clean_share")
    return None if row is None or row["value"] is None else round(row["value"] * row["n"])


def _at_least(rows: Rows, driver: str, metric: str, least: float, words: str) -> Bar:
    value = rows.value("open_loop", driver, metric)
    met = None if value is None else value >= least
    return Bar(f"{driver}: {words} {shown(metric, least)}", shown(metric, value), met)


def _rl_bars(rows: Rows, coc: str, rl: str) -> list[Bar]:
    bars = []
    for metric, asked, strictly in (("scene_score", "does not lower the scene score", False),
                                    ("consistency", "raises consistency", True)):  # fmt: skip
        before, after = (rows.value("closed_loop", name, metric) for name in (coc, rl))
        met = None if before is None or after is None else (after > before if strictly else after >= before)
        bars.append(Bar(f"{rl}: {asked} (closed loop)", f"{_fine(before)} before, {_fine(after)} after", met))
    return bars


def _fine(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
