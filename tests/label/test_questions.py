"""Question sets: LingoQA's file format in and out, and answers that follow from the world state."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from causaldrive.clips.types import Recording
from causaldrive.ground.errors import UserError
from causaldrive.label.lingoqa import Question, read_images, read_questions, write_questions
from causaldrive.label.questions import light_ahead, someone_on_foot, what_is_ahead
from causaldrive.label.recording_view import view_of
from causaldrive.worlds.route import Route
from causaldrive.worlds.sight import Seen, SeenLight, Sight, look

ONE = Question("q1", "s1", ("images/a.jpg", "images/b.jpg"), "What is ahead?", ("A car.", "A vehicle."), (-0.4, 0.0),
               ("red", "green"), "ahead")  # fmt: skip


def test_questions_survive_writing_and_reading(tmp_path: Path):
    other = replace(ONE, question_id="q2", answers=("Nothing.",), options=(), kind="")
    write_questions(tmp_path / "questions.parquet", [ONE, other])
    found, root, aside = read_questions(tmp_path)
    assert found == [ONE, other] and root == tmp_path and not aside


@pytest.mark.parametrize("suffix", ["parquet", "json"])
def test_files_of_lingoqa_are_read_as_one_picture_a_second(suffix: str, tmp_path: Path):
    row = {"question_id": "q", "segment_id": "s", "images": [f"images/s/{i}.jpg" for i in range(5)],
           "question": "Is it raining?", "answer": "No."}  # fmt: skip
    rows = [row, row | {"answer": "It is dry."}, row | {"question_id": "r", "answer": None}]
    path = tmp_path / f"train.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    (question,), _, aside = read_questions(path)
    assert question.answers == ("No.", "It is dry.") and question.frame_offsets_s == (-4.0, -3.0, -2.0, -1.0, 0.0)
    assert sum(aside.values()) == 1


def test_files_that_hold_no_question(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match="no list of questions"):
        read_questions(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("[{}]")
    with pytest.raises(UserError, match="no question that can be used"):
        read_questions(tmp_path / "b.json")
    with pytest.raises(UserError, match="missing"):
        read_questions(tmp_path / "none.parquet")


def test_pictures_of_a_question(tmp_path: Path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 6), (255, 0, 0)).save(tmp_path / "images" / "a.jpg")
    with pytest.raises(UserError, match=r"b\.jpg cannot be read"):
        read_images(tmp_path, ONE)
    Image.new("RGB", (9, 6)).save(tmp_path / "images" / "b.jpg")
    with pytest.raises(UserError, match="differ in size"):
        read_images(tmp_path, ONE)
    Image.new("RGB", (8, 6)).save(tmp_path / "images" / "b.jpg")
    assert read_images(tmp_path, ONE).shape == (2, 6, 8, 3)


def agent(category: str, ahead_m: float, offset_m: float) -> Seen:
    """Someone whose rear is `ahead_m` before our bumper."""
    return Seen(0, "a", category, 4.0 + ahead_m + 2.0, offset_m, 0, 0, 0, 0, 2.0, 0.9, False, 0, 0, None)


def sight(*agents: Seen, lights: tuple[SeenLight, ...] = ()) -> Sight:
    """Our front bumper is at arc 4 m."""
    return Sight((), None, 0.0, 0.0, 8.0, 4.0, -1.0, 0.95, agents, lights)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("agents", "answer"), [
    ([], "Nothing."), ([agent("car", 12, 0)], "A car about 10 m ahead."), ([agent("car", 60, 0)], "Nothing."),
    ([agent("car", 12, 3.5)], "Nothing."), ([agent("car", -12, 0)], "Nothing."),
    ([agent("car", 30, 0), agent("school_bus", 9, 0.5)], "A school bus about 10 m ahead."),
])  # fmt: skip
def test_what_is_ahead(agents: list[Seen], answer: str):
    assert what_is_ahead(sight(*agents)) == answer


def test_the_nearest_light_that_is_still_ahead():
    lights = tuple(
        SeenLight(name, name, arc, (name,)) for name, arc in (("green", 30.0), ("red", 20.0), ("yellow", 1.0))
    )
    assert light_ahead(sight(lights=lights)) == "red"
    assert light_ahead(sight(lights=lights[2:])) == "" == light_ahead(sight())


@pytest.mark.parametrize(("offset_m", "answer"), [(0.5, "Yes, in our way."), (4, "Yes, on the left."),
                                                  (-4, "Yes, on the right."), (9, "No.")])  # fmt: skip
def test_someone_on_foot(offset_m: float, answer: str):
    assert someone_on_foot(sight(agent("pedestrian", 10, offset_m))) == answer
    assert someone_on_foot(sight(agent("car", 10, offset_m))) == "No."


def test_the_town_answers_as_its_scene_is(town: dict[str, Recording]):
    """In the red-light scene the light that governs the way is red at some time, in the others there is none."""

    def seen(family: str) -> list[Sight]:
        view = view_of(town[family])
        times = np.arange(view.usable_range_us[0], view.usable_range_us[1], 500_000)
        return [look(view.history_states(int(t)), Route(view.context)) for t in times]

    assert "red" in {light_ahead(s) for s in seen("red_light")}
    assert {light_ahead(s) for s in seen("stopped_car")} == {""}
    assert any(what_is_ahead(s).startswith("A ") for s in seen("lead_brakes"))
