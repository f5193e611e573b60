"""Does it act on what it names? A driver that does, one that does not, one that makes its causes up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eval_drives import write_student

from causaldrive.evaluate import faithfulness
from causaldrive.evaluate.faithfulness import FaithfulnessConfig, records, run, summarise
from causaldrive.ground.errors import UserError
from causaldrive.label.trace import compose
from causaldrive.label.types import Cause
from causaldrive.worlds.episode import DriveSettings, Observation, Plan
from causaldrive.worlds.pool import constant_velocity_plan
from causaldrive.worlds.scenes import SceneSpec

BLIND = DriveSettings(camera=False, duration_s=5.0)
RED, LEAD = SceneSpec("red_light", 2_000_002), SceneSpec("lead_brakes", 2_000_000)


def plan_of(observation: Observation, acceleration_mps2: float, text: str) -> Plan:
    speed = np.maximum(observation.speed_mps + acceleration_mps2 * 0.1 * np.arange(1, 65), 0.0)
    return Plan(np.stack([np.cumsum(speed) * 0.1, np.zeros(64)], 1), np.zeros(64), text)


class Faithful:
    """Names the town's own causes, and brakes for them and for nothing else."""

    brakes = True

    def act(self, observations: Sequence[Observation]) -> list[Plan]:
        return [self._plan(o) for o in observations]

    def _plan(self, o: Observation) -> Plan:
        causes = [Cause(f.category, f.text, f.kind) for f in o.truth.causes]
        text = compose(o.truth.longitudinal, "lane_keeping", None, causes)
        return plan_of(o, min(o.truth.acceleration_mps2, 0.0) if self.brakes else 0.0, text)


class Deaf(Faithful):
    """Names the same causes, and drives on as if there were none."""

    brakes = False


class Dreaming:
    """Sees a stop sign wherever it goes."""

    def act(self, observations: Sequence[Observation]) -> list[Plan]:
        text = compose("stop_for_static_constraint", "lane_keeping", None,
                       [Cause("yield_stop_control", "a stop sign is ahead", "stop_sign")])  # fmt: skip
        return [replace(constant_velocity_plan(o.speed_mps), text=text) for o in observations]


def tried(policy: Any, specs: Sequence[SceneSpec] = (LEAD, RED)) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    rows = records(policy, specs, BLIND, 2.0, 2, "test")
    return rows, summarise(rows, 0)


def test_who_acts_on_its_causes_is_faithful_and_who_does_not_is_not():
    rows, faithful = tried(Faithful())
    named = [row for row in rows if row["role"] == "named"]
    assert named and all(row["moved"] and row["said"] and row["is_a_cause"] for row in named)
    assert faithful["faithfulness"]["value"] == 1.0 and faithful["faithfulness"]["n"] == len(named)
    assert 0.2 < faithful["faithfulness"]["low"] < 1.0, "few scenes leave doubt"
    assert faithful["hallucinated"]["value"] == 0.0 and faithful["placebo"]["value"] == 0.0
    _, deaf = tried(Deaf())
    assert deaf["faithfulness"]["value"] == 0.0 and deaf["word_follows"]["value"] == 1.0
    assert deaf["counts"]["named"] > 0 and deaf["counts"]["failed"] == 0


def test_a_cause_that_is_not_there_is_hallucinated():
    rows, dreaming = tried(Dreaming())
    assert dreaming["hallucinated"]["value"] == 1.0 and dreaming["faithfulness"]["value"] is None
    assert {row["kind"] for row in rows if row["role"] == "hallucinated"} == {"stop_sign"}
    assert dreaming["placebo"]["value"] == 0.0 and dreaming["placebo"]["n"] > 0


def test_a_drive_does_not_depend_on_its_neighbours_or_on_what_was_tried():
    rows, _ = tried(Faithful())
    alone = [row for spec in (LEAD, RED) for row in tried(Faithful(), [spec])[0]]
    assert rows == alone


def test_failures_are_counted_and_the_batch_goes_on():
    class Mute(Faithful):
        def act(self, observations: Sequence[Observation]) -> list[Any]:
            mute = [o.scene_id == RED.scene_id and o.t_us > 3_000_000 for o in observations]
            return [ValueError("no words") if m else plan
                    for m, plan in zip(mute, super().act(observations), strict=True)]  # fmt: skip

    rows, summary = tried(Mute(), (LEAD, RED, SceneSpec("no_such_family", 2_000_001)))
    failed = {row["item"]: row["why"] for row in rows if row["role"] == "failed"}
    assert "ValueError: no words" in failed[RED.scene_id] and summary["counts"]["named"] > 0
    assert any("no_such_family" in why for why in failed.values())


class Watching:
    """Keeps what the camera showed it."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, np.ndarray]] = []

    def act(self, observations: Sequence[Observation]) -> list[Plan]:
        self.seen += [(o.t_us, o.frames) for o in observations if o.frames is not None]
        return Faithful().act(observations)


def test_the_camera_is_drawn_anew_without_the_cause():
    policy = Watching()
    settings = DriveSettings(duration_s=2.6, decision_every_s=1.0)
    rows = records(policy, [LEAD], settings, 2.0, 1, "test")
    assert any(row["role"] == "named" for row in rows)
    now = [frames for t_us, frames in policy.seen if t_us == 1_600_000]
    assert len(now) >= 3 and now[0].shape[0] == 2  # the drive, the branch with the lead, and the one without
    np.testing.assert_array_equal(now[0], now[1])
    for frame in range(2):
        assert np.abs(now[1][frame].astype(int) - now[2][frame]).max() > 40, "the lead is gone from both frames"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return write_student(tmp_path_factory.mktemp("faithful") / "student")


def test_the_command_writes_its_results_and_does_nothing_twice(checkpoint, tmp_path, monkeypatch):
    config = FaithfulnessConfig(tmp_path / "out", (f"coc={checkpoint}",), 1, 2_000_000, duration_s=2.6,
                                decision_every_s=2.0, every_s=2.0)  # fmt: skip
    run(config)
    results = json.loads((config.out / "results.json").read_text())
    assert set(results["coc"]) == {*faithfulness.METRICS, "counts"} and (config.out / "report.html").exists()
    monkeypatch.setattr(faithfulness, "records", None)
    run(config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"students": ()}, "no student"), ({"scenes": 0}, "--scenes"), ({"first_seed": 5}, "train")],
)
def test_wrong_requests_are_refused(tmp_path, changes, words):
    config = replace(FaithfulnessConfig(tmp_path / "out", ("coc=/nowhere",)), **changes)
    with pytest.raises(UserError, match=words):
        run(config)
    assert not (tmp_path / "out").exists()
