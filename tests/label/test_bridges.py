"""Bridges: what goes out comes back, what cannot be read stays with its text, what is broken is set aside."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from causaldrive.ground.errors import UserError
from causaldrive.ground.words import DIRECTED_LATERAL, DIRECTIONS, LATERAL_DECISIONS, LONGITUDINAL_DECISIONS
from causaldrive.label import bridge_ood, bridge_studio, bridge_yaml
from causaldrive.label.bridges import ExportLabelsConfig, ImportLabelsConfig, run_export, run_import
from causaldrive.label.store import read_labels, write_labels
from causaldrive.label.trace import compose
from causaldrive.label.types import Cause, CocLabel

CAUSE = Cause("traffic_light", "the light ahead is red", "red_light", "l1", 2_900_000)


def label(t0_us: int = 3_000_000, clip: str = "clip-1", **changes) -> CocLabel:
    fields = {
        "recording_id": clip, "t0_us": t0_us, "origin": "transition", "decision_longitudinal": "yield",
        "decision_lateral": "lane_keeping", "direction": None, "causes": (CAUSE,), "meta_history": ("a/b",),
        "trace": "Yield and keep the lane because the light ahead is red.", "meta_future": ("c/d",), "teacher": "t",
        "prompt_hash": "", "status": "accepted",
    }  # fmt: skip
    return CocLabel(**{**fields, **changes})


words = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60).filter(lambda text: text.strip())
clips = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), min_size=1, max_size=20)
times = st.integers(-(2**40), 2**40)
rows = st.lists(st.tuples(clips, times, words), min_size=1, max_size=6)


def content(labels: list[CocLabel]) -> list[tuple]:
    return sorted((x.recording_id, x.t0_us, x.trace) for x in labels)


@settings(max_examples=40, deadline=None)
@given(rows)
def test_the_reasoning_table_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("ood") / "ood.parquet"
    bridge_ood.write_ood(path, [label(t, clip, trace=text) for clip, t, text in rows])
    found = bridge_ood.read_ood(path)
    assert content(found.labels) == sorted(rows) and not found.set_aside


@settings(max_examples=30, deadline=None)
@given(rows)
def test_yaml_files_come_back(tmp_path_factory, rows):
    directory = tmp_path_factory.mktemp("yaml")
    bridge_yaml.write_yaml(directory, [label(t, clip, trace=text) for clip, t, text in rows])
    found = bridge_yaml.read_yaml(directory)
    assert content(found.labels) == sorted(rows) and not found.set_aside


@settings(max_examples=40, deadline=None)
@given(rows, st.sampled_from(["accepted", "rejected", "unscored"]))
def test_label_studio_tasks_come_back_whole(tmp_path_factory, rows, status):
    path = tmp_path_factory.mktemp("studio") / "tasks.json"
    labels = [label(t, clip, trace=text, status=status) for clip, t, text in rows]
    bridge_studio.write_studio(path, labels)
    assert bridge_studio.read_studio(path).labels == labels


@given(st.sampled_from(LONGITUDINAL_DECISIONS), st.sampled_from(LATERAL_DECISIONS), st.sampled_from(DIRECTIONS))
@settings(deadline=None)
def test_our_own_traces_are_read_back_as_decisions(tmp_path_factory, longitudinal, lateral, side):
    direction = side if lateral in DIRECTED_LATERAL else None
    trace = compose(longitudinal, lateral, direction, [CAUSE])
    path = tmp_path_factory.mktemp("own") / "ood.parquet"
    bridge_ood.write_ood(path, [label(trace=trace)])
    (back,) = bridge_ood.read_ood(path).labels
    assert (back.decision_longitudinal, back.decision_lateral, back.direction) == (longitudinal, lateral, direction)
    assert [cause.kind for cause in back.causes] == ["red_light"] and back.status == "unscored"


def test_text_that_cannot_be_read_stays_unscored_with_its_text(tmp_path):
    bridge_ood.write_ood(tmp_path / "o.parquet", [label(trace="A lovely morning.")])
    (back,) = bridge_ood.read_ood(tmp_path / "o.parquet").labels
    assert back.trace == "A lovely morning." and back.status == "unscored" and back.decision_longitudinal is None
    assert back.verdicts[0].passed is None and "no decision" in back.verdicts[0].reason


def test_the_released_table_is_read_with_coc_and_with_cot(tmp_path):
    events = [
        {"event_start_frame": 153, "event_start_timestamp": 5_100_000, "coc": "Stop because the light is red."},
        {"event_start_frame": 200, "event_start_timestamp": 6_700_000.0, "cot": "Yield because a pedestrian crosses."},
        {"event_start_frame": 1, "event_start_timestamp": None, "coc": "x"},
        {"event_start_frame": 1, "event_start_timestamp": 7},
        "text",
    ]
    rows = {"events": [json.dumps(events), "{not json"], "split": ["train", "val"], "clip_id": ["c1", "c2"]}
    pq.write_table(pa.table(rows), tmp_path / "ood_reasoning.parquet")
    run_import(ImportLabelsConfig("ood", tmp_path / "ood_reasoning.parquet", tmp_path / "out"))
    labels = read_labels(tmp_path / "out")
    assert [(x.t0_us, x.decision_longitudinal) for x in labels] == [
        (5_100_000, "stop_for_static_constraint"), (6_700_000, "yield")]  # fmt: skip
    page = (tmp_path / "out" / "report.html").read_text()
    assert "event_start_timestamp is None" in page and "neither coc nor cot" in page and "clip c2" in page


def test_the_index_is_one_that_pandas_knows(tmp_path):
    bridge_ood.write_ood(tmp_path / "o.parquet", [label()])
    metadata = json.loads(pq.read_schema(tmp_path / "o.parquet").metadata[b"pandas"])
    assert metadata["index_columns"] == ["clip_id"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c__5.yaml", "coc: [1, 2]", "no sentence in it"),
        ("c__5.yaml", "a: b: c", "not valid YAML"),
        ("c.yaml", "coc: Stop.", "its keyframe is not known"),
    ],
)
def test_yaml_that_is_none_of_ours_is_set_aside(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    (tmp_path / "good__7.yaml").write_text(json.dumps("Stop because the light is red."))
    found = bridge_yaml.read_yaml(tmp_path)
    assert [x.t0_us for x in found.labels] == [7] and said in found.set_aside[0]


def test_a_sentence_wrapped_as_json_is_unwrapped(tmp_path):
    (tmp_path / "c__5.yaml").write_text(yaml.safe_dump({"output": json.dumps({"coc": "Stop at the line."})}))
    assert bridge_yaml.read_yaml(tmp_path).labels[0].trace == "Stop at the line."


def annotate(path: Path, cancelled: bool = False, **changes) -> None:
    """What Label Studio writes for the first task: the prediction with some answers changed."""
    tasks = json.loads(path.read_text())
    result = tasks[0].pop("predictions")[0]["result"]
    for entry in result:
        if entry["from_name"] in changes:
            entry["value"] = changes[entry["from_name"]]
    tasks[0]["annotations"] = [{"was_cancelled": cancelled, "result": result}]
    path.write_text(json.dumps(tasks))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"status": "accepted"}),
        ({"verdict": {"choices": ["Reject"]}}, {"status": "rejected"}),
        ({"decision_longitudinal": {"choices": ["none"]}}, {"status": "edited", "decision_longitudinal": None}),
        ({"trace": {"text": "Yield."}}, {"status": "edited", "trace": "Yield."}),
        ({"causes": {"text": ["lane_line: a solid line\ntraffic_light: the light ahead is red"]}},
         {"status": "edited", "causes": (Cause("lane_line", "a solid line"), CAUSE)}),
        ({"causes": {"text": [""]}}, {"status": "edited", "causes": ()}),
    ],
)  # fmt: skip
def test_annotations_decide(tmp_path, changes, expected):
    before = label(status="unscored")
    bridge_studio.write_studio(tmp_path / "t.json", [before])
    annotate(tmp_path / "t.json", **changes)
    assert bridge_studio.read_studio(tmp_path / "t.json").labels == [replace(before, **expected)]


def predict(path: Path, model: str, **changes) -> None:
    """What another model's backend adds to the first task: one more prediction."""
    tasks = json.loads(path.read_text())
    result = json.loads(json.dumps(tasks[0]["predictions"][0]["result"]))
    for entry in result:
        entry["value"] = changes.get(entry["from_name"], entry["value"])
    tasks[0]["predictions"].append({"model_version": model, "score": 0.7, "result": result})
    path.write_text(json.dumps(tasks))


def test_the_prediction_of_another_model_becomes_its_label_until_a_person_decides(tmp_path):
    before, path = label(status="accepted"), tmp_path / "t.json"
    bridge_studio.write_studio(path, [before])
    predict(path, "same")
    assert bridge_studio.read_studio(path).labels == [before], "that says nothing new"
    predict(path, "other-2b", decision_longitudinal={"choices": ["stop_for_static_constraint"]},
            trace={"text": ["Stop because the light ahead is red."]})  # fmt: skip
    (said,) = bridge_studio.read_studio(path).labels
    assert (said.decision_longitudinal, said.teacher, said.status) == (
        "stop_for_static_constraint", "other-2b", "unscored")  # fmt: skip
    assert said.causes == before.causes and said.verdicts[0].score == 0.7
    predict(path, "broken", direction={"choices": ["up"]})
    assert "direction is 'up'" in bridge_studio.read_studio(path).set_aside[0]
    annotate(path)
    assert bridge_studio.read_studio(path).labels == [before], "what a person left as it was"


def test_a_cancelled_annotation_changes_nothing(tmp_path):
    bridge_studio.write_studio(tmp_path / "t.json", [label(status="unscored")])
    annotate(tmp_path / "t.json", cancelled=True, verdict={"choices": ["Reject"]})
    assert bridge_studio.read_studio(tmp_path / "t.json").labels[0].status == "unscored"


def test_annotations_outside_the_closed_sets_are_set_aside(tmp_path):
    for changes, said in (
        ({"direction": {"choices": ["up"]}}, "direction is 'up'"),
        ({"causes": {"text": "weather"}}, "not 'category: text'"),
    ):
        bridge_studio.write_studio(tmp_path / "t.json", [label(), label(5)])
        annotate(tmp_path / "t.json", **changes)
        found = bridge_studio.read_studio(tmp_path / "t.json")
        assert len(found.labels) == 1 and said in found.set_aside[0]


def test_the_shipped_form_asks_for_every_field(tmp_path):
    form = bridge_studio.CONFIG.read_text()
    bridge_studio.write_studio(tmp_path / "t.json", [label()])
    for entry in json.loads((tmp_path / "t.json").read_text())[0]["predictions"][0]["result"]:
        assert f'name="{entry["from_name"]}"' in form and f'name="{entry["to_name"]}"' in form
    assert all(f'"{word}"' in form for word in (*LONGITUDINAL_DECISIONS, *LATERAL_DECISIONS, *DIRECTIONS))
    assert (tmp_path / "label_studio.xml").read_text() == form


def test_export_and_import_by_command(tmp_path, capsys):
    write_labels(tmp_path / "labels", [label(), label(5_000_000, status="rejected")])
    for form, name in (("ood", "ood_reasoning.parquet"), ("yaml", ""), ("label-studio", "label_studio_tasks.json")):
        run_export(ExportLabelsConfig(form, tmp_path / "labels", tmp_path / form))
        run_import(ImportLabelsConfig(form, tmp_path / form / name, tmp_path / f"back-{form}"))
        assert [x.t0_us for x in read_labels(tmp_path / f"back-{form}")] == [3_000_000]
        how = "fields of their own" if form == "label-studio" else "a decision read from their text"
        assert f"label import: 1 labels, 1 with {how}, 0 set aside" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("form", "statuses", "said"),
    [("odd", ("accepted",), "Did you mean ood"), ("ood", ("acepted",), "Did you mean accepted"),
     ("ood", ("edited",), "no label with status edited")],
)  # fmt: skip
def test_what_cannot_be_exported_is_said(tmp_path, form, statuses, said):
    write_labels(tmp_path / "labels", [label()])
    with pytest.raises(UserError, match=said):
        run_export(ExportLabelsConfig(form, tmp_path / "labels", tmp_path / "out", statuses))


def test_files_of_another_shape_are_refused(tmp_path):
    pq.write_table(pa.table({"events": ["[]"]}), tmp_path / "a.parquet")
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    for form, name, said in (("ood", "a.parquet", "names no clips"), ("label-studio", "b.json", "JSON dict"),
                             ("ood", "empty", "is a directory"), ("yaml", "empty", "no .yaml file"),
                             ("yaml", "nowhere", "does not exist")):  # fmt: skip
        with pytest.raises(UserError, match=said):
            run_import(ImportLabelsConfig(form, tmp_path / name, tmp_path / f"out-{form}-{name}"))
