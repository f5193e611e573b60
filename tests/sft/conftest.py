"""The sft tests' shared data: a student of two layers, and drives with a lesson in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sft_drives import write_data, write_student


@pytest.fixture(autouse=True)
def _one_thread():
    """Single-thread sums: losses compare bit for bit, and the tests leave the other core alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="session")
def drives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """13 drives: one of them is held back for validation."""
    return write_data(tmp_path_factory.mktemp("drives"), 13)


@pytest.fixture(scope="session")
def few_drives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Four drives, eight samples, nothing held back."""
    return write_data(tmp_path_factory.mktemp("few"), 4)
