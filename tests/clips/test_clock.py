"""Clock offsets from signals alone: one short swerve is enough, a slow bend is not, and noise is no offset."""

from __future__ import annotations

import numpy as np
import pytest

from causaldrive.clips.clock import findings_of, fit_clock
from causaldrive.clips.faults import Poses
from causaldrive.clips.image_motion import ImageMotion

SECONDS, SPEED_MPS = 20.0, 10.0


def swerve(t_s: np.ndarray) -> np.ndarray:
    """Yaw rate (rad/s) of one lane change of 3 s in the middle of a straight drive."""
    return np.where(abs(t_s - 10) < 1.5, 0.15 * np.sin(2 * np.pi * (t_s - 8.5) / 3), 0.0)


def slow_bend(t_s: np.ndarray) -> np.ndarray:
    """Yaw rate (rad/s) that swells and ebbs over the whole drive."""
    return 0.15 * np.sin(np.pi * t_s / SECONDS)


def drive(yaw_rate, offset_s: float, noise_radps: float, seed: int = 0) -> tuple[Poses, ImageMotion]:
    """Poses at 50 Hz and what a camera at 10 Hz shows whose stamps are `offset_s` late."""
    fine_s = np.arange(-3, SECONDS + 3, 0.001)
    yaw = np.cumsum(yaw_rate(fine_s)) * 0.001
    path = np.cumsum(np.stack([np.cos(yaw), np.sin(yaw), 0 * yaw], axis=1), axis=0) * SPEED_MPS * 0.001
    t_s = np.arange(0, SECONDS, 0.02)
    position = np.stack([np.interp(t_s, fine_s, column) for column in path.T], axis=1)
    poses = Poses((1e6 * t_s).astype(np.int64), position, np.interp(t_s, fine_s, yaw))
    seen_s, noise = np.arange(0.05, SECONDS - 0.1, 0.1), np.random.default_rng(seed)
    rate = yaw_rate(seen_s) + noise.normal(0, noise_radps, len(seen_s))
    growth = 0.3 + noise.normal(0, 0.02, len(seen_s))
    return poses, ImageMotion((1e6 * (seen_s + offset_s)).astype(np.int64), rate, growth)


@pytest.mark.parametrize("offset_s", [-0.8, -0.3, 0.3, 0.8])
def test_one_swerve_shows_the_offset(offset_s):
    fit = fit_clock(*drive(swerve, offset_s, 0.01))
    assert fit.offset_s == pytest.approx(offset_s, abs=0.05) and fit.signals == ("turning",)
    assert [finding.kind for finding in findings_of(fit, "front")] == ["clock offset"]


def test_the_uncertainty_is_that_of_the_error():
    errors, told = [], []
    for seed in range(40):
        fit = fit_clock(*drive(swerve, 0.0, 0.03, seed))
        errors.append(fit.offset_s)
        told.append(fit.uncertainty_s)
        assert findings_of(fit, "front") == []
    assert 0.5 < np.mean(told) / np.std(errors) < 2


def test_what_a_swerve_proves_a_slow_bend_does_not():
    quick, slow = (fit_clock(*drive(shape, 0.25, 0.002)) for shape in (swerve, slow_bend))
    assert quick.offset_s == pytest.approx(0.25, abs=0.05) and slow.offset_s == pytest.approx(0.25, abs=0.1)
    assert findings_of(quick, "front") and not findings_of(slow, "front")
    assert (slow.uncertainty_s or 0) > 3 * (quick.uncertainty_s or 1)
