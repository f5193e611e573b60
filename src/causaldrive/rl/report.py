"""Pages of an rl run: report.html with a curve for each reward, drives before and after, and sample traces.

Reads metrics rows and probe files; writes one HTML file. Knows nothing of how learning works.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from causaldrive.ground.files import read_json
from causaldrive.ground.page import Cell, Figure, Fold, Item, Section, Table, write_page
from causaldrive.ground.plots import Curve, Panel, curves
from causaldrive.rl.config import RlConfig

_REWARDS = {"reward_drive": "drive reward, per decision", "reward_episode": "drive reward, whole drive",
            "reward_reasoning": "reasoning reward", "reasoning_caused": "reasoning reward where there is a cause",
            "reasoning_clear": "reasoning reward where there is none", "reward_consistency": "consistency reward",
            "rubric": "reasoning, 0-5 rubric", "unreadable": "share of text that cannot be read"}  # fmt: skip
_OUTCOMES = {"outcome_along": "outcome of drawn paths, along", "outcome_aside": "outcome of drawn paths, aside"}
_DRIVING = {"scene_score": "scene score", "clean": "clean drives", "progress": "progress", "comfort": "comfort",
            "at_fault_collision": "at-fault collision", "off_road": "off the road",
            "rule_breaking": "rule broken"}  # fmt: skip
_LEARNING = {"kl": "KL to the start, nats a token", "clip_fraction": "share of tokens clipped",
             "entropy": "entropy, nats a token", "grad_norm": "gradient norm",
             "lessons": "decisions learnt from", "without_variance": "decisions without variance"}  # fmt: skip
_SUPERVISED = {"anchor_loss": "loss on the anchor", "dagger_loss": "loss on the expert's answers",
               "shown": "places with an expert's answer"}  # fmt: skip
_LOWER_IS_BETTER = ("unreadable", "at_fault_collision", "off_road", "rule_breaking")
_EXAMPLE_SCENES = 4


def card_text(config: RlConfig, metrics: Sequence[dict[str, Any]]) -> str:
    """Markdown for the checkpoint's model card."""
    last = metrics[-1]
    values = ", ".join(f"{name.removeprefix('reward_')} {_number(last[name]):.3f}" for name in _REWARDS)
    return (
        "## Training (rl)\n\n"
        f"- started from a supervised student; objective {config.objective}, part {config.part}, decoder "
        f"{'trained by flow-SDE' if config.train_decoder else 'as it was'}\n"
        f"- {config.iterations} rounds of {config.scenes_per_iteration} scenes driven {config.group_size} times, "
        f"seeds {config.first_seed} to {config.first_seed + config.scene_count - 1}\n"
        f"- weights: drive {config.drive_weight:g}, reasoning {config.reasoning_weight:g}, consistency "
        f"{config.consistency_weight:g}, balance {config.balance:g}; KL {config.kl_weight:g}; "
        f"the expert's answers where it drove {config.dagger_weight:g}; "
        f"learning rate {config.learning_rate:g}, seed {config.seed}\n"
        f"- means of the last round (sampled at temperature {config.temperature:g}): {values}\n"
    )


def write_report(path: Path, config: RlConfig, metrics: Sequence[dict[str, Any]]) -> None:
    """report.html of the run."""
    lead = (
        f"{config.iterations} rounds of {config.scenes_per_iteration} scenes, each driven {config.group_size} times; "
        f"objective **{config.objective}**, part **{config.part}**, decoder "
        f"{'trained too' if config.train_decoder else 'as it was'}."
    )
    probes = [config.out / f"probe_{name}.json" for name in ("before", "after")]
    sections = [_rewards(config, metrics)]
    if all(probe.exists() for probe in probes):
        before, after = (read_json(probe) for probe in probes)
        sections += [_probe(before["summary"], after["summary"]), _traces(before["decisions"], after["decisions"])]
    sections += [_driving(metrics), _learning(metrics)]
    write_page(path, "Reinforcement learning in closed loop", sections, lead)


def _figure(metrics: Sequence[dict[str, Any]], titles: dict[str, str], caption: str) -> Figure:
    rounds = [row["iteration"] + 1 for row in metrics]
    panels = [
        Panel(title, [Curve(title, rounds, [_number(row[name]) for row in metrics])], "round")
        for name, title in titles.items()
    ]
    return Figure(curves(panels, columns=3), caption, caption)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _rewards(config: RlConfig, metrics: Sequence[dict[str, Any]]) -> Section:
    text = (
        f"Each reward on its own, between 0 and 1, as means over all decisions of a round. What is learnt from is the "
        f"difference to the other drives of the same scene, with weights drive {config.drive_weight:g}, reasoning "
        f"{config.reasoning_weight:g}, consistency {config.consistency_weight:g}. Every round has new scenes, so a "
        "curve also moves with how hard they are; the same scenes before and after are in the next section."
    )
    if config.paths:
        words = "with words of their own" if config.own_words else "for the words"
        text += (
            f" Besides, {config.paths} paths are drawn {words}"
            " at each decision and compared with each other by how well they do what their words say"
            f"{', and the words by their reasons.' if config.own_words else '.'}"
        )
    if config.try_paths_s:
        text += (
            f" Each is driven {config.try_paths_s:g} s in a branch of the world and compared by where it leads: how "
            "far from the expert's way from there, and to what harm."
        )
    if config.dagger_weight:
        text += (
            f" Beside the rewards, what the expert says and does from the places that these drives came to is "
            f"imitated, with weight {config.dagger_weight:g}."
        )
    shown = _REWARDS | (_OUTCOMES if all(name in row for row in metrics for name in _OUTCOMES) else {})
    return Section("Rewards", [text, _figure(metrics, shown, f"Sampled at temperature {config.temperature:g}.")])


def _probe(before: dict[str, Any], after: dict[str, Any]) -> Section:
    rows = [[title, before[name], after[name], _change(before[name], after[name], name in _LOWER_IS_BETTER)]
            for name, title in (_REWARDS | _DRIVING).items()]  # fmt: skip
    for name, title in (("drives", "drives scored"), ("decisions", "decisions"), ("failures", "failed drives")):
        rows.append([title, before[name], after[name], None])
    text = (
        "The same training-split scenes with the same random numbers and the settings of evaluation, not learnt from."
    )
    return Section("Before and after", [text, Table(["what", "before", "after", "change"], rows)])


def _change(before: float | None, after: float | None, lower_is_better: bool) -> Cell | None:
    if before is None or after is None:
        return None
    change = after - before
    gain = -change if lower_is_better else change
    tone = "muted" if abs(change) < 5e-3 else "good" if gain > 0 else "bad"
    return Cell(f"{change:+.3f}", tone=tone)


def _traces(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> Section:
    scenes = list(dict.fromkeys(row["scene"] for row in before))[:_EXAMPLE_SCENES]
    items: list[Item | str] = [
        "What was said at the same decision, before and after. Drives drift apart, so truths can differ later on."
    ]
    for number, scene in enumerate(scenes):
        table = Table(
            ["s", "", "said", "true", "drive", "reasoning", "consistency"], _pairs(before, after, scene), text_columns=4
        )
        items.append(table if number == 0 else Fold(scene, [table]))
        if number == 0:
            items.insert(1, f"Scene `{scene}`:")
    return Section("Sample traces", items)


def _pairs(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], scene: str) -> list[list[Any]]:
    sides = [{row["index"]: row for row in rows if row["scene"] == scene} for rows in (before, after)]
    out: list[list[Any]] = []
    for index in sorted(set(sides[0]) & set(sides[1])):
        for name, side in zip(("before", "after"), sides, strict=True):
            row = side[index]
            tone = "good" if row["reasoning"] == 1.0 else "bad" if row["reasoning"] < 0.5 else "plain"
            said = Cell(row["text"] or "(nothing)", tone=tone)
            rewards = [f"{row[reward]:.2f}" for reward in ("drive", "reasoning", "consistency")]
            out.append([f"{row['t_s']:.1f}", name, said, row["truth"], *rewards])
    return out


def _driving(metrics: Sequence[dict[str, Any]]) -> Section:
    reasons = [reason for row in metrics for reason in row["failure_reasons"]]
    failed = sum(row["failures"] for row in metrics)
    text = f"{sum(row['drives'] for row in metrics)} drives scored, {failed} failed and counted apart."
    items: list[Item | str] = [text, _figure(metrics, _DRIVING, "Means over the drives of a round.")]
    return Section("Driving", [*items, *sorted(set(reasons))[:5]])


def _learning(metrics: Sequence[dict[str, Any]]) -> Section:
    seconds = {name: sum(row[f"seconds_{name}"] for row in metrics) for name in ("driving", "learning")}
    steps = sum(row["optimizer_steps"] for row in metrics)
    text = (
        f"{sum(row['tokens'] for row in metrics):,} tokens and {sum(row['lessons'] for row in metrics):,} decisions in "
        f"{steps:,} optimizer steps; {seconds['driving']:.0f} s of driving, {seconds['learning']:.0f} s of learning."
    )
    supervised = {name: title for name, title in _SUPERVISED.items() if all(row.get(name) for row in metrics)}
    return Section("Learning", [text, _figure(metrics, _LEARNING | supervised, "Means over a round.")])
