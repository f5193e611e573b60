"""The rl stage: a student that reasons -> the same student, better at keeping its word.

Reads a checkpoint (and, for an anchor, recordings and labels); writes `checkpoint/`, `metrics.jsonl`,
`probe_before.json`, `probe_after.json`, `report.html`, and while it runs `state/`. Knows nothing of evaluation.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from causaldrive.ground.runs import Run, open_run
from causaldrive.rl.config import RlConfig
from causaldrive.rl.engines import open_engine
from causaldrive.rl.learner import Anchor, Learner
from causaldrive.rl.loop import ClosedLoop
from causaldrive.rl.policy import drive_settings_of
from causaldrive.rl.report import card_text, write_report
from causaldrive.sft.dataset import open_samples
from causaldrive.sft.order import SampleOrder
from causaldrive.student import checkpoint
from causaldrive.student.config import StudentConfig
from causaldrive.student.processor import StudentProcessor
from causaldrive.worlds.scenes import draw_specs

__all__ = ["RlConfig", "run"]


def run(config: RlConfig) -> None:
    """Train in closed loop and write `config.out/checkpoint`. Raises UserError for settings or input of no use."""
    config.validate()
    specs = draw_specs(config.scene_count, config.first_seed, config.families)
    with open_run(config.out, "rl", config, _inputs(config)) as found:
        if found.done:
            return
        model, processor = checkpoint.load(config.student)
        learner = Learner(model, processor, config, _anchor(config, model.config, processor))
        settings = replace(drive_settings_of(model.config, config.duration_s, config.decision_every_s),
                           decision_limit_s=config.decision_limit_s, latency_s=config.latency_s,
                           try_paths_s=config.try_paths_s, show_expert=config.dagger_weight > 0)  # fmt: skip
        engine = open_engine(config.engine, settings, config.workers, config.batch)
        try:
            ClosedLoop(config, learner, engine, specs, found).fit()
        finally:
            engine.close()
        _finish(config, learner, found)
    for directory in (config.out / "state", config.out / "frames"):
        shutil.rmtree(directory, ignore_errors=True)


def _inputs(config: RlConfig) -> dict[str, Path]:
    named = {"student": config.student, "anchor_recordings": config.anchor_recordings,
             "anchor_labels": config.anchor_labels}  # fmt: skip
    return {name: path for name, path in named.items() if path is not None}


def _anchor(config: RlConfig, student: StudentConfig, processor: StudentProcessor) -> Anchor | None:
    """Supervised batches by optimizer step; None where no anchor is given."""
    if config.anchor_recordings is None or config.anchor_labels is None:
        return None
    frames = config.anchor_frames or config.out / "frames"
    samples = open_samples(config.anchor_recordings, config.anchor_labels, student.frames(), frames).train
    order = SampleOrder(samples.classes, config.seed)

    def batch(step: int):
        indices = order.batch(step, config.anchor_batch)
        return processor.training(samples.samples(indices), list(samples.traces(indices)))

    return batch


def _finish(config: RlConfig, learner: Learner, found: Run) -> None:
    learner.model.eval()
    checkpoint.save(config.out / "checkpoint", learner.model, learner.processor, card_text(config, found.metrics()))
    write_report(config.out / "report.html", config, found.metrics())
