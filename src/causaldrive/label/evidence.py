"""What is known of the scene around a label: what the checks may hold against it.

Types only; `RecordingView.evidence` fills them from a recording's annotations. Knows nothing of checks or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from causaldrive.label.consistency import PlannedMotion
from causaldrive.label.road_ahead import Demand

HISTORY_US = 2_000_000  # evidence must lie in [t0 - 2 s, t0]
NEXT_LANE_M = 1.5  # so far from the middle of the way to go, the lane that it is in is another


@dataclass(frozen=True)
class Evidence:
    """What is known of the scene around a label; empty or None where it is not."""

    motion: PlannedMotion | None = None  # what was really driven from t0 on
    ids: frozenset[str] | None = None  # agents and lights present in the 2 s up to t0
    distance_m: Mapping[str, float] = field(default_factory=dict)  # id -> to the agent, or to the light's stop line
    pushed_s: tuple[tuple[float, float], ...] = ()  # from t0: when the car did not move by its driver's will
    category: Mapping[str, str] = field(default_factory=dict)  # agent id -> of AGENT_CATEGORIES
    light_states: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # light id -> up to t0, oldest first
    aside_m: Mapping[str, float] = field(
        default_factory=dict
    )  # id -> how far left of the way driven after t0 it is at t0
    oncoming: frozenset[str] = frozenset()  # agents that drive towards us along the way to go at t0
    came_in: frozenset[str] = frozenset()  # agents that were beside the way to go 2 s ago and come into it since
    demands: tuple[Demand, ...] | None = None  # of the road at t0; None where no way to go is known
    turns: frozenset[str] | None = None  # sides of the turns at junctions close ahead; None where the map tells none
    turning: str | None = None  # the side of the turn under way, on maps that say who goes first
    joining: bool = False  # it is joining or leaving a road, as such maps tell
    knows_bumps: bool = False  # the map tells bumps
    signs: bool | None = None  # a sign is there, as an object or on the map; None where nobody annotates signs
