"""Batches made ahead of the training loop in one thread, in a fixed order.

Counts the seconds the loop had to wait. Knows nothing of what a batch is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Loader(Generic[T]):
    """`for batch in Loader(make, range(100)): ...`; errors of `make` are raised where its batch would have come."""

    def __init__(self, make: Callable[[int], T], numbers: Iterable[int], ahead: int = 2):
        self._make, self._numbers, self._ahead = make, iter(numbers), ahead
        self.waited_s = 0.0  # for the last batch

    def __iter__(self) -> Iterator[T]:
        pending: deque[Future[T]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            try:
                while True:
                    while len(pending) < self._ahead and (number := next(self._numbers, None)) is not None:
                        pending.append(pool.submit(self._make, number))
                    if not pending:
                        return
                    yield self._take(pending.popleft())
            finally:
                for future in pending:
                    future.cancel()

    def _take(self, future: Future[T]) -> T:
        started = time.perf_counter()
        batch = future.result()
        self.waited_s = time.perf_counter() - started
        return batch
