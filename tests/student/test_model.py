"""The model: one prefix for training and sampling, two-way decoder, stopped gradient, losses, log-probabilities."""

from __future__ import annotations

import pytest
import torch
from student_drives import TRACES, make_sample, make_student

from causaldrive.student import flow
from causaldrive.student.batches import IGNORED
from causaldrive.student.projections import FourierFeatures, PerWaypointActionInProjV2


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noisy(rows: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 64, 2, generator=generator(seed)), torch.rand(rows, generator=generator(seed + 1))


def test_the_decoder_sends_no_gradient_into_the_backbone():
    model, processor = make_student()
    rows = processor.training([make_sample(0)], [TRACES[0]])
    losses = model.forward_training(rows, generator())
    losses["flow_loss"].backward()
    assert all(p.grad is None for p in model.vlm.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.action_out_proj.parameters())
    assert any(p.grad is not None for p in model.expert.parameters())
    (losses["text_loss"] + losses["traj_loss"]).backward()
    assert model.vlm.lm_head.weight.grad is not None


def test_losses_are_those_of_the_definition(student):
    model, processor = student
    rows = processor.training([make_sample(0), make_sample(1)], [TRACES[0], TRACES[2] * 2])
    with torch.no_grad():
        losses = model.forward_training(rows, generator(3))
        logits = model.vlm.lm_head(model.encode(rows).hidden)
    for name, labels in (("text_loss", rows.labels_text), ("traj_loss", rows.labels_traj)):
        expected = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
        )
        assert float(losses[name]) == pytest.approx(float(expected), rel=1e-4)
        assert losses[f"{name}_per_sample"].shape == (2,)
    draw = generator(3)
    t = flow.draw_times(2, draw)
    noise = torch.randn(2, 64, 2, generator=draw)
    with torch.no_grad():
        prefix = model.prefix(model.encode(rows), rows, rows.traj_start)
        velocity = model.flow_velocity(*prefix, flow.interpolate(rows.action, noise, t), t)
    expected = (velocity - (rows.action - noise)).square().mean()
    assert float(losses["flow_loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_spread_and_faded_losses_are_those_of_the_definition(student):
    model, processor = student
    rows = processor.training([make_sample(0), make_sample(1)], [TRACES[0], TRACES[2]])
    c = model.config
    with torch.no_grad():
        losses = model.forward_training(rows, generator(), train_flow=False, bin_spread=2.0, fade_s=1.5)
        plain = model.forward_training(rows, generator(), train_flow=False)
        logp = model.vlm.lm_head(model.encode(rows).hidden).log_softmax(-1)
    wanted, weights = [], []
    for row, labels in enumerate(rows.labels_traj):
        for order, place in enumerate((labels != IGNORED).nonzero()[:, 0].tolist()):
            label = int(labels[place])
            found = logp[row, place - 1]
            if c.traj_token_start_idx <= label < c.traj_token_start_idx + c.future_bins:
                bins = torch.arange(c.future_bins)
                target = torch.exp(-((bins - (label - c.traj_token_start_idx)) ** 2) / (2 * 2.0**2))
                wanted.append(-(target / target.sum() * found[bins + c.traj_token_start_idx]).sum())
            else:
                wanted.append(-found[label])
            weights.append(torch.exp(torch.tensor(-(order // 2) * c.traj_tokens().steps_per_token * 0.1 / 1.5)))
    wanted, weights = torch.stack(wanted), torch.stack(weights)
    assert float(losses["traj_loss"]) == pytest.approx(float((wanted * weights).sum() / weights.sum()), rel=1e-4)
    assert float(losses["text_loss"]) == pytest.approx(float(plain["text_loss"]), rel=1e-6)


def test_with_fading_the_first_steps_pull_hardest():
    model, processor = make_student()
    rows = processor.training([make_sample(0)], [TRACES[0]])
    places = (rows.labels_traj[0] != IGNORED).nonzero()[:, 0] - 1

    def pulls(fade_s: float) -> torch.Tensor:
        hidden = model.encode(rows).hidden.detach().requires_grad_()
        model._token_losses(hidden, rows, 3.0, fade_s)["traj_loss"].backward()
        assert hidden.grad is not None
        return hidden.grad[0, places].norm(dim=-1)

    ratio = pulls(1.0) / pulls(0.0)
    assert ratio[0] > 3.0 and ratio[0] == pytest.approx(float(ratio[1]), rel=1e-4)
    assert (ratio[:-2:2].diff() < 0).all() and ratio[-3] < 0.2


def test_several_draws_share_one_cache(student):
    model, processor = student
    rows = processor.training([make_sample(0), make_sample(1)], [TRACES[0], None])
    x_t, t = noisy(6)
    with torch.no_grad():
        encoded = model.encode(rows)
        together = model.flow_velocity(*model.prefix(encoded, rows, rows.traj_start, repeat=3), x_t, t)
        for draw in range(3):
            pick = torch.tensor([draw, 3 + draw])
            alone = model.flow_velocity(*model.prefix(encoded, rows, rows.traj_start), x_t[pick], t[pick])
            assert torch.allclose(together[pick], alone, atol=1e-5)
        losses = model.forward_training(rows, generator(), flow_draws=3)
    assert losses["flow_loss_per_sample"].shape == (2,)
    assert torch.isnan(losses["text_loss_per_sample"]).tolist() == [False, True]


def test_staged_training_leaves_the_backbone_alone():
    model, processor = make_student()
    rows = processor.training([make_sample(0)], [TRACES[0]])
    losses = model.forward_training(rows, generator(), train_backbone=False)
    assert not losses["text_loss"].requires_grad and losses["flow_loss"].requires_grad
    without = model.forward_training(rows, generator(), train_flow=False)
    assert "flow_loss" not in without and without["text_loss"].requires_grad


def test_autocast_changes_little_and_keeps_actions_in_float32(student):
    model, processor = student
    rows = processor.training([make_sample(0), make_sample(1)], [TRACES[0], None])
    with torch.no_grad():
        plain = model.forward_training(rows, generator())
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.forward_training(rows, generator())
            velocity = model.flow_velocity(*model.prefix(model.encode(rows), rows, rows.traj_start), *noisy(2))
    assert velocity.dtype == torch.float32
    for name in ("text_loss", "traj_loss", "flow_loss"):
        assert float(rounded[name]) == pytest.approx(float(plain[name]), rel=0.03)


def test_parameter_names_are_the_released_ones(student):
    names = set(student[0].state_dict())
    for expected in (
        "vlm.model.language_model.layers.0.self_attn.q_norm.weight", "vlm.model.visual.patch_embed.proj.weight",
        "vlm.model.visual.deepstack_merger_list.1.linear_fc2.bias", "vlm.lm_head.weight", "expert.norm.weight",
        "expert.layers.3.mlp.gate_proj.weight", "action_in_proj.encoder.trunk.6.bias", "action_in_proj.norm.weight",
        "action_out_proj.bias",
    ):  # fmt: skip
        assert expected in names
    assert not any("embed_tokens" in n for n in names if n.startswith("expert."))
    expert = [n for n in names if n.startswith("expert.")]
    assert len(expert) == 4 * 11 + 1 and len([n for n in names if n.startswith("action_in_proj.")]) == 10


def test_the_backbone_learns():
    """Eight steps on four samples."""
    model, processor = make_student(lively=False)
    rows = processor.training([make_sample(i) for i in range(4)], TRACES)
    optimiser = torch.optim.AdamW(model.vlm.parameters(), lr=3e-3)
    seen = []
    for _ in range(8):
        losses = model.forward_training(rows, generator(), train_flow=False)
        seen.append((float(losses["text_loss"].detach()), float(losses["traj_loss"].detach())))
        optimiser.zero_grad()
        (losses["text_loss"] + losses["traj_loss"]).backward()
        optimiser.step()
    assert seen[-1][0] < 0.7 * seen[0][0] and seen[-1][1] < 0.8 * seen[0][1]


def test_the_decoder_learns():
    """Forty steps on four samples against one cache: v must come near data - noise."""
    model, processor = make_student(lively=False)
    rows = processor.training([make_sample(i) for i in range(4)], TRACES)
    with torch.no_grad():
        prefix = model.prefix(model.encode(rows), rows, rows.traj_start, repeat=4)
    data = rows.action.repeat_interleave(4, 0)
    decoder = [*model.expert.parameters(), *model.action_in_proj.parameters(), *model.action_out_proj.parameters()]
    optimiser, draw, seen = torch.optim.AdamW(decoder, lr=2e-3), generator(9), []
    for _ in range(40):
        t, noise = flow.draw_times(16, draw), torch.randn(data.shape, generator=draw)
        loss = (model.flow_velocity(*prefix, flow.interpolate(data, noise, t), t) - (data - noise)).square().mean()
        seen.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert sum(seen[-5:]) < 0.4 * sum(seen[:5]), seen


def test_fourier_features_have_the_released_frequencies_and_order():
    features = FourierFeatures(20, 1.0, 100.0)
    rounded = [1, 1.671875, 2.78125, 4.65625, 7.75, 12.9375, 21.5, 36, 60, 100]
    assert features.freqs.bfloat16().tolist() == rounded
    x = torch.tensor([0.3])
    angle = 2 * torch.pi * features.freqs * x
    expected = 2**0.5 * torch.cat([angle.sin(), angle.cos()])
    assert torch.allclose(features(x)[0], expected, atol=1e-5)
    sizes = PerWaypointActionInProjV2(2048, 2, 512, 100.0, 20)
    assert sum(p.numel() for p in sizes.parameters()) == 1_349_632
