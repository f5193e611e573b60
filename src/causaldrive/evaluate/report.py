"""The evaluate stage's page: tables, bars, families, differences, videos, failures.

Reads results as `stage` writes them; writes `report.html`. Knows nothing of how the numbers were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from causaldrive.evaluate.metrics import METRICS
from causaldrive.evaluate.tables import (
    CLOSED_LOOP,
    FIRST_PATH,
    OPEN_LOOP,
    REASONING,
    Column,
    Row,
    Rows,
    differences_table,
    drivers_table,
    groups_table,
)
from causaldrive.ground import plots
from causaldrive.ground.page import Block, Figure, Fold, Grid, Item, Section, Table, Text, Video, write_page
from causaldrive.ground.plots import Interval

Results = dict[str, Any]
PART_TITLES = {"open_loop": "Open loop", "closed_loop": "Closed loop in the town", "replay": "Closed-loop log replay"}
PART_TEXTS = {
    "open_loop": "At each labelled moment of held-out recordings the driver plans 6.4 s; the plan is compared with "
    "what was really driven. minADE takes the nearest of {samples} samples; drivers without a model have one.",
    "closed_loop": "Each driver drives the same held-out scenes. Clean: no at-fault collision, never off the road, no "
    "rule broken. Progress is relative to the expert's distance in the same scene.",
    "replay": "The driver takes over in a recorded drive; everybody else follows the log. A drive ends more than 4 m "
    "beside the log. Progress is relative to the recorded driver.",
}
REASONING_TEXT = (
    "What the driver says, against the truth. A trace that cannot be read is unscored and lowers only the share of "
    "readable traces. Causes are compared as sets; consistency asks whether the planned motion does what the "
    "trace says on both axes."
)


def write_report(out: Path, results: Results) -> None:
    """Write `report.html` into `out`."""
    rows = Rows(results["rows"])
    sections = [
        section
        for part in PART_TITLES
        if rows.has(part)
        for section in [Section(PART_TITLES[part], part_items(results, rows, part))]
    ]
    sections += [Section("Compared", [differences_table(results["differences"])])] if results["differences"] else []
    videos = video_items(results, "")
    sections += [Section("Drives to look at", videos)] if videos else []
    sections.append(Section("How this was made", provenance(results)))
    drivers = ", ".join(results["drivers"])
    write_page(out / "report.html", "How well does it drive, and does it know why?", sections, f"Drivers: {drivers}.")


def part_items(results: Results, rows: Rows, part: str) -> list[Item]:
    """Text, main table, bars, reasoning, families of one part."""
    drivers = results["drivers"]
    metrics = OPEN_LOOP if part == "open_loop" else CLOSED_LOOP
    items: list[Item] = [Text(PART_TEXTS[part].format(samples=results["samples"]))]
    items.append(drivers_table(rows, drivers, [Column(part, metric) for metric in metrics],
                               caption="Small print: 95 % interval and count. Bold: best measured value."))  # fmt: skip
    main = ("minade_3s_m", "minade_6s4_m") if part == "open_loop" else ("clean_share", "scene_score")
    figure = bars(rows, drivers, [Column(part, metric) for metric in main])
    items.append(Figure(figure, alt="intervals of the main numbers"))
    if part == "open_loop":
        items.append(drivers_table(rows, drivers, [Column(part, metric) for metric in FIRST_PATH],
                                   caption="Where the first path leads (a steering gain of 1 steers as far as is "
                                           "needed), how smooth it is, and what an answer costs."))  # fmt: skip
    spoken = [driver for driver in drivers if rows.get(part, driver, "parse_rate") is not None]
    if spoken:
        columns = [Column(part, metric) for metric in REASONING]
        items += [Text("**Reasons.** " + REASONING_TEXT), drivers_table(rows, spoken, columns)]
    items += [family_fold(rows, drivers, part, kind, (*main, "decision_accuracy", "cause_f1", "consistency"))
              for kind in ("family", "variant") if rows.groups(part, kind)]  # fmt: skip
    return items


def bars(rows: Rows, drivers: Sequence[str], columns: Sequence[Column]) -> bytes:
    """One panel a column, one bar a driver."""
    groups = {}
    for column in columns:
        unit = METRICS[column.metric].unit
        found = [(driver, rows.get(column.part, driver, column.metric)) for driver in drivers]
        title = METRICS[column.metric].title + (f" ({unit})" if unit else "")
        title = f"{title}, replay" if column.part == "replay" else title
        scale = 100.0 if unit == "%" else 1.0
        groups[title] = [_interval(driver, row, scale) for driver, row in found if row is not None]
    return plots.intervals(groups, columns=len(groups))


def _interval(driver: str, row: Row, scale: float) -> Interval:
    low, value, high = (None if row[name] is None else scale * row[name] for name in ("low", "value", "high"))
    return Interval(driver, value, low, high)


def family_fold(rows: Rows, drivers: Sequence[str], part: str, kind: str, metrics: Sequence[str]) -> Fold:
    """Tables by family or variant behind one line."""
    tables: list[Item] = []
    for metric in metrics:
        have = [driver for driver in drivers if any(rows.get(part, driver, metric, g) for g in rows.groups(part, kind))]
        if have:
            tables.append(groups_table(rows, have, part, kind, metric))
    names = {"family": "By kind of scene", "variant": "Where the object is a cause, and where it is harmless"}
    return Fold(names[kind], tables)


def video_items(results: Results, prefix: str) -> list[Item]:
    """The filmed drives in a grid; `prefix` leads from the page to the evaluate directory."""
    if not results["videos"]:
        return []
    text = (
        "Left: the camera with the planned path (green, the driven one; pale, further samples). Right: the same moment "
        "from above. Below: what the driver says at its last decision, and what is true."
    )
    films = [Video(prefix + v["file"], f"**{_scene(v)}**, {v['driver']}: {v['outcome']}") for v in results["videos"]]
    return [Text(text), Grid(films, least_px=560)]


def _scene(video: Row) -> str:
    if video["family"] is None:
        return str(video["item"])
    return video["family"].replace("_", " ") + (", harmless variant" if video["harmless"] else "")


def provenance(results: Results) -> list[Item]:
    """Command, seeds, what was set aside, failures."""
    seeds = results["seeds"]
    last = seeds["first_scene"] + max(seeds["scenes"] - 1, 0)
    items: list[Item] = [Block(" ".join(results["command"]), "The command.")]
    scenes = f" {seeds['scenes']} scenes, seeds {seeds['first_scene']} to {last}." if seeds["scenes"] else ""
    items.append(Text(f"Sampling seed {seeds['seed']}.{scenes} Intervals: bootstrap over recordings or scenes; Wilson "
                      "for shares of independent scenes."))  # fmt: skip
    items += [Text(note, "bad") for note in results["notes"]]
    if results["set_aside"]:
        items.append(Text("Set aside: " + ", ".join(f"{n} {name}" for name, n in results["set_aside"].items()) + "."))
    if results["failures"]:
        lines = [(f["part"].replace("_", " "), f["driver"], f["item"], f["reason"]) for f in results["failures"]]
        items.append(Fold("Failures, counted apart from scores",
                          [Table(("part", "driver", "item", "reason"), lines, text_columns=4)]))  # fmt: skip
    else:
        items.append(Text("No driver and no scene failed."))
    return items
