"""Bridge to Label Studio: labels out as tasks with predictions, annotations back into a label set.

A task's `data` holds the whole label (so that nothing is lost on the way) and what the annotator reads; its prediction
fills the form of `label_studio.xml`, which ships beside this file. On the way back the last annotation that was not
cancelled decides: unchanged fields leave the label accepted, changed ones make it edited, the choice Reject rejects
it. Where no person has annotated, the last prediction counts: our own changes nothing, that of another model becomes a
label of that model, unscored, with its score kept. Causes are edited as lines `category: text`. Reads and writes JSON;
knows nothing of recordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_json, write_json
from causaldrive.ground.words import CAUSE_CATEGORIES, DIRECTIONS, LATERAL_DECISIONS, LONGITUDINAL_DECISIONS
from causaldrive.label.bridge_rows import Imported
from causaldrive.label.store import SCHEMA, label_of_row
from causaldrive.label.types import Cause, CocLabel, Verdict

CONFIG = Path(__file__).parent / "label_studio.xml"
_CHOICES = {
    "decision_longitudinal": LONGITUDINAL_DECISIONS,
    "decision_lateral": LATERAL_DECISIONS,
    "direction": DIRECTIONS,
}
_NONE = "none"
PREDICTED = "predicted"


def write_studio(path: Path, labels: Sequence[CocLabel]) -> None:
    """One JSON list of tasks, and the labelling configuration beside it as `label_studio.xml`."""
    write_json(path, [_task(label) for label in labels])
    (path.parent / CONFIG.name).write_bytes(CONFIG.read_bytes())


def _task(label: CocLabel) -> dict[str, Any]:
    data = {
        "title": f"{label.recording_id} at {label.t0_us / 1e6:.1f} s",
        "trace": label.trace,
        "future": ", ".join(label.meta_future) or "not known",
        "label": asdict(label),
    }
    return {"data": data, "predictions": [{"model_version": label.teacher, "result": _result(label)}]}


def _result(label: CocLabel) -> list[dict[str, Any]]:
    choices = {name: [getattr(label, name) or _NONE] for name in _CHOICES}
    verdict = "Reject" if label.status == "rejected" else "Keep"
    return [
        *({"from_name": name, "to_name": "trace_shown", "type": "choices", "value": {"choices": value}}
          for name, value in (choices | {"verdict": [verdict]}).items()),
        *({"from_name": name, "to_name": "trace_shown", "type": "textarea", "value": {"text": text}}
          for name, text in (("causes", ["\n".join(_line(c) for c in label.causes)]), ("trace", [label.trace]))),
    ]  # fmt: skip


def _line(cause: Cause) -> str:
    return f"{cause.category}: {' '.join(cause.text.split())}"


def read_studio(path: Path) -> Imported:
    """Labels of a Label Studio JSON export (or of exported tasks). A task that cannot be read is set aside."""
    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise UserError(f"{path} holds a JSON {type(tasks).__name__}; the list of Label Studio's JSON export expected.")
    result = Imported([])
    for number, task in enumerate(tasks):
        where = f"{path} task {number}"
        try:
            result.labels.append(_label(task, where))
        except UserError as error:
            result.set_aside.append(str(error))
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            result.set_aside.append(f"{where} is not a task of this export ({type(error).__name__}: {error}).")
    return result


def _label(task: dict[str, Any], where: str) -> CocLabel:
    label = label_of_row(dict.fromkeys(SCHEMA.names) | task["data"]["label"], where)
    done = [one for one in task.get("annotations", []) if not one.get("was_cancelled")]
    if not done:
        return _predicted(task, label, where)
    edited = _as_said(done[-1], label, where)
    if _verdict(done[-1]) == "Reject":
        return replace(edited, status="rejected")
    return replace(edited, status="accepted" if edited == label else "edited")


def _predicted(task: dict[str, Any], label: CocLabel, where: str) -> CocLabel:
    """The label as the last prediction has it; an unchanged one is what it was."""
    predictions = [one for one in task.get("predictions") or [] if isinstance(one, dict)]  # exports may hold bare ids
    if not predictions:
        return label
    said = _as_said(predictions[-1], label, where)
    if said == label:
        return label
    model, score = str(predictions[-1].get("model_version") or "label studio"), predictions[-1].get("score")
    score = float(score) if isinstance(score, int | float) else None
    verdict = Verdict(PREDICTED, None, score, f"predicted by {model}, verdict {_verdict(predictions[-1]) or 'none'}")
    return replace(said, status="unscored", teacher=model, model="", endpoint="", prompt_hash="", verdicts=(verdict,))


def _verdict(answer: dict[str, Any]) -> str | None:
    choices = [one["value"]["choices"] for one in answer["result"] if one["from_name"] == "verdict"]
    return choices[0][0] if choices else None


def _as_said(answer: dict[str, Any], label: CocLabel, where: str) -> CocLabel:
    """The label with the fields of an annotation or a prediction."""
    said = {one["from_name"]: one["value"] for one in answer["result"]}
    return replace(
        label,
        **{name: _choice(said, name, getattr(label, name), where) for name in _CHOICES},
        causes=_causes(said, label, where),
        trace=_text(said, "trace") or label.trace,
    )


def _choice(said: dict[str, Any], name: str, before: str | None, where: str) -> str | None:
    if name not in said:
        return before
    value = said[name]["choices"][0]
    if value != _NONE and value not in _CHOICES[name]:
        raise UserError(f"{where}: {name} is {value!r}; one of {', '.join(_CHOICES[name])} or none expected.")
    return None if value == _NONE else value


def _text(said: dict[str, Any], name: str) -> str | None:
    """A text area's content; Label Studio gives a string or a list of lines."""
    value = said.get(name, {}).get("text")
    return "\n".join(value) if isinstance(value, list) else value


def _causes(said: dict[str, Any], label: CocLabel, where: str) -> tuple[Cause, ...]:
    """Lines to causes; a line that was not changed keeps its kind, agent and evidence."""
    text = _text(said, "causes")
    if text is None:
        return label.causes if "causes" not in said else ()
    known = {_line(cause): cause for cause in label.causes}
    return tuple(known.get(line) or _new_cause(line, where) for line in map(str.strip, text.splitlines()) if line)


def _new_cause(line: str, where: str) -> Cause:
    category, _, words = (part.strip() for part in line.partition(":"))
    if category not in CAUSE_CATEGORIES or not words:
        raise UserError(
            f"{where}: the cause {line!r} is not 'category: text' with one of {', '.join(CAUSE_CATEGORIES)}."
        )
    return Cause(category, words)
