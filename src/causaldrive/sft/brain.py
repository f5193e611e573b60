"""The command `sft brain`: the backbone alone learns to answer questions and to caption; the decoder is left as it is.

The same trainer as `sft` (schedule, exact resume, stop at NaN) with `part` backbone, on a question set in LingoQA's
format: text loss on the answer and `<|answer_end|>`. Reads a checkpoint and questions; writes `checkpoint/`,
`metrics.jsonl`, `report.html`. Knows nothing of trajectories.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from causaldrive.clips.types import Sample
from causaldrive.ground.errors import UserError
from causaldrive.ground.page import Section, Table, write_page
from causaldrive.ground.runs import open_run
from causaldrive.label.lingoqa import Question, read_images, read_questions
from causaldrive.sft.config import SftConfig
from causaldrive.sft.dataset import validation_recordings
from causaldrive.sft.trainer import Trainer
from causaldrive.student import checkpoint
from causaldrive.student.answering import picture_sample, seeing
from causaldrive.student.batches import TrainingBatch
from causaldrive.student.processor import StudentProcessor


@dataclass(frozen=True)
class BrainConfig:
    """Fine-tuning of the backbone alone on questions and captions."""

    student: Path  # checkpoint directory to start from
    questions: Path  # question set in LingoQA's format: its directory, a Parquet or a JSON file
    out: Path  # run directory; the result is its `checkpoint`
    steps: int = 240  # optimizer steps
    batch_size: int = 16  # questions an optimizer step
    micro_batch: int = 0  # questions a forward pass; 0: the whole batch at once
    learning_rate: float = 3e-3  # highest rate, after warm-up
    warmup_steps: int = 30  # linear warm-up
    optimizer: str = "muon"  # muon or adamw
    seed: int = 0  # of the order of questions
    precision: str = "auto"  # bf16, fp32, auto
    device: str = "auto"  # cpu, cuda, auto
    eval_every: int = 80  # steps between validation losses
    save_every: int = 80  # steps between resumable states

    def as_sft(self) -> SftConfig:
        """The same settings for the one trainer."""
        shared = {name: getattr(self, name) for name in (
            "student", "out", "steps", "batch_size", "micro_batch", "learning_rate", "warmup_steps", "optimizer",
            "seed", "precision", "device", "eval_every", "save_every")}  # fmt: skip
        return SftConfig(recordings=self.questions, labels=self.questions, part="backbone", **shared)


@dataclass(frozen=True)
class _Item:
    question: Question
    root: Path

    @property
    def name(self) -> str:
        """As errors name it."""
        return self.question.question_id


@dataclass(frozen=True)
class Asked:
    """A question's pictures as a sample, and its words."""

    sample: Sample
    question: str


class QuestionSet:
    """Questions by index, in the shape in which the trainer takes samples; pictures are read when asked for."""

    def __init__(self, questions: Sequence[Question], root: Path):
        self.items = tuple(_Item(question, root) for question in questions)

    def __len__(self) -> int:
        return len(self.items)

    def samples(self, indices: Iterable[int]) -> list[Asked]:
        return [asked(self.items[i].question, self.items[i].root) for i in indices]

    def traces(self, indices: Iterable[int]) -> list[str]:
        """The first of each question's right answers."""
        return [self.items[i].question.answers[0] for i in indices]

    @property
    def classes(self) -> list[tuple[str, str]]:
        """(kind, answer): rare answers are seen more often than they occur; free text counts as one."""
        counts = Counter((item.question.kind, item.question.answers[0]) for item in self.items)
        pairs = [(item.question.kind, item.question.answers[0]) for item in self.items]
        return [pair if counts[pair] > 1 else (pair[0], "") for pair in pairs]


def asked(question: Question, root: Path) -> Asked:
    """Raises UserError for a picture that cannot be read."""
    pictures = read_images(root, question)
    return Asked(picture_sample(pictures, question.frame_offsets_s, question.segment_id), question.question)


class QuestionProcessor:
    """Makes training rows of questions where a `StudentProcessor` makes them of drives."""

    _seeing: StudentProcessor | None

    def __init__(self, processor: StudentProcessor):
        self._processor, self._seeing = processor, None

    def training(self, samples: Sequence[Asked], traces: Sequence[str], **_: bool) -> TrainingBatch:
        """Rows of questions, their answers as labels; no trajectory, whatever is asked for."""
        drives = [one.sample for one in samples]
        self._seeing = self._seeing or seeing(self._processor, drives[0])  # one set has one layout
        return self._seeing.answered(drives, [one.question for one in samples], traces)


def run(config: BrainConfig) -> None:
    """Train and write `config.out/checkpoint`. Raises UserError for settings or questions that cannot be used."""
    sft = config.as_sft()
    sft.validate()
    sft.resolved_device()
    with open_run(config.out, "sft brain", config, {"student": config.student, "questions": config.questions}) as found:
        if found.done:
            return
        train, validation, aside = open_questions(config.questions)
        print(f"sft brain: {len(train)} training and {len(validation)} validation questions", flush=True)
        model, processor = checkpoint.load(config.student)
        asked, shown, held = (cast(Any, each) for each in (QuestionProcessor(processor), train, validation))
        trainer = Trainer(model, asked, shown, held, sft, found)  # whose types are those of drives
        trainer.fit()
        model.eval()
        checkpoint.save(config.out / "checkpoint", model, processor, f"Backbone trained on {len(train)} questions.")
        _report(config.out, found.metrics(), len(train), aside)
    shutil.rmtree(trainer.states_directory, ignore_errors=True)


def open_questions(path: Path) -> tuple[QuestionSet, QuestionSet, Counter[str]]:
    """(training, validation, set aside): every twelfth segment is kept for validation, where there are that many.

    Questions with another number of pictures than most have are set aside: a batch has one layout.
    """
    questions, root, aside = read_questions(path)
    usual = Counter(q.frame_offsets_s for q in questions).most_common(1)[0][0]
    alike = [q for q in questions if q.frame_offsets_s == usual]
    if len(alike) < len(questions):
        aside["questions with other times of their pictures"] += len(questions) - len(alike)
    there = [q for q in alike if all((root / name).is_file() for name in q.images)]
    if len(there) < len(alike):
        aside["questions without their pictures"] += len(alike) - len(there)
    if not there:
        raise UserError(f"{path}: no question has its pictures below {root}; put them there, as `images` names them.")
    held = validation_recordings(q.segment_id for q in there)
    train = [q for q in there if q.segment_id not in held]
    return QuestionSet(train, root), QuestionSet([q for q in there if q.segment_id in held], root), aside


def _report(out: Path, metrics: Sequence[dict[str, Any]], count: int, aside: Counter[str]) -> None:
    rows = [[line["split"], line["step"], line["text_loss"]] for line in metrics if line["split"] == "validation"]
    last = [line for line in metrics if line["split"] == "train"][-1:]
    rows += [["train", line["step"], line["text_loss"]] for line in last]
    sections = [Section("Text loss", [Table(["split", "step", "cross-entropy a token"], rows)])]
    if aside:
        sections.append(Section("Set aside", [Table(["why", "count"], [[w, c] for w, c in aside.items()])]))
    write_page(
        out / "report.html", "Backbone alone", sections, f"Trained on {count} questions; the decoder is as before."
    )
