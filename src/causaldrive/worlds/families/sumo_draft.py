"""What every scene on a SUMO network is made of: network, the ego's way, cars and people, looks; the finished Scene.

A family fills a `SumoDraft`; `finish` makes it a `Scene` that SUMO plays. Knows nothing of libsumo or the expert.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry as Geometry

from causaldrive.clips.geometry import arc_lengths, pose_on_polyline
from causaldrive.worlds.actors import CAR_SIZE_M, Script
from causaldrive.worlds.families.draft import CARS_RGB, CLOTHES_RGB, Scene, SceneSpec, default_camera, draw_looks
from causaldrive.worlds.families.street import GUIDE_RGB
from causaldrive.worlds.roadside import buildings_along
from causaldrive.worlds.state import EgoState, SceneContext
from causaldrive.worlds.sumo_net import Network, read_network
from causaldrive.worlds.sumo_plan import NETWORKS, SignalStart, SumoCar, SumoPlan, SumoWalker

EGO_FRONT_M = 3.7  # front bumper ahead of the rear axle
_SAFE_BRAKING_MPS2 = 3.0


@dataclass
class SumoDraft:
    """A scene being drawn. `start_m` is the arc of the ego's rear axle on its way."""

    rng: np.random.Generator
    network: Network
    edges: tuple[str, ...]
    target_mps: float
    start_mps: float
    start_m: float
    cars: list[SumoCar] = field(default_factory=list)
    walkers: list[SumoWalker] = field(default_factory=list)
    signals: list[SignalStart] = field(default_factory=list)
    agent_rgb: dict[str, list[int]] = field(default_factory=dict)
    focus_id: str | None = None
    duration_s: float = 20.0
    built_up: bool = True  # houses beside the road, else trees
    guided: bool = False  # the way to go is painted on the road

    @property
    def to_line_m(self) -> float:
        """From the ego's nose to the end of its first edge."""
        return self.network.length_m(self.edges[0]) - self.start_m - EGO_FRONT_M

    def add_car(self, name: str, edges: tuple[str, ...], front_m: float, speed_mps: float, **more: Any) -> None:
        """A car of drawn colour, and of drawn size where none is given."""
        scale = self.rng.uniform(0.93, 1.07, 3)
        length, width, height = (float(s * k) for s, k in zip(CAR_SIZE_M, scale, strict=True))
        self.agent_rgb[name] = list(CARS_RGB[self.rng.integers(len(CARS_RGB))])
        size = more.pop("size_m", (round(length, 2), round(min(width, 1.92), 2), round(height, 2)))
        wish = more.pop("wish_mps", max(speed_mps, 9.0))
        self.cars.append(SumoCar(name, edges, front_m, speed_mps, wish, size_m=size, **more))

    def add_car_before(self, name: str, edges: tuple[str, ...], before_m: float, speed_mps: float, **more: Any) -> None:
        """A car whose nose is so far before the end of its first edge, no faster than it could still stop there."""
        slow = min(speed_mps, 0.8 * math.sqrt(2 * _SAFE_BRAKING_MPS2 * max(before_m - 2.0, 0.0)))
        more.setdefault("wish_mps", max(speed_mps, 6.0))
        self.add_car(name, edges, self.network.length_m(edges[0]) - before_m, slow, **more)

    def add_walker(self, name: str, edges: tuple[str, ...], start_m: float, end_m: float, speed_mps: float) -> None:
        self.agent_rgb[name] = list(CLOTHES_RGB[self.rng.integers(len(CLOTHES_RGB))])
        self.walkers.append(SumoWalker(name, edges, start_m, end_m, speed_mps))

    def add_strollers(self, most: int = 3) -> None:
        """A few people walking along the sidewalks of the ego's first edges."""
        for index in range(int(self.rng.integers(0, most + 1))):
            edge = str(self.rng.choice([e for e in self.edges[:2] if e in self.network.sidewalks] or [""]))
            if edge:
                length = self.network.sidewalks[edge]
                start = float(self.rng.uniform(0.1, 0.6)) * length
                self.add_walker(f"stroller_{index}", (edge,), start, length * 0.95, float(self.rng.uniform(0.9, 1.6)))


@lru_cache(maxsize=16)
def network_named(name: str) -> Network:
    """A network of the package, read once a process."""
    return read_network(NETWORKS / f"{name}.net.xml")


def draw_sumo_draft(rng: np.random.Generator, name: str, edges: tuple[str, ...], target_mps: float,
                    to_line_s: float) -> SumoDraft:  # fmt: skip
    """The ego on `edges`, so many seconds of driving before the end of the first one."""
    network = network_named(name)
    start_mps = target_mps * float(rng.uniform(0.85, 1.0))
    start_m = max(network.length_m(edges[0]) - EGO_FRONT_M - to_line_s * target_mps, 6.0)
    return SumoDraft(rng, network, edges, target_mps, start_mps, start_m)


def finish(draft: SumoDraft, spec: SceneSpec, focus_kind: str) -> Scene:
    """Turn a draft into a scene: route along the ego's edges, ego on it, houses or trees, looks."""
    network, rng = draft.network, draft.rng
    route = network.line_through(draft.edges)
    xy, yaw = pose_on_polyline(draft.start_m, route)
    ego = EgoState(xy, float(yaw), draft.start_mps)
    clear = shapely.union_all([shapely.Polygon(np.concatenate([lane.left_xy_m, lane.right_xy_m[::-1]])).buffer(0.05)
                               for lane in network.road.lanes.values()])  # fmt: skip
    lines = [network.road.lanes[lanes[0]].centre_xy_m for lanes in network.lane_ids.values()]
    looks = draw_looks(rng, draft.agent_rgb) | ({"guide_rgb": list(GUIDE_RGB)} if draft.guided else {})
    buildings = buildings_along(lines, clear, rng) if draft.built_up else {}
    if not draft.built_up:
        looks["trees"] = _trees_along(lines, clear, rng)
    road = replace(network.road, buildings=buildings)
    context = SceneContext(road, route, draft.target_mps, default_camera(), looks)
    plan = SumoPlan(network.path, draft.edges, tuple(draft.cars), tuple(draft.walkers), tuple(draft.signals), spec.seed)
    return Scene(spec, context, ego, Script({}, ()), draft.duration_s, draft.focus_id, focus_kind, plan)


def _trees_along(lines: list[np.ndarray], clear: Geometry, rng: np.random.Generator) -> list[list[float]]:
    """x, y, height of trees 8 to 25 m beside the road."""
    trees = []
    for line in lines:
        for arc in np.arange(0.0, arc_lengths(line)[-1], 14.0):
            xy, yaw = pose_on_polyline(arc + rng.uniform(0, 14), line)
            aside = float(rng.choice([-1.0, 1.0])) * rng.uniform(8.0, 25.0)
            point = xy + aside * np.array([-np.sin(yaw), np.cos(yaw)])
            if clear.distance(shapely.Point(*point)) > 5.0:
                trees.append([*np.round(point, 2).tolist(), round(float(rng.uniform(5.0, 9.0)), 2)])
    return trees
