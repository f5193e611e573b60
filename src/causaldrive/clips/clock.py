"""Clock of the camera against the clock of the poses, and the sign of yaw, by what the images themselves show.

    r(tau) = corr(image(t), ego(t - tau))        offset = argmax r;  uncertainty: jackknife over six parts of the drive

Two signals are compared: the yaw rate, where the drive turns, and the growth of the picture against the speed, where
the speed changes. A drive that does neither says nothing about its clocks, and that is what is reported. Knows nothing
of files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from causaldrive.clips.faults import Finding, Poses
from causaldrive.clips.image_motion import ImageMotion

WIDEST_S, STEP_S = 2.0, 0.02
_SMOOTH_S = 0.15
_LEAST_TURN_RADPS, _LEAST_SPEED_CHANGE_MPS = 0.02, 1.5
_LEAST_PEAK, _LEAST_GAIN, _LEAST_OFFSET_S, _MOST_UNCERTAIN_S = 0.75, 0.04, 0.15, 0.12
_OPPOSITE, _LEAST_SHOWN, _PARTS, _COARSE = -0.75, 0.6, 6, 3


@dataclass(frozen=True)
class ClockFit:
    """What the images say about the clocks. `offset_s` > 0: the camera's stamps are late. None: cannot be told."""

    offset_s: float | None
    uncertainty_s: float | None
    peak: float | None  # correlation at the offset
    at_zero: float | None  # correlation with the clocks as they are
    signals: tuple[str, ...]  # of 'turning', 'speed'
    opposite: float | None = None  # most negative correlation of the yaw rates, where they turn against each other


def fit_clock(poses: Poses, image: ImageMotion) -> ClockFit:
    """Offset between the clocks, from poses with increasing times and a camera that looks ahead."""
    pairs = _signals(poses, image)
    lags = np.arange(-round(WIDEST_S / STEP_S), round(WIDEST_S / STEP_S) + 1)
    curves = {name: _curve(pair, lags, None) for name, pair in pairs.items()}
    opposite = float(np.nanmin(curves["turning"])) if "turning" in curves else None
    # A signal that the images do not show at any lag (a far panorama does not grow) says nothing about the clocks.
    shown = [name for name, curve in curves.items() if np.nanmax(curve) >= _LEAST_SHOWN]
    if not shown:
        return ClockFit(None, None, None, None, (), opposite)
    curve = np.mean([curves[name] for name in shown], axis=0)
    coarse = lags[len(lags) // 2 % _COARSE :: _COARSE]
    parts = [_peak(np.mean([_curve(pairs[name], coarse, part) for name in shown], axis=0), coarse)
             for part in range(_PARTS)]  # fmt: skip
    spread = float(np.sqrt((_PARTS - 1) * np.mean((np.array(parts) - np.mean(parts)) ** 2)))
    at_zero = float(curve[len(lags) // 2])
    return ClockFit(_peak(curve, lags), spread, float(np.nanmax(curve)), at_zero, tuple(shown), opposite)


def findings_of(fit: ClockFit, camera: str) -> list[Finding]:
    """An alarm only where the images are clear about it."""
    if fit.opposite is not None and fit.opposite <= _OPPOSITE and (fit.peak or 0.0) < -fit.opposite - 0.2:
        found = f"The picture of {camera} turns against the yaw rate of the poses (correlation {fit.opposite:.2f})."
        fix = "Negate yaw (positive is to the left), or check that the video is not mirrored."
        return [Finding("wrong yaw sign", found, fix)]
    if not _is_certain(fit) or abs(fit.offset_s or 0.0) < max(_LEAST_OFFSET_S, 3 * (fit.uncertainty_s or 0.0)):
        return []
    assert fit.offset_s is not None
    size, late = abs(fit.offset_s), fit.offset_s > 0
    found = (
        f"The time stamps of {camera} are {size:.2f} s (+- {2 * (fit.uncertainty_s or 0):.2f} s) "
        f"{'late' if late else 'early'} against the poses (correlation {fit.peak:.2f} there, {fit.at_zero:.2f} as they "
        f"are, by {' and '.join(fit.signals)})."
    )
    fix = f"Subtract {size:.2f} s from the frame times." if late else f"Add {size:.2f} s to the frame times."
    return [Finding("clock offset", found, fix)]


def _is_certain(fit: ClockFit) -> bool:
    if fit.offset_s is None or fit.uncertainty_s is None or fit.peak is None or fit.at_zero is None:
        return False
    gain = fit.peak - fit.at_zero if np.isfinite(fit.at_zero) else 1.0
    inside = abs(fit.offset_s) < WIDEST_S - STEP_S  # a peak at the very end is none
    return inside and fit.peak >= _LEAST_PEAK and gain >= _LEAST_GAIN and fit.uncertainty_s <= _MOST_UNCERTAIN_S


def sentence(fit: ClockFit, camera: str) -> str:
    """What is known of the clocks, whether or not it is an alarm."""
    if fit.offset_s is None and fit.opposite is not None:
        return f"{camera}: the picture does not turn as the poses do, at no offset within {WIDEST_S:g} s."
    if fit.offset_s is None:
        return f"{camera}: the drive neither turns nor changes its speed enough to compare the clocks."
    sure = (
        "certain" if (fit.peak or 0) >= _LEAST_PEAK and (fit.uncertainty_s or 0) <= _MOST_UNCERTAIN_S else "not certain"
    )
    return (f"{camera}: offset {fit.offset_s:+.2f} s +- {2 * (fit.uncertainty_s or 0):.2f} s by "
            f"{' and '.join(fit.signals)}, correlation {fit.peak:.2f} ({sure}).")  # fmt: skip


_Pair = tuple[np.ndarray, np.ndarray]  # image and ego on one grid of STEP_S


def _signals(poses: Poses, image: ImageMotion) -> dict[str, _Pair]:
    """Signals that vary enough to be compared, both on one grid and equally smooth."""
    good = np.isfinite(image.yaw_rate_radps)
    if good.sum() < 20 or len(poses.t_us) < 5:
        return {}
    start, end = max(poses.t_us[0], image.mid_t_us[good][0]), min(poses.t_us[-1], image.mid_t_us[good][-1])
    grid = np.arange(start, end, STEP_S * 1e6)
    if len(grid) * STEP_S < 4.0:
        return {}
    width = _SMOOTH_S / STEP_S

    def seen(values: np.ndarray) -> np.ndarray:
        return gaussian_filter1d(np.interp(grid, image.mid_t_us[good], values[good]), width, mode="nearest")

    def driven(values: np.ndarray) -> np.ndarray:
        return gaussian_filter1d(np.interp(grid, poses.t_us, values), width, mode="nearest")

    step_s = np.diff(poses.t_us) / 1e6
    path = np.linalg.norm(np.diff(poses.position_m[:, :2], axis=0), axis=1) / step_s
    speed, turn = driven(np.append(path, path[-1])), np.gradient(driven(np.unwrap(poses.yaw_rad)), STEP_S)
    pairs: dict[str, _Pair] = {}
    if turn.std() >= _LEAST_TURN_RADPS:
        pairs["turning"] = (seen(image.yaw_rate_radps), turn)
    if speed.std() >= _LEAST_SPEED_CHANGE_MPS:
        pairs["speed"] = (seen(image.growth_1ps), speed)
    return pairs


def _curve(pair: _Pair, lags: np.ndarray, without: int | None) -> np.ndarray:
    """Correlation at each lag; `without` leaves out one of `_PARTS` parts of the drive. NaN where nothing varies."""
    image, ego = pair
    count = len(image)
    place = np.arange(count)
    used = np.ones(count, bool) if without is None else place * _PARTS // count != without
    values = np.full(len(lags), np.nan)
    for i, lag in enumerate(lags):
        other = place - lag
        rows = used & (other >= 0) & (other < count)
        if rows.sum() * STEP_S < 3.0:
            continue
        a, b = image[rows], ego[other[rows]]
        if a.std() > 1e-9 and b.std() > 1e-9:
            values[i] = np.corrcoef(a, b)[0, 1]
    return values


def _peak(curve: np.ndarray, lags: np.ndarray) -> float:
    return float(lags[int(np.nanargmax(curve))] * STEP_S) if np.isfinite(curve).any() else 0.0
