"""Replies as models write them, well and badly: what is read of them, what is dropped, what is a failure."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from causaldrive.evaluate.ask.reading import KINDS, Scale, read, schema_of, seconds_of

BOX = {"bbox_2d": [100, 200, 300, 400], "label": "car"}
SIDE = st.lists(st.integers(0, 1000), min_size=2, max_size=2, unique=True).map(sorted)


def boxes(reply: str):
    return [(e.label, e.values) for e in read(reply, "boxes").entries]


@pytest.mark.parametrize("reply", [
    json.dumps([BOX]),
    "```json\n" + json.dumps([BOX]) + "\n```",
    "Here it is [as asked]:\n```\n" + json.dumps([BOX]) + "\n```\nDone.",
    json.dumps(BOX),
    json.dumps({"answer": [BOX]}),
    json.dumps({"car": [100, 200, 300, 400]}),
    json.dumps({"objects": [{"box_2d": [100, 200, 300, 400], "name": "car"}]}),
    "<think>there is [a] car {maybe}</think>\n\n" + json.dumps([BOX]),
    "<think>a car</think><answer>" + json.dumps([BOX]) + "</answer>",
    '[{"bbox_2d": [100, 200, 300, 400,], "label": "car",},]',
    "[{'bbox_2d': [100, 200, 300, 400], 'label': 'car'}]",
    '[{"x1": 100, "y1": 200, "x2": 300, "y2": 400, "label": "car"}]',
    'The car is at {"bbox_2d": [100, 200, 300, 400], "label": "car"}, I think.',
])  # fmt: skip
def test_one_box_is_read_however_it_is_written(reply: str):
    assert boxes(reply) == [("car", ((0.1, 0.2), (0.3, 0.4)))]


def test_the_last_entry_of_a_cut_reply_is_not_believed():
    whole = json.dumps([BOX, {"bbox_2d": [500, 500, 900, 955], "label": "van"}])
    cut = read(whole[: whole.index("55]")], "boxes")  # 955 became 9
    assert [e.label for e in cut.entries] == ["car"] and cut.mended and cut.dropped == 1


@given(st.integers(1, 200))
def test_no_cut_of_a_reply_makes_a_box_that_was_not_said(length: int):
    said = [BOX, {"bbox_2d": [10, 20, 30, 400], "label": "van"}, {"bbox_2d": [5, 5, 600, 700], "label": "bus"}]
    expected = boxes(json.dumps(said))
    found = [values for _, values in boxes(json.dumps(said)[:length])]
    assert found == [values for _, values in expected[: len(found)]]


@pytest.mark.parametrize(("reply", "failure"), [
    ("", "empty"), ("<think>I wonder", "empty"), ("I see no car.", "invalid_json"),
    ('[{"bbox_2d": [1200, 0, 1300, 5], "label": "x"}]', "invalid_json"),
    ('[{"bbox_2d": [300, 200, 100, 400], "label": "x"}]', "invalid_json"),
    ('[{"bbox_2d": ["a", 200, 100, 400]}]', "invalid_json"),
    ('[{"bbox_2d": [NaN, 2, 3, 4]}]', "invalid_json"), ('[{"bbox_2d": [0, 2, 3, 1' + "0" * 400 + "]}]", "invalid_json"),
])  # fmt: skip
def test_what_makes_no_sense_is_a_failure(reply: str, failure: str):
    found = read(reply, "boxes")
    assert found.failure == failure and found.entries == ()


def test_nothing_found_is_an_answer():
    for reply in ("[]", "```json\n[]\n```", '{"answer": []}'):
        found = read(reply, "boxes")
        assert found.failure is None and found.entries == ()
    assert read('["', "boxes").failure == "invalid_json", "a broken beginning is no answer"


def test_bad_entries_are_dropped_and_counted():
    found = read(json.dumps([BOX, {"label": "no box"}, {"bbox_2d": [0, 0, 5000, 10]}]), "boxes")
    assert len(found.entries) == 1 and found.dropped == 2


def test_boxes_in_pixels():
    found = read('[{"bbox_2d": [64, 36, 640, 360], "label": "car"}]', "boxes", Scale("pixels", 640, 360))
    assert found.entries[0].values == ((0.1, 0.1), (1.0, 1.0))


def test_thinking_is_kept_apart():
    found = read("<think>first this</think>The road is clear.", "prose")
    assert (found.text, found.thinking) == ("The road is clear.", "first this")
    assert read("first this</think>The road is clear.", "prose").text == "The road is clear."


@pytest.mark.parametrize("reply", [
    '[{"point_2d": [0, 1000], "label": "us"}, {"point_2d": [500, 500], "label": "us"}]',
    '[{"points": [[0, 1000], [500, 500]], "label": "us"}]',
    '{"label": "us", "path": [[0, 1000], [500, 500]]}',
])  # fmt: skip
def test_paths_are_joined_in_their_order(reply: str):
    (entry,) = read(reply, "paths").entries
    assert (entry.label, entry.values) == ("us", ((0.0, 1.0), (0.5, 0.5)))


def test_paths_of_two_things_stay_apart():
    points = [
        {"point_2d": [0, 0], "label": "a"},
        {"point_2d": [1, 1], "label": "b"},
        {"point_2d": [2, 2], "label": "a"},
    ]
    assert [len(entry.values) for entry in read(json.dumps(points), "paths").entries] == [2, 1]


@pytest.mark.parametrize("reply", [
    '{"reason": "go", "trajectory": [[1.5, 0], [3, -0.25]]}',
    '{"reason": "go", "waypoints": [{"x": 1.5, "y": 0}, {"x": 3, "y": -0.25}]}',
    '{"action": "go", "trajectory": [{"x_m": 1.5, "y_m": 0}, {"x_m": 3, "y_m": -0.25}]}',
])  # fmt: skip
def test_way_points(reply: str):
    (entry,) = read(reply, "waypoints").entries
    assert (entry.label, entry.values) == ("go", ((1.5, 0.0), (3.0, -0.25)))


def test_points_in_the_camera_frame_lie_in_front():
    reply = '[{"point_3d": [1, 2, 10], "label": "car"}, {"point_3d": [1, 2, -10], "label": "ghost"}]'
    found = read(reply, "points_3d")
    assert [entry.label for entry in found.entries] == ["car"] and found.dropped == 1


@pytest.mark.parametrize(("text", "seconds"), [
    ("00:03.50", 3.5), ("00:00.100", 0.1), ("01:02:03", 3723.0), ("3.5 s", 3.5), (2, 2.0), ("soon", None), (True, None),
    ("1:-2", None),
])  # fmt: skip
def test_times(text, seconds):
    assert seconds_of(text) == seconds


def test_spans_must_end_after_they_begin():
    found = read('[{"start": "00:01", "end": "00:02", "caption": "brakes"}, {"start": 3, "end": 1}]', "spans")
    assert [(e.label, e.values) for e in found.entries] == [("brakes", ((1.0, 2.0),))] and found.dropped == 1


@given(st.lists(st.tuples(SIDE, SIDE)))
def test_boxes_survive_writing_and_reading(sides):
    corners = [(x[0], y[0], x[1], y[1]) for x, y in sides]
    found = read(json.dumps([{"bbox_2d": list(c), "label": "x"} for c in corners]), "boxes")
    assert [e.values for e in found.entries] == [((a / 1000, b / 1000), (c / 1000, d / 1000)) for a, b, c, d in corners]
    assert found.failure is None and not found.mended


@given(st.text(), st.sampled_from(KINDS))
def test_no_text_is_too_odd(text: str, kind: str):
    assert read(text, kind).failure in (None, "empty", "invalid_json")


@given(st.text(alphabet='[]{}":,0123456789abx \n'), st.sampled_from(KINDS))
def test_no_broken_json_is_too_odd(text: str, kind: str):
    read(text, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_are_objects_as_endpoints_demand(kind: str):
    schema = schema_of(kind)
    assert schema["type"] == "object" and schema["required"] == list(schema["properties"])
