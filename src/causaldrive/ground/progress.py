"""Progress with rate and time left: a bar on a terminal, plain lines elsewhere and from child processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from multiprocessing import parent_process
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
_LINE_EVERY_S = 10.0


class Meter:
    """`with Meter("sft", total=300, unit="steps") as meter: meter.advance(1, loss=2.3)`"""

    def __init__(self, label: str, total: int, unit: str = "items", done: int = 0, quiet: bool = False):
        self.label, self.total, self.unit, self.done, self._start_done = label, total, unit, done, done
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        self._note, self._quiet = "", quiet  # quiet: shows nothing, as the second of several processes should

    def __enter__(self) -> Meter:
        alone = parent_process() is None  # two bars at once would overwrite each other
        if sys.stderr.isatty() and alone and not self._quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]} left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.label, total=self.total, completed=self.done, rate="", note="")
        return self

    def advance(self, count: int = 1, **numbers: float) -> None:
        """Count `count` more items; `numbers` are shown live beside the rate."""
        self.done += count
        self._note = " ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{self._rate():.3g} {self.unit}/s", note=self._note)
            return
        now = time.monotonic()
        if now - self._last_line >= _LINE_EVERY_S and self.done < self.total:
            self._last_line = now
            self._print(f"about {self._left_s():.0f} s left")

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif exc[0] is None:
            self._print(f"in {time.monotonic() - self._started:.0f} s")

    def _print(self, ending: str) -> None:
        if self._quiet:
            return
        rate = f"{self._rate():.3g} {self.unit}/s"
        print(f"{self.label}: {self.done}/{self.total} {self.unit}, {rate}, {ending} {self._note}".rstrip(),
              file=sys.stderr, flush=True)  # fmt: skip

    def _rate(self) -> float:
        return (self.done - self._start_done) / max(time.monotonic() - self._started, 1e-9)

    def _left_s(self) -> float:
        return max(self.total - self.done, 0) / max(self._rate(), 1e-9)


def track(items: Iterable[T], label: str, total: int, unit: str = "items") -> Iterator[T]:
    """Iterate with a `Meter` around."""
    with Meter(label, total, unit) as meter:
        for item in items:
            yield item
            meter.advance()
