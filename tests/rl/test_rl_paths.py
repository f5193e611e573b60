"""Paths that are drawn for one thought: what they are worth, what is learnt from them, and what stays as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rl_worlds import GO, SENTENCES, START_MPS, ToyPool, decision, straight_plan, toy_sample

from causaldrive.ground.errors import UserError
from causaldrive.rl.advantages import Judged, Lesson, Weights, lessons_of, path_lessons, word_lessons
from causaldrive.rl.config import RlConfig
from causaldrive.rl.learner import Learner, rows_of, spread, token_weights
from causaldrive.rl.parts import learnt
from causaldrive.rl.policy import PolicySettings, StudentPolicy
from causaldrive.rl.rewards import StepRewards, outcome_rewards, path_rewards
from causaldrive.rl.rollouts import Drawn, Job, Rollout, Spoken, jobs_of, roll
from causaldrive.student import checkpoint
from causaldrive.worlds.episode import DriveSettings, EpisodeResult
from causaldrive.worlds.path_trials import Outcome
from causaldrive.worlds.scenes import draw_specs
from causaldrive.worlds.scoring import Event, Score

SETTINGS = DriveSettings(duration_s=3.1)
ONLY_PATHS = Weights(0.0, 0.0, 1.0)


def drawn(offset_m: float, given: int = 2, text: str = SENTENCES[1]) -> Drawn:
    """A path at steady speed that has left the lane's centre by so much after three seconds."""
    t_s = np.arange(1, 65) * 0.1
    xy = np.stack([START_MPS * t_s, offset_m * t_s / 3], axis=1)
    spoken = Spoken(toy_sample(False), (1, 2, 3, 4), np.zeros(4, np.float32), 4, given=given)
    return Drawn(spoken, text, given, xy, np.full(64, np.arctan2(offset_m / 3, START_MPS)))


def judged(*offsets_m: float, text: str = SENTENCES[1]) -> Judged:
    """One decision with a path of its own that keeps the lane, and other paths drawn beside it."""
    plan = straight_plan(START_MPS)
    paths = [drawn(offset, text=text) for offset in offsets_m]
    all_xy = np.stack([plan.xy_in_rig_m, *(path.xy_in_rig_m for path in paths)])
    made = decision(16, replace(plan, samples_xy_in_rig_m=all_xy), START_MPS, text, GO)
    result = EpisodeResult(draw_specs(1, 500_000)[0], [], [made], [], None)
    driven = replace(paths[0].words, token_ids=paths[0].word_ids)
    rollout = Rollout(Job(0, 0, result.spec), [driven], result, drawn=[paths])
    return Judged(rollout, 0, StepRewards(0.0, 0.0, 1.0, 5, True))


def rewards_of(one: Judged) -> np.ndarray:
    assert one.rollout.result is not None
    return path_rewards(one.rollout.result.decisions[0], one.rollout.drawn[0])


def test_a_path_is_worth_whether_it_does_what_the_words_say():
    found = rewards_of(judged(0.0, 0.5, 0.9, -2.0, 4.0))
    assert found[:, 1].tolist() == [1.0, 0.75, 0.5, 0.25, 0.0] and found[:, 0].all()
    assert not rewards_of(judged(0.0, 1.5, text=SENTENCES[0]))[:, 0].any()  # "stop", and it drives on
    assert not rewards_of(judged(0.0, 1.5, text="nothing that can be read")).any()


def test_the_path_that_keeps_to_the_words_gains_the_other_loses_in_what_it_says_of_that_axis():
    found = path_lessons([judged(0.0, 1.5)], ONLY_PATHS).rows
    assert [np.sign(row.advantage) for row in found] == [1.0, -1.0]
    assert [(row.spoken.given, row.spoken.every) for row in found] == [(3, 2)] * 2  # curvature alone
    assert sum(row.advantage for row in found) == pytest.approx(0.0)
    doubled = path_lessons([judged(0.0, 1.5)], Weights(5.0, 5.0, 2.0)).rows
    assert doubled[0].advantage == pytest.approx(2 * found[0].advantage)


def test_of_a_path_only_what_the_words_are_judged_by_answers_for_it():
    whole = replace(drawn(1.5).spoken, token_ids=tuple(range(2 + 128)), logprobs=np.zeros(130, np.float32), chosen=130)
    ahead = [replace(drawn(offset), spoken=whole) for offset in (0.0, 1.5)]
    one = judged(0.0, 1.5)
    one.rollout.drawn[0] = ahead
    along, aside = (ahead[0].of_axis(axis, seconds).places for axis, seconds in ((0, 4.0), (1, 3.0)))
    assert list(along) == list(range(2, 82, 2)) and list(aside) == list(range(3, 62, 2))  # 40 and 30 steps
    assert [row.spoken.places for row in path_lessons([one], ONLY_PATHS).rows] == [aside] * 2
    tried_longer = path_lessons([one], ONLY_PATHS, 5.0).rows
    assert [list(row.spoken.places) for row in tried_longer] == [list(range(3, 102, 2))] * 2


def test_a_path_is_compared_with_its_twin_alone_where_they_are_mirrored():
    """Both of the first twins fail, which says nothing of the side; of the others the one that keeps its lane gains."""
    rows = path_lessons([judged(2.0, -2.0, 0.0, 1.5)], ONLY_PATHS, mirrored=True).rows
    assert [row.spoken.every for row in rows] == [2, 2] and rows[0].advantage == -rows[1].advantage > 0
    compared = path_lessons([judged(2.0, -2.0, 0.0, 1.5)], ONLY_PATHS).rows
    assert len(compared) == 4  # with all of them, those that went too far are blamed, whatever their side
    assert path_lessons([judged(2.0, -2.0)], ONLY_PATHS, mirrored=True).rows == []


def test_paths_that_are_all_alike_teach_nothing_and_are_counted():
    found = path_lessons([judged(0.0, 0.1), judged(2.0, 2.2)], ONLY_PATHS)
    assert found.rows == [] and found.without_variance == 8


def test_words_do_not_answer_for_what_their_paths_answer_for():
    one, other = judged(0.0, 1.5), judged(0.0, 1.5)
    for each in (one, other):
        assert each.rollout.result is not None
        each.rollout.result.score = Score(False, False, False, False, False, 50.0, 1.0, 1.0, 1.0)
    other = replace(other, rollout=replace(other.rollout, job=replace(other.rollout.job, member=1)),
                    rewards=replace(other.rewards, consistency=0.0))  # fmt: skip
    assert lessons_of([one, other], ONLY_PATHS).rows == []
    alone = [replace(each, rollout=replace(each.rollout, drawn=[])) for each in (one, other)]
    assert [np.sign(row.advantage) for row in lessons_of(alone, ONLY_PATHS).rows] == [1.0, -1.0]


# --- paths that were tried -------------------------------------------------------------------------------------------


def tried(*outcomes: Outcome, text: str = SENTENCES[1]) -> Judged:
    """One decision at which GO is true, with paths that all keep to the words and lead there."""
    one = judged(*[0.0] * len(outcomes), text=text)
    assert one.rollout.result is not None
    one.rollout.result.decisions[0] = replace(one.decision, outcomes=list(outcomes))
    return one


def advantages_by_axis(one: Judged) -> tuple[list[float], list[float]]:
    """Of the paths that teach something of (acceleration, curvature), with the drive reward alone."""
    rows = path_lessons([one], Weights(1.0, 0.0, 0.0)).rows
    first = one.rollout.drawn[0][0].spoken.given
    sides = [[row.advantage for row in rows if row.spoken.given == first + axis] for axis in (0, 1)]
    return sides[0], sides[1]


def test_the_path_that_leads_to_where_the_expert_would_be_gains_on_that_axis():
    along, aside = advantages_by_axis(tried(Outcome(0.1, 0.2, ()), Outcome(4.0, 0.2, ())))
    assert along[0] > 0 > along[1] and aside == []
    along, aside = advantages_by_axis(tried(Outcome(0.1, 0.9, ()), Outcome(0.1, 0.1, ())))
    assert aside[0] < 0 < aside[1] and along == []


def test_harm_that_is_the_cars_own_costs_on_both_axes():
    hit, hit_by = (Event("collision", 1, "front hit with car a", at_fault) for at_fault in (True, False))
    along, aside = advantages_by_axis(tried(Outcome(0.1, 0.1, (hit,)), Outcome(0.1, 0.1, ())))
    assert along[0] < 0 < along[1] and aside[0] < 0 < aside[1]
    assert advantages_by_axis(tried(Outcome(0.1, 0.1, (hit_by,)), Outcome(0.1, 0.1, ()))) == ([], [])


def test_where_the_words_are_wrong_the_path_is_not_asked_where_it_leads():
    wrong = tried(Outcome(0.1, 0.9, ()), Outcome(4.0, 0.1, ()), text=SENTENCES[0])  # "stop" on a clear road
    along, aside = advantages_by_axis(wrong)
    assert along == [] and aside[0] < 0 < aside[1]
    assert np.isnan(outcome_rewards(judged(0.0, 1.5).decision, judged(0.0, 1.5).rollout.drawn[0])).all()  # not tried


# --- words of their own ---------------------------------------------------------------------------------------------


def worded(driven: str, *others: str, reasoning: float) -> Judged:
    """One decision at which GO is true, with other words drawn beside the driven ones."""
    one = judged(*[0.0] * len(others), text=driven)
    paths = [drawn(0.0, text=text) for text in others]
    for number, path in enumerate(paths):
        paths[number] = replace(path, spoken=replace(path.spoken, token_ids=(90 + number, 2, 3, 4)))
    one.rollout.drawn[0] = paths
    assert one.rollout.result is not None
    one.rollout.result.score = Score(False, False, False, False, False, 50.0, 1.0, 1.0, 1.0)
    return replace(one, rewards=replace(one.rewards, reasoning=reasoning))


def test_words_are_compared_with_those_drawn_at_the_same_decision():
    one = worded(SENTENCES[0], SENTENCES[1], SENTENCES[0], "no words", reasoning=0.3)
    right, wrong, unreadable = word_lessons([one], Weights(0.0, 1.0, 0.0)).rows
    assert right.advantage > 0 > wrong.advantage > unreadable.advantage
    driven = lessons_of([one], Weights(0.0, 1.0, 0.0)).rows
    assert [row.advantage for row in driven] == [pytest.approx(wrong.advantage)]  # the same words, worth the same
    assert right.spoken.given == 0 and list(right.spoken.places) == [0, 1]  # nothing of the path


def test_words_that_all_say_the_same_teach_nothing():
    found = word_lessons([worded(SENTENCES[1], SENTENCES[1], SENTENCES[1], reasoning=1.0)], Weights(0.0, 1.0, 0.0))
    assert found.rows == [] and found.without_variance == 2
    assert word_lessons([judged(0.0, 1.5)], Weights(0.0, 1.0, 0.0)).rows == []  # paths of the driven words alone


# --- with a student --------------------------------------------------------------------------------------------------


@pytest.fixture
def learner(student: Path) -> Learner:
    config = RlConfig(student, student.parent / "out", mode="tokens", part="words", paths=3, minibatch=100, epochs=4,
                      temperature=0.8, kl_weight=0.0, clip_low=10.0, clip_high=10.0, learning_rate=1e-2)  # fmt: skip
    config.validate()
    return Learner(*checkpoint.load(student), config)


def rollouts_of(learner: Learner) -> list[Rollout]:
    settings = PolicySettings(mode="tokens", temperature=0.8, top_p=1.0, num_samples=4, one_thought=True,
                              greedy_path=True)  # fmt: skip
    policy = StudentPolicy(learner.model, learner.processor, settings)
    return roll(jobs_of(draw_specs(2, 500_000), 2), policy, ToyPool(SETTINGS), 8, "test")


def test_every_decision_keeps_its_other_paths_for_the_same_words(learner):
    for rollout in rollouts_of(learner):
        assert len(rollout.drawn) == len(rollout.spoken) == 3
        for spoken, others in zip(rollout.spoken, rollout.drawn, strict=True):
            assert len(others) == 3
            assert all(path.spoken.token_ids[: path.spoken.given] == spoken.token_ids for path in others)
            assert all(len(path.spoken.token_ids) == len(path.spoken.logprobs) for path in others)


def path_rows(learner: Learner, advantage: float) -> list[Lesson]:
    return [Lesson(path.spoken, (index,), advantage)
            for index, rollout in enumerate(rollouts_of(learner)) for path in rollout.drawn[0]]  # fmt: skip


def test_lessons_of_one_answer_are_computed_once_and_teach_what_they_teach_apart(learner, monkeypatch):
    answers = [path for rollout in rollouts_of(learner) for path in rollout.drawn[0]]
    lessons = [Lesson(spoken, (index,), float(advantage)) for index, path in enumerate(answers)
               for spoken, advantage in ((path.words, 1.0 - index), (path.of_axis(0), 0.5), (path.of_axis(1), -index))
               ]  # fmt: skip
    assert sorted(map(sorted, rows_of(lessons))) == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(len(answers))]
    twice = rows_of([lessons[0], lessons[1], lessons[1]])  # the same tokens twice count twice
    assert sorted(map(sorted, twice)) == [[0, 1], [2]]

    def loss_and_gradients() -> tuple[float, list[torch.Tensor]]:
        learner.model.zero_grad()
        [part] = learner.prepare(lessons)
        loss, _ = learner._loss(part)
        loss.backward()
        return loss.item(), [p.grad.clone() for p in learnt(learner.model).values() if p.grad is not None]

    together, merged = loss_and_gradients()
    monkeypatch.setattr("causaldrive.rl.learner.rows_of", lambda found: [[index] for index in range(len(found))])
    apart, separate = loss_and_gradients()
    assert together == pytest.approx(apart, rel=1e-5) and abs(together) > 1e-3
    for one, other in zip(merged, separate, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def logprobs(learner: Learner, rows: list[Lesson]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        batch, new = learner.logprobs([row.spoken for row in rows])
    mask = token_weights(batch, [[(row.spoken, 1.0)] for row in rows])[1]
    return new, spread([row.spoken.logprobs for row in rows], batch.completion_mask), mask


def test_the_trainer_recomputes_the_logprobs_of_drawn_paths(learner):
    rows = path_rows(learner, 1.0)
    new, old, mask = logprobs(learner, rows)
    assert mask.sum(1).tolist() == [learner.model.config.tokens_per_future_traj] * len(rows)
    assert (new - old)[mask].abs().max() < 1e-4


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_path_becomes_likelier_when_it_is_worth_it_and_words_stay(learner, advantage):
    rows = path_rows(learner, advantage)
    head, start = learner.model.vlm.lm_head.weight, learner.model.config.traj_token_start_idx
    before = head.detach().clone()
    learner.learn(rows)
    new, old, mask = logprobs(learner, rows)
    assert ((new - old)[mask].exp().mean().item() - 1.0) * advantage > 1e-4
    assert torch.equal(head[:start], before[:start])  # text stands before the bins


@pytest.mark.parametrize(("changes", "said"), [({"paths": 1}, "paths is 1"), ({"mode": "flow"}, "paths is 3")])
def test_paths_that_cannot_be_compared_are_refused(learner, changes, said):
    with pytest.raises(UserError, match=said):
        replace(learner.config, **changes).validate()
