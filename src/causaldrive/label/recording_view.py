"""What teachers and validators see of one recording: motion at 10 Hz, its meta actions, and, where recorded, the world.

Everything derived is computed once per recording. Reads a `Recording`. Knows nothing of decisions or files.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from causaldrive.clips.geometry import arc_lengths, project_on_polyline, to_frame, wrap_angle
from causaldrive.clips.resample import ego_at_10hz
from causaldrive.clips.samples import usable_range
from causaldrive.clips.types import EgoMotion, Recording
from causaldrive.ground.words import FUTURE_STEPS, STEP_US, STOP_WAYS
from causaldrive.label.consistency import PlannedMotion, motion_of_recording
from causaldrive.label.evidence import HISTORY_US, Evidence
from causaldrive.label.lane_actions import LANE_PROFILES, detect_lane
from causaldrive.label.meta_actions import MetaActions, describe, detect, profile_of
from causaldrive.label.road_ahead import demands_of, turns_at
from causaldrive.worlds.expert_turns import joins_at
from causaldrive.worlds.replay import context_of, states_of
from causaldrive.worlds.route import route_of
from causaldrive.worlds.state import SceneContext, WorldState

PRIVILEGED_SOURCE = "town"  # driven by the expert itself: its explanation is the truth


@dataclass(frozen=True)
class RecordingView:
    """One recording and what follows from it."""

    recording: Recording
    ego: EgoMotion  # 10 Hz
    meta: MetaActions
    usable_range_us: tuple[int, int]  # t0 with history and future
    context: SceneContext
    states: tuple[WorldState, ...]  # one per frame of `ego`
    profile: str = "causaldrive"  # of the meta actions

    def history_states(self, t0_us: int) -> tuple[WorldState, ...]:
        """The world in the 2 s up to t0, oldest first; nothing later."""
        return tuple(state for state in self.states if t0_us - HISTORY_US <= state.t_us <= t0_us)

    def motion_from(self, t0_us: int) -> PlannedMotion:
        """What was driven from t0 on."""
        return replace(motion_of_recording(self.recording, t0_us), joins=self._joins(self.history_states(t0_us))[0])

    def meta_words(self, t0_us: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Meta actions of the 2 s up to t0, and of the 6.4 s after."""
        split, end = t0_us + STEP_US, t0_us + (FUTURE_STEPS + 1) * STEP_US
        return describe(self.meta, t0_us - HISTORY_US, split), describe(self.meta, split, end)

    def lane_words(self, t0_us: int) -> tuple[str, ...]:
        """Lane-level words of the 6.4 s after t0, repeats left out; none where there is no map."""
        split, end = t0_us + STEP_US, t0_us + (FUTURE_STEPS + 1) * STEP_US
        inside = (self.ego.t_us >= split) & (self.ego.t_us < end)
        return () if self._lane is None else tuple(word for word, _ in itertools.groupby(self._lane[inside].tolist()))

    @cached_property
    def _lane(self) -> np.ndarray | None:
        road = self.recording.road
        return detect_lane(self.ego, road, LANE_PROFILES[self.profile]) if road else None

    def evidence(self, t0_us: int) -> Evidence:
        """What validators may hold against a label at t0."""
        history = self.history_states(t0_us)
        recording = self.recording
        known = recording.agents is not None or recording.lights is not None
        ids = frozenset(name for state in history for name in (*state.agents.ids, *state.lights.ids))
        distances = _distances(history[-1]) if history else {}
        spans_us = recording.meta.get("pushed_us", ())
        pushed_s = tuple(((begin - t0_us) / 1e6, (end - t0_us) / 1e6) for begin, end in spans_us)
        category = {name: kind for s in history for name, kind in zip(s.agents.ids, s.agents.category, strict=True)}
        motion = self.motion_from(t0_us)
        routed = bool(history) and len(self.context.route_xy_in_local_m) > 1
        turns, turning = self._turns(history[-1]) if routed else (None, None)
        return Evidence(
            motion,
            ids if known else None,
            distances,
            pushed_s,
            category,
            _light_states(history),
            _aside(history[-1], motion.xy_in_rig_m) if history else {},
            _oncoming(history[-1], self.context) if routed else frozenset(),
            _came_in(history[0], history[-1], self.context) if routed else frozenset(),
            demands_of(self.context, history[-1].ego) if routed else None,
            turns,
            turning,
            self._joins(history)[1],
            bool(self.context.road.bumps),
            self._signs(category.values()),
        )

    def _turns(self, now: WorldState) -> tuple[frozenset[str] | None, str | None]:
        """Turns close ahead and the one under way; where the map shows none, only the town has really none."""
        ways = self.context.road.right_of_way.values()
        if any(way.kind == "roundabout" for way in ways):
            return None, None  # entering and leaving one is turning, too, and not known
        soon, under_way = turns_at(self.context, now.ego)
        known = soon or self.recording.source == PRIVILEGED_SOURCE
        return soon if known else None, under_way if ways else None

    def _joins(self, history: Sequence[WorldState]) -> tuple[bool, bool]:
        """A road is joined or left soon; and that is under way."""
        routed = bool(history) and len(self.context.route_xy_in_local_m) > 1
        return joins_at(self.context, history[-1].ego) if routed else (False, False)

    def _signs(self, categories: Collection[str]) -> bool | None:
        """Whether a sign is there; the town annotates all that stand in it, other sources may leave them out."""
        ways = self.context.road.right_of_way.values()
        there = "sign" in categories or any(way.kind in STOP_WAYS for way in ways)
        return True if there else False if self.recording.source == PRIVILEGED_SOURCE else None


def view_of(recording: Recording, profile: str = "causaldrive") -> RecordingView:
    """Raises UserError when the recording is too short for one keyframe or the meta-action profile is not known."""
    limits = usable_range(recording)
    ego = ego_at_10hz(recording.ego)
    return RecordingView(
        recording,
        ego,
        detect(ego, profile_of(profile)),
        limits,
        context_of(recording),
        tuple(states_of(recording, ego.t_us)),
        profile,
    )


def _light_states(history: Sequence[WorldState]) -> dict[str, tuple[str, ...]]:
    states: dict[str, tuple[str, ...]] = {}
    for state in history:
        for name, shown in zip(state.lights.ids, state.lights.state, strict=True):
            states[name] = (*states.get(name, ()), shown)
    return states


def _distances(now: WorldState) -> dict[str, float]:
    """Distance (m) from the rig origin to each agent's box centre and each light's stop line."""
    ids = (*now.agents.ids, *now.lights.ids)
    if not ids:
        return {}
    xy = np.concatenate([now.agents.xy_in_local_m.reshape(-1, 2), now.lights.stop_xy_in_local_m.reshape(-1, 2)])
    gaps = np.linalg.norm(xy - now.ego.xy_in_local_m, axis=1)
    return dict(zip(ids, gaps.tolist(), strict=True))


_MOVES_MPS, _TURNED_RAD = 0.5, 2.0
_CLEAR_M, _INWARD_M = 0.5, 0.5  # beyond the strip that the car sweeps along the way to go; and nearer since


def _oncoming(now: WorldState, context: SceneContext) -> frozenset[str]:
    """Agents that move against the heading of the way to go where they are."""
    agents, route = now.agents, route_of(context)
    if not agents.ids:
        return frozenset()
    arcs, _ = route.project(agents.xy_in_local_m.reshape(-1, 2))
    turned = np.abs(wrap_angle(agents.yaw_rad - route.heading(arcs)))
    against = (turned > _TURNED_RAD) & (agents.speed_mps > _MOVES_MPS)
    return frozenset(name for name, comes in zip(agents.ids, against, strict=True) if comes)


def _came_in(before: WorldState, now: WorldState, context: SceneContext) -> frozenset[str]:
    """Agents that were clear of the car's strip of the way to go at the start of the history and are nearer now."""
    known = [name for name in now.agents.ids if name in before.agents.ids]
    if not known:
        return frozenset()
    route = route_of(context)

    def aside(state: WorldState) -> np.ndarray:
        places = [state.agents.xy_in_local_m[state.agents.ids.index(name)] for name in known]
        return np.abs(route.project(np.array(places))[1])

    widths = np.array([now.agents.size_m[now.agents.ids.index(name), 1] for name in known])
    clear = aside(before) > (widths + now.ego.size_m[1]) / 2 + _CLEAR_M
    came = clear & (aside(now) < aside(before) - _INWARD_M)
    return frozenset(name for name, comes in zip(known, came, strict=True) if comes)


_LEAST_STEP_M, _PAST_END_M = 0.05, 3.0


def _aside(now: WorldState, driven_xy_in_rig_m: np.ndarray) -> dict[str, float]:
    """Offset (m, left positive) of each agent's place at t0 from the way driven (P, 2), of those that lie along it."""
    steps = np.linalg.norm(np.diff(driven_xy_in_rig_m, axis=0), axis=1)
    way = driven_xy_in_rig_m[np.concatenate([[True], steps > _LEAST_STEP_M])]
    if len(way) < 2 or not now.agents.ids:
        return {}
    xy = to_frame(now.agents.xy_in_local_m.reshape(-1, 2), now.ego.xy_in_local_m, now.ego.yaw_rad)
    arcs, offsets = project_on_polyline(xy, way)
    along = (arcs > 0.0) & (arcs < float(arc_lengths(way)[-1]) + _PAST_END_M)
    return {name: float(offset) for name, offset, on in zip(now.agents.ids, offsets, along, strict=True) if on}
