"""What a run directory holds: its stages in the order they were carried out, with time, memory and command.

Reads `run.json` of every stage below a directory and the recipe's `cost.json` where there is one. Knows nothing of
what a stage does.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_json


@dataclass(frozen=True)
class Stage:
    """One stage's directory. `seconds` and `peak_memory_mib` are None where nobody measured them."""

    directory: Path
    stage: str  # 'sft', 'rl', ...
    state: str  # 'finished', 'running', 'failed'
    started: str
    command: str
    config: dict[str, Any]
    seconds: float | None
    peak_memory_mib: float | None

    @property
    def name(self) -> str:
        return self.directory.name


def find_stages(run: Path) -> list[Stage]:
    """Stages directly below `run`, oldest first. Raises UserError when there is none."""
    if not run.is_dir():
        raise UserError(f"{run} is not a directory; expected the directory that holds the stages of a run.")
    cost = read_json(run / "cost.json") if (run / "cost.json").exists() else {}
    stages = [_stage(path.parent, cost) for path in sorted(run.glob("*/run.json"))]
    if not stages:
        raise UserError(f"{run} holds no stage (a directory with run.json); run a recipe or a stage into it first.")
    return sorted(stages, key=lambda stage: (stage.started, stage.name))


def _stage(directory: Path, cost: dict[str, Any]) -> Stage:
    record = read_json(directory / "run.json")
    measured = _measured(cost, directory.name)
    return Stage(
        directory=directory,
        stage=record.get("stage", "?"),
        state=record.get("state", "?"),
        started=record.get("started", ""),
        command=" ".join(record.get("command", [])),
        config=record.get("config", {}),
        seconds=measured.get("seconds", _elapsed_s(record)),
        peak_memory_mib=measured.get("peak_memory_mib"),
    )


def _measured(cost: dict[str, Any], name: str) -> dict[str, Any]:
    """What a recipe measured of a stage; stages that ran side by side ("a and b") share it by their own time."""
    for names, entry in cost.items():
        together = names.split(" and ")
        if name in together:
            own_s = entry.get("own_seconds") or dict.fromkeys(together, 1.0)
            return entry | {"seconds": entry["seconds"] * own_s[name] / max(sum(own_s.values()), 1e-9)}
    return {}


def _elapsed_s(record: dict[str, Any]) -> float | None:
    """From start to end; None for a run that was resumed, since the pause between is not known."""
    if "ended" not in record or "started" not in record or record.get("resumed"):
        return None
    ended, started = (datetime.datetime.fromisoformat(record[name]) for name in ("ended", "started"))
    return (ended - started).total_seconds()


def of_kind(stages: list[Stage], kind: str) -> list[Stage]:
    return [stage for stage in stages if stage.stage == kind]
