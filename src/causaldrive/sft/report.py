"""Pages of an sft run: report.html with curves, speed, data and examples; the text of the model card.

Reads metrics rows; writes one HTML file. Knows nothing of training itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from causaldrive.ground.page import Figure, Section, Table, write_page
from causaldrive.ground.plots import Curve, Panel, curves
from causaldrive.sft.check import Check
from causaldrive.sft.config import SftConfig
from causaldrive.sft.dataset import SampleData

_LOSS_TITLES = {"loss": "total loss", "text_loss": "trace: cross-entropy",
                "traj_loss": "trajectory tokens: cross-entropy", "flow_loss": "decoder: flow matching"}  # fmt: skip
_SMOOTH = 20


@dataclass(frozen=True)
class Story:
    """What a finished run has to tell."""

    config: SftConfig
    data: SampleData
    precision: str
    device: str
    parameters: int  # learnt
    metrics: Sequence[dict[str, Any]]
    check: Check | None
    best_step: int | None = None  # of the weights in `best`

    @property
    def train(self) -> list[dict[str, Any]]:
        return [row for row in self.metrics if row["split"] == "train"]

    @property
    def validation(self) -> list[dict[str, Any]]:
        return [row for row in self.metrics if row["split"] == "validation"]


def card_text(story: Story, step: int | None = None) -> str:
    """Markdown for the model card of the last weights, or of those after `step`."""
    config, rows = story.config, story.validation or story.train
    last = rows[-1] if step is None else next(row for row in rows if row["step"] == step)
    of, when = "validation" if story.validation else "training", f"step {last['step']}"
    losses = ", ".join(f"{name} {last[name]:.3f}" for name in _LOSS_TITLES)
    return (
        "## Training (sft)\n\n"
        f"- mode: {config.mode}, part: {config.part}\n"
        f"- data: {len(story.data.train)} training and {len(story.data.validation)} validation samples of "
        f"{story.data.recordings} recordings\n"
        f"- steps: {config.steps} of {config.batch_size} samples, {config.flow_draws} flow draws, peak learning rate "
        f"{config.learning_rate:g}, {story.precision} on {story.device}, seed {config.seed}\n"
        f"- {of} losses at {when}: {losses}\n"
    )


def write_report(path: Path, story: Story) -> None:
    """report.html of the run."""
    config = story.config
    lead = (
        f"Mode **{config.mode}**: {config.steps} steps of {config.batch_size} samples, "
        f"{story.parameters:,} learnt parameters, {story.precision} on {story.device}."
    )
    sections = [
        _losses(story),
        *([_check(story.check, config.mode)] if story.check else []),
        _speed(story),
        _data(story),
    ]
    write_page(path, f"Supervised fine-tuning: {config.mode}", sections, lead)


def _losses(story: Story) -> Section:
    shown = {name: title for name, title in _LOSS_TITLES.items() if any(row[name] for row in story.train)}
    panels = [Panel(title, _both(story, name), "step", log_y=True) for name, title in shown.items()]
    note = (
        f"Pale: every step; solid: mean over {_SMOOTH} steps. Validation is measured on recordings that training never "
        "sees, with the same noise each time."
        if story.validation
        else "Too few recordings for validation: at least twelve are needed to keep one back."
    )
    if story.best_step is not None:
        note += f" Best by {' + '.join(story.config.best_by)}: step {story.best_step}, kept in `best`."
    figure = Figure(curves(panels, columns=2, smooth=_SMOOTH), note, "loss curves")
    return Section("Losses", [figure, _loss_table(story, shown)])


def _both(story: Story, name: str) -> list[Curve]:
    groups = {"training": story.train, "validation": story.validation}
    return [Curve(label, [row["step"] for row in rows], [row[name] for row in rows])
            for label, rows in groups.items() if rows]  # fmt: skip


def _loss_table(story: Story, shown: dict[str, str]) -> Table:
    rows = []
    for name, title in shown.items():
        train = [row[name] for row in story.train]
        held = [row[name] for row in story.validation]
        ends = (held[0], held[-1]) if held else (None, None)
        rows.append([title, float(np.mean(train[:5])), float(np.mean(train[-_SMOOTH:])), *ends])
    head = [
        "loss",
        "training, first 5 steps",
        f"training, last {_SMOOTH} steps",
        "validation, first",
        "validation, last",
    ]
    return Table(head, rows)


def _check(found: Check, mode: str) -> Section:
    rows: list[list] = [["mean distance over 6.4 s, one trajectory", f"{found.ade_m:.2f} m", found.samples]]
    if mode == "coc":
        shares = {"both decisions right": found.decision, "longitudinal decision right": found.longitudinal,
                  "lateral decision and side right": found.lateral, "F1 of causes": found.cause_f1}  # fmt: skip
        rows += [
            [name, None if value is None else f"{100 * value:.0f} %", found.parsed] for name, value in shares.items()
        ]
        rows.append(["trace could be read", f"{100 * found.parsed / found.samples:.0f} %", found.samples])
    items: list = ["Greedy traces and one trajectory each, on validation samples.", Table(["what", "value", "n"], rows)]
    if mode == "coc":
        items.append(_examples(found))
    return Section("What it has learnt", items)


def _examples(found: Check) -> Table:
    rows = [[e.name, e.label_trace, e.trace or "(nothing)", f"{e.ade_m:.1f}"] for e in found.examples]
    return Table(["sample", "label", "student", "distance, m"], rows, "Examples, evenly spread.", text_columns=3)


def _speed(story: Story) -> Section:
    titles = {
        "lr": "learning rate",
        "grad_norm": "gradient norm before clipping",
        "samples_per_s": "samples per second",
        "tokens_per_s": "tokens per second",
        "rss_mib": "memory, MiB",
    }
    steps = [row["step"] for row in story.train]
    panels = [Panel(title, [Curve(title, steps, [row[name] for row in story.train])], "step")
              for name, title in titles.items()]  # fmt: skip
    rates, waits = ([row[name] for row in story.train] for name in ("samples_per_s", "wait_s"))
    seconds = sum(story.config.batch_size / rate for rate in rates)
    text = (
        f"{story.config.batch_size * len(rates) / seconds:.1f} samples per second over {seconds:.0f} s of steps; "
        f"{100 * sum(waits) / seconds:.1f} % of that waiting for data; "
        f"{sum(row['clipped_trajectories'] for row in story.train)} trajectories clipped to the action bounds."
    )
    return Section("Pace and optimizer", [text, Figure(curves(panels, columns=2), alt="pace")])


def _data(story: Story) -> Section:
    data = story.data
    counts = Counter(data.train.classes)
    words = sorted(counts.items(), key=lambda entry: (-entry[1], str(entry[0])))
    classes = Table(
        ["longitudinal", "lateral", "first cause", "samples"],
        [[*(name or "–" for name in key), count] for key, count in words],
        "Training samples by class; rare ones are drawn more often, by one over the square root of their count.",
        text_columns=3,
    )
    text = (
        f"{len(data.train)} training and {len(data.validation)} validation samples of {data.recordings} recordings; "
        f"decoded frames {data.train.cache.size_mib:.0f} MiB."
    )
    items: list = [text, classes]
    if data.left_out.counts:
        items.append(Table(["left out because", "count"], [[why, n] for why, n in data.left_out.counts.most_common()]))
        items += data.left_out.sentences[:5]
    return Section("Data", items)
