"""Advantages and learning: what is compared with what, which weights move, and that ratios start at one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from rl_worlds import SENTENCES, ToyPool, coasting, episode, toy_sample

from causaldrive.ground.errors import UserError
from causaldrive.rl.advantages import (
    STD_FLOOR,
    Lesson,
    Weights,
    balancing,
    judge_rollouts,
    lessons_of,
    normalised,
    step_groups,
)
from causaldrive.rl.config import RlConfig
from causaldrive.rl.decoder import SdePolicy
from causaldrive.rl.learner import Learner, spread, token_weights
from causaldrive.rl.parts import choose_parts, learnt, speech_names
from causaldrive.rl.policy import PolicySettings, StudentPolicy
from causaldrive.rl.rollouts import Job, Rollout, Spoken, jobs_of, roll
from causaldrive.rl.speech import below_last_layer, speech_logprobs
from causaldrive.student import checkpoint
from causaldrive.student.generate import generate
from causaldrive.worlds.episode import DriveSettings
from causaldrive.worlds.scenes import draw_specs

SETTINGS = DriveSettings(duration_s=3.1)
ALL = Weights(1.0, 1.0, 1.0)


def config_of(student, **changes) -> RlConfig:
    return RlConfig(student, student.parent / "out", **({"minibatch": 8, "temperature": 0.8} | changes))


def learner_of(student, **changes) -> Learner:
    return Learner(*checkpoint.load(student), config_of(student, **changes))


def policy_of(learner: Learner, **changes) -> StudentPolicy:
    settings = PolicySettings(**({"temperature": 0.8, "top_p": 1.0} | changes))
    if learner.config.train_decoder:
        return SdePolicy(learner.model, learner.processor, settings, learner.config.sde_noise)
    return StudentPolicy(learner.model, learner.processor, settings)


def lessons(learner: Learner, advantage=None, **changes) -> list[Lesson]:
    """Every decision of two groups of two drives, with the given advantage or alternating ones."""
    rollouts = roll(jobs_of(draw_specs(2, 500_000), 2), policy_of(learner, **changes), ToyPool(SETTINGS), 8, "test")
    spoken = [(r.job.scene, s) for r in rollouts for s in r.spoken]
    return [Lesson(s, (scene, 0), (-1.0) ** i if advantage is None else advantage)
            for i, (scene, s) in enumerate(spoken)]  # fmt: skip


# --- advantages ----------------------------------------------------------------------------------------------------


def rollout(scene: int, member: int, speed_mps: float, texts: list[str], ticks: int = 81) -> Rollout:
    result = episode(coasting(ticks, speed_mps), texts=texts)
    spoken = [Spoken(toy_sample(False), (1, 2), np.zeros(2, np.float32), 2) for _ in result.decisions]
    return Rollout(Job(scene, member, result.spec), spoken, result)


def judged(rollouts):
    return judge_rollouts(rollouts, 0.5, 8.0)


def test_a_scene_driven_once_teaches_words_and_nothing_of_driving():
    alone = lessons_of(judged([rollout(0, 0, 8.0, [SENTENCES[1], SENTENCES[0]])]), ALL)
    words = lessons_of(judged([rollout(0, 0, 8.0, [SENTENCES[1], SENTENCES[0]])]), Weights(0.0, 1.0, 0.0))
    assert [row.advantage for row in alone.rows] == [row.advantage for row in words.rows] != []
    assert lessons_of(judged([rollout(0, 0, 8.0, SENTENCES)]), Weights(1.0, 0.0, 1.0)).rows == []


def test_the_better_of_a_group_gains_the_worse_loses():
    rows = lessons_of(judged([rollout(0, 0, 8.0, [SENTENCES[1]]), rollout(0, 1, 8.0, [SENTENCES[0]])]), ALL).rows
    assert len(rows) == 26
    assert all(row.advantage > 0 for row in rows[:13]) and all(row.advantage < 0 for row in rows[13:])
    assert sum(row.advantage for row in rows) == pytest.approx(0.0, abs=1e-9)


def test_equal_drives_teach_nothing_and_are_counted():
    found = lessons_of(judged([rollout(0, member, 8.0, [SENTENCES[1]]) for member in range(3)]), ALL)
    assert found.rows == [] and found.without_variance == 39


def test_scenes_are_not_compared_with_each_other():
    easy = [rollout(0, member, 8.0, [SENTENCES[1]]) for member in range(2)]
    hard = [rollout(1, member, 1.0, [""]) for member in range(2)]
    assert lessons_of(judged(easy + hard), ALL).rows == []


def test_weights_choose_what_counts():
    pair = judged([rollout(0, 0, 8.0, [SENTENCES[1]]), rollout(0, 1, 4.0, [SENTENCES[1]])])
    only_drive, only_words = lessons_of(pair, Weights(1, 0, 0)).rows, lessons_of(pair, Weights(0, 1, 0)).rows
    assert all(row.advantage > 0 for row in only_drive[:13]) and only_words == []


def test_a_lone_survivor_is_compared_with_its_whole_scene():
    groups = step_groups([(0, 0), (0, 0), (0, 1), (1, 0), (1, 0)])
    assert groups == [(0, 0), (0, 0), (0, -1), (1, 0), (1, 0)]
    found = normalised([0.0, 0.0, 1.0, 5.0, 5.0], groups)
    assert found[2] == pytest.approx((1 - 1 / 3) / np.std([0, 0, 1])) and not found[[0, 1, 3, 4]].any()


def test_tiny_differences_stay_tiny():
    assert np.abs(normalised([0.5, 0.5 + 1e-6], [0, 0])).max() == pytest.approx(5e-7 / STD_FLOOR)


def test_failed_drives_are_in_no_group():
    failed = Rollout(Job(0, 1, episode(coasting(81)).spec), failure="scene broke: x")
    assert judged([failed]) == [] and lessons_of([], ALL).rows == []


# --- log-probabilities and masks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.8, 1.3])
def test_the_trainer_recomputes_the_samplers_logprobs(student, temperature):
    learner = learner_of(student, temperature=temperature)
    rows = lessons(learner, temperature=temperature, max_trace_tokens=12)
    assert any(row.spoken.chosen < len(row.spoken.token_ids) for row in rows)  # some of them cut by length
    with torch.no_grad():
        batch, new = learner.logprobs([row.spoken for row in rows])
    old = spread([row.spoken.logprobs for row in rows], batch.completion_mask)
    assert (new - old)[batch.completion_mask].abs().max() < 1e-4
    assert not new[~batch.completion_mask].any()
    mask = token_weights(batch, [[(row.spoken, 1.0)] for row in rows])[1]
    for b, row in enumerate(rows):
        chosen = list(row.spoken.token_ids[: row.spoken.chosen])
        assert batch.written[b][mask[b]].tolist() == chosen


def test_a_shift_by_one_token_would_be_found(student):
    learner = learner_of(student)
    rows = lessons(learner)
    with torch.no_grad():
        batch, new = learner.logprobs([row.spoken for row in rows])
    old = spread([row.spoken.logprobs for row in rows], batch.completion_mask)
    assert (new.roll(1, dims=1) - old)[batch.completion_mask].abs().max() > 0.1


def chain_old(learner: Learner, rows) -> float:
    return float(torch.cat([part.chain_old for part in learner.prepare(rows)]).mean())


def test_the_decoders_density_is_the_same_when_replayed(student):
    learner = learner_of(student, train_decoder=True)
    part = learner.prepare(lessons(learner))[0]
    with torch.no_grad():
        again = learner._chain_values(part.answers[:2])  # other batch-mates, other padding
    assert torch.allclose(part.chain_old[:2], again, atol=1e-4)
    assert torch.allclose(part.chain_reference, part.chain_old, atol=1e-6)


def test_what_is_kept_below_the_last_layer_gives_the_same_logprobs_and_gradients(student):
    learner = learner_of(student)
    rows = lessons(learner)[:5]
    batch, whole = learner.logprobs([row.spoken for row in rows])
    kept = speech_logprobs(learner.model, batch, below_last_layer(learner.model, batch), 0.8)
    assert torch.allclose(whole, kept, atol=1e-5)
    parameters = list(learnt(learner.model).values())
    for one, other in zip(*(torch.autograd.grad(x.sum(), parameters) for x in (whole, kept)), strict=True):
        assert torch.allclose(one, other, atol=1e-3, rtol=1e-3)


# --- which weights move --------------------------------------------------------------------------------------------


def prefix_of(learner: Learner, rows):
    batch = learner.batch([row.spoken for row in rows])
    with torch.no_grad():
        encoded = learner.model.encode(batch)
    return [(layer.keys.clone(), layer.values.clone()) for layer in encoded.cache.layers]


def test_learning_to_speak_leaves_the_decoders_input_alone(student):
    learner = learner_of(student, learning_rate=1e-2)
    rows = lessons(learner)
    before, words = prefix_of(learner, rows), generate(learner.model, learner.processor, [rows[0].spoken.sample])
    weights = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learner.learn(rows)
    moved = {name for name, p in learner.model.named_parameters() if not torch.equal(p, weights[name])}
    assert moved and moved == speech_names(learner.model)
    for old, new in zip(before, prefix_of(learner, rows), strict=True):
        assert torch.equal(old[0], new[0]) and torch.equal(old[1], new[1])
    assert words[0][0].trace


def test_learning_words_leaves_the_trajectory_tokens_alone(student):
    learner = learner_of(student, learning_rate=1e-2, part="words")
    rows = lessons(learner)
    head, start = learner.model.vlm.lm_head.weight, learner.model.config.traj_token_start_idx
    bins = slice(start, start + learner.model.config.future_bins)
    weights = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learner.learn(rows)
    assert [n for n, p in learner.model.named_parameters() if not torch.equal(p, weights[n])] == ["vlm.lm_head.weight"]
    assert torch.equal(head[bins], weights["vlm.lm_head.weight"][bins])


def test_learning_the_whole_language_model_does_not(student):
    learner = learner_of(student, learning_rate=1e-2, part="language")
    rows = lessons(learner)
    before = prefix_of(learner, rows)
    learner.learn(rows)
    assert not torch.equal(before[-1][0], prefix_of(learner, rows)[-1][0])


def test_the_decoder_moves_only_when_it_is_to_be_trained(student):
    model, _ = checkpoint.load(student)
    choose_parts(model, "speech", train_decoder=False)
    assert not [name for name in learnt(model) if name.startswith(("expert", "action"))]
    choose_parts(model, "speech", train_decoder=True)
    assert {name.split(".")[0] for name in learnt(model)} == {"vlm", "expert", "action_in_proj", "action_out_proj"}
    assert not [name for name in learnt(model) if "visual" in name]
    with pytest.raises(UserError, match="Did you mean speech"):
        choose_parts(model, "speach", False)


# --- learning ------------------------------------------------------------------------------------------------------


def mean_logprob(learner: Learner, rows) -> float:
    with torch.no_grad():
        batch, new = learner.logprobs([row.spoken for row in rows])
    return new[batch.completion_mask].mean().item()


def mean_ratio(learner: Learner, rows) -> float:
    """Of what the words' probabilities are now to what they were when they were written."""
    with torch.no_grad():
        batch, new = learner.logprobs([row.spoken for row in rows])
    old = spread([row.spoken.logprobs for row in rows], batch.completion_mask)
    return (new - old)[batch.completion_mask].exp().mean().item()


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_words_become_likelier_when_they_are_worth_it(student, advantage):
    learner = learner_of(student, epochs=8, minibatch=100, kl_weight=0.0, clip_low=10.0, clip_high=10.0)
    rows = lessons(learner, advantage)
    stats = learner.learn(rows)
    assert (mean_ratio(learner, rows) - 1.0) * advantage > 1e-4
    assert stats["optimizer_steps"] == 8 and stats["grad_norm"] > 0


def test_chains_become_likelier_when_they_are_worth_it(student):
    learner = learner_of(student, train_decoder=True, epochs=4, kl_weight=0.0, decoder_clip=10.0, learning_rate=1e-4)
    rows = lessons(learner, 1.0)
    before = chain_old(learner, rows)
    stats = learner.learn(rows)
    assert chain_old(learner, rows) > before
    assert "decoder_kl" in stats and stats["decoder_clip_fraction"] == 0.0


def test_ratios_start_at_one_and_kl_at_zero(student):
    learner = learner_of(student, epochs=1, minibatch=1000)
    stats = learner.learn(lessons(learner))
    assert stats["kl"] < 1e-6 and stats["clip_fraction"] == 0.0 and stats["entropy"] > 0


def test_a_strong_pull_keeps_the_student_at_its_start(student):
    ends = []
    for weight in (0.0, 50.0):
        learner = learner_of(student, epochs=6, kl_weight=weight, learning_rate=3e-3)
        rows = lessons(learner)
        with torch.no_grad():
            batch, before = learner.logprobs([row.spoken for row in rows])
        learner.learn(rows)
        with torch.no_grad():
            ends.append(
                (learner.logprobs([row.spoken for row in rows])[1] - before)[batch.completion_mask].abs().mean().item()
            )
    assert ends[1] < 0.5 * ends[0]


def test_nothing_to_learn_changes_nothing(student):
    learner = learner_of(student)
    weights = {name: p.detach().clone() for name, p in learnt(learner.model).items()}
    stats = learner.learn([])
    assert stats["optimizer_steps"] == 0 and learner.state.step == 1
    assert all(torch.equal(p, weights[name]) for name, p in learnt(learner.model).items())


def test_the_softmax_objective_learns_too(student):
    learner = learner_of(student, objective="softmax", beta=3.0, epochs=4)
    rows = lessons(learner, temperature=2.0)
    wanted = rows[0].spoken.token_ids  # words that compete: those of the first row against all others
    rows = [replace(row, advantage=1.0 if row.spoken.token_ids == wanted else -1.0) for row in rows]
    good = [row for row in rows if row.advantage > 0]
    bad = [row for row in rows if row.advantage < 0]
    assert good and bad
    before = mean_logprob(learner, good) - mean_logprob(learner, bad)
    learner.learn(rows)
    assert mean_logprob(learner, good) - mean_logprob(learner, bad) > before


def test_an_anchor_adds_its_losses(student):
    model, processor = checkpoint.load(student)
    batch = processor.training([toy_sample(True), toy_sample(False)], list(SENTENCES))
    asked: list[int] = []
    learner = Learner(model, processor, config_of(student, part="language"), lambda step: asked.append(step) or batch)
    stats = learner.learn(lessons(learner)[:8])
    assert stats["anchor_loss"] > 0 and asked == sorted(set(asked)) and len(asked) == 2


def test_a_loss_that_is_not_a_number_stops_the_run(student):
    learner = learner_of(student)
    rows = lessons(learner)
    poisoned = [replace(row, advantage=float("nan")) for row in rows]
    with pytest.raises(UserError, match="loss of round 0 is nan on scenes town_"):
        learner.learn(poisoned)


def test_rare_decisions_are_lifted():
    classes = ["clear"] * 16 + ["red"] * 4 + ["cut"] * 4
    as_driven, half, alike = (balancing(classes, power) for power in (0.0, 0.5, 1.0))
    assert np.allclose(as_driven, 1.0) and half.mean() == pytest.approx(1.0)
    assert half[16] / half[0] == pytest.approx(2.0)
    assert alike[:16].sum() == pytest.approx(alike[16:20].sum())
