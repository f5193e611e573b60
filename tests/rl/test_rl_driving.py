"""The student at the wheel and groups of its drives: random numbers, failures, what is kept."""

from __future__ import annotations

from dataclasses import replace
from threading import Event

import numpy as np
import pytest
from rl_worlds import SENTENCES, ToyDrive, ToyPool, toy_sample

from causaldrive.ground.errors import UserError
from causaldrive.rl.decoder import SdePolicy
from causaldrive.rl.policy import PolicySettings, StudentPolicy, drive_settings_of, row_seed, sample_of
from causaldrive.rl.rollouts import jobs_of, roll
from causaldrive.student import checkpoint
from causaldrive.worlds.episode import DriveSettings
from causaldrive.worlds.scenes import draw_specs

SETTINGS = DriveSettings(duration_s=3.1)
POLICY = PolicySettings(temperature=0.8, top_p=1.0, seed=5)


@pytest.fixture(scope="module")
def policy(student) -> StudentPolicy:
    return StudentPolicy(*checkpoint.load(student), POLICY)


@pytest.fixture(scope="module")
def seen():
    return [ToyDrive(spec, SETTINGS).observe() for spec in draw_specs(3, 500_000)]


def test_an_observation_becomes_the_sample_that_training_saw(policy, seen):
    sample = sample_of(seen[0], policy.processor.config)
    trained = toy_sample(red=True)
    assert sample.frames.shape == trained.frames.shape and sample.camera_names == trained.camera_names
    assert sample.frame_offsets_us == trained.frame_offsets_us
    ours, theirs = policy.processor.prompts([sample]), policy.processor.prompts([trained])
    assert (ours.input_ids == theirs.input_ids).all() and (ours.pixel_values == theirs.pixel_values).all()


def test_a_drive_does_not_depend_on_its_batch(policy, seen):
    together = policy.act(seen)
    alone = [policy.act([observation])[0] for observation in seen]
    for one, other in zip(together, alone, strict=True):
        assert one.text == other.text
        np.testing.assert_allclose(one.xy_in_rig_m, other.xy_in_rig_m, atol=1e-4)


def test_seeds_differ_by_scene_member_time_and_setting(seen):
    a, b = seen[:2]
    seeds = {row_seed(5, a), row_seed(5, b), row_seed(5, a, 1), row_seed(6, a), row_seed(5, replace(a, t_us=7))}
    assert len(seeds) == 5 and all(0 <= seed < 2**63 for seed in seeds)
    assert row_seed(5, a) == row_seed(5, replace(a, speed_mps=3.0))  # of nothing else


def test_one_bad_row_fails_alone(policy, seen):
    broken = replace(seen[1], frames=seen[1].frames[:, :, :, :2])
    plans = policy.act([seen[0], broken, seen[2]])
    assert isinstance(plans[1], Exception)
    assert plans[0].problem() is None and plans[2].problem() is None
    assert plans[0].text == policy.act([seen[0]])[0].text
    assert policy.act([]) == []


def test_without_reason_it_drives_and_says_nothing(student, seen):
    plan = StudentPolicy(*checkpoint.load(student), PolicySettings(reason=False)).act(seen[:1])[0]
    assert plan.text == "" and plan.problem() is None


def test_further_samples_are_kept_and_the_first_is_driven(student, seen):
    plan = StudentPolicy(*checkpoint.load(student), PolicySettings(num_samples=3)).act(seen[:1])[0]
    assert plan.samples_xy_in_rig_m.shape == (3, 64, 2)
    np.testing.assert_array_equal(plan.samples_xy_in_rig_m[0], plan.xy_in_rig_m)


@pytest.mark.parametrize(("change", "message"), [({"mode": "flo"}, "Did you mean flow"), ({"num_samples": 0}, "is 0")])
def test_settings_that_cannot_be_meant_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        PolicySettings(**change)


def test_drives_hold_the_frames_that_the_student_expects(policy):
    settings = drive_settings_of(policy.processor.config, 6.0, 0.5)
    assert settings.frame_offsets_s == policy.processor.config.frames().frame_offsets_s
    assert (settings.duration_s, settings.decision_every_s, settings.camera) == (6.0, 0.5, True)


def test_members_of_a_group_drive_the_same_scene_differently(policy):
    jobs = jobs_of(draw_specs(2, 500_000), 3)
    rollouts = roll(jobs, policy, ToyPool(SETTINGS), 8, "test")
    assert [(r.job.scene, r.job.member) for r in rollouts] == [(s, m) for s in range(2) for m in range(3)]
    for scene in range(2):
        group = rollouts[3 * scene : 3 * scene + 3]
        assert len({r.result.spec.scene_id for r in group}) == 1
        assert len({r.result.score.distance_m for r in group}) == 3


def test_batches_and_repetition_change_nothing(policy):
    jobs = jobs_of(draw_specs(2, 500_000), 2)
    whole, parts = (roll(jobs, policy, ToyPool(SETTINGS), batch, "test") for batch in (8, 1))
    for one, other in zip(whole, parts, strict=True):
        assert [d.text for d in one.result.decisions] == [d.text for d in other.result.decisions]
        assert one.result.score.distance_m == pytest.approx(other.result.score.distance_m, abs=1e-3)


def test_each_decision_keeps_what_is_needed_to_learn_from_it(policy):
    (rollout,) = roll(jobs_of(draw_specs(1, 500_000), 1), policy, ToyPool(SETTINGS), 8, "test")
    assert len(rollout.spoken) == len(rollout.result.decisions) == 3
    for spoken, decision in zip(rollout.spoken, rollout.result.decisions, strict=True):
        assert policy.processor.text_of(spoken.token_ids) == decision.text
        assert len(spoken.logprobs) == len(spoken.token_ids) == spoken.chosen > 0
        assert spoken.sample.t0_us == decision.t_us
        assert decision.text in SENTENCES or decision.text


def test_a_broken_scene_and_a_failing_policy_are_counted_apart(policy):
    class Stumbles(StudentPolicy):
        def plan(self, observations, members):
            plans = super().plan(observations, members)
            return [RuntimeError("lost") if m == 1 else plan for m, plan in zip(members, plans, strict=True)]

    stumbling = Stumbles(policy.model, policy.processor, POLICY)
    jobs = jobs_of(draw_specs(2, 500_000), 2)
    broken = roll(jobs, stumbling, ToyPool(SETTINGS, frozenset({500_001})), 8, "test")
    assert broken[0].failure is None and broken[0].result.score is not None
    assert broken[1].failure == "policy failed: RuntimeError: lost" and broken[1].result is None
    assert [r.failure for r in broken[2:]] == ["scene broke: the road is missing"] * 2


def test_a_policy_that_stalls_ends_its_own_drive_and_the_others_go_on(policy):
    class Stalls(StudentPolicy):
        def plan(self, observations, members):
            if members == [1]:
                Event().wait()
            return [RuntimeError("lost")] * len(observations)

    stalling = Stalls(policy.model, policy.processor, POLICY)
    pool = ToyPool(replace(SETTINGS, decision_limit_s=2.0))
    failures = [r.failure for r in roll(jobs_of(draw_specs(1, 500_000), 3), stalling, pool, 1, "test")]
    assert failures[0] == failures[2] == "policy failed: RuntimeError: lost"
    assert failures[1] is not None and "no plan for 1 observations within 2 s" in failures[1]


def test_a_text_cut_by_length_does_not_learn_its_forced_end(student):
    short = StudentPolicy(*checkpoint.load(student), replace(POLICY, max_trace_tokens=4))
    (rollout,) = roll(jobs_of(draw_specs(1, 500_000), 1), short, ToyPool(SETTINGS), 8, "test")
    assert all((len(s.token_ids), s.chosen) == (5, 4) for s in rollout.spoken)


def test_the_noisy_decoder_drives_its_own_chain(student, seen):
    model, processor = checkpoint.load(student)
    plans = SdePolicy(model, processor, POLICY, 0.3).act(seen)
    calm = SdePolicy(model, processor, POLICY, 1e-6).act(seen)
    ode = StudentPolicy(model, processor, POLICY).act(seen)
    for noisy, quiet, plain in zip(plans, calm, ode, strict=True):
        assert noisy.text == plain.text and noisy.notes["chain"].shape == (11, 64, 2)
        np.testing.assert_allclose(quiet.xy_in_rig_m, plain.xy_in_rig_m, atol=1e-3)
        assert np.abs(noisy.xy_in_rig_m - plain.xy_in_rig_m).max() > 1e-2
