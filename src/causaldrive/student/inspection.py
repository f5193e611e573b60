"""`student inspect`: what a preset or a checkpoint is made of, counted without loading a weight.

Builds the network on the meta device, where tensors have shapes and no memory; prints parameters, memory in bfloat16
and float32, and where each size comes from. Knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from tyro.conf import Positional

from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.files import read_json
from causaldrive.student.config import StudentConfig
from causaldrive.student.model import CausalDriveModel
from causaldrive.student.presets import NEEDS_WEIGHTS, PRESETS, ActionStatistics
from causaldrive.student.released import (
    TEXT_VOCAB,
    expert_beside,
    qwen3_vl,
    released_config_json,
    released_ids,
    student_config,
)
from causaldrive.student.text import train_tokenizer

_GIB = 2**30


@dataclass(frozen=True)
class InspectConfig:
    """Count the parameters of a preset or a checkpoint; nothing is loaded."""

    what: Positional[str]  # nano, tiny, mini, small, 2b, 4b, 8b, alpamayo, or a checkpoint directory


@dataclass(frozen=True)
class Part:
    """One part of a student."""

    name: str
    parameters: int
    comes_from: str


def run(config: InspectConfig) -> None:
    """Raises UserError for a name that is neither preset nor directory."""
    student, origin = described(config.what)
    parts = parts_of(student, origin)
    total = sum(part.parameters for part in parts)
    print(f"{config.what}: {total:,} parameters ({total / 1e9:.2f} B)\n")
    print(f"{'part':24s} {'parameters':>16s} {'bf16 GiB':>9s} {'fp32 GiB':>9s}  size from")
    for part in [*parts, Part("all", total, "")]:
        memory = [part.parameters * size / _GIB for size in (2, 4)]
        print(f"{part.name:24s} {part.parameters:>16,} {memory[0]:>9.3f} {memory[1]:>9.3f}  {part.comes_from}".rstrip())
    print(f"\nvocabulary {student.vocab_size:,}: {student.text_vocab_size:,} text, "
          f"{student.future_bins} future bins, {student.history_bins} history bins")  # fmt: skip
    print(f"keys and values: {cache_bytes(student) / 1024:.1f} KiB a token in bf16")
    print(f"AdamW on all of it, float32 weights, gradients and moments: {16 * total / _GIB:.1f} GiB before activations")


def described(what: str) -> tuple[StudentConfig, str]:
    """Configuration of a preset or a checkpoint, and where its backbone's sizes come from."""
    if Path(what).is_dir():
        file = Path(what) / "config.json"
        if read_json(file).get("model_type") != StudentConfig.model_type:
            raise UserError(f"{file} is not a student's; convert a release with `causaldrive student convert` first.")
        return StudentConfig.from_pretrained(what), str(file)
    if what in PRESETS:
        tokenizer = train_tokenizer(["The road ahead is clear."], 640)
        statistics = ActionStatistics(0.0, 1.0, 0.0, 0.05, (-4.0, -4.0), (4.0, 4.0))
        return PRESETS[what](tokenizer, statistics), "preset; text tokens grow with your corpus"
    if what not in NEEDS_WEIGHTS:
        raise unknown_name("preset or checkpoint", what, [*PRESETS, *NEEDS_WEIGHTS])
    size = "8b" if what == "alpamayo" else what
    vlm = qwen3_vl(size)
    found = released_config_json("1.5") | {"expert_cfg": expert_beside(vlm["text_config"])}
    return student_config(found, vlm, released_ids("1.5"), TEXT_VOCAB), f"published Qwen3-VL-{size.upper()}"


def parts_of(student: StudentConfig, origin: str) -> list[Part]:
    """Counted on the meta device, shared tensors once."""
    with torch.device("meta"):
        model = CausalDriveModel(student)
    names = {name: parameter.numel() for name, parameter in model.named_parameters()}
    expert = student.expert()
    tied = "shares the embeddings" if student.vlm().tie_word_embeddings else f"{origin}; one row a token"
    rows: list[tuple[str, Callable[[str], bool], str]] = [
        ("vision encoder", lambda n: n.startswith("vlm.model.visual."), origin),
        ("embeddings", lambda n: "language_model.embed_tokens" in n, f"{student.vocab_size:,} rows of the vocabulary"),
        ("language model", lambda n: "language_model." in n and "embed_tokens" not in n, origin),
        ("language head", lambda n: n.startswith("vlm.lm_head."), tied),
        ("trajectory decoder", lambda n: n.startswith("expert."),
         f"expert_cfg: width {expert.hidden_size}, inside {expert.intermediate_size}, {expert.num_attention_heads} "
         f"heads; the backbone's {expert.num_hidden_layers} layers, {expert.num_key_value_heads} KV heads of "
         f"{expert.head_dim}"),
        ("action input", lambda n: n.startswith("action_in_proj."), "action_in_proj_cfg, to the decoder's width"),
        ("action output", lambda n: n.startswith("action_out_proj."), "the decoder's width to 2, with bias"),
    ]  # fmt: skip
    return [Part(name, sum(count for n, count in names.items() if test(n)), source) for name, test, source in rows]


def cache_bytes(student: StudentConfig) -> int:
    """Bytes of keys and values a token in bfloat16: 2 x layers x KV heads x head size x 2."""
    expert = student.expert()
    assert expert.num_key_value_heads is not None
    return 4 * expert.num_hidden_layers * expert.num_key_value_heads * expert.head_dim
