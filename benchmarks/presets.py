"""Memory and time of every preset: measured if drawn from nothing, computed on the meta device if not.

Measured, each in a process of its own: one answer (trace and trajectory, batch 1) and one training step (batch 1,
Muon, four flow draws, float32); memory is the process's peak. Computed: weights in bfloat16 and 4096 tokens of keys and
values for an answer; float32 weights, gradients and AdamW's two moments for training, and for LoRA of rank 16 the
frozen weights once and what is learnt four times; activations come on top.

Writes docs/presets.md and JSON. Run: python benchmarks/presets.py [--out docs/results/presets.json]
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from causaldrive.clips.types import Sample
from causaldrive.ground.files import write_json, write_text
from causaldrive.sft.adapter import PROJECTIONS
from causaldrive.sft.config import SftConfig
from causaldrive.sft.optim import make_optimizer
from causaldrive.student.generate import generate
from causaldrive.student.inspection import cache_bytes, described
from causaldrive.student.model import CausalDriveModel, build
from causaldrive.student.presets import NEEDS_WEIGHTS, PRESETS, ActionStatistics
from causaldrive.student.processor import StudentProcessor
from causaldrive.student.text import train_tokenizer

TRACE = "Stop because the traffic light ahead is red."
TOKENS, RANK, GIB = 4096, 16, 2**30


def sample_of(offsets_us: tuple[int, ...], height: int, width: int) -> Sample:
    x_m = np.arange(-15, 65) * 0.8
    xyz, yaw = np.column_stack([x_m, np.zeros((80, 2))]), np.zeros(80)
    frames = np.random.default_rng(0).integers(0, 255, (1, len(offsets_us), height, width, 3), dtype=np.uint8)
    return Sample("made-up", 0, frames, ("front",), offsets_us, xyz[:16], yaw[:16], xyz[16:], yaw[16:])


def measure(name: str, what: str) -> dict:
    """Seconds (the second time) and the peak of this process's memory."""
    tokenizer = train_tokenizer([TRACE] * 3, 640)
    config = PRESETS[name](tokenizer, ActionStatistics(0.0, 1.0, 0.0, 0.05, (-4.0, -4.0), (4.0, 4.0)))
    frames, processor, model = config.frames(), StudentProcessor(tokenizer, config), build(config, 0)
    sample = sample_of(tuple(frames.frame_offsets_us), frames.image_height_px, frames.image_width_px)
    nowhere = Path()
    optimizer = make_optimizer(model, SftConfig(nowhere, nowhere, nowhere, nowhere)) if what == "train" else None
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        started = time.perf_counter()
        if optimizer:
            losses = model.train()(processor.training([sample], [TRACE]), generator, flow_draws=4)
            sum(losses[key] for key in ("text_loss", "traj_loss", "flow_loss")).backward()
            optimizer.step()
            optimizer.zero_grad()
        else:
            generate(model.eval(), processor, [sample], seed=0)
        seconds = time.perf_counter() - started
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"parameters": sum(p.numel() for p in model.parameters()), "seconds": seconds, "gib": peak_kib / 2**20}


def in_a_process(name: str, what: str) -> dict:
    done = subprocess.run([sys.executable, __file__, "--one", name, what], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(name: str) -> dict:
    answer, step = in_a_process(name, "answer"), in_a_process(name, "train")
    return {"preset": name, "how": "measured", "parameters": answer["parameters"], "answer_gib": answer["gib"],
            "train_gib": step["gib"], "answer_s": answer["seconds"], "train_s": step["seconds"]}  # fmt: skip


def computed(name: str) -> dict:
    student, _ = described(name)
    with torch.device("meta"):
        model = CausalDriveModel(student)
    total = sum(p.numel() for p in model.parameters())
    linear = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and re.fullmatch(PROJECTIONS, n)]
    width, tied = model.vlm.lm_head.in_features, student.vlm().tie_word_embeddings
    beside = sum(RANK * (m.in_features + m.out_features) for m in linear)
    beside += 0 if tied else 2 * width * (student.vocab_size - student.text_vocab_size)
    decoder = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("vlm."))
    learnt = beside + decoder + (width * student.vocab_size if tied else 0)
    return {"preset": name, "how": "computed", "parameters": total,
            "answer_gib": (2 * total + TOKENS * cache_bytes(student)) / GIB, "train_gib": 16 * total / GIB,
            "lora_gib": (4 * (total + beside) + 12 * learnt) / GIB, "lora_learnt": learnt}  # fmt: skip


def page(rows: list[dict], threads: int) -> str:
    head = "| preset | parameters | answer, GiB | answer, s | training, GiB | a step, s | LoRA 16, GiB | how |"
    lines = [head, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    for row in rows:
        cells = [f"{row[key]:.2f}" if key in row else "–"
                 for key in ("answer_gib", "answer_s", "train_gib", "train_s", "lora_gib")]  # fmt: skip
        lines.append(f"| `{row['preset']}` | {row['parameters'] / 1e6:,.1f} M | {' | '.join(cells)} | {row['how']} |")
    what = (__doc__ or "").split("\n\n")[1].replace("\n", " ")
    return (
        "# What each preset needs\n\nWritten by `python benchmarks/presets.py`, batch 1, one camera.\n\n"
        + "\n".join(lines) + f"\n\n{what}\n\nMeasured on {threads} thread(s) of a CPU "
        f"({torch.backends.cpu.get_cpu_capability()}) beside other work; the interpreter with its packages is part of "
        "the measured memory.\nFrozen weights are float32 in training too; `torchrun` with `--shard` divides weights, "
        "gradients and moments by the number of processes.\n"
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, default=None, help="measure one preset here: NAME answer|train")
    parser.add_argument("--out", type=Path, default=Path("docs/results/presets.json"))
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one)))
        return
    rows = [measured(name) for name in PRESETS] + [computed(name) for name in NEEDS_WEIGHTS]
    write_json(options.out, {"threads": torch.get_num_threads(), "presets": rows})
    text = page(rows, torch.get_num_threads())
    write_text(Path("docs/presets.md"), text)
    print(text)


if __name__ == "__main__":
    main()
