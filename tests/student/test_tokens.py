"""Vocabulary order, trajectory tokens and the tokenizer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from student_drives import STATISTICS, TRACES, arc, make_student

from causaldrive.student.config import TrajectoryTokenSettings
from causaldrive.student.presets import tiny
from causaldrive.student.text import plain_ids, train_tokenizer
from causaldrive.student.tokens import SPECIAL_NAMES, FutureTokens, HistoryTokens, future_allowed, text_allowed


def test_released_ids_follow_from_the_order():
    base, bins = 151_669, 4000
    new = [name for name in SPECIAL_NAMES if name != "image_pad"]
    ids = {name: base + bins + i for i, name in enumerate(new)}
    assert len(SPECIAL_NAMES) == 29 and base + bins + len(new) == 155_697
    assert ids["traj_history_start"] == 155_674 and ids["cot_start"] == 155_677
    assert ids["traj_future_start"] == 155_681 and ids["answer_end"] == 155_696


def test_our_vocabulary_has_the_released_order(student):
    _, processor = student
    config, tokenizer = processor.config, processor.tokenizer
    first = config.traj_token_start_idx
    assert tokenizer.convert_tokens_to_ids("<i0>") == first
    last_bin = config.future_bins + config.history_bins - 1
    assert tokenizer.convert_tokens_to_ids(f"<i{last_bin}>") == first + last_bin
    assert config.id_of("prompt_start") == first + last_bin + 1
    assert config.id_of("image_pad") < first and config.id_of("answer_end") == config.vocab_size - 1
    ordered = [config.id_of(name) for name in SPECIAL_NAMES if name != "image_pad"]
    assert ordered == list(range(first + last_bin + 1, config.vocab_size))
    assert len(tokenizer) == config.vocab_size


def test_text_and_trajectory_masks_do_not_meet(student):
    config = student[1].config
    text, future = text_allowed(config), future_allowed(config)
    assert not (text & future).any() and future.sum() == config.future_bins
    assert text[config.id_of("traj_future_start")] and not text[config.id_of("image_pad")]
    assert not text[config.traj_token_start_idx :].all() and text[: config.text_vocab_size].all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_future_tokens_come_back_within_half_a_bin(seed):
    tokens = FutureTokens(TrajectoryTokenSettings(STATISTICS.token_min, STATISTICS.token_max), 513)
    low, high = np.array(STATISTICS.token_min), np.array(STATISTICS.token_max)
    actions = np.random.default_rng(seed).uniform(low, high, (2, 64, 2))
    bins = tokens.encode(actions)
    assert bins.shape == (2, 128) and np.all(np.abs(tokens.decode(bins) - actions) <= (high - low) / 512 / 2 + 1e-9)
    assert np.array_equal(tokens.encode(tokens.decode(bins)), bins)


def test_future_tokens_clamp_and_interleave():
    tokens = FutureTokens(TrajectoryTokenSettings(), 3000)
    actions = np.zeros((64, 2))
    actions[0], actions[1] = (-99, 99), (10, -10)
    assert tokens.encode(actions)[:4].tolist() == [0, 2999, 2999, 0]
    assert tokens.encode(actions)[4] == 1500  # 1499.5, half to even


def test_released_history_saturates_and_ours_does_not():
    history = np.column_stack([arc(10.0, 0.0)[:16, :2], np.zeros(16)])
    released = HistoryTokens(TrajectoryTokenSettings(), 1000).encode(history)
    assert released.shape == (48,) and released[::3].tolist() == [0] + [624] * 15
    ours = TrajectoryTokenSettings(
        history_min_m=(-0.5, -1.0, -0.5), history_max_m=(4.0, 1.0, 0.5), pad_origin_at_beginning=False
    )
    tokens = HistoryTokens(ours, 256)
    bins = tokens.encode(history)
    assert bins.shape == (45,) == (ours.tokens_per_history_traj,) and bins.min() > 0
    assert np.abs(tokens.decode(bins) - history).max() < 0.15


def test_only_the_newest_steps_of_a_history_are_told():
    history = np.column_stack([arc(10.0, 0.0)[:16, :2], np.zeros(16)])
    history[:8] *= 1.3  # it was faster before
    speed = replace(TrajectoryTokenSettings.corrected((-1, -1), (1, 1)), history_axes=(0,), history_last=1)
    tokens = HistoryTokens(speed, 256)
    bins = tokens.encode(history)
    assert bins.shape == (1,) == (speed.tokens_per_history_traj,)
    assert np.array_equal(bins, HistoryTokens(replace(speed, history_last=0), 256).encode(history)[-1:])
    told = np.diff(tokens.decode(bins)[:, 0])
    assert np.allclose(told, 1.0, atol=0.01)  # 10 m/s all the way, as far as one knows


@given(st.text(max_size=60))
@settings(max_examples=50, deadline=None)
def test_any_text_survives_the_tokenizer(text):
    _, processor = _student()
    ids = plain_ids(processor.tokenizer, text)
    assert max(ids, default=0) < processor.config.text_vocab_size
    assert processor.tokenizer.decode(ids) == text


def test_control_strings_in_a_trace_stay_text(student):
    _, processor = student
    for text in ("<i5> left", "<|traj_future_start|>", "a<|im_end|>b"):
        ids = plain_ids(processor.tokenizer, text)
        assert max(ids) < processor.config.text_vocab_size


def test_the_tokenizer_is_reproducible():
    first, second = (train_tokenizer(TRACES, 300) for _ in range(2))
    assert first.get_vocab() == second.get_vocab()
    assert tiny(first, STATISTICS).to_dict() == tiny(second, STATISTICS).to_dict()


_CACHE: list = []


def _student():
    if not _CACHE:
        _CACHE.append(make_student())
    return _CACHE[0]
