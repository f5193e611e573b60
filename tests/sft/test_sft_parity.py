"""Stages that join: what stage 1 trained is what stage 2 starts from, and float32 master weights under bfloat16."""

from __future__ import annotations

import dataclasses

import torch
from test_sft_trainer import config, data, train, trainer_of  # noqa: F401 (fixtures)

from causaldrive.student import checkpoint


def test_stage_two_starts_from_what_stage_one_trained(config, data):  # noqa: F811
    one, _ = train(dataclasses.replace(config, part="backbone", steps=2, out=config.out / "one"), data)
    before = checkpoint.load(config.student)[0]
    checkpoint.save(config.out / "handed", one.model, one.batcher.processor)
    two = trainer_of(dataclasses.replace(config, student=config.out / "handed", part="decoder", steps=2), data)
    trained = {name: p.detach().clone() for name, p in one.model.named_parameters() if name.startswith("vlm.")}
    for name, value in two.model.named_parameters():
        if name.startswith("vlm."):
            assert torch.equal(value, trained[name]), name
    assert any(not torch.equal(value, before.get_parameter(name)) for name, value in trained.items())
    two.fit()
    assert all(torch.equal(two.model.get_parameter(name), value) for name, value in trained.items())
    assert not torch.equal(two.model.action_out_proj.weight, before.action_out_proj.weight)


def test_master_weights_and_moments_stay_float32_under_bfloat16(config, data):  # noqa: F811
    seen = []
    config = dataclasses.replace(config, precision="bf16", learning_rate=1e-6, steps=2, warmup_steps=0)
    trainer = trainer_of(config, data)
    trainer.model.action_out_proj.register_forward_hook(lambda _, args, out: seen.append(out.dtype))
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.fit()
    assert seen and set(seen) == {torch.bfloat16}, "networks compute in bfloat16"
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    moments = [v for s in trainer.state.optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
    assert moments and {m.dtype for m in moments} == {torch.float32}
    moved = torch.cat([(p - before[n]).abs().flatten() for n, p in trainer.model.named_parameters()])
    size = torch.cat([before[n].abs().flatten() for n in before])
    finer = (moved > 0) & (moved < size * 2**-9)  # steps that bfloat16 weights would swallow whole
    assert finer.float().mean() > 0.2
