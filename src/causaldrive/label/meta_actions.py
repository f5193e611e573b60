"""Meta actions: what the car did, as one longitudinal and one lateral word per 10 Hz frame, by rules from motion alone.

    a_i = (v_{i+1} - v_i) / dt          kappa_i = (yaw_{i+1} - yaw_i) / (v dt)    v: mean of v_i, v_{i+1}

The word at frame i speaks of the step that begins there. Both signals go through filters without phase shift: where
there is noise, a centred mean as wide as the measured noise asks for, then a centred median, which keeps edges where
they are; a clean signal gets neither, so that no burst is clipped and no short pause filled. Spans are found by two
thresholds: a span reaches as far as the low one holds and must touch the high one somewhere. The wheel takes its time
from one side to the other, so the frame in which it crosses is not wholly the new side's. Every number stands in
`Profile`; `released` stands for the published detector (`released_actions.py`). Labels: arXiv 2511.00088, section
4.3.2. Reads arrays, writes nothing, knows nothing of maps, agents or files.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter, uniform_filter1d

from causaldrive.clips.geometry import wrap_angle
from causaldrive.clips.timeline import runs_of
from causaldrive.clips.types import EgoMotion
from causaldrive.ground.errors import unknown_name
from causaldrive.ground.words import STEP_S, STEP_US
from causaldrive.label.released_actions import ReleasedProfile, released_words

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """Every threshold of the detector. `low` ends a span, `high` must be reached within it."""

    gentle_low_mps2: float = 0.1
    gentle_high_mps2: float = 0.15
    strong_low_mps2: float = 1.2
    strong_high_mps2: float = 1.4
    speed_change_mps: float = 0.3  # a span that changes the speed by less is none
    still_mps: float = 0.12
    reverse_mps: float = 0.12
    steer_low_1pm: float = 0.001
    steer_high_1pm: float = 0.0015  # radius 667 m
    steer_low_mps2: float = 0.25  # lateral acceleration: a wide curve at speed is steering too
    steer_high_mps2: float = 0.4
    steer_change_rad: float = 0.015
    sharp_low_1pm: float = 0.04
    sharp_high_1pm: float = 0.05  # radius 20 m
    sharp_change_rad: float = 0.2
    reverse_steer_1pm: float = 0.002
    reverse_change_rad: float = 0.05
    shortest_frames: int = 4  # shorter spans are noise
    wheel_1pms: float = 0.25  # how fast steering changes the curvature, at most
    late_s: float = 0.025  # a frame in which the wheel still comes from the other side for longer counts for neither
    shortest_pause_frames: int = 4  # shorter pauses within one action are filled
    median_frames: int = 3
    acceleration_spread_mps2: float = 0.015  # what an edge spread over one frame more costs, in noise
    strong_spread_mps2: float = 0.08  # the bounds of strong lie far apart, so its edges stay sharper
    yaw_rate_spread_radps: float = 0.004
    widest_mean_frames: int = 9
    acceleration_clean_mps2: float = 0.02  # less noise is none, and nothing is smoothed or filled
    yaw_rate_clean_radps: float = 0.0006


DEFAULT = Profile()
PROFILES: dict[str, Profile | ReleasedProfile] = {"causaldrive": DEFAULT, "released": ReleasedProfile()}


def profile_of(name: str) -> Profile | ReleasedProfile:
    """Raises UserError for a name that is not known."""
    if name not in PROFILES:
        raise unknown_name("meta-action profile", name, PROFILES)
    return PROFILES[name]


@dataclass(frozen=True)
class Span:
    """One word held from `start_t_us` (included) to `end_t_us` (not included)."""

    axis: str  # 'longitudinal' or 'lateral'
    label: str
    start_t_us: int
    end_t_us: int


@dataclass(frozen=True)
class MetaActions:
    """Words per frame, and the same as spans sorted by start within each axis."""

    t_us: np.ndarray  # (T,) int64
    longitudinal: np.ndarray  # (T,) str of LONGITUDINAL_META
    lateral: np.ndarray  # (T,) str of LATERAL_META
    spans: tuple[Span, ...]


def detect(ego: EgoMotion, profile: Profile | ReleasedProfile = DEFAULT) -> MetaActions:
    """Words of a drive given at 10 Hz (see `clips.resample.ego_at_10hz`)."""
    assert np.all(np.abs(np.diff(ego.t_us) - STEP_US) < STEP_US / 10), "detect needs ego motion at 10 Hz"
    return detect_signals(ego.t_us, ego.speed_mps, ego.yaw_rad, profile)


def of_trajectory(
    history_xy_yaw: Array, future_xy_yaw: Array, t0_us: int = 0, profile: Profile | ReleasedProfile = DEFAULT
) -> MetaActions:
    """Words of poses (H, 3) up to t0 and planned poses (F, 3), x, y, yaw in one frame at 10 Hz: H + F frames."""
    poses = np.concatenate([history_xy_yaw, future_xy_yaw]).astype(float)
    speed = speed_along_path(poses)
    t_us = t0_us + STEP_US * np.arange(1 - len(history_xy_yaw), len(future_xy_yaw) + 1, dtype=np.int64)
    return detect_signals(t_us, speed, poses[:, 2], profile)


def speed_along_path(xy_yaw: Array) -> Array:
    """Signed speed (T,) of poses (T, 3) at 10 Hz: displacement along the mid heading, central over two steps."""
    step = np.diff(xy_yaw[:, :2], axis=0)
    heading = xy_yaw[:-1, 2] + wrap_angle(np.diff(xy_yaw[:, 2])) / 2
    forward = (step[:, 0] * np.cos(heading) + step[:, 1] * np.sin(heading)) / STEP_S
    inner = (forward[:-1] + forward[1:]) / 2
    first, last = (2 * forward[0] - inner[0], 2 * forward[-1] - inner[-1]) if len(inner) else (forward[0], forward[0])
    return np.concatenate([[first], inner, [last]])


def detect_signals(
    t_us: np.ndarray, speed_mps: Array, yaw_rad: Array, profile: Profile | ReleasedProfile = DEFAULT
) -> MetaActions:
    """Words from signed speed (T,) and yaw (T,) at 10 Hz."""
    speed, yaw = np.asarray(speed_mps, float), np.asarray(yaw_rad, float)
    if isinstance(profile, ReleasedProfile):
        longitudinal, lateral = released_words(speed, yaw, profile)
    else:
        longitudinal = _longitudinal(speed, profile)
        lateral = _lateral(speed, yaw, longitudinal, profile)
    spans = (*spans_of("longitudinal", t_us, longitudinal), *spans_of("lateral", t_us, lateral))
    return MetaActions(np.asarray(t_us, np.int64), longitudinal, lateral, spans)


def describe(meta: MetaActions, first_t_us: int, end_t_us: int) -> tuple[str, ...]:
    """'longitudinal/lateral' words between two times, repeats left out, oldest first."""
    inside = (meta.t_us >= first_t_us) & (meta.t_us < end_t_us)
    words = [f"{a}/{b}" for a, b in zip(meta.longitudinal[inside], meta.lateral[inside], strict=True)]
    return tuple(word for i, word in enumerate(words) if i == 0 or word != words[i - 1])


def acceleration_of(speed_mps: Array, profile: Profile = DEFAULT) -> Array:
    """Smoothed acceleration (T,) of speed (T,): the step from frame i to i + 1; the last repeats."""
    return _without_noise(
        np.diff(speed_mps) / STEP_S, profile.acceleration_spread_mps2, profile.acceleration_clean_mps2, profile
    ).rate


class _Rate(NamedTuple):
    rate: Array  # (T,)
    change: Array  # (T,) what a span's frames sum up to; where clean, nothing after the last frame
    width: int  # of the mean that took the noise away; 1 where none was needed
    clean: bool  # there is no noise to speak of: what looks like a pause is one


def _without_noise(raw: Array, spread: float, least: float, p: Profile, always: bool = False) -> _Rate:
    """w = sqrt(noise / spread): (T - 1,) raw rate -> (T,) its mean over w steps, and a median after it.

    A mean over w steps of a differenced signal leaves noise / w and spreads an edge over w; that w makes the sum least.
    With w = 1 there is no median either, unless `always`; none at all where it is clean, with `least` noise or less.
    """
    rate = np.append(raw, raw[-1])
    # Noise of the signal itself, seen through three differences of it (their gain is sqrt(20)).
    noise = 1.4826 * np.median(np.abs(np.diff(raw, 2))) / np.sqrt(20) * np.sqrt(2) if len(raw) > 4 else 0.0
    if noise <= least:
        return _Rate(rate, np.append(raw, 0.0) * STEP_S, 1, True)
    width = int(np.clip(np.ceil(np.sqrt(noise / spread)), 1, p.widest_mean_frames))
    width += 1 - width % 2
    rate = uniform_filter1d(rate, width, mode="nearest")
    if always or width > 1:
        rate = median_filter(rate, p.median_frames, mode="nearest")
    return _Rate(rate, rate * STEP_S, width, False)


def _longitudinal(speed: Array, p: Profile) -> np.ndarray:
    raw = np.diff(speed) / STEP_S
    rate, change, width, clean = _without_noise(raw, p.acceleration_spread_mps2, p.acceleration_clean_mps2, p)
    fine, fine_change, _, _ = _without_noise(raw, p.strong_spread_mps2, p.acceleration_clean_mps2, p)
    pause = 0 if clean else p.shortest_pause_frames
    mid_speed = _mid(speed)
    labels = np.where(np.abs(mid_speed) <= p.still_mps, "stop", "maintain_speed").astype(object)
    for sign, verb in ((1, "accelerate"), (-1, "decelerate")):
        gentle = _close(_reach(sign * rate, p.gentle_low_mps2, p.gentle_high_mps2), pause)
        strong = _reach(sign * fine, p.strong_low_mps2, p.strong_high_mps2) & gentle
        gentle = _at_half_height(gentle, sign * rate, width) | strong
        gentle = _keep(gentle, change, p.speed_change_mps, p.shortest_frames)
        strong = _keep(strong & gentle, fine_change, p.speed_change_mps, p.shortest_frames)
        labels[gentle] = f"gentle_{verb}"
        labels[strong] = f"strong_{verb}"
    back = _keep(mid_speed <= -p.reverse_mps, rate, 0.0, p.shortest_frames)
    labels[back] = "reverse"
    return absorb_short(labels, p.shortest_frames).astype(str)


def _mid(speed: Array) -> Array:
    """Mean speed (T,) of the step from frame i to i + 1; the last repeats the last frame."""
    return np.append((speed[:-1] + speed[1:]) / 2, speed[-1])


def _lateral(speed: Array, yaw: Array, longitudinal: np.ndarray, p: Profile) -> np.ndarray:
    rate = np.diff(np.unwrap(yaw)) / STEP_S
    turns = _without_noise(rate, p.yaw_rate_spread_radps, p.yaw_rate_clean_radps, p, always=True)
    mid_speed = _mid(speed)
    moving = (np.abs(speed) > p.still_mps) & (np.abs(mid_speed) > p.still_mps / 2)
    curvature = np.where(moving, turns.rate / np.where(moving, mid_speed, 1.0), 0.0)
    forward = moving & ~np.isin(longitudinal, ("reverse", "stop"))
    bend = np.where(forward, curvature, 0.0)
    sideways = np.where(forward, turns.rate * mid_speed, 0.0)
    steers = {side: _steering(sign, bend, sideways, forward, turns, p) for side, sign in _SIDES.items()}
    both = steers["left"] & steers["right"]  # a pause that either side fills is that one's whose way it bends
    labels = np.full(len(speed), "go_straight", object)
    for side, sign in _SIDES.items():
        labels[steers[side] & ~(both & (sign * bend <= 0))] = f"steer_{side}"
        sharp = _reach(sign * bend, p.sharp_low_1pm, p.sharp_high_1pm)
        labels[_keep(sharp, turns.change, p.sharp_change_rad, p.shortest_frames)] = f"sharp_steer_{side}"
        # Signed speed makes the sign of curvature that of the wheel, so the rear swings to the named side.
        backing = (sign * curvature >= p.reverse_steer_1pm) & (longitudinal == "reverse")
        labels[_keep(backing, turns.change, p.reverse_change_rad, p.shortest_frames)] = f"reverse_{side}"
    return absorb_short(labels, p.shortest_frames).astype(str)


_SIDES = {"left": 1, "right": -1}


def _steering(sign: int, bend: Array, sideways: Array, forward: np.ndarray, turns: _Rate, p: Profile) -> np.ndarray:
    """Where it steers to the side of `sign`: (T,) curvature and lateral acceleration, left positive."""
    strength = np.maximum(sign * bend / p.steer_high_1pm, sign * sideways / p.steer_high_mps2)
    low = max(p.steer_low_1pm / p.steer_high_1pm, p.steer_low_mps2 / p.steer_high_mps2)
    found = _reach(strength, low, 1.0)
    if not turns.clean:
        filled = _close(found, p.shortest_pause_frames) & forward
        return _keep(filled, turns.change, p.steer_change_rad, p.shortest_frames)
    late, lead_in = _coming_over(sign * bend, p)
    return _keep(found, turns.change * (1 + lead_in), p.steer_change_rad, p.shortest_frames, late)


def _coming_over(bend: Array, p: Profile) -> tuple[np.ndarray, Array]:
    """What the wheel's way from the other side takes, if a span begins at a frame: (T,) both.

    t = (k_other + k_low) / k'. Whether the frame itself is late by it; and, where the frame before is straight
    between two bends, what part of it was already this side's: no more than the rest after t, nor than its mean
    allows, and none where the wheel came to rest before it reached this side.
    """
    ends = _ends(bend, p)
    before, start, end = _earlier(bend, 1), _earlier(ends, 2), _earlier(ends, 1)
    takes_s = (p.steer_low_1pm - np.minimum(np.stack([before, start]), 0.0)) / p.wheel_1pms
    mixed = (before - start) / np.maximum(bend - start, p.steer_low_1pm)
    part = np.clip(np.minimum(1 - takes_s[1] / STEP_S, mixed), 0.0, 1.0)
    came = (start <= -p.steer_low_1pm) & (before < p.steer_low_1pm) & (end >= p.steer_low_1pm)
    return takes_s[0] > p.late_s + 1e-9, np.where(came, part, 0.0)


def _ends(bend: Array, p: Profile) -> Array:
    """Where the wheel is at the end of each frame, of which `bend` (T,) is the mean: (T,) 1/m.

    It turns at its own pace and then rests. The frame before says where it starts: first by its mean, then by its end.
    """
    return _at_end(_earlier(_at_end(_earlier(bend, 1), bend, p), 1), bend, p)


def _at_end(start: Array, mean: Array, p: Profile) -> Array:
    """The end of a turn by D in a frame: D - D^2 / (2 k' dt) = |mean - start|; at most k' dt / 2 beyond the mean."""
    most = p.wheel_1pms * STEP_S
    moved = np.minimum(np.abs(mean - start), most / 2)
    return mean + np.sign(mean - start) * (most * (1 - np.sqrt(1 - 2 * moved / most)) - moved)


def _earlier(signal: Array, frames: int) -> Array:
    """Each frame's value some frames earlier; zero where there is none."""
    return np.concatenate([np.zeros(frames), signal])[: len(signal)]


def _reach(signal: Array, low: float, high: float) -> np.ndarray:
    """Runs above `low` that touch `high`."""
    found = signal >= low - 1e-9
    for first, end in runs_of(found):
        if signal[first:end].max() < high - 1e-9:
            found[first:end] = False
    return found


def _at_half_height(mask: np.ndarray, signal: Array, width: int) -> np.ndarray:
    """Runs drawn in to where the signal has half of what it reaches within `width` frames of each end.

    A mean of `width` frames spreads an edge over as many; its half height is where it was. Width 1 spreads nothing.
    """
    drawn = mask.copy()
    for first, end in runs_of(mask) if width > 1 else []:
        if first == 0 or end == len(mask):
            continue  # it goes on outside the drive
        rise, fall = signal[first:end][:width], signal[first:end][-width:][::-1]
        drawn[first : first + int(np.argmax(rise >= rise.max() / 2))] = False
        drawn[end - int(np.argmax(fall >= fall.max() / 2)) : end] = False
    return drawn


def _close(mask: np.ndarray, pause: int) -> np.ndarray:
    """Fill pauses shorter than `pause` frames between runs."""
    closed = mask.copy()
    runs = runs_of(mask)
    for (_, end), (first, _) in itertools.pairwise(runs):
        if first - end < pause:
            closed[end:first] = True
    return closed


def _keep(
    mask: np.ndarray, change_per_frame: Array, least_change: float, shortest: int, late: np.ndarray | None = None
) -> np.ndarray:
    """Runs at least `shortest` long whose summed change is at least `least_change` in size.

    A first frame that is `late` belongs to the run, but does not count for its length.
    """
    kept = mask.copy()
    for first, end in runs_of(mask):
        counted = end - first - int(late is not None and late[first])
        if counted < shortest or abs(change_per_frame[first:end].sum()) < least_change:
            kept[first:end] = False
    return kept


def absorb_short(labels: np.ndarray, shortest: int) -> np.ndarray:
    """Give each span shorter than `shortest` to a neighbour: one of the same kind first, then the longer one.

    Of the same kind is the gentle ramp of a strong brake. The first and the last span may go on outside the drive, so
    they are given only to their own kind.
    """
    spans = _lengths(labels)
    i = 0
    while i < len(spans):
        label, length = spans[i]
        beside = [j for j in (i - 1, i + 1) if 0 <= j < len(spans)]
        kin = [j for j in beside if _kind(spans[j][0]) == _kind(label)]
        takers = kin or (beside if len(beside) == 2 else [])
        if length >= shortest or not takers:
            i += 1
            continue
        to = max(takers, key=lambda j: spans[j][1])
        spans[i] = (spans[to][0], length)
        around = slice(max(i - 1, 0), i + 2)
        spans[around] = _merged(spans[around])
        i = max(i - 2, 0)
    return np.repeat([name for name, _ in spans], [count for _, count in spans])


def _lengths(labels: np.ndarray) -> list[tuple[str, int]]:
    """(label, length) of each span."""
    cuts = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist(), len(labels)]
    return [(str(labels[a]), b - a) for a, b in itertools.pairwise(cuts)]


def _merged(spans: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Neighbours of one label made one."""
    groups = itertools.groupby(spans, key=lambda span: span[0])
    return [(label, sum(length for _, length in group)) for label, group in groups]


def _kind(label: str) -> str:
    return label.rsplit("_", 1)[-1]  # accelerate, decelerate, left, right, ...


def spans_of(axis: str, t_us: np.ndarray, labels: np.ndarray) -> tuple[Span, ...]:
    """Words per frame (T,) as spans; the last one ends a step after the last frame."""
    cuts = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist(), len(labels)]
    ends = np.append(t_us, t_us[-1] + STEP_US)
    return tuple(Span(axis, str(labels[a]), int(t_us[a]), int(ends[b])) for a, b in itertools.pairwise(cuts))
