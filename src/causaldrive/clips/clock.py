"""Clock of the camera against the clock of the poses, and the sign of yaw, by what the images themselves show.

    r_k(tau) = corr(image_k(t), ego_k(t - tau))        offset = argmax of the sum over signals k of -log(1 - r_k^2)

Two signals are compared: the yaw rate, where the drive turns, and the growth of the picture against the speed, where
the speed changes; the sum is the likelihood of an offset where gain and noise of each are unknown. The uncertainty has
two parts: the variance of that estimate with residuals that hang together over time (Newey-West), and a share of the
time scale of the motion, since parallax bends slow signals as an offset would. A drive that neither turns nor changes
its speed says nothing about its clocks, and that is what is reported. Knows nothing of files.
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
_LEAST_PEAK, _LEAST_OFFSET_S, _MOST_UNCERTAIN_S, _SIGMAS = 0.75, 0.15, 0.15, 3.0
_MOST_UNEXPLAINED = 0.9  # of what the clocks as they are leave unexplained
_OPPOSITE, _LEAST_SHOWN = -0.75, 0.6
_TOGETHER_S = 1.5  # residuals further apart are independent
_PARALLAX = 0.04  # of the time scale of a signal: slow ones of sound drives are off by a tenth at most


@dataclass(frozen=True)
class ClockFit:
    """What the images say about the clocks. `offset_s` > 0: the camera's stamps are late. None: cannot be told."""

    offset_s: float | None
    uncertainty_s: float | None
    peak: float | None  # correlation at the offset, of the signal that shows it best
    at_zero: float | None  # correlation of that signal with the clocks as they are
    signals: tuple[str, ...]  # of 'turning', 'speed'
    unexplained: float = 1.0  # variance left at the offset over that with the clocks as they are
    opposite: float | None = None  # most negative correlation of the yaw rates, where they turn against each other


def fit_clock(poses: Poses, image: ImageMotion) -> ClockFit:
    """Offset between the clocks, from poses with increasing times and a camera that looks ahead."""
    pairs = _signals(poses, image)
    curves = {name: _curve(pair) for name, pair in pairs.items()}
    opposite = float(np.nanmin(curves["turning"])) if "turning" in curves else None
    # A signal that the images do not show at any lag (a far panorama does not grow) says nothing about the clocks.
    shown = [name for name, curve in curves.items() if np.nanmax(curve) >= _LEAST_SHOWN]
    if not shown:
        return ClockFit(None, None, None, None, (), opposite=opposite)
    fits = np.sum([-np.log(1 - np.clip(np.nan_to_num(curves[name]), 0, 1 - 1e-6) ** 2) for name in shown], axis=0)
    best, zero = int(np.argmax(fits)), len(_LAGS) // 2
    name = max(shown, key=lambda name: curves[name][best])
    return ClockFit(
        offset_s=float(_LAGS[best] * STEP_S),
        uncertainty_s=_uncertainty([pairs[name] for name in shown], int(_LAGS[best])),
        peak=float(curves[name][best]),
        at_zero=float(curves[name][zero]),
        signals=tuple(shown),
        unexplained=float(np.exp(fits[zero] - fits[best])),
        opposite=opposite,
    )


def findings_of(fit: ClockFit, camera: str) -> list[Finding]:
    """An alarm only where the images are clear about it."""
    if fit.opposite is not None and fit.opposite <= _OPPOSITE and (fit.peak or 0.0) < -fit.opposite - 0.2:
        found = f"The picture of {camera} turns against the yaw rate of the poses (correlation {fit.opposite:.2f})."
        fix = "Negate yaw (positive is to the left), or check that the video is not mirrored."
        return [Finding("wrong yaw sign", found, fix)]
    if not _is_certain(fit) or fit.unexplained > _MOST_UNEXPLAINED:
        return []
    assert fit.offset_s is not None
    if abs(fit.offset_s) < max(_LEAST_OFFSET_S, _SIGMAS * (fit.uncertainty_s or 0.0)):
        return []
    size, late = abs(fit.offset_s), fit.offset_s > 0
    found = (
        f"The time stamps of {camera} are {size:.2f} s (+- {2 * (fit.uncertainty_s or 0):.2f} s) "
        f"{'late' if late else 'early'} against the poses (correlation {fit.peak:.2f} there, {fit.at_zero:.2f} as they "
        f"are, by {' and '.join(fit.signals)})."
    )
    fix = f"Subtract {size:.2f} s from the frame times." if late else f"Add {size:.2f} s to the frame times."
    return [Finding("clock offset", found, fix)]


def _is_certain(fit: ClockFit) -> bool:
    if fit.offset_s is None or fit.uncertainty_s is None or fit.peak is None:
        return False
    inside = abs(fit.offset_s) < WIDEST_S - STEP_S  # a peak at the very end is none
    return inside and fit.peak >= _LEAST_PEAK and fit.uncertainty_s <= _MOST_UNCERTAIN_S


def sentence(fit: ClockFit, camera: str) -> str:
    """What is known of the clocks, whether or not it is an alarm."""
    if fit.offset_s is None and fit.opposite is not None:
        return f"{camera}: the picture does not turn as the poses do, at no offset within {WIDEST_S:g} s."
    if fit.offset_s is None:
        return f"{camera}: the drive neither turns nor changes its speed enough to compare the clocks."
    sure = "certain" if _is_certain(fit) else "not certain"
    return (f"{camera}: offset {fit.offset_s:+.2f} s +- {2 * (fit.uncertainty_s or 0):.2f} s by "
            f"{' and '.join(fit.signals)}, correlation {fit.peak:.2f} ({sure}).")  # fmt: skip


_Pair = tuple[np.ndarray, np.ndarray]  # image and ego on one grid of STEP_S
_LAGS = np.arange(-round(WIDEST_S / STEP_S), round(WIDEST_S / STEP_S) + 1)


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

    def driven(steps: np.ndarray) -> np.ndarray:  # of what happens from pose to pose, the rate midway between them
        rate = steps / (np.diff(poses.t_us) / 1e6)
        midway_us = (poses.t_us[:-1] + poses.t_us[1:]) / 2
        return gaussian_filter1d(np.interp(grid, midway_us, rate), width, mode="nearest")

    speed = driven(np.linalg.norm(np.diff(poses.position_m[:, :2], axis=0), axis=1))
    turn = driven(np.diff(np.unwrap(poses.yaw_rad)))
    pairs: dict[str, _Pair] = {}
    if turn.std() >= _LEAST_TURN_RADPS:
        pairs["turning"] = (seen(image.yaw_rate_radps), turn)
    if speed.std() >= _LEAST_SPEED_CHANGE_MPS:
        pairs["speed"] = (seen(image.growth_1ps), speed)
    return pairs


def _overlap(signal: np.ndarray, lag: int) -> np.ndarray:
    """The part of a signal that has a partner when the other is `lag` steps late."""
    return signal[max(lag, 0) : len(signal) + min(lag, 0)]


def _curve(pair: _Pair) -> np.ndarray:
    """Correlation at each lag; NaN where nothing varies."""
    image, ego = pair
    values = np.full(len(_LAGS), np.nan)
    for i, lag in enumerate(_LAGS.tolist()):
        a, b = _overlap(image, lag), _overlap(ego, -lag)
        if len(a) * STEP_S >= 3.0 and a.std() > 1e-9 and b.std() > 1e-9:
            values[i] = np.corrcoef(a, b)[0, 1]
    return values


def _uncertainty(pairs: list[_Pair], lag: int) -> float:
    """Standard deviation (s) of the offset.

    sd^2 = sum Omega_k / (sum J_k)^2 + (_PARALLAX T)^2        J = sum g^2 / s^2        Omega = var(sum e g) / s^4

    e are the residuals of image = a + b ego, s^2 their variance, g = b d ego / dt what e gains per second of offset,
    T the shortest time scale std(ego) / std(d ego / dt).
    """
    information, scatter = 0.0, 0.0
    for image, ego in pairs:
        a, b = _overlap(image, lag), _overlap(ego, -lag)
        basis = np.stack([np.ones(len(b)), b], axis=1)
        change = np.stack([a, _overlap(np.gradient(ego, STEP_S), -lag)], axis=1)
        gain = np.linalg.lstsq(basis, change, rcond=None)[0]
        residual, slope = (change - basis @ gain).T
        slope = gain[1, 0] * slope
        variance = max(float(residual.var()), 1e-18)
        information += float(slope @ slope) / variance
        scatter += _long_run(residual * slope) / variance**2
    scale_s = min(float(ego.std() / max(np.gradient(ego, STEP_S).std(), 1e-9)) for _, ego in pairs)
    return float(np.hypot(np.sqrt(scatter) / max(information, 1e-12), _PARALLAX * scale_s))


def _long_run(score: np.ndarray) -> float:
    """Variance of the sum of a series whose members hang together (Newey and West 1987)."""
    width = round(_TOGETHER_S / STEP_S)
    plain = float(score @ score)
    lagged = (2 * (1 - k / width) * float(score[k:] @ score[:-k]) for k in range(1, min(width, len(score) - 1)))
    return max(plain + sum(lagged), plain)
