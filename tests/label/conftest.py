"""Drives of the town's expert, made once; the real sample where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from label_drives import town_recording

from causaldrive.clips.types import Recording

FAMILIES = ("lead_brakes", "red_light", "stopped_car")


@pytest.fixture(scope="session")
def town() -> dict[str, Recording]:
    return {family: town_recording(family) for family in FAMILIES}


@pytest.fixture
def comma2k19(samples_dir: Path) -> Path:
    return samples_dir / "comma2k19"
