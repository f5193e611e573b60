"""The label store: `labels.parquet`, one row a keyframe, rejected rows included with their reason.

Writes atomically; reads with every closed set checked, so that what a reader gets is sound. Columns are those of
DESIGN section 5. Knows nothing of who wrote the labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.files import read_table, write_table
from causaldrive.ground.words import (
    CAUSE_CATEGORIES,
    CAUSE_KINDS,
    DIRECTIONS,
    LATERAL_DECISIONS,
    LONGITUDINAL_DECISIONS,
)
from causaldrive.label.types import STATUSES, Cause, CocLabel, Verdict

FILE = "labels.parquet"
ORIGINS = ("transition", "proactive", "periodic")
_CAUSE = pa.struct(
    [("category", pa.string()), ("text", pa.string()), ("kind", pa.string()), ("agent_id", pa.string()),
     ("evidence_t_us", pa.int64())]
)  # fmt: skip
_VERDICT = pa.struct([("check", pa.string()), ("passed", pa.bool_()), ("score", pa.float64()), ("reason", pa.string())])
SCHEMA = pa.schema(
    [
        ("recording_id", pa.string()),
        ("t0_us", pa.int64()),
        ("origin", pa.string()),
        ("decision_longitudinal", pa.string()),
        ("decision_lateral", pa.string()),
        ("direction", pa.string()),
        ("causes", pa.list_(_CAUSE)),
        ("trace", pa.string()),
        ("meta_history", pa.list_(pa.string())),
        ("meta_future", pa.list_(pa.string())),
        ("teacher", pa.string()),
        ("prompt_hash", pa.string()),
        ("verdicts", pa.list_(_VERDICT)),
        ("status", pa.string()),
        ("model", pa.string()),
        ("endpoint", pa.string()),
    ]
)
_ADDED = ("model", "endpoint")  # since 0.1.0: a label set without them reads as if they were empty
assert SCHEMA.names == [field.name for field in fields(CocLabel)]
_CLOSED: dict[str, tuple[str, ...]] = {
    "origin": ORIGINS,
    "decision_longitudinal": LONGITUDINAL_DECISIONS,
    "decision_lateral": LATERAL_DECISIONS,
    "direction": DIRECTIONS,
    "status": STATUSES,
}
_REQUIRED = ("recording_id", "t0_us", "origin", "causes", "trace", "teacher", "status")


def labels_path(path: Path) -> Path:
    """`labels.parquet` of a label run's directory, or the file itself."""
    return path if path.suffix == ".parquet" else path / FILE


def write_labels(path: Path, labels: Iterable[CocLabel]) -> None:
    """Write labels, sorted by recording and time, to a directory's `labels.parquet` or to the file named."""
    rows = [asdict(label) for label in sorted(labels, key=lambda label: (label.recording_id, label.t0_us))]
    write_table(labels_path(path), pa.Table.from_pylist(rows, schema=SCHEMA))


def read_labels(path: Path, statuses: Sequence[str] = STATUSES) -> list[CocLabel]:
    """Labels of a file or directory, those with one of `statuses` (all by default), in the order of the file.

    Raises UserError for a missing or truncated file, a missing column, a value outside its closed set.
    """
    file = labels_path(path)
    table = read_table(file, [name for name in SCHEMA.names if name not in _ADDED])
    for name in _ADDED:
        if name not in table.column_names:
            table = table.append_column(name, pa.array([""] * len(table), pa.string()))
    table = table.select(SCHEMA.names)
    try:
        rows = table.cast(SCHEMA).to_pylist()
    except (pa.ArrowException, ValueError) as error:
        raise UserError(f"{file}: columns have other types than a label set ({error}); write it again.") from error
    labels = [label_of_row(row, f"{file} row {number}") for number, row in enumerate(rows)]
    return [label for label in labels if label.status in statuses]


def label_of_row(row: dict[str, Any], where: str) -> CocLabel:
    """One label of plain values (a table row, JSON), every closed set checked; `where` is what errors call the row.

    Raises UserError for an empty required field or a value outside its closed set.
    """
    for name in _REQUIRED:
        if row[name] is None:
            raise UserError(f"{where}: {name} is empty, a value expected; write the labels again.")
    for name, known in _CLOSED.items():
        if row[name] is not None and row[name] not in known:
            raise unknown_name(f"{where}: {name}", row[name], known)
    causes = tuple(_cause(entry, where) for entry in row["causes"])
    verdicts = tuple(Verdict(**entry) for entry in row["verdicts"] or ())
    meta = {name: tuple(row[name] or ()) for name in ("meta_history", "meta_future")}
    words = {name: row[name] or "" for name in ("prompt_hash", *_ADDED)}
    return CocLabel(**{**row, **meta, **words, "causes": causes, "verdicts": verdicts})


def _cause(entry: dict[str, Any], where: str) -> Cause:
    if not entry["text"]:
        raise UserError(f"{where}: a cause has no text, a few words expected; write the labels again.")
    if entry["category"] not in CAUSE_CATEGORIES:
        raise unknown_name(f"{where}: cause category", str(entry["category"]), CAUSE_CATEGORIES)
    if entry["kind"] is not None and entry["kind"] not in CAUSE_KINDS:
        raise unknown_name(f"{where}: cause kind", entry["kind"], CAUSE_KINDS)
    return Cause(**entry)
