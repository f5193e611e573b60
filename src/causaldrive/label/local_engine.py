"""The `local` engine: shards made on this machine.

A teacher that computes works in processes, one that asks in one process with many requests under way. Reads
recordings, writes shards. Knows nothing of other machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from causaldrive.label.asking import Asked, AskSettings, Finished, PurseOf, ask_all, own_purse
from causaldrive.label.labelling import ShardResult, ShardTask, label_shard
from causaldrive.label.store import write_labels
from causaldrive.label.types import CocLabel

Note = Callable[[ShardResult], None]


def label_here(
    tasks: Sequence[ShardTask], settings: AskSettings, asked: Asked, note: Note, workers: int,
    purse_of: PurseOf = own_purse,
) -> None:  # fmt: skip
    """Make the shards of `tasks`; `note` hears of each as it is done, `asked` counts what asking took."""
    if settings.asks:
        ask_all([task.directory for task in tasks], settings, _writer(tasks, note), asked, purse_of)
    else:
        for result in _in_processes(tasks, workers):
            note(result)


def _writer(tasks: Sequence[ShardTask], note: Note) -> Finished:
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
