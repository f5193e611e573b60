"""The backbone alone: it learns to say what it sees, the decoder stays as it was, broken questions are set aside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from sft_drives import HEIGHT, WIDTH

from causaldrive.ground.errors import UserError
from causaldrive.ground.runs import read_metrics
from causaldrive.label.lingoqa import Question, write_questions
from causaldrive.sft.brain import BrainConfig, asked, open_questions, run
from causaldrive.student import checkpoint
from causaldrive.student.answering import StudentAnswerer
from causaldrive.student.batches import IGNORED

COLOURS = {"It is red.": (200, 30, 30), "It is blue.": (30, 30, 200)}


def question(number: int, answer: str, offsets: tuple[float, ...] = (-0.4, 0.0)) -> Question:
    images = tuple(f"images/{number}/{k}.png" for k in range(len(offsets)))
    return Question(f"q{number:03d}", f"s{number:03d}", images, "Which colour is it?", (answer,), offsets, (), "colour")


def write_set(root: Path, count: int) -> Path:
    """Questions about pictures of one colour, one segment each."""
    questions = [question(number, list(COLOURS)[number % 2]) for number in range(count)]
    for one in questions:
        for name in one.images:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (WIDTH, HEIGHT), COLOURS[one.answers[0]]).save(root / name)
    write_questions(root / "questions.parquet", questions)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory, student: Path) -> tuple[Path, Path]:
    """(questions, run directory) of a short training."""
    questions = write_set(tmp_path_factory.mktemp("questions"), 24)
    out = tmp_path_factory.mktemp("brain") / "out"
    run(BrainConfig(student, questions, out, steps=90, batch_size=8, warmup_steps=5, precision="fp32", eval_every=20))
    return questions, out


def test_it_learns_to_say_what_it_sees(trained: tuple[Path, Path]):
    questions, out = trained
    train, validation, _ = open_questions(questions)
    answerer = StudentAnswerer(*checkpoint.load(out / "checkpoint"))
    shown = [asked(item.question, item.root) for item in (*train.items[:4], *validation.items)]
    right = [item.question.answers[0] for item in (*train.items[:4], *validation.items)]
    assert answerer.answers([s.sample for s in shown], [s.question for s in shown], 12) == right
    losses = [line["text_loss"] for line in read_metrics(out) if line["split"] == "validation"]
    assert losses[-1] < 0.2 < losses[0]
    assert (out / "report.html").exists()


def test_the_decoder_stays_as_it_was(trained: tuple[Path, Path], student: Path):
    before, after = (checkpoint.load(path)[0].state_dict() for path in (student, trained[1] / "checkpoint"))
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed and all(name.startswith("vlm.") for name in changed)


def test_only_the_answer_is_learnt(student: Path, tmp_path: Path):
    processor = checkpoint.load(student)[1]
    train, _, _ = open_questions(write_set(tmp_path, 2))
    shown = train.samples([0, 1])
    batch = processor.answered([s.sample for s in shown], [s.question for s in shown], train.traces([0, 1]))
    for row, answer in enumerate(train.traces([0, 1])):
        learnt = batch.labels_text[row][batch.labels_text[row] != IGNORED].tolist()
        assert learnt[-1] == processor.config.id_of("answer_end")
        assert processor.tokenizer.decode(learnt[:-1]) == answer
    assert (batch.labels_traj == IGNORED).all()


def test_questions_that_cannot_be_used_are_counted(tmp_path: Path):
    root = write_set(tmp_path, 4)
    kept = [question(number, "It is red.") for number in range(4)]
    write_questions(root / "questions.parquet", [*kept, question(9, "no picture"), question(0, "other", (0.0,))])
    write_questions(root / "all.parquet", [*kept, question(9, "no picture")])
    train, validation, aside = open_questions(root / "all.parquet")
    assert (len(train), len(validation)) == (4, 0) and aside == {"questions without their pictures": 1}
    write_questions(root / "none.parquet", [question(9, "no picture")])
    with pytest.raises(UserError, match="no question has its pictures"):
        open_questions(root / "none.parquet")
