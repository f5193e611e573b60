"""The expert's answers at the student's own places: which are kept, and what is learnt from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from rl_worlds import GO, SENTENCES, START_MPS, STOP, decision, straight_plan, toy_sample

from causaldrive.ground.errors import UserError
from causaldrive.rl.advantages import Judged
from causaldrive.rl.config import RlConfig
from causaldrive.rl.dagger import ShownAnswer, shown_answers
from causaldrive.rl.learner import Learner
from causaldrive.rl.parts import learnt
from causaldrive.rl.rewards import StepRewards
from causaldrive.rl.rollouts import Job, Rollout, Spoken
from causaldrive.student import checkpoint
from causaldrive.worlds.episode import EpisodeResult, Plan, Shown
from causaldrive.worlds.explanation import Explanation
from causaldrive.worlds.scenes import draw_specs


def shown(plan: Plan, offset_m: float = 0.0) -> Shown:
    return Shown(plan.xy_in_rig_m, plan.yaw_rad, np.linspace(0.0, offset_m, 65))


def judged(truth: Explanation, way: Shown | None) -> Judged:
    """A decision at which the student said something else, and the expert would drive `way`."""
    made = replace(decision(16, straight_plan(START_MPS), START_MPS, "what?", truth), shown=way)
    result = EpisodeResult(draw_specs(1, 500_000)[0], [], [made], [], None)
    spoken = Spoken(toy_sample(truth is STOP), (1, 2), np.zeros(2, np.float32), 2)
    return Judged(Rollout(Job(0, 0, result.spec), [spoken], result), 0, StepRewards(0.0, 0.0, 0.0, 0, False))


STEADY, BRAKING = straight_plan(START_MPS), straight_plan(START_MPS, -2.5)


def test_an_answer_is_what_the_student_saw_with_what_the_expert_says_and_does():
    one = judged(STOP, shown(BRAKING))
    (answer,) = shown_answers([one])
    seen = one.rollout.spoken[0].sample
    assert answer.trace == SENTENCES[0] and answer.decision_class == (STOP.longitudinal, "lane_keeping", "red_light")
    assert answer.sample.frames is seen.frames and answer.sample.history_xyz_in_rig_m is seen.history_xyz_in_rig_m
    assert answer.sample.future_xyz_in_rig_m is not None
    assert np.array_equal(answer.sample.future_xyz_in_rig_m[:, :2], BRAKING.xy_in_rig_m)
    answer.sample.validate()


def test_an_expert_that_does_not_do_what_it_says_or_was_not_asked_is_left_out():
    assert shown_answers([judged(STOP, shown(STEADY)), judged(GO, shown(STEADY, 3.0)), judged(GO, None)]) == []
    assert len(shown_answers([judged(GO, shown(STEADY))])) == 1


def learner_of(student, **changes) -> Learner:
    return Learner(*checkpoint.load(student), RlConfig(student, student.parent / "out", anchor_batch=4, **changes))


def answers(count: int) -> list[ShownAnswer]:
    both = shown_answers([judged(STOP, shown(BRAKING)), judged(GO, shown(STEADY))])
    return [both[i % 2] for i in range(count)]


def test_without_lessons_it_is_imitation_and_the_expert_becomes_likelier(student):
    learner = learner_of(student, dagger_weight=1.0, epochs=3, learning_rate=3e-3, iterations=4)
    first, second = (learner.learn([], answers(10)) for _ in range(2))
    assert first["optimizer_steps"] == 9 and second["dagger_loss"] < first["dagger_loss"]
    assert first["kl"] == 0.0 and first["entropy"] == 0.0


@pytest.mark.parametrize(("weight", "count"), [(0.0, 10), (1.0, 0)])
def test_where_it_counts_nothing_or_nothing_was_shown_nothing_moves(student, weight, count):
    learner = learner_of(student, dagger_weight=weight)
    before = {name: value.detach().clone() for name, value in learnt(learner.model).items()}
    stats = learner.learn([], answers(count))
    assert stats["optimizer_steps"] == 0 and "dagger_loss" not in stats
    assert all(torch.equal(before[name], value) for name, value in learnt(learner.model).items())


def test_an_answer_that_is_not_a_number_stops_the_run(student):
    learner = learner_of(student, dagger_weight=float("inf"))
    with pytest.raises(UserError, match="the loss of round 0 is inf; a finite one expected"):
        learner.learn([], answers(4))
