"""Engines: where the recordings of a label run are worked on.

`local`: worker processes for a teacher that computes, one process with many requests under way for one that asks.
`ray`: shares of recordings as tasks of a Ray cluster, tried again when a worker dies. Shards have one writer each, and
finished ones are never made again. Knows nothing of reports.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from causaldrive.ground.errors import MissingExtra, UserError, unknown_name
from causaldrive.ground.progress import Meter
from causaldrive.label.asking import Asked, AskSettings, ask_all
from causaldrive.label.labelling import ShardResult, ShardTask, label_shard
from causaldrive.label.store import write_labels
from causaldrive.label.types import CocLabel

ENGINES = ("local", "ray")
_SHARES_PER_WORKER = 4  # small enough that a worker that dies costs little, and that none waits long for the last
_RETRIES = 3

Row = tuple[Path, list[CocLabel], str | None]  # recording, labels, why it was set aside


def check_engine(name: str) -> None:
    """Raises UserError for a name that is not known, MissingExtra where its package is not installed."""
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    if name == "ray":
        _ray()


def label_all(
    tasks: Sequence[ShardTask], settings: AskSettings, asked: Asked, engine: str, workers: int, ray_address: str = ""
) -> list[ShardResult]:
    """Make every missing shard; one result per recording that was worked on. `asked` counts what asking took."""
    missing = [task for task in tasks if not task.shard.exists()]
    results: list[ShardResult] = []
    with Meter("label", len(tasks), "recordings", done=len(tasks) - len(missing)) as meter:

        def note(result: ShardResult) -> None:
            results.append(result)
            meter.advance()

        if engine == "ray":
            _on_ray(missing, settings, asked, note, workers, ray_address)
        elif settings.asks:
            ask_all([task.directory for task in missing], settings, _writer(missing, note), asked)
        else:
            for result in _in_processes(missing, workers):
                note(result)
    return results


def _writer(
    tasks: Sequence[ShardTask], note: Callable[[ShardResult], None]
) -> Callable[[Path, list[CocLabel], str | None], None]:
    by_directory = {task.directory: task for task in tasks}

    def write(directory: Path, labels: list[CocLabel], reason: str | None) -> None:
        task = by_directory[directory]
        if reason is None:
            write_labels(task.shard, labels)
        note(ShardResult(task, reason))

    return write


def _in_processes(tasks: Sequence[ShardTask], workers: int) -> Iterator[ShardResult]:
    if workers == 1 or len(tasks) < 2:
        yield from map(label_shard, tasks)
        return
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(label_shard, task) for task in tasks]):
            yield future.result()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("ray", "ray", "--engine ray") from error
    return ray


def _on_ray(
    tasks: Sequence[ShardTask], settings: AskSettings, asked: Asked, note: Callable[[ShardResult], None],
    workers: int, address: str,
) -> None:  # fmt: skip
    """Shares as Ray tasks; their rows come back here, so that this process alone writes shards."""
    if not tasks:
        return
    ray = _ray()
    write = _writer(tasks, note)
    ray.init(**({"address": address} if address else {"num_cpus": workers}), include_dashboard=False,
             log_to_driver=False, ignore_reinit_error=True)  # fmt: skip
    try:
        work = ray.remote(max_retries=_RETRIES)(label_share)
        shares = _shares([task.directory for task in tasks], workers * _SHARES_PER_WORKER)
        mine = _share_of(settings, len(shares), workers)
        waiting = [work.remote(share, mine) for share in shares]
        while waiting:
            (done, *_), waiting = ray.wait(waiting, num_returns=1)
            rows, counts, stopped = ray.get(done)
            asked.add(counts)
            for row in rows:
                write(*row)
            if stopped:
                raise UserError(stopped)
    finally:
        ray.shutdown()


def _shares(directories: Sequence[Path], count: int) -> list[list[Path]]:
    """At most `count` shares of as equal a size as can be."""
    size = math.ceil(len(directories) / count)
    return [list(directories[i : i + size]) for i in range(0, len(directories), size)]


def _share_of(settings: AskSettings, shares: int, workers: int) -> AskSettings:
    """Each share may spend its part of the budget; each worker asks its part of what is asked at once."""

    def part(config: Any) -> Any:
        tokens = math.ceil(config.budget_tokens / shares)
        places = max(config.concurrency // workers, 1)
        return replace(config, budget_tokens=tokens, budget_money=config.budget_money / shares, concurrency=places)

    return replace(settings, openai=part(settings.openai), critic=part(settings.critic))


def label_share(directories: Sequence[Path], settings: AskSettings) -> tuple[list[Row], Asked, str]:
    """What one Ray task does: the rows of its recordings, what asking took, and why it had to stop, if it had to."""
    rows: list[Row] = []
    asked = Asked()
    try:
        ask_all(directories, settings, lambda *row: rows.append(row), asked)
    except UserError as error:
        return rows, asked, str(error)
    return rows, asked, ""
