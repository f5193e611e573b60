"""The sft stage: student + recordings + labels -> a student that reasons and drives.

Reads a checkpoint, recordings and `labels.parquet`; writes `checkpoint/` (the last weights), `best/` (those that were
best on validation samples), `metrics.jsonl`, `report.html`, and while it runs `state/` (to continue after a kill) and
`frames/` (decoded video). With LoRA both hold merged weights, and the adapter in `adapter/`. Knows nothing of worlds or
rewards.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict

from torch import Tensor

from causaldrive.ground.runs import Run
from causaldrive.sft.adapter import keep_adapter
from causaldrive.sft.check import LIMIT, Check, check
from causaldrive.sft.config import SftConfig
from causaldrive.sft.dataset import SampleData, open_samples
from causaldrive.sft.harness import Harness
from causaldrive.sft.report import Story, card_text, write_report
from causaldrive.sft.state import final_weights, read_best
from causaldrive.sft.trainer import Trainer, spread_indices
from causaldrive.student import checkpoint
from causaldrive.student.model import CausalDriveModel

__all__ = ["SftConfig", "run"]


def run(config: SftConfig) -> None:
    """Train and write `config.out/checkpoint`. Raises UserError for settings, data or a loss that cannot be used."""
    config.validate()
    config.resolved_device()
    inputs = {"student": config.student, "recordings": config.recordings, "labels": config.labels}
    harness = Harness(config)
    with harness.opened(config.out, "sft", config, inputs) as found:
        if found.done:
            return
        model, processor = checkpoint.load(config.student)
        own_cache = config.out / "frames"
        data = open_samples(config.recordings, config.labels, model.config.frames(), config.frames_cache or own_cache)
        if harness.main:
            _say(data)
        trainer = Trainer(model, processor, data.train, data.validation, config, found, harness)
        found.record["resolved"] = {"precision": trainer.precision, "device": trainer.device.type}
        trainer.fit()
        weights = final_weights(trainer.state)
        if not harness.main:
            return
        _finish(trainer, weights, data, found)
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


def _finish(trainer: Trainer, weights: dict[str, Tensor], data: SampleData, run: Run) -> None:
    config, best = trainer.config, read_best(trainer.states_directory)
    if best is not None:
        run.record["best"] = {"step": best[0], "by": list(config.best_by)}
    model, adapter = trainer.finished(weights)
    keep_adapter(adapter, config.out / "checkpoint")
    found = _look(trainer, model, data) if config.check_traces and len(data.validation) else None
    story = Story(
        config=config,
        data=data,
        precision=trainer.precision,
        device=trainer.device.type,
        parameters=trainer.parameters,
        metrics=run.metrics(),
        check=found,
        best_step=best[0] if best else None,
    )
    checkpoint.save(config.out / "checkpoint", model, trainer.batcher.processor, card_text(story))
    if best is not None:
        model, adapter = trainer.finished(best[1])
        keep_adapter(adapter, config.out / "best")
        checkpoint.save(config.out / "best", model, trainer.batcher.processor, card_text(story, best[0]))
    if found:
        run.record["check"] = {name: value for name, value in asdict(found).items() if name != "examples"}
    write_report(config.out / "report.html", story)


def _look(trainer: Trainer, model: CausalDriveModel, data: SampleData) -> Check:
    indices = spread_indices(len(data.validation), LIMIT)
    found = check(model, trainer.batcher.processor, data.validation, indices, trainer.config.mode == "coc",
                  trainer.config.seed, trainer.config.drawn_by)  # fmt: skip
    words = f"sft: on {found.samples} validation samples: mean distance over 6.4 s {found.ade_m:.2f} m"
    if found.decision is not None:
        words += f", both decisions right {100 * found.decision:.0f} % of the {found.parsed} traces that could be read"
    print(words, flush=True)
    return found
