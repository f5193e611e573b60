"""Doctor: tries things for real, names the fix, and fails only for what is required."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from causaldrive.clips import doctor
from causaldrive.ground.errors import UserError


def test_a_sound_machine(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "_gpu", lambda: iter([doctor.Finding("ok", "GPU not asked")]))  # torch takes seconds
    status = doctor.run(doctor.DoctorConfig())
    lines = capsys.readouterr().out.splitlines()
    assert status == 0 and not [line for line in lines if line.startswith("[fail]")]
    for part in ("Python", "CPU cores", "memory free", "on the disk of", "libx264", "HEVC", "renderer software"):
        assert any(part in line for line in lines), part
    assert re.fullmatch(r"\d+ ok, \d+ to know, 0 to fix\.", lines[-1])


@pytest.mark.parametrize(("requirement", "state", "fix"), [
    ("numpy>=1.0", "ok", ""),
    ("numpy", "ok", ""),
    ("numpy>=999", "fail", "pip install -U 'numpy>=999'"),
    ("no-such-package-at-all>=1", "fail", "pip install 'no-such-package-at-all>=1'"),
])  # fmt: skip
def test_requirements(requirement: str, state: str, fix: str):
    finding = doctor.check_requirement(requirement)
    assert (finding.state, finding.fix) == (state, fix)


@pytest.mark.parametrize(
    ("low", "high"), [("2.9", "2.13"), ("1.10.15", "1.10.16"), ("2", "2.13.0+cpu"), ("5.9.9", "5.10")]
)
def test_versions_are_ordered_by_number(low: str, high: str):
    assert doctor._numbers(low) < doctor._numbers(high)
    assert doctor._numbers("2.0.0") == doctor._numbers("2")


def test_a_codec_that_lies_is_a_failure(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    for name in ("_packages", "_gpu", "_renderers"):
        monkeypatch.setattr(doctor, name, lambda: iter(()))
    monkeypatch.setattr(doctor, "decode_frames", lambda *_: np.zeros((1, 64, 64, 3), np.uint8))
    assert doctor.run(doctor.DoctorConfig()) == 1
    out = capsys.readouterr().out
    assert "[fail] video: H.264" in out and "fix: pip install --force-reinstall" in out and "1 to fix" in out


def test_no_renderer_at_all_is_a_failure_and_one_of_two_is_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "_render", lambda module: (False, "no luck"))
    assert [finding.state for finding in doctor._renderers()] == ["fail", "fail"]
    monkeypatch.setattr(doctor, "_render", lambda module: (module == "p3tinydisplay", "so so"))
    assert [finding.state for finding in doctor._renderers()] == ["ok", "ok"]


def test_a_display_module_that_is_not_there_is_reported_not_raised():
    good, text = doctor._render("p3nothing")
    assert not good and text


def test_a_full_disk_is_a_warning_and_a_wrong_path_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2**30})())
    assert [finding.state for finding in doctor._disk(tmp_path)] == ["warn"]
    with pytest.raises(UserError, match="does not exist"):
        list(doctor._disk(tmp_path / "nowhere"))
