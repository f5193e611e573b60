"""Bridge to the PhysicalAI-AV reasoning table, `ood_reasoning.parquet`.

One row a clip, index `clip_id`; column `events` holds a JSON list of objects with `event_start_frame`,
`event_start_timestamp` (us within the clip) and `coc` (the sentence). Some loaders ask for `cot` instead and then find
every trace empty, so `cot` is taken as well on the way in, and `coc` is written on the way out. Other columns of the
table (such as `split`) are not needed and not kept. Reads and writes that one file; knows nothing of recordings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_table, write_table
from causaldrive.label.bridge_rows import Imported, label_of_text
from causaldrive.label.types import CocLabel

SOURCE = "physicalai-av ood_reasoning"
FRAME_US = 1_000_000 / 30  # the cameras of the data set run at 30 frames a second
_INDEX = ("clip_id", "__index_level_0__")


def read_ood(path: Path) -> Imported:
    """Labels of every event of the table, in its order. An event without time or text is set aside with a sentence.

    Raises UserError for a file that is no such table.
    """
    table = read_table(path, ["events"])
    index = next((name for name in _INDEX if name in table.column_names), None)
    if index is None:
        found = ", ".join(table.column_names)
        raise UserError(f"{path} names no clips; an index clip_id expected, found columns {found}; export it with one.")
    result = Imported([])
    for clip, events in zip(table.column(index).to_pylist(), table.column("events").to_pylist(), strict=True):
        _read_clip(result, str(clip), events, f"{path}: clip {clip}")
    return result


def _read_clip(result: Imported, clip: str, events: Any, where: str) -> None:
    try:
        entries = json.loads(events) if isinstance(events, str | bytes) else events
    except ValueError as error:
        result.set_aside.append(f"{where}: events is not valid JSON ({error}).")
        return
    if not isinstance(entries, list):
        result.set_aside.append(f"{where}: events is {type(entries).__name__}, a JSON list expected.")
        return
    for number, entry in enumerate(entries):
        read = _read_event(entry)
        if isinstance(read, str):
            result.set_aside.append(f"{where} event {number}: {read}")
        else:
            result.labels.append(label_of_text(clip, read[0], read[1], SOURCE))


def _read_event(entry: Any) -> tuple[int, str] | str:
    """(t0_us, text), or what is wrong."""
    if not isinstance(entry, dict):
        return f"{type(entry).__name__} found, an object expected."
    t_us = entry.get("event_start_timestamp")
    if isinstance(t_us, bool) or not isinstance(t_us, int | float) or t_us != t_us:
        return f"event_start_timestamp is {t_us!r}, microseconds expected."
    text = next(
        (entry[name] for name in ("coc", "cot") if isinstance(entry.get(name), str) and entry[name].strip()), ""
    )
    return (round(t_us), text) if text else "neither coc nor cot holds text."


def write_ood(path: Path, labels: Sequence[CocLabel]) -> None:
    """One row a recording, its labels as events sorted by time. `event_start_frame` counts 30 Hz frames from 0."""
    clips: dict[str, list[CocLabel]] = {}
    for label in sorted(labels, key=lambda label: (label.recording_id, label.t0_us)):
        clips.setdefault(label.recording_id, []).append(label)
    events = [json.dumps([_event(label) for label in own], ensure_ascii=False) for own in clips.values()]
    write_table(path, _with_index(pa.table({"events": pa.array(events, pa.string()),
                                            "clip_id": pa.array(list(clips), pa.string())})))  # fmt: skip


def _event(label: CocLabel) -> dict[str, Any]:
    frame = round(label.t0_us / FRAME_US)
    return {"event_start_frame": frame, "event_start_timestamp": label.t0_us, "coc": label.trace}


def _with_index(table: pa.Table) -> pa.Table:
    """Tell pandas, with which the released recipes read the table, that `clip_id` is its index."""
    column = {"pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    columns = [{"name": name, "field_name": name, **column} for name in table.column_names]
    pandas = {"index_columns": ["clip_id"], "column_indexes": [], "columns": columns, "pandas_version": "2.2.0"}
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
