"""Where rollouts are made. One interface; `local` drives in worker processes of this machine.

An engine gets the policy once per iteration (`load`), takes jobs (`submit`) and hands rollouts back in the order of the
jobs (`results`). Knows nothing of rewards or training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from causaldrive.ground.errors import unknown_name
from causaldrive.rl.policy import StudentPolicy
from causaldrive.rl.rollouts import Job, Rollout, roll
from causaldrive.worlds.episode import DriveSettings
from causaldrive.worlds.pool import WorldPool


class Engine(Protocol):
    """Rollout jobs in, rollouts out."""

    def load(self, policy: StudentPolicy) -> None:
        """Drive with this policy from now on."""
        ...

    def submit(self, jobs: Sequence[Job], label: str) -> None:
        """Take jobs; may start at once."""
        ...

    def results(self) -> list[Rollout]:
        """Wait for all submitted jobs; one rollout each, in their order, failures included."""
        ...

    def close(self) -> None: ...


class LocalEngine:
    """The policy in this process, batched over worlds in `workers` processes."""

    def __init__(self, settings: DriveSettings, workers: int, batch: int):
        self._pool = WorldPool(settings, workers)
        self._batch = batch
        self._policy: StudentPolicy | None = None
        self._waiting: list[tuple[Sequence[Job], str]] = []

    def load(self, policy: StudentPolicy) -> None:
        self._policy = policy

    def submit(self, jobs: Sequence[Job], label: str) -> None:
        self._waiting.append((jobs, label))

    def results(self) -> list[Rollout]:
        assert self._policy is not None, "load a policy before asking for results"
        waiting, self._waiting = self._waiting, []
        return [r for jobs, label in waiting for r in roll(jobs, self._policy, self._pool, self._batch, label)]

    def close(self) -> None:
        self._pool.__exit__()


ENGINES: dict[str, Callable[[DriveSettings, int, int], Engine]] = {"local": LocalEngine}


def open_engine(name: str, settings: DriveSettings, workers: int, batch: int) -> Engine:
    """Raises UserError for an unknown engine."""
    if name not in ENGINES:
        raise unknown_name("rollout engine", name, ENGINES)
    return ENGINES[name](settings, workers, batch)
