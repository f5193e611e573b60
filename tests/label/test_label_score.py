"""Scoring teachers on drives of the town: the expert is right, a guesser is not, each fault moves its own figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from label_drives import recording_of, town_recording
from odd_server import DECISION, Answer, OddServer, said

from causaldrive.clips.store import write_recording
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_json
from causaldrive.ground.words import CAUSE_KINDS
from causaldrive.label.labelling import label_recording
from causaldrive.label.openai_teacher import TeacherConfig
from causaldrive.label.recording_view import view_of
from causaldrive.label.score import ScoreConfig, run
from causaldrive.label.scoring import is_there, tallies_of
from causaldrive.label.teachers import ExpertTeacher
from causaldrive.label.truth import Tally
from causaldrive.label.types import Cause


@pytest.fixture(scope="module")
def drives(town, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("town")
    for name, recording in town.items():
        write_recording(directory / name, recording, {})
    return directory


def value(result: dict, metric: str) -> float | None:
    return result["metrics"][metric]["value"]


def test_the_expert_is_right_about_itself(drives, tmp_path, capsys):
    run(ScoreConfig(drives, tmp_path / "out", teacher="expert"))
    result = read_json(tmp_path / "out" / "score.json")
    right = ("parse_rate", "decision_accuracy", "cause_precision", "cause_recall", "cause_f1")
    assert [value(result, metric) for metric in right] == [1.0] * 5
    assert value(result, "hallucination_rate") == value(result, "locality_violations") == 0.0
    assert result["recordings"] == 3 and 0 < result["metrics"]["decision_accuracy"]["low"] < 1
    assert "cause F1" in capsys.readouterr().out and "red_light" in (tmp_path / "out" / "report.html").read_text()


def test_a_teacher_that_names_no_cause_recalls_none_and_invents_none(drives, tmp_path):
    run(ScoreConfig(drives, tmp_path / "out", teacher="motion"))
    result = read_json(tmp_path / "out" / "score.json")
    assert value(result, "cause_recall") == 0.0 and value(result, "cause_precision") is None
    assert value(result, "hallucination_rate") is None and 0 < value(result, "decision_accuracy") < 1


def test_a_model_that_invents_looks_ahead_and_mumbles_is_found_out(drives, tmp_path):
    cyclist = {"category": "critical_object", "kind": "cyclist", "text": "a cyclist swerves", "seen_s": 1.0}

    def behave(payload: dict, count: int) -> Answer:
        text = str(payload["messages"])
        if "stop line" not in text and "You fix" not in text:  # no light in sight
            return said("well")
        return said(DECISION if "You fix" in text else {"causes": [cyclist]})

    with OddServer(behave) as server:
        config = TeacherConfig(url=server.url, model="m", see="text", asks=1, price_in=2.0, price_out=4.0)
        run(ScoreConfig(drives, tmp_path / "out", openai=config))
        requests = len(server.payloads)
    result = read_json(tmp_path / "out" / "score.json")
    assert 0 < value(result, "parse_rate") < 1 and set(result["failures"]) == {"invalid_json"}
    assert value(result, "hallucination_rate") == value(result, "locality_violations") == 1.0
    assert value(result, "cause_f1") == 0.0
    cost = result["cost"]
    assert cost["requests"] == requests and cost["tokens_in"] == 100 * requests
    assert cost["money"] == pytest.approx(requests * (100 * 2 + 20 * 4) / 1e6)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "a cyclist swerves" in page and "invalid_json" in page


def test_each_fault_moves_its_own_figure(town):
    view = view_of(town["red_light"])
    label = next(x for x in label_recording(view, ExpertTeacher(), 1.0) if any(c.kind == "red_light" for c in x.causes))
    right = tallies_of(label, view)
    assert right["decision_accuracy"] == Tally(1, 1) and right["hallucination_rate"].numerator == 0
    late = replace(label, causes=tuple(replace(c, evidence_t_us=label.t0_us + 1) for c in label.causes))
    changed = {name for name, tally in tallies_of(late, view).items() if tally != right[name]}
    assert changed == {"locality_violations"}
    flipped = replace(label, decision_longitudinal="set_speed_tracking")
    changed = {name for name, tally in tallies_of(flipped, view).items() if tally != right[name]}
    assert changed == {"longitudinal_accuracy", "decision_accuracy"}
    cyclist = Cause("critical_object", "a cyclist", "cyclist", None, label.t0_us)
    worse = tallies_of(replace(label, causes=(*label.causes, cyclist)), view)
    assert worse["hallucination_rate"].numerator == 1
    assert worse["cause_precision"].denominator == right["cause_precision"].denominator + 1


def test_objects_are_there_by_kind_and_by_id(town):
    view = view_of(town["lead_brakes"])
    t0_us = 4_000_000
    car = Cause("critical_object", "a car", "lead_vehicle")
    known = view.history_states(t0_us)[-1].agents.ids[0]
    assert is_there(car, view, t0_us) and is_there(replace(car, agent_id=known), view, t0_us)
    assert not is_there(replace(car, agent_id="ghost"), view, t0_us)
    assert not is_there(replace(car, agent_id=known, kind="pedestrian_crossing"), view, t0_us)
    for kind in ("cyclist", "red_light", "stop_sign", "speed_bump", "school_bus", "construction"):
        assert not is_there(Cause(CAUSE_KINDS[kind], kind, kind), view, t0_us), kind


@pytest.mark.parametrize("kind", ["stop_sign", "speed_bump", "school_bus", "construction", "emergency_vehicle"])
def test_things_of_the_wider_town_are_there_where_the_expert_names_them(kind):
    view = view_of(town_recording(kind))
    labels = label_recording(view, ExpertTeacher(), 0.5)
    named = [(label, cause) for label in labels for cause in label.causes if cause.kind == kind]
    assert named, "the family shows what it is named after"
    for label, cause in named:
        assert is_there(cause, view, label.t0_us)
        assert is_there(replace(cause, agent_id=None), view, label.t0_us)
    assert all(tallies_of(label, view)["hallucination_rate"].numerator == 0 for label in labels)


def test_drives_whose_causes_are_unknown_are_set_aside(drives, tmp_path):
    write_recording(tmp_path / "real" / "road", recording_of(np.full(200, 9.0), name="road"), {})
    with pytest.raises(UserError, match=r"nothing can be scored.*its causes are not known"):
        run(ScoreConfig(tmp_path / "real", tmp_path / "out", teacher="motion"))


def test_a_teacher_goes_by_its_name(drives, tmp_path):
    with pytest.raises(UserError, match="Did you mean expert"):
        run(ScoreConfig(drives, tmp_path / "out", teacher="exprt"))
