"""What the ego of a simulated drive really did: the true timeline of action words, from the world's exact state.

    v' = a, yaw' = v kappa          a, kappa: what engine, brakes and steering applied, known every 25 ms

Nothing is differenced, smoothed or sampled down here: the words follow from the applied acceleration and curvature.
A word is defined by its bound on them and by lasting at least half a second; what is shorter belongs to the phase
around it (the ramp of a strong brake to the strong brake). Knows nothing of detectors, noise or recordings.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from causaldrive.clips.timeline import runs_of
from causaldrive.ground.words import STEP_S, STEP_US
from causaldrive.worlds.state import EgoState
from causaldrive.worlds.vehicle import LIMITS

FINE = 4  # parts of a 0.1 s step that the unicycle is integrated in
FINE_S = STEP_S / FINE
Array = NDArray[np.float64]


@dataclass(frozen=True)
class ActionWords:
    """What each word means. A word reaches as far as `from` holds, if `reached` is met somewhere within."""

    gentle_from_mps2: float = 0.1
    gentle_reached_mps2: float = 0.15
    strong_from_mps2: float = 1.2
    strong_reached_mps2: float = 1.4
    speed_change_mps: float = 0.3  # about 1 km/h: a word that changes the speed by less is none
    steer_from_1pm: float = 0.001  # radius 1000 m
    steer_reached_1pm: float = 0.0015  # radius 667 m
    steer_change_rad: float = 0.015
    sharp_from_1pm: float = 0.04  # radius 25 m
    sharp_reached_1pm: float = 0.05  # radius 20 m
    sharp_change_rad: float = 0.2
    reverse_from_1pm: float = 0.002
    reverse_change_rad: float = 0.05
    still_mps: float = 0.01
    least_s: float = 0.4  # shorter is no action of its own

    @property
    def shortest(self) -> int:
        """Least number of 25 ms parts."""
        return round(self.least_s / FINE_S)


@dataclass(frozen=True)
class Phase:
    """One word held from `start_us` (included) to `end_us` (not included)."""

    label: str
    start_us: int
    end_us: int


@dataclass(frozen=True)
class TrueActions:
    """Phases of both axes in order, and the word of most of each 10 Hz step."""

    longitudinal: tuple[Phase, ...]
    lateral: tuple[Phase, ...]
    longitudinal_words: np.ndarray  # (T,) str; the last frame repeats the one before
    lateral_words: np.ndarray  # (T,) str


def true_actions(egos: Sequence[EgoState], start_us: int = 0, words: ActionWords = ActionWords()) -> TrueActions:
    """Words of consecutive states 0.1 s apart, each holding what was applied at its end."""
    return true_actions_of(*_applied(egos), len(egos), start_us, words)


def true_actions_of(
    speed: Array, acceleration: Array, curvature: Array, frames: int, start_us: int = 0,
    words: ActionWords = ActionWords(),
) -> TrueActions:  # fmt: skip
    """Words of exact motion given every 25 ms, (N,) each; `speed` is signed. `frames`: how many at 10 Hz."""
    turned = speed * curvature * FINE_S
    still = np.abs(speed) < words.still_mps
    along = settled(_along(acceleration, speed, still, words), words.shortest)
    aside = settled(_aside(curvature, turned, speed, still, words), words.shortest)
    return TrueActions(
        phases_of(along, start_us), phases_of(aside, start_us), per_frame(along, frames), per_frame(aside, frames)
    )


def _applied(egos: Sequence[EgoState]) -> tuple[Array, Array, Array]:
    """(speed, acceleration, curvature) in the middle of each 25 ms, (4 (T - 1),) each, as `vehicle.advance` made them.

    A command is met at the actuators' rate, so the four parts of a step follow from its two ends. In the step in which
    the car comes to rest the brakes' last value is not kept; it is that of the step before.
    """
    v, a, k = (np.array([getattr(e, n) for e in egos]) for n in ("speed_mps", "acceleration_mps2", "curvature_1pm"))
    rests = (v[1:] == 0.0) & (v[:-1] > 0.0)
    fine_a = _ramps(a[:-1], np.where(rests, a[:-1], a[1:]), LIMITS.max_jerk_mps3 * FINE_S)
    fine_k = _ramps(k[:-1], k[1:], LIMITS.max_curvature_rate_1pms * FINE_S)
    ends = np.maximum(v[:-1, None] + np.cumsum(fine_a, axis=1) * FINE_S, 0.0)
    begins = np.concatenate([v[:-1, None], ends[:, :-1]], axis=1)
    return ((begins + ends) / 2).ravel(), fine_a.ravel(), fine_k.ravel()


@dataclass(frozen=True)
class FinePoses:
    """Where the ego is in the middle of each 25 ms, (N,) each."""

    xy_m: Array  # (N, 2)
    yaw_rad: Array
    speed_mps: Array


def fine_poses(egos: Sequence[EgoState]) -> FinePoses:
    """Poses between states 0.1 s apart, four a step, from each state on as `vehicle.advance` made them."""
    speed, _, curvature = _applied(egos)
    way, turn = ((a * FINE_S).reshape(-1, FINE) for a in (speed, speed * curvature))
    yaw_before = np.array([e.yaw_rad for e in egos[:-1]])[:, None] + np.cumsum(turn, axis=1) - turn
    heading = yaw_before + turn / 2
    step = way[..., None] * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    xy = np.array([e.xy_in_local_m for e in egos[:-1]])[:, None] + np.cumsum(step, axis=1) - step / 2
    return FinePoses(xy.reshape(-1, 2), heading.ravel(), speed)


def _ramps(start: Array, end: Array, most: float) -> Array:
    """(N, 4): from `start` (N,) towards `end` (N,) by at most `most` a part."""
    parts = []
    for _ in range(FINE):
        start = start + np.clip(end - start, -most, most)
        parts.append(start)
    return np.stack(parts, axis=1)


def _along(acceleration: Array, speed: Array, still: np.ndarray, words: ActionWords) -> np.ndarray:
    labels = np.full(len(speed), "maintain_speed", object)
    change = acceleration * FINE_S
    for sign, verb in ((1, "accelerate"), (-1, "decelerate")):
        for how, held, reached in (
            ("gentle", words.gentle_from_mps2, words.gentle_reached_mps2),
            ("strong", words.strong_from_mps2, words.strong_reached_mps2),
        ):
            found = _reaching(
                sign * np.where(still, 0.0, acceleration), held, reached, change, words.speed_change_mps, words.shortest
            )
            labels[found] = f"{how}_{verb}"
    labels[speed < 0] = "reverse"
    labels[still] = "stop"
    return labels


def _aside(curvature: Array, turned: Array, speed: Array, still: np.ndarray, words: ActionWords) -> np.ndarray:
    labels = np.full(len(curvature), "go_straight", object)
    for sign, side in ((1, "left"), (-1, "right")):
        bend = sign * np.where(still | (speed < 0), 0.0, curvature)
        back = sign * np.where(speed < 0, curvature, 0.0)  # the wheel's side is the one the rear swings to
        held = words.reverse_from_1pm
        found = _reaching(back, held, held, turned, words.reverse_change_rad, words.shortest)
        labels[found] = f"reverse_{side}"
        for how, held, reached, least in (
            ("steer", words.steer_from_1pm, words.steer_reached_1pm, words.steer_change_rad),
            ("sharp_steer", words.sharp_from_1pm, words.sharp_reached_1pm, words.sharp_change_rad),
        ):
            labels[_reaching(bend, held, reached, turned, least, words.shortest)] = f"{how}_{side}"
    return labels


def _reaching(signal: Array, held: float, reached: float, change: Array, least: float, shortest: int) -> np.ndarray:
    """Runs in which `signal` is at least `held`, somewhere at least `reached`, and `change` sums up to `least`."""
    found = signal >= held - 1e-12
    for first, end in runs_of(found):
        met = signal[first:end].max() >= reached - 1e-12 and abs(change[first:end].sum()) >= least
        found[first:end] = met and end - first >= shortest
    return found


def settled(labels: np.ndarray, shortest: int) -> np.ndarray:
    """Phases of fewer than `shortest` parts given away, the shortest first: to their own kind, else to the longer one.

    The first and the last go on outside the drive, so they go to their own kind only.
    """
    phases = [[str(labels[a]), b - a] for a, b in _cuts(labels)]
    while True:
        short = [(length, i) for i, (_, length) in enumerate(phases) if length < shortest and _takers(phases, i)]
        if not short:
            return np.repeat(np.array([name for name, _ in phases]), [length for _, length in phases])
        i = min(short)[1]
        phases[i][0] = phases[max(_takers(phases, i), key=lambda j: phases[j][1])][0]
        phases = _joined(phases)


def _takers(phases: list[list], i: int) -> list[int]:
    beside = [j for j in (i - 1, i + 1) if 0 <= j < len(phases)]
    kin = [j for j in beside if phases[j][0].rsplit("_", 1)[-1] == phases[i][0].rsplit("_", 1)[-1]]
    return kin or (beside if len(beside) == 2 else [])


def _joined(phases: list[list]) -> list[list]:
    joined: list[list] = []
    for name, length in phases:
        if joined and joined[-1][0] == name:
            joined[-1][1] += length
        else:
            joined.append([name, length])
    return joined


def _cuts(labels: np.ndarray) -> list[tuple[int, int]]:
    cuts = np.concatenate([[0], np.flatnonzero(labels[1:] != labels[:-1]) + 1, [len(labels)]]).tolist()
    return list(itertools.pairwise(cuts))


def phases_of(labels: np.ndarray, start_us: int) -> tuple[Phase, ...]:
    part_us = STEP_US // FINE
    return tuple(Phase(str(labels[a]), start_us + a * part_us, start_us + b * part_us) for a, b in _cuts(labels))


def per_frame(labels: np.ndarray, count: int) -> np.ndarray:
    """The word in the middle of each step, which is that of most of it since phases are long."""
    middle = labels[FINE // 2 :: FINE]
    return np.append(middle, middle[-1:])[:count]
