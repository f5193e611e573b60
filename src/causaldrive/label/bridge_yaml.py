"""Bridge to the released labeller's output: one YAML file a keyframe with one free-text sentence.

Known of that output: a YAML file for each keyframe, holding one JSON string, the sentence, with at most one
longitudinal and one lateral decision. Not known to us: its file names and the name of its key. So this is our own
definition: files are named `<recording id>__<t0 in us>.yaml` and hold `chain_of_causation: <sentence>`. On the way in
any directory depth and the keys of `KEYS` are taken, as well as a bare string, and a string that is itself JSON. Reads
and writes those files; knows nothing of recordings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import yaml

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import write_text
from causaldrive.label.bridge_rows import Imported, label_of_text
from causaldrive.label.types import CocLabel

SOURCE = "released labeller"
KEY = "chain_of_causation"
KEYS = (KEY, "coc", "cot", "trace", "reasoning", "chain_of_thought", "output", "text")
_NAME = re.compile(r"(?P<clip>.+)__(?P<t0>-?\d+)(?:~\d+)?")


def read_yaml(path: Path) -> Imported:
    """Labels of every `.yaml` or `.yml` at or below `path`, sorted by name; others are set aside with a sentence.

    Raises UserError when there is no such file at all.
    """
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in (".yaml", ".yml"))
    if not files:
        raise UserError(f"{path} holds no .yaml file; expected files named <recording id>__<t0 in us>.yaml.")
    result = Imported([])
    for file in files:
        read = _read_file(file)
        if isinstance(read, str):
            result.set_aside.append(f"{file}: {read}")
        else:
            result.labels.append(read)
    return result


def _read_file(file: Path) -> CocLabel | str:
    name = _NAME.fullmatch(file.stem)
    if name is None:
        return "the name is not <recording id>__<t0 in us>.yaml, so its keyframe is not known; rename it."
    try:
        value = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, OSError) as error:
        return f"not valid YAML ({' '.join(str(error).split())})."
    text = _text_of(value)
    if text is None:
        return f"no sentence in it; a string expected, or one of the keys {', '.join(KEYS)}."
    return label_of_text(unquote(name["clip"]), int(name["t0"]), text, SOURCE)


def _text_of(value: Any) -> str | None:
    if isinstance(value, dict):
        if isinstance(own := value.get(KEY), str):
            return own if own.strip() else None
        texts = [value[key] for key in KEYS if isinstance(value.get(key), str)]
        return _text_of(texts[0]) if texts else None
    if not isinstance(value, str) or not value.strip():
        return None
    if value.lstrip().startswith(("{", '"')):
        try:
            inner = json.loads(value)
        except ValueError:
            return value
        return _text_of(inner) or value
    return value


def write_yaml(directory: Path, labels: Sequence[CocLabel]) -> None:
    """One file a label; a second label at the same moment gets `~2` at the end of its name."""
    seen: dict[str, int] = {}
    for label in labels:
        stem = f"{quote(label.recording_id, safe=' |()+,=@')}__{label.t0_us}"
        seen[stem] = seen.get(stem, 0) + 1
        name = stem if seen[stem] == 1 else f"{stem}~{seen[stem]}"
        # In double quotes every unusual line break is escaped; in the plain style some come back as a space.
        content = yaml.safe_dump({KEY: label.trace}, allow_unicode=True, width=10_000, default_style='"')
        write_text(directory / f"{name}.yaml", content)
