"""Each reward is bounded, goes the right way, and can fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rl_worlds import GO, SENTENCES, STOP, coasting, decision, episode, state_at, straight_plan

from causaldrive.ground.words import CAUSE_KINDS, DIRECTIONS, LATERAL_DECISIONS, LONGITUDINAL_DECISIONS
from causaldrive.label.trace import ParsedTrace, parse
from causaldrive.rl.rewards import (
    HARM,
    LOOK_BACK_S,
    cause_f1,
    consistency_reward,
    drive_rewards,
    episode_reward,
    harm_ahead,
    motion_of,
    reasoning_reward,
    reference_m,
    rubric,
    step_rewards,
)
from causaldrive.worlds.explanation import Explanation, Factor
from causaldrive.worlds.scoring import Event

EVERY_S, DURATION_S = 0.5, 8.0
KINDS = st.lists(st.sampled_from(sorted(CAUSE_KINDS)), max_size=3, unique=True).map(tuple)


def drive(result) -> list[float]:
    return drive_rewards(result, EVERY_S, DURATION_S)


def event(kind: str, t_s: float, at_fault: bool = True) -> Event:
    return Event(kind, round(t_s * 1e6), "", at_fault)


def truth(longitudinal="yield", lateral="lane_keeping", direction=None, kinds=()) -> Explanation:
    causes = tuple(Factor(kind, None, 0, 0.0, 0.0, "") for kind in kinds)
    return Explanation(longitudinal, lateral, direction, causes, (), 0.0, 0.0)


# --- drive -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(sorted(HARM)), st.floats(0, 8), st.booleans()), max_size=4),
       st.floats(0, 30))  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_drive_rewards_are_bounded(harms, speed_mps):
    result = episode(coasting(81, speed_mps), [event(*harm) for harm in harms])
    assert all(0.0 <= reward <= 1.0 for reward in drive(result))
    assert 0.0 <= episode_reward(result.score) <= 1.0


def test_driving_further_earns_more_until_the_reference_pace_is_reached():
    # the reference of these drives makes 50 m in 6.4 s, 7.8 m/s
    rewards = [drive(episode(coasting(81, speed)))[0] for speed in (0.0, 2.0, 5.0, 7.9, 20.0)]
    assert rewards[0] == pytest.approx(0.3)  # standing is comfortable and gets nowhere
    assert rewards == sorted(rewards) and rewards[1] < rewards[2] < rewards[3]
    assert rewards[3] == pytest.approx(rewards[4]) == pytest.approx(1.0)


def test_jerky_driving_earns_less():
    smooth = coasting(81)
    jerky = [state_at(i, s.ego.xy_in_local_m[0], 8.0 + 2.0 * (i % 2)) for i, s in enumerate(smooth)]
    assert drive(episode(jerky))[2] < drive(episode(smooth))[2]


@pytest.mark.parametrize("kind", sorted(HARM))
def test_harm_costs_the_decisions_before_it_and_fades(kind):
    free, hit = drive(episode(coasting(81))), drive(episode(coasting(81), [event(kind, 5.0)]))
    # decisions at 1.6, 2.1, ..., 4.6, 5.1, ... s
    costs = np.array(free) - np.array(hit)
    before = costs[1:7]  # 2.1 to 4.6 s: within 3 s before the event
    assert np.all(np.diff(before) > 0) and before[0] > 0
    assert costs[0] == 0 and np.all(costs[7:] == 0)  # 1.6 s is too early, 5.1 s too late


def test_a_collision_leaves_nothing_a_close_encounter_most():
    assert harm_ahead([event("collision", 2.0)], 1_999_999) == pytest.approx(1.0, abs=1e-3)
    assert harm_ahead([event("close_encounter", 2.0)], 1_999_999) == pytest.approx(0.2, abs=1e-3)


def test_being_hit_from_behind_costs_nothing():
    assert drive(episode(coasting(81), [event("collision", 5.0, at_fault=False)])) == drive(episode(coasting(81)))


def test_harm_is_seen_no_further_than_three_seconds_ahead():
    events = [event("off_road", 10.0)]
    assert harm_ahead(events, round((10.0 - LOOK_BACK_S - 0.01) * 1e6)) == 0.0 < harm_ahead(events, 7_100_000)
    assert harm_ahead(events, 10_000_000) == 0.0  # what has happened is not blamed on what follows


def test_the_episode_reward_falls_with_every_fault():
    score = episode(coasting(81)).score
    clean = episode_reward(score)
    assert episode_reward(replace(score, rule_breaking=True)) == pytest.approx(clean / 2)
    assert episode_reward(replace(score, comfort=0.0)) < clean
    assert episode_reward(replace(score, scene_score=0.0)) == 0.0


def test_the_reference_distance_is_recovered_from_the_score():
    score = episode(coasting(81)).score
    assert reference_m(score) == pytest.approx(50.0)
    assert reference_m(replace(score, progress=0.0, distance_m=0.0)) == 5.0


# --- reasoning ---------------------------------------------------------------------------------------------------


@given(st.sampled_from(LONGITUDINAL_DECISIONS), st.sampled_from(LATERAL_DECISIONS),
       st.sampled_from((None, *DIRECTIONS)), KINDS, KINDS)  # fmt: skip
def test_reasoning_is_bounded_and_one_only_when_all_is_right(longitudinal, lateral, direction, named, true):
    parsed = ParsedTrace(longitudinal, lateral, direction, named)
    what = truth(kinds=true)
    reward, points = reasoning_reward(parsed, what), rubric(parsed, what)
    right = (longitudinal, lateral, direction) == ("yield", "lane_keeping", None) and set(named) == set(true)
    assert 0.0 <= reward <= 1.0 and (reward == pytest.approx(1.0)) == right
    assert points in range(6) and (points == 5) == right


@given(KINDS, KINDS)
def test_a_right_axis_and_a_true_cause_never_lower_the_reward(named, true):
    what = truth("yield", "in_lane_nudge", "left", true)
    none = ParsedTrace("speed_adaptation", "in_lane_nudge", "right", named)
    one = replace(none, direction="left")
    both = replace(one, longitudinal="yield")
    for better, worse in ((one, none), (both, one)):
        assert reasoning_reward(better, what) > reasoning_reward(worse, what)
        assert rubric(better, what) >= rubric(worse, what)
    missing = [kind for kind in true if kind not in named]
    if missing:
        told = replace(both, cause_kinds=(*named, missing[0]))
        assert reasoning_reward(told, what) > reasoning_reward(both, what)


def test_a_hallucinated_cause_costs():
    free = truth("set_speed_tracking")
    honest = ParsedTrace("set_speed_tracking", "lane_keeping", None, ())
    assert reasoning_reward(honest, free) == 1.0
    lie = replace(honest, cause_kinds=("red_light",))
    assert reasoning_reward(lie, free) == pytest.approx(0.6) and rubric(lie, free) == 3


def test_the_rubric_follows_the_paper():
    what = truth("yield", kinds=("pedestrian_crossing", "lead_vehicle"))
    right = ParsedTrace("yield", "lane_keeping", None, ("pedestrian_crossing", "lead_vehicle"))
    half = ("pedestrian_crossing",)
    assert rubric(right, what) == 5
    assert rubric(replace(right, cause_kinds=half), what) == 4
    assert rubric(replace(right, cause_kinds=("cyclist",)), what) == 3
    assert rubric(replace(right, longitudinal="stop_for_static_constraint", cause_kinds=half), what) == 2
    assert rubric(replace(right, longitudinal="stop_for_static_constraint", cause_kinds=()), what) == 1
    assert rubric(ParsedTrace("set_speed_tracking", "lane_change", "left", half), what) == 0


def test_f1_of_sets():
    assert cause_f1((), ()) == 1.0 and cause_f1(("cyclist",), ()) == 0.0 == cause_f1((), ("cyclist",))
    assert cause_f1(("cyclist", "red_light"), ("cyclist",)) == pytest.approx(2 / 3)


# --- consistency -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "acceleration", "expected"), [
    (SENTENCES[0], -2.0, 1.0), (SENTENCES[0], 0.0, 0.0), (SENTENCES[1], 0.0, 1.0), (SENTENCES[1], -2.0, 0.0),
])  # fmt: skip
def test_consistency_pays_for_doing_what_was_said(text, acceleration, expected):
    made = decision(16, straight_plan(8.0, acceleration), 8.0, text, GO)
    assert consistency_reward(parse(text), motion_of(made)) == expected


def test_both_axes_must_agree():
    made = decision(16, straight_plan(8.0, -2.0), 8.0, SENTENCES[0], STOP)
    aside = replace(made, lane_offset_m=np.linspace(0.0, 3.0, 65))
    assert consistency_reward(parse(SENTENCES[0]), motion_of(made)) == 1.0
    assert consistency_reward(parse(SENTENCES[0]), motion_of(aside)) == 0.0


@pytest.mark.parametrize("text", ["", "Stop", "because", "Stop and speed up to pass and keep the lane because."])
def test_text_that_cannot_be_read_earns_nothing(text):
    result = episode(coasting(81), texts=[text])
    for step in step_rewards(result, EVERY_S, DURATION_S):
        assert (step.reasoning, step.consistency, step.rubric, step.readable) == (0.0, 0.0, 0, False)
        assert step.drive > 0  # what it does is judged on its own
