"""The report over a run: bars computed from numbers, missing stages named, videos copied beside the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from causaldrive.evaluate.tables import Rows
from causaldrive.ground.errors import UserError
from causaldrive.view.bars import bars_of, roles_of
from causaldrive.view.report import ReportConfig, run
from causaldrive.view.stages import find_stages

VALUES = {  # driver -> (minADE @6.4 s, clean share, scene score, decision accuracy, F1, consistency)
    "constant velocity": (5.0, 0.25, 0.3, None, None, None),
    "expert": (0.0, 1.0, 1.0, 1.0, 1.0, 1.0),
    "trajectory": (2.5, 0.6, 0.7, None, None, None),
    "coc": (2.0, 0.75, 0.8, 0.8, 0.7, 0.8),
    "coc+rl": (2.1, 0.8, 0.82, 0.82, 0.7, 0.9),
}


def row(part: str, driver: str, metric: str, value: float) -> dict[str, Any]:
    return {"part": part, "driver": driver, "group": "all", "metric": metric, "value": value, "low": value - 0.1,
            "high": value + 0.1, "n": 36, "clusters": 36, "failures": 0, "method": "bootstrap",
            "by_construction": driver == "expert" and part == "open_loop"}  # fmt: skip


def results_of(values: dict[str, tuple]) -> dict[str, Any]:
    rows = []
    for driver, (ade, clean, score, decision, f1, consistency) in values.items():
        numbers = [("open_loop", "minade_6s4_m", ade), ("closed_loop", "clean_share", clean),
                   ("closed_loop", "scene_score", score), ("open_loop", "decision_accuracy", decision),
                   ("open_loop", "parse_rate", None if decision is None else 1.0), ("open_loop", "cause_f1", f1),
                   ("closed_loop", "consistency", consistency)]  # fmt: skip
        rows += [row(part, driver, metric, value) for part, metric, value in numbers if value is not None]
    students = {"trajectory": {"path": "x/a", "reason": False}, "coc": {"path": "x/b", "reason": True},
                "coc+rl": {"path": "x/c", "reason": True}}  # fmt: skip
    return {"command": ["causaldrive", "evaluate"], "seeds": {"seed": 0, "first_scene": 2_000_000, "scenes": 36},
            "samples": 6, "drivers": list(values), "students": students, "set_aside": {}, "notes": [], "rows": rows,
            "differences": [], "failures": [],
            "videos": [{"file": "videos/coc-a.mp4", "part": "closed_loop", "driver": "coc", "item": "a",
                        "family": "red_light", "harmless": False, "outcome": "clean"}]}  # fmt: skip


def write_stage(directory: Path, stage: str, metrics: list[dict] = (), **record: Any) -> Path:  # pyright: ignore
    directory.mkdir(parents=True)
    started, ended = "2026-01-01T10:00:00+00:00", "2026-01-01T10:02:05+00:00"
    head = {"stage": stage, "command": ["causaldrive", stage], "config": {}, "state": "finished", "started": started,
            "ended": ended}  # fmt: skip
    (directory / "run.json").write_text(json.dumps(head | record))
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    return directory


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A run with sft, rl and evaluate, and no recordings or labels."""
    root = tmp_path / "demo"
    losses = [
        {"step": s, "split": "train", "text_loss": 3 / (s + 1), "traj_loss": 2.0, "flow_loss": 1.0} for s in range(5)
    ]
    write_stage(root / "sft-coc", "sft", losses)
    write_stage(root / "rl", "rl", [{"iteration": i, "reward_drive": 0.1 * i, "scene_score": 0.5} for i in range(3)])
    evaluated = write_stage(root / "evaluate", "evaluate")
    (evaluated / "results.json").write_text(json.dumps(results_of(VALUES)))
    (evaluated / "report.html").write_text("x")
    (evaluated / "videos").mkdir()
    (evaluated / "videos" / "coc-a.mp4").write_bytes(b"film")
    return root


def test_the_report_shows_what_is_there_and_names_what_is_missing(demo: Path):
    run(ReportConfig(demo, demo / "report", "my run"))
    html = (demo / "report" / "report.html").read_text()
    expected = ("my run", "coc+rl", "How it learnt", "Not in this run: worlds record, label, student build", "2.1 min",
                "../evaluate/report.html", "by construction", "videos/evaluate-coc-a.mp4")  # fmt: skip
    for words in expected:
        assert words in html, words
    assert (demo / "report" / "videos" / "evaluate-coc-a.mp4").read_bytes() == b"film"
    assert html.count(">met<") == 7 and ">not met<" not in html  # cost, minADE, clean, decision, F1, score, consistency
    before = (demo / "report" / "report.html").stat().st_mtime_ns
    run(ReportConfig(demo, demo / "report", "my run"))
    assert (demo / "report" / "report.html").stat().st_mtime_ns == before


def test_a_directory_without_stages_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"run\.json"):
        run(ReportConfig(tmp_path, tmp_path / "out"))
    with pytest.raises(UserError, match="not a directory"):
        run(ReportConfig(tmp_path / "none", tmp_path / "out"))


@pytest.mark.parametrize(("driver", "index", "worse", "words"), [
    ("coc", 0, 3.6, "minADE"),
    ("coc", 1, 0.47, "clean scenes"),
    ("coc", 3, 0.69, "decision right"),
    ("coc", 4, 0.59, "cause F1"),
    ("coc+rl", 2, 0.79, "scene score"),
    ("coc+rl", 5, 0.8, "consistency"),
])  # fmt: skip
def test_each_bar_can_fail(demo: Path, driver: str, index: int, worse: float, words: str):
    values = dict(VALUES)
    values[driver] = tuple(worse if i == index else v for i, v in enumerate(values[driver]))
    results = results_of(values)
    failed = [
        bar.asked for bar in bars_of(Rows(results["rows"]), roles_of(results), find_stages(demo)) if bar.met is False
    ]
    assert len(failed) == 1 and words in failed[0]


def test_cost_is_taken_from_the_recipe_and_judged(demo: Path):
    cost = {name: {"seconds": 600.0, "peak_memory_mib": 7000.0} for name in ("sft-coc", "rl", "evaluate")}
    (demo / "cost.json").write_text(json.dumps(cost))
    results = results_of(VALUES)
    bars = bars_of(Rows(results["rows"]), roles_of(results), find_stages(demo))
    assert [(bar.measured, bar.met) for bar in bars[:2]] == [("30.0 minutes", False), ("6.84 GiB", False)]


def test_stages_that_ran_side_by_side_count_their_time_once(demo: Path):
    cost = {
        "sft-coc and rl": {"seconds": 600.0, "peak_memory_mib": 5000.0},
        "evaluate": {"seconds": 300.0, "peak_memory_mib": 700.0},
    }
    (demo / "cost.json").write_text(json.dumps(cost))
    results = results_of(VALUES)
    bars = bars_of(Rows(results["rows"]), roles_of(results), find_stages(demo))
    assert [(bar.measured, bar.met) for bar in bars[:2]] == [("15.0 minutes", True), ("4.88 GiB", True)]


def test_stages_that_ran_side_by_side_share_the_time_by_their_own(demo: Path):
    entry = {"seconds": 600.0, "peak_memory_mib": 5000.0, "own_seconds": {"sft-coc": 600.0, "rl": 200.0}}
    (demo / "cost.json").write_text(json.dumps({"sft-coc and rl": entry}))
    seconds = {stage.name: stage.seconds for stage in find_stages(demo)}
    assert seconds["sft-coc"] == pytest.approx(450.0) and seconds["rl"] == pytest.approx(150.0)


def test_roles_come_from_what_made_the_checkpoint(tmp_path: Path):
    for name, stage in (("one", "sft"), ("two", "rl")):
        write_stage(tmp_path / name, stage)
    results = {
        "students": {name: {"path": str(tmp_path / name / "checkpoint"), "reason": True} for name in ("one", "two")}
    }
    roles = roles_of(results)
    assert (roles.coc, roles.rl, roles.trajectory) == ("one", "two", None)
