"""The openai teacher against a server that misbehaves, over real sockets: nothing lost, nothing asked twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest
from label_drives import recording_of, speeds
from odd_server import CAUSES, DECISION, GRADES, Answer, OddServer, said, sound

from causaldrive.clips.store import read_recording, write_recording
from causaldrive.clips.types import Camera, CameraTrack, Lane, RoadMap
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_table, write_table
from causaldrive.ground.runs import read_metrics
from causaldrive.label.critic import CriticConfig
from causaldrive.label.openai_teacher import OpenAiTeacher, TeacherConfig
from causaldrive.label.prompts import OWN, read_prompt
from causaldrive.label.recording_view import view_of
from causaldrive.label.seen import Sight, past_of, pictures_ahead
from causaldrive.label.stage import LabelConfig, run
from causaldrive.label.store import labels_path, read_labels
from causaldrive.label.types import CocLabel

DRIVE = np.maximum(speeds(12, (0, 4), (-1.5, 8), (0, 3), (1.2, 6), (0, 8)), 0)


def asking(server: OddServer, **changes) -> TeacherConfig:
    return TeacherConfig(
        **{"url": server.url, "model": "m", "see": "motion", "backoff_s": 0.01, "retries": 2, "timeout_s": 60.0,
           "key_variable": "CAUSALDRIVE_TEST_KEY", **changes}
    )  # fmt: skip


@pytest.fixture(scope="module")
def drives(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("asked")
    for name in ("one", "two"):
        write_recording(directory / name, recording_of(DRIVE + (name == "two"), name=name), {})
    return directory


def label(drives: Path, out: Path, server: OddServer, critic: CriticConfig | None = None, **changes) -> list[CocLabel]:
    run(LabelConfig(drives, out, teacher="openai", every_s=4.0, openai=asking(server, **changes),
                    critic=critic or CriticConfig()))  # fmt: skip
    return read_labels(out)


def cost(out: Path, role: str = "teacher") -> dict:
    return next(line for line in read_metrics(out)[::-1] if line.get("role") == role)


def test_a_sound_model_labels_every_keyframe_and_a_second_run_asks_nothing(drives, tmp_path, monkeypatch):
    monkeypatch.setenv("CAUSALDRIVE_TEST_KEY", "sk-secret-of-the-test")
    with OddServer(lambda payload, count: sound(payload)) as server:
        labels = label(drives, tmp_path / "out", server)
        asked = len(server.payloads)
        assert asked == 2 * len(labels) and server.most_of_one() == 1
        run(LabelConfig(drives, tmp_path / "again", teacher="openai", every_s=4.0, openai=asking(server),
                        cache=tmp_path / "out" / "replies"))  # fmt: skip
        again = read_labels(tmp_path / "again")
        assert len(server.payloads) == asked, "every reply is in the cache"
    assert again == labels and len({(x.recording_id, x.t0_us) for x in labels}) == len(labels)
    assert {x.model for x in labels} == {"m"} and {x.endpoint for x in labels} == {server.url[7:-3]}
    assert len({x.prompt_hash for x in labels}) == 1 and len(labels[0].prompt_hash) == 16
    assert all(x.causes[0].evidence_t_us == x.t0_us - 500_000 for x in labels)
    assert {"accepted", "rejected"} == {x.status for x in labels}, "the decision is not what the car did everywhere"
    assert set(server.keys) == {"Bearer sk-secret-of-the-test"}
    for file in tmp_path.rglob("*"):
        assert file.is_dir() or b"sk-secret" not in file.read_bytes(), f"{file} holds the key"


def first_then_sound(odd: Answer) -> Callable[[dict, int], Answer]:
    return lambda payload, count: odd if count == 1 else sound(payload)


SOON = {"Retry-After": "0.05"}
PASSING = {
    "rate_limited": Answer({"error": {"message": "slow down"}}, 429),
    "rate_limited, told when": Answer({"error": {"message": "slow down"}}, 429, SOON),
    "server_error": Answer({"error": "oops"}, 500),
    "server_error, no completion": Answer(b"<html>gateway</html>"),
    "connection": Answer(cut=True),
    "timeout": Answer({}, wait_s=4.0),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes_is_tried_again_and_leaves_no_trace_in_the_labels(drives, tmp_path, name):
    with OddServer(first_then_sound(PASSING[name])) as server:
        labels = label(drives, tmp_path / "odd", server, timeout_s=2.0 if name == "timeout" else 60.0)
        assert server.most_of_one() == 2
    assert {x.status for x in labels} <= {"accepted", "rejected"} and all(x.trace for x in labels)
    kind = name.partition(",")[0]
    retries, failures = (cost(tmp_path / "odd")[name] for name in ("retries", "failures"))
    assert retries[kind] >= 2 * len(labels) and not failures
    assert set(retries) <= {kind, "connection"}  # a busy machine may drop an idle connection besides
    assert kind == "connection" or retries[kind] == 2 * len(labels)


LASTING = {
    "rate_limited": (Answer({}, 429), "unscored"),
    "server_error": (Answer({}, 503), "unscored"),
    "timeout": (Answer({}, wait_s=1.0), "unscored"),
    "bad_request": (Answer({"error": "no"}, 400), "unscored"),
    "invalid_json": (said('{"causes": ['), "unscored"),
    "empty": (said("<think>nothing to say</think>"), "unscored"),
    "truncated": (said('{"causes": [{"cat', "length"), "unscored"),
    "refused": (said("", refusal="I cannot help with that"), "unscored"),
    "outside_closed_sets": (
        said({"causes": [{**CAUSES["causes"][0], "kind": None, "category": "ufo"}]}),
        "rejected",
    ),
}


@pytest.mark.parametrize("kind", LASTING)
def test_what_lasts_is_counted_by_kind_and_its_keyframes_stay(drives, tmp_path, kind):
    odd, status = LASTING[kind]
    with OddServer(lambda payload, count: odd) as server:
        labels = label(drives, tmp_path / "out", server, timeout_s=0.5 if kind == "timeout" else 60.0, retries=1)
    assert cost(tmp_path / "out")["failures"] == {kind: len(labels)} and len(labels) >= 8
    assert {x.status for x in labels} == {status}
    assert all(x.verdicts[0].reason.startswith(kind) and not x.trace for x in labels)


def test_an_endpoint_that_is_away_or_refuses_the_key_stops_the_run(drives, tmp_path):
    with OddServer(lambda payload, count: Answer({"error": "who are you"}, 401)) as server:
        with pytest.raises(UserError, match=r"refused the key .401.*CAUSALDRIVE_TEST_KEY"):
            label(drives, tmp_path / "key", server)
        with pytest.raises(UserError, match="cannot be reached"):
            label(drives, tmp_path / "away", server, url="http://127.0.0.1:9/v1", retries=5)


def test_an_endpoint_that_never_answers_stops_the_run_which_goes_on_later(drives, tmp_path):
    settings = LabelConfig(drives, tmp_path / "out", teacher="openai", every_s=0.5)
    with OddServer(lambda payload, count: Answer({}, 503) if count <= 2 else sound(payload)) as server:
        config = replace(settings, openai=asking(server, retries=1))
        with pytest.raises(UserError, match=r"answered none of 50 requests .the last: server_error, 503"):
            run(config)
        with pytest.raises(UserError, match=r"openai.model = 'm', now openai.model = 'other'"):
            run(replace(config, openai=asking(server, retries=1, model="other")))
        run(replace(config, openai=asking(server, retries=3)))
    assert all(x.trace for x in read_labels(tmp_path / "out"))


def test_what_got_no_answer_is_asked_for_alone_with_the_cache_of_the_run_before(drives, tmp_path, capsys):
    away = [True]

    def behave(payload: dict, count: int) -> Answer:
        fails = away[0] and zlib.crc32(json.dumps(payload["messages"]).encode()) % 3 == 0
        return Answer({}, 503) if fails else sound(payload)

    with OddServer(behave) as server:
        config = LabelConfig(drives, tmp_path / "out", teacher="openai", every_s=1.0, openai=asking(server, retries=0))
        run(config)
        without = cost(tmp_path / "out")["failures"]
        without = sum(without.values())  # a busy machine may drop an idle connection besides
        told = f"{without} keyframes got no answer; the same command with another --out and with --cache {config.out}"
        assert told in capsys.readouterr().out
        away[0], before = False, len(server.payloads)
        run(replace(config, out=tmp_path / "again", cache=tmp_path / "out" / "replies"))
        assert server.most_of_one() == 2
    labels = read_labels(tmp_path / "again")
    assert without <= len(server.payloads) - before < 2 * len(labels) and all(x.trace for x in labels)


def test_one_keyframe_in_the_second_call_can_fail_alone_and_keeps_its_causes(drives, tmp_path):
    def behave(payload: dict, count: int) -> Answer:
        decides = "You fix" in payload["messages"][0]["content"]
        return said({**DECISION, "lateral": "turn"}) if decides else sound(payload)

    with OddServer(behave) as server:
        labels = label(drives, tmp_path / "out", server)
    assert {x.status for x in labels} == {"rejected"} and all(
        "turn names no side" in x.verdicts[0].reason for x in labels
    )
    assert all(x.causes[0].kind == "lead_vehicle" and x.decision_lateral is None for x in labels)


def test_retry_after_is_kept_as_seconds_and_as_a_date(drives, tmp_path):
    soon = lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)  # noqa: E731
    for number, value in enumerate((lambda: "1", soon)):
        times: list[float] = []

        def behave(payload: dict, count: int, value=value, times=times) -> Answer:
            times.append(time.monotonic())
            return Answer({}, 429, {"Retry-After": value()}) if len(times) == 1 else sound(payload)

        with OddServer(behave) as server:
            label(drives, tmp_path / str(number), server, concurrency=1)
        assert times[1] - times[0] >= 0.9, "the server's wish is kept"


def test_servers_that_refuse_parameters_are_asked_without_them_and_the_run_remembers(drives, tmp_path):
    def behave(payload: dict, count: int) -> Answer:
        if "response_format" in payload:
            return Answer({"error": "response_format is not supported"}, 422)
        if "max_tokens" in payload:
            return Answer({"error": "use max_completion_tokens instead of max_tokens"}, 400)
        if "temperature" in payload:
            return Answer({"error": "temperature has one value only"}, 400)
        return sound(payload)

    with OddServer(behave) as server:
        labels = label(drives, tmp_path / "out", server, concurrency=1)
        refused = [p for p in server.payloads if {"response_format", "max_tokens", "temperature"} & set(p)]
    assert len(refused) == 4 and len(server.payloads) == 2 * len(labels) + 4
    assert all(x.trace for x in labels) and not cost(tmp_path / "out")["failures"]


def test_thinking_and_fences_are_taken_off(drives, tmp_path):
    def behave(payload: dict, count: int) -> Answer:
        text = sound(payload).body["choices"][0]["message"]["content"]
        return said(f'<think>maybe {{"causes": []}}?</think>Sure:\n```json\n{text}\n```')

    with OddServer(behave) as server:
        labels = label(drives, tmp_path / "out", server)
    assert all(x.causes and x.trace for x in labels)


def test_an_unusable_answer_is_asked_for_once_more_with_the_reason(drives, tmp_path):
    def behave(payload: dict, count: int) -> Answer:
        return sound(payload) if len(payload["messages"]) > 2 else said("I would say the car brakes.")

    with OddServer(behave) as server:
        labels = label(drives, tmp_path / "out", server)
        told = [p["messages"][-1]["content"] for p in server.payloads if len(p["messages"]) > 2]
    assert all(x.trace for x in labels) and all("no JSON object" in text for text in told)
    retries = cost(tmp_path / "out")["retries"]
    assert retries["invalid_json"] == 2 * len(labels) and set(retries) <= {"invalid_json", "connection"}


def test_the_budget_is_never_overdrawn_and_a_larger_one_goes_on(drives, tmp_path):
    with OddServer(lambda payload, count: sound(payload)) as server:
        with pytest.raises(UserError, match="budget of 5000"):
            label(drives, tmp_path / "out", server, budget_tokens=5000, max_tokens=500)
        spent = cost(tmp_path / "out")
        assert 0 < spent["tokens_in"] + spent["tokens_out"] <= 5000
        labels = label(drives, tmp_path / "out", server, max_tokens=500)
        assert len(server.payloads) == 2 * len(labels) and server.most_of_one() == 1


def test_a_dry_run_asks_nothing_and_writes_nothing(drives, tmp_path, capsys):
    with OddServer(lambda payload, count: sound(payload)) as server:
        config = asking(server, price_in=1.0, price_out=2.0)
        free = asking(server)
        run(LabelConfig(drives, tmp_path / "out", teacher="openai", every_s=4.0, openai=free, dry_run=True))
        assert "money unknown without --openai.price-in" in capsys.readouterr().out
        run(LabelConfig(drives, tmp_path / "out", teacher="openai", every_s=4.0, openai=config, dry_run=True))
        assert not server.payloads and not (tmp_path / "out").exists()
        told = capsys.readouterr().out
        label(drives, tmp_path / "out", server)
        assert f"teacher m: {len(server.payloads)} requests" in told


def test_an_interrupted_run_goes_on_without_asking_twice(drives, tmp_path):
    out = tmp_path / "out"
    with OddServer(lambda payload, count: replace_wait(sound(payload), 0.15)) as server:
        command = [sys.executable, "-m", "causaldrive.cli", "label", "--recordings", str(drives), "--out", str(out),
                   "--teacher", "openai", "--every-s", "4.0", "--openai.url", server.url, "--openai.model", "m",
                   "--openai.see", "motion", "--openai.concurrency", "1"]  # fmt: skip
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while child.poll() is None and len(server.payloads) < 5:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=120)
        assert child.returncode == 130 and "interrupted" in told and "Traceback" not in told
        before = len(server.payloads)
        config = TeacherConfig(url=server.url, model="m", see="motion", concurrency=4)
        run(LabelConfig(drives, out, teacher="openai", every_s=4.0, openai=config))
        labels = read_labels(out)
        assert 5 <= before < 2 * len(labels)
        assert len(server.payloads) <= 2 * len(labels) + 1, "at most the reply under way is asked for again"


def replace_wait(answer: Answer, wait_s: float) -> Answer:
    answer.wait_s = wait_s
    return answer


def with_camera(directory: Path) -> Path:
    """A drive whose camera shows its own time as brightness: frame k of 10 Hz is grey 2 k."""
    camera = Camera("front", 64, 48, 50.0, 50.0, 32.0, 24.0, (1.0, 0.0, 1.5), (0.5, -0.5, 0.5, -0.5))
    recording = recording_of(DRIVE[:120], name="seen")
    track = CameraTrack(camera, recording.ego.t_us)
    frames = (np.full((48, 64, 3), 2 * k, np.uint8) for k in range(len(track.t_us)))
    write_recording(directory / "seen", replace(recording, cameras={"front": track}), {"front": frames})
    return directory / "seen"


def brightness(url: str) -> float:
    import base64

    import cv2

    data = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    return float(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE).mean())


def test_the_first_call_holds_two_seconds_of_the_past_and_nothing_of_the_future(tmp_path):
    view = view_of(read_recording(with_camera(tmp_path)))
    t0_us, sight = 3_000_000, Sight(frames_hz=2.0, image_width_px=32)
    past = past_of(view, t0_us, sight)
    assert past.picture_s == (-2.0, -1.5, -1.0, -0.5, 0.0)
    assert np.allclose([brightness(url) for url in past.pictures], [20, 30, 40, 50, 60], atol=4)
    other = view_of(replace(view.recording, ego=recording_of(np.r_[DRIVE[:31], np.full(89, 3.0)]).ego))
    teacher = OpenAiTeacher(TeacherConfig(url="http://x/v1", model="m", image_width_px=32))
    assert teacher.ask_causes(past) == teacher.ask_causes(past_of(other, t0_us, sight)), "another future, the same call"
    causes = OpenAiTeacher.ask_decision
    assert causes(teacher, view, t0_us, ()) != causes(teacher, other, t0_us, ())
    content = teacher.ask_causes(past).messages[1]["content"]
    assert [part["type"] for part in content] == ["image_url"] * 5 + ["text"]
    assert all(isinstance(m["content"], str) for m in teacher.ask_decision(view, t0_us, ()).messages), "no frames"


def test_where_a_map_is_there_the_second_call_alone_hears_of_the_lanes(tmp_path):
    plain = view_of(recording_of(DRIVE))
    x = np.arange(-10.0, 1500.0, 5.0)
    middle, half = np.column_stack([x, np.zeros(len(x))]), np.array([0, 1.75])
    lane = Lane("lane", middle, middle + half, middle - half)
    mapped = view_of(recording_of(DRIVE, road=RoadMap({"lane": lane})))
    teacher = OpenAiTeacher(TeacherConfig(url="http://x/v1", model="m", see="motion"))
    said, unsaid = (teacher.ask_decision(view, 3_000_000, ()).messages[1]["content"] for view in (mapped, plain))
    assert "With respect to the lanes: keep_lane\n" in said and "lanes" not in unsaid
    sight = Sight(see="motion")
    assert "keep_lane" not in str(teacher.ask_causes(past_of(mapped, 3_000_000, sight)).messages)


def test_pictures_that_were_read_ahead_are_those_that_each_moment_shows(tmp_path):
    view, sight = view_of(read_recording(with_camera(tmp_path))), Sight(frames_hz=2.0, image_width_px=32)
    moments = (3_000_000, 3_500_000, 4_200_000)
    ready = pictures_ahead(view, moments, sight)
    assert len(ready) == 11, "of fifteen, four are shown twice"
    marked = {t: f"at {t}" for t in ready}
    for t0_us in moments:
        assert past_of(view, t0_us, sight, ready=ready) == past_of(view, t0_us, sight)
        shown = past_of(view, t0_us, sight, ready=marked).pictures
        assert shown == tuple(f"at {t}" for t in sorted(ready) if t in range(t0_us - 2_000_000, t0_us + 1, 500_000))
    assert past_of(view, 5_000_000, sight, ready=ready).pictures == past_of(view, 5_000_000, sight).pictures
    assert pictures_ahead(view, moments, Sight(see="motion")) == {}


def test_a_recording_that_lacks_what_shall_be_shown_is_set_aside(drives, tmp_path):
    with OddServer(lambda payload, count: sound(payload)) as server:
        with pytest.raises(UserError, match=r"has no camera; use --openai\.see text"):
            label(drives, tmp_path / "frames", server, see="frames")
        assert not server.payloads


def test_prompts_name_a_parameter_that_is_missing_or_undeclared(tmp_path):
    with pytest.raises(UserError, match="'ego_future' is declared but was not given"):
        read_prompt("decision").render(causes=())
    with pytest.raises(UserError, match="'weather' was given but is not declared"):
        declared = dict.fromkeys(read_prompt("decision").parameters, ())
        read_prompt("decision").render(**declared, weather="rain")
    own = tmp_path / "causes.jinja"
    own.write_text((OWN / "causes.jinja").read_text().replace("{{ seconds }}", "{{ minutes }}", 1))
    with pytest.raises(UserError, match="'minutes' is used but not declared"):
        read_prompt("causes", tmp_path)
    own.write_text("no head")
    with pytest.raises(UserError, match="a head of two comments"):
        read_prompt("causes", tmp_path)
    with pytest.raises(UserError, match=r"critic\.jinja cannot be read"):
        read_prompt("critic", tmp_path)


def test_own_prompts_change_the_hash(tmp_path):
    for name in ("causes", "decision"):
        (tmp_path / f"{name}.jinja").write_text((OWN / f"{name}.jinja").read_text() + "Be brief.\n")
    config = TeacherConfig(url="http://x/v1", model="m")
    assert OpenAiTeacher(config).prompt_hash != OpenAiTeacher(replace(config, prompts=tmp_path)).prompt_hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ""}, "no model is named; set --openai.model"),
        ({"url": "localhost:8000"}, "a base URL such as"),
        ({"url": "http://me:secret@host/v1"}, r"put the key into \$CAUSALDRIVE_TEST_KEY"),
        ({"reply_format": "json_scheme"}, "Did you mean json_schema"),
        ({"see": "frame"}, "Did you mean frames"),
        ({"concurrency": 0}, "--openai.concurrency is 0"),
        ({"budget_money": 1.0}, "needs prices"),
        ({"trace": "modle"}, "Did you mean model"),
    ],
)
def test_settings_that_cannot_work_are_one_sentence(drives, tmp_path, changes, message):
    with OddServer(lambda payload, count: sound(payload)) as server, pytest.raises(UserError, match=message):
        label(drives, tmp_path / "out", server, **changes)


def test_label_sets_from_before_models_were_noted_still_read(drives, tmp_path):
    run(LabelConfig(drives, tmp_path, teacher="motion", workers=1))
    labels = read_labels(tmp_path)
    table = read_table(labels_path(tmp_path), ["model", "endpoint"]).drop_columns(["model", "endpoint"])
    write_table(labels_path(tmp_path), table)
    assert read_labels(tmp_path) == labels


def judge(server: OddServer, **changes) -> CriticConfig:
    return CriticConfig(url=server.url, model="judge", see="motion", backoff_s=0.01, retries=1, asks=1, **changes)


def test_the_critic_judges_what_the_validators_pass_by_the_median_of_its_votes(drives, tmp_path):
    grades = [{**GRADES, "causality": grade, "reason": f"grade {grade}"} for grade in (5, 1, 2)]

    def behave(payload: dict, count: int) -> Answer:
        return said(grades[count - 1]) if payload["model"] == "judge" else sound(payload)

    with OddServer(behave) as server:
        labels = label(drives, tmp_path / "out", server, judge(server, votes=3))
        judged = [x for x in labels if x.verdicts[-1].check == "critic judge"]
        assert sum(p["model"] == "judge" for p in server.payloads) == 3 * len(judged) > 0
    assert all(x.status == "rejected" and x.verdicts[-1].score == 0.4 for x in judged)
    assert "3 of 3 votes, spread 4" in judged[0].verdicts[-1].reason and "grade 1" in judged[0].verdicts[-1].reason
    others = [x for x in labels if x not in judged]
    assert all(any(v.passed is False for v in x.verdicts) for x in others), "the validators had rejected them"


def test_a_critic_that_cannot_be_read_leaves_labels_unscored_not_zero(drives, tmp_path):
    def behave(payload: dict, count: int) -> Answer:
        return said("a fine label, eight out of ten") if payload["model"] == "judge" else sound(payload)

    with OddServer(behave) as server:
        labels = label(drives, tmp_path / "out", server, judge(server))
    judged = [x for x in labels if x.verdicts[-1].check == "critic judge"]
    assert judged and {(x.status, x.verdicts[-1].score) for x in judged} == {("unscored", None)}
    assert cost(tmp_path / "out", "critic")["failures"] == {"invalid_json": len(judged)}


def test_a_better_grade_is_a_better_score_and_a_teacher_may_not_judge_itself(drives, tmp_path):
    scores = []
    for grade in range(6):
        behave = lambda payload, count, g=grade: said({"reason": "", "behaviour": 5, "causality": g})  # noqa: E731
        with OddServer(behave) as server:
            run(LabelConfig(drives, tmp_path / str(grade), teacher="motion", limit=1, critic=judge(server)))
            scores.append({x.verdicts[-1].score for x in read_labels(tmp_path / str(grade))})
    assert scores == [{grade / 5} for grade in range(6)]
    with OddServer(lambda payload, count: sound(payload)) as server:
        with pytest.raises(UserError, match="would agree with themselves"):
            label(drives, tmp_path / "self", server, replace(judge(server), model="m"))
        assert label(drives, tmp_path / "self", server, replace(judge(server), model="m", itself=True))


def test_replies_are_kept_raw_beside_what_was_asked(drives, tmp_path):
    with OddServer(lambda payload, count: sound(payload)) as server:
        labels = label(drives, tmp_path / "out", server)
    lines = [json.loads(line) for file in (tmp_path / "out" / "replies").glob("*.jsonl") for line in file.open()]
    assert len(lines) == len({line["key"] for line in lines}) == 2 * len(labels)
    assert all(line["body"]["choices"] and line["messages"] and line["endpoint"] == server.url[7:-3] for line in lines)
