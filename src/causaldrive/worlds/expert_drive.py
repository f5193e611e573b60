"""The expert drives a scene from start to end, pushed off its course or looking away now and then when asked.

A push is not the expert's intention; the way back is. It teaches a student to recover. A driver who looked away sees
late, and acts from where nobody who looks ever is: near, and not yet slowing. It teaches a student to act on what is
there, and not on what it is doing already. Reads a `Scene`, writes nothing. Knows nothing of cameras or files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from causaldrive.clips.geometry import rotate
from causaldrive.ground.words import STEP_S, STEP_US
from causaldrive.worlds.expert import ExpertDriver, Explanation, explain
from causaldrive.worlds.families.draft import Scene, SceneSpec
from causaldrive.worlds.state import AgentArrays, EgoState, LightArrays, SceneContext, WorldState
from causaldrive.worlds.town import TownWorld

_CALM_MPS2 = -0.8  # nobody is pushed while braking harder than this; nobody looks away before
_LOOKS_UP_MPS2 = -3.5  # a driver who looks away looks up when this much braking is needed
_LOOKS_UP_EVERY_S = 0.5  # and at such times, where labels lie


@dataclass(frozen=True)
class Push:
    """Added to the expert's command between two scene times."""

    start_s: float
    end_s: float
    acceleration_mps2: float
    lateral_mps2: float  # becomes curvature by 1 / v^2


@dataclass(frozen=True)
class Disturbance:
    """Where the ego starts off its course, when it is pushed, and how long its driver looks away at a first cause."""

    offset_m: float = 0.0
    yaw_rad: float = 0.0
    pushes: tuple[Push, ...] = ()
    late_s: float = 0.0


@dataclass(frozen=True)
class Drive:
    """What happened: states at 10 Hz, and an explanation of each."""

    scene: Scene
    states: list[WorldState]
    explanations: list[Explanation]
    pushed_us: list[tuple[int, int]]  # when a push was really given, or the driver looked away

    @property
    def context(self) -> SceneContext:
        return self.scene.context

    def key_t_us(self) -> int:
        """The moment to look at: the focus has just become a cause; else it is about 20 m ahead; else the middle."""
        kind, agent = self.scene.focus_kind, self.scene.focus_id
        for state, explanation in zip(self.states, self.explanations, strict=True):
            if any(c.kind == kind and agent in (None, c.agent_id) for c in explanation.causes):
                return min(state.t_us + 5 * STEP_US, self.states[-1].t_us)
        return min(self.states, key=lambda s: (abs(_distance_m(s, agent) - 20.0), abs(s.t_us - 5_000_000))).t_us


def _distance_m(state: WorldState, name: str | None) -> float:
    """How far ahead an agent or a light is; 20 m for the road itself."""
    for ids, xy in (
        (state.agents.ids, state.agents.xy_in_local_m),
        (state.lights.ids, state.lights.stop_xy_in_local_m),
    ):
        if name in ids:
            return float(rotate(xy[ids.index(name)] - state.ego.xy_in_local_m, -state.ego.yaw_rad)[0])
    return 20.0


def draw_disturbance(spec: SceneSpec, share: float, late_share: float = 0.0) -> Disturbance | None:
    """A push for `share` of all scenes, a driver who looks away for `late_share` of them, None for the others.

    Decided by the seed. One push a drive, and early: no moment whose next 6.4 s hold a push can be learnt from, so a
    second one would spoil the way back from the first, and one near the end would have no way back.
    """
    rng = np.random.default_rng([spec.seed, 7, int(spec.harmless)])
    drawn = rng.random()
    if drawn >= share:
        return Disturbance(late_s=float(rng.uniform(0.6, 2.0))) if drawn < share + late_share else None
    push = _draw_push(rng, float(rng.uniform(1.0, 6.0)))
    return Disturbance(float(rng.uniform(-0.9, 0.9)), float(rng.uniform(-0.08, 0.08)), (push,))


def disturbance_of(spec: SceneSpec, meta: Mapping[str, Any]) -> Disturbance | None:
    """The disturbance that a recording of this scene had, by what its `meta` holds."""
    if late_s := meta.get("late_s"):
        return Disturbance(late_s=late_s)
    return draw_disturbance(spec, 1.0) if meta.get("disturbed") else None


def _draw_push(rng: np.random.Generator, start_s: float) -> Push:
    along = float(rng.choice([0.0, rng.uniform(-2.0, 1.5)]))
    across = float(rng.choice([-1.0, 1.0]) * rng.uniform(1.0, 2.2))
    return Push(start_s, start_s + float(rng.uniform(0.4, 0.8)), along, across)


def drive(scene: Scene, duration_s: float, disturbance: Disturbance | None = None) -> Drive:
    """Drive until the scene is over, its road ends, or `duration_s` have passed."""
    states, explanations, pushed = [], [], []
    for world, said, is_willed in driving(scene, duration_s, disturbance):
        states.append(world.state)
        explanations.append(said)
        if not is_willed:
            pushed.append(world.state.t_us)
        scene = world.scene
    return Drive(scene, states, explanations, list(_spans(pushed)))


def driving(
    scene: Scene, duration_s: float, disturbance: Disturbance | None = None
) -> Iterator[tuple[TownWorld, Explanation, bool]]:
    """The world at each tick of such a drive, what the expert says there, and whether the step to come is its will.

    The world is one and the same; it steps on when the next tick is asked for, from wherever it then is.
    """
    disturbance = disturbance or Disturbance()
    world = TownWorld(replace(scene, ego=_displaced(scene.ego, disturbance)))
    driver, gaze = ExpertDriver(world.context), _Gaze(disturbance.late_s)
    while True:
        said = explain(world.history, world.context)
        over = world.finished or world.time_s >= duration_s - 1e-6
        due = [] if over else _active(disturbance, world.time_s, said)
        looks_away = not over and gaze.is_away(world.time_s, said)
        yield world, said, not (due or looks_away)
        if over:
            return
        history = [_emptied(state) for state in world.history] if looks_away else world.history
        acceleration, curvature = driver.command(history, explain(history, world.context) if looks_away else said)
        for push in due:
            acceleration += push.acceleration_mps2
            curvature += push.lateral_mps2 / max(world.state.ego.speed_mps, 4.0) ** 2
        world.step(acceleration, curvature)


class _Gaze:
    """Looks away once, for `late_s` after the first cause to act, less when it becomes urgent."""

    def __init__(self, late_s: float):
        self._late_s = late_s
        self._since_s: float | None = None
        self._is_away = False

    def is_away(self, time_s: float, now: Explanation) -> bool:
        if self._since_s is None and self._late_s and _has_to_act(now):
            self._since_s, self._is_away = time_s, True
        if self._is_away and self._since_s is not None:
            over = time_s >= self._since_s + self._late_s and _on_grid(time_s)
            self._is_away = not over and now.acceleration_mps2 > _LOOKS_UP_MPS2
        return self._is_away


def _has_to_act(now: Explanation) -> bool:
    """For something on the road; the road itself is known to one who looks away."""
    named = any(cause.agent_id for cause in now.causes)
    return named and (now.acceleration_mps2 < _CALM_MPS2 or now.lateral != "lane_keeping")


def _on_grid(time_s: float) -> bool:
    return abs(time_s / _LOOKS_UP_EVERY_S - round(time_s / _LOOKS_UP_EVERY_S)) < 1e-6


def _emptied(state: WorldState) -> WorldState:
    """What one sees who knows the road and looks at nothing on it."""
    return replace(state, agents=AgentArrays(), lights=LightArrays())


def _displaced(ego: EgoState, disturbance: Disturbance) -> EgoState:
    aside = rotate(np.array([0.0, disturbance.offset_m]), ego.yaw_rad)
    return replace(ego, xy_in_local_m=ego.xy_in_local_m + aside, yaw_rad=ego.yaw_rad + disturbance.yaw_rad)


def _active(disturbance: Disturbance, time_s: float, now: Explanation) -> list[Push]:
    """Pushes due now; none while the driver is busy with something, so that a push never makes an accident."""
    if now.lateral != "lane_keeping" or now.acceleration_mps2 < _CALM_MPS2:
        return []
    return [p for p in disturbance.pushes if p.start_s <= time_s < p.end_s]


def _spans(times_us: list[int]) -> Iterator[tuple[int, int]]:
    """Times 0.1 s apart, joined into (start, end)."""
    start = 0
    for i, t_us in enumerate(times_us):
        if i + 1 == len(times_us) or times_us[i + 1] - t_us > round(STEP_S * 1e6):
            yield times_us[start], t_us + STEP_US
            start = i + 1
