"""Drives of the town's expert, made once; the real sample where it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from label_drives import town_recording

from causaldrive.clips.types import Recording

SAMPLES = Path(os.environ.get("CAUSALDRIVE_SAMPLES", Path(__file__).parents[3] / "shared" / "samples"))
FAMILIES = ("lead_brakes", "red_light", "stopped_car")


@pytest.fixture(scope="session")
def town() -> dict[str, Recording]:
    return {family: town_recording(family) for family in FAMILIES}


@pytest.fixture
def comma2k19() -> Path:
    if not (SAMPLES / "comma2k19").is_dir():
        pytest.skip(f"{SAMPLES}/comma2k19 is not here; set CAUSALDRIVE_SAMPLES to the folder of real samples")
    return SAMPLES / "comma2k19"
