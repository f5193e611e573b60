"""Training curves of stages, from their metrics.jsonl.

Returns page items. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from causaldrive.ground.page import Figure, Item, Text
from causaldrive.ground.plots import Curve, Panel, curves
from causaldrive.ground.runs import read_metrics
from causaldrive.view.stages import Stage

SFT_PANELS = {"text_loss": "trace", "traj_loss": "trajectory tokens", "flow_loss": "flow decoder"}
RL_PANELS = {
    "reward_drive": "drive reward", "reward_reasoning": "reasoning reward", "reward_consistency": "consistency reward",
    "scene_score": "scene score", "clean": "clean drives", "kl": "KL to the start",
}  # fmt: skip


def training_items(sft: Sequence[Stage], rl: Sequence[Stage]) -> list[Item]:
    """Losses of all sft runs on shared axes, then each rl run's rewards."""
    items: list[Item] = []
    losses = _panels(SFT_PANELS, {name: rows for stage in sft for name, rows in _sft_lines(stage).items()}, "step")
    if losses:
        items += [Text("**Supervised.** Losses per optimizer step; validation on recordings held back from training."),
                  Figure(curves(losses, smooth=9), alt="sft losses")]  # fmt: skip
    for stage in rl:
        rewards = _panels(RL_PANELS, {stage.name: read_metrics(stage.directory)}, "iteration")
        if rewards:
            items += [Text(f"**{stage.name}.** Means over the drives of each round, sampled warmer than in evaluation; "
                           "every round drives new scenes, so rounds differ by luck too."),
                      Figure(curves(rewards), alt=f"{stage.name} rewards")]  # fmt: skip
    return items


def _sft_lines(stage: Stage) -> dict[str, list[dict[str, Any]]]:
    rows = read_metrics(stage.directory)
    return {f"{stage.name}, {split}": [row for row in rows if row.get("split") == split]
            for split in ("train", "validation")}  # fmt: skip


def _panels(titles: dict[str, str], lines: dict[str, list[dict[str, Any]]], x: str) -> list[Panel]:
    """One panel a metric that any of the named rows have."""
    panels = []
    for metric, title in titles.items():
        found = [
            Curve(name, [row[x] for row in have], [row[metric] for row in have])
            for name, rows in lines.items()
            if (have := [row for row in rows if isinstance(row.get(metric), int | float) and x in row])
        ]
        if found:
            panels.append(Panel(title, found, x))
    return panels
