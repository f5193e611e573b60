"""The check on rendered drives of the town: sound as recorded, and each fault of poses planted on disk is found.

Clock offsets are measured in `benchmarks/clips_check.py`: not every drive of the town can show one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from causaldrive.clips.check import check_drive
from causaldrive.clips.geometry import quat_of_yaw, yaw_of
from causaldrive.clips.store import find_recordings
from causaldrive.worlds.record import RecordConfig, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def drives(tmp_path_factory) -> list[Path]:
    out = tmp_path_factory.mktemp("town")
    run(RecordConfig(out, scenes=2, families=("sharp_curve",), workers=1, disturb=0.0))
    return find_recordings(out)


def _ego(directory: Path, change: Callable[[dict], None]) -> None:
    table = pq.read_table(directory / "ego.parquet")
    columns = {name: table.column(name).to_numpy().copy() for name in table.column_names}
    change(columns)
    for name, value in columns.items():
        table = table.set_column(table.column_names.index(name), name, [value])
    pq.write_table(table, directory / "ego.parquet")


def _negate_yaw(columns: dict) -> None:
    quat = quat_of_yaw(-yaw_of(np.stack([columns[f"quat_{part}"] for part in "wxyz"], axis=1)))
    columns.update({f"quat_{part}": quat[:, k] for k, part in enumerate("wxyz")})


def _swap(columns: dict) -> None:
    columns["position_x_m"], columns["position_y_m"] = columns["position_y_m"], columns["position_x_m"]


FAULTS: dict[str, Callable[[Path], None]] = {
    "wrong yaw sign": lambda d: _ego(d, _negate_yaw),
    "swapped axes": lambda d: _ego(d, _swap),
    "speed unit": lambda d: _ego(d, lambda c: c.update(velocity_x_mps=c["velocity_x_mps"] * 3.6)),
    "time unit": lambda d: _ego(d, lambda c: c.update(t_us=c["t_us"] // 1000)),
}


def test_untouched_drives_are_sound(drives):
    for directory in drives:
        checked = check_drive(directory)
        assert checked.findings == [] and "offset" in checked.clocks[0]


@pytest.mark.parametrize("kind", FAULTS)
def test_each_planted_fault_is_found(drives, tmp_path, kind):
    for directory in drives:
        copy = Path(shutil.copytree(directory, tmp_path / directory.name))
        FAULTS[kind](copy)
        assert [finding.kind for finding in check_drive(copy).findings] == [kind]
