"""Fixtures shared by all rooms: where the real sample recordings are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

_DEFAULT = Path(__file__).resolve().parents[1] / ".." / "shared" / "samples"


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """The directory of real recordings; tests that need it are skipped where it is not there."""
    path = Path(os.environ.get("CAUSALDRIVE_SAMPLES", _DEFAULT)).resolve()
    if not path.is_dir():
        pytest.skip(f"real recordings are not at {path}; set CAUSALDRIVE_SAMPLES to test with them")
    return path


settings.register_profile("suite", deadline=None)  # how long an example takes says something of the machine alone
settings.load_profile("suite")
