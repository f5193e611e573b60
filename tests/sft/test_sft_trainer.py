"""The training loop through its doors. The golden losses are regenerated, when a change of them is meant, by
`CAUSALDRIVE_WRITE_GOLDEN=1 pytest tests/sft/test_sft_trainer.py -k golden`."""

import dataclasses
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from causaldrive.ground.errors import UserError
from causaldrive.ground.runs import Run, read_metrics
from causaldrive.sft.config import SftConfig
from causaldrive.sft.dataset import SampleData, open_samples
from causaldrive.sft.optim import learning_rate, make_optimizer
from causaldrive.sft.trainer import LOSSES, Trainer
from causaldrive.student import checkpoint
from causaldrive.student.batches import IGNORED

GOLDEN = Path(__file__).parent / "golden" / "losses.txt"


@pytest.fixture
def config(student, few_drives, tmp_path) -> SftConfig:
    return SftConfig(student, *few_drives, tmp_path / "out", steps=8, batch_size=4, warmup_steps=2, flow_draws=2,
                     precision="fp32", device="cpu", eval_every=100, save_every=100)  # fmt: skip


@pytest.fixture(scope="module")
def data(student, few_drives, tmp_path_factory) -> SampleData:
    frames = checkpoint.load(student)[0].config.frames()
    return open_samples(*few_drives, frames, tmp_path_factory.mktemp("cache"))


def trainer_of(config: SftConfig, data: SampleData) -> Trainer:
    config.out.mkdir(parents=True, exist_ok=True)
    model, processor = checkpoint.load(config.student)
    return Trainer(model, processor, data.train, data.validation, config, Run(config.out, {}, False))


def train(config: SftConfig, data: SampleData) -> tuple[Trainer, list[dict]]:
    trainer = trainer_of(config, data)
    trainer.fit()
    return trainer, [row for row in read_metrics(config.out) if row["split"] == "train"]


def test_it_overfits_eight_samples(config, data):
    """Trace cross-entropy falls below 1 % of its start, trajectory tokens below 5 %, flow matching below 75 %."""
    config = dataclasses.replace(config, steps=90, batch_size=8, flow_draws=4, learning_rate=6e-3, warmup_steps=5)
    _, rows = train(config, data)
    first, last = ({name: np.mean([row[name] for row in part]) for name in LOSSES} for part in (rows[:3], rows[-8:]))
    assert last["text_loss"] < 0.01 * first["text_loss"]
    assert last["traj_loss"] < 0.05 * first["traj_loss"]
    assert last["flow_loss"] < 0.75 * first["flow_loss"]


def test_golden_losses(config, data):
    _, rows = train(config, data)
    found = np.array([[row[name] for name in LOSSES] for row in rows])
    if os.environ.get("CAUSALDRIVE_WRITE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        np.savetxt(GOLDEN, found, fmt="%.6f", header=" ".join(LOSSES))
    np.testing.assert_allclose(found, np.loadtxt(GOLDEN), rtol=2e-4, err_msg="see the head of this file")


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"ema_decay": 0.9, "micro_batch": 2},
        {"lora_rank": 2, "checkpointing": True, "length_buckets": 2},
    ],
    ids=["plain", "averaged in parts", "adapter"],
)
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(config, data, tmp_path, monkeypatch, extra):
    whole = dataclasses.replace(config, save_every=3, **extra)
    cut = dataclasses.replace(whole, out=tmp_path / "cut")
    expected, rows = train(whole, data)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_after_step", _stop_after(Trainer._after_step, 5))
        with pytest.raises(KeyboardInterrupt):
            train(cut, data)
    assert [row["step"] for row in read_metrics(cut.out)] == [1, 2, 3, 4, 5]
    resumed, again = train(cut, data)
    assert [row["step"] for row in again] == list(range(1, 9))
    for name in ("loss", *LOSSES, "lr", "grad_norm"):
        assert [row[name] for row in again] == [row[name] for row in rows]
    for (name, one), (_, other) in zip(
        expected.model.named_parameters(), resumed.model.named_parameters(), strict=True
    ):
        assert torch.equal(one, other), name
    states = [load_file(run.out / "state" / "step-000008" / "state.safetensors") for run in (whole, cut)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def _stop_after(original, step):
    def stopped(self, row):
        original(self, row)
        if self.state.step == step:
            raise KeyboardInterrupt

    return stopped


def test_only_the_newest_states_are_kept_and_a_damaged_one_is_named(config, data):
    config = dataclasses.replace(config, save_every=2, steps=8)
    train(config, data)
    states = sorted(path.name for path in (config.out / "state").iterdir())
    assert states == ["step-000006", "step-000008"]
    damaged = config.out / "state" / "step-000008" / "state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(UserError, match="step-000008 to continue from the state before it"):
        trainer_of(config, data).fit()


def test_both_modes_see_the_same_samples_in_the_same_order(config, data):
    coc, plain = (trainer_of(dataclasses.replace(config, mode=mode), data) for mode in ("coc", "trajectory"))
    for step in range(6):
        with_trace, without = (t.batcher.prepare(t.order.batch(step, 4)) for t in (coc, plain))
        assert with_trace.names == without.names
        assert torch.equal(with_trace.parts[0].action, without.parts[0].action)
        assert (with_trace.parts[0].labels_text != IGNORED).any()
        assert (without.parts[0].labels_text == IGNORED).all()


def test_trajectory_mode_trains_without_a_text_loss(config, data):
    _, rows = train(dataclasses.replace(config, mode="trajectory", steps=3), data)
    assert [row["text_loss"] for row in rows] == [0.0] * 3
    assert rows[-1]["traj_loss"] < rows[0]["traj_loss"]


def test_micro_batches_give_the_gradient_of_the_whole_batch(config, data):
    rows = []
    for name, micro in (("whole", 0), ("micro", 3)):  # 3 + 1: parts of unequal size
        one = dataclasses.replace(config, out=config.out / name, steps=2, micro_batch=micro, part="backbone")
        rows.append(train(one, data)[1])
    for whole, parts in zip(*rows, strict=True):
        for key in ("text_loss", "traj_loss", "grad_norm"):
            assert parts[key] == pytest.approx(whole[key], rel=2e-4)


@pytest.mark.parametrize(("part", "moves"), [("backbone", True), ("decoder", False)])
def test_staged_runs_train_their_part_only(config, data, part, moves):
    before = dict(checkpoint.load(config.student)[0].named_parameters())
    trainer, _ = train(dataclasses.replace(config, part=part, steps=2), data)
    for name, after in trainer.model.named_parameters():
        if name.startswith("vlm.") != moves:
            assert torch.equal(after, before[name]), name
    moved = [name for name, after in trainer.model.named_parameters() if not torch.equal(after, before[name])]
    assert moved and all(name.startswith("vlm.") == moves for name in moved)


def test_a_diverging_run_stops_and_keeps_the_last_good_state(config, data):
    config = dataclasses.replace(config, learning_rate=1e30, warmup_steps=0, save_every=1)
    with pytest.raises(UserError, match=r"of step \d is not a finite number \(samples drive-00\d@\d+, drive"):
        train(config, data)
    kept = sorted((config.out / "state").iterdir())
    assert kept
    tensors = load_file(kept[-1] / "state.safetensors")
    assert all(torch.isfinite(value.float()).all() for value in tensors.values())


def test_the_sample_that_is_not_a_number_is_named(config, data, monkeypatch):
    trainer = trainer_of(config, data)
    original = trainer.model.forward_training

    def poisoned(batch, generator, **options):
        losses = original(batch, generator, **options)
        losses["flow_loss_per_sample"][2] = torch.nan
        return losses | {"flow_loss": losses["flow_loss"] * torch.nan}

    monkeypatch.setattr(trainer.model, "forward_training", poisoned)
    expected = trainer.batcher.prepare(trainer.order.batch(0, 4)).names[0][2]
    with pytest.raises(UserError, match=rf"loss of step 1 is not a finite number \(samples {expected}\)"):
        trainer.fit()


def test_validation_uses_the_same_draws_every_time_and_leaves_training_alone(student, drives, config, tmp_path):
    frames = checkpoint.load(student)[0].config.frames()
    data = open_samples(*drives, frames, tmp_path / "cache")
    trainer = trainer_of(config, data)
    state = trainer.state.generator.get_state()
    assert trainer.validation_losses() == trainer.validation_losses()
    assert torch.equal(state, trainer.state.generator.get_state())


def test_bf16_is_near_fp32(config, data):
    rows = [
        train(dataclasses.replace(config, out=config.out / p, steps=3, precision=p), data)[1] for p in ("fp32", "bf16")
    ]
    for one, other in zip(*rows, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=0.03)


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_decay_spares_norms_embeddings_and_biases(student, config, name):
    model, _ = checkpoint.load(student)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = make_optimizer(model, dataclasses.replace(config, optimizer=name)).param_groups
    decayed = [names[id(p)] for group in groups if group["weight_decay"] > 0 for p in group["params"]]
    spared = [names[id(p)] for group in groups if group["weight_decay"] == 0 for p in group["params"]]
    assert len(decayed) + len(spared) == len(names)
    assert not [name for name in decayed if name.endswith("bias") or "norm" in name or "embed_tokens" in name]
    assert any("embed_tokens" in name for name in spared) and any("norm" in name for name in spared)


def test_the_rate_warms_up_and_ends_low(config):
    config = dataclasses.replace(config, steps=100, warmup_steps=10, learning_rate=1.0, final_rate=0.02)
    rates = [learning_rate(config, step) for step in range(100)]
    assert 0 < rates[0] < 0.1 and max(rates) == rates[10] == 1.0
    assert all(a < b for a, b in itertools.pairwise(rates[:11]))
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert 0.02 <= rates[-1] < 0.03
