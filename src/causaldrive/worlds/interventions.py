"""Acts on a scene: take one thing away, or change it, and leave the rest as it is.

    remove_agent, freeze_agent     someone is not there, or stands still from now on
    hold_light                     a signal shows one state from now on
    delete_sign                    a sign or stop line is gone (without an id: the next stop sign of a map on our way)
    clear_blockage                 a standing thing and the row of standing things it belongs to are gone
    straighten_road                the way ahead has no curve
    keep_lane                      the way to go lies in the lane that the car is in, which does not end
    walk_on                        a person who stands walks on
    flatten_bump                   the next speed bump on our way is gone

Works on every `DrivenWorld`: the town with any `TrafficSource`, and replayed logs. An act also rewrites the kept 2 s of
history, because drivers remember; it is undone by restoring an earlier snapshot. Knows nothing of drivers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causaldrive.clips.geometry import wrap_angle
from causaldrive.ground.errors import unknown_name
from causaldrive.ground.words import STOP_WAYS
from causaldrive.worlds.explanation import Factor
from causaldrive.worlds.route import route_of
from causaldrive.worlds.state import AgentArrays
from causaldrive.worlds.traffic import CannotIntervene
from causaldrive.worlds.world import THINGS, DrivenWorld

__all__ = ["KINDS", "CannotIntervene", "Intervention", "act", "row_of", "without"]

KINDS = (
    "remove_agent", "freeze_agent", "hold_light", "delete_sign", "clear_blockage", "straighten_road", "flatten_bump",
    "keep_lane", "walk_on",
)  # fmt: skip
_STANDS_MPS, _ROW_M = 0.3, 8.0
_ON_WAY_M, _ALONG_RAD, _PASSED_M = 1.3, 0.6, 1.0


@dataclass(frozen=True)
class Intervention:
    """One act. `target` is an agent, light or sign id; `state` is what `hold_light` holds."""

    kind: str  # of KINDS
    target: str | None = None
    state: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_name("intervention", self.kind, KINDS)

    @property
    def in_words(self) -> str:
        return " ".join(part for part in (self.kind.replace("_", " "), self.target, self.state) if part)


def act(world: DrivenWorld, interventions: Sequence[Intervention]) -> None:
    """Carry out all of them, in order. Raises CannotIntervene for what this world cannot do; then restore it."""
    for one in interventions:
        if one.kind == "straighten_road":
            world.straighten_road()
        elif one.kind == "keep_lane":
            world.keep_lane()
        elif one.kind == "flatten_bump":
            world.delete_bump(_next_bump(world))
        elif one.kind == "delete_sign" and one.target is None:
            for name in _next_stop(world):
                world.delete_sign(name)
        elif one.kind == "hold_light":
            world.hold_light(_need(one), one.state or "green")
        elif one.kind == "clear_blockage":
            for name in row_of(world.state.agents, _need(one)):
                world.remove_agent(name)
        else:
            {"remove_agent": world.remove_agent, "freeze_agent": world.freeze_agent, "walk_on": world.walk_on,
             "delete_sign": world.delete_sign}[one.kind](_need(one))  # fmt: skip


def _need(one: Intervention) -> str:
    if one.target is None:
        raise CannotIntervene(f"{one.kind} needs the id of what it is about, and none is known")
    return one.target


def _next_bump(world: DrivenWorld) -> str:
    """The first bump on our way that the rear axle has not passed."""
    route, bumps = route_of(world.context), world.context.road.bumps
    here = float(route.project(world.state.ego.xy_in_local_m)[0])
    ends = {name: float(route.project(np.asarray(ring, float))[0].max()) for name, ring in bumps.items()}
    ahead = [name for name, end_m in ends.items() if end_m > here - _PASSED_M]
    if not ahead:
        raise CannotIntervene("there is no speed bump on the way ahead")
    return min(ahead, key=lambda name: ends[name])


def _next_stop(world: DrivenWorld) -> list[str]:
    """The ways over the junction that begin at the next place on our road where the map wants one to stop."""
    route, ego = route_of(world.context), world.state.ego
    front = float(route.project(ego.xy_in_local_m)[0]) + ego.rear_axle_to_centre_m + ego.size_m[0] / 2
    found = []
    for name, way in world.context.road.right_of_way.items():
        arc, aside = (float(v) for v in route.project(way.stop_xy_m))
        along = abs(float(wrap_angle(route.heading(arc) - way.yaw_rad)))
        if way.kind in STOP_WAYS and abs(aside) < _ON_WAY_M and along < _ALONG_RAD and arc > front - _PASSED_M:
            found.append((arc, name))
    if not found:
        raise CannotIntervene("there is no stop sign on the way ahead")
    return [name for arc, name in found if arc < min(found)[0] + _PASSED_M]


def row_of(agents: AgentArrays, name: str) -> list[str]:
    """The agent and all standing things that are joined to it by gaps of at most 8 m."""
    if name not in agents.ids:
        raise CannotIntervene(f"there is no agent {name!r} in this scene")
    row = {agents.ids.index(name)}
    things = {i for i, kind in enumerate(agents.category) if kind in THINGS and agents.speed_mps[i] < _STANDS_MPS}
    while True:
        inside = agents.xy_in_local_m[sorted(row)]
        near = {i for i in things - row if np.linalg.norm(inside - agents.xy_in_local_m[i], axis=1).min() <= _ROW_M}
        if not near:
            return [agents.ids[i] for i in sorted(row)]
        row |= near


def without(factor: Factor, named_as_cause: bool, agents: AgentArrays) -> Intervention:
    """The act that makes a factor not be there.

    A red or yellow light is held green. A light that has *turned* green is a reason to go because it changed, so as a
    cause it is held red; a light that is green and no cause is switched off. Who waits at the curb is one because they
    wait, so as a cause they walk on. Cones, barriers and other standing things go with their row. Raises
    CannotIntervene for a factor that no act can take away.
    """
    if factor.kind == "sharp_curve":
        return Intervention("straighten_road")
    if factor.kind in ("red_light", "yellow_light"):
        return Intervention("hold_light", factor.agent_id, "green")
    if factor.kind == "green_light":
        return Intervention("hold_light", factor.agent_id, "red" if named_as_cause else "off")
    if factor.kind in ("route_lane", "lane_ends"):
        return Intervention("keep_lane")
    if factor.kind == "pedestrian_waiting" and named_as_cause and factor.agent_id is not None:
        return Intervention("walk_on", factor.agent_id)
    if factor.kind == "speed_bump" and named_as_cause:
        return Intervention("flatten_bump")
    if factor.kind == "stop_sign":
        return Intervention("delete_sign", factor.agent_id)
    if factor.agent_id is None:
        raise CannotIntervene(f"a {factor.kind.replace('_', ' ')} without an id cannot be taken away")
    if factor.agent_id in agents.ids and agents.category[agents.ids.index(factor.agent_id)] in THINGS:
        return Intervention("clear_blockage", factor.agent_id)
    return Intervention("remove_agent", factor.agent_id)
