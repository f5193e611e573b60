"""Keyframes: the moments at which a decision is labelled.

    t0 = transition of a meta action - 0.5 s

so that the cause is named before the car answers to it: these are reactive. Proactive ones, where a cause is there
before anybody has to react, are handed in (`proactive.py` finds them). Periodic keyframes show the student moments
where nothing changes. What is labelled must also be seen: where a camera is slower than 10 Hz, a moment between its
frames moves back to the newest one that has a frame, so that picture, motion and decision are of one moment. Source:
arXiv 2511.00088, sections 4.1 and 4.3. Knows nothing of files or causes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from causaldrive.clips.store import seen_by
from causaldrive.clips.types import CameraTrack
from causaldrive.ground.words import STEP_US
from causaldrive.label.meta_actions import MetaActions

LEAD_US = 500_000  # from the keyframe to the transition
APART_US = 400_000  # nearer keyframes are one and the same
MOVED_US = 300_000  # the furthest that a keyframe moves to a frame; between frames further apart it stays unseen


@dataclass(frozen=True)
class Keyframe:
    """A moment to label; `change` tells which word gave way to which, or the scenario; empty for a periodic one."""

    t0_us: int
    origin: str  # 'transition' (reactive), 'proactive' or 'periodic'
    change: str = ""


def find_keyframes(
    meta: MetaActions,
    usable_range: tuple[int, int],
    every_s: float | None = None,
    proactive: Sequence[Keyframe] = (),
    cameras: Collection[CameraTrack] = (),
) -> list[Keyframe]:
    """Keyframes on the 10 Hz grid of `meta`, sorted, inside `usable_range` (first and last t0_us, both included).

    `proactive` ones come first: a change within 0.4 s of one is the answer to its cause. Then transitions of either
    axis; of those less than 0.4 s apart the earliest stays. With `every_s` (> 0)
    periodic ones are added where no other lies within 0.4 s. One that a camera of `cameras` has no frame of moves back
    to the newest time of the grid that all have one of.
    """
    first_us, last_us = usable_range
    chosen: list[Keyframe] = []
    proposed = (*proactive, *_transitions(meta), *_periodic(meta, usable_range, every_s or 0.0, cameras))
    for keyframe in proposed:
        free = all(abs(keyframe.t0_us - other.t0_us) > APART_US for other in chosen)
        if first_us <= _seen(keyframe, cameras).t0_us and keyframe.t0_us <= last_us and free:
            chosen.append(keyframe)
    return sorted((_seen(each, cameras) for each in chosen), key=lambda keyframe: keyframe.t0_us)


def _transitions(meta: MetaActions) -> list[Keyframe]:
    found = []
    for before, after in zip(meta.spans, meta.spans[1:], strict=False):
        if before.axis == after.axis:
            t0_us = _snap(meta, after.start_t_us - LEAD_US)
            found.append(Keyframe(t0_us, "transition", f"{before.label} to {after.label}"))
    return sorted(found, key=lambda keyframe: keyframe.t0_us)


def _seen(keyframe: Keyframe, cameras: Collection[CameraTrack]) -> Keyframe:
    """The keyframe, at the newest time at or before it that every camera has a frame of."""
    times = keyframe.t0_us - np.arange(0, MOVED_US + 1, STEP_US)
    seen = seen_by(cameras, times)
    return replace(keyframe, t0_us=int(times[np.argmax(seen)]))  # the first where none is seen


def _periodic(
    meta: MetaActions, usable_range: tuple[int, int], every_s: float, cameras: Collection[CameraTrack]
) -> Iterable[Keyframe]:
    """From the first time in range that is seen, so that none of them moves back out of it."""
    if every_s <= 0:
        return
    first_us = _snap(meta, usable_range[0])
    first_us += STEP_US if first_us < usable_range[0] else 0
    ahead = first_us + np.arange(0, MOVED_US + 1, STEP_US)
    first_us = int(ahead[np.argmax(seen_by(cameras, ahead))])
    every_us = max(round(every_s / STEP_US * 1e6), 1) * STEP_US
    for t0_us in range(first_us, usable_range[1] + 1, every_us):
        yield Keyframe(t0_us, "periodic")


def _snap(meta: MetaActions, t_us: int) -> int:
    origin = int(meta.t_us[0])
    return origin + round((t_us - origin) / STEP_US) * STEP_US
