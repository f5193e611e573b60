"""The privileged expert: explains a driving decision from what was seen, and drives by it 0.6 s later.

Every factor is asked what it alone would impose; the one that binds is the reason. `explain` is a pure function of up
to 2 s of states and the static context, so it also explains human drivers in replayed logs. Knows nothing of the town.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from causaldrive.ground.words import STEP_S
from causaldrive.worlds import bounds, expert_factors, expert_hazards, expert_junctions, expert_lanes, expert_turns
from causaldrive.worlds.expert_nudge import standing
from causaldrive.worlds.explanation import Explanation, Factor, Finding, Nudge
from causaldrive.worlds.route import route_of
from causaldrive.worlds.sight import REACTION_S, VEHICLES, Sight, look
from causaldrive.worlds.state import SceneContext, WorldState

__all__ = ["REACTION_S", "ExpertDriver", "Explanation", "Factor", "explain"]


_REACTION_STEPS = round(REACTION_S / STEP_S)
_BINDS_MPS2 = 0.3  # a factor binds when it asks for this much less than driving freely
_LEVEL_MPS2 = 0.1  # factors this near to the strictest bind with it
_BENDS_M = 0.3  # of offset
_SLOWING = ("stop_for_static_constraint", "speed_adaptation", "yield")
_NOT_FASTER_MPS2 = 0.15
_EMERGENCY_MPS2 = -4.0
_HARD_MPS2, _HARDEST_MPS2 = -3.2, -6.0
_JERK_MPS3, _HARD_JERK_MPS3, _HARDEST_JERK_MPS3 = 4.0, 8.0, 18.0  # the comfort bound is 8.37
_PREVIEW_S = 0.15
_MAX_LATERAL_MPS2 = 3.0


def explain(history: Sequence[WorldState], context: SceneContext) -> Explanation:
    """The decision at the last state of `history` (up to 2 s at 10 Hz) and its causes."""
    return _assess(history, context).explanation


@dataclass(frozen=True)
class _Assessment:
    explanation: Explanation
    nudges: tuple[Nudge, ...]
    sight: Sight


def _assess(history: Sequence[WorldState], context: SceneContext) -> _Assessment:
    assert len(history) > 0
    sight = look(history, route_of(context))
    free = bounds.free(sight.speed_mps, context.target_speed_mps)
    hazards, handled = expert_hazards.findings(sight, free, context.target_speed_mps)
    standers = (standing(sight, seen, free) for seen in sight.agents if seen.agent_id not in handled)
    nudging = [f for f in standers if f is not None]
    waits = expert_hazards.waits(sight, nudging)
    courses = [f.nudge for f in hazards + nudging if f.nudge is not None]
    hazards += expert_lanes.findings(sight, free, courses)
    nudging += [f for f in hazards if f.nudge is not None]
    junction = expert_junctions.findings(sight, context.road, free, context.target_speed_mps)
    told = nudging + [f for f in junction if f.longitudinal is not None]
    rest = _longitudinal_findings(sight, free, context.target_speed_mps, told, handled)
    findings = [f for f in hazards if f.nudge is None] + nudging + waits + junction + rest
    nudges = tuple(f.nudge for f in nudging if f.nudge is not None)
    said = expert_turns.told(_weigh(sight, free, findings), sight, context.road)
    return _Assessment(said, nudges, sight)


def _longitudinal_findings(
    sight: Sight, free: float, wish_mps: float, nudging: list[Finding], handled: set[str]
) -> list[Finding]:
    found = [expert_factors.curve(sight, free)]
    found += [expert_factors.light(sight, signal, free) for signal in sight.lights]
    taken = {f.factor.agent_id for f in nudging if f.lateral is None} | handled
    course = [f.nudge for f in nudging if f.nudge is not None]
    for seen in sight.agents:
        if seen.agent_id in taken:
            continue
        if seen.category == "pedestrian":
            found.append(expert_factors.pedestrian(sight, seen, free, wish_mps))
            continue
        offset = course_offset(course, seen.rear_m)
        finding = None
        if seen.category in (*VEHICLES, "cyclist") and not _passed_by(seen, sight):
            finding = expert_factors.lead(sight, seen, free, offset) or expert_factors.cut_in(sight, seen, free, offset)
        found.append(finding or expert_factors.bystander(sight, seen, free))
    return [f for f in found if f is not None]


def _passed_by(seen, sight: Sight) -> bool:
    """Stands at the edge of our corridor and leaves room: neither a lead nor a reason to turn out."""
    stands = seen.speed_mps < 0.3 and not seen.brake_light
    return stands and seen.side_gap_m(0.0, sight.half_width_m) > 0.35


def course_offset(nudges: Sequence[Nudge], arc_m: float) -> float:
    """The offset of the planned course at an arc: the largest way round that applies there."""
    return max((nudge.at(arc_m) for nudge in nudges), key=abs, default=0.0)


def _weigh(sight: Sight, free: float, findings: list[Finding]) -> Explanation:
    binding = [f for f in findings if _binds(f, sight.speed_mps, free)]
    strictest = min((f.factor.required_acceleration_mps2 for f in findings), default=free)
    tightest = min((f.factor.required_acceleration_mps2 for f in binding), default=free)
    causes = [f for f in binding if f.factor.required_acceleration_mps2 <= tightest + _LEVEL_MPS2]
    causes.sort(key=lambda f: f.factor.required_acceleration_mps2)
    longitudinal = causes[0].longitudinal if causes else "set_speed_tracking"
    if not causes and free > _BINDS_MPS2:
        causes = [f for f in findings if f.longitudinal == "set_speed_tracking" and not f.informs]
        passing = [f for f in findings if f.longitudinal == "acceleration_for_passing"]
        longitudinal = "acceleration_for_passing" if passing and not causes else longitudinal
        causes = causes or passing
    causes = causes or [f for f in findings if f.informs]
    turning = [f for f in findings if f.nudge is not None and f.acts]
    turning = [max(turning, key=lambda f: abs(f.nudge.offset_m))] if turning else []  # type: ignore[union-attr]
    lateral, direction, offset = _lateral(sight, turning)
    named = tuple(f.factor for f in causes + [f for f in turning if all(f is not c for c in causes)])
    who = {factor.agent_id for factor in named} - {None}  # one thing may be found twice: a cause is not harmless too
    who |= expert_lanes.there_first(sight, findings) | {f.factor.agent_id for f in findings if f.holds} - {None}
    left = [f for f in findings if all(f.factor is not c for c in named) and f.factor.agent_id not in who]
    others = tuple(f.factor for f in left if not _shapes(f, sight, min(strictest, free), free))
    assert longitudinal is not None
    return Explanation(longitudinal, lateral, direction, named, others, min(strictest, free), offset)


def _binds(finding: Finding, speed_mps: float, free: float) -> bool:
    """Asks for clearly less than driving freely; a reason to slow down must also mean that we do not speed up."""
    bound = finding.factor.required_acceleration_mps2
    if finding.longitudinal is None or bound > free - _BINDS_MPS2:
        return False
    return finding.longitudinal not in _SLOWING or bound < _NOT_FASTER_MPS2 or speed_mps < 1.5


def _shapes(finding: Finding, sight: Sight, taken: float, free: float) -> bool:
    """Too weak for a word, but not harmless: sets the acceleration, keeps us from a move, or bends our course yet."""
    sets = finding.factor.required_acceleration_mps2 <= taken < free - _LEVEL_MPS2
    bends = finding.nudge is not None and abs(finding.nudge.at(sight.arc_m)) > _BENDS_M
    return sets or finding.holds or bends


def _lateral(sight: Sight, turning: list[Finding]) -> tuple[str, str | None, float]:
    """Decision, direction and offset: out of the lane when the ego's side crosses the lane's edge."""
    if not turning:
        return "lane_keeping", None, 0.0
    nudge = turning[0].nudge
    assert nudge is not None
    if turning[0].lateral is not None:
        return turning[0].lateral, turning[0].direction, nudge.offset_m
    half = float(sight.route.half_width_m[sight.route.index(nudge.from_m)])
    inside = abs(nudge.offset_m) + sight.half_width_m <= half + 0.05
    return (
        ("in_lane_nudge" if inside else "out_of_lane_nudge"),
        ("left" if nudge.offset_m > 0 else "right"),
        nudge.offset_m,
    )


class ExpertDriver:
    """Drives by `explain`, with a driver's delay: acts on what it saw 0.6 s ago, carried forward at constant speed.

    Its own motion and the road are known without delay, and an emergency (below -4 m/s2) is met at once. Holds no state
    of its own, so a restored world needs no restored driver.
    """

    def __init__(self, context: SceneContext):
        self.context = context
        self._route = route_of(context)

    def control(self, history: Sequence[WorldState]) -> tuple[float, float]:
        """(acceleration in m/s2, curvature in 1/m) for the next 0.1 s."""
        return self.command(history, explain(history, self.context))

    def command(self, history: Sequence[WorldState], now: Explanation) -> tuple[float, float]:
        """The same for one who has the explanation of the last state at hand."""
        seen = _assess(_as_seen(history), self.context)
        wanted = seen.explanation.acceleration_mps2
        present = now.acceleration_mps2
        if min(present, wanted) < _EMERGENCY_MPS2:  # met at once, and not kept up when it is over
            wanted = min(present, max(wanted, _EMERGENCY_MPS2))
        ego = history[-1].ego
        return self._eased(wanted, ego.acceleration_mps2, ego.speed_mps), self._steer(seen)

    def _eased(self, wanted: float, now: float, speed_mps: float) -> float:
        """Limit the jerk, the more is needed the less; let braking fade out so that stopping is soft."""
        hard, fading = wanted < _HARD_MPS2, _fading(speed_mps)
        if not hard and speed_mps < 1.0:
            wanted = max(wanted, -0.35 - 0.9 * speed_mps)
        wanted = max(wanted, fading)
        if wanted < min(_HARDEST_MPS2, now):
            jerk = _HARDEST_JERK_MPS3 * STEP_S
        else:
            jerk = (_HARD_JERK_MPS3 if hard or now < fading else _JERK_MPS3) * STEP_S
        return now + min(max(wanted - now, -jerk), jerk)

    def _steer(self, seen: _Assessment) -> float:
        """curvature = course curvature ahead - 1.8 / L heading error - offset error / L^2, L = max(4 m, 0.8 s v)."""
        sight, ego = seen.sight, seen.sight.history[-1].ego
        v = sight.speed_mps
        ahead = sight.arc_m + _PREVIEW_S * v
        planned = [course_offset(seen.nudges, sight.arc_m + d) for d in (-1.0, 0.0, 1.0)]
        slope = (planned[2] - planned[0]) / 2
        bend = sum(w * course_offset(seen.nudges, ahead + d) for w, d in ((1.0, -1.0), (-2.0, 0.0), (1.0, 1.0)))
        heading = float(self._route.heading(sight.arc_m)) + math.atan(slope)
        turned = (ego.yaw_rad - heading + math.pi) % (2 * math.pi) - math.pi
        length = max(4.0, 0.8 * v)
        curvature = float(self._route.curvature(ahead)) + bend - 1.8 / length * turned
        curvature -= (sight.offset_m - planned[1]) / length**2
        limit = min(_MAX_LATERAL_MPS2 / max(v * v, 1.0), 0.2)
        return min(max(curvature, -limit), limit)


def _fading(speed_mps: float) -> float:
    """The hardest braking that can still be let go at a jerk of 8 m/s3 before the car stands.

    a = j dt - sqrt((j dt)^2 + 2 j v), from a^2 = 2 j (v + a dt); at the end -(0.35 + 0.9 v), or it would never stand.
    """
    step = _HARD_JERK_MPS3 * STEP_S
    return min(step - math.sqrt(step * step + 2 * _HARD_JERK_MPS3 * speed_mps), -0.35 - 0.9 * min(speed_mps, 1.0))


def _as_seen(history: Sequence[WorldState]) -> list[WorldState]:
    """States as perceived: others and lights of 0.6 s earlier, the others moved on by 0.6 s; the ego as it is."""
    if len(history) == 1:
        return list(history)
    delay = min(_REACTION_STEPS, len(history) - 1)
    agents = history[-1 - delay].agents
    seconds = (history[-1].t_us - history[-1 - delay].t_us) * 1e-6
    heading = np.stack([np.cos(agents.yaw_rad), np.sin(agents.yaw_rad)], axis=-1)
    moved = dict(zip(agents.ids, heading * (agents.speed_mps * seconds)[:, None], strict=True))
    pairs = zip(history[:-delay], history[delay:], strict=True)
    return [_carried(old, new, moved) for old, new in pairs]


def _carried(old: WorldState, new: WorldState, moved: dict[str, np.ndarray]) -> WorldState:
    """Every earlier place is moved by the same way, so that the motion between them stays what was seen."""
    agents = old.agents
    if len(agents):
        way = np.array([moved.get(name, (0.0, 0.0)) for name in agents.ids])
        agents = replace(agents, xy_in_local_m=agents.xy_in_local_m + way)
    return WorldState(new.t_us, new.ego, agents, old.lights)
