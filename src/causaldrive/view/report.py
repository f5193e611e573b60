"""The page over all stages of a run: how good, by which bars, what it looks like, how it was made.

Reads the stage directories below a run directory; writes `report.html` and copies of the videos, so that the report's
directory can be moved. A stage that is missing is named as missing. Knows nothing of how numbers were made.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causaldrive.evaluate.report import bars as interval_bars
from causaldrive.evaluate.report import family_fold, video_items
from causaldrive.evaluate.tables import Column, Rows, differences_table, drivers_table
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import atomic_path, read_json
from causaldrive.ground.page import Cell, Figure, Grid, Item, Section, Table, Text, write_page
from causaldrive.ground.runs import open_run
from causaldrive.label.store import labels_path, read_labels
from causaldrive.label.types import CocLabel
from causaldrive.view.bars import bars_of, roles_of
from causaldrive.view.plots import training_items
from causaldrive.view.stages import Stage, find_stages, of_kind

LEAD = (
    "From recorded drives to a model that drives and says why: an expert drives, its decisions become labels with "
    "causes, a student learns to think and to act from them, then drives itself and is rewarded for driving safely, "
    "for true reasons, and for doing what it says."
)
DRIVING = {
    "open_loop": ("minade_3s_m", "minade_6s4_m"),
    "closed_loop": ("clean_share", "at_fault_collision_share", "off_road_share", "rule_breaking_share", "progress",
                    "scene_score"),
    "replay": ("clean_share", "at_fault_collision_share", "off_road_share", "progress", "scene_score"),
}  # fmt: skip
PICTURED = (
    Column("open_loop", "minade_6s4_m"),
    Column("closed_loop", "clean_share"),
    Column("closed_loop", "scene_score"),
    Column("replay", "scene_score"),
)
REASONS_TEXT = (
    "**Reasons, {part}**: is the decision right, are the named causes the true ones, and does the car do what it says?"
)
HEADLINE_CAPTION = (
    "Each value with its 95 % interval and count; bold: best measured value. minADE takes the best of {samples} "
    "samples, in metres; failures are counted apart from scores."
)
REASONS = ("decision_accuracy", "cause_precision", "cause_recall", "cause_f1", "consistency")
PART_WORDS = {"open_loop": "open loop", "closed_loop": "closed loop", "replay": "log replay"}
CHAIN = ("worlds record", "label", "student build", "sft", "rl", "evaluate")


@dataclass(frozen=True)
class ReportConfig:
    """One page over all stages of a run."""

    run: Path  # directory that holds the stage directories
    out: Path  # where report.html goes
    title: str = "causaldrive"


def run(config: ReportConfig) -> None:
    """The stage's entry point. Raises UserError when the run holds no stage."""
    stages = [stage for stage in find_stages(config.run) if stage.directory.resolve() != config.out.resolve()]
    if not stages:
        raise UserError(f"{config.run} holds no stage beside the report itself; run a recipe into it first.")
    inputs = {stage.name: _seal(stage) for stage in stages}
    with open_run(config.out, "view report", config, inputs) as opened:
        if not opened.done:
            write_page(config.out / "report.html", config.title, sections_of(stages, config.out), LEAD)


def _seal(stage: Stage) -> Path:
    """The file by which a stage's content is told: a report of other numbers is another report."""
    candidates = [stage.directory / name for name in ("results.json", "labels.parquet", "checkpoint/config.json")]
    return next((path for path in candidates if path.exists()), stage.directory / "run.json")


def sections_of(stages: list[Stage], out: Path) -> list[Section]:
    """All sections, best first: numbers, pictures, bars, comparisons, training, labels, stages."""
    sections: list[Section] = []
    evaluated = [s for s in of_kind(stages, "evaluate") if (s.directory / "results.json").exists()]
    for stage in evaluated:
        sections += _evaluation_sections(stage, stages, out, len(evaluated) > 1)
    training = training_items(of_kind(stages, "sft"), of_kind(stages, "rl"))
    if training:
        sections.append(Section("How it learnt", training))
    sections += [_label_section(stage) for stage in of_kind(stages, "label") if labels_path(stage.directory).exists()]
    return [*sections, _stage_section(stages, out)]


def _evaluation_sections(stage: Stage, stages: list[Stage], out: Path, several: bool) -> list[Section]:
    results = read_json(stage.directory / "results.json")
    rows = Rows(results["rows"])
    suffix = f" ({stage.name})" if several else ""
    link = f"More in [the evaluation's own report]({_relative(stage.directory, out)}/report.html)."
    found = [Section("How good is it" + suffix, [*_headline(results, rows), Text(link)])]
    films = video_items({**results, "videos": _copied(results["videos"], stage, out)}, "")
    if films:
        found.append(Section("Drives to look at" + suffix, films))
    roles = roles_of(results)
    if roles.coc and rows.has("closed_loop"):
        found.append(Section("What was asked, what was measured" + suffix, [_bars_table(rows, roles, stages)]))
    if results["differences"]:
        found.append(Section("Compared pair by pair" + suffix, [differences_table(results["differences"])]))
    folds: list[Item] = [
        family_fold(rows, results["drivers"], part, kind, _fold_metrics(part))
        for part in PART_WORDS
        for kind in ("family", "variant")
        if rows.groups(part, kind) and part != "replay"
    ]
    if folds:
        found.append(Section("By kind of scene" + suffix, _titled(folds, rows)))
    return found


def _headline(results: dict[str, Any], rows: Rows) -> list[Item]:
    drivers, parts = results["drivers"], [part for part in PART_WORDS if rows.has(part)]
    driving = [_column(part, metric, part == "replay") for part in parts for metric in DRIVING[part]]
    items: list[Item] = [
        drivers_table(rows, drivers, driving, caption=HEADLINE_CAPTION.format(samples=results["samples"])),
    ]
    for part in parts:
        spoken = [driver for driver in drivers if rows.get(part, driver, "parse_rate")]
        columns = [Column(part, metric) for metric in REASONS if _known(rows, part, metric)]
        if spoken and columns:
            items += [Text(REASONS_TEXT.format(part=PART_WORDS[part])), drivers_table(rows, spoken, columns)]
    pictured = [column for column in PICTURED if column.part in parts]
    return [*items, Figure(interval_bars(rows, drivers, pictured), alt="the main numbers with their intervals")]


def _known(rows: Rows, part: str, metric: str) -> bool:
    return any(row is not None and not row["by_construction"] for row in rows.every(part, metric))


def _column(part: str, metric: str, name_part: bool) -> Column:
    column = Column(part, metric)
    return Column(part, metric, f"{column.title}, {PART_WORDS[part]}") if name_part else column


def _fold_metrics(part: str) -> tuple[str, ...]:
    if part == "open_loop":
        return ("minade_6s4_m", "decision_accuracy", "cause_f1")
    return ("clean_share", "scene_score", "decision_accuracy", "consistency")


def _titled(folds: list[Item], rows: Rows) -> list[Item]:
    """Folds of both parts, each part under its name."""
    titles = [PART_WORDS[part] for part in PART_WORDS for kind in ("family", "variant")
              if rows.groups(part, kind) and part != "replay"]  # fmt: skip
    items: list[Item] = []
    for index, (title, fold) in enumerate(zip(titles, folds, strict=True)):
        items += [Text(f"**{title.capitalize()}**")] if index == 0 or titles[index - 1] != title else []
        items.append(fold)
    return items


def _bars_table(rows: Rows, roles: Any, stages: list[Stage]) -> Table:
    words = {True: ("met", "good"), False: ("not met", "bad"), None: ("not measured", "muted")}
    lines = [[bar.asked, bar.measured, Cell(words[bar.met][0], tone=words[bar.met][1])]
             for bar in bars_of(rows, roles, stages)]  # fmt: skip
    return Table(("asked", "measured", ""), lines, "Computed from the numbers above.", text_columns=2)


def _copied(videos: list[dict[str, Any]], stage: Stage, out: Path) -> list[dict[str, Any]]:
    """The videos' rows with their files copied beside the report."""
    shown = []
    for video in videos:
        source, name = stage.directory / video["file"], f"videos/{stage.name}-{Path(video['file']).name}"
        if source.exists():
            with atomic_path(out / name) as temporary:
                shutil.copyfile(source, temporary)
            shown.append({**video, "file": name})
    return shown


def _label_section(stage: Stage) -> Section:
    labels = read_labels(stage.directory)
    accepted = [label for label in labels if label.status in ("accepted", "edited")]
    decisions = Counter(_decision(label) for label in accepted)
    kinds = Counter(kind for label in accepted for kind in ({c.kind or "open text" for c in label.causes} or {"none"}))
    counts = ", ".join(f"{n} {status}" for status, n in sorted(Counter(label.status for label in labels).items()))
    teachers = ", ".join(sorted({label.teacher for label in labels}))
    example = next((label.trace for label in accepted if label.causes), "")
    items: list[Item] = [Text(f"{len(labels)} keyframes explained by teacher **{teachers}**: {counts}.")]
    items += [Text(f"For example: “{example}”")] if example else []
    tables = [_count_table("decision", decisions), _count_table("cause", kinds)]
    return Section(f"Labels ({stage.name})", [*items, Grid(tables, least_px=440)])


def _decision(label: CocLabel) -> str:
    words = (label.decision_longitudinal, label.decision_lateral, label.direction)
    return ", ".join(word.replace("_", " ") for word in words if word)


def _count_table(name: str, counts: Counter[str]) -> Table:
    rows, total = counts.most_common(12), counts.total()
    return Table((name, "count", "share"), [[key.replace("_", " "), n, f"{n / total:.0%}"] for key, n in rows])


def _stage_section(stages: list[Stage], out: Path) -> Section:
    """Every stage with its command, time and memory; and which of the chain is missing."""
    lines = []
    for stage in stages:
        page = stage.directory / "report.html"
        name = f"[{stage.name}]({_relative(stage.directory, out)}/report.html)" if page.exists() else stage.name
        memory = None if stage.peak_memory_mib is None else f"{stage.peak_memory_mib / 1024:.2f} GiB"
        tone = "good" if stage.state == "finished" else "bad"
        lines.append([name, f"`{stage.command}`", Cell(stage.state, tone=tone), _duration(stage.seconds), memory])
    items: list[Item] = [Table(("stage", "command", "state", "time", "peak memory"), lines, text_columns=2)]
    missing = [kind for kind in CHAIN if not of_kind(stages, kind)]
    if missing:
        items.append(Text(f"Not in this run: {', '.join(missing)}.", "muted"))
    return Section("How it was made", items)


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _relative(directory: Path, out: Path) -> str:
    return Path(os.path.relpath(directory.resolve(), out.resolve())).as_posix()
