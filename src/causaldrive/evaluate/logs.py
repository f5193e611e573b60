"""Evaluation logs: one JSON line a record, one file a part and driver, whole or absent.

Tables are computed from logs alone, so scores can be recomputed later and a finished driver is never driven again.
Knows nothing of what a record holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import write_text


def log_path(out: Path, part: str, driver: str) -> Path:
    return out / part / f"{slug(driver)}.jsonl"


def once(path: Path, make: Callable[[], Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The records of `path`; made and written first unless they are there. What is returned was read back."""
    if not path.exists():
        write_text(path, "".join(json.dumps(record, allow_nan=False) + "\n" for record in make()))
    return read_log(path)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Raises UserError for a line that is not JSON."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except json.JSONDecodeError as error:
        raise UserError(f"{path} holds a line that is not JSON ({error}); delete the file and run again.") from error


def slug(name: str) -> str:
    """A driver's or scene's name as a file name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
