"""The stage `worlds intervene`: data, page, pictures of what disagrees, resume, what is set aside, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from causaldrive.ground.errors import UserError
from causaldrive.worlds import intervene
from causaldrive.worlds.causes import trials
from causaldrive.worlds.intervene import InterveneConfig, run


@pytest.fixture
def few(monkeypatch):
    """Four trials a scene, the second of which is made to disagree; scene 2 breaks while `few` says so."""
    state = {"breaks": True, "tried": []}

    def some(world, every_s):
        state["tried"].append(world.scene.spec.seed)
        if world.scene.spec.seed == 2 and state["breaks"]:
            raise RuntimeError("no road")
        for index, trial in enumerate(islice(trials(world, every_s), 4)):
            yield replace(trial, verdict="not_cleared", role="other", why="made up") if index == 1 else trial

    monkeypatch.setattr(intervene, "trials", some)
    return state


def config(out: Path, **changes) -> InterveneConfig:
    return replace(InterveneConfig(out, 2, 2, ("lead_brakes",), every_s=1.5, workers=1), **changes)


def test_a_run_keeps_its_data_and_shows_what_disagrees(tmp_path, few, capsys):
    run(config(tmp_path / "run"))
    out = tmp_path / "run"
    rows = pq.read_table(out / "trials.parquet").to_pylist()
    assert len(rows) == 4 and {row["seed"] for row in rows} == {3}
    (apart,) = [json.loads(line) for line in (out / "disagreements.jsonl").read_text().splitlines()]
    assert apart["agrees"] is False and apart["why"] == "made up"
    assert (out / "pictures" / apart["picture"]).read_bytes().startswith(b"\x89PNG")
    summary = json.loads((out / "summary.json").read_text())
    tested = summary["cause"]["n"] + summary["other"]["n"]
    agreed = sum((summary[role]["agree"] or 0) * summary[role]["n"] for role in ("cause", "other"))
    assert (tested, round(agreed), summary["scenes"]) == (4, 3, 1)
    page = (out / "report.html").read_text()
    assert "made up" in page and "data:image/png" in page and "no road" in page
    assert "set aside: RuntimeError: no road" in capsys.readouterr().out


def test_a_run_goes_on_where_it_stopped_and_a_finished_one_does_nothing(tmp_path, few, monkeypatch):
    whole, write = config(tmp_path / "run"), intervene.write_report
    few["breaks"] = False

    def killed(*rest):
        raise KeyboardInterrupt

    monkeypatch.setattr(intervene, "write_report", killed)
    with pytest.raises(KeyboardInterrupt):
        run(whole)
    (whole.out / "scenes" / "town_lead_brakes_000002_cause.json").unlink()
    few["tried"].clear()
    monkeypatch.setattr(intervene, "write_report", write)
    run(whole)
    assert few["tried"] == [2], "only the missing scene is driven again"
    assert {row["seed"] for row in pq.read_table(whole.out / "trials.parquet").to_pylist()} == {2, 3}
    few["tried"].clear()
    run(whole)
    assert few["tried"] == []


def test_a_run_without_one_sound_scene_is_an_error(tmp_path, few):
    with pytest.raises(UserError, match="none of 1 scenes"):
        run(config(tmp_path / "run", scenes=1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"scenes": 0}, "at least 1"), ({"workers": 0}, "--workers 1"), ({"every_s": 0.01}, "every-s"),
     ({"families": ("lead_break",)}, "Did you mean"), ({"first_seed": 9_000_000}, "reserved")],
)  # fmt: skip
def test_wrong_requests_are_refused(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        run(config(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()
