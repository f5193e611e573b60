"""Where the recordings of a label run are worked on: the missing shards, made side by side.

A teacher that computes works in processes, one that asks in one process with many requests under way. Finished shards
are never made again. Reads recordings, writes shards. Knows nothing of reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from causaldrive.ground.progress import Meter
from causaldrive.label.asking import Asked, AskSettings, Finished, ask_all
from causaldrive.label.labelling import ShardResult, ShardTask, label_shard
from causaldrive.label.store import write_labels
from causaldrive.label.types import CocLabel


def label_all(tasks: Sequence[ShardTask], settings: AskSettings, asked: Asked, workers: int) -> list[ShardResult]:
    """Make every missing shard; one result per recording that was worked on. `asked` counts what asking took."""
    missing = [task for task in tasks if not task.shard.exists()]
    results: list[ShardResult] = []
    with Meter("label", len(tasks), "recordings", done=len(tasks) - len(missing)) as meter:

        def note(result: ShardResult) -> None:
            results.append(result)
            meter.advance()

        if settings.asks:
            ask_all([task.directory for task in missing], settings, _writer(missing, note), asked)
        else:
            for result in _in_processes(missing, workers):
                note(result)
    return results


def _writer(tasks: Sequence[ShardTask], note: Callable[[ShardResult], None]) -> Finished:
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
