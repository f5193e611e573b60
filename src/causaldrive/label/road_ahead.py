"""What the road itself asks for at one moment: bumps and tight curves ahead, with the braking that each needs by then.

    b = (v^2 - u^2) / (2 d)      u = 4.5 m/s over a bump, sqrt(a_lat / |curvature|) in a curve

Geometry of map and route at t0 only: no driver is asked, and nothing that comes later. Knows nothing of labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causaldrive.worlds.bounds import BUMP_MPS
from causaldrive.worlds.expert_factors import tight_places
from causaldrive.worlds.expert_turns import at_hand, turns_of
from causaldrive.worlds.route import Route, route_of
from causaldrive.worlds.state import EgoState, SceneContext

BUMP, LEFT_CURVE, RIGHT_CURVE = "speed_bump", "left_curve", "right_curve"
_REACH_M = 80.0
_TURNS_RAD = 0.5  # with so much of it left, who is inside the junction turns and does nothing else


@dataclass(frozen=True)
class Demand:
    """One thing of the road: how far ahead it begins, and the steady braking (m/s2) that it asks for; below 0: none."""

    kind: str
    distance_m: float
    braking_mps2: float


def demands_of(context: SceneContext, ego: EgoState) -> tuple[Demand, ...]:
    """Of each side the curve, and of all bumps the one, that asks for most within 80 m."""
    route = route_of(context)
    arc_m = float(route.project(ego.xy_in_local_m)[0])
    front_m = arc_m + ego.rear_axle_to_centre_m + ego.size_m[0] / 2
    found = [*_curves(route, arc_m, ego.speed_mps), *_bumps(route, arc_m, front_m, ego)]
    most: dict[str, Demand] = {}
    for demand in found:
        if demand.kind not in most or demand.braking_mps2 > most[demand.kind].braking_mps2:
            most[demand.kind] = demand
    return tuple(most.values())


def _curves(route: Route, arc_m: float, speed_mps: float) -> list[Demand]:
    kinds = {"left": LEFT_CURVE, "right": RIGHT_CURVE}
    return [
        Demand(kinds[side], ahead_m, (speed_mps**2 - slow_mps**2) / (2 * max(ahead_m, 1.0)))
        for ahead_m, slow_mps, side in tight_places(route, arc_m)
    ]


def _bumps(route: Route, arc_m: float, front_m: float, ego: EgoState) -> list[Demand]:
    found = []
    for ring in route.road.bumps.values():
        arcs, offsets = route.project(np.asarray(ring, float), arc_m)
        ahead_m = float(arcs.min()) - front_m
        ours = offsets.min() < ego.size_m[1] / 2 and offsets.max() > -ego.size_m[1] / 2
        if ours and ahead_m < _REACH_M and arc_m < float(arcs.max()) + 0.5:
            braking = (ego.speed_mps**2 - BUMP_MPS**2) / (2 * max(ahead_m, 1.0))
            found.append(Demand(BUMP, max(ahead_m, 0.0), braking))
    return found


def turns_at(context: SceneContext, ego: EgoState) -> tuple[frozenset[str], str | None]:
    """Sides of the turns over junctions that the way to go makes soon, and the side of the one under way."""
    route, (arc_m, front_m, reach_m) = route_of(context), at_hand(context, ego)
    soon = [t for t in turns_of(route, context.road) if t.end_m > arc_m and t.start_m - front_m < reach_m]
    here = [t.side for t in soon if t.start_m < front_m and _left_rad(route, arc_m, t.end_m) >= _TURNS_RAD]
    return frozenset(t.side for t in soon), here[0] if here else None


def _left_rad(route: Route, from_m: float, to_m: float) -> float:
    return abs(float(route.heading(to_m) - route.heading(from_m)))


def strongest(demands: tuple[Demand, ...], *kinds: str) -> Demand | None:
    """The demand of these kinds that asks for most braking."""
    return max((d for d in demands if d.kind in kinds), key=lambda d: d.braking_mps2, default=None)
