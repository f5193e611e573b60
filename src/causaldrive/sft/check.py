"""A cheap look at what was learnt: the student reasons greedily and drives once on validation samples.

Decisions and causes are read back from the generated traces and compared with the labels; an unparsable trace is
unscored and counted. Not the evaluation of the chain: validation samples come from training seeds. Knows nothing of
training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causaldrive.label.trace import ParsedTrace, parse
from causaldrive.label.types import CocLabel
from causaldrive.sft.dataset import SampleSet
from causaldrive.student.generate import Generated, generate
from causaldrive.student.model import CausalDriveModel
from causaldrive.student.processor import StudentProcessor

LIMIT = 64  # validation samples looked at
_BATCH = 32
_SHOWN = 8


@dataclass(frozen=True)
class Example:
    """One validation sample: what the label says and what the student wrote."""

    name: str
    label_trace: str
    trace: str
    ade_m: float


@dataclass(frozen=True)
class Check:
    """Shares over the parsed traces (None where nothing was parsed, or mode 'trajectory'); ADE over all samples."""

    samples: int
    parsed: int
    longitudinal: float | None  # share of right longitudinal decisions
    lateral: float | None  # share of right lateral decisions, direction included
    decision: float | None  # both right
    cause_f1: float | None  # micro F1 over sets of cause kinds
    ade_m: float  # mean distance over 6.4 s, one trajectory a sample
    examples: tuple[Example, ...]


def check(model: CausalDriveModel, processor: StudentProcessor, samples: SampleSet, indices: Sequence[int],
          reason: bool, seed: int, mode: str = "flow") -> Check:  # fmt: skip
    """Generate for the samples at `indices` and compare. Without `reason` only the trajectories are looked at."""
    rows: list[Generated] = []
    for start in range(0, len(indices), _BATCH):
        chunk = samples.samples(indices[start : start + _BATCH])
        made = generate(model, processor, chunk, seed=seed + start, reason=reason, greedy=True, mode=mode)
        rows += [answers[0] for answers in made]
    items = [samples.items[i] for i in indices]
    errors = [_ade_m(row, item.sample.future_xyz_in_rig_m) for row, item in zip(rows, items, strict=True)]
    parsed = [parse(row.trace) for row in rows] if reason else []
    shares = _shares(parsed, [item.label for item in items])
    examples = tuple(Example(item.name, item.label.trace, row.trace, error)
                     for item, row, error in zip(items, rows, errors, strict=True))  # fmt: skip
    return Check(samples=len(items), ade_m=float(np.mean(errors)), examples=_spread(examples), **shares)


def _ade_m(made: Generated, future_xyz_in_rig_m: np.ndarray | None) -> float:
    assert future_xyz_in_rig_m is not None, "training samples have a future"
    return float(np.linalg.norm(made.xyz_in_rig_m[:, :2] - future_xyz_in_rig_m[:, :2], axis=1).mean())


def _spread(examples: tuple[Example, ...]) -> tuple[Example, ...]:
    return examples[:: max(len(examples) // _SHOWN, 1)][:_SHOWN]


def _shares(parsed: Sequence[ParsedTrace], labels: Sequence[CocLabel]) -> dict:
    pairs = [(said, label) for said, label in zip(parsed, labels, strict=False) if said.longitudinal or said.lateral]
    if not pairs:
        return {"parsed": 0, "longitudinal": None, "lateral": None, "decision": None, "cause_f1": None}
    right = np.array([_right(said, label) for said, label in pairs])
    return {
        "parsed": len(pairs),
        "longitudinal": float(right[:, 0].mean()),
        "lateral": float(right[:, 1].mean()),
        "decision": float(right.all(axis=1).mean()),
        "cause_f1": _cause_f1(pairs),
    }


def _right(said: ParsedTrace, label: CocLabel) -> tuple[bool, bool]:
    lateral = (said.lateral, said.direction) == (label.decision_lateral, label.direction)
    return said.longitudinal == label.decision_longitudinal, lateral


def _cause_f1(pairs: Sequence[tuple[ParsedTrace, CocLabel]]) -> float | None:
    """2 TP / (2 TP + FP + FN) over all samples; None when neither side names a cause."""
    sets = [(set(said.cause_kinds), {c.kind for c in label.causes if c.kind}) for said, label in pairs]
    hits = sum(len(said & true) for said, true in sets)
    named = sum(len(said) + len(true) for said, true in sets)
    return 2 * hits / named if named else None
