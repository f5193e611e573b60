"""The rl stage whole: it learns, repeats itself to the byte, survives a kill, and refuses what cannot work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from killing import kill_when
from rl_worlds import make_student

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import digest
from causaldrive.ground.runs import read_metrics
from causaldrive.rl.stage import RlConfig, run
from causaldrive.student import checkpoint

SMALL = {"iterations": 2, "scenes_per_iteration": 2, "group_size": 2, "duration_s": 3.1, "probe_scenes": 1,
         "minibatch": 8, "epochs": 1, "engine": "toy"}  # fmt: skip
HERE = Path(__file__).resolve().parent


def config_of(student: Path, out: Path, **changes) -> RlConfig:
    return RlConfig(student, out, **(SMALL | changes))


def probe(out: Path, name: str) -> dict:
    return json.loads((out / f"probe_{name}.json").read_text())["summary"]


def test_it_learns_what_is_true(student, tmp_path):
    out = tmp_path / "out"
    run(config_of(student, out, iterations=10, scenes_per_iteration=4, group_size=4, probe_scenes=4, learning_rate=3e-3,
                  epochs=2, minibatch=16, drive_weight=0.0, consistency_weight=0.0))  # fmt: skip
    rows = read_metrics(out)
    assert rows[-1]["reward_reasoning"] > rows[0]["reward_reasoning"] + 0.15
    assert probe(out, "after")["reward_reasoning"] > probe(out, "before")["reward_reasoning"] + 0.1
    assert probe(out, "after")["unreadable"] <= 0.1


def test_it_learns_of_the_expert_where_it_drove_when_no_reward_counts(student, tmp_path):
    out = tmp_path / "out"
    run(config_of(student, out, iterations=8, scenes_per_iteration=4, probe_scenes=8, learning_rate=3e-3, epochs=2,
                  drive_weight=0.0, reasoning_weight=0.0, consistency_weight=0.0, dagger_weight=1.0))  # fmt: skip
    rows = read_metrics(out)
    assert all(row["lessons"] == 0 < row["shown"] for row in rows) and rows[-1]["dagger_loss"] < rows[0]["dagger_loss"]
    assert probe(out, "after")["reward_reasoning"] > probe(out, "before")["reward_reasoning"] + 0.1
    assert "imitated, with weight 1" in (out / "report.html").read_text()


def test_a_run_leaves_a_checkpoint_and_a_page(student, tmp_path):
    out = tmp_path / "out"
    run(config_of(student, out, families=("red_light",)))
    model, _ = checkpoint.load(out / "checkpoint")
    assert model.config.vocab_size == checkpoint.load(student)[0].config.vocab_size
    assert "Training (rl)" in (out / "checkpoint" / "README.md").read_text()
    page = (out / "report.html").read_text()
    assert all(words in page for words in ("consistency reward", "Before and after", "Sample traces", "red_light"))
    rows = read_metrics(out)
    assert [row["iteration"] for row in rows] == [0, 1]
    for row in rows:
        assert row["drives"] == 4 and row["decisions"] == 12 and row["failures"] == 0
        assert all(0 <= row[f"reward_{name}"] <= 1 for name in ("drive", "episode", "reasoning", "consistency"))
        assert row["lessons"] + row["without_variance"] == row["decisions"]
        assert {"kl", "clip_fraction", "entropy", "grad_norm", "tokens", "clean", "scene_score"} <= set(row)
    assert not (out / "state").exists()


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(student, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(config_of(student, tmp_path / name, iterations=1, seed=seed))
    a, b, c = (digest(tmp_path / name / "checkpoint" / "model.safetensors") for name in "abc")
    assert a == b != c
    assert digest(tmp_path / "a" / "probe_after.json") == digest(tmp_path / "b" / "probe_after.json")


def test_a_finished_run_is_left_alone(student, tmp_path, capsys):
    config = config_of(student, tmp_path / "out", iterations=1)
    run(config)
    before = (tmp_path / "out" / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    run(config)
    assert "already finished" in capsys.readouterr().err
    assert (tmp_path / "out" / "checkpoint" / "model.safetensors").stat().st_mtime_ns == before


def test_a_killed_run_goes_on_as_if_it_had_not_been(student, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(config_of(student, whole, iterations=3))
    _kill_after_first_round(student, killed)
    assert len(read_metrics(killed)) < 3
    run(config_of(student, killed, iterations=3))
    kept = ("iteration", "reward_drive", "reward_reasoning", "reward_consistency", "loss", "kl", "grad_norm")
    assert [[row[k] for k in kept] for row in read_metrics(killed)] == [
        [row[k] for k in kept] for row in read_metrics(whole)
    ]
    assert digest(whole / "checkpoint") == digest(killed / "checkpoint")


def _kill_after_first_round(student: Path, out: Path) -> None:
    """SIGKILL a real process in its second round."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from rl_worlds import use_toy_engine; use_toy_engine()\n"
        "from causaldrive.rl import loop, stage\n"
        "drive = loop.ClosedLoop._drive\n"
        "loop.ClosedLoop._drive = lambda self, i: (time.sleep(60) if i >= 1 else None, drive(self, i))[1]\n"
        f"stage.run(stage.RlConfig(Path(sys.argv[1]), Path(sys.argv[2]), **{SMALL | {'iterations': 3}!r}))\n"
    )
    kill_when((out / "state" / "step-000001" / "state.json").exists, code, (student, out), [HERE])


@pytest.mark.parametrize(("change", "message"), [
    ({"objective": "grop"}, "Did you mean grpo"),
    ({"part": "speach"}, "Did you mean speech"),
    ({"mode": "tokns"}, "Did you mean tokens"),
    ({"engine": "locl"}, "Did you mean local"),
    ({"families": ("cut_on",)}, "Did you mean cut_in"),
    ({"group_size": 1}, "--group-size is 1, at least 2 drives to compare expected"),
    ({"own_words": True}, "--own-words is True, nothing without --paths expected"),
    ({"path_coherence": 0.5}, "--path-coherence is 0.5, nothing without --paths expected"),
    ({"path_coherence": 1.5, "paths": 2, "mode": "tokens"}, "--path-coherence is 1.5, a number from 0 to 1 expected"),
    ({"mirror_paths": True}, "--mirror-paths is True, nothing without --paths expected"),
    ({"mirror_paths": True, "paths": 3, "mode": "tokens"}, "an even number of --paths for the same words expected"),
    ({"mirror_paths": True, "paths": 4, "own_words": True, "mode": "tokens"}, "an even number of --paths for the same"),
    ({"try_paths_s": 3.0}, "--try-paths-s is 3.0, nothing without --paths expected"),
    ({"dagger_weight": -1.0}, "--dagger-weight is -1.0, 0 or more expected"),
    ({"learning_rate": 0.0}, "--learning-rate is 0.0"),
    ({"decision_limit_s": 0.0}, "--decision-limit-s is 0.0, a number above 0"),
    ({"latency_s": 0.7}, "--latency-s is 0.7, from 0 to --decision-every-s"),
    ({"decision_every_s": 0.25}, "--decision-every-s is 0.25, a multiple of 0.1 s"),
    ({"anchor_labels": Path("x")}, "both --anchor-recordings and --anchor-labels, or neither"),
    ({"first_seed": 1_000_000}, "1000000 is of the validate split"),
    ({"first_seed": 999_997}, "of the validate split"),
    ({"first_seed": 9_000_000}, "of the reserved split"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_anything_is_read(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        run(config_of(tmp_path / "nowhere", tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


def test_a_student_that_cannot_speak_is_refused(tmp_path):
    checkpoint.save(tmp_path / "mute", *make_student())
    with pytest.raises(UserError, match=r"says nothing that can be read.*sft --mode coc"):
        run(config_of(tmp_path / "mute", tmp_path / "out"))


def test_the_decoder_can_be_trained_too(student, tmp_path):
    run(config_of(student, tmp_path / "out", iterations=1, train_decoder=True))
    (row,) = read_metrics(tmp_path / "out")
    assert row["decoder_kl"] >= 0 and row["failures"] == 0
    before, after = (checkpoint.load(path)[0] for path in (student, tmp_path / "out" / "checkpoint"))
    assert not before.action_out_proj.weight.equal(after.action_out_proj.weight)


def test_paths_are_drawn_beside_the_driven_one_and_the_same_seed_gives_the_same_bytes(student, tmp_path):
    for name in "ab":
        run(config_of(student, tmp_path / name, iterations=1, mode="tokens", paths=2))
    (row,) = read_metrics(tmp_path / "a")
    assert row["path_lessons"] <= 2 * 2 * row["decisions"]  # two paths, two axes
    assert "2 paths are drawn" in (tmp_path / "a" / "report.html").read_text()
    a, b = (digest(tmp_path / name / "checkpoint" / "model.safetensors") for name in "ab")
    assert a == b
