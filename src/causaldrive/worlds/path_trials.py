"""Where each of several paths leads: driven on from one moment, each in a branch of its own, beside the expert's way.

    along = mean_t |s_t - s*_t|       aside = mean_t |d_t - d*_t|       s, d: arc and offset along the route, t <= T

s*, d* are where the expert, who knows everything, comes from the same moment. A path is followed as planned, without a
second thought, and its own events are noted. The world is as it was afterwards. Knows nothing of who drew the paths
or of what they are worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from causaldrive.ground.words import STEP_S
from causaldrive.worlds.counterfactual import expert_branch, places_along
from causaldrive.worlds.scoring import Event, Scorer
from causaldrive.worlds.state import EgoState
from causaldrive.worlds.world import DrivenWorld

Following = Callable[[int, EgoState], tuple[float, float]]  # (tick, ego) -> (acceleration, curvature)


@dataclass(frozen=True)
class Outcome:
    """Where a path leads within the trial's time, in metres from where the expert would be, and what happens."""

    along_m: float
    aside_m: float
    events: tuple[Event, ...]


def try_paths(world: DrivenWorld, scorer: Scorer, paths: Sequence[Following], seconds: float) -> list[Outcome]:
    """One outcome a path. `scorer` has seen everything up to now, and sees nothing of the trials."""
    saved = world.snapshot()
    try:
        reference = expert_branch(world, seconds).along_route()
        outcomes = []
        for path in paths:
            world.restore(saved)
            outcomes.append(_outcome(world, scorer.fork(), path, seconds, reference))
    finally:
        world.restore(saved)
    return outcomes


def _outcome(world: DrivenWorld, scorer: Scorer, path: Following, seconds: float, reference: np.ndarray) -> Outcome:
    states = [world.state]
    for tick in range(round(seconds / STEP_S)):
        if world.at_end or scorer.fatal:
            break
        states.append(world.step(*path(tick, world.state.ego)))
        scorer.add(states[-1])
    count = min(len(states), len(reference))
    along, aside = np.abs(places_along(states[:count], world.context) - reference[:count]).mean(axis=0)
    return Outcome(float(along), float(aside), tuple(scorer.events))
