"""Plays a `Script`: car following, scripted events, walking, signal stages; deterministic, copied in microseconds.

`TrafficSource` is the seam: the town steps any source through it, so that another simulator can stand beside this one.
Reads the ego's state; writes agents and lights. Its small edits serve `interventions.py`; whatever they change is part
of a snapshot, so that `restore` undoes them. Knows nothing of rendering, routes or the expert.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from causaldrive.ground.words import STEP_S
from causaldrive.worlds.actors import Actor, Script, SignalHead, Trigger
from causaldrive.worlds.paths import Path
from causaldrive.worlds.state import AgentArrays, EgoState, LightArrays
from causaldrive.worlds.unbend import Unbend

_HEADWAY_S, _STANDSTILL_M, _ACCELERATION, _BRAKING = 1.2, 2.5, 1.6, 2.0
_BRAKE_LIGHT_MPS2 = -0.6
WALK_MPS = 1.3


class CannotIntervene(Exception):
    """A world cannot change this: there is no such thing in it, or it has no way to do without. Says which and why."""


class TrafficSource(Protocol):
    """Whoever moves agents and lights: 0.1 s at a time, given where the ego is.

    The edits change the present and everything after it, never the past; each raises CannotIntervene for what the
    source does not have or cannot change. A snapshot holds them, so that restoring an earlier one undoes them.
    """

    def step(self, ego: EgoState) -> None: ...

    def agents(self) -> AgentArrays: ...

    def lights(self) -> LightArrays: ...

    def snapshot(self) -> Any: ...

    def restore(self, saved: Any) -> None: ...

    def remove_agent(self, agent_id: str) -> None:
        """The agent is gone; the others no longer react to it."""
        ...

    def freeze_agent(self, agent_id: str) -> None:
        """The agent stands where it is from now on."""
        ...

    def walk_on(self, agent_id: str) -> None:
        """Someone who stands goes on along their way at a walk, whatever they had waited for."""
        ...

    def hold_light(self, light_id: str, state: str) -> None:
        """The head's whole signal group shows `state` from now on; green or yellow hold the conflicting groups red."""
        ...

    def straighten(self, unbend: Unbend) -> None:
        """Every place and way is moved by `unbend`; nobody's arc, gap or order along the road changes."""
        ...


@dataclass(frozen=True, slots=True)
class _Mover:
    """One actor's changing part."""

    arc_m: float
    offset_m: float
    speed_mps: float
    wish_mps: float
    acceleration_mps2: float = 0.0
    braking_mps2: float = _BRAKING
    events_done: int = 0
    last_event_s: float = 0.0
    shift_from_m: float = 0.0
    shift_to_m: float = 0.0
    shift_start_s: float = -100.0
    shift_s: float = 1.0
    indicator: int = 0
    gone: bool = False  # removed by an intervention
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class _Frame:
    """Everything that changes; immutable, so that a snapshot is a reference."""

    time_s: float
    movers: tuple[_Mover, ...]
    ego_arc_m: float
    stage: int = 0
    stage_start_s: float = 0.0
    held: tuple[tuple[str, str], ...] = ()  # (signal group, state) that an intervention holds


@dataclass(frozen=True, slots=True)
class _Ego:
    """The ego as the traffic sees it: centre on the main line."""

    arc_m: float
    offset_m: float
    speed_mps: float
    centre_xy: tuple[float, float]
    length_m: float
    width_m: float


class ScriptedTraffic:
    """The embedded town's own traffic."""

    def __init__(self, script: Script, ego: EgoState):
        self.script = script
        movers = tuple(
            _Mover(a.arc_m, a.offset_m, a.speed_mps, a.speed_mps if a.wish_mps is None else a.wish_mps)
            for a in script.actors
        )
        x, y = ego.centre_xy_in_local_m.tolist()
        near = float(np.argmin(np.sum((script.lines["forward"].xy_m - [x, y]) ** 2, axis=1)))
        self._frame = _Frame(0.0, movers, near * script.lines["forward"].spacing_m)
        self._read_script()

    def _read_script(self) -> None:
        """What does not move, as the arrays that are handed out."""
        script = self.script
        self._ids = [a.agent_id for a in script.actors]
        self._categories = [a.category for a in script.actors]
        self._sizes = np.array([a.size_m for a in script.actors], float).reshape(-1, 3)
        self._stop_xy = np.array([h.stop_xy_m for h in script.heads], float).reshape(-1, 2)
        self._head_xyz = np.array([h.head_xyz_m for h in script.heads], float).reshape(-1, 3)
        self._head_yaw = np.array([h.yaw_rad for h in script.heads], float)

    def snapshot(self) -> tuple[_Frame, Script]:
        return self._frame, self.script

    def restore(self, saved: tuple[_Frame, Script]) -> None:
        self._frame, script = saved
        if script is not self.script:
            self.script = script
            self._read_script()

    def remove_agent(self, agent_id: str) -> None:
        self._change(agent_id, gone=True)

    def freeze_agent(self, agent_id: str) -> None:
        self._change(agent_id, frozen=True, speed_mps=0.0, acceleration_mps2=0.0, indicator=0)

    def walk_on(self, agent_id: str) -> None:
        actor = next((a for a in self.script.actors if a.agent_id == agent_id and a.category == "pedestrian"), None)
        if actor is None:
            raise CannotIntervene(f"there is no pedestrian {agent_id!r} in this scene")
        self._change(agent_id, speed_mps=WALK_MPS, wish_mps=WALK_MPS, indicator=0, events_done=len(actor.events))

    def _change(self, agent_id: str, **changes: Any) -> None:
        movers = list(self._frame.movers)
        index = self._ids.index(agent_id) if agent_id in self._ids else None
        if index is None or movers[index].gone:
            raise CannotIntervene(f"there is no agent {agent_id!r} in this scene")
        movers[index] = replace(movers[index], **changes)
        self._frame = replace(self._frame, movers=tuple(movers))

    def hold_light(self, light_id: str, state: str) -> None:
        group = next((head.group for head in self.script.heads if head.light_id == light_id), None)
        if group is None:
            raise CannotIntervene(f"there is no light {light_id!r} in this scene")
        held = dict(self._frame.held) | {group: state}
        if state in ("green", "yellow"):  # never green for both ways
            held |= {head.group: "red" for head in self.script.heads if head.group != group}
        self._frame = replace(self._frame, held=tuple(held.items()))

    def straighten(self, unbend: Unbend) -> None:
        self._frame, self.script = _straightened(self._frame, self.script, unbend)
        self._read_script()

    def step(self, ego: EgoState) -> None:
        """Advance every actor by 0.1 s, seeing the ego where it is at the start of the step."""
        frame = self._frame
        seen = self._see(ego, frame)
        stage, started = self._signal_stage(frame, seen)
        states = self._states(stage)
        movers = tuple(self._move(i, frame, seen, states) for i in range(len(frame.movers)))
        self._frame = _Frame(round(frame.time_s + STEP_S, 6), movers, seen.arc_m, stage, started, frame.held)

    def agents(self) -> AgentArrays:
        everyone = self._everyone()
        there = [not mover.gone for mover in self._frame.movers]
        return everyone if all(there) else everyone.keep(there)

    def _everyone(self) -> AgentArrays:
        frame, lines = self._frame, self.script.lines
        poses, speeds = [], []
        for actor, mover in zip(self.script.actors, frame.movers, strict=True):
            x, y, yaw = lines[actor.line].pose(mover.arc_m, mover.offset_m)
            sideways = _shift(mover, frame.time_s)[1]
            poses.append((x, y, yaw + actor.turned_rad + math.atan2(sideways, max(mover.speed_mps, 1.0))))
            speeds.append(math.hypot(mover.speed_mps, sideways))
        array = np.array(poses, float).reshape(-1, 3)
        return AgentArrays(
            list(self._ids), list(self._categories), array[:, :2], array[:, 2], np.array(speeds, float), self._sizes,
            np.array([_brake_light(a, m) for a, m in zip(self.script.actors, frame.movers, strict=True)], bool),
            np.array([m.indicator for m in frame.movers], np.int8),
        )  # fmt: skip

    def lights(self) -> LightArrays:
        states = self._states(self._frame.stage)
        heads = self.script.heads
        return LightArrays(
            [h.light_id for h in heads], [h.lane_id for h in heads], [states[h.group] for h in heads],
            self._stop_xy, self._head_xyz, self._head_yaw,
        )  # fmt: skip

    def _see(self, ego: EgoState, frame: _Frame) -> _Ego:
        half = ego.rear_axle_to_centre_m
        x = float(ego.xy_in_local_m[0]) + half * math.cos(ego.yaw_rad)
        y = float(ego.xy_in_local_m[1]) + half * math.sin(ego.yaw_rad)
        arc, offset = self.script.lines["forward"].project(x, y, frame.ego_arc_m)
        return _Ego(arc, offset, ego.speed_mps, (x, y), ego.size_m[0], ego.size_m[1])

    def _states(self, stage: int) -> dict[str, str]:
        if not self.script.program:
            return {}
        shown = {"main": self.script.program[stage].main, "cross": self.script.program[stage].cross}
        return shown | dict(self._frame.held)

    def _signal_stage(self, frame: _Frame, ego: _Ego) -> tuple[int, float]:
        program = self.script.program
        until = program[frame.stage].until if program else None
        if until is None or not _fires(until, frame.time_s, frame.stage_start_s, ego, None):
            return frame.stage, frame.stage_start_s
        return frame.stage + 1, frame.time_s

    def _move(self, index: int, frame: _Frame, ego: _Ego, states: dict[str, str]) -> _Mover:
        actor, mover = self.script.actors[index], frame.movers[index]
        if mover.gone or mover.frozen:
            return mover
        mover = self._start_event(actor, mover, frame.time_s, ego)
        if mover.speed_mps == 0.0 and mover.wish_mps == 0.0:
            return mover if mover.acceleration_mps2 == 0.0 else replace(mover, acceleration_mps2=0.0)
        if actor.category == "pedestrian":
            wanted = _walk(mover, self._gap_to_ego(actor, mover, ego, side_m=0.6))
        else:
            wanted = self._follow(index, frame, ego, states)
        speed = max(mover.speed_mps + wanted * STEP_S, 0.0)
        return replace(
            mover, arc_m=mover.arc_m + (mover.speed_mps + speed) / 2 * STEP_S, speed_mps=speed,
            acceleration_mps2=(speed - mover.speed_mps) / STEP_S, offset_m=_shift(mover, frame.time_s + STEP_S)[0],
        )  # fmt: skip

    def _start_event(self, actor: Actor, mover: _Mover, time_s: float, ego: _Ego) -> _Mover:
        if mover.events_done == len(actor.events):
            return mover
        event = actor.events[mover.events_done]
        gap = mover.arc_m - actor.size_m[0] / 2 - ego.arc_m - ego.length_m / 2
        if not _fires(event.when, time_s, mover.last_event_s, ego, gap):
            return mover
        mover = replace(mover, events_done=mover.events_done + 1, last_event_s=time_s)
        if event.speed_mps is not None:
            mover = replace(mover, wish_mps=event.speed_mps, braking_mps2=event.deceleration_mps2)
        if event.offset_m is not None:
            mover = replace(mover, shift_from_m=mover.offset_m, shift_to_m=event.offset_m,
                            shift_start_s=time_s, shift_s=event.shift_s)  # fmt: skip
        return mover if event.indicator is None else replace(mover, indicator=event.indicator)

    def _follow(self, index: int, frame: _Frame, ego: _Ego, states: dict[str, str]) -> float:
        """min over obstacles of IDM: a (1 - (v/v0)^4 - (s*/s)^2), s* = s0 + v T + v dv / (2 sqrt(a b))."""
        mover = frame.movers[index]
        v, wish = mover.speed_mps, mover.wish_mps
        free = min(_ACCELERATION, (wish - v) * 1.2) if v <= wish else max(-mover.braking_mps2, (wish - v) * 2.0)
        wanted = free
        for gap, speed in self._ahead(index, frame, ego, states):
            star = _STANDSTILL_M + max(v * _HEADWAY_S + v * (v - speed) / (2 * math.sqrt(_ACCELERATION * _BRAKING)), 0)
            wanted = min(wanted, free - _ACCELERATION * (star / max(gap, 0.1)) ** 2)
        if wanted < 0.2 and v < 0.05 and wanted < free:
            return -v / STEP_S  # stand still rather than creep
        return max(wanted, -8.0)

    def _ahead(self, index: int, frame: _Frame, ego: _Ego, states: dict[str, str]) -> list[tuple[float, float]]:
        """(free gap in metres, speed) of each obstacle ahead on the actor's line: cars, the ego, a red stop line."""
        actor, mover = self.script.actors[index], frame.movers[index]
        nose = mover.arc_m + actor.size_m[0] / 2
        found = []
        for j, (other, theirs) in enumerate(zip(self.script.actors, frame.movers, strict=True)):
            if j == index or theirs.gone or other.line != actor.line or theirs.arc_m <= mover.arc_m:
                continue
            if abs(theirs.offset_m - mover.offset_m) < (other.size_m[1] + actor.size_m[1]) / 2 + 0.2:
                found.append((theirs.arc_m - other.size_m[0] / 2 - nose, theirs.speed_mps))
        gap = self._gap_to_ego(actor, mover, ego, side_m=0.2)
        if gap is not None:
            found.append((gap, ego.speed_mps if actor.line == "forward" else 0.0))
        for line, group, arc in self.script.stop_arcs_m:
            room = arc - nose
            if line == actor.line and room > -1.0 and _stops_for(states.get(group), mover.speed_mps, room):
                found.append((room + 1.5, 0.0))
        return found

    def _gap_to_ego(self, actor: Actor, mover: _Mover, ego: _Ego, side_m: float) -> float | None:
        """Free distance to the ego when it stands in the actor's way, else None."""
        if actor.line == "forward":
            arc, offset, length, width = ego.arc_m, ego.offset_m, ego.length_m, ego.width_m
        elif actor.line == "backward":
            arc, offset = self.script.lines["forward"].length_m - ego.arc_m, -ego.offset_m
            length, width = ego.length_m, ego.width_m
        else:  # a crossing line: the ego stands across it
            arc, offset = self.script.lines[actor.line].project(*ego.centre_xy, mover.arc_m)
            length, width = ego.width_m, ego.length_m
        if arc <= mover.arc_m or abs(offset - mover.offset_m) > (width + actor.size_m[1]) / 2 + side_m:
            return None
        return arc - length / 2 - mover.arc_m - actor.size_m[0] / 2


def _straightened(frame: _Frame, script: Script, unbend: Unbend) -> tuple[_Frame, Script]:
    """The same traffic on straightened lines: whoever was at a place is at the moved place, at its arc there."""
    lines = {name: Path.through(unbend.points(line.xy_m)) for name, line in script.lines.items()}

    def arc(line: str, arc_m: float) -> float:
        x, y, _ = script.lines[line].pose(arc_m)
        (moved,) = unbend.points(np.array([[x, y]]))
        return lines[line].project(float(moved[0]), float(moved[1]), arc_m)[0]

    def trigger(when: Trigger) -> Trigger:
        return replace(when, arc_m=arc("forward", when.arc_m)) if when.kind == "arrival" else when

    movers = tuple(replace(m, arc_m=arc(a.line, m.arc_m)) for a, m in zip(script.actors, frame.movers, strict=True))
    actors = tuple(replace(a, events=tuple(replace(e, when=trigger(e.when)) for e in a.events)) for a in script.actors)
    program = tuple(s if s.until is None else replace(s, until=trigger(s.until)) for s in script.program)
    stops = tuple((line, group, arc(line, at)) for line, group, at in script.stop_arcs_m)
    moved = Script(lines, actors, tuple(_moved_head(h, unbend) for h in script.heads), program, stops)
    return replace(frame, movers=movers, ego_arc_m=arc("forward", frame.ego_arc_m)), moved


def _moved_head(head: SignalHead, unbend: Unbend) -> SignalHead:
    (stop, place) = unbend.points(np.array([head.stop_xy_m, head.head_xyz_m[:2]])).tolist()
    yaw = float(unbend.yaws(np.array([head.stop_xy_m]), np.array([head.yaw_rad]))[0])
    return replace(head, stop_xy_m=tuple(stop), head_xyz_m=(*place, head.head_xyz_m[2]), yaw_rad=yaw)


def _fires(trigger: Trigger, time_s: float, since_s: float, ego: _Ego, gap_m: float | None) -> bool:
    if trigger.kind == "clock":
        return time_s >= trigger.value - 1e-6
    if trigger.kind == "elapsed":
        return time_s - since_s >= trigger.value - 1e-6
    if trigger.kind == "gap":
        return gap_m is not None and gap_m <= trigger.value
    assert trigger.kind == "arrival", trigger.kind
    return trigger.arc_m - ego.arc_m <= trigger.value * max(ego.speed_mps, 2.0)


def _stops_for(state: str | None, speed_mps: float, room_m: float) -> bool:
    """At red always, at yellow where 3 m/s2 are enough: v^2 < 2 b room."""
    return state == "red" or (state == "yellow" and speed_mps**2 < 6.0 * room_m)


def _walk(mover: _Mover, gap_to_ego_m: float | None) -> float:
    """Acceleration of a walker: towards the wish, but nobody steps into a car that is right there."""
    wish = 0.0 if gap_to_ego_m is not None and gap_to_ego_m < 0.9 else mover.wish_mps
    return min(max((wish - mover.speed_mps) / STEP_S, -6.0), 3.0)


def _shift(mover: _Mover, time_s: float) -> tuple[float, float]:
    """Offset and sideways speed: smooth step 3u^2 - 2u^3 from the old place to the new."""
    u = (time_s - mover.shift_start_s) / mover.shift_s
    if u >= 1.0 or mover.shift_start_s < 0:
        return (mover.shift_to_m if mover.shift_start_s >= 0 else mover.offset_m), 0.0
    way = mover.shift_to_m - mover.shift_from_m
    return mover.shift_from_m + way * u * u * (3 - 2 * u), way * 6 * u * (1 - u) / mover.shift_s


def _brake_light(actor: Actor, mover: _Mover) -> bool:
    """Lit while slowing, and while a driver waits; a parked car (no wish, never told to stop) is dark."""
    if actor.category == "pedestrian":
        return False
    waiting = mover.speed_mps < 0.1 and (mover.wish_mps > 0 or mover.events_done > 0)
    return mover.acceleration_mps2 < _BRAKE_LIGHT_MPS2 or waiting
