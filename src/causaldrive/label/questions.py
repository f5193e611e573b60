"""The command `label questions`: a question set from recordings whose world state is known, in LingoQA's file format.

Asked at the moment of each accepted label: what is ahead, which colour the light has, whether someone is on foot near
the road, what the car does and why (the label's trace), a caption of it all, and the light as a multiple choice. Every
answer follows from the recorded agents and lights along the route, never from a model. Reads recordings and labels;
writes `questions.parquet`, `images/` and `report.html`. Knows nothing of students.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from causaldrive.clips.store import read_frames, read_recordings
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import atomic_path
from causaldrive.ground.page import Section, Table, write_page
from causaldrive.ground.progress import track
from causaldrive.ground.runs import open_run
from causaldrive.label.lingoqa import FILE, Question, write_questions
from causaldrive.label.recording_view import RecordingView, view_of
from causaldrive.label.store import read_labels
from causaldrive.label.types import CocLabel
from causaldrive.worlds.route import Route
from causaldrive.worlds.sight import Sight, look

NEAR_M, BESIDE_M = 40.0, 6.0  # how far ahead counts, and how far beside the way someone on foot counts
_WAY_M = 1.6  # half the width of the way ahead
_LIGHT_ANSWERS = {"red": "The light is red.", "yellow": "The light is yellow.", "green": "The light is green."}
_NO_LIGHT = "There is no light."
_CHOICES = ("red", "yellow", "green", "there is none")
LETTERS = "ABCD"


@dataclass(frozen=True)
class QuestionsConfig:
    """Questions and answers about recordings with annotated agents and lights."""

    recordings: Path  # recordings with video, agents and lights
    labels: Path  # label set of these recordings: its moments are asked about, its traces are the why
    out: Path  # run directory
    most: int = 400  # moments at most, evenly spread
    frame_offsets_s: tuple[float, ...] = (-0.4, 0.0)  # pictures of each moment, from now
    camera: str = "front"
    seed: int = 0  # of the order of options


def run(config: QuestionsConfig) -> None:
    """Raises UserError where no label has its recording with agents and the camera."""
    inputs = {"recordings": config.recordings, "labels": config.labels}
    with open_run(config.out, "label questions", config, inputs) as opened:
        if opened.done:
            return
        sound, broken = read_recordings(config.recordings)
        known = {r.recording_id: r for r in sound if r.agents is not None and config.camera in r.cameras}
        labels = [row for row in read_labels(config.labels)
                  if row.status in ("accepted", "edited") and row.recording_id in known]  # fmt: skip
        if not labels:
            raise UserError(
                f"{config.labels}: no accepted label of a recording with agents and camera {config.camera!r} under "
                f"{config.recordings}; record and label some."
            )
        kept = [labels[i] for i in np.linspace(0, len(labels) - 1, min(config.most, len(labels))).round().astype(int)]
        aside: Counter[str] = Counter({"recordings that cannot be read": len(broken)} if broken else {})
        questions = _all_questions(kept, known, config, aside)
        if not questions:
            raise UserError(f"{config.recordings}: no moment has its pictures ({dict(aside)}); record more drives.")
        write_questions(config.out / FILE, questions)
        _report(config.out, questions, aside)
        opened.log(questions=len(questions), moments=len(kept), set_aside=dict(aside))
        print(f"label questions: {len(questions)} questions at {len({q.segment_id for q in questions})} moments")


def _all_questions(
    labels: Sequence[CocLabel], known: dict, config: QuestionsConfig, aside: Counter[str]
) -> list[Question]:
    generator = np.random.default_rng(config.seed)
    questions: list[Question] = []
    views: dict[str, RecordingView] = {}
    for label in track(labels, "label questions", len(labels), "moments"):
        try:
            if label.recording_id not in views:
                views = {label.recording_id: view_of(known[label.recording_id])}  # labels come recording by recording
            view = views[label.recording_id]
            images = _write_images(view, label, config)
            questions += questions_at(view, label, images, config.frame_offsets_s, generator)
        except UserError:
            aside["moments without their pictures or motion"] += 1
    return questions


def _write_images(view: RecordingView, label: CocLabel, config: QuestionsConfig) -> tuple[str, ...]:
    directory = view.recording.directory
    assert directory is not None, "recordings read from the store know where they lie"
    wanted = [label.t0_us + round(1e6 * offset) for offset in config.frame_offsets_s]
    names = []
    for number, image in enumerate(read_frames(directory, config.camera, wanted)):
        name = f"images/{label.recording_id}_{label.t0_us}/{number}.jpg"
        with atomic_path(config.out / name) as temporary:
            Image.fromarray(image).save(temporary, "JPEG", quality=92)
        names.append(name)
    return tuple(names)


def questions_at(
    view: RecordingView, label: CocLabel, images: tuple[str, ...], offsets_s: tuple[float, ...],
    generator: np.random.Generator,
) -> list[Question]:  # fmt: skip
    """The questions of one moment and their answers."""
    sight = look(view.history_states(label.t0_us), Route(view.context))
    ahead, light, walker = what_is_ahead(sight), light_ahead(sight), someone_on_foot(sight)
    light_answer = _LIGHT_ANSWERS.get(light, _NO_LIGHT)
    order = [str(word) for word in generator.permutation(_CHOICES)]
    lettered = " ".join(f"({letter}) {word}" for letter, word in zip(LETTERS, order, strict=True))
    right = LETTERS[order.index(light if light in _CHOICES else _CHOICES[-1])]
    segment = f"{label.recording_id}_{label.t0_us}"
    light_is_clear = not light or light in _LIGHT_ANSWERS  # one that is out of order is not asked about
    asked = [
        ("ahead", "What is ahead of us in our way?", ahead, ()),
        ("light", "Which colour has the light ahead?", light_answer, ()),
        ("on_foot", "Is someone on foot near our way?", walker, ()),
        ("why", "What does the car do now, and why?", label.trace, ()),
        ("caption", "Describe the scene.", f"{ahead} {light_answer} {walker}", ()),
        ("choice", f"The light ahead: {lettered}", right, tuple(order)),
    ]
    return [
        Question(f"{segment}_{kind}", segment, images, question, (answer,), offsets_s, options, kind)
        for kind, question, answer, options in asked
        if light_is_clear or kind not in ("light", "caption", "choice")
    ]


def what_is_ahead(sight: Sight) -> str:
    """The nearest road user on the way within 40 m, its distance to five metres."""
    on_way = [seen for seen in sight.agents if seen.rear_m - sight.front_m + 1.0 > 0 and
              abs(seen.offset_m) - seen.half_width_m < _WAY_M and seen.rear_m - sight.front_m < NEAR_M]  # fmt: skip
    if not on_way:
        return "Nothing."
    nearest = min(on_way, key=lambda seen: seen.rear_m)
    gap_m = max(5 * round((nearest.rear_m - sight.front_m) / 5), 5)
    return f"A {nearest.category.replace('_', ' ')} about {gap_m} m ahead."


def light_ahead(sight: Sight) -> str:
    """The state of the nearest light that governs the way within 40 m, empty where there is none."""
    near = [light for light in sight.lights if -1.0 < light.stop_arc_m - sight.front_m < NEAR_M]
    return min(near, key=lambda light: light.stop_arc_m).state if near else ""


def someone_on_foot(sight: Sight) -> str:
    """Whether a pedestrian is within 40 m ahead and 6 m beside the way, and on which side."""
    near = [seen for seen in sight.agents if seen.category == "pedestrian" and
            0 < seen.arc_m - sight.front_m < NEAR_M and abs(seen.offset_m) < BESIDE_M]  # fmt: skip
    if not near:
        return "No."
    nearest = min(near, key=lambda seen: seen.arc_m)
    place = (
        "in our way" if abs(nearest.offset_m) < _WAY_M else "on the left" if nearest.offset_m > 0 else "on the right"
    )
    return f"Yes, {place}."


def _report(out: Path, questions: Sequence[Question], aside: Counter[str]) -> None:
    counts = Counter((q.kind, q.answers[0]) for q in questions if q.kind not in ("why", "caption"))
    rows = [[kind, answer, count] for (kind, answer), count in sorted(counts.items(), key=lambda x: (x[0][0], -x[1]))]
    examples = [[q.kind, q.question, q.answers[0]] for q in questions[:12]]
    sections = [
        Section("Answers", [Table(["kind", "answer", "times"], rows, text_columns=2)]),
        Section("Examples", [Table(["kind", "question", "answer"], examples, text_columns=3)]),
    ]
    if aside:
        sections.append(Section("Set aside", [Table(["why", "count"], [[w, c] for w, c in aside.items()])]))
    write_page(out / "report.html", "Questions", sections, f"{len(questions)} questions in LingoQA's format.")
