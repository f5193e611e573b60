"""The `ray` engine: shards made on a Ray cluster whose machines see the same files.

Recordings go out in shares, at most `workers` at once, each to a process that writes its own shards. When a process or
its machine dies, what its share still lacks goes out again one recording at a time; a recording under which three
processes died is set aside. Requests at once are divided among the shares under way, and all of them are paid from one
ledger. The rest is the `local` engine's: cache, validators, file formats. Knows nothing of reports.
"""

from __future__ import annotations

import math
import os
import socket
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from causaldrive.ground.errors import MissingExtra, UserError
from causaldrive.label.asking import Asked, AskSettings
from causaldrive.label.budget import StopAsking
from causaldrive.label.labelling import ShardResult, ShardTask
from causaldrive.label.ledger import Ledger, LedgerPurse
from causaldrive.label.local_engine import Note, label_here
from causaldrive.label.openai_teacher import ModelConfig

C = TypeVar("C", bound=ModelConfig)
MOST_DEATHS = 3
_SHARES_PER_WORKER = 4  # small enough that a death costs little and none waits long for the last
_LARGEST_SHARE = 32
_CONNECT_S = 10.0
# Of a Ray started here: tell nobody unless asked to; labelling is what this machine is for, at no lower priority.
_OURS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
_OBJECT_STORE_BYTES = 100_000_000  # of a Ray started here: only settings and results pass through it


def import_ray() -> Any:
    """Ray. Raises MissingExtra where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("ray", "ray", "--engine ray") from error
    return ray


def label_on_ray(
    tasks: Sequence[ShardTask], settings: AskSettings, asked: Asked, note: Note, workers: int, address: str
) -> None:
    """Make the shards of `tasks` on the cluster at `address`; without one, on a Ray that is started here and ended.

    Raises StopAsking when asking on makes no sense, with every finished shard written.
    """
    if not tasks:
        return
    ray = import_ray()
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, workers, address)
    try:
        there = {_absolute(task): task for task in tasks}
        lanes = _lanes(_absolute_settings(settings), workers, len(tasks))
        _Dispatch(ray, asked, lambda found: note(replace(found, task=there[found.task])), lanes).run(list(there))
    finally:
        if ours:
            ray.shutdown()


def _connect(ray: Any, workers: int, address: str) -> None:
    for name, value in _OURS.items():
        os.environ.setdefault(name, value)
    here = {"num_cpus": workers, "object_store_memory": _OBJECT_STORE_BYTES, "include_dashboard": False}
    where = {"address": address} if address else here
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        ray.init(**where, log_to_driver=False, logging_level="ERROR")
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--ray-address {address or '(none)'}: no Ray cluster can be used there ({reason}); start one of the same "
            "Ray and Python versions, or name none to use this machine."
        ) from error


def _absolute(task: ShardTask) -> ShardTask:
    """Processes of a cluster work in directories of their own."""
    return replace(task, directory=task.directory.absolute(), shard=task.shard.absolute())


def _absolute_settings(settings: AskSettings) -> AskSettings:
    def prompts(config: C) -> C:
        return replace(config, prompts=config.prompts and config.prompts.absolute())

    openai, critic = prompts(settings.openai), prompts(settings.critic)
    return replace(settings, cache=settings.cache.absolute(), openai=openai, critic=critic)


def _lanes(settings: AskSettings, workers: int, tasks: int) -> list[AskSettings]:
    """Settings of each share that may be under way: together they ask as many at once as was asked for."""
    roles = settings.roles().values()
    count = min([workers, tasks, *(config.concurrency for config in roles)])

    def part(config: C, lane: int) -> C:
        return replace(config, concurrency=max((config.concurrency + count - 1 - lane) // count, 1))

    return [replace(settings, openai=part(settings.openai, lane), critic=part(settings.critic, lane))
            for lane in range(count)]  # fmt: skip


@dataclass(frozen=True)
class _Share:
    """Recordings that one process works on, under a name that no other attempt has."""

    attempt: str
    tasks: tuple[ShardTask, ...]


@dataclass(frozen=True)
class _Ended:
    """What a share comes back with: its results, what asking took, and why it had to stop, if it had to."""

    results: list[ShardResult] = field(default_factory=list)
    asked: Asked = field(default_factory=Asked)
    stopped: str = ""


class _Dispatch:
    """Shares out, results in; `lanes` are the settings of the shares that may be under way."""

    def __init__(self, ray: Any, asked: Asked, note: Note, lanes: list[AskSettings]):
        self._ray, self._asked, self._note, self._lanes = ray, asked, note, lanes
        self._work = ray.remote(max_retries=0)(label_share)  # tried again here, recording by recording
        self._ledger = _ledger(ray, lanes) if lanes[0].asks else None
        self._waiting: deque[tuple[ShardTask, ...]] = deque()
        self._deaths: Counter[ShardTask] = Counter()
        self._attempts, self._stopped = 0, ""

    def run(self, tasks: Sequence[ShardTask]) -> None:
        """Until nothing waits and nothing is under way; after a stop nothing new goes out."""
        self._waiting.extend(_shares(tasks, len(self._lanes)))
        under_way: dict[Any, tuple[_Share, AskSettings]] = {}
        free = list(self._lanes)
        while under_way or (self._waiting and not self._stopped):
            while self._waiting and free and not self._stopped:
                lane, share = free.pop(), self._next_share()
                under_way[self._work.remote(share, lane, self._ledger)] = (share, lane)
            for done in self._ray.wait(list(under_way), num_returns=1)[0]:
                share, lane = under_way.pop(done)
                free.append(lane)
                self._take(done, share)
        if self._stopped:
            raise StopAsking(self._stopped)

    def _next_share(self) -> _Share:
        self._attempts += 1
        return _Share(f"attempt {self._attempts}", self._waiting.popleft())

    def _take(self, done: Any, share: _Share) -> None:
        died = self._ray.exceptions
        try:
            ended: _Ended = self._ray.get(done)
        except (died.WorkerCrashedError, died.NodeDiedError, died.LocalRayletDiedError, died.OutOfMemoryError) as error:
            self._bury(share, error)
            return
        self._asked.add(ended.asked)
        self._stopped = self._stopped or ended.stopped
        for result in ended.results:
            self._note(result)

    def _bury(self, share: _Share, error: Exception) -> None:
        """Finished shards of a dead share count; the others go out again, each alone, or are given up."""
        if self._ledger is not None:
            self._asked.add(self._ray.get(self._ledger.bury.remote(share.attempt)))
        for task in share.tasks:
            if task.shard.exists():
                self._note(ShardResult(task))
                continue
            self._deaths[task] += 1
            if self._deaths[task] < MOST_DEATHS:
                self._waiting.append((task,))
            else:
                kind = type(error).__name__
                reason = f"{MOST_DEATHS} worker processes died while they labelled {task.directory} ({kind}); check it."
                self._note(ShardResult(task, reason))


def _ledger(ray: Any, lanes: list[AskSettings]) -> Any:
    """The ledger's actor, on this machine: who loses it has lost the run anyway.

    It must hear of settled requests while as many wait as may be asked at once.
    """
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=True
    )
    waiting = sum(config.concurrency for lane in lanes for config in lane.roles().values())
    actor = ray.remote(num_cpus=0, max_concurrency=2 * waiting + 100, scheduling_strategy=here)(Ledger)
    return actor.remote(lanes[0].roles())


def _shares(tasks: Sequence[ShardTask], lanes: int) -> list[tuple[ShardTask, ...]]:
    """Shares of as equal a size as can be, a few for each lane."""
    size = min(math.ceil(len(tasks) / (lanes * _SHARES_PER_WORKER)), _LARGEST_SHARE)
    return [tuple(tasks[i : i + size]) for i in range(0, len(tasks), size)]


def label_share(share: _Share, settings: AskSettings, ledger: Any) -> _Ended:
    """What one process of the cluster does."""
    ended, asked = [], Asked()
    try:
        label_here(share.tasks, settings, asked, ended.append, 1,
                   lambda role, config: LedgerPurse(ledger, share.attempt, role))  # fmt: skip
    except StopAsking as stop:
        return _Ended(ended, asked, str(stop))
    return _Ended(ended, asked)
