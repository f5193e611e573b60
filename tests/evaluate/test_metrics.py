"""From records to rows: reasoning tallies, minADE, groups, failures apart, pairs."""

from __future__ import annotations

import numpy as np
import pytest
from eval_drives import KEEP, STOP, moment, straight_motion, truth
from hypothesis import given
from hypothesis import strategies as st

from causaldrive.evaluate.metrics import Log, compare
from causaldrive.evaluate.open_loop import steering
from causaldrive.evaluate.reasoning import motion_as_json, motion_from_json, tallies
from causaldrive.ground.words import CAUSE_KINDS
from causaldrive.label.truth import Truth, truth_of_label
from causaldrive.label.types import Cause, CocLabel

RED = Truth("stop_for_static_constraint", "lane_keeping", None, ("red_light",))
BRAKING, ROLLING = straight_motion(8.0, -2.0), straight_motion(8.0, 0.0)


def test_a_true_and_consistent_trace_gets_everything():
    found = tallies(STOP, RED, BRAKING)
    for name in ("parse_rate", "decision_accuracy", "cause_precision", "cause_recall", "cause_f1", "consistency"):
        assert found[name].numerator == found[name].denominator > 0, name


def test_saying_stop_and_rolling_on_is_inconsistent_and_still_true():
    found = tallies(STOP, RED, ROLLING)
    assert found["consistency"].numerator == 0 and found["decision_accuracy"].numerator == 1


def test_a_false_trace_is_wrong():
    found = tallies(KEEP, RED, BRAKING)
    assert found["decision_accuracy"].numerator == found["cause_recall"].numerator == 0
    assert found["cause_precision"].denominator == 0  # it named none: nothing to be precise about


@pytest.mark.parametrize("text", ["", "the the of", "Because.", "Nudge out of the lane."])
def test_unreadable_text_is_unscored_and_counted(text: str):
    assert set(tallies(text, RED, BRAKING)) == {"parse_rate"}
    assert tallies(text, RED, BRAKING)["parse_rate"].numerator == 0


def test_a_nudge_to_the_wrong_side_is_a_wrong_lateral_decision():
    left = Truth("set_speed_tracking", "out_of_lane_nudge", "left", ("stopped_vehicle",))
    said = "Keep the speed and nudge right out of the lane because a stopped car blocks the right side of our lane."
    found = tallies(said, left, ROLLING)
    assert found["longitudinal_accuracy"].numerator == 1 and found["lateral_accuracy"].numerator == 0


def test_unobserved_causes_are_no_truth():
    cause = Cause("odd_constraint", "the cause was not observed", "unobserved")
    label = CocLabel("r", 0, "periodic", "yield", "lane_keeping", None, (cause,), "x", (), (), "motion", "")
    assert truth_of_label(label).cause_kinds is None
    assert "cause_f1" not in tallies(STOP, truth_of_label(label), BRAKING)


@given(st.sets(st.sampled_from(sorted(CAUSE_KINDS))), st.booleans())
def test_f1_lies_between_precision_and_recall(kinds: set[str], red: bool):
    found = tallies(STOP if red else KEEP, Truth("yield", "lane_keeping", None, tuple(kinds)), BRAKING)
    p, r, f = (found[name] for name in ("cause_precision", "cause_recall", "cause_f1"))
    if p.denominator and r.denominator:
        low, high = sorted((p.numerator / p.denominator, r.numerator / r.denominator))
        assert low - 1e-9 <= f.numerator / f.denominator <= high + 1e-9


def test_motion_survives_its_log_line():
    again = motion_from_json(motion_as_json(BRAKING))
    assert np.allclose(again.speed_mps, BRAKING.speed_mps, atol=0.006)
    assert again.lane_offset_m is not None and len(again.xy_in_rig_m) == 65


def rows_of(records: list[dict]) -> dict:
    return {(row.group, row.metric): row for row in Log("coc", "open_loop", records).rows(0)}


def test_min_ade_takes_the_best_sample_and_ade_the_first():
    records = [moment("a@1", "a", 3.0), moment("b@1", "b", 1.0)]
    records[0]["error_m"] = [[3.0] * 64, [1.0] * 30 + [9.0] * 34]
    rows = rows_of(records)
    assert rows["all", "minade_3s_m"].value == pytest.approx((1.0 + 1.0) / 2)
    assert rows["all", "minade_6s4_m"].value == pytest.approx((3.0 + 1.0) / 2)
    assert rows["all", "ade_6s4_m"].value == pytest.approx((3.0 + 1.0) / 2)


def test_failures_are_counted_apart_and_groups_hold_their_own():
    failed = {"item": "c@1", "cluster": "c", "family": "red_light", "harmless": None, "failure": "no frame"}
    records = [moment("a@1", "a", 2.0, STOP), moment("b@1", "b", 4.0, "gibberish", harmless=True), failed]
    rows = rows_of(records)
    assert (rows["all", "minade_6s4_m"].n, rows["all", "minade_6s4_m"].failures) == (2, 1)
    assert rows["all", "minade_6s4_m"].value == 3.0
    assert rows["all", "parse_rate"].value == 0.5 and rows["all", "decision_accuracy"].n == 1
    assert rows["variant:harmless", "minade_6s4_m"].value == 4.0
    assert rows["variant:cause", "minade_6s4_m"].failures == 0


def test_a_driver_that_only_fails_has_a_row_without_a_value():
    rows = rows_of([{"item": "c@1", "cluster": "c", "family": None, "harmless": None, "failure": "broken"}])
    row = rows["all", "minade_6s4_m"]
    assert (row.value, row.n, row.failures) == (None, 0, 1)


def test_closed_loop_sums_decisions_within_a_scene():
    score = {"at_fault_collision": False, "any_collision": False, "off_road": False, "rule_breaking": True,
             "close_encounter": False, "clean": False, "progress": 0.5, "comfort": 1.0, "scene_score": 0.6}  # fmt: skip
    said = {"truth": truth("stop_for_static_constraint", ("red_light",)), "motion": motion_as_json(BRAKING)}
    decisions = [said | {"text": STOP}, said | {"text": KEEP}, said | {"text": "??"}]
    record = {"item": "s", "cluster": "s", "family": "red_light", "harmless": False, "failure": None, "score": score,
              "decisions": decisions}  # fmt: skip
    rows = {row.metric: row for row in Log("coc", "closed_loop", [record]).rows(0) if row.group == "all"}
    assert rows["rule_breaking_share"].value == 1.0 and rows["clean_share"].value == 0.0
    assert (rows["parse_rate"].value, rows["parse_rate"].n) == (pytest.approx(2 / 3), 3)
    assert (rows["decision_accuracy"].value, rows["decision_accuracy"].n) == (0.5, 2)
    assert rows["cause_f1"].value == pytest.approx(2 / 3)


def test_compare_pairs_by_item_and_leaves_out_what_one_lacks():
    first = Log("a", "open_loop", [moment(f"m{i}@0", f"m{i}", 1.0 + i) for i in range(8)])
    second = Log("b", "open_loop", [moment(f"m{i}@0", f"m{i}", 1.5 + i) for i in range(2, 12)])
    (difference,) = compare(first, second, ["minade_6s4_m"], 0)
    assert difference.n == 6 and difference.value == pytest.approx(-0.5)
    assert difference.low == pytest.approx(-0.5) and difference.high == pytest.approx(-0.5)


# --- steering --------------------------------------------------------------------------------------------------------


def bent(left_m: float) -> np.ndarray:
    """(64, 2) a path at 10 m/s that has gone `left_m` aside after 2 s and as much more every 2 s."""
    t = 0.1 * np.arange(1, 65)
    return np.stack([10.0 * t, left_m * t / 2.0], axis=1)


@pytest.mark.parametrize(("planned", "true", "gain"), [(1.0, 1.0, 1.0), (0.5, 1.0, 0.5), (-1.0, 1.0, -1.0)])
def test_the_steering_gain_is_how_much_of_the_way_aside_is_done(planned, true, gain):
    found = steering(bent(planned), bent(true))
    assert found["steered_m2"][0] / found["steered_m2"][1] == pytest.approx(gain, abs=1e-3)
    assert found["aside_2s_m"] == pytest.approx(abs(planned - true), abs=0.01)


def test_a_path_that_is_only_slower_is_not_beside_the_way():
    slow = bent(1.0) * 0.8
    assert steering(slow, bent(1.0))["aside_2s_m"] == pytest.approx(0.0, abs=1e-3)
    fast = bent(1.0) * 1.3
    assert steering(fast, bent(1.0))["aside_2s_m"] == pytest.approx(0.0, abs=1e-3)
