"""What models really send: JSON in prose, fences and thinking; closed sets are held, nothing is guessed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causaldrive.label.replies import (
    BadReply,
    find_json,
    read_binding,
    read_causes,
    read_decision,
    read_grades,
)
from causaldrive.label.types import Cause

PROSE = st.text(st.characters(exclude_characters="{<", exclude_categories=["Cs"]), max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x, max_size=3), max_leaves=5
)
KINDS = ("critical_object", "lead_vehicle")


@given(before=PROSE, thought=PROSE, value=st.dictionaries(st.text(), VALUES, max_size=4), after=PROSE)
def test_an_object_is_found_whatever_stands_around_it(before, thought, value, after):
    assert find_json(f'<think>{thought} {{"no": 1}}</think>{before}{json.dumps(value)}{after}') == value


@given(st.text())
def test_any_text_gives_an_object_or_a_failure_with_a_name(text):
    try:
        assert isinstance(find_json(text), dict)
    except BadReply as fault:
        assert fault.kind in ("empty", "invalid_json")


ENTRIES = st.dictionaries(
    st.sampled_from(["category", "kind", "text", "seen_s", "agent_id"]),
    st.sampled_from([*KINDS, "ufo", "", None, True, -0.5, 7, float("nan"), float("inf"), 10**400, [], {}]),
)


@given(st.lists(ENTRIES, max_size=5) | VALUES)
def test_causes_are_read_or_refused_never_half_read(entries):
    try:
        causes = read_causes({"causes": entries}, 5_000_000)
    except BadReply:
        return
    assert len(causes) <= 3 and all(cause.text and cause.category in KINDS for cause in causes)


def test_a_time_after_now_is_kept_for_the_validators_to_see():
    entry = {"category": KINDS[0], "kind": None, "text": " a  car ", "seen_s": 1.5}
    assert read_causes({"causes": [entry]}, 0) == (Cause(KINDS[0], "a car", None, None, 1_500_000),)


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ({"longitudinal": "yield", "lateral": "none", "direction": "left"}, ("yield", None, None)),
        ({"longitudinal": None, "lateral": "Lane Change", "direction": "LEFT"}, (None, "lane_change", "left")),
        ({"longitudinal": "yield", "lateral": "pull_over", "direction": "right"}, ("yield", "pull_over", "right")),
    ],
)
def test_decisions_in_their_usual_clothes(answer, read):
    assert read_decision(answer) == read


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"longitudinal": "brake", "lateral": None}, "outside_closed_sets"),
        ({"longitudinal": None, "lateral": "turn", "direction": None}, "outside_closed_sets"),
        ({"longitudinal": None, "lateral": None}, "outside_closed_sets"),
        ({"longitudinal": "yield"}, "invalid_json"),
    ],
)
def test_decisions_that_are_none(answer, kind):
    with pytest.raises(BadReply) as refused:
        read_decision(answer)
    assert refused.value.kind == kind


def test_only_causes_that_were_named_can_bind():
    causes = (Cause(KINDS[0], "one"), Cause(KINDS[0], "two"))
    assert read_binding({"binding": [2, 2]}, causes) == causes[1:]
    for numbers, kind in (([0], "outside_closed_sets"), ([3], "outside_closed_sets"), ([True], "invalid_json")):
        with pytest.raises(BadReply) as refused:
            read_binding({"binding": numbers}, causes)
        assert refused.value.kind == kind


@given(
    grade=st.one_of(st.integers(-2, 8), st.just(10**400), st.floats(), st.none(), st.booleans(), st.text(max_size=2))
)
def test_grades_are_whole_and_from_0_to_5(grade):
    try:
        behaviour, _, _ = read_grades({"behaviour": grade, "causality": 3, "reason": "x"})
    except BadReply:
        assert isinstance(grade, bool) or not isinstance(grade, (int, float)) or grade not in range(6)
    else:
        assert behaviour == grade and type(behaviour) is int
