"""What a driver does with and without something: two branches from one moment, and how they differ.

    ade       = mean_t |(s, d)_t - (s', d')_t|     s, d: arc and offset along each branch's own route, t <= 6.4 s
    moved     = max_t |v_t - v'_t| >= 0.5 m/s   or   max_t |d_t - d'_t| >= 0.3 m

Places are compared along the route, so that a straightened road can be compared with the bent one. Both branches are
exact repetitions of one another up to the act, so any difference is its effect; the limits only say from where on a
difference is worth a word: 0.5 m/s is the least drop of speed that the label rules call slowing, 0.3 m the least
offset that the expert calls a nudge. Knows nothing of how branches are chosen, of rendering, or of the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from causaldrive.clips.geometry import project_on_polyline
from causaldrive.ground.words import FUTURE_STEPS, STEP_S, STEP_US
from causaldrive.worlds.expert import ExpertDriver, Explanation, explain
from causaldrive.worlds.interventions import Intervention, act
from causaldrive.worlds.state import SceneContext, WorldState
from causaldrive.worlds.world import DrivenWorld

MOVED_MPS, MOVED_ASIDE_M = 0.5, 0.3


@dataclass(frozen=True)
class Decision:
    """What a driver says at one moment. None where it does not say."""

    longitudinal: str | None
    lateral: str | None
    direction: str | None

    @staticmethod
    def of(explanation: Explanation) -> Decision:
        return Decision(explanation.longitudinal, explanation.lateral, explanation.direction)

    @property
    def in_words(self) -> str:
        sideways = " ".join(part for part in (self.lateral, self.direction) if part)
        return ", ".join(part.replace("_", " ") for part in (self.longitudinal, sideways) if part)


def places_along(states: Sequence[WorldState], context: SceneContext) -> np.ndarray:
    """(T, 2) arc and offset of the rear axle along the route."""
    xy = np.array([state.ego.xy_in_local_m for state in states])
    return np.stack(project_on_polyline(xy, context.route_xy_in_local_m), axis=1)


@dataclass(frozen=True)
class Branch:
    """One drive on from a moment: `states[0]` is that moment. `failure` says why it ended early."""

    context: SceneContext
    states: list[WorldState]
    decision: Decision  # at the moment itself
    failure: str | None = None
    truths: list[tuple[float, Explanation]] = field(default_factory=list)  # (seconds, the expert's view), where known

    def along_route(self) -> np.ndarray:
        """(T, 2) arc and offset of the rear axle."""
        return places_along(self.states, self.context)

    def speeds_mps(self) -> np.ndarray:
        return np.array([state.ego.speed_mps for state in self.states])


@dataclass(frozen=True)
class Effect:
    """How a branch differs from another one: what is decided, per axis, and where it leads."""

    longitudinal: bool  # another decision is stated
    lateral: bool  # another one, or another side
    ade_m: float
    speed_mps: float  # largest difference
    aside_m: float  # largest difference of the offset from the route
    seconds: float  # over which they are compared
    onset_s: float | None  # when the motion first differs by more than the limits

    @property
    def moved(self) -> bool:
        return self.onset_s is not None

    @property
    def decided(self) -> bool:
        return self.longitudinal or self.lateral


def effect_between(one: Branch, two: Branch, until_s: float = FUTURE_STEPS * STEP_S) -> Effect:
    """Compare two branches of one moment over at most `until_s`, and not beyond the end of the shorter one."""
    count = min(len(one.states), len(two.states), round(until_s / STEP_S) + 1)
    places = np.abs(one.along_route()[:count] - two.along_route()[:count] - _start_gap(one, two))
    speed = np.abs(one.speeds_mps()[:count] - two.speeds_mps()[:count])
    beyond = np.flatnonzero((speed >= MOVED_MPS) | (places[:, 1] >= MOVED_ASIDE_M))
    return Effect(
        longitudinal=one.decision.longitudinal != two.decision.longitudinal,
        lateral=(one.decision.lateral, one.decision.direction) != (two.decision.lateral, two.decision.direction),
        ade_m=float(np.linalg.norm(places[1:], axis=1).mean()) if count > 1 else 0.0,
        speed_mps=float(speed.max()),
        aside_m=float(places[:, 1].max()),
        seconds=(count - 1) * STEP_S,
        onset_s=float(beyond[0] * STEP_S) if len(beyond) else None,
    )


def _start_gap(one: Branch, two: Branch) -> np.ndarray:
    """(2,) the two routes may count their arcs from different places; both branches start at the same one."""
    first, second = (Branch(b.context, b.states[:1], b.decision).along_route()[0] for b in (one, two))
    return first - second


@contextmanager
def changed(world: DrivenWorld, interventions: Sequence[Intervention]) -> Iterator[DrivenWorld]:
    """The world with the acts carried out; as it was again at the end. Raises CannotIntervene."""
    saved = world.snapshot()
    try:
        act(world, interventions)
        yield world
    finally:
        world.restore(saved)


def expert_branch(world: DrivenWorld, seconds: float = FUTURE_STEPS * STEP_S) -> Branch:
    """The privileged expert drives on from now; the world is left at the branch's end."""
    decision = Decision.of(explain(world.history, world.context))
    driver, states = ExpertDriver(world.context), [world.state]
    until_us = world.state.t_us + round(seconds / STEP_S) * STEP_US
    while world.state.t_us < until_us and not world.at_end:
        world.step(*driver.control(world.history))
        states.append(world.state)
    return Branch(world.context, states, decision)
