"""The command `evaluate answers`: how well students answer a question set, beside the most frequent answer.

    BLEU (sacrebleu, corpus, 0 to 100)      exact = share of answers equal to a reference, case and end stop aside
    choice = right letters / questions      a letter counts as a token of its own; an unreadable choice is wrong

The rival says to every question what was answered most often to the same question in training. Reads question sets and
checkpoints; writes `answers/<name>.json`, `results.json`, `report.html`. Knows nothing of training.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sacrebleu

from causaldrive.evaluate.ask.askers import AskEndpoint
from causaldrive.evaluate.drivers import parse_students
from causaldrive.evaluate.judges import Case, ClassifierJudge, Judge, ModelJudge
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_json, write_json
from causaldrive.ground.page import Cell, Section, Table, write_page
from causaldrive.ground.progress import Meter
from causaldrive.ground.runs import open_run
from causaldrive.ground.statistics import Estimate, share
from causaldrive.label.lingoqa import Question, read_questions
from causaldrive.label.questions import LETTERS
from causaldrive.sft.brain import asked
from causaldrive.student import checkpoint
from causaldrive.student.answering import StudentAnswerer

RIVAL = "most frequent answer"
_OPTION = re.compile(rf"\b([{LETTERS}])\b(?! (?!(?:or|and|is)\b)[a-z])")  # 'A car ...' begins with an article


@dataclass(frozen=True)
class AnswersConfig:
    """Questions answered by students, scored."""

    questions: Path  # held-out question set in LingoQA's format
    out: Path  # run directory
    students: tuple[str, ...] = ()  # name=checkpoint
    train_questions: Path | None = None  # what the most frequent answers are counted on; none: the held-out set itself
    limit: int = 2000  # questions at most, from the first on
    batch: int = 32  # questions answered at once
    max_tokens: int = 64  # longest answer
    judge: AskEndpoint = field(default_factory=AskEndpoint)  # a language model that judges free text
    judge_weights: Path | None = None  # a classifier in the shape of Lingo-Judge that judges free text
    seed: int = 0  # of the intervals


def run(config: AnswersConfig) -> None:
    """Raises UserError for questions, students or a judge that cannot be used."""
    if min(config.limit, config.batch, config.max_tokens) < 1:
        raise UserError("evaluate answers: --limit, --batch and --max-tokens are at least 1 each; change them.")
    students = parse_students(config.students)
    inputs = {"questions": config.questions}
    with open_run(config.out, "evaluate answers", config, inputs) as opened:
        if opened.done:
            return
        questions, root, _ = read_questions(config.questions)
        questions = questions[: config.limit]
        counted = read_questions(config.train_questions)[0] if config.train_questions else questions
        said = {RIVAL: frequent_answers(counted, questions)}
        for student in students:
            said[student.name] = _once(config.out, student.name, student.path, questions, root, config)
        judge = _judge_of(config)
        results = {name: score(questions, texts, judge, config.seed) for name, texts in said.items()}
        write_json(config.out / "results.json", {"questions": len(questions), "drivers": results})
        _report(config.out, questions, said, results)
        for name, rows in results.items():
            print(f"{name}: " + ", ".join(_line(key, rows["all"][key]) for key in rows["all"]))


def _judge_of(config: AnswersConfig) -> Judge | None:
    if config.judge_weights:
        return ClassifierJudge(config.judge_weights)
    return ModelJudge(config.judge, config.out / "replies") if config.judge.url or config.judge.model else None


def frequent_answers(counted: Sequence[Question], questions: Sequence[Question]) -> list[str]:
    """To each question the commonest answer to the same words, else to the same kind, else of all."""
    tallies: dict[tuple[str, str], Counter[str]] = {}
    for row in counted:
        for key in (("words", row.question), ("kind", row.kind), ("all", "")):
            tallies.setdefault(key, Counter()).update(row.answers)
    said = []
    for question in questions:
        keys = (("words", question.question), ("kind", question.kind), ("all", ""))
        tally = next(tallies[key] for key in keys if key in tallies)
        said.append(max(sorted(tally), key=lambda answer, tally=tally: tally[answer]))
    return said


def _once(
    out: Path, name: str, path: Path, questions: Sequence[Question], root: Path, config: AnswersConfig
) -> list[str]:
    """A student's answers; kept, so that a killed run goes on with the next student."""
    file = out / "answers" / f"{name}.json"
    if not file.exists():
        write_json(file, _student_answers(path, questions, root, config))
    return read_json(file)


def _student_answers(path: Path, questions: Sequence[Question], root: Path, config: AnswersConfig) -> list[str]:
    answerer = StudentAnswerer(*checkpoint.load(path))
    texts = [""] * len(questions)
    groups: dict[tuple[float, ...], list[int]] = {}
    for number, question in enumerate(questions):
        groups.setdefault(question.frame_offsets_s, []).append(number)
    with Meter("evaluate answers", len(questions), "questions") as meter:
        for numbers in groups.values():
            for start in range(0, len(numbers), config.batch):
                chunk = numbers[start : start + config.batch]
                shown = [asked(questions[i], root) for i in chunk]
                found = answerer.answers([s.sample for s in shown], [s.question for s in shown], config.max_tokens)
                for number, text in zip(chunk, found, strict=True):
                    texts[number] = text
                meter.advance(len(chunk))
    return texts


def score(questions: Sequence[Question], said: Sequence[str], judge: Judge | None, seed: int) -> dict[str, Any]:
    """Scores over all questions, and of each kind: name -> value, 95 % interval over segments, n."""
    free = [i for i, question in enumerate(questions) if not question.options]
    cases = [Case(questions[i].question, questions[i].answers, said[i]) for i in free]
    verdicts = dict(zip(free, judge.judge(cases), strict=True)) if judge else {}
    groups = {"all": list(range(len(questions)))}
    for number, question in enumerate(questions):
        if question.kind:
            groups.setdefault(question.kind, []).append(number)
    return {name: _scores(questions, said, numbers, verdicts, seed) for name, numbers in groups.items()}


def _scores(
    questions: Sequence[Question], said: Sequence[str], numbers: Sequence[int], verdicts: Mapping[int, bool | None],
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    free = [i for i in numbers if not questions[i].options]
    chosen = [i for i in numbers if questions[i].options]
    found: dict[str, Any] = {}

    def add(name: str, hits: list[bool], rows: Sequence[int]) -> None:
        if rows:
            clusters = [questions[i].segment_id for i in rows]
            found[name] = _row(share([float(hit) for hit in hits], [1.0] * len(hits), clusters, seed))

    if free:
        found["bleu"] = {"value": bleu([said[i] for i in free], [questions[i].answers for i in free]), "n": len(free)}
    add("exact", [plain_words(said[i]) in map(plain_words, questions[i].answers) for i in free], free)
    letters = [letter_of(said[i]) for i in chosen]
    add("choice", [letter in questions[i].answers for i, letter in zip(chosen, letters, strict=True)], chosen)
    add("choice_parse_rate", [letter is not None for letter in letters], chosen)
    judged = [i for i in free if verdicts.get(i) is not None]
    add("judged_right", [bool(verdicts[i]) for i in judged], judged)
    return found


def _row(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def bleu(said: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU of sacrebleu, 0 to 100; each answer against all its references."""
    most = max(len(texts) for texts in references)
    streams = [[texts[k] if k < len(texts) else texts[0] for texts in references] for k in range(most)]
    return float(sacrebleu.corpus_bleu(list(said), streams).score)


def plain_words(text: str) -> str:
    """Lower case, one space between words, no stop at the end."""
    return " ".join(text.lower().split()).rstrip(".")


def letter_of(text: str) -> str | None:
    """The option named: the only letter that stands alone. Two letters, or none, are no choice.

    'The answer is B' is B; a first capital letter counts for nothing.
    """
    found = {match.group(1) for match in _OPTION.finditer(text)}
    return found.pop() if len(found) == 1 else None


def _line(name: str, row: Mapping[str, Any]) -> str:
    if name == "bleu":
        return f"BLEU {row['value']:.1f} (n {row['n']})"
    return f"{name.replace('_', ' ')} {100 * row['value']:.0f} % (n {row['n']})"


def _cell(name: str, row: Mapping[str, Any] | None) -> Cell | None:
    if row is None:
        return None
    if name == "bleu":
        return Cell(f"{row['value']:.1f}", f"n {row['n']}")
    interval = "" if row["low"] is None else f"{100 * row['low']:.0f} to {100 * row['high']:.0f}, "
    return Cell(f"{100 * row['value']:.0f} %", f"{interval}n {row['n']}")


def _report(
    out: Path, questions: Sequence[Question], said: Mapping[str, Sequence[str]], results: Mapping[str, Any]
) -> None:
    metrics = list(dict.fromkeys(key for rows in results.values() for row in rows.values() for key in row))
    groups = list(dict.fromkeys(group for rows in results.values() for group in rows))
    sections = []
    for group in groups:
        rows = [[name, *(_cell(m, found[group].get(m)) for m in metrics)] for name, found in results.items()]
        sections.append(Section(group, [Table(["who", *(m.replace("_", " ") for m in metrics)], rows)]))
    examples = [[q.question, q.answers[0], *(texts[i] for texts in said.values())]
                for i, q in enumerate(questions[:24])]  # fmt: skip
    sections.append(Section("Examples", [Table(["question", "right", *said], examples, text_columns=2 + len(said))]))
    write_page(out / "report.html", "Answers", sections, f"{len(questions)} questions; intervals are 95 %.")
