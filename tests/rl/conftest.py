"""The rl tests' shared data: a small student that speaks, and a toy world to drive in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rl_worlds import use_toy_engine, write_speaking_student


@pytest.fixture(autouse=True)
def _one_thread():
    """Single-thread sums: weights compare bit for bit, and the tests leave the other core alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def _toy_engine():
    use_toy_engine()


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_speaking_student(tmp_path_factory.mktemp("student"))
