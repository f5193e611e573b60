"""The stage as a user runs it: directories in, a checkpoint out, killed and started again."""

import dataclasses
import json

import pytest
import torch
from killing import kill_when

from causaldrive.ground.errors import UserError
from causaldrive.ground.runs import read_metrics
from causaldrive.sft.stage import SftConfig, run
from causaldrive.student import checkpoint


def config_of(student, drives, out, **changes) -> SftConfig:
    base = SftConfig(student, *drives, out, steps=6, batch_size=4, warmup_steps=2, precision="fp32", device="cpu",
                     eval_every=3, save_every=2)  # fmt: skip
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def finished(student, drives, tmp_path_factory) -> SftConfig:
    torch.set_num_threads(1)
    config = config_of(student, drives, tmp_path_factory.mktemp("sft") / "out")
    run(config)
    return config


def test_the_run_directory_holds_a_checkpoint_curves_and_nothing_to_clean_up(finished):
    names = {path.name for path in finished.out.iterdir()}
    assert names == {"run.json", "metrics.jsonl", "report.html", "checkpoint", "best"}
    record = json.loads((finished.out / "run.json").read_text())
    assert record["state"] == "finished" and record["resolved"] == {"precision": "fp32", "device": "cpu"}
    assert record["check"]["samples"] == 2 and record["check"]["ade_m"] >= 0
    rows = read_metrics(finished.out)
    assert [row["step"] for row in rows if row["split"] == "train"] == list(range(1, 7))
    assert [row["step"] for row in rows if row["split"] == "validation"] == [0, 3, 6]


def test_the_checkpoint_loads_and_is_not_the_student_it_came_from(finished):
    trained, processor = checkpoint.load(finished.out / "checkpoint")
    before, _ = checkpoint.load(finished.student)
    assert any(not torch.equal(a, b) for a, b in zip(trained.parameters(), before.parameters(), strict=True))
    assert processor.config.frames() == before.config.frames()
    card = (finished.out / "checkpoint" / "README.md").read_text()
    assert "mode: coc" in card and "24 training and 2 validation samples of 13 recordings" in card


def test_the_report_shows_losses_examples_and_data(finished):
    page = (finished.out / "report.html").read_text()
    for words in ("Losses", "What it has learnt", "Pace and optimizer", "stop_for_static_constraint"):
        assert words in page
    assert page.count("data:image/svg+xml") == 2 and "http://" not in page.replace("http://www.w3.org", "")


def test_a_finished_run_started_again_does_nothing(finished, capsys):
    before = (finished.out / "report.html").stat().st_mtime_ns
    run(finished)
    assert "already finished" in capsys.readouterr().err
    assert (finished.out / "report.html").stat().st_mtime_ns == before


def test_a_killed_run_continues_to_the_same_result(finished, tmp_path):
    killed = dataclasses.replace(finished, out=tmp_path / "out")
    _start_and_kill(killed, after_step=3)
    assert json.loads((killed.out / "run.json").read_text())["state"] == "running"
    run(killed)
    one, other = (read_metrics(c.out) for c in (finished, killed))
    assert [(row["split"], row["step"], row["loss"]) for row in one] == [
        (row["split"], row["step"], row["loss"]) for row in other
    ]
    weights = [(c.out / "checkpoint" / "model.safetensors").read_bytes() for c in (finished, killed)]
    assert weights[0] == weights[1]


def _start_and_kill(config: SftConfig, after_step: int) -> None:
    """Once it has logged `after_step`; every later step is held up."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from causaldrive.sft import stage, trainer\n"
        "step = trainer.Trainer._step\n"
        f"slow = lambda self, p: (time.sleep(60) if self.state.step >= {after_step} else None, step(self, p))[1]\n"
        "trainer.Trainer._step = slow\n"
        "student, recordings, labels, out = map(Path, sys.argv[1:])\n"
        "stage.run(stage.SftConfig(student, recordings, labels, out, steps=6, batch_size=4, warmup_steps=2,"
        " precision='fp32', device='cpu', eval_every=3, save_every=2))\n"
    )
    words = (config.student, config.recordings, config.labels, config.out)
    kill_when(lambda: any(row["step"] >= after_step for row in read_metrics(config.out)), code, words)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "trajektory"}, "mode 'trajektory' is not known.*Did you mean trajectory"),
        ({"precision": "bf61"}, "Did you mean bf16"),
        ({"part": "decodr"}, "Did you mean decoder"),
        ({"device": "gpu"}, "device 'gpu' is not known"),
        ({"steps": 0}, "--steps is 0, a number above 0 expected"),
        ({"learning_rate": -1.0}, "--learning-rate is -1.0"),
        ({"ema_decay": 1.5}, "--ema-decay is 1.5, a number from 0 to 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_before_anything_is_read(tmp_path, change, message):
    config = config_of(tmp_path / "nowhere", (tmp_path, tmp_path), tmp_path / "out", **change)
    with pytest.raises(UserError, match=message):
        run(config)
    assert not (tmp_path / "out").exists()


def test_trajectory_mode_runs_through_and_says_so(student, few_drives, tmp_path):
    config = config_of(student, few_drives, tmp_path / "out", mode="trajectory", steps=2)
    run(config)
    assert "mode: trajectory" in (config.out / "checkpoint" / "README.md").read_text()
    assert "Too few recordings for validation" in (config.out / "report.html").read_text()
