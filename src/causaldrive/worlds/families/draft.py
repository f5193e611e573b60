"""What every family's scene is made of: its road, the ego's lane and speeds, bystanders, looks; and the finished Scene.

A family draws a `Draft`, adds the actors that matter, and `finish` makes it a `Scene`. Knows nothing of the expert.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from causaldrive.clips.geometry import quat_of_matrix
from causaldrive.clips.types import Camera
from causaldrive.worlds.actors import CAR_SIZE_M, PEDESTRIAN_SIZE_M, Actor, Event, Script, SignalHead, SignalStage
from causaldrive.worlds.paths import Path
from causaldrive.worlds.roads import Road, RoadShape, build_road, draw_bends
from causaldrive.worlds.state import EgoState, SceneContext
from causaldrive.worlds.sumo_plan import SumoPlan

EGO_START_M = 50.0  # road behind the ego, for whoever follows
EGO_FRONT_M = 3.7  # front bumper ahead of the rear axle
COMFORT_LATERAL_MPS2 = 1.8  # bends of the open road stay below this at the target speed
_SKIES = ((140, 185, 230), (170, 200, 225), (120, 165, 220), (200, 205, 210), (235, 200, 165), (160, 175, 190))
_GROUNDS = ((104, 130, 84), (122, 134, 92), (136, 128, 104), (96, 116, 92), (120, 120, 116))
_FACADES = ((178, 120, 96), (196, 182, 156), (150, 150, 158), (208, 196, 180), (132, 108, 92), (170, 176, 168))
CARS_RGB = ((190, 30, 35), (30, 70, 160), (235, 235, 235), (40, 42, 46), (150, 155, 160), (215, 150, 30), (30, 110, 75))
CLOTHES_RGB = ((215, 45, 60), (240, 190, 40), (45, 95, 190), (230, 120, 40), (120, 60, 150), (245, 245, 245))


@dataclass(frozen=True)
class SceneSpec:
    """Which scene: everything else is drawn from these."""

    family: str
    seed: int
    harmless: bool = False

    @property
    def variant(self) -> str:
        return "harmless" if self.harmless else "cause"

    @property
    def scene_id(self) -> str:
        return f"town_{self.family}_{self.seed:06d}_{self.variant}"


@dataclass(frozen=True)
class Scene:
    """One initial condition: static context, ego at the start, and what the others will do.

    `focus_id` names the agent or light the family is about (None where it is the road itself) and `focus_kind` the
    cause it is in the variant that is not harmless.
    """

    spec: SceneSpec
    context: SceneContext
    ego: EgoState
    script: Script
    duration_s: float
    focus_id: str | None
    focus_kind: str
    sumo: SumoPlan | None = None  # what SUMO plays instead of the script


@dataclass
class Draft:
    """A scene being drawn."""

    rng: np.random.Generator
    target_mps: float
    start_mps: float
    road: Road
    ego_lane: int
    actors: list[Actor] = field(default_factory=list)
    lines: dict[str, Path] = field(default_factory=dict)
    heads: tuple[SignalHead, ...] = ()
    program: tuple[SignalStage, ...] = ()
    stop_arcs_m: tuple[tuple[str, str, float], ...] = ()
    agent_rgb: dict[str, list[int]] = field(default_factory=dict)
    focus_id: str | None = None
    weather: dict = field(default_factory=dict)  # looks that replace the drawn ones
    route_lane: int | None = None  # where the way to go lies, when not in the ego's lane

    @property
    def shape(self) -> RoadShape:
        return self.road.shape

    @property
    def ego_offset_m(self) -> float:
        return self.shape.forward_offset_m(self.ego_lane)

    def arc_after(self, seconds: float) -> float:
        """Where the ego would be after so long at its target speed."""
        return EGO_START_M + self.target_mps * seconds

    def add_car(self, name: str, line: str, arc_m: float, offset_m: float, speed_mps: float,
                wish_mps: float | None = None, events: tuple[Event, ...] = ()) -> None:  # fmt: skip
        """A car of drawn size and colour."""
        scale = self.rng.uniform(0.93, 1.07, 3)
        length, width, height = (float(s * k) for s, k in zip(CAR_SIZE_M, scale, strict=True))
        self.agent_rgb[name] = list(CARS_RGB[self.rng.integers(len(CARS_RGB))])
        size = (round(length, 2), round(min(width, 1.92), 2), round(height, 2))
        self.actors.append(Actor(name, "car", size, line, arc_m, offset_m, speed_mps, wish_mps, events=events))

    def add_object(self, name: str, category: str, size_m: tuple[float, float, float], line: str, arc_m: float,
                   offset_m: float, rgb: tuple[int, int, int], *, speed_mps: float = 0.0, turned_rad: float = 0.0,
                   wish_mps: float | None = None, events: tuple[Event, ...] = ()) -> None:  # fmt: skip
        """Anything that is not a drawn car or a walking person: its size and colour are given."""
        self.agent_rgb[name] = list(rgb)
        self.actors.append(
            Actor(name, category, size_m, line, arc_m, offset_m, speed_mps, wish_mps, turned_rad, events)
        )

    def place_last(self, offset_m: float) -> None:
        """Move the actor added last sideways, once its drawn width is known."""
        self.actors[-1] = replace(self.actors[-1], offset_m=offset_m)

    def add_pedestrian(self, name: str, line: Path, speed_mps: float, wish_mps: float | None = None,
                       turned_rad: float = 0.0, events: tuple[Event, ...] = ()) -> None:  # fmt: skip
        """A person on a walking line of its own, at its start."""
        self.lines[name] = line
        self.agent_rgb[name] = list(CLOTHES_RGB[self.rng.integers(len(CLOTHES_RGB))])
        height = round(float(self.rng.uniform(1.6, 1.88)), 2)
        size = (*PEDESTRIAN_SIZE_M[:2], height)
        self.actors.append(Actor(name, "pedestrian", size, name, 0.0, 0.0, speed_mps, wish_mps, turned_rad, events))


def draw_draft(
    rng: np.random.Generator, *, forward_lanes: int | None = None, ego_lane: int | None = None,
    right_strip_m: float | None = None, bends: tuple[tuple[float, float], ...] | None = None,
    junction_s: float | None = None, crosswalk_s: float | None = None, target_mps: float | None = None,
) -> Draft:  # fmt: skip
    """Draw what a family leaves open. `junction_s`, `crosswalk_s`: how many seconds ahead of the start they lie."""
    target = float(rng.uniform(8.0, 13.0)) if target_mps is None else target_mps
    start = target * float(rng.uniform(0.75, 1.0))
    lanes = int(rng.integers(1, 3)) if forward_lanes is None else forward_lanes
    width = float(rng.uniform(3.3, 3.7))
    strip = float(rng.choice([0.6, 2.4])) if right_strip_m is None else right_strip_m
    length = math.ceil(EGO_START_M + target * 20.0 + 110.0)
    junction = None if junction_s is None else EGO_START_M + target * junction_s
    straight = None if junction is None else (junction - 35.0, junction + 35.0)
    if bends is None:
        bends = draw_bends(rng, length, target**2 / COMFORT_LATERAL_MPS2, straight)
    crosswalk = None if crosswalk_s is None else EGO_START_M + target * crosswalk_s
    shape = RoadShape(bends, width, lanes, int(rng.integers(1, 3)), strip, float(rng.choice([0.6, 2.4])),
                      junction, crosswalk)  # fmt: skip
    road = build_road(shape, rng)
    lane = int(rng.integers(lanes)) if ego_lane is None else ego_lane
    return Draft(rng, target, start, road, lane, lines={"forward": road.forward, "backward": road.backward})


def default_camera() -> Camera:
    """The town's front camera: 320x192, 75 degrees wide, 1.5 m up behind the windscreen, 3 degrees down."""
    pitch = math.radians(3.0)
    right, forward = np.array([0.0, -1.0, 0.0]), np.array([math.cos(pitch), 0.0, -math.sin(pitch)])
    axes = np.stack([right, np.cross(forward, right), forward], axis=1)  # columns: optical x, y, z in the rig
    focal = 160.0 / math.tan(math.radians(37.5))
    quat = quat_of_matrix(axes)
    position = (1.6, 0.0, 1.5)
    return Camera("front", 320, 192, focal, focal, 160.0, 96.0, position, tuple(quat.tolist()))


def finish(draft: Draft, spec: SceneSpec, focus_kind: str) -> Scene:
    """Turn a draft into a scene: route along the ego's lane, ego on it, looks."""
    forward, shape = draft.road.forward, draft.shape
    lane = draft.ego_lane if draft.route_lane is None else draft.route_lane
    route = forward.offset_line(shape.forward_offset_m(lane), 0.0, float(math.floor(shape.length_m)), every_m=1.0)
    x, y, yaw = forward.pose(EGO_START_M, draft.ego_offset_m)
    ego = EgoState(np.array([x, y]), yaw, draft.start_mps)
    context = SceneContext(draft.road.road_map, route, draft.target_mps, default_camera(),
                           _draw_looks(draft) | draft.weather)  # fmt: skip
    script = Script(draft.lines, tuple(draft.actors), draft.heads, draft.program, draft.stop_arcs_m)
    duration = round(float(draft.rng.uniform(16.0, 20.0)), 1)
    return Scene(spec, context, ego, script, duration, draft.focus_id, focus_kind)


def _draw_looks(draft: Draft) -> dict:
    return draw_looks(draft.rng, draft.agent_rgb)


def draw_looks(rng: np.random.Generator, agent_rgb: dict[str, list[int]]) -> dict:
    """Sky, ground, sun, fog, facades; `SceneContext.appearance`."""
    facades = [list(_FACADES[i]) for i in rng.integers(len(_FACADES), size=4)]
    return {
        "sky_rgb": _tinted(rng, _SKIES),
        "ground_rgb": _tinted(rng, _GROUNDS),
        "building_rgb": facades,
        "agent_rgb": agent_rgb,
        "fog": round(float(rng.choice([0.0, 0.0, 0.0, 0.004, 0.008])), 4),
        "sun_yaw_rad": round(float(rng.uniform(-math.pi, math.pi)), 3),
        "brightness": round(float(rng.uniform(0.85, 1.1)), 3),
    }


def _tinted(rng: np.random.Generator, palette: tuple[tuple[int, int, int], ...]) -> list[int]:
    colour = np.array(palette[rng.integers(len(palette))]) + rng.integers(-12, 13, size=3)
    return np.clip(colour, 0, 255).tolist()
