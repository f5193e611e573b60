"""Peak memory of this process and its children, sampled while a recipe's step runs."""

from __future__ import annotations

import threading

import psutil


class MemoryMeter:
    """Proportional set size summed over the process tree (pages shared by workers count once), in MiB."""

    def __init__(self, every_s: float = 2.0):
        self.peak_mib, self._every_s, self._stop = 0.0, every_s, threading.Event()

    def __enter__(self) -> MemoryMeter:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self.peak_mib = max(self.peak_mib, tree_mib())


def tree_mib() -> float:
    total = 0
    this = psutil.Process()
    for process in [this, *this.children(recursive=True)]:
        try:
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total += getattr(memory, "pss", memory.rss)
    return total / 2**20
