"""Files that are either whole or absent.

Every artefact is written to a temporary name beside its target, synced, then renamed. Readers turn a broken file
into one sentence. Knows nothing of what the files mean.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from causaldrive.ground.errors import UserError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success sync and rename it, on failure remove it.

    The temporary name keeps the suffix, so that writers that look at it (video muxers) work.
    Raises UserError when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.stem}.{uuid.uuid4().hex[:8]}.part{path.suffix}"
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: the disk is full; free some space and run the same command again.") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Like `atomic_path` for a directory: its content appears under the final name only when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.part"
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
        _sync(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{path}: the disk is full; free some space and run the same command again.") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises UserError when the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; expected a JSON file there.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); restore it or write it again.") from error


def write_table(path: Path, table: pa.Table) -> None:
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path, columns: list[str]) -> pa.Table:
    """Read a Parquet file and check that `columns` are there.

    Raises UserError when the file is missing, truncated, or lacks a column.
    """
    if not path.exists():
        raise UserError(f"{path} is missing; expected a Parquet file with columns {', '.join(columns)}.")
    if path.is_dir():
        raise UserError(f"{path} is a directory; expected a Parquet file with columns {', '.join(columns)}.")
    try:
        with pq.ParquetFile(path) as file:  # half the time of `pq.read_table`, which opens a data set
            table = file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} cannot be read as Parquet ({error}); it is truncated or damaged, so write it again."
        ) from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        found = ", ".join(table.column_names)
        raise UserError(f"{path} lacks the column {missing[0]}; found {found}.")
    return table


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the sorted names and digests of a directory's files (run records left out)."""
    sha = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            if file.name in _VOLATILE or file.name.startswith("."):
                continue
            sha.update(str(file.relative_to(path)).encode())
            sha.update(digest(file).encode())
    else:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()


_VOLATILE = {"run.json", "metrics.jsonl", "report.html"}  # hold times of day: not part of what a stage made
