"""Meta actions by the thresholds and segment rules of the published detector, to compare ours with.

    cut where a state flips -> name each segment by its mean -> merge, absorb or split what is too short

Its smoothing, its cooldown of three ticks and its minimum lengths are kept as they are, with what follows from them:
onsets come late and short phases vanish. Source: the public autolabeller of NVlabs (Apache-2.0), read in July 2026;
written here from its rules, none of its code. Where it deletes the lateral word (standing) ours says go_straight.
Reads arrays. Knows nothing of maps or files.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from causaldrive.ground.words import STEP_S

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ReleasedProfile:
    """Every threshold of the published detector."""

    mean_ticks: int = 5
    cooldown_ticks: int = 3
    cut_speed_mps: float = 0.3
    cut_gentle_mps2: float = 0.1
    cut_strong_mps2: float = 1.25
    hysteresis: float = 0.15
    still_mps: float = 0.12
    gentle_mps2: float = 0.15
    strong_mps2: float = 1.4
    speed_change_mps: float = 0.8
    longitudinal_ticks: int = 8
    maintain_ticks: int = 12
    cut_steer_1pm: float = 0.001
    cut_sharp_1pm: float = 0.05
    reverse_mps: float = 0.1
    reverse_1pm: float = 0.002
    reverse_change_rad: float = 0.2
    sharp_1pm: float = 0.05
    sharp_change_rad: float = 0.2
    steer_1pm: float = 0.0015
    steer_change_rad: float = 0.015
    lateral_ticks: int = 10


def released_words(speed_mps: Array, yaw_rad: Array, profile: ReleasedProfile) -> tuple[np.ndarray, np.ndarray]:
    """(longitudinal (T,), lateral (T,)) words of signed speed (T,) and yaw (T,) at 10 Hz."""
    along = _longitudinal(speed_mps, profile)
    aside = _lateral(speed_mps, yaw_rad, profile)
    aside[along == "stop"] = "go_straight"
    return along.astype(str), aside.astype(str)


def _longitudinal(speed: Array, p: ReleasedProfile) -> np.ndarray:
    norm = np.abs(speed)
    rate = uniform_filter1d(np.diff(norm, prepend=norm[0]) / STEP_S, p.mean_ticks, mode="reflect")
    states = [speed > p.cut_speed_mps, speed < -p.cut_speed_mps]
    for level in (p.cut_gentle_mps2, p.cut_strong_mps2):
        states += [_schmitt(sign * rate, level, p.hysteresis) for sign in (1, -1)]
    cuts = cuts_of(states, p.cooldown_ticks)

    def name(first: int, end: int) -> str:
        last = min(end, len(speed) - 1)
        return _speed_word(float(speed[first:end].mean()), norm[first:end], float(norm[last] - norm[first]),
                           (last - first) * STEP_S, p)  # fmt: skip

    least = {"maintain_speed": p.maintain_ticks}
    return cleaned(cuts, name, lambda word: least.get(word, p.longitudinal_ticks))


def _speed_word(mean_along: float, norm: Array, change: float, seconds: float, p: ReleasedProfile) -> str:
    """The first rule that holds names the segment."""
    rate = change / max(seconds, STEP_S)
    if mean_along <= -p.still_mps:
        return "reverse"
    if float(norm.mean()) <= p.still_mps:
        return "stop"
    if abs(change) < p.speed_change_mps or abs(rate) < p.gentle_mps2:
        return "maintain_speed"
    strength = "strong" if abs(rate) >= p.strong_mps2 else "gentle"
    return f"{strength}_{'accelerate' if change > 0 else 'decelerate'}"


def _lateral(speed: Array, yaw: Array, p: ReleasedProfile) -> np.ndarray:
    turn = np.diff(np.unwrap(yaw), append=np.unwrap(yaw)[-1])
    driven = np.maximum(np.abs(speed) * STEP_S, 1e-3)
    rate = uniform_filter1d(turn, p.mean_ticks, mode="reflect") / driven
    levels = (p.cut_steer_1pm, p.cut_sharp_1pm)
    states = [sign * rate > level for level in levels for sign in (1, -1)]
    cuts = cuts_of([*states, speed < -p.reverse_mps], p.cooldown_ticks)

    def name(first: int, end: int) -> str:
        change = float(turn[first:end].sum())
        return _steer_word(float(speed[first:end].mean()), change / float(driven[first:end].sum()), change, p)

    return cleaned(cuts, name, lambda word: p.lateral_ticks)


def _steer_word(mean_along: float, rate: float, change: float, p: ReleasedProfile) -> str:
    side, rate, change = ("left" if change > 0 else "right"), abs(rate), abs(change)
    if mean_along <= -p.reverse_mps and rate >= p.reverse_1pm and change >= p.reverse_change_rad:
        return f"reverse_{'right' if side == 'left' else 'left'}"  # the rear swings to the other side
    if rate >= p.sharp_1pm and change >= p.sharp_change_rad:
        return f"sharp_steer_{side}"
    return f"steer_{side}" if rate >= p.steer_1pm and change >= p.steer_change_rad else "go_straight"


def _schmitt(signal: Array, level: float, hysteresis: float) -> np.ndarray:
    """On from level (1 + h), off from level (1 - h)."""
    on, found = False, np.zeros(len(signal), bool)
    for i, value in enumerate(signal.tolist()):
        on = value > level * (1 - hysteresis) if on else value > level * (1 + hysteresis)
        found[i] = on
    return found


def cuts_of(states: list[np.ndarray], cooldown: int) -> list[int]:
    """0, the ticks at which a state flips (none within the cooldown or the last ticks), T."""
    table = np.stack(states, axis=1)
    cuts = [0]
    for i in (np.flatnonzero((table[1:] != table[:-1]).any(axis=1)) + 1).tolist():
        if i - cuts[-1] >= cooldown and i < len(table) - cooldown:
            cuts.append(i)
    return [*cuts, len(table)]


def cleaned(cuts: list[int], name: Callable[[int, int], str], least: Callable[[str], int]) -> np.ndarray:
    """Equal neighbours merged; a short segment between equal ones absorbed, else split half and half between them."""
    segments = _merged([(name(a, b), b - a) for a, b in itertools.pairwise(cuts)])
    while True:
        short = next((i for i, (word, length) in enumerate(segments) if length < least(word)), None)
        if short is None or len(segments) == 1:
            return np.repeat(np.array([w for w, _ in segments], object), [n for _, n in segments])
        before, after = segments[:short], segments[short + 1 :]
        length = segments[short][1]
        half = length if not after else 0 if not before else (length + 1) // 2
        if before:
            before[-1] = (before[-1][0], before[-1][1] + half)
        if after:
            after[0] = (after[0][0], after[0][1] + length - half)
        segments = _merged([*before, *after])


def _merged(segments: list[tuple[str, int]]) -> list[tuple[str, int]]:
    groups = itertools.groupby(segments, key=lambda segment: segment[0])
    return [(word, sum(length for _, length in group)) for word, group in groups]
