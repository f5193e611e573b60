"""The `student see` stage as a user runs it: annotated drives in, a student with taught eyes out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from killing import kill_when
from sft_drives import drive, write_drive
from test_sights import one_agent

from causaldrive.clips.store import write_recording
from causaldrive.ground.errors import UserError
from causaldrive.ground.runs import read_metrics
from causaldrive.sft.eyes import EyesConfig, open_pictures, run
from causaldrive.sft.sight_heads import Eyes, crew_of, write_gradients
from causaldrive.student import checkpoint


def write_seen(root: Path, count: int) -> Path:
    """Drives whose picture is bright on the left where a car is, dark where none is."""
    for number in range(count):
        base, there = drive(number), number % 2 == 0
        agents = [one_agent("car", 10.0, 4.0, t_us=np.array([t])) for t in base.ego.t_us[:60]]
        x = base.ego.position_in_local_m[:60, 0]
        for agent, at in zip(agents, x, strict=True):
            agent.xyz_in_local_m[:] = [at + 10.0, 4.0, 0.0]
        parts = {f.name: np.concatenate([getattr(a, f.name) for a in agents]) for f in dataclasses.fields(agents[0])}
        recording = dataclasses.replace(
            base,
            agents=dataclasses.replace(agents[0], **parts) if there else None,
            route_xy_in_local_m=np.array([[-5.0, 0.0], [300.0, 0.0]]),
        )
        image = np.full((32, 64, 3), 40, np.uint8)
        image[:, :32] = 220 if there else 40
        write_recording(root / recording.recording_id, recording, {"front": [image] * 60})
    return root


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> Path:
    return write_seen(tmp_path_factory.mktemp("seen"), 24)


def config_of(student: Path, recordings: Path, out: Path, **changes) -> EyesConfig:
    small = {"steps": 30, "batch_size": 8, "warmup_steps": 3, "eval_every": 15, "save_every": 2}
    return EyesConfig(student, recordings, out, **(small | changes))


@pytest.fixture(scope="module")
def finished(student, seen, tmp_path_factory) -> EyesConfig:
    torch.set_num_threads(1)
    config = config_of(student, seen, tmp_path_factory.mktemp("eyes") / "out")
    run(config)
    return config


def test_what_is_learnt_holds_on_recordings_held_back(finished):
    rows = read_metrics(finished.out)
    train = [row["loss"] for row in rows if row["split"] == "train"]
    assert np.mean(train[-5:]) < 0.5 * np.mean(train[:3])
    held = [row for row in rows if row["split"] == "validation"][-1]
    assert held["recall vehicle"] > 0.9 and held["precision vehicle"] > 0.9 and held["path_m"] < 0.5


def test_only_the_eyes_change(finished, student):
    before, after = (dict(checkpoint.load(d)[0].named_parameters()) for d in (student, finished.out / "checkpoint"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("vlm.model.visual.") for name in changed)
    assert any("patch_embed" in name for name in changed) and any("deepstack" in name for name in changed)


def test_the_page_shows_pictures_and_kinds(finished):
    page = (finished.out / "report.html").read_text()
    assert "Seen on recordings held back" in page and page.count("data:image/jpeg") >= 2


def test_a_killed_run_continues_to_the_same_result(finished, student, seen, tmp_path):
    killed = config_of(student, seen, tmp_path / "out")
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from causaldrive.sft import eyes\n"
        "step = eyes._step\n"
        "eyes._step = lambda e, b, s, *rest: (time.sleep(60) if s.step >= 5 else None, step(e, b, s, *rest))[1]\n"
        "student, recordings, out = map(Path, sys.argv[1:])\n"
        "eyes.run(eyes.EyesConfig(student, recordings, out, steps=30, batch_size=8, warmup_steps=3, eval_every=15,"
        " save_every=2))\n"
    )
    words = (killed.student, killed.recordings, killed.out)
    kill_when(lambda: any(row["step"] >= 5 for row in read_metrics(killed.out)), code, words)
    assert json.loads((killed.out / "run.json").read_text())["state"] == "running"
    run(killed)
    weights = [(c.out / "checkpoint" / "model.safetensors").read_bytes() for c in (finished, killed)]
    assert weights[0] == weights[1]


def test_two_threads_come_to_the_gradients_of_one(student, seen, tmp_path):
    """Also where one share knows nothing of what the other knows: the first pictures hold no car."""
    config = config_of(student, seen, tmp_path / "out")
    model, _ = checkpoint.load(student)
    train, _ = open_pictures(config, model.config.frames())
    batch = train.batch(sorted(range(len(train)), key=lambda i: train.classes[i])[:: len(train) // 7][:7])
    found = []
    for threads in (1, 2, 3):
        eyes = Eyes(model.float(), train.sights[0].kind.size, seed=3)
        with crew_of(threads) as crew:
            losses = write_gradients(eyes, batch, crew)
        found.append((losses, {name: p.grad.clone() for name, p in eyes.named_parameters() if p.grad is not None}))
        eyes.zero_grad(set_to_none=True)
    for losses, gradients in found[1:]:
        assert losses == pytest.approx(found[0][0], rel=1e-5)
        assert gradients.keys() == found[0][1].keys() and len(gradients) > 20
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, found[0][1][name], rtol=1e-3, atol=1e-6)


def test_recordings_without_annotations_are_refused_in_a_sentence(student, tmp_path):
    for number in range(2):
        write_drive(tmp_path / "bare", number)
    with pytest.raises(UserError, match="no picture with agents, lights or a route beside it in 2 recordings"):
        run(config_of(student, tmp_path / "bare", tmp_path / "out"))


def test_held_out_seeds_never_reach_training(student, tmp_path):
    write_drive(tmp_path / "held", 1, seed=2_000_001)
    with pytest.raises(UserError, match="seed 2000001 is of the test split"):
        run(config_of(student, tmp_path / "held", tmp_path / "out"))


@pytest.mark.parametrize(("change", "message"), [({"steps": 0}, "--steps is 0"), ({"brightness": 1.0}, "--brightness")])
def test_settings_that_cannot_be_meant_are_refused(student, seen, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        run(config_of(student, seen, tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()
