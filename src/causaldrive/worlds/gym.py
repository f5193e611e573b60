"""The town as a Gymnasium environment: drive it with any library that knows `gymnasium`, without the rest of this one.

    action       (acceleration in m/s2, curvature in 1/m), held for 0.1 s under the car's actuator limits
    reward       metres along the route / (0.1 s x target speed), - 10 when a drive ends in an event, - 1 a broken rule
    terminated   an at-fault collision, leaving the road, or an action that cannot be driven (`info["failure"]`)
    truncated    the scene's time or its road is over

`TownEnv` is one environment, `vector` several; `causaldrive/Town-v0` is registered on import. `lanes()`, `agents()` and
`lights()` give the scene as arrays. A seed gives a scene, the same in every process. Knows nothing of students.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from causaldrive.clips.geometry import pose_on_polyline, project_on_polyline, to_frame, wrap_angle
from causaldrive.ground.errors import UserError
from causaldrive.ground.words import AGENT_CATEGORIES, LIGHT_STATES, STEP_S, VALIDATION_SEED
from causaldrive.worlds.draw_bev import draw_bev
from causaldrive.worlds.route import route_of
from causaldrive.worlds.scenes import SceneSpec, build_scene, check_seeds, default_camera, draw_specs
from causaldrive.worlds.scoring import Scorer
from causaldrive.worlds.town import TownWorld
from causaldrive.worlds.vehicle import LIMITS

AHEAD_M = np.arange(5.0, 101.0, 5.0)  # where the route is looked at
LANE_POINTS = 20
_FAR = 1e4  # larger than any coordinate or speed in a scene
_LOW = np.array([LIMITS.min_acceleration_mps2, -LIMITS.max_curvature_1pm], np.float32)
_HIGH = np.array([LIMITS.max_acceleration_mps2, LIMITS.max_curvature_1pm], np.float32)
_EVENT_COST, _RULE_COST = 10.0, 1.0
_KEPT_VIEWS = 4


class TownEnv(gymnasium.Env):
    """One drive of a scene of the town at 10 Hz. Observations, all float32, in the rig frame (x forward, y left):

    ego (6,): speed, acceleration, curvature, offset from the route, heading against it, target speed;
    route (20, 2): the way to go every 5 m; agents (N, 9): there (1 or 0), x, y, cos and sin of the heading, speed,
    length, width, category (index into AGENT_CATEGORIES), nearest first; lights (4, 4): there, x, y of the stop line,
    state (index into LIGHT_STATES), nearest first; camera (H, W, 3) uint8 when asked for.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's own contract)

    def __init__(
        self, families: Sequence[str] = (), first_seed: int = 0, scenes: int = VALIDATION_SEED,
        most_agents: int = 16, camera: bool = False, render_mode: str | None = None,
    ):  # fmt: skip
        """Scenes are drawn from seeds `first_seed` to `first_seed + scenes - 1`; `families` empty: all.

        Raises UserError for unknown families, reserved seeds and an unknown render mode.
        """
        draw_specs(0, first_seed, families)  # the names, checked
        check_seeds(first_seed, scenes)
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode is {render_mode!r}; 'rgb_array' or None expected, so choose one of these.")
        self.families, self.first_seed, self.scenes = tuple(families), first_seed, scenes
        self.most_agents, self.render_mode = most_agents, render_mode
        self.action_space = spaces.Box(_LOW, _HIGH)
        self.observation_space = spaces.Dict(self._spaces(camera))
        self._renderer, self._view = None, None
        self._views: dict[SceneSpec, Any] = {}  # opened lately, newest last
        if camera:
            from causaldrive.worlds.renderer import Renderer  # Panda3D is not needed without pictures

            self._renderer = Renderer(default_camera())
        self.world: TownWorld | None = None

    def _spaces(self, camera: bool) -> dict[str, spaces.Space]:
        shapes = {"ego": (6,), "route": (len(AHEAD_M), 2), "agents": (self.most_agents, 9), "lights": (4, 4)}
        found: dict[str, spaces.Space] = {n: spaces.Box(-_FAR, _FAR, s, np.float32) for n, s in shapes.items()}
        if camera:
            size = default_camera()
            found["camera"] = spaces.Box(0, 255, (size.height_px, size.width_px, 3), np.uint8)
        return found

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """A new scene, drawn from the environment's generator; `options={"spec": SceneSpec(...)}` chooses it."""
        super().reset(seed=seed)
        spec = (options or {}).get("spec") or self._draw()
        if not isinstance(spec, SceneSpec):
            raise UserError(f"options['spec'] is a {type(spec).__name__}; a SceneSpec expected, so make one.")
        self.world = TownWorld(build_scene(spec))
        self._scorer = Scorer(self.world.context)
        self._scorer.add(self.world.state)
        self._scorer.hand_over()
        self._arc_m = self._arc()
        if self._renderer is not None:
            self._view = self._opened(spec)
        return self._observe(), self._info()

    def _opened(self, spec: SceneSpec) -> Any:
        """The scene's geometry. A scene that is driven again soon is drawn from the same one, pixel for pixel."""
        view = self._views.pop(spec, None) or self._renderer.open(self._open_world().context)  # type: ignore[union-attr]
        self._views[spec] = view
        while len(self._views) > _KEPT_VIEWS:
            self._views.pop(next(iter(self._views))).close()
        return view

    def _draw(self) -> SceneSpec:
        seed = self.first_seed + int(self.np_random.integers(self.scenes))
        (spec,) = draw_specs(1, seed, self.families)
        return spec

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """0.1 s. An action that is not a number or outside the action space ends the drive with that failure."""
        world = self._open_world()
        action = np.asarray(action, float).reshape(-1)
        failure = _failure(action)
        if failure is not None:
            return self._observe(), -_EVENT_COST, True, False, {**self._info(), "failure": failure}
        before, rules = self._arc_m, self._rules_broken()
        self._scorer.add(world.step(float(action[0]), float(action[1])))
        self._arc_m = self._arc()
        reward = (self._arc_m - before) / (STEP_S * world.context.target_speed_mps)
        reward -= _RULE_COST * (self._rules_broken() - rules) + _EVENT_COST * self._scorer.fatal
        return self._observe(), float(reward), self._scorer.fatal, world.finished, self._info()

    def lanes(self) -> dict[str, np.ndarray]:
        """L lanes: lane_id (L,), centre, left and right (L, 20, 2) in local, speed_limit_mps, in_junction (L,)."""
        lanes = list(self._open_world().context.road.lanes.values())
        lines = {"centre_xy_m": "centre_xy_m", "left_xy_m": "left_xy_m", "right_xy_m": "right_xy_m"}
        found = {name: np.stack([_even(getattr(lane, field)) for lane in lanes]) for name, field in lines.items()}
        return found | {
            "lane_id": np.array([lane.lane_id for lane in lanes]),
            "speed_limit_mps": np.array([lane.speed_limit_mps for lane in lanes]),
            "in_junction": np.array([lane.in_junction for lane in lanes]),
        }

    def agents(self) -> dict[str, np.ndarray]:
        """N agents now: id, category (N,), xy_in_local_m (N, 2), yaw_rad, speed_mps (N,), size_m (N, 3), lights."""
        a = self._open_world().state.agents
        return {"id": np.array(a.ids), "category": np.array(a.category), "xy_in_local_m": a.xy_in_local_m,
                "yaw_rad": a.yaw_rad, "speed_mps": a.speed_mps, "size_m": a.size_m, "brake_light": a.brake_light,
                "indicator": a.indicator}  # fmt: skip

    def lights(self) -> dict[str, np.ndarray]:
        """L heads now: id, lane_id, state (L,), stop_xy_in_local_m (L, 2), head_xyz_in_local_m (L, 3), yaw_rad."""
        s = self._open_world().state.lights
        return {"id": np.array(s.ids), "lane_id": np.array(s.lane_ids), "state": np.array(s.state),
                "stop_xy_in_local_m": s.stop_xy_in_local_m, "head_xyz_in_local_m": s.head_xyz_in_local_m,
                "yaw_rad": s.yaw_rad}  # fmt: skip

    def render(self) -> np.ndarray | None:
        """(320, 320, 3) uint8 from above."""
        world = self._open_world()
        return draw_bev(world.context, world.state) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        while self._views:
            self._views.popitem()[1].close()
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = self._view = None

    def _open_world(self) -> TownWorld:
        if self.world is None:
            raise UserError("the environment has no scene yet; call reset() first.")
        return self.world

    def _arc(self) -> float:
        world = self._open_world()
        arc, _ = project_on_polyline(world.state.ego.xy_in_local_m, world.context.route_xy_in_local_m)
        return float(arc)

    def _rules_broken(self) -> int:
        return sum(event.kind in ("red_light", "wrong_way", "speeding") for event in self._scorer.events)

    def _info(self) -> dict[str, Any]:
        world = self._open_world()
        return {"scene_id": world.scene.spec.scene_id, "time_s": world.time_s,
                "events": " ".join(event.kind for event in self._scorer.events), "failure": ""}  # fmt: skip

    def _observe(self) -> dict[str, np.ndarray]:
        world = self._open_world()
        ego, route = world.state.ego, route_of(world.context)
        arc, offset = (float(v) for v in route.project(ego.xy_in_local_m))
        turned = float(wrap_angle(ego.yaw_rad - float(route.heading(arc))))
        way, _ = pose_on_polyline(arc + AHEAD_M, route.xy_m)
        own = (ego.speed_mps, ego.acceleration_mps2, ego.curvature_1pm, offset, turned, world.context.target_speed_mps)
        found = {"ego": np.array(own), "route": to_frame(way, ego.xy_in_local_m, ego.yaw_rad),
                 "agents": self._agent_rows(), "lights": self._light_rows()}  # fmt: skip
        found = {name: np.clip(value, -_FAR, _FAR).astype(np.float32) for name, value in found.items()}
        if self._view is not None:
            found["camera"] = self._view.render(world.state)
        return found

    def _agent_rows(self) -> np.ndarray:
        agents, ego = self._open_world().state.agents, self._open_world().state.ego
        xy = to_frame(agents.xy_in_local_m, ego.xy_in_local_m, ego.yaw_rad)
        turned = agents.yaw_rad - ego.yaw_rad
        kinds = [float(AGENT_CATEGORIES.index(name)) for name in agents.category]
        rows = np.column_stack([np.ones(len(agents)), xy, np.cos(turned), np.sin(turned), agents.speed_mps,
                                agents.size_m[:, :2], kinds])  # fmt: skip
        return _nearest(rows, self.most_agents)

    def _light_rows(self) -> np.ndarray:
        lights, ego = self._open_world().state.lights, self._open_world().state.ego
        xy = to_frame(lights.stop_xy_in_local_m, ego.xy_in_local_m, ego.yaw_rad)
        shown = [float(LIGHT_STATES.index(name)) for name in lights.state]
        return _nearest(np.column_stack([np.ones(len(lights)), xy, shown]), 4)


def _failure(action: np.ndarray) -> str | None:
    """Why an action cannot be driven: 'wrong_shape', 'not_a_number', 'out_of_range', or None."""
    if action.shape != (2,):
        return "wrong_shape"
    if not np.isfinite(action).all():
        return "not_a_number"
    return "out_of_range" if (action < _LOW - 1e-6).any() or (action > _HIGH + 1e-6).any() else None


def _nearest(rows: np.ndarray, most: int) -> np.ndarray:
    """(most, D) rows by distance (columns 1 and 2), the missing ones all zero."""
    order = np.argsort(np.hypot(rows[:, 1], rows[:, 2]), kind="stable")[:most]
    return np.concatenate([rows[order], np.zeros((most - len(order), rows.shape[1]))])


def _even(line_xy_m: np.ndarray) -> np.ndarray:
    """(20, 2) points evenly along a line."""
    total, _ = project_on_polyline(line_xy_m[-1], line_xy_m)
    return pose_on_polyline(np.linspace(0.0, float(total), LANE_POINTS), line_xy_m)[0]


def vector(count: int, workers: bool = False, **options: Any) -> VectorEnv:
    """`count` environments side by side; `workers`: a process each. Options are TownEnv's."""
    makers = [lambda: TownEnv(**options) for _ in range(count)]
    return AsyncVectorEnv(makers, context="spawn") if workers else SyncVectorEnv(makers)


if "causaldrive/Town-v0" not in gymnasium.registry:
    gymnasium.register("causaldrive/Town-v0", entry_point="causaldrive.worlds.gym:TownEnv")
