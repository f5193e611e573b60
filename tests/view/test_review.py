"""The review over HTTP: decisions are logged and kept, the future stays hidden, bad requests get sentences."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from review_drives import Client, edit_body, label, moving, serving, shade, write_set

from causaldrive.clips.store import write_recording
from causaldrive.ground.errors import UserError
from causaldrive.label.store import read_labels, write_labels
from causaldrive.view import review_log
from causaldrive.view.agreement import AgreementConfig, kappa
from causaldrive.view.agreement import run as run_agreement
from causaldrive.view.review import ReviewConfig, open_server, summary
from causaldrive.view.review_log import ReviewLog, log_path, read_log, second_set
from causaldrive.view.review_media import Media


@pytest.fixture
def labels(tmp_path):
    return write_set(tmp_path)


@pytest.fixture
def client(labels):
    yield from serving(open_server(ReviewConfig(labels, annotator="anna")))


@pytest.fixture
def staged(labels):
    yield from serving(open_server(ReviewConfig(labels, annotator="anna", two_stage=True)))


def grey(jpeg: bytes) -> float:
    return float(np.asarray(Image.open(io.BytesIO(jpeg))).mean())


def test_the_page_and_its_list(client):
    assert b"<title>Review labels" in client.ask("/")[1]
    assert client.ask("/review.js")[0] == client.ask("/review.css")[0] == 200
    over = client.ask("/api/labels")[1]
    assert [row["t0_us"] for row in over["rows"]] == [3_000_000, 4_500_000, 5_000_000] and over["annotator"] == "anna"
    assert over["rows"][0]["title"] == "lead obstacle following, lane keeping" and over["rows"][0]["by"] is None


def test_pictures_are_the_frames_at_their_ticks(client):
    for tick in (-20, -7, 0, 1, 64):
        assert abs(grey(client.ask(f"/media/0/front/{tick}.jpg")[1]) - shade(30 + tick)) < 2.5
    bev = Image.open(io.BytesIO(client.ask("/media/0/bev/0.jpg")[1]))
    assert np.asarray(bev).std() > 5
    motion = client.ask("/api/labels/0")[1]["motion"]
    assert motion["ticks"] == list(range(-20, 65))
    assert motion["speed_mps"][0] == pytest.approx(10, abs=0.05) and motion["speed_mps"][-1] < 6


def test_decisions_are_logged_before_and_after_and_kept(client, labels):
    before = read_labels(labels)
    assert client.ask("/api/labels/0", {"action": "accept", "revision": 0})[1]["by"] == "anna"
    assert (
        client.ask("/api/labels/2", {"action": "reject", "revision": 0, "note": "unclear"})[1]["status"] == "rejected"
    )
    trace = "Keep the speed and the lane because the road is clear."
    body = edit_body(before[1], decision_longitudinal="set_speed_tracking", causes=[], trace=trace)
    answer = client.ask("/api/labels/1", body)[1]
    assert answer["status"] == "edited" and answer["original"]["trace"] == before[1].trace
    assert any(check["check"] == "decision_matches_motion" for check in answer["checks"]), "the car brakes at 5 s"
    after = read_labels(labels)
    assert [x.status for x in after] == ["accepted", "edited", "rejected"]
    assert (after[1].trace, after[1].causes, after[1].decision_longitudinal) == (trace, (), "set_speed_tracking")
    events = read_log(log_path(labels))
    assert [e.event for e in events] == ["accept", "reject", "edit"] and {e.who for e in events} == {"anna"}
    assert events[2].before == before[1] and events[2].after == after[1] and events[1].note == "unclear"
    assert all(e.when.startswith("20") for e in events)


def test_undo_takes_one_decision_back(client, labels):
    before = read_labels(labels)
    client.ask("/api/labels/0", {"action": "reject", "revision": 0})
    assert client.ask("/api/labels/0", {"action": "undo", "revision": 1})[1]["by"] is None
    assert read_labels(labels) == before
    status, answer = client.ask("/api/labels/0", {"action": "undo", "revision": 2})
    assert status == 400 and "Nothing to take back" in answer["error"]


def test_the_trace_is_composed_by_the_package(client):
    body = edit_body(label(3.0), decision_lateral="turn", direction="left")
    assert client.ask("/api/compose", body)[1]["trace"] == "Keep the gap and turn left because a car ahead is slowing."
    status, answer = client.ask("/api/compose", edit_body(label(3.0), decision_lateral="turn"))
    assert status == 400 and answer["error"] == "The decision turn needs a side: choose left or right."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decision_longitudinal": "yeild"}, "Did you mean yield?"),
        ({"direction": "left"}, "which has none: remove it"),
        ({"trace": "  "}, "The trace is empty"),
        ({"causes": [{"category": "critical_object", "text": ""}]}, "Cause 1 has no text"),
        ({"causes": [{"category": "objct", "text": "x"}]}, "category 'objct' is not known"),
        ({"causes": [{"category": "road_event", "kind": "red_light", "text": "x"}]}, "belongs to traffic_light"),
        ({"causes": [{"category": "road_event", "text": "x", "evidence_t_us": 3_200_000}]}, "+0.2 s from t0"),
        ({"causes": [{"category": "road_event", "text": "x", "evidence_t_us": 0.5}]}, "whole microseconds"),
        ({"causes": "none"}, "a list expected"),
        ({"action": "aprove"}, "action 'aprove' is not known"),
    ],
)
def test_edits_that_make_no_sense_get_a_sentence(client, labels, changes, said):
    before = read_labels(labels)
    status, answer = client.ask("/api/labels/0", edit_body(before[0], **changes))
    assert status == 400 and said in answer["error"]
    assert read_labels(labels) == before and not log_path(labels).exists()


def test_bad_requests_get_a_sentence(client):
    for path, body, headers, status, said in [
        ("/api/labels/77", None, {}, 400, "There is no label 77"),
        ("/nothing", None, {}, 404, "There is nothing at '/nothing'"),
        ("/../review.py", None, {}, 404, "There is nothing at"),
        ("/api/labels/0", b"{", {}, 400, "not valid JSON"),
        ("/api/labels/0", [1], {}, 400, "an object expected"),
        ("/api/labels/0", b"{}", {"Content-Type": "text/plain"}, 415, "application/json expected"),
        ("/api/labels/0", b" " * (2 << 20), {}, 413, "at most"),
        ("/media/0/front/65.jpg", None, {}, 400, "-20 to 64 expected"),
        ("/media/0/rear/0.jpg", None, {}, 404, "no picture"),
        ("/media/2/front/0.jpg", None, {}, 404, "no picture"),
    ]:
        found, answer = client.ask(path, body, headers)
        assert found == status and said in answer["error"], path


def test_another_host_or_origin_is_refused(client, labels):
    port = client.url.rsplit(":", 1)[1].strip("/")
    for headers in ({"Host": "evil.example"}, {"Host": f"evil.example:{port}"}, {"Origin": "http://evil.example"}):
        status, answer = client.ask("/api/labels/0", {"action": "reject", "revision": 0}, headers)
        assert status == 403 and client.url in answer["error"]
    assert client.ask("/api/labels", headers={"Host": f"localhost:{port}"})[0] == 200
    assert not log_path(labels).exists()


def test_an_edit_from_an_older_page_is_refused(client):
    client.ask("/api/labels/0", {"action": "accept", "revision": 0})
    status, answer = client.ask("/api/labels/0", {"action": "reject", "revision": 0})
    assert status == 409 and "another page" in answer["error"]


def test_a_recording_that_is_not_there_leaves_the_text(client):
    answer = client.ask("/api/labels/2")[1]
    assert "lost was not found" in answer["problem"] and answer["form"]["trace"] and answer["motion"] is None


def test_two_stages_hide_the_future_until_causes_are_named(staged, labels):
    hidden = staged.ask("/api/labels/0")[1]
    assert not {"form", "saved", "original", "checks"} & set(hidden) and max(hidden["motion"]["ticks"]) == 0
    assert hidden["recording_id"] == "label 1", "the id of a recording may tell what happens in it"
    assert "lead obstacle" not in json.dumps([hidden, staged.ask("/api/labels")[1]["rows"]])
    assert staged.ask("/media/0/front/0.jpg")[0] == 200 and staged.ask("/media/0/front/1.jpg")[0] == 403
    assert staged.ask("/media/0/bev/1.jpg")[0] == 403
    assert staged.ask("/api/labels/0", {"action": "accept", "revision": 0})[0] == 403
    before = read_labels(labels)
    seen = {"category": "critical_object", "text": "a car slows", "kind": "lead_vehicle", "evidence_t_us": 2_900_000}
    shown = staged.ask("/api/labels/0/causes", {"causes": [seen]})[1]
    assert shown["open"] and shown["form"]["causes"][0]["text"] == "a car slows" and max(shown["motion"]["ticks"]) == 64
    assert staged.ask("/media/0/front/1.jpg")[0] == 200 and read_labels(labels) == before
    late = edit_body(before[0], 1, causes=[seen, {"category": "road_event", "text": "a bend"}])
    status, answer = staged.ask("/api/labels/0", late)
    assert status == 400 and "'a bend' was not named before the future was shown" in answer["error"]
    assert staged.ask("/api/labels/0", edit_body(before[0], 1, causes=[seen]))[1]["status"] == "edited"
    assert staged.ask("/api/labels/0/causes", {"causes": []})[0] == 409
    assert staged.ask("/api/labels/1")[1]["open"] is False


def test_the_motion_of_stage_one_holds_nothing_of_the_future(staged, labels, tmp_path):
    """The same history with another future gives the same answer, acceleration included."""
    past = staged.ask("/api/labels/1")[1]["motion"]
    assert past["acceleration_mps2"][-1] == pytest.approx(0, abs=0.02), "braking begins 0.5 s after this t0"


def test_another_future_gives_the_same_motion_and_the_same_words_of_stage_one(tmp_path):
    shown = []
    for name, braking_mps2 in (("on", 0.0), ("slows", 0.4)):
        t = np.arange(121) * 0.1
        speed = 10 - 0.4 * np.clip(t - 4.1, 0, 0.4) - braking_mps2 * np.clip(t - 4.5, 0, 4)
        write_recording(tmp_path / name, moving(name, speed), {})
        media = Media({name: tmp_path / name})
        shown.append([media.motion(name, 4_500_000, until) for until in (0, 64)])
    (past, whole), (other_past, other_whole) = shown
    assert past == other_past and whole != other_whole
    cut = [span for span in other_whole["spans"] if span["axis"] == "longitudinal" and span["start"] < 0 < span["end"]]
    assert cut[0]["label"] == "gentle_decelerate" and not any(s["label"] == cut[0]["label"] for s in past["spans"]), (
        "what began before t0 has its word from what came after"
    )


def test_two_stages_accept_no_cause_that_was_not_named_first(staged, labels):
    staged.ask("/api/labels/0/causes", {"causes": []})
    status, answer = staged.ask("/api/labels/0", {"action": "accept", "revision": 1})
    assert status == 400 and "'a car ahead is slowing' was not named before" in answer["error"]
    before = read_labels(labels)[0]
    assert staged.ask("/api/labels/0", edit_body(before, 1, causes=[]))[1]["status"] == "edited"
    assert staged.ask("/api/labels/0", {"action": "accept", "revision": 2})[1]["status"] == "accepted"


def test_a_crash_between_log_and_labels_loses_nothing(labels, monkeypatch):
    log = ReviewLog(labels, "anna")

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(review_log, "write_labels", crash)
    with pytest.raises(KeyboardInterrupt):
        log.act(0, "reject", log.labels[0])
    monkeypatch.undo()
    assert read_labels(labels)[0].status == "accepted", "the crash came before the labels were written"
    assert ReviewLog(labels, "ben").labels[0].status == read_labels(labels)[0].status == "rejected"


def test_a_half_written_line_is_cut_off(labels):
    ReviewLog(labels, "anna").act(0, "reject", read_labels(labels)[0])
    whole = log_path(labels).read_bytes()
    log_path(labels).write_bytes(whole + whole[: len(whole) // 2])
    log = ReviewLog(labels, "anna")
    log.act(1, "accept", log.labels[1])
    assert [e.event for e in read_log(log_path(labels))] == ["reject", "accept"]


def test_entries_of_labels_written_anew_are_left_alone(labels):
    ReviewLog(labels, "anna").act(0, "reject", read_labels(labels)[0])
    fresh = [label(3.0, trace="Yield because a person is crossing."), label(4.5)]
    write_labels(labels, fresh)
    log = ReviewLog(labels, "anna")
    assert log.stray == 1 and read_labels(labels) == fresh and log.reviewed_by(0) is None


def test_a_killed_server_keeps_every_answered_decision(labels):
    command = ["view", "review", str(labels), "--annotator", "anna"]
    code = f"from causaldrive.cli import main; main({command!r})"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    url = next(line.split()[2] for line in child.stdout if "review: open" in line)
    client = Client(url)
    assert client.ask("/api/labels/0", {"action": "reject", "revision": 0})[0] == 200
    child.kill()
    child.wait()
    assert read_labels(labels)[0].status == "rejected" and len(read_log(log_path(labels))) == 1


@pytest.mark.parametrize(
    ("config", "said"), [({"annotator": "../x"}, "annotator is"), ({"port": 70_000}, "port 70000 cannot be opened")]
)
def test_what_cannot_be_opened_is_said(labels, config, said):
    with pytest.raises(UserError, match=said):
        open_server(ReviewConfig(labels, **config))


def test_the_second_annotator_sees_the_teachers_labels(labels, tmp_path):
    first = ReviewLog(labels, "anna")
    first.act(0, "reject", first.labels[0])
    own = second_set(labels, "ben")
    second = ReviewLog(own, "ben")
    assert second.labels[0].status == "accepted", "not what the first annotator made of it"
    for index in range(3):
        second.act(index, "accept", second.labels[index])
    first.act(1, "accept", first.labels[1])
    assert "1 accepted" in summary(first) and read_labels(labels)[0].status == "rejected"
    run_agreement(AgreementConfig(labels, own.parent, tmp_path / "agreement"))
    result = json.loads((tmp_path / "agreement" / "agreement.json").read_text())
    assert result["verdict"]["n"] == 2 and result["verdict"]["agreed"] == 1
    assert "Cohen" in (tmp_path / "agreement" / "report.html").read_text()


def test_kappa_is_cohens():
    a, b = ["y"] * 25 + ["n"] * 25, ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert kappa(a, b) == pytest.approx(0.4)  # Cohen's own example: 35 of 50 agree, 25 by chance
    assert kappa(a, a) == 1.0 and kappa(["y"] * 4, ["y"] * 4) is None
    assert kappa(["y", "n"] * 4, ["n", "y"] * 4) == pytest.approx(-1.0)


def test_agreement_needs_labels_in_common(labels, tmp_path):
    write_labels(tmp_path / "other", [label(9.0, name="elsewhere")])
    with pytest.raises(UserError, match="no label in common"):
        run_agreement(AgreementConfig(labels, tmp_path / "other", tmp_path / "out"))
