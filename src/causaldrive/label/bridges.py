"""The commands `label import` and `label export`: labels in the shapes of other tools.

Formats: `ood` (PhysicalAI-AV reasoning table), `yaml` (one sentence a keyframe), `label-studio` (tasks and
annotations). Each file's head says what is known of its shape. Reads and writes label sets; knows nothing of video.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.page import Block, Section, Table, write_page
from causaldrive.ground.runs import open_run
from causaldrive.label.bridge_ood import read_ood, write_ood
from causaldrive.label.bridge_rows import Imported, sentences
from causaldrive.label.bridge_studio import read_studio, write_studio
from causaldrive.label.bridge_yaml import read_yaml, write_yaml
from causaldrive.label.store import FILE, read_labels, write_labels
from causaldrive.label.types import STATUSES, CocLabel


@dataclass(frozen=True)
class Format:
    """How one shape is read and written, and the file it is written to (None: a directory of files)."""

    read: Callable[[Path], Imported]
    write: Callable[[Path, Sequence[CocLabel]], None]
    file: str | None


FORMATS = {
    "ood": Format(read_ood, write_ood, "ood_reasoning.parquet"),
    "yaml": Format(read_yaml, write_yaml, None),
    "label-studio": Format(read_studio, write_studio, "label_studio_tasks.json"),
}


@dataclass(frozen=True)
class ImportLabelsConfig:
    """Bring labels of another tool into a label set."""

    format: Positional[str]  # ood, yaml or label-studio
    path: Positional[Path]  # the file, or the directory of YAML files
    out: Path  # run directory for labels.parquet and report.html


@dataclass(frozen=True)
class ExportLabelsConfig:
    """Write labels in the shape of another tool."""

    format: Positional[str]  # ood, yaml or label-studio
    labels: Positional[Path]  # a label run's directory, or a labels.parquet
    out: Path  # directory for the files
    statuses: tuple[str, ...] = ("accepted", "edited")  # which labels go out


def run_import(config: ImportLabelsConfig) -> None:
    """Raises UserError for an unknown format, a file that is not of it, or one without a single label."""
    form = _format(config.format)
    if not config.path.exists():
        raise UserError(f"{config.path} does not exist; expected labels in the {config.format} shape.")
    with open_run(config.out, "label import", config, {"path": config.path}) as opened:
        if opened.done:
            return
        found = form.read(config.path)
        if not found.labels:
            why = f"; the first: {found.set_aside[0]}" if found.set_aside else ""
            raise UserError(f"{config.path} holds no label that can be read as {config.format}{why}")
        write_labels(config.out, found.labels)
        opened.log(labels=len(found.labels), set_aside=len(found.set_aside))
        _write_report(config, found)
        for sentence in found.set_aside[:20]:
            print(f"label import: set aside {sentence}")
        print(f"label import: {sentences(found.labels)}, {len(found.set_aside)} set aside: {config.out / FILE}")


def _write_report(config: ImportLabelsConfig, found: Imported) -> None:
    counts = Counter(label.decision_longitudinal or "none" for label in found.labels)
    rows = [[name.replace("_", " "), count] for name, count in counts.most_common()]
    statuses = Counter(label.status for label in found.labels)
    sections = [
        Section("Labels", [sentences(found.labels) + ".", Table(["status", "labels"], sorted(statuses.items())),
                           Table(["longitudinal decision", "labels"], rows)]),
    ]  # fmt: skip
    if found.set_aside:
        sections.append(Section("Set aside", [Block("\n".join(found.set_aside))]))
    write_page(config.out / "report.html", f"Labels imported from {config.path.name}", sections)


def run_export(config: ExportLabelsConfig) -> None:
    """Raises UserError for an unknown format or status, or when no label has one of the statuses."""
    form = _format(config.format)
    for status in config.statuses:
        if status not in STATUSES:
            raise unknown_name("status", status, STATUSES)
    labels = read_labels(config.labels, config.statuses)
    if not labels:
        raise UserError(f"{config.labels} holds no label with status {' or '.join(config.statuses)}; name --statuses.")
    target = config.out / form.file if form.file else config.out
    form.write(target, labels)
    print(f"label export: {len(labels)} labels in the {config.format} shape: {target}")


def _format(name: str) -> Format:
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS)
    return FORMATS[name]
