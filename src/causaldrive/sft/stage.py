"""The sft stage: student + recordings + labels -> a student that reasons and drives.

Reads a checkpoint, recordings and `labels.parquet`; writes `checkpoint/`, `metrics.jsonl`, `report.html`, and while it
runs `state/` (to continue after a kill) and `frames/` (decoded video). Knows nothing of worlds or rewards.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import asdict

from causaldrive.ground.runs import Run, open_run
from causaldrive.sft.check import LIMIT, Check, check
from causaldrive.sft.config import SftConfig
from causaldrive.sft.dataset import SampleData, open_samples
from causaldrive.sft.report import Story, card_text, write_report
from causaldrive.sft.trainer import Trainer, spread_indices
from causaldrive.student import checkpoint

__all__ = ["SftConfig", "run"]


def run(config: SftConfig) -> None:
    """Train and write `config.out/checkpoint`. Raises UserError for settings, data or a loss that cannot be used."""
    config.validate()
    config.resolved_device()
    inputs = {"student": config.student, "recordings": config.recordings, "labels": config.labels}
    with open_run(config.out, "sft", config, inputs) as found:
        if found.done:
            return
        model, processor = checkpoint.load(config.student)
        own_cache = config.out / "frames"
        data = open_samples(config.recordings, config.labels, model.config.frames(), config.frames_cache or own_cache)
        _say(data)
        trainer = Trainer(model, processor, data.train, data.validation, config, found)
        found.record["resolved"] = {"precision": trainer.precision, "device": trainer.device.type}
        trainer.fit()
        _finish(trainer, data, found)
    shutil.rmtree(trainer.states_directory, ignore_errors=True)
    shutil.rmtree(own_cache, ignore_errors=True)


def _say(data: SampleData) -> None:
    print(
        f"sft: {len(data.train)} training and {len(data.validation)} validation samples of {data.recordings} "
        f"recordings, decoded frames {data.train.cache.size_mib:.0f} MiB",
        flush=True,
    )
    for why, count in data.left_out.counts.most_common():
        print(f"sft: left out: {count} x {why}", flush=True)
    for sentence in data.left_out.sentences[:3]:
        print(f"sft:   {sentence}", flush=True)


def _finish(trainer: Trainer, data: SampleData, run: Run) -> None:
    config, average = trainer.config, trainer.state.average
    with average.applied(trainer.model) if average else contextlib.nullcontext():
        trainer.model.eval()
        found = _look(trainer, data) if config.check_traces and len(data.validation) else None
        story = Story(
            config=config,
            data=data,
            precision=trainer.precision,
            device=trainer.device.type,
            parameters=sum(p.numel() for p in trainer.learnt),
            metrics=run.metrics(),
            check=found,
        )
        checkpoint.save(config.out / "checkpoint", trainer.model, trainer.batcher.processor, card_text(story))
    if found:
        run.record["check"] = {name: value for name, value in asdict(found).items() if name != "examples"}
    write_report(config.out / "report.html", story)


def _look(trainer: Trainer, data: SampleData) -> Check:
    indices = spread_indices(len(data.validation), LIMIT)
    found = check(trainer.model, trainer.batcher.processor, data.validation, indices, trainer.config.mode == "coc",
                  trainer.config.seed, trainer.config.drawn_by)  # fmt: skip
    words = f"sft: on {found.samples} validation samples: mean distance over 6.4 s {found.ade_m:.2f} m"
    if found.decision is not None:
        words += f", both decisions right {100 * found.decision:.0f} % of the {found.parsed} traces that could be read"
    print(words, flush=True)
    return found
