"""Proactive keyframes: a cause is there before anybody has to react to it.

A curve or a bump ahead, a lane that ends or lies wrong for the route, a thing to be passed, a light that turned green,
a person who waits: the decision precedes any hazard. A range runs from the moment at which the privileged expert, shown
the past alone, first names such a cause to the last one at which it does; its keyframe is its start. Only annotated
recordings have any. Source of the kinds: arXiv 2511.00088, section 3. Knows nothing of files or teachers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from causaldrive.ground.words import STEP_US
from causaldrive.label.keyframes import Keyframe, find_keyframes
from causaldrive.label.recording_view import RecordingView
from causaldrive.worlds.expert import Explanation, explain

SCENARIOS = {  # kind of cause -> scenario
    "sharp_curve": "curvy road",
    "speed_bump": "curvy road",
    "route_lane": "lane-change preparation",
    "lane_ends": "lane-change preparation",
    "stopped_vehicle": "nudge preparation",
    "construction": "nudge preparation",
    "green_light": "passing an intersection",
    "pedestrian_waiting": "no yield to a person",
}
_HARD_MPS2 = -2.0  # who has to brake harder than this reacts
_LEAST_US = 500_000


@dataclass(frozen=True)
class ProactiveRange:
    """One proactive cause, from when it is first named to when it is last named."""

    scenario: str
    start_us: int
    end_us: int


def keyframes_of(view: RecordingView, every_s: float = 0.0, proactive: bool = False) -> list[Keyframe]:
    """The keyframes of one recording; with `proactive` the starts of its proactive ranges are among them."""
    starts = [Keyframe(r.start_us, "proactive", r.scenario) for r in proactive_ranges(view)] if proactive else []
    return find_keyframes(view.meta, view.usable_range_us, every_s, starts, view.recording.cameras.values())


def proactive_ranges(view: RecordingView) -> list[ProactiveRange]:
    """Sorted by start; none for a recording without annotated agents."""
    if view.recording.agents is None:
        return []
    first, last = view.usable_range_us
    times = [int(t) for t in view.ego.t_us if first <= t <= last]
    said = {t: explain(view.history_states(t), view.context) for t in times}
    return ranges_of(said)


def ranges_of(said: Mapping[int, Explanation]) -> list[ProactiveRange]:
    """Ranges in what the expert says by time, 0.1 s apart; a cause that is silent for 0.5 s or more ends its range."""
    open_ones: dict[tuple[str, str | None], list[int]] = {}
    found: list[ProactiveRange] = []
    for t_us in sorted(said):
        for key in _proactive(said[t_us]):
            seen = open_ones.setdefault(key, [t_us, t_us])
            if t_us - seen[1] > _LEAST_US:
                found += _closed(key[0], seen)
                seen[0] = t_us
            seen[1] = t_us
    found += [r for (scenario, _), seen in open_ones.items() for r in _closed(scenario, seen)]
    return sorted(found, key=lambda r: (r.start_us, r.scenario))


def _proactive(said: Explanation) -> list[tuple[str, str | None]]:
    """(scenario, id) of the causes that ask for no hard braking."""
    if said.acceleration_mps2 < _HARD_MPS2:
        return []
    return [(SCENARIOS[c.kind], c.agent_id) for c in said.causes if c.kind in SCENARIOS]


def _closed(scenario: str, seen: Sequence[int]) -> list[ProactiveRange]:
    end_us = seen[1] + STEP_US
    return [ProactiveRange(scenario, seen[0], end_us)] if end_us - seen[0] >= _LEAST_US else []
