"""Run directories: what was asked, with what, when, and how it ended.

A stage opens its output directory through `open_run`. The same command again continues a killed run and does
nothing for a finished one; another command into the same directory is refused. Writes `run.json` and
`metrics.jsonl`. Knows nothing of what a stage does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import digest, read_json, write_json, write_text

_VERSIONS_OF = ("causaldrive", "torch", "transformers", "numpy", "panda3d", "pyarrow", "av")


class Run:
    """One stage's output directory. `done` says that it already holds the finished result of this very command."""

    def __init__(self, directory: Path, record: dict[str, Any], done: bool):
        self.directory, self.record, self.done = directory, record, done

    def log(self, **metrics: Any) -> None:
        """Append one line to metrics.jsonl."""
        with (self.directory / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(metrics) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl; a last line cut by a kill is left out."""
        return read_metrics(self.directory)

    def keep_metrics(self, keep: Any) -> None:
        """Rewrite metrics.jsonl with the lines for which `keep(line)` holds; a resumed stage drops what it redoes."""
        lines = [line for line in self.metrics() if keep(line)]
        write_text(self.directory / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def read_metrics(directory: Path) -> list[dict[str, Any]]:
    """Lines of a run's metrics.jsonl; a last line cut by a kill is left out; empty when there is no file."""
    path = directory / "metrics.jsonl"
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


@contextlib.contextmanager
def open_run(directory: Path, stage: str, config: Any, inputs: Mapping[str, Path] | None = None) -> Iterator[Run]:
    """Open `directory` for `stage` with the frozen dataclass `config`; `inputs` are hashed into the record.

    Raises UserError when the directory holds another stage, another configuration, or other inputs, and for an input
    that is not there.
    """
    config_json = to_json(config)
    hashes = {name: _digest_of(stage, name, path) for name, path in (inputs or {}).items()}
    path = directory / "run.json"
    if path.exists():
        record = read_json(path)
        _refuse_if_other(directory, record, stage, config_json, hashes)
        if record.get("state") == "finished":
            print(f"{stage}: {directory} is already finished; nothing to do.", file=sys.stderr)
            yield Run(directory, record, done=True)
            return
        print(f"{stage}: continuing in {directory}.", file=sys.stderr)
        record["resumed"] = [*record.get("resumed", []), _now()]
    else:
        record = {"stage": stage, "command": ["causaldrive", *sys.argv[1:]], "config": config_json, "inputs": hashes,
                  "versions": _versions(), "started": _now()}  # fmt: skip
    record["state"] = "running"
    write_json(path, record)
    run = Run(directory, record, done=False)
    try:
        yield run
    except BaseException as error:
        record.update(state="failed", ended=_now(), error=f"{type(error).__name__}: {error}"[:2000])
        with contextlib.suppress(OSError, UserError):  # a full disk must not hide the first error
            write_json(path, record)
        raise
    record.update(state="finished", ended=_now())
    record.pop("error", None)
    write_json(path, record)


def _refuse_if_other(directory: Path, record: dict, stage: str, config: dict, hashes: dict) -> None:
    hint = f"choose another --out, or delete {directory} to start afresh"
    if record.get("stage") != stage:
        raise UserError(f"{directory} holds a run of {record.get('stage')!r}, not of {stage!r}; {hint}.")
    before = record.get("config", {})
    now = {**config, "out": before.get("out")}  # a run may be moved, or named from another place
    for name, old, new in _differences(before, now):
        raise UserError(f"{directory} was made with {name} = {old!r}, now {name} = {new!r}; {hint}.")
    for name, value in hashes.items():
        if record.get("inputs", {}).get(name) != value:
            raise UserError(f"{directory} was made from another content of {name}; {hint}.")


def _differences(old: dict, new: dict, head: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(option, before, now) of what differs, options of a part as 'part.option'."""
    for name in sorted(set(old) | set(new)):
        before, now = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(before, now, f"{head}{name}.")
        elif not _same(before, now):
            yield f"{head}{name}", before, now


def _same(before: Any, now: Any) -> bool:
    """Equal, or one place written from its root and from here."""
    places = isinstance(before, str) and isinstance(now, str) and os.sep in before and os.sep in now
    return before == now or (places and Path(before).resolve() == Path(now).resolve())


def to_json(value: Any) -> Any:
    """A dataclass as plain JSON values; paths as strings, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _VERSIONS_OF:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _digest_of(stage: str, name: str, path: Path) -> str:
    if not path.exists():
        raise UserError(f"{stage}: {path}, given as {name}, does not exist; an existing path expected, so check it.")
    return digest(path)
