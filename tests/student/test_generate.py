"""Generation: rows do not depend on their batch, endings, modes, randomness, integration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import kstest
from student_drives import make_sample, make_student

from causaldrive.ground.errors import UserError
from causaldrive.student import flow
from causaldrive.student.generate import generate
from causaldrive.student.sampling import draw_randomness, pick


@pytest.mark.parametrize("mode", ["flow", "tokens"])
def test_a_row_is_the_same_alone_and_in_a_batch(mode):
    model, processor = make_student(lively=False)  # a lively decoder multiplies rounding errors from step to step
    samples = [make_sample(0), make_sample(1, frames=False), make_sample(2)]
    options = {"num_samples": 2, "max_trace_tokens": 8, "mode": mode, "flow_steps": 10}
    together = generate(model, processor, samples, seed=[7, 8, 9], **options)
    for index, sample in enumerate(samples):
        alone = generate(model, processor, [sample], seed=[7 + index], **options)[0]
        for a, b in zip(alone, together[index], strict=True):
            assert a.token_ids == b.token_ids and a.trace == b.trace and a.traj_token_ids == b.traj_token_ids
            assert np.abs(a.xyz_in_rig_m - b.xyz_in_rig_m).max() < 1e-4
            assert np.allclose(a.logprobs, b.logprobs, atol=1e-4)


def test_endings(student):
    model, processor = student
    config = processor.config
    start = config.id_of("traj_future_start")
    samples = [make_sample(i) for i in range(3)]
    rows = [r[0] for r in generate(model, processor, samples, max_trace_tokens=5, flow_steps=1)]
    for row in rows:
        assert row.token_ids[-1] == start and row.token_ids.count(start) == 1 and len(row.token_ids) <= 6
        assert row.truncated == (len(row.token_ids) == 6)
        barred = set(range(config.traj_token_start_idx, config.traj_token_start_idx + config.future_bins))
        assert not barred & set(row.token_ids)
    assert any(row.truncated for row in rows)
    silent = generate(model, processor, samples, reason=False, flow_steps=1)[0][0]
    assert silent.token_ids == [] and silent.trace == "" and not silent.truncated


def test_rows_that_end_early_wait_without_harm(student):
    """With the start token made likely, rows end at different steps; each still equals itself alone."""
    model, processor = student
    allowed = model.get_buffer("text_allowed")
    kept = allowed.clone()
    try:
        allowed.zero_()
        allowed[[processor.config.id_of("traj_future_start"), 40, 41, 42, 43]] = True
        samples = [make_sample(i) for i in range(6)]
        options = {"max_trace_tokens": 12, "flow_steps": 1, "temperature": 9.0}
        together = [row[0] for row in generate(model, processor, samples, seed=list(range(6)), **options)]
        assert len({len(row.token_ids) for row in together}) > 2 and not all(row.truncated for row in together)
        for index, sample in enumerate(samples):
            alone = generate(model, processor, [sample], seed=[index], **options)[0][0]
            assert alone.token_ids == together[index].token_ids
            assert np.allclose(alone.actions, together[index].actions, atol=1e-4)
    finally:
        allowed.copy_(kept)


def test_shapes_seeds_and_noise(student):
    model, processor = student
    sample = make_sample(0)
    first = generate(model, processor, [sample], num_samples=3, seed=1, max_trace_tokens=6, flow_steps=2)[0]
    again = generate(model, processor, [sample], num_samples=3, seed=1, max_trace_tokens=6, flow_steps=2)[0]
    other = generate(model, processor, [sample], num_samples=3, seed=2, max_trace_tokens=6, flow_steps=2)[0]
    for a, b in zip(first, again, strict=True):
        assert a.token_ids == b.token_ids and np.array_equal(a.xyz_in_rig_m, b.xyz_in_rig_m)
    assert not np.array_equal(first[0].noise, first[1].noise) and not np.array_equal(first[0].noise, other[0].noise)
    row = first[0]
    assert row.xyz_in_rig_m.shape == (64, 3) and row.yaw_rad.shape == (64,) and row.speed_mps.shape == (65,)
    assert row.actions.shape == (64, 2) and row.noise.shape == (64, 2)
    truth = np.linalg.norm(np.diff(sample.history_xyz_in_rig_m[-2:], axis=0)) / 0.1
    assert row.speed_mps[0] == pytest.approx(truth, abs=0.5)
    still = generate(model, processor, [sample], seed=1, reason=False, noise_temperature=0.0, flow_steps=1)[0][0]
    assert not still.noise.any()


def test_tokens_mode_speaks_future_bins_only(student):
    model, processor = student
    row = generate(model, processor, [make_sample(0)], mode="tokens", max_trace_tokens=3)[0][0]
    low = processor.config.traj_token_start_idx
    ids = np.array(row.traj_token_ids)
    assert (
        ids.shape == (processor.config.tokens_per_future_traj,) == (32,)
        and ids.min() >= low
        and ids.max() < low + processor.config.future_bins
    )
    normalised = processor.future_tokens.decode(ids - low)
    raw = processor.action_space.denormalise(torch.tensor(normalised)).numpy()
    assert np.allclose(raw, row.actions, atol=1e-5)


def test_greedy_text_does_not_depend_on_the_seed(student):
    model, processor = student
    a, b = (
        generate(model, processor, [make_sample(0)], seed=s, greedy=True, max_trace_tokens=8, flow_steps=1)[0][0]
        for s in (0, 1)
    )
    assert a.token_ids == b.token_ids and not np.array_equal(a.noise, b.noise)


@pytest.mark.parametrize("mode", ["flow", "tokens"])
def test_the_first_answer_is_the_likeliest_and_the_others_are_drawn(student, mode):
    """It alone does not depend on the seed; the others stay what they are without the option."""
    one, other = (
        generate(*student, [make_sample(0)], num_samples=3, seed=seed, mode=mode, likeliest_first=True)[0]
        for seed in (1, 2)
    )
    drawn = generate(*student, [make_sample(0)], num_samples=3, seed=1, mode=mode)[0]
    assert one[0].token_ids == other[0].token_ids
    assert np.allclose(one[0].xyz_in_rig_m, other[0].xyz_in_rig_m, atol=1e-4)  # sums over rows of other lengths round
    assert [made.token_ids for made in one[1:]] == [made.token_ids for made in drawn[1:]]
    assert not np.array_equal(one[1].xyz_in_rig_m, other[1].xyz_in_rig_m)
    assert not np.array_equal(one[0].xyz_in_rig_m, drawn[0].xyz_in_rig_m)


@pytest.mark.parametrize("mode", ["flow", "tokens"])
def test_one_thought_has_many_paths(student, mode):
    """All answers say what a lone one says; with `greedy_path` the first alone takes the likeliest path."""
    options = {"seed": 3, "mode": mode, "max_trace_tokens": 8, "greedy_path": True}
    alone = generate(*student, [make_sample(0), make_sample(1)], **options)
    made = generate(*student, [make_sample(0), make_sample(1)], num_samples=3, one_thought=True, **options)
    for (one,), several in zip(alone, made, strict=True):
        assert [other.token_ids for other in several] == [one.token_ids] * 3
        assert np.allclose(several[0].xyz_in_rig_m, one.xyz_in_rig_m, atol=1e-4)
        assert not np.allclose(several[1].xyz_in_rig_m, several[2].xyz_in_rig_m, atol=1e-2)


def test_an_unknown_mode_is_refused_and_nothing_gives_nothing(student):
    with pytest.raises(UserError, match="Did you mean tokens"):
        generate(*student, [make_sample(0)], mode="token")
    assert generate(*student, []) == []


@given(st.integers(0, 10_000), st.floats(0.1, 1.0))
@settings(max_examples=40, deadline=None)
def test_pick_stays_within_the_top_p_part(seed, top_p):
    draw = torch.Generator().manual_seed(seed)
    logprobs = torch.randn(5, 12, generator=draw).mul(2).log_softmax(-1)
    tokens = pick(logprobs, torch.rand(5, generator=draw), top_p, torch.tensor(False))
    for row in range(5):
        likelier = logprobs[row].exp()[logprobs[row] > logprobs[row, tokens[row]]].sum()
        assert likelier < top_p


def test_pick_follows_the_distribution():
    logprobs = torch.tensor([0.5, 0.3, 0.2]).log().expand(20_000, 3)
    uniform = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    share = torch.bincount(pick(logprobs, uniform, 1.0, torch.tensor(False)), minlength=3) / 20_000
    assert torch.allclose(share, torch.tensor([0.5, 0.3, 0.2]), atol=0.015)


@given(st.integers(0, 10_000), st.floats(0.1, 1.0))
@settings(max_examples=40, deadline=None)
def test_a_greater_number_draws_a_greater_value(seed, top_p):
    draw = torch.Generator().manual_seed(seed)
    logprobs = torch.randn(1, 12, generator=draw).mul(2).log_softmax(-1).expand(50, 12)
    uniform = torch.rand(50, generator=draw).sort().values
    assert bool((pick(logprobs, uniform, top_p, torch.tensor(False)).diff() >= 0).all())


def test_leaning_numbers_stay_uniform_and_agree_along_their_axis_alone():
    leaning = draw_randomness(range(400), 2, 1, coherence=0.8)
    numbers = leaning.traj_uniform.reshape(800, 64, 2)
    assert kstest(numbers[:, 7].ravel(), "uniform").pvalue > 0.01
    together = np.corrcoef(ndtri(numbers[:, [3, 60]].reshape(800, 4).numpy()).T)
    assert together[0, 2] == pytest.approx(0.64, abs=0.08) == together[1, 3]  # coherence squared
    assert np.abs(together[0, [1, 3]]).max() < 0.12
    plain = draw_randomness(range(400), 2, 1)
    assert torch.equal(plain.noise, leaning.noise) and torch.equal(plain.text_uniform, leaning.text_uniform)


def test_coherent_paths_spread_wider(student):
    model, processor = student
    drawn = {}
    for coherence in (0.0, 0.9):
        made = generate(model, processor, [make_sample(0)], num_samples=24, mode="tokens", reason=False, top_p=1.0,
                        temperature=1.0, path_coherence=coherence)[0]  # fmt: skip
        drawn[coherence] = np.stack([one.actions.mean(0) for one in made]).std(0)
    assert (drawn[0.9] > 1.5 * drawn[0.0]).all()


def test_twins_draw_to_opposite_sides():
    drawn = draw_randomness([3, 4], 5, 2, coherence=0.9, mirrored=True)
    numbers = drawn.traj_uniform.reshape(2, 5, 128)
    assert np.allclose(numbers[:, 1] + numbers[:, 2], 1) and np.allclose(numbers[:, 3] + numbers[:, 4], 1)
    assert numbers.max() < 1 and (numbers[:, 1] != numbers[:, 3]).all()
    plain = draw_randomness([3, 4], 5, 2, coherence=0.9)
    assert torch.equal(plain.traj_uniform.reshape(2, 5, 128)[:, :2], numbers[:, :2])
    assert torch.equal(plain.text_uniform, drawn.text_uniform)


def test_randomness_belongs_to_the_row():
    both, one = draw_randomness([3, 4], 2, 5), draw_randomness([4], 2, 9)
    assert torch.equal(both.noise[2:], one.noise) and torch.equal(both.text_uniform[2:], one.text_uniform[:, :5])


def test_training_times_favour_noise_and_euler_reaches_the_data():
    t = flow.draw_times(20_000, torch.Generator().manual_seed(0))
    assert t.min() >= 0 and t.max() <= 0.999
    assert float(t.mean()) == pytest.approx(0.999 * 0.4, abs=0.01)  # Beta(1.5, 1) has mean 0.6
    data, noise = torch.randn(2, 3, 64, 2, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(flow.integrate(lambda x, t: data - noise, noise, 10), data, atol=1e-5)
    assert torch.equal(flow.interpolate(data, noise, torch.zeros(3)), noise)
    assert torch.equal(flow.interpolate(data, noise, torch.ones(3)), data)


def test_routes_are_read_and_guidance_mixes_with_and_without(student):
    model, processor = student
    sample, options = make_sample(1), {"seed": [3], "num_samples": 2, "reason": False, "flow_steps": 3}
    without, given, off, double = (
        np.stack([one.actions for one in generate(model, processor, [sample], **options, **more)[0]])
        for more in ({}, {"routes": ["turn left"]}, {"routes": ["turn left"], "guidance": 0.0},
                     {"routes": ["turn left"], "guidance": 2.0})
    )  # fmt: skip
    assert np.abs(given - without).max() > 1e-4
    assert np.allclose(off, without, atol=1e-4) and not np.allclose(double, given, atol=1e-4)


def test_guidance_replays_the_same_words(student):
    """One step from the same noise: guidance 2 goes as far beyond guidance 1 as guidance 1 is beyond guidance 0."""
    model, processor = student
    sample = make_sample(2)
    rows = [
        generate(model, processor, [sample], seed=[5], max_trace_tokens=4, flow_steps=1, routes=["left"],
                 guidance=guidance)[0][0]
        for guidance in (0.0, 1.0, 2.0)
    ]  # fmt: skip
    assert rows[0].token_ids == rows[1].token_ids == rows[2].token_ids
    first, second = rows[1].actions - rows[0].actions, rows[2].actions - rows[1].actions
    assert np.abs(first).max() > 1e-5 and np.allclose(first, second, atol=1e-4)
