"""Questions about driving pictures, in LingoQA's file format.

One row a question and answer: `question_id`, `segment_id`, `images` (paths relative to the file, oldest first),
`question`, `answer`; several rows of one question are its several right answers. Ours adds `options` (of a multiple
choice), `kind` and `frame_offsets_s`, which readers of LingoQA pass over; files without them are read as LingoQA's:
one picture a second up to now. Source: Marcu et al., arXiv 2312.14115. Reads and writes Parquet or JSON; knows nothing
of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_json, read_table, write_table

FILE = "questions.parquet"
COLUMNS = ["question_id", "segment_id", "images", "question", "answer"]


@dataclass(frozen=True)
class Question:
    """One question about the pictures of a segment. `answers`: each right; `options` are empty for free text."""

    question_id: str
    segment_id: str
    images: tuple[str, ...]
    question: str
    answers: tuple[str, ...]
    frame_offsets_s: tuple[float, ...]  # of each picture from now
    options: tuple[str, ...] = ()
    kind: str = ""

    def rows(self) -> list[dict[str, Any]]:
        """One row an answer, as the file holds them."""
        shared = {"question_id": self.question_id, "segment_id": self.segment_id, "images": list(self.images),
                  "question": self.question, "options": list(self.options), "kind": self.kind,
                  "frame_offsets_s": list(self.frame_offsets_s)}  # fmt: skip
        return [shared | {"answer": answer} for answer in self.answers]


def write_questions(path: Path, questions: Sequence[Question]) -> None:
    """Write a Parquet file."""
    text, words, floats = pa.string(), pa.list_(pa.string()), pa.list_(pa.float64())
    schema = pa.schema(
        [("question_id", text), ("segment_id", text), ("images", words), ("question", text), ("answer", text),
         ("options", words), ("kind", text), ("frame_offsets_s", floats)]
    )  # fmt: skip
    write_table(path, pa.Table.from_pylist([row for q in questions for row in q.rows()], schema))


def read_questions(path: Path) -> tuple[list[Question], Path, Counter[str]]:
    """(questions in the order of the file, directory that image paths start from, rows set aside by reason).

    `path`: the file, or the directory that holds it. Raises UserError for a file that cannot be read or holds none.
    """
    file = path / FILE if path.is_dir() else path
    rows = read_json(file) if file.suffix == ".json" else read_table(file, COLUMNS).to_pylist()
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file} is no list of questions; rows with {', '.join(COLUMNS)} expected.")
    found: dict[str, Question] = {}
    aside: Counter[str] = Counter()
    for row in rows:
        question = _question(row)
        if question is None:
            aside["rows without question, answer or pictures"] += 1
            continue
        first = found.get(question.question_id)
        answers = question.answers if first is None else (*first.answers, *question.answers)
        found[question.question_id] = Question(**{**vars(question), "answers": answers})
    if not found:
        raise UserError(f"{file} holds no question that can be used; rows with {', '.join(COLUMNS)} expected.")
    return list(found.values()), file.parent, aside


def _question(row: dict[str, Any]) -> Question | None:
    images, texts = row.get("images"), [row.get(name) for name in ("question_id", "segment_id", "question", "answer")]
    if not isinstance(images, list) or not images or not all(isinstance(t, str) and t for t in texts):
        return None
    offsets = row.get("frame_offsets_s") or [float(i - len(images) + 1) for i in range(len(images))]
    if len(offsets) != len(images):
        return None
    question_id, segment_id, question, answer = map(str, texts)
    return Question(question_id, segment_id, tuple(images), question, (answer,), tuple(offsets),
                    tuple(row.get("options") or ()), row.get("kind") or "")  # fmt: skip


def read_images(root: Path, question: Question) -> np.ndarray:
    """(F, H, W, 3) uint8. Raises UserError for a picture that is missing, damaged or of another size."""
    found = []
    for name in question.images:
        try:
            with Image.open(root / name) as image:
                found.append(np.asarray(image.convert("RGB")))
        except (OSError, Image.DecompressionBombError) as error:
            raise UserError(f"{root / name} cannot be read ({str(error)[:100]}); fetch the pictures again.") from error
    if len({image.shape for image in found}) > 1:
        raise UserError(f"{root / question.images[0]}: pictures of one question differ in size; scale them alike.")
    return np.stack(found)
