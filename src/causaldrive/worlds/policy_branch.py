"""A branch driven by a policy: what it sees is drawn anew from the (edited) past and present, then it drives on.

Branches are generators: they yield observations and are sent plans, so that one policy can answer many branches at
once (`answer_all`). Knows nothing of what policies say: `read` turns their words into a decision.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np

from causaldrive.ground.words import FUTURE_STEPS, STEP_S, STEP_US
from causaldrive.worlds.counterfactual import Branch, Decision
from causaldrive.worlds.episode import DriveSettings, Observation, Plan, PlanFollower, observation_of, problem_of
from causaldrive.worlds.pool import Asked
from causaldrive.worlds.world import DrivenWorld

Answer = Plan | Exception
Asking = Generator[Observation, Answer, Any]
Read = Callable[[str], Decision]
UNREAD = Decision(None, None, None)


def policy_branch(
    world: DrivenWorld, scene_id: str, renderer: Any, settings: DriveSettings, read: Read,
    seconds: float = FUTURE_STEPS * STEP_S,
) -> Generator[Observation, Answer, Branch]:  # fmt: skip
    """Drive on from now, one decision per `settings.decision_every_s`; the world is left at the branch's end.

    `renderer` (None without camera) opens the world's present context, so an edited road is seen as edited.
    """
    view = renderer.open(world.context) if renderer is not None else None
    states, truths, decision, failure = [world.state], [], UNREAD, None
    until_us = world.state.t_us + round(seconds / STEP_S) * STEP_US
    try:
        while world.state.t_us < until_us and not world.at_end:
            seen = observation_of(scene_id, world, _frames(world, view, settings))
            truths.append(((len(states) - 1) * STEP_S, seen.truth))
            plan = yield seen
            failure = problem_of(plan)
            if failure is not None or isinstance(plan, Exception):
                break
            decision = read(plan.text) if len(states) == 1 else decision
            states += _follow(world, plan, settings, until_us)
    finally:
        if view is not None:
            view.close()
    return Branch(world.context, states, decision, None if failure is None else str(failure), truths)


def _frames(world: DrivenWorld, view: Any, settings: DriveSettings) -> np.ndarray | None:
    """Pictures of the kept past as it is now remembered, oldest first."""
    if view is None:
        return None
    back = [min(max(round(-offset / STEP_S), 0), len(world.history) - 1) for offset in settings.frame_offsets_s]
    return np.stack([view.render(world.history[-1 - steps]) for steps in back])


def _follow(world: DrivenWorld, plan: Plan, settings: DriveSettings, until_us: int) -> Iterator[Any]:
    start = world.state.ego
    follower = PlanFollower(plan, start.xy_in_local_m, start.yaw_rad, start.speed_mps, settings.track)
    for step in range(round(settings.decision_every_s / STEP_S)):
        if world.state.t_us >= until_us or world.at_end:
            return
        yield world.step(*follower.control(step, world.state.ego))


def answer_all(askings: Sequence[Asking], asked: Asked, batch: int) -> Iterator[tuple[int, Any]]:
    """Run generators side by side, at most `batch` at a time, with one policy; yields (index, what it returned)."""
    waiting = list(enumerate(askings))[::-1]
    running: dict[int, tuple[Asking, Observation]] = {}
    while waiting or running:
        answers: dict[int, tuple[Asking, Answer | None]] = {}
        if running:
            keys = sorted(running)
            plans = asked.act([running[key][1] for key in keys])
            answers = {key: (running[key][0], plan) for key, plan in zip(keys, plans, strict=True)}
        while waiting and len(answers) < batch:
            key, asking = waiting.pop()
            answers[key] = (asking, None)
        running = {}
        for key, (asking, plan) in sorted(answers.items()):
            try:
                running[key] = (asking, asking.send(plan))  # type: ignore[arg-type]
            except StopIteration as end:
                yield key, end.value
