"""Result rows as page tables: drivers down, metrics across, each value with its interval and count.

Reads the rows of `results.json`; returns page items. Knows nothing of how the numbers were made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from causaldrive.evaluate.metrics import METRICS
from causaldrive.ground.page import Cell, Table

Row = Mapping[str, Any]
OPEN_LOOP = ("minade_3s_m", "minade_6s4_m", "ade_6s4_m", "fde_6s4_m")
FIRST_PATH = (
    "aside_2s_m", "steering_gain", "jerk_mps3", "lateral_acceleration_mps2", "path_parse_rate", "written_tokens",
)  # fmt: skip
CLOSED_LOOP = (
    "clean_share", "at_fault_collision_share", "off_road_share", "rule_breaking_share", "close_encounter_share",
    "progress", "comfort", "scene_score",
)  # fmt: skip
REASONING = (
    "parse_rate", "longitudinal_accuracy", "lateral_accuracy", "decision_accuracy", "cause_precision", "cause_recall",
    "cause_f1", "consistency",
)  # fmt: skip
COMPARED = {
    "open_loop": ("minade_3s_m", "minade_6s4_m", "decision_accuracy", "cause_f1", "consistency"),
    "closed_loop": ("clean_share", "progress", "scene_score", "decision_accuracy", "cause_f1", "consistency"),
    "replay": ("clean_share", "progress", "scene_score", "consistency"),
}


@dataclass(frozen=True)
class Column:
    """One column: a metric of a part, under a heading."""

    part: str
    metric: str
    head: str = ""

    @property
    def title(self) -> str:
        return self.head or METRICS[self.metric].title


class Rows:
    """Rows of `results.json`, found by part, driver, group and metric."""

    def __init__(self, rows: Iterable[Row]):
        self._rows = {(r["part"], r["driver"], r["group"], r["metric"]): r for r in rows}

    def get(self, part: str, driver: str, metric: str, group: str = "all") -> Row | None:
        return self._rows.get((part, driver, group, metric))

    def value(self, part: str, driver: str, metric: str, group: str = "all") -> float | None:
        row = self.get(part, driver, metric, group)
        return None if row is None else row["value"]

    def groups(self, part: str, kind: str) -> list[str]:
        """Names of the groups 'family:...' or 'variant:...' of a part, sorted."""
        return sorted({group for p, _, group, _ in self._rows if p == part and group.startswith(f"{kind}:")})

    def every(self, part: str, metric: str) -> list[Row]:
        """Rows of a metric over all drivers and groups."""
        return [row for (p, _, _, m), row in self._rows.items() if (p, m) == (part, metric)]

    def has(self, part: str) -> bool:
        return any(p == part for p, _, _, _ in self._rows)


def shown(metric: str, value: float | None) -> str:
    """A value of a metric as text: shares in percent, metres with two decimals."""
    if value is None:
        return "–"
    unit = METRICS[metric].unit
    return f"{100 * value:.0f} %" if unit == "%" else f"{value:.2f}"


def cell(row: Row | None, best: bool = False) -> Cell:
    """Value, interval and count of a row; a dash where the driver has no such number."""
    if row is None:
        return Cell("–", tone="muted")
    metric, failures = row["metric"], row["failures"]
    failed = f", {failures} failed" if failures else ""
    if row["by_construction"] and metric != "consistency":  # planned and spoken apart
        return Cell(shown(metric, row["value"]), f"by construction{failed}", "muted")
    interval = ""
    if row["low"] is not None:
        interval = f"{shown(metric, row['low']).removesuffix(' %')}–{shown(metric, row['high'])}, "
    return Cell(shown(metric, row["value"]), f"{interval}n {row['n']}{failed}", "strong" if best else "plain")


def drivers_table(rows: Rows, drivers: Sequence[str], columns: Sequence[Column], group: str = "all",
                  caption: str = "") -> Table:  # fmt: skip
    """One line a driver; the best measured value of each column is bold unless it is shared."""
    best = {column: _best(rows, drivers, column, group) for column in columns}
    lines = []
    for driver in drivers:
        found = [rows.get(column.part, driver, column.metric, group) for column in columns]
        if any(found):
            cells = [cell(row, best[column] == driver) for row, column in zip(found, columns, strict=True)]
            lines.append([Cell(driver), *cells])
    return Table(("driver", *(column.title for column in columns)), lines, caption)


def _best(rows: Rows, drivers: Sequence[str], column: Column, group: str) -> str | None:
    better = METRICS[column.metric].better
    values = {}
    for driver in drivers:
        row = rows.get(column.part, driver, column.metric, group)
        if row is not None and row["value"] is not None and not row["by_construction"]:
            values[driver] = row["value"]
    if len(values) < 2 or better == "none":
        return None
    winner = (min if better == "low" else max)(values, key=lambda name: values[name])
    return winner if list(values.values()).count(values[winner]) == 1 else None


def groups_table(rows: Rows, drivers: Sequence[str], part: str, kind: str, metric: str) -> Table:
    """One line a family (or variant), one column a driver, all of one metric."""
    lines = []
    for group in rows.groups(part, kind):
        name = group.partition(":")[2].replace("_", " ")
        lines.append([Cell(name), *(cell(rows.get(part, driver, metric, group)) for driver in drivers)])
    title = METRICS[metric].title
    return Table((kind, *drivers), lines, f"{title}, by {kind}.")


def differences_table(differences: Sequence[Row]) -> Table:
    """Paired differences; green or red where the interval leaves zero out."""
    lines = []
    for d in differences:
        if d["value"] is None:
            continue
        metric, unit = METRICS[d["metric"]], METRICS[d["metric"]].unit
        scale, suffix = (100, " points") if unit == "%" else (1, f" {unit}" if unit else "")
        digits = 0 if unit == "%" else 3
        text = f"{scale * d['value']:+.{digits}f}{suffix}"
        note = "" if d["low"] is None else f"{scale * d['low']:+.{digits}f} to {scale * d['high']:+.{digits}f}"
        lines.append([f"{d['driver']} minus {d['other']}", d["part"].replace("_", " "), metric.title,
                      Cell(text, f"{note}, n {d['n']}".lstrip(", "), _tone(d, metric.better))])  # fmt: skip
    caption = "Paired on the same moments or scenes. Coloured where the 95 % interval leaves zero out: green is better."
    return Table(("compared", "part", "metric", "difference"), lines, caption, text_columns=3)


def _tone(difference: Row, better: str) -> str:
    low, high = difference["low"], difference["high"]
    if low is None or low <= 0 <= high or better == "none":
        return "plain"
    return "good" if (low > 0) == (better == "high") else "bad"
