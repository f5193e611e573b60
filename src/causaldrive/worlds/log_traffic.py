"""Traffic as a log tells it: agents and lights by time, interpolated between annotations; and its edits.

`LogTraffic` is a `TrafficSource` over a recording. Reads recordings' tracks. Knows nothing of the ego's driver, of
rendering or of scores.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from causaldrive.clips.geometry import wrap_angle
from causaldrive.clips.types import AgentTracks, LightTracks, Recording
from causaldrive.ground.words import STEP_US
from causaldrive.worlds.state import AgentArrays, EgoState, LightArrays
from causaldrive.worlds.traffic import CannotIntervene
from causaldrive.worlds.unbend import Unbend

MAX_AGENT_GAP_US = 250_000  # an agent not annotated for longer than this is not there


class AgentTimeline:
    """Agents by time: rows grouped by annotated time, interpolated between neighbouring annotations."""

    def __init__(self, tracks: AgentTracks | None):
        self._tracks = tracks
        if tracks is None or not len(tracks.t_us):
            self._times = np.zeros(0, np.int64)
            return
        self._times, starts = np.unique(tracks.t_us, return_index=True)
        stops = np.append(starts[1:], len(tracks.t_us))
        self._rows = [
            {tracks.agent_id[row]: row for row in range(start, stop)} for start, stop in zip(starts, stops, strict=True)
        ]

    def at(self, t_us: int) -> AgentArrays:
        if self._tracks is None or not len(self._times):
            return AgentArrays()
        after = int(np.searchsorted(self._times, t_us))
        near = [i for i in (after - 1, after) if 0 <= i < len(self._times)]
        if after < len(self._times) and self._times[after] == t_us:
            near = [after]
        near = [i for i in near if abs(int(self._times[i]) - t_us) <= MAX_AGENT_GAP_US]
        if not near:
            return AgentArrays()
        if len(near) == 1:
            rows = np.array(list(self._rows[near[0]].values()))
            return self._arrays(rows, rows, 0.0)
        before, behind = self._rows[near[0]], self._rows[near[1]]
        both = [agent for agent in before if agent in behind]
        span = int(self._times[near[1]] - self._times[near[0]])
        share = (t_us - int(self._times[near[0]])) / span
        return self._arrays(np.array([before[a] for a in both], int), np.array([behind[a] for a in both], int), share)

    def _arrays(self, rows: np.ndarray, next_rows: np.ndarray, share: float) -> AgentArrays:
        tracks = self._tracks
        assert tracks is not None
        nearer = rows if share < 0.5 else next_rows

        def linear(values: np.ndarray) -> np.ndarray:
            return values[rows] * (1 - share) + values[next_rows] * share

        turn = wrap_angle(tracks.yaw_rad[next_rows] - tracks.yaw_rad[rows])
        return AgentArrays(
            ids=tracks.agent_id[rows].tolist(),
            category=tracks.category[rows].tolist(),
            xy_in_local_m=linear(tracks.xyz_in_local_m)[:, :2],
            yaw_rad=wrap_angle(tracks.yaw_rad[rows] + share * turn),
            speed_mps=linear(tracks.speed_mps),
            size_m=tracks.size_m[nearer],
            brake_light=tracks.brake_light[nearer],
            indicator=tracks.indicator[nearer],
        )


class LightTimeline:
    """Signal heads by time: each shows its last logged state; a head not logged yet is not there."""

    def __init__(self, tracks: LightTracks | None):
        self._tracks = tracks
        self._rows: dict[str, np.ndarray] = {}
        if tracks is not None:
            self._rows = {str(head): np.flatnonzero(tracks.light_id == head) for head in np.unique(tracks.light_id)}

    def at(self, t_us: int) -> LightArrays:
        tracks = self._tracks
        if tracks is None:
            return LightArrays()
        seen = [(rows, int(np.searchsorted(tracks.t_us[rows], t_us, side="right"))) for rows in self._rows.values()]
        last = np.array([rows[count - 1] for rows, count in seen if count], int)
        return LightArrays(
            ids=tracks.light_id[last].tolist(),
            lane_ids=tracks.lane_id[last].tolist(),
            state=tracks.state[last].tolist(),
            stop_xy_in_local_m=tracks.stop_xy_in_local_m[last],
            head_xyz_in_local_m=tracks.head_xyz_in_local_m[last],
            yaw_rad=tracks.yaw_rad[last],
        )


@dataclass(frozen=True)
class _LogMoment:
    """Everything that changes; immutable, so that a snapshot is a reference."""

    t_us: int
    removed: frozenset[str] = frozenset()
    frozen: dict[str, AgentArrays] = field(default_factory=dict)  # id -> the one agent as it stands
    held: dict[str, str] = field(default_factory=dict)  # light id -> state


class LogTraffic:
    """Agents and lights follow the log by time, whatever the ego does. Starts at `t_us`."""

    def __init__(self, recording: Recording, t_us: int):
        self._timeline, self._heads = AgentTimeline(recording.agents), LightTimeline(recording.lights)
        self._moment = _LogMoment(t_us)

    def step(self, ego: EgoState) -> None:
        self._moment = replace(self._moment, t_us=self._moment.t_us + STEP_US)

    def agents(self) -> AgentArrays:
        moment = self._moment
        logged = self._timeline.at(moment.t_us)
        away = moment.removed | set(moment.frozen)
        kept = logged.keep([name not in away for name in logged.ids]) if away else logged
        return joined([kept, *(moment.frozen[name] for name in sorted(moment.frozen))]) if moment.frozen else kept

    def lights(self) -> LightArrays:
        lights, held = self._heads.at(self._moment.t_us), self._moment.held
        return replace(lights, state=[held.get(n, s) for n, s in zip(lights.ids, lights.state, strict=True)])

    def snapshot(self) -> Any:
        return self._moment

    def restore(self, saved: Any) -> None:
        self._moment = saved

    def remove_agent(self, agent_id: str) -> None:
        self._one(agent_id)
        frozen = {name: agent for name, agent in self._moment.frozen.items() if name != agent_id}
        self._moment = replace(self._moment, removed=self._moment.removed | {agent_id}, frozen=frozen)

    def freeze_agent(self, agent_id: str) -> None:
        standing = replace(self._one(agent_id), speed_mps=np.zeros(1), indicator=np.zeros(1, np.int8))
        self._moment = replace(self._moment, frozen=self._moment.frozen | {agent_id: standing})

    def walk_on(self, agent_id: str) -> None:
        raise CannotIntervene(f"a log does not say where {agent_id!r} would have gone")

    def _one(self, agent_id: str) -> AgentArrays:
        now = self.agents()
        if agent_id not in now.ids:
            raise CannotIntervene(f"there is no agent {agent_id!r} in the log at {self._moment.t_us} us")
        return now.keep([name == agent_id for name in now.ids])

    def hold_light(self, light_id: str, state: str) -> None:
        """A log does not say which heads belong together: those over the same stop line do."""
        lights = self.lights()
        if light_id not in lights.ids:
            raise CannotIntervene(f"there is no light {light_id!r} in the log at {self._moment.t_us} us")
        group = heads_over_line(lights, light_id)
        self._moment = replace(self._moment, held=self._moment.held | dict.fromkeys(group, state))

    def straighten(self, unbend: Unbend) -> None:
        raise CannotIntervene("the road of a log cannot be straightened: its agents drove the road that was there")


def heads_over_line(lights: LightArrays, light_id: str) -> list[str]:
    """The head of that id and all others over the same stop line."""
    away = lights.stop_xy_in_local_m - lights.stop_xy_in_local_m[lights.ids.index(light_id)]
    return [name for name, gap in zip(lights.ids, np.linalg.norm(away, axis=1), strict=True) if gap < 1.0]


def joined(parts: list[AgentArrays]) -> AgentArrays:
    """Several groups of agents as one."""
    ids, category = [i for p in parts for i in p.ids], [c for p in parts for c in p.category]
    names = ("xy_in_local_m", "yaw_rad", "speed_mps", "size_m", "brake_light", "indicator")
    return AgentArrays(ids, category, *(np.concatenate([getattr(p, name) for p in parts]) for name in names))
