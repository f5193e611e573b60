"""The `student build` stage: a new student from a preset, its tokenizer and action statistics from training data.

Reads `labels.parquet` (traces, t0) and recordings (ego motion only); writes a checkpoint directory (config, weights,
tokenizer, model card), `run.json` and `report.html`. Knows nothing of how labels were made.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from causaldrive.clips.samples import cut_sample
from causaldrive.clips.store import read_recordings
from causaldrive.clips.types import Recording, Sample
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_table
from causaldrive.ground.page import Block, Section, Table, write_page
from causaldrive.ground.runs import Run, open_run
from causaldrive.ground.words import split_of_seed
from causaldrive.student.backbone import find_backbone, student_on
from causaldrive.student.checkpoint import save, size_rows
from causaldrive.student.config import StudentConfig
from causaldrive.student.model import CausalDriveModel, build
from causaldrive.student.presets import NEEDS_WEIGHTS, ActionStatistics, preset
from causaldrive.student.processor import StudentProcessor
from causaldrive.student.statistics import fit_action_statistics
from causaldrive.student.text import train_tokenizer
from causaldrive.student.tokens import special

_PROMPT_WORDS = ("system", "user", "assistant", "front:", " no image", " +0.0 s", " -0.4 s")


@dataclass(frozen=True)
class BuildConfig:
    """Build a new student: tokenizer from the label corpus, action statistics from training drives, random weights."""

    labels: Path  # label run directory or labels.parquet
    recordings: Path  # recordings that the labels belong to
    out: Path  # checkpoint directory to write
    preset: str = "tiny"  # nano, tiny, mini, small; with a backbone 2b, 4b, 8b, or alpamayo (released prompt, tokens)
    backbone: str = ""  # Qwen3-VL, Qwen2.5-VL or Cosmos-Reason checkpoint to build on: a directory, or a hub id
    seed: int = 0  # of the initial weights
    vocab_size: int = 640  # at most this many text tokens (256 bytes and merges)


@dataclass(frozen=True)
class LabelRow:
    """What the student needs of a label."""

    recording_id: str
    t0_us: int
    trace: str


def run(config: BuildConfig) -> None:
    """Raises UserError for an unknown preset, unreadable labels, or no usable training keyframe."""
    directory = _backbone_of(config)
    if config.vocab_size < 256:
        raise UserError(f"vocab_size is {config.vocab_size}, at least 256 (one token a byte) expected; pass 640.")
    inputs = {"labels": config.labels, "recordings": config.recordings}
    for name, path in inputs.items():
        if not path.exists():
            raise UserError(f"--{name} {path} does not exist; pass the directory that the stage before wrote.")
    with open_run(config.out, "student build", config, inputs) as opened:
        if opened.done:
            return
        labels = read_label_rows(config.labels)
        samples, aside = training_samples(labels, config.recordings)
        statistics = fit_action_statistics(samples)
        if directory:
            model, processor = student_on(directory, config.preset, statistics, config.seed)
            card = f"Built on {config.backbone}; the trajectory decoder is not trained yet."
        else:
            tokenizer = train_tokenizer(_corpus(labels), config.vocab_size)
            student = preset(config.preset)(tokenizer, statistics)
            model, processor = build(student, config.seed), StudentProcessor(tokenizer, student)
            card = _card(len(samples), statistics)
        save(config.out, model, processor, card)
        _report(config.out, model, processor, samples[0], statistics, aside)
        _print_and_log(opened, model, len(samples), aside)


def _backbone_of(config: BuildConfig) -> Path | None:
    """The backbone's directory; None for a preset drawn from nothing. Raises UserError where the two do not fit."""
    if config.preset in NEEDS_WEIGHTS and config.backbone:
        return find_backbone(config.backbone)
    preset(config.preset)
    if config.backbone:
        raise UserError(
            f"--backbone goes with --preset {', '.join(NEEDS_WEIGHTS)}; preset {config.preset!r} is drawn from "
            "nothing, so change one of the two."
        )
    return None


def read_label_rows(path: Path) -> list[LabelRow]:
    """Labels that were not rejected, in the order of the file. Raises UserError when unreadable or empty."""
    file = path if path.suffix == ".parquet" else path / "labels.parquet"
    rows = read_table(file, ["recording_id", "t0_us", "trace", "status"]).to_pylist()
    kept = [
        LabelRow(row["recording_id"], int(row["t0_us"]), row["trace"] or "")
        for row in rows
        if row["status"] != "rejected"
    ]
    if not kept:
        raise UserError(f"{file} holds {len(rows)} labels, none of them accepted; label more recordings.")
    return kept


def training_samples(labels: list[LabelRow], recordings: Path) -> tuple[list[Sample], Counter[str]]:
    """Samples without frames at the labels' t0, held-out seeds left out; and what was set aside, by reason."""
    found, broken = read_recordings(recordings)
    by_id = {recording.recording_id: recording for recording in found}
    aside: Counter[str] = Counter({"recordings unreadable": len(broken)} if broken else {})
    samples = []
    for label in labels:
        recording = by_id.get(label.recording_id)
        if recording is None:
            aside["labels without recording"] += 1
        elif not _may_train(recording):
            aside["labels of held-out seeds"] += 1
        else:
            try:
                samples.append(cut_sample(recording, label.t0_us))
            except UserError:
                aside["labels without history or future"] += 1
    if not samples:
        why = ", ".join(f"{count} {reason}" for reason, count in aside.items())
        raise UserError(
            f"{recordings} gives no training sample for the labels ({why}); at least one expected, so "
            "pass the recordings that the labels were made from."
        )
    return samples, aside


def _may_train(recording: Recording) -> bool:
    seed = recording.meta.get("seed")
    return not isinstance(seed, int) or split_of_seed(seed) == "train"


def _corpus(labels: list[LabelRow]) -> list[str]:
    """Traces and the prompt's own words: what the tokenizer is trained on."""
    defaults = StudentConfig()
    prompt = [defaults.system_prompt, defaults.reason_instruction, defaults.drive_instruction, *_PROMPT_WORDS]
    return [label.trace for label in labels] + prompt


def _card(count: int, statistics: ActionStatistics) -> str:
    return (
        f"Not trained yet: weights are random. Action statistics from {count} training samples: acceleration "
        f"{statistics.accel_mean_mps2:.4f} +- {statistics.accel_std_mps2:.4f} m/s^2, curvature "
        f"{statistics.curvature_mean_1pm:.5f} +- {statistics.curvature_std_1pm:.5f} 1/m."
    )


def _print_and_log(run: Run, model: CausalDriveModel, samples: int, aside: Counter[str]) -> None:
    for name, count in size_rows(model):
        print(f"{name:20s} {count:>12,}")
    for reason, count in aside.items():
        print(f"set aside: {count} {reason}")
    run.log(samples=samples, set_aside=dict(aside), parameters=dict(size_rows(model)))


def _report(
    out: Path,
    model: CausalDriveModel,
    processor: StudentProcessor,
    sample: Sample,
    statistics: ActionStatistics,
    aside: Counter[str],
) -> None:
    config = model.config
    ranges = [
        ["acceleration, m/s²", statistics.accel_mean_mps2, statistics.accel_std_mps2],
        ["curvature, 1/m", statistics.curvature_mean_1pm, statistics.curvature_std_1pm],
    ]
    vocabulary = [
        ["text", config.text_vocab_size],
        ["chat marks", config.traj_token_start_idx - config.text_vocab_size],
        ["future bins", config.future_bins],
        ["history bins", config.history_bins],
        ["all", config.vocab_size],
    ]
    sections = [
        Section("Size", [Table(["part", "parameters"], [[n, f"{c:,}"] for n, c in size_rows(model)])]),
        Section("Vocabulary", [Table(["tokens", "count"], vocabulary)]),
        Section("Actions", [Table(["action", "mean", "standard deviation"], ranges)]),
        Section("Prompt", [
            "A prompt as the backbone reads it, spaces between tokens; this sample was cut without its images.",
            Block(prompt_as_tokens(processor, sample)),
        ]),
    ]  # fmt: skip
    if aside:
        sections.append(Section("Set aside", [Table(["why", "labels"], [[n, c] for n, c in aside.items()])]))
    write_page(out / "report.html", f"Student, preset {config.preset}", sections, "Built, not trained yet.")


def prompt_as_tokens(processor: StudentProcessor, sample: Sample) -> str:
    """One sample's prompt, token by token; a run of image tokens is written once with its length."""
    ids = processor.prompts([sample]).input_ids[0].tolist()
    shown: list[str] = []
    pad, count = special("image_pad"), 0
    for text in [str(processor.tokenizer.decode([token])) for token in ids] + [""]:
        if text == pad:
            count += 1
            continue
        if count:
            shown.append(f"{pad} x {count}")
            count = 0
        shown.append(text.replace("\n", "\\n\n"))
    return " ".join(shown).strip()
