"""A stage in a process of its own that is killed in the middle, for the tests that go on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
PATIENCE_S = 120


def kill_when(is_time: Callable[[], bool], code: str, words: Sequence[object], beside: Sequence[Path] = ()) -> None:
    """Run `code` with `words` as its arguments, one thread, and SIGKILL it as soon as `is_time`.

    `code` must be slow from there on, so that the kill lands. `beside`: further directories that it imports from.
    """
    path = os.pathsep.join(str(one) for one in (*beside, SOURCE))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "import torch; torch.set_num_threads(1)\n" + code, *map(str, words)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_S
    while not is_time():
        assert process.poll() is None and time.monotonic() < deadline, "the process ended before it could be killed"
        time.sleep(0.1)  # between two looks at what the other process has written
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
