"""Answers to question sets: letters, BLEU, the rival, judges of both kinds, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from eval_drives import HEIGHT_PX, WIDTH_PX, other_rooms, write_student
from PIL import Image
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

from causaldrive.cli import main
from causaldrive.evaluate.answers import bleu, frequent_answers, letter_of, score
from causaldrive.evaluate.ask.askers import AskEndpoint
from causaldrive.evaluate.judges import Case, ClassifierJudge, ModelJudge
from causaldrive.ground.errors import UserError
from causaldrive.label.lingoqa import Question, write_questions

odd_server = other_rooms("label", "odd_server")


def question(number: int, answer: str, kind: str = "light", options: tuple[str, ...] = ()) -> Question:
    return Question(f"q{number}", f"s{number}", ("a.png",), f"about {kind}?", (answer,), (0.0,), options, kind)


@pytest.mark.parametrize(("text", "letter"), [
    ("B", "B"), ("(B)", "B"), ("The answer is B.", "B"), ("B) red", "B"), ("A or B", None), ("Red", None), ("", None),
    ("A car is there, so B", "B"), ("A car.", None), ("A is right", "A"), ("Because", None), ("b", None),
])  # fmt: skip
def test_a_letter_is_a_token_of_its_own(text: str, letter: str | None):
    assert letter_of(text) == letter


def test_bleu_takes_the_better_of_several_references():
    said = ["the light ahead is red now"]
    assert bleu(said, [["the light ahead is red now"]]) == pytest.approx(100)
    assert bleu(said, [["nothing at all to be seen", "the light ahead is red now"]]) == pytest.approx(100)
    assert bleu(said, [["nothing at all to be seen"]]) < 5


def test_the_rival_says_what_is_said_most_to_the_same_question():
    train = [
        question(0, "red"),
        question(1, "red"),
        question(2, "green"),
        *(question(i, "no", "foot") for i in (3, 4, 5)),
    ]
    assert frequent_answers(train, [question(9, "green"), question(8, "yes", "foot"), question(7, "x", "new")]) == [
        "red", "no", "no",
    ]  # fmt: skip


def test_scores_move_with_the_answers():
    asked = [question(0, "It is red."), question(1, "It is green."), question(2, "B", "choice", ("x", "y"))]
    good = score(asked, ["it is red", "It is green.", "(B)"], None, 0)["all"]
    half = score(asked, ["it is red", "It is red.", "I think so"], None, 0)["all"]
    assert (good["exact"]["value"], half["exact"]["value"]) == (1.0, 0.5)
    assert (good["choice"]["value"], half["choice"]["value"]) == (1.0, 0.0) and half["choice_parse_rate"][
        "value"
    ] == 0.0
    assert good["bleu"]["value"] > half["bleu"]["value"] and good["choice"]["n"] == 1 and good["exact"]["n"] == 2


def test_a_model_judges_and_what_it_does_not_say_is_unscored(tmp_path: Path):
    def behave(payload, count):
        text = payload["messages"][1]["content"]
        if "judge: odd" in text:
            return odd_server.said("I cannot say")
        return odd_server.said({"reason": "so", "correct": "judge: red" in text})

    with odd_server.OddServer(behave) as server:
        judge = ModelJudge(AskEndpoint(url=server.url, model="m"), tmp_path / "replies")
        cases = [Case("colour?", ("red",), text) for text in ("red", "green", "odd")]
        assert judge.judge(cases) == [True, False, None]


def write_classifier(directory: Path, outputs: int = 1) -> Path:
    """A classifier that says one thing to everything: what its bias says."""
    directory.mkdir()
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "question",
        "answer",
        "student",
        ":",
        "red",
        "green",
        "colour",
    ]
    (directory / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(directory / "vocab.txt")).save_pretrained(directory)
    model = BertForSequenceClassification(BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=outputs,
    ))  # fmt: skip
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.fill_(3.0)
    model.save_pretrained(directory)
    return directory


def test_a_classifier_in_the_shape_of_lingo_judge(tmp_path: Path):
    directory = write_classifier(tmp_path / "judge")
    cases = [Case("colour", ("red", "green"), "red"), Case("colour", ("red",), "green")]
    assert ClassifierJudge(directory).judge(cases) == [True, True], "its bias says right to everything"
    model = BertForSequenceClassification.from_pretrained(directory)
    with torch.no_grad():
        model.classifier.bias.fill_(-3.0)
    model.save_pretrained(directory)
    assert ClassifierJudge(directory).judge(cases) == [False, False]


def test_a_classifier_of_another_shape_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="2 outputs found"):
        ClassifierJudge(write_classifier(tmp_path / "judge", 2))
    with pytest.raises(UserError, match=r"no config\.json"):
        ClassifierJudge(tmp_path)


def test_the_command_scores_a_student_beside_the_rival(tmp_path: Path):
    Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (90, 90, 90)).save(tmp_path / "a.png")
    write_questions(tmp_path / "questions.parquet", [question(i, ("red", "red", "green")[i]) for i in range(3)])
    student = write_student(tmp_path / "student")
    out = tmp_path / "out"
    assert main(["evaluate", "answers", "--questions", str(tmp_path / "questions.parquet"), "--out", str(out),
                 "--students", f"mine={student}", "--max-tokens", "4"]) == 0  # fmt: skip
    found = json.loads((out / "results.json").read_text())["drivers"]
    assert set(found) == {"most frequent answer", "mine"}
    assert found["most frequent answer"]["all"]["exact"]["value"] == pytest.approx(2 / 3)
    assert found["mine"]["all"]["exact"]["n"] == 3 and (out / "report.html").exists()
