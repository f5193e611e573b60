"""What a larger run needs: adapters, checkpointed layers, length buckets, the best weights, trackers, processes."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from test_sft_stage import config_of
from test_sft_trainer import config, data, train, trainer_of  # noqa: F401 (fixtures)

from causaldrive.ground.errors import MissingExtra, UserError
from causaldrive.ground.runs import read_metrics
from causaldrive.sft.best import Best
from causaldrive.sft.dataset import open_samples
from causaldrive.sft.order import SampleOrder
from causaldrive.sft.stage import run
from causaldrive.sft.trainer import LOSSES
from causaldrive.student import checkpoint

SOURCE = Path(__file__).parents[2] / "src"


def gradients(trainer) -> dict[str, torch.Tensor]:
    trainer._accumulate(trainer._prepare(0))
    return {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_checkpointed_layers_give_the_same_gradient(config, data, precision):  # noqa: F811
    config = dataclasses.replace(config, precision=precision)
    kept, again = (gradients(trainer_of(dataclasses.replace(config, checkpointing=on), data)) for on in (False, True))
    assert kept.keys() == again.keys() and any("expert.layers" in name for name in kept)
    size, off = (
        torch.stack([norm(kept[name], again[name]) for name in kept]).square().sum().sqrt().item()
        for norm in (lambda a, _: a.norm(), lambda a, b: (a - b).norm())
    )
    assert off / size < (1e-5 if precision == "fp32" else 0.02)  # in bf16 attention is computed in two ways


def bytes_held(trainer) -> int:
    """Of all that a forward pass keeps for the backward pass."""
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.nbytes), t)[1], lambda t: t):
        trainer._losses(trainer._prepare(0).parts[0], torch.Generator().manual_seed(0))
    return sum(sizes)


def test_checkpointed_layers_keep_less_between_the_passes(config, data):  # noqa: F811
    held = []
    for on in (False, True):
        trainer = trainer_of(dataclasses.replace(config, checkpointing=on), data)
        held.append(bytes_held(trainer))
    assert held[1] < 0.6 * held[0]


def test_micro_batches_draw_what_the_whole_batch_draws(config, data):  # noqa: F811
    whole, parts = (
        train(dataclasses.replace(config, out=config.out / str(n), micro_batch=n, steps=2), data)[1] for n in (0, 3)
    )
    for one, other in zip(whole, parts, strict=True):
        assert other["flow_loss"] == pytest.approx(one["flow_loss"], rel=2e-4)


def test_an_adapter_is_all_that_the_backbone_learns_and_merges_into_a_usual_checkpoint(student, drives, tmp_path):
    settings = config_of(student, drives, tmp_path / "out", lora_rank=2, steps=2, check_traces=False)
    run(settings)
    before, trained = (checkpoint.load(path)[0] for path in (student, settings.out / "checkpoint"))
    moved = {n for n, p in trained.named_parameters() if not torch.equal(p, before.get_parameter(n))}
    assert {n for n, _ in trained.named_parameters()} == {n for n, _ in before.named_parameters()}
    layers = {n for n in moved if n.startswith("vlm.")}
    assert layers and all("_proj" in n or "embed_tokens" in n or "lm_head" in n for n in layers)
    assert "action_out_proj.weight" in moved
    rows = trained.vlm.lm_head.weight != before.vlm.lm_head.weight
    assert not rows[: before.config.text_vocab_size].any() and rows[before.config.text_vocab_size :].any()
    adapted = PeftModel.from_pretrained(before, str(settings.out / "checkpoint" / "adapter")).merge_and_unload()
    for name in layers:
        torch.testing.assert_close(adapted.get_parameter(name), trained.get_parameter(name))


def test_buckets_see_the_same_samples_with_less_padding():
    rng = np.random.default_rng(0)
    lengths = rng.integers(10, 100, 64).tolist()
    plain, sorted_ = SampleOrder(["a"] * 64, 0), SampleOrder(["a"] * 64, 0, lengths, buckets=4)
    batches = [[order.batch(step, 8) for step in range(8)] for order in (plain, sorted_)]
    seen = [sorted(i for batch in found for i in batch) for found in batches]
    assert seen[0] == seen[1]
    padded = [sum(8 * max(lengths[i] for i in batch) - sum(lengths[i] for i in batch) for batch in found)
              for found in batches]  # fmt: skip
    assert padded[1] < 0.5 * padded[0]
    again = SampleOrder(["a"] * 64, 0, lengths, buckets=4)
    assert [again.batch(step, 8) for step in (7, 2)] == [batches[1][7], batches[1][2]]
    longest = [max(lengths[i] for i in batch) for batch in batches[1][:4]]
    assert longest != sorted(longest), "a window's batches are not in order of length"


def test_bucketed_rows_are_measured_as_they_are(config, data):  # noqa: F811
    trainer = trainer_of(dataclasses.replace(config, length_buckets=2), data)
    count = len(trainer.batcher.samples)
    found = trainer.batcher.prepare(range(count)).parts[0].attention_mask.sum(1).numpy()
    assert len(set(found - np.array(trainer.batcher.lengths()))) == 1, "all but images and trace is alike"


@pytest.mark.parametrize(
    ("words", "expected"),
    [(("text_loss",), 2), (("flow_loss",), 1), (("text_loss", "flow_loss=10"), 1), (("text_loss=10", "flow_loss"), 2)],
)
def test_the_best_weights_are_those_of_the_chosen_metrics(words, expected):
    best = Best(words)
    rows = [{"text_loss": 6.0, "flow_loss": 1.0}, {"text_loss": 5.0, "flow_loss": 0.8},
            {"text_loss": 1.0, "flow_loss": 0.9}, {"text_loss": 2.0, "flow_loss": 0.95}]  # fmt: skip
    offered = [best.offer(step, row) for step, row in enumerate(rows)]
    assert best.step == expected and not offered[0] and offered[1] and not offered[3]


def test_a_metric_that_began_at_nothing_decides_nothing():
    best = Best(("text_loss", "flow_loss"))
    best.offer(0, {"text_loss": 0.0, "flow_loss": 1.0})
    assert best.offer(1, {"text_loss": 0.0, "flow_loss": 0.9}) and best.score == pytest.approx(0.9)


def test_the_best_weights_lie_beside_the_last(student, drives, tmp_path):
    """The rate is so high that the first validation after the start stays the best."""
    settings = config_of(student, drives, tmp_path / "out", steps=6, eval_every=2, learning_rate=0.3, warmup_steps=0,
                       final_rate=1.0, best_by=("flow_loss",), check_traces=False)  # fmt: skip
    run(settings)
    rows = [row for row in read_metrics(settings.out) if row["split"] == "validation" and row["step"] > 0]
    expected = min(rows, key=lambda row: row["flow_loss"])["step"]
    assert json.loads((settings.out / "run.json").read_text())["best"] == {"step": expected, "by": ["flow_loss"]}
    best, last = (checkpoint.load(settings.out / name)[0] for name in ("best", "checkpoint"))
    same = all(torch.equal(p, last.get_parameter(n)) for n, p in best.named_parameters())
    assert same == (expected == 6)
    assert f"step {expected}" in (settings.out / "best" / "README.md").read_text()
    again = trainer_of(dataclasses.replace(settings, student=settings.out / "best", out=tmp_path / "again"),
                       _data(settings, tmp_path))  # fmt: skip
    found = again.validation_losses()["flow_loss"]
    assert found == pytest.approx(next(row["flow_loss"] for row in rows if row["step"] == expected), rel=1e-6)


def _data(settings, tmp_path):
    frames = checkpoint.load(settings.student)[0].config.frames()
    return open_samples(settings.recordings, settings.labels, frames, tmp_path / "cache")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"best_by": ("text_los",)}, "Did you mean text_loss"),
        ({"best_by": ("text_loss=much",)}, "the weight is 'much', a number above 0 expected"),
        ({"log": ("tensorbord",)}, "Did you mean tensorboard"),
        ({"lora_rank": 4, "part": "decoder"}, "leave one of them out"),
        ({"shard": True, "best_by": ("ade_m",)}, "a model cut by --shard cannot"),
        ({"shard": True}, "but there is one; start it with torchrun"),
    ],
)
def test_what_cannot_go_together_is_refused_before_anything_is_read(tmp_path, change, message):
    settings = config_of(tmp_path / "nowhere", (tmp_path, tmp_path), tmp_path / "out", **change)
    with pytest.raises(UserError, match=message):
        run(settings)
    assert not (tmp_path / "out").exists()


def test_tensorboard_gets_what_the_file_gets(config, data):  # noqa: F811
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, rows = train(dataclasses.replace(config, log=("tensorboard",), steps=2), data)
    events = EventAccumulator(str(config.out / "tensorboard" / "causaldrive"))
    events.Reload()
    for name in ("loss", *LOSSES, "grad_norm", "samples_per_s", "tokens_per_s", "rss_mib"):
        found = [(event.step, event.value) for event in events.Scalars(f"train/{name}")]
        assert found == [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in rows]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_with_its_command(config, data, name):  # noqa: F811
    if importlib.util.find_spec(name) is not None:
        assert trainer_of(dataclasses.replace(config, log=(name,)), data).harness.accelerator.log_with
        return
    with pytest.raises(MissingExtra, match=rf"--log {name} needs .* pip install 'causaldrive\[{name}\]'"):
        trainer_of(dataclasses.replace(config, log=(name,)), data)


def test_a_trajectory_that_is_clipped_is_counted_and_warned_of_once(config, data, capsys):  # noqa: F811
    tight = dataclasses.replace(config, steps=3)
    trainer = trainer_of(tight, data)
    trainer.batcher.processor.action_space.settings = dataclasses.replace(
        trainer.batcher.processor.action_space.settings, accel_bounds_mps2=(-0.5, 9.8)
    )
    trainer.fit()
    counts = [row["clipped_trajectories"] for row in read_metrics(tight.out) if row["split"] == "train"]
    said = capsys.readouterr().err
    assert sum(counts) == trainer.clipped > 0
    assert said.count("sft: warning: the trajectory of drive-00") == 1
    assert "acceleration -0.5 to 9.8" in said


@pytest.mark.parametrize("shard", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["cut", "replicated"])
def test_two_processes_learn_what_one_does(student, drives, tmp_path, shard):
    """Two real processes over gloo. The sums are in another order, so losses agree to 2e-4 over four steps of Muon."""
    options = {"steps": 4, "eval_every": 2, "ema_decay": 0.5, "check_traces": False}
    alone = config_of(student, drives, tmp_path / "one", **options)
    run(alone)
    words = ["--student", alone.student, "--recordings", alone.recordings, "--labels", alone.labels,
             "--out", tmp_path / "two", "--steps", 4, "--batch-size", 4, "--warmup-steps", 2, "--precision", "fp32",
             "--device", "cpu", "--eval-every", 2, "--save-every", 2, "--ema-decay", 0.5, "--no-check-traces",
             *(["--shard"] if shard else [])]  # fmt: skip
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "causaldrive.cli", "sft"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *launch, *map(str, words)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    one, two = (read_metrics(path) for path in (alone.out, tmp_path / "two"))
    assert [(row["split"], row["step"]) for row in two] == [(row["split"], row["step"]) for row in one]
    for name in ("loss", *LOSSES):
        np.testing.assert_allclose([row[name] for row in two], [row[name] for row in one], rtol=2e-4, err_msg=name)
    weights = [checkpoint.load(path / "checkpoint")[0] for path in (alone.out, tmp_path / "two")]
    start = checkpoint.load(student)[0]
    for name, value in weights[0].named_parameters():
        moved = (value - start.get_parameter(name)).norm()
        assert (value - weights[1].get_parameter(name)).norm() <= 0.05 * moved + 1e-5, name
