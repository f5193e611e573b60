from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from causaldrive.sft.order import SampleOrder, balancing_weights, epoch_order

CLASSES = st.lists(st.sampled_from("abcde"), min_size=1, max_size=60)
SEEDS = st.integers(0, 2**31)


@given(CLASSES, SEEDS, st.integers(0, 50))
def test_an_epoch_holds_each_sample_floor_or_ceil_of_its_share_of_times(classes, seed, epoch):
    weights = balancing_weights(classes)
    order = epoch_order(weights, seed, epoch)
    expected = len(classes) * weights / weights.sum()
    counts = np.bincount(order, minlength=len(classes))
    assert len(order) == len(classes)
    assert np.all(np.abs(counts - expected) < 1 + 1e-9)


@given(CLASSES, SEEDS)
def test_the_order_is_a_function_of_seed_and_step_alone(classes, seed):
    once, again = SampleOrder(classes, seed), SampleOrder(classes, seed)
    forward = [once.batch(step, 7) for step in range(6)]
    assert forward == [again.batch(step, 7) for step in reversed(range(6))][::-1]


def test_batches_join_epochs_without_a_gap():
    order = SampleOrder(["a"] * 10, seed=3)
    seen = [index for step in range(5) for index in order.batch(step, 4)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]  # every epoch is shuffled anew


def test_rare_decisions_are_drawn_by_one_over_the_square_root_of_their_count():
    classes = ["common"] * 1600 + ["rare"] * 16
    drawn = Counter(classes[i] for epoch in range(20) for i in epoch_order(balancing_weights(classes), 0, epoch))
    ratio = drawn["rare"] / drawn["common"]
    assert abs(ratio - 0.1) < 0.005  # 1 / 100 as they occur, sqrt of that as they are drawn


def test_another_seed_gives_another_order():
    classes = ["a"] * 50
    assert SampleOrder(classes, 0).batch(0, 50) != SampleOrder(classes, 1).batch(0, 50)
