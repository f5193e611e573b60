"""Balance: no group above its share, the rare ones whole, the same ones every time."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from causaldrive.label.balance import NO_FAMILY, balanced
from causaldrive.label.types import CocLabel


def made(recording: str, t: int, decision: str, status: str = "accepted", origin: str = "periodic") -> CocLabel:
    return CocLabel(recording, t, origin, decision, "lane_keeping", None, (), "", (), (), "expert", "", (), status)


LABELS = [
    *(made(f"a{i % 4}", i, "set_speed_tracking", origin="transition" if i == 30 else "periodic") for i in range(40)),
    *(made("b", i, "set_speed_tracking") for i in range(7)),
    *(made("a0", 100 + i, "yield") for i in range(3)),
    *(made("a0", 200 + i, "yield", "rejected") for i in range(9)),
]
FAMILY = {"a0": "cut_in", "a1": "cut_in", "a2": "cut_in", "a3": "cut_in"}


def test_common_groups_are_cut_and_rare_ones_stay():
    kept, groups = balanced(LABELS, FAMILY, 5)
    assert [(g.family, g.longitudinal, g.found, g.kept) for g in groups] == [
        ("cut_in", "set_speed_tracking", 40, 5), (NO_FAMILY, "set_speed_tracking", 7, 5), ("cut_in", "yield", 3, 3),
    ]  # fmt: skip
    assert Counter(label.status for label in kept) == {"accepted": 13, "rejected": 9}
    assert any(label.origin == "transition" for label in kept), "moments of change are kept first"
    assert len({label.recording_id for label in kept if label.t0_us < 40 and label.recording_id != "b"}) > 1


def test_nothing_is_left_out_unless_asked():
    kept, groups = balanced(LABELS, FAMILY, 0)
    assert kept == LABELS and all(group.found == group.kept for group in groups)


@given(st.permutations(range(len(LABELS))), st.integers(1, 50))
def test_the_order_changes_nothing(order, most):
    kept, _ = balanced([LABELS[i] for i in order], FAMILY, most)
    again, _ = balanced(LABELS, FAMILY, most)
    assert {(x.recording_id, x.t0_us) for x in kept} == {(x.recording_id, x.t0_us) for x in again}
