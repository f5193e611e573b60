"""A log whose vehicles mind the ego: each keeps to its own logged path, and brakes where the log would run it into us.

    a = min( a_log + 1.0 (v_log - v) + 0.3 (s_log - s),  IDM towards whoever is ahead on its path )

A vehicle is replayed exactly until the IDM asks for clearly less than the log does; from then on it is driven by the
formula and tries to catch up with the log. People, things and whatever hardly moves are replayed. The IDM is the one
of `bounds.follow`. Reads recordings. Knows nothing of the ego's driver.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from causaldrive.clips.geometry import Array, arc_lengths, project_on_polyline
from causaldrive.clips.types import AgentTracks, Recording
from causaldrive.ground.words import STEP_S
from causaldrive.worlds import bounds
from causaldrive.worlds.log_traffic import LogTraffic, joined
from causaldrive.worlds.sight import VEHICLES
from causaldrive.worlds.state import AgentArrays, EgoState

_LEAST_WAY_M = 3.0  # who moves less than this over the whole log is replayed
_DISTURBED_MPS2 = 1.5  # by how much the IDM must ask for less than the log
_HARDEST_MPS2, _KEEN_MPS2 = -8.0, 2.0
_COMFORT_MPS2 = 4.0
_SIDE_M = 0.3
_REACH_M = 60.0


@dataclass(frozen=True)
class _LoggedWay:
    """One vehicle's log: (K,) times and, along its path, arcs, speeds and unwrapped headings; (K, 2) places."""

    t_us: Array
    xy_m: Array
    arc_m: Array
    speed_mps: Array
    yaw_rad: Array
    row: int  # of the tracks, for what does not change

    def at(self, t_us: float) -> tuple[float, float, float]:
        """Arc, speed and acceleration that the log has at a time; standing at its ends outside its span."""
        arc, speed = (float(np.interp(t_us, self.t_us, values)) for values in (self.arc_m, self.speed_mps))
        soon = float(np.interp(t_us + STEP_S * 1e6, self.t_us, self.speed_mps))
        over = t_us > self.t_us[-1]
        return arc, 0.0 if over else speed, 0.0 if over else (soon - speed) / STEP_S


@dataclass(frozen=True)
class _Driven:
    """A vehicle that left its log: where it is on its path."""

    arc_m: float
    speed_mps: float
    acceleration_mps2: float


class ReactiveLogTraffic(LogTraffic):
    """`LogTraffic` whose vehicles brake for the ego, and for one another once one of them is late."""

    def __init__(self, recording: Recording, t_us: int):
        super().__init__(recording, t_us)
        self._tracks = recording.agents
        self._ways = _ways(recording.agents)
        self._driven: dict[str, _Driven] = {}

    def snapshot(self) -> Any:
        return super().snapshot(), dict(self._driven)

    def restore(self, saved: Any) -> None:
        super().restore(saved[0])
        self._driven = dict(saved[1])

    def step(self, ego: EgoState) -> None:
        """Everybody decides by where all were at the start of the step."""
        t_us = self._moment.t_us
        away = self._moment.removed | set(self._moment.frozen)
        there = set(LogTraffic.agents(self).ids)
        boxes = [_ego_box(ego), *(self._box(name, d) for name, d in self._driven.items() if name not in away)]
        moved: dict[str, _Driven] = {}
        for name, way in self._ways.items():
            if name in away or (name not in there and name not in self._driven):
                continue
            driven = self._step_one(way, self._driven.get(name), t_us, [b for b in boxes if b.name != name])
            if driven is not None:
                moved[name] = driven
        super().step(ego)
        over = self._moment.t_us
        self._driven = {n: d for n, d in moved.items() if not self._gone(self._ways[n], d, over)}

    def _step_one(self, way: _LoggedWay, driven: _Driven | None, t_us: int, boxes: list[_Box]) -> _Driven | None:
        arc, speed, wanted = way.at(t_us)
        if driven is not None:
            wanted += 1.0 * (speed - driven.speed_mps) + 0.3 * (arc - driven.arc_m)
            arc, speed = driven.arc_m, driven.speed_mps
        wanted = min(max(wanted, _HARDEST_MPS2), _KEEN_MPS2)
        length, width = self._size(way)[:2]
        asked = min((_idm(way, arc, speed, wanted, length, width, box) for box in boxes), default=wanted)
        if driven is None and asked > min(wanted, 0.0) - _DISTURBED_MPS2:
            return None
        after = max(speed + max(min(asked, wanted), _HARDEST_MPS2) * STEP_S, 0.0)
        return _Driven(arc + (speed + after) / 2 * STEP_S, after, (after - speed) / STEP_S)

    def _gone(self, way: _LoggedWay, driven: _Driven, t_us: int) -> bool:
        """At the end of its logged path when the log has no more of it."""
        return t_us > way.t_us[-1] and driven.arc_m > way.arc_m[-1] - 2.0

    def agents(self) -> AgentArrays:
        logged = super().agents()
        late = [n for n in self._driven if n not in self._moment.removed and n not in self._moment.frozen]
        if not late:
            return logged
        kept = logged.keep([name not in late for name in logged.ids])
        return joined([kept, *(self._arrays(name, self._driven[name]) for name in late)])

    def _arrays(self, name: str, driven: _Driven) -> AgentArrays:
        tracks, way = self._tracks, self._ways[name]
        assert tracks is not None
        x, y, yaw = _pose(way, driven.arc_m)
        brakes = np.array([driven.acceleration_mps2 < -0.6 or driven.speed_mps < 0.1])
        return AgentArrays(
            [name], [str(tracks.category[way.row])], np.array([[x, y]]), np.array([yaw]), np.array([driven.speed_mps]),
            tracks.size_m[way.row][None], brakes, np.zeros(1, np.int8),
        )  # fmt: skip

    def _size(self, way: _LoggedWay) -> Array:
        assert self._tracks is not None
        return self._tracks.size_m[way.row]

    def _box(self, name: str, driven: _Driven) -> _Box:
        way = self._ways[name]
        x, y, yaw = _pose(way, driven.arc_m)
        length, width = self._size(way)[:2]
        return _Box(name, x, y, yaw, driven.speed_mps, float(length), float(width))


@dataclass(frozen=True)
class _Box:
    name: str
    x_m: float
    y_m: float
    yaw_rad: float
    speed_mps: float
    length_m: float
    width_m: float


def _ego_box(ego: EgoState) -> _Box:
    x, y = ego.centre_xy_in_local_m.tolist()
    return _Box("", x, y, ego.yaw_rad, ego.speed_mps, ego.size_m[0], ego.size_m[1])


def _idm(
    way: _LoggedWay, arc_m: float, speed_mps: float, wanted_mps2: float, length_m: float, width_m: float, box: _Box
) -> float:
    """What the IDM asks for because of one box; what is wanted where the box is not ahead on the path."""
    at, offset = (float(v) for v in project_on_polyline(np.array([box.x_m, box.y_m]), way.xy_m))
    if not arc_m < at < arc_m + _REACH_M or abs(offset) > (width_m + box.width_m) / 2 + _SIDE_M:
        return wanted_mps2
    if at > way.arc_m[-1]:
        return wanted_mps2  # beyond the logged path nobody knows where it goes
    turned = box.yaw_rad - _pose(way, at)[2]
    gap = at - arc_m - (length_m + box.length_m) / 2
    return bounds.follow(speed_mps, max(box.speed_mps * math.cos(turned), 0.0), gap, wanted_mps2, _COMFORT_MPS2)


def _pose(way: _LoggedWay, arc_m: float) -> tuple[float, float, float]:
    x, y, yaw = (float(np.interp(arc_m, way.arc_m, v)) for v in (way.xy_m[:, 0], way.xy_m[:, 1], way.yaw_rad))
    return x, y, yaw


def _ways(tracks: AgentTracks | None) -> dict[str, _LoggedWay]:
    """Paths of the vehicles and cyclists that really go somewhere, forwards."""
    found: dict[str, _LoggedWay] = {}
    for name in [] if tracks is None else np.unique(tracks.agent_id):
        assert tracks is not None
        rows = np.flatnonzero(tracks.agent_id == name)
        xy = tracks.xyz_in_local_m[rows, :2]
        if tracks.category[rows[0]] not in (*VEHICLES, "cyclist") or np.linalg.norm(xy[-1] - xy[0]) < _LEAST_WAY_M:
            continue
        if tracks.speed_mps[rows].min() < -0.5:
            continue
        ahead = np.concatenate([[True], np.diff(np.maximum.accumulate(arc_lengths(xy))) > 1e-3])
        path = xy[ahead]
        if len(path) < 2:
            continue
        arcs = np.interp(tracks.t_us[rows], tracks.t_us[rows][ahead], arc_lengths(path))
        yaw = np.unwrap(tracks.yaw_rad[rows])
        speed = np.maximum(tracks.speed_mps[rows], 0.0)
        # arcs must rise for interpolation by arc: standing samples share one
        rising = np.concatenate([[True], np.diff(arcs) > 1e-6])
        way = _LoggedWay(tracks.t_us[rows].astype(float), xy, arcs, speed, yaw, int(rows[0]))
        found[str(name)] = way if rising.all() else replace(way, arc_m=arcs + 1e-9 * np.arange(len(arcs)))
    return found
