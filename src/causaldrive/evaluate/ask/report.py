"""The page of an ask run: what was asked, how much could be read, and each answer beside its picture.

Reads the run's rows; writes `report.html`. Knows nothing of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from causaldrive.ground.page import Block, Figure, Fold, Item, Section, Table, Text, Video, write_page
from causaldrive.ground.statistics import share

MOST_SHOWN = 60


def parse_rates(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Share of replies that could be read, with its 95 % interval over clips; a reply that never came is no reply."""
    came = [row for row in rows if row["came"]]
    hits = [float(row["failure"] is None) for row in came]
    clips = [row["clip"] for row in came]
    rate = share(hits, [1.0] * len(hits), clips) if came else None
    failures = Counter(row["failure"] for row in rows if row["failure"])
    return {
        "asked": len(rows), "replies": len(came), "read": int(sum(hits)),
        "parse_rate": rate.value if rate else None, "low": rate.low if rate else None,
        "high": rate.high if rate else None, "mended": sum(row["mended"] for row in came),
        "entries": sum(len(row["entries"]) for row in rows), "entries_dropped": sum(row["dropped"] for row in rows),
        "failures": dict(sorted(failures.items())),
    }  # fmt: skip


def write_report(
    out: Path, title: str, asked: str, rows: Sequence[Mapping[str, Any]], aside: Sequence[Sequence[str]]
) -> None:
    """`asked`: one message as the model got it."""
    sections = [Section("How much could be read", [rates_table(rows)]), Section("Asked", [Block(asked)])]
    for row in rows[:MOST_SHOWN]:
        sections.append(Section(row["moment"], _items(out, row)))
    if len(rows) > MOST_SHOWN:
        sections.append(Section("More", [f"{len(rows) - MOST_SHOWN} more answers are in `answers.json`."]))
    if aside:
        sections.append(Section("Set aside", [Table(["file", "why"], aside, text_columns=2)]))
    write_page(out / "report.html", title, sections)


def rates_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Replies, parse rate and what was dropped, one line each."""
    found = parse_rates(rows)
    interval = "" if found["low"] is None else f" ({100 * found['low']:.0f} to {100 * found['high']:.0f} %, 95 %)"
    rate = "–" if found["parse_rate"] is None else f"{100 * found['parse_rate']:.0f} %{interval}"
    lines: list[list[str]] = [
        ["moments asked about", str(found["asked"])],
        ["replies that came", str(found["replies"])],
        ["parse rate", rate],
        ["of those mended (cut, commas, quotes)", str(found["mended"])],
        ["entries read", str(found["entries"])],
        ["entries dropped (no sense, outside the picture)", str(found["entries_dropped"])],
        *([f"failure: {kind}", str(count)] for kind, count in found["failures"].items()),
    ]
    return Table(["what", "count"], lines)


def _items(out: Path, row: Mapping[str, Any]) -> list[Item | str]:
    items: list[Item | str] = []
    if row["failure"]:
        items.append(Text(f"No answer can be read: {row['failure']}. {row['reason']}", tone="bad"))
    if row["picture"]:
        items.append(Figure((out / row["picture"]).read_bytes(), width_px=900))
    if row["video"]:
        items.append(Video(row["video"]))
    if row.get("ade_m") is not None:
        items.append(f"Mean distance to what was driven over {row['horizon_s']:.1f} s: {row['ade_m']:.2f} m.")
    if row["entries"]:
        items.append(_entries(row["entries"]))
    if row["said"]:
        items.append(Fold("The reply as it came", [Block(row["said"])]))
    return items


def _entries(entries: Sequence[Mapping[str, Any]]) -> Table:
    names = [name for name in entries[0] if name != "label"]
    return Table(["label", *names], [[entry["label"], *(_short(entry[name]) for name in names)] for entry in entries])


def _short(value: Any) -> str:
    if isinstance(value, list):
        shown = ", ".join(_short(part) for part in value[:8]) + (", ..." if len(value) > 8 else "")
        return f"({shown})" if not isinstance(value[0], list) else shown
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
