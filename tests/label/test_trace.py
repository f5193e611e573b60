"""The trace: what is written is read back; free English is read by keywords."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causaldrive.ground.words import (
    CAUSE_KINDS,
    DIRECTED_LATERAL,
    DIRECTIONS,
    LATERAL_DECISIONS,
    LONGITUDINAL_DECISIONS,
)
from causaldrive.label.trace import SIDED_LATERAL, UNOBSERVED, compose, parse
from causaldrive.label.types import Cause

TEXTS = {  # as the expert of the worlds words them
    "lead_vehicle": ("the car ahead is braking", "the car ahead is slower", "the car ahead is stopped"),
    "cut_in_vehicle": ("a car from the left lane is cutting in", "a car from the right lane is cutting in"),
    "stopped_vehicle": ("a stopped car blocks the right side of our lane", "a parked truck is beside our lane"),
    "pedestrian_crossing": ("a pedestrian is crossing from the right", "a pedestrian is standing in our way"),
    "cyclist": (
        "the cyclist ahead is slower",
        "the cyclist ahead is stopped",
        "a slow cyclist is on the right side of our lane",
    ),
    "pedestrian_waiting": ("a pedestrian is waiting at the curb",),
    "oncoming_vehicle": (
        "an oncoming car needs the room beside it",
        "an oncoming car comes into our lane",
        "an oncoming car goes first",
    ),
    "risky_vehicle": ("a car in the left lane is swerving", "the car ahead is swerving"),
    "neighbour_vehicle": ("a car beside us is in the left lane", "a car beside us is in the right lane"),
    "lane_ends": ("our lane ends ahead",),
    "route_lane": ("our route needs the left lane", "our route needs the right lane"),
    "construction": ("construction closes our lane", "construction narrows our lane"),
    "school_bus": ("a school bus has stopped with flashing lights",),
    "emergency_vehicle": ("an emergency vehicle is crossing", "an emergency vehicle comes from behind"),
    "speed_bump": ("a speed bump is ahead",),
    "red_light": ("the traffic light ahead is red",),
    "yellow_light": ("the traffic light ahead is yellow",),
    "green_light": ("the traffic light ahead has turned green",),
    "stop_sign": ("a stop sign is ahead",),
    "crossing_vehicle": ("a crossing car came first", "a crossing car goes first"),
    "merging_vehicle": ("a car on the main road goes first", "a car in the roundabout goes first"),
    "sharp_curve": ("a sharp left curve is ahead", "a sharp right curve is ahead"),
    "unobserved": (UNOBSERVED,),
}


@st.composite
def decisions(draw):
    longitudinal = draw(st.sampled_from((None, *LONGITUDINAL_DECISIONS)))
    lateral = draw(st.sampled_from((None, *LATERAL_DECISIONS)))
    sides = DIRECTIONS if lateral in DIRECTED_LATERAL else (None, *DIRECTIONS) if lateral in SIDED_LATERAL else (None,)
    return longitudinal, lateral, draw(st.sampled_from(sides))


@st.composite
def causes(draw):
    kinds = draw(st.lists(st.sampled_from(sorted(CAUSE_KINDS)), max_size=3, unique=True))
    return tuple(Cause(CAUSE_KINDS[kind], draw(st.sampled_from(TEXTS[kind])), kind) for kind in kinds)


@given(decisions(), causes())
def test_what_is_written_is_read_back(decision, named):
    text = compose(*decision, named)
    parsed = parse(text)
    assert (parsed.longitudinal, parsed.lateral, parsed.direction) == decision
    assert parsed.cause_kinds == tuple(cause.kind for cause in named)
    assert parsed.problems == ()
    assert len(compose(*decision, named[:1]).split()) <= 22
    assert parse(f"<think>a car, maybe</think>  {text.upper()}\n") == parsed


def test_the_sentences_are_those_of_the_design():
    red = Cause("traffic_light", "the traffic light ahead is red", "red_light")
    green = Cause("traffic_light", "the traffic light ahead has turned green", "green_light")
    assert compose("stop_for_static_constraint", "lane_keeping", None, [red]) == (
        "Stop and keep the lane because the traffic light ahead is red."
    )
    assert compose("set_speed_tracking", "lane_keeping", None, []) == (
        "Keep the speed and the lane because the road is clear."
    )
    assert compose("set_speed_tracking", "lane_keeping", None, [green]) == (
        "Resume the speed and keep the lane because the traffic light ahead has turned green."
    )


@pytest.mark.parametrize(
    ("text", "longitudinal", "lateral", "direction", "kinds"),
    [
        ("slow down for the red traffic light", "stop_for_static_constraint", None, None, ("red_light",)),
        ("Yield to the pedestrian.", "yield", None, None, ("pedestrian_crossing",)),
        ("Come to a stop due to the red light ahead", "stop_for_static_constraint", None, None, ("red_light",)),
        ("Because the light is red, stop.", "stop_for_static_constraint", None, None, ("red_light",)),
        ("Decelerate because the vehicle in front is braking, and stay in the lane", "lead_obstacle_following", None,
         None, ("lead_vehicle",)),
        ("Follow the lead car and stay in lane", "lead_obstacle_following", "lane_keeping", None, ("lead_vehicle",)),
        ("Nudge left around the parked car", None, "in_lane_nudge", "left", ("stopped_vehicle",)),
        ("Nudge to the right across the lane line since a truck blocks the left", None, "out_of_lane_nudge", "right",
         ("stopped_vehicle",)),
        ("Change to the left lane to pass the slow truck", "acceleration_for_passing", "lane_change", "left",
         ("lead_vehicle",)),
        ("Maintain speed as the light has turned green", "set_speed_tracking", None, None, ("green_light",)),
        ("Adapt speed for the sharp right curve and keep lane", "speed_adaptation", "lane_keeping", None,
         ("sharp_curve",)),
        ("Turn left at the intersection and yield to oncoming people", "yield", "turn", "left",
         ("pedestrian_crossing",)),
        ("Yield since the oncoming truck has priority, then turn left", "yield", None, None, ("oncoming_vehicle",)),
        ("Wait for a gap because vehicles in the roundabout go first", "gap_searching", None, None,
         ("merging_vehicle",)),
        ("Give way because the car on the right arrived first", "yield", None, None, ("crossing_vehicle",)),
        ("Stop because there is no green light but a stop sign", "stop_for_static_constraint", None, None,
         ("stop_sign",)),
    ],
)  # fmt: skip
def test_free_english(text, longitudinal, lateral, direction, kinds):
    parsed = parse(text)
    assert (parsed.longitudinal, parsed.lateral, parsed.direction) == (longitudinal, lateral, direction)
    assert parsed.cause_kinds == kinds


@pytest.mark.parametrize(
    "denied",
    ["no pedestrian is near", "there is no lead vehicle", "the light is not red", "the pedestrian is not crossing"],
)
def test_a_denied_cause_is_none(denied):
    assert parse(f"Keep the speed and the lane because {denied}.").cause_kinds == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("a lovely day", "no decision"),
        ("Stop and yield because a pedestrian crosses", "contradict"),
        ("Nudge across the lane line because a car blocks it", "names no side"),
    ],
)
def test_problems_are_named(text, problem):
    assert any(problem in found for found in parse(text).problems)


@given(st.text(max_size=200))
def test_any_text_can_be_parsed(text):
    parsed = parse(text)
    assert parsed.longitudinal in (None, *LONGITUDINAL_DECISIONS) and set(parsed.cause_kinds) <= set(CAUSE_KINDS)
