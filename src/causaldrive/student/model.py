"""The student: backbone, trajectory decoder ("expert"), projections and action space, with their losses.

Parameter names are those of the released Alpamayo-R1: `vlm.*`, `expert.layers.*`, `expert.norm`, `action_in_proj.*`,
`action_out_proj`. The expert reads the backbone's keys and values layer by layer with the gradient stopped. Actions,
times and integration stay float32 whatever the networks compute in. Knows nothing of samples, text or files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    DynamicCache,
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextModel

from causaldrive.ground.words import STEP_S
from causaldrive.student import flow
from causaldrive.student.action_space import UnicycleActionSpace
from causaldrive.student.batches import IGNORED, AnswerBatch, PromptBatch, TrainingBatch
from causaldrive.student.config import StudentConfig
from causaldrive.student.decoding import StaticMemory, run_layers
from causaldrive.student.expert import (
    Offsets,
    PrefixCache,
    ReplayedCache,
    expert_mask,
    expert_positions,
    offsets_of,
    prefix_of,
)
from causaldrive.student.projections import FourierFeatures, PerWaypointActionInProjV2
from causaldrive.student.tokens import future_allowed, text_allowed
from causaldrive.student.vision import quicken


@dataclass(frozen=True)
class Encoded:
    """One forward of the backbone."""

    hidden: Tensor  # (B, T, hidden) last states
    cache: DynamicCache  # keys (rotated) and values of every layer, (B, kv heads, T, head_dim)


class CausalDriveModel(PreTrainedModel):
    """See the module's head. `forward` is `forward_training`, so that wrappers for several devices work."""

    config_class = StudentConfig
    config: StudentConfig
    base_model_prefix = "student"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["Qwen3VLTextDecoderLayer", "Qwen3VLVisionBlock", "Qwen2_5_VLDecoderLayer"]  # noqa: RUF012 (transformers reads it)

    def __init__(self, config: StudentConfig, vlm: PreTrainedModel | None = None):
        super().__init__(config)
        backbone = Qwen2_5_VLForConditionalGeneration if config.is_qwen2_5 else Qwen3VLForConditionalGeneration
        self.vlm = cast(Qwen3VLForConditionalGeneration, vlm or backbone(cast(Any, config.vlm())))
        if not config.is_qwen2_5:
            quicken(self.vlm.model.visual)
        expert = config.expert()
        self.expert = Qwen3VLTextModel(expert)
        del self.expert.embed_tokens
        keep = config.persistent_buffers
        self.action_in_proj = PerWaypointActionInProjV2(
            expert.hidden_size, persistent_buffers=keep, **config.action_in_proj_cfg
        )
        self.action_out_proj = nn.Linear(expert.hidden_size, 2)
        self.action_space = UnicycleActionSpace(config.action_space(), keep)
        self.register_buffer("text_allowed", torch.zeros(config.vocab_size, dtype=torch.bool), persistent=False)
        self.register_buffer("future_allowed", torch.zeros(config.vocab_size, dtype=torch.bool), persistent=False)
        self.reset_buffers()
        self.post_init()

    def reset_buffers(self) -> None:
        """Write the masks of permitted tokens again (see `UnicycleActionSpace.reset_buffers`)."""
        self.get_buffer("text_allowed").data.copy_(torch.from_numpy(text_allowed(self.config)))
        self.get_buffer("future_allowed").data.copy_(torch.from_numpy(future_allowed(self.config)))

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, (FourierFeatures, UnicycleActionSpace, CausalDriveModel)):
            module.reset_buffers()

    def get_input_embeddings(self) -> nn.Module:
        return self.vlm.get_input_embeddings()

    def checkpoint_layers(self) -> None:
        """Training computes each layer a second time in the backward pass instead of keeping what is inside it.

        transformers takes the cache away from checkpointed layers, because a replayed layer would write twice;
        `ReplayedCache` and `PrefixCache` bear that, so here they keep it.
        """
        self.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
        for module in self.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module._can_checkpoint_with_cache = True

    def encode(self, batch: PromptBatch) -> Encoded:
        """One forward of the backbone over prompts or whole training rows."""
        cache = ReplayedCache() if self.training and self.is_gradient_checkpointing else DynamicCache()
        out = self.vlm.model(
            input_ids=batch.input_ids,
            attention_mask=self._attended(batch.visible),
            position_ids=batch.position_ids,
            mm_token_type_ids=batch.mm_token_type_ids,
            pixel_values=batch.pixel_values,
            image_grid_thw=batch.image_grid_thw,
            past_key_values=cache,
            use_cache=True,
        )
        return Encoded(out.last_hidden_state, cache)

    def _attended(self, visible: Tensor | None) -> Tensor | None:
        """`visible` in the form that the attention of the backbone takes: without sdpa, pairs are added to scores."""
        if visible is None or visible.ndim == 2 or self.vlm.config._attn_implementation == "sdpa":
            return visible
        return torch.zeros_like(visible, dtype=self.vlm.dtype).masked_fill(~visible, torch.finfo(self.vlm.dtype).min)

    def prefix(
        self, encoded: Encoded, batch: PromptBatch, start_column: Tensor, repeat: int = 1
    ) -> tuple[PrefixCache, Offsets]:
        """What the expert reads: the cache up to `<|traj_future_start|>` in `start_column` (B,), gradient stopped.

        `repeat` copies of each row stand next to each other.
        """
        columns = int(start_column.max()) + 1
        offsets = offsets_of(
            batch.attention_mask[:, :columns], batch.position_ids[:, :, :columns], start_column,
            self.config.mask_padding,
        )  # fmt: skip
        return prefix_of(encoded.cache, columns, repeat), offsets.repeat(repeat)

    def flow_velocity(self, cache: PrefixCache, offsets: Offsets, x_t: Tensor, t: Tensor) -> Tensor:
        """v(x_t, t | prefix) (B, 64, 2) float32 for noisy normalised actions x_t (B, 64, 2) and times t (B,)."""
        waypoints = x_t.shape[1]
        inputs = self.action_in_proj(x_t.float(), t.float())
        device = inputs.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else inputs.dtype
        out = self.expert(
            inputs_embeds=inputs,
            attention_mask=expert_mask(offsets.visible, waypoints, dtype),
            position_ids=expert_positions(offsets.first_position, waypoints),
            past_key_values=cache,
            use_cache=True,
        )
        return self.action_out_proj(out.last_hidden_state).float()

    def flow_decoder(self, memory: StaticMemory, offsets: Offsets) -> Callable[[Tensor, Tensor], Tensor]:
        """`flow_velocity` for many steps against one prefix: mask, positions and cache are made once.

        Way-points are written behind the used columns of `memory` and overwritten by the next step.
        """
        waypoints = self.config.action_space().n_waypoints
        own = offsets.visible.new_ones(len(offsets.visible), waypoints)
        visible = torch.cat([offsets.visible, own], dim=1)
        positions = expert_positions(offsets.first_position, waypoints)
        rope = self.expert.rotary_emb(self.action_out_proj.weight, positions)

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            hidden = run_layers(self.expert, self.action_in_proj(x_t.float(), t.float()), rope, memory, visible)
            return self.action_out_proj(hidden).float()

        return velocity

    def forward(self, batch: TrainingBatch, generator: torch.Generator, **options: Any) -> dict[str, Tensor]:
        return self.forward_training(batch, generator, **options)

    def forward_training(
        self,
        batch: TrainingBatch,
        generator: torch.Generator,
        flow_draws: int = 1,
        train_backbone: bool = True,
        train_flow: bool = True,
        bin_spread: float = 0.0,
        fade_s: float = 0.0,
        drawn: flow.Draws | None = None,
    ) -> dict[str, Tensor]:
        """Losses of one batch; nothing is weighted or summed here.

        `text_loss`, `traj_loss`: cross-entropy averaged over the batch's trace tokens and trajectory tokens (0 where
        there are none). `flow_loss`: mean of |v - (x - noise)|^2 over `flow_draws` (t, noise) pairs per sample, drawn
        from `generator` unless they are `drawn` already, and read against one cache. `<name>_per_sample` (B,) holds
        each row's own mean, NaN for a row without such tokens. `train_backbone=False` computes the backbone without
        gradient (staged training); `train_flow=False` leaves the decoder out.
        `bin_spread` above 0 shares the target of a trajectory token among the bins near the true one, as a Gaussian of
        that many bins: bins are numbers, and a near miss is a small one. `fade_s` above 0 weighs a trajectory token by
        exp(-t / fade_s), t the time it speaks of, scaled to mean 1: the car drives the beginning and then thinks again.
        """
        with torch.set_grad_enabled(train_backbone and torch.is_grad_enabled()):
            encoded = self.encode(batch)
            losses = self._token_losses(encoded.hidden, batch, bin_spread, fade_s)
        if train_flow:
            shape = (len(batch) * flow_draws, *batch.action.shape[1:])
            per_sample = self._flow_losses(encoded, batch, drawn or flow.draw(shape, generator), flow_draws)
            losses |= {"flow_loss": per_sample.mean(), "flow_loss_per_sample": per_sample.detach()}
        return losses

    def _token_losses(
        self, hidden: Tensor, batch: TrainingBatch, bin_spread: float = 0.0, fade_s: float = 0.0
    ) -> dict[str, Tensor]:
        """Cross-entropies; logits are made only where a label stands (hidden state t predicts token t + 1)."""
        text, traj = batch.labels_text[:, 1:], batch.labels_traj[:, 1:]
        labels = torch.where(text != IGNORED, text, traj)
        rows, columns = (labels != IGNORED).nonzero(as_tuple=True)
        logits = self.vlm.lm_head(hidden[rows, columns]).float()
        losses = functional.cross_entropy(logits, labels[rows, columns], reduction="none")
        if bin_spread > 0:
            losses = self._spread_losses(logits, labels[rows, columns], losses, bin_spread)
        is_text = text[rows, columns] != IGNORED
        if fade_s > 0:
            ahead_s = self._ahead_s(columns - batch.traj_start[rows])
            losses = torch.where(is_text, losses, losses * fading(ahead_s, ~is_text, fade_s))
        found: dict[str, Tensor] = {}
        for name, chosen in (("text_loss", is_text), ("traj_loss", ~is_text)):
            count = torch.zeros(len(batch), device=losses.device).index_add(0, rows, chosen.float())
            total = torch.zeros(len(batch), device=losses.device).index_add(0, rows, losses * chosen)
            found[name] = total.sum() / count.sum().clamp(min=1)
            found[f"{name}_per_sample"] = (total / count).detach()
        return found

    def _ahead_s(self, order: Tensor) -> Tensor:
        """Seconds ahead of the n-th trajectory token's group of steps; acceleration and curvature take turns."""
        return (order // 2).float() * self.config.traj_tokens().steps_per_token * STEP_S

    def _spread_losses(self, logits: Tensor, labels: Tensor, losses: Tensor, spread: float) -> Tensor:
        """Where the label is the bin b: -sum_j q_j log p_j over future bins j, q_j ~ exp(-(j - b)^2 / 2 spread^2)."""
        start, bins = self.config.traj_token_start_idx, self.config.future_bins
        distance = torch.arange(bins, device=labels.device) - (labels - start)[:, None]
        shares = (-0.5 * (distance / spread).square()).softmax(-1)
        spread_out = -(shares * logits.log_softmax(-1)[:, start : start + bins]).sum(-1)
        return torch.where((labels >= start) & (labels < start + bins), spread_out, losses)

    def _flow_losses(self, encoded: Encoded, batch: TrainingBatch, drawn: flow.Draws, draws: int) -> Tensor:
        """(B,) flow-matching losses, averaged over the draws."""
        cache, offsets = self.prefix(encoded, batch, batch.traj_start, repeat=draws)
        data = batch.action.float().repeat_interleave(draws, 0)
        t, noise = drawn.t.to(data.device), drawn.noise.to(data.device)
        velocity = self.flow_velocity(cache, offsets, flow.interpolate(data, noise, t), t)
        return (velocity - (data - noise)).square().mean(dim=(1, 2)).view(-1, draws).mean(dim=1)

    def completion_logprobs(self, batch: AnswerBatch, temperature: float = 1.0) -> Tensor:
        """(A, W) log-probabilities of the written tokens, 0 elsewhere.

        log_softmax(logits / temperature) over the tokens that were permitted at that place (text until
        `<|traj_future_start|>`, future bins after it), before any top-p cut: what `Generated.logprobs` holds.
        """
        return self.written_logprobs(self.encode(batch).hidden, batch, temperature)

    def written_logprobs(self, hidden: Tensor, batch: AnswerBatch, temperature: float) -> Tensor:
        """The same from what the backbone's last norm gives, `hidden` (B, T, hidden)."""
        where = batch.completion_mask
        rows = batch.answered_in[:, None].expand_as(where)[where]
        permitted = torch.where(
            batch.is_trajectory[where][:, None], self.get_buffer("future_allowed"), self.get_buffer("text_allowed")
        )
        logits = self.vlm.lm_head(hidden[rows, batch.source[where]])
        logprobs = permitted_logprobs(logits, permitted, temperature)
        chosen = logprobs.gather(1, batch.written[where][:, None])[:, 0]
        return torch.zeros(where.shape, device=chosen.device).index_put((where,), chosen)


def fading(ahead_s: Tensor, counted: Tensor, fade_s: float) -> Tensor:
    """exp(-t / fade_s), scaled to mean 1 over those that are `counted`."""
    weights = torch.exp(-ahead_s / fade_s)
    return weights * counted.sum() / (weights * counted).sum().clamp(min=1e-12)


def permitted_logprobs(logits: Tensor, permitted: Tensor, temperature: float) -> Tensor:
    """log_softmax(logits / temperature) (N, V) over `permitted` (N, V) or (V,); -inf elsewhere."""
    return (logits.float() / temperature).masked_fill(~permitted, -torch.inf).log_softmax(-1)


def around(vlm: PreTrainedModel, config: StudentConfig, seed: int) -> CausalDriveModel:
    """A student around a backbone with weights, whose vocabulary is already that of `config`; new parts from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CausalDriveModel(config, vlm).to(cast(Any, vlm.dtype))


ORDINAL_ORDERS = 12  # half waves over the range of a quantity that its bins' first embeddings are made of


def build(config: StudentConfig, seed: int) -> CausalDriveModel:
    """A new model with weights drawn from `seed`; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CausalDriveModel(config)
    generator = torch.Generator().manual_seed(seed)
    start = config.traj_token_start_idx
    tables = [cast(nn.Embedding, model.vlm.get_input_embeddings()).weight.data, model.vlm.lm_head.weight.data]
    for first, count in ((start, config.future_bins), (start + config.future_bins, config.history_bins)):
        for table in tables:
            table[first : first + count] = ordinal_rows(count, table.shape[1], table.std().item(), generator)
    return model


def ordinal_rows(count: int, width: int, std: float, generator: torch.Generator) -> Tensor:
    """Rows (count, width) for the bins of one quantity: neighbours start out alike, distant bins unlike.

    row(u) = std * normalise(sum_k [sin(pi k u), cos(pi k u)] G_k / sqrt(k)), u = bin / (count - 1), G Gaussian. Bins
    are numbers: told so, a small student reads its own motion from a few thousand samples instead of learning each
    bin by heart.
    """
    orders = torch.arange(1, ORDINAL_ORDERS + 1)
    angle = torch.pi * torch.linspace(0, 1, count)[:, None] * orders
    features = torch.cat([torch.sin(angle), torch.cos(angle)], dim=1) / orders.sqrt().repeat(2)
    rows = features @ torch.randn(2 * ORDINAL_ORDERS, width, generator=generator)
    return std * rows / rows.std()


def parameter_counts(model: CausalDriveModel) -> dict[str, int]:
    """Parameters by part."""
    parts = {
        "vision encoder": model.vlm.model.visual,
        "language model": model.vlm.model.language_model,
        "language head": model.vlm.lm_head,
        "trajectory decoder": model.expert,
        "action projections": nn.ModuleList([model.action_in_proj, model.action_out_proj]),
    }
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
