"""What an sft run is told, checked before anything is read. Knows nothing of how it is carried out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.sft.best import weights_of

MODES = ("coc", "trajectory")
SPEAKS = ("flow+tokens", "flow", "tokens", "text")
PRECISIONS = ("auto", "bf16", "fp32")
PARTS = ("joint", "backbone", "decoder")
OPTIMIZERS = ("muon", "adamw")
TRACKERS = ("tensorboard", "wandb", "trackio")


@dataclass(frozen=True)
class SftConfig:
    """Supervised fine-tuning of a student on labelled recordings."""

    student: Path  # checkpoint directory to start from
    recordings: Path  # directory of recordings with camera video (training seeds only)
    labels: Path  # labels.parquet, or the label run that holds it
    out: Path  # run directory; the result is its `checkpoint`
    mode: str = "coc"  # coc: trace, tokens and flow; trajectory: the same samples without trace
    speak: str = "flow+tokens"  # how it learns to speak a trajectory: flow, tokens, both, or text (JSON way-points)
    part: str = "joint"  # joint; or staged: backbone (no decoder), decoder (backbone frozen)
    freeze_eyes: bool = False  # leave the vision encoder as it is: pictures cost a third, and it forgets nothing
    steps: int = 320  # optimizer steps
    batch_size: int = 16  # samples an optimizer step
    micro_batch: int = 0  # samples a forward pass; 0: the whole batch at once
    length_buckets: int = 0  # so many batches are sorted by row length together, which saves padding; 0: off
    lora_rank: int = 0  # of adapters on the language model's projections, the rest of the backbone frozen; 0: no LoRA
    checkpointing: bool = False  # compute layers again in the backward pass: less memory, a third more time
    shard: bool = False  # several processes (torchrun): each holds a part of weights, gradients, moments (FSDP2)
    optimizer: str = "muon"  # muon: Muon on hidden matrices, AdamW elsewhere; adamw: AdamW on all
    learning_rate: float = 3e-3  # highest rate, after warm-up
    final_rate: float = 0.02  # share of the highest rate that the cosine ends at
    warmup_steps: int = 40  # linear warm-up
    weight_decay: float = 0.01  # of matrices; never of norms, embeddings and biases
    flow_draws: int = 4  # (time, noise) pairs a sample, all read against one backbone pass
    text_weight: float = 1.0  # of the cross-entropy averaged over trace tokens
    traj_weight: float = 1.0  # of the cross-entropy averaged over trajectory tokens
    flow_weight: float = 1.0  # of the flow-matching loss
    bin_spread: float = 0.0  # bins over which the target of a trajectory token is spread; 0: the true bin alone
    fade_s: float = 0.0  # trajectory tokens count exp(-t / this), t seconds ahead, mean 1; 0: all alike
    clip_norm: float = 1.0  # gradient norm is clipped to this
    ema_decay: float = 0.0  # exponential moving average of the weights, saved instead of them; 0: off
    seed: int = 0  # of sample order, flow times and noise
    precision: str = "auto"  # bf16 (autocast over float32 weights), fp32, auto: bf16 where the hardware has it
    device: str = "auto"  # cpu, cuda, auto
    eval_every: int = 100  # steps between validation losses
    eval_samples: int = 96  # validation samples, spread over the held-back recordings
    save_every: int = 100  # steps between resumable states
    best_by: tuple[str, ...] = (
        "text_loss",
        "traj_loss",
        "flow_loss",
    )  # of validation: chooses `best`; NAME or NAME=WEIGHT
    log: tuple[str, ...] = ()  # metrics also to: tensorboard, wandb, trackio
    check_traces: bool = True  # at the end: drive and reason greedily on validation samples and score it
    frames_cache: Path | None = None  # where decoded frames are kept for other runs; none: in `out`, deleted at the end

    def validate(self) -> None:
        """Raises UserError for a name that is not known or a number out of range."""
        choices = {"mode": MODES, "speak": SPEAKS, "precision": PRECISIONS, "part": PARTS, "optimizer": OPTIMIZERS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise unknown_name(f"sft: {name}", getattr(self, name), known)
        if self.part == "decoder" and not self.speaks_flow:
            raise UserError(
                f"sft: --part decoder trains the flow decoder, --speak {self.speak} leaves it out; change one."
            )
        for name in ("steps", "batch_size", "flow_draws", "eval_every", "save_every", "learning_rate", "clip_norm"):
            self._expect(name, getattr(self, name) > 0, "a number above 0")
        for name in ("warmup_steps", "micro_batch", "length_buckets", "lora_rank", "eval_samples", "weight_decay"):
            self._expect(name, getattr(self, name) >= 0, "0 or more")
        for name in ("text_weight", "traj_weight", "flow_weight", "bin_spread", "fade_s"):
            self._expect(name, getattr(self, name) >= 0, "0 or more")
        for name in ("final_rate", "ema_decay"):
            self._expect(name, 0 <= getattr(self, name) <= 1, "a number from 0 to 1")
        for name in self.log:
            if name not in TRACKERS:
                raise unknown_name("sft: --log", name, TRACKERS)
        self._expect("fade_s", not self.fade_s or "tokens" in self.speak, "0 without trajectory tokens (--speak)")
        self._refuse_together(weights_of(self.best_by))

    def _refuse_together(self, best: dict[str, float]) -> None:
        if self.lora_rank and self.part == "decoder":
            raise UserError(
                "sft: --lora-rank adapts the backbone, which --part decoder freezes; leave one of them out."
            )
        if self.shard and "ade_m" in best:
            raise UserError(
                "sft: --best-by ade_m drives, which a model cut by --shard cannot; choose among the losses."
            )

    @property
    def speaks_flow(self) -> bool:
        """Whether the flow decoder is trained."""
        return "flow" in self.speak

    @property
    def drawn_by(self) -> str:
        """The mode of `student.generate` that draws what was learnt."""
        return "flow" if self.speaks_flow else self.speak

    def _expect(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            option = "--" + name.replace("_", "-")
            raise UserError(f"sft: {option} is {getattr(self, name)}, {expected} expected; change it and run again.")

    def resolved_device(self) -> torch.device:
        """Raises UserError for cuda where there is none."""
        has_cuda = torch.cuda.is_available()
        if self.device not in ("auto", "cpu", "cuda"):
            raise unknown_name("sft: device", self.device, ("auto", "cpu", "cuda"))
        if self.device == "cuda" and not has_cuda:
            raise UserError("sft: --device cuda asked for, but no CUDA device is found; use --device cpu or auto.")
        return torch.device("cuda" if has_cuda and self.device != "cpu" else "cpu")

    def resolved_precision(self) -> str:
        """'bf16' or 'fp32'."""
        if self.precision != "auto":
            return self.precision
        if self.resolved_device().type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
        return "bf16" if torch.backends.cpu.get_cpu_capability().startswith("AVX512") and has_bf16() else "fp32"


def has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; without, autocast is slower than float32."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
