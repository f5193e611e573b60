"""What happened in a drive: collision and fault, off-road, broken rules, progress, comfort, scene score.

Definitions follow public AlpaSim where the meaning is the same: boxes shrunk by 2 %, at fault = front or lateral
hit, off-road = the ego's box leaves the road surface, scene score = min(progress / 0.8, 1), and 0 after an at-fault
collision or leaving the road. Ours beside it: rules (red light run, driving against traffic, speeding), comfort, and
close encounter = less than 0.5 m between the boxes while the ego moves. Knows nothing of policies.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field

import numpy as np
import shapely
from shapely.geometry import LineString, Polygon
from shapely.prepared import prep

from causaldrive.clips.geometry import box_corners, project_on_polyline, to_frame, wrap_angle
from causaldrive.clips.types import RoadMap
from causaldrive.ground.words import STEP_S
from causaldrive.worlds.sign_rules import SignRules, front_xy
from causaldrive.worlds.state import SceneContext, WorldState

SHRINK = 0.98
CLOSE_M = 0.5
SPEEDING_FACTOR, SPEEDING_S = 1.25, 1.0
WRONG_WAY_RAD, WRONG_WAY_S = np.deg2rad(120.0), 3.0  # a nudge may use the oncoming lane briefly
PROGRESS_FOR_FULL_SCORE = 0.8
RULES = {"red_light", "stop_sign", "school_bus", "wrong_way", "speeding"}

# Comfort bounds of the released recipe (spec 3.2); all are symmetric except longitudinal acceleration.
ACCELERATION_BOUNDS_MPS2 = (-4.05, 2.40)
LATERAL_ACCELERATION_MPS2 = 4.89
JERK_MPS3 = 8.37
YAW_RATE_RADPS = 0.95


@dataclass(frozen=True)
class Event:
    """Something that happened at one tick: collision, off_road, close_encounter, or a rule of RULES."""

    kind: str
    t_us: int
    detail: str
    at_fault: bool = True


@dataclass
class Scorer:
    """Feed it every state in order; `events` grows, `fatal` is set by an at-fault collision or leaving the road."""

    context: SceneContext
    events: list[Event] = field(default_factory=list)
    fatal: bool = False
    _touching: set[str] = field(default_factory=set)
    _previous: WorldState | None = None
    _speeding_s: float = 0.0
    _wrong_way_s: float = 0.0
    _off_road: bool = False

    def __post_init__(self) -> None:
        self._signs = SignRules(self.context)
        self._surface = prep(road_surface(self.context.road))
        lanes = [lane for lane in self.context.road.lanes.values() if not lane.in_junction]
        self._lanes = [(Polygon(np.concatenate([lane.left_xy_m, lane.right_xy_m[::-1]])), lane) for lane in lanes]
        self._lane_tree = shapely.STRtree([polygon for polygon, _ in self._lanes])

    def add(self, state: WorldState) -> None:
        ego = state.ego
        corners = box_corners(
            ego.centre_xy_in_local_m, np.array(ego.yaw_rad), *(np.array(s * SHRINK) for s in ego.size_m[:2])
        )
        self._collisions(state, corners)
        outside = not self._surface.covers(Polygon(corners))
        if outside and not self._off_road and not self._has("off_road"):
            self._note("off_road", state, "the ego's box leaves the road surface", fatal=True)
        self._off_road = outside
        if self._previous is not None:
            self._red_lights(self._previous, state)
            for kind, detail in self._signs.add(self._previous, state):
                self._note(kind, state, detail)
        self._lane_rules(state)
        self._previous = state

    def fork(self) -> Scorer:
        """Another one that goes on from here and has noted nothing yet. They share the map's geometry."""
        twin = copy(self)
        twin.events, twin.fatal = [], False
        twin._touching, twin._signs = set(self._touching), self._signs.fork()
        return twin

    def hand_over(self) -> None:
        """Another driver takes the wheel: what happened so far is not its doing.

        Events are forgotten, and nothing that lasts is held against it: a box that touches already, a place off the
        road, a speed or a side that was an event already. Where there was no event, nothing changes.
        """
        if any(event.kind in ("speeding", "wrong_way") for event in self.events):
            self._speeding_s = self._wrong_way_s = 0.0
        self.events, self.fatal = [], False

    def _collisions(self, state: WorldState, corners: np.ndarray) -> None:
        agents, ego = state.agents, state.ego
        if not len(agents):
            return
        reach = np.linalg.norm(agents.xy_in_local_m - ego.centre_xy_in_local_m, axis=1)
        near = np.flatnonzero(reach < 4.0 + ego.size_m[0] / 2 + agents.size_m[:, 0] / 2)
        ego_box = Polygon(corners)
        for index in near:
            size, yaw = agents.size_m[index] * SHRINK, agents.yaw_rad[index]
            box = Polygon(box_corners(agents.xy_in_local_m[index], yaw, size[0], size[1]))
            name = agents.ids[index]
            if ego_box.intersects(box):
                if name not in self._touching:
                    self._touching.add(name)
                    side = _side_of_hit(corners, box)
                    fault = side != "rear"
                    self._note("collision", state, f"{side} hit with {agents.category[index]} {name}", fault, fault)
            elif ego.speed_mps > 0.5 and ego_box.distance(box) < CLOSE_M and not self._has("close_encounter"):
                self._note("close_encounter", state, f"within {CLOSE_M} m of {agents.category[index]} {name}")

    def _red_lights(self, before: WorldState, now: WorldState) -> None:
        """A red light is run when the front bumper passes its stop line in driving direction while it is red."""
        lights = now.lights
        for index in range(len(lights)):
            if lights.state[index] != "red":
                continue
            stop, yaw = lights.stop_xy_in_local_m[index], float(lights.yaw_rad[index])
            old, new = (to_frame(front_xy(state), stop, yaw) for state in (before, now))
            if old[0] <= 0 < new[0] and abs(new[1]) < 1.8 and abs(wrap_angle(now.ego.yaw_rad - yaw)) < 1.0:
                self._note("red_light", now, f"passed the stop line of red light {lights.ids[index]}")

    def _lane_rules(self, state: WorldState) -> None:
        point = shapely.Point(*state.ego.centre_xy_in_local_m)
        inside = [self._lanes[i][1] for i in self._lane_tree.query(point, predicate="intersects")]
        vehicle_lanes = [lane for lane in inside if lane.kind == "vehicle"]
        if not vehicle_lanes:
            self._wrong_way_s = self._speeding_s = 0.0
            return
        ego_xy = state.ego.centre_xy_in_local_m
        off = [abs(wrap_angle(_lane_yaw(lane.centre_xy_m, ego_xy) - state.ego.yaw_rad)) for lane in vehicle_lanes]
        self._wrong_way_s = self._wrong_way_s + STEP_S if min(off) > WRONG_WAY_RAD else 0.0
        if self._wrong_way_s > WRONG_WAY_S and not self._has("wrong_way"):
            self._note("wrong_way", state, f"against traffic for more than {WRONG_WAY_S:g} s")
        limit = max(lane.speed_limit_mps for lane in vehicle_lanes)
        self._speeding_s = self._speeding_s + STEP_S if state.ego.speed_mps > SPEEDING_FACTOR * limit else 0.0
        if self._speeding_s > SPEEDING_S and not self._has("speeding"):
            self._note("speeding", state, f"{state.ego.speed_mps:.1f} m/s where {limit:.1f} m/s is the limit")

    def _note(self, kind: str, state: WorldState, detail: str, fatal: bool = False, at_fault: bool = True) -> None:
        self.events.append(Event(kind, state.t_us, detail, at_fault))
        self.fatal = self.fatal or fatal

    def _has(self, kind: str) -> bool:
        return any(event.kind == kind for event in self.events)


def road_surface(road: RoadMap) -> shapely.Geometry:
    """Union of all vehicle lanes and drivable areas, grown by 0.15 m to close seams between segments."""
    rings = [np.concatenate([lane.left_xy_m, lane.right_xy_m[::-1]]) for lane in road.lanes.values()]
    rings += list(road.drivable.values())
    polygons = [Polygon(ring).buffer(0.15, join_style="mitre") for ring in rings if len(ring) >= 3]
    return shapely.union_all(polygons)


def _lane_yaw(centre_xy_m: np.ndarray, xy_m: np.ndarray) -> float:
    index = int(np.argmin(np.sum((centre_xy_m - xy_m) ** 2, axis=1)))
    index = min(index, len(centre_xy_m) - 2)
    step = centre_xy_m[index + 1] - centre_xy_m[index]
    return float(np.arctan2(step[1], step[0]))


def _side_of_hit(ego_corners: np.ndarray, other: Polygon) -> str:
    """'front' if the other box touches the front bumper line, else 'rear' if the rear one, else 'lateral'."""
    if LineString(ego_corners[:2]).intersects(other):
        return "front"
    return "rear" if LineString(ego_corners[2:]).intersects(other) else "lateral"


@dataclass(frozen=True)
class Score:
    """One drive in numbers. Shares and rates are in [0, 1]; distances in metres."""

    at_fault_collision: bool
    any_collision: bool
    off_road: bool
    rule_breaking: bool
    close_encounter: bool
    distance_m: float  # along the route
    progress: float  # distance over the reference drive's distance, at least 0
    comfort: float  # share of ticks inside all comfort bounds
    scene_score: float

    @property
    def clean(self) -> bool:
        """No at-fault collision, never off the road, no rule broken."""
        return not (self.at_fault_collision or self.off_road or self.rule_breaking)


def score_drive(events: list[Event], states: list[WorldState], route_xy_m: np.ndarray, reference_m: float) -> Score:
    """Reduce a drive. `reference_m` is how far the reference drive came along the route in the same time.

    scene_score = 0 if at-fault collision or off-road, else min(progress / 0.8, 1); 1 if the reference moves under 5 m
    (public AlpaSim).
    """
    xy = np.array([state.ego.xy_in_local_m for state in states])
    arcs, _ = project_on_polyline(xy[[0, -1]], route_xy_m)
    distance = float(arcs[1] - arcs[0])
    progress = max(distance, 0.0) / max(reference_m, 5.0)
    kinds = {event.kind for event in events}
    fault = any(event.kind == "collision" and event.at_fault for event in events)
    off_road = "off_road" in kinds
    full = 1.0 if reference_m < 5.0 else min(progress / PROGRESS_FOR_FULL_SCORE, 1.0)
    return Score(
        at_fault_collision=fault,
        any_collision="collision" in kinds,
        off_road=off_road,
        rule_breaking=bool(kinds & RULES),
        close_encounter="close_encounter" in kinds,
        distance_m=distance,
        progress=progress,
        comfort=comfort(states),
        scene_score=0.0 if fault or off_road else full,
    )


def comfort(states: list[WorldState]) -> float:
    """Share of steps whose acceleration, lateral acceleration (v^2 kappa), jerk and yaw rate are all in bounds.

    A step has the speed and curvature it ends with; the jerk of the first one is not known and counts as none.
    """
    if len(states) < 2:
        return 1.0
    speeds = np.array([state.ego.speed_mps for state in states])
    speed, curvature = speeds[1:], np.array([state.ego.curvature_1pm for state in states[1:]])
    acceleration = np.diff(speeds) / STEP_S
    jerk = np.diff(acceleration, prepend=acceleration[0]) / STEP_S
    low, high = ACCELERATION_BOUNDS_MPS2
    good = (acceleration >= low) & (acceleration <= high) & (np.abs(jerk) <= JERK_MPS3)
    good &= (np.abs(speed**2 * curvature) <= LATERAL_ACCELERATION_MPS2) & (np.abs(speed * curvature) <= YAW_RATE_RADPS)
    return float(good.mean())
