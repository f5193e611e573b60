"""What was right at one moment, and how a decision and its causes compare with it.

    precision = tp / (tp + fp)     recall = tp / (tp + fn)     F1 = 2 tp / (2 tp + fp + fn)     over cause kinds as sets

One code for scoring teachers and students. Reads plain values; knows nothing of models or worlds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from causaldrive.ground.words import DIRECTED_LATERAL
from causaldrive.label.trace import ParsedTrace
from causaldrive.label.types import CocLabel

UNOBSERVED = "unobserved"


class Tally(NamedTuple):
    """A share of a metric: what it adds to numerator and denominator, and how many judged items it stands for."""

    numerator: float
    denominator: float
    n: int = 1

    def plus(self, other: Tally) -> Tally:
        return Tally(self.numerator + other.numerator, self.denominator + other.denominator, self.n + other.n)


@dataclass(frozen=True)
class Truth:
    """What was right at one moment. `cause_kinds` is None where nobody observed the causes."""

    longitudinal: str | None
    lateral: str | None
    direction: str | None
    cause_kinds: tuple[str, ...] | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Truth:
        kinds = value["cause_kinds"]
        return Truth(value["longitudinal"], value["lateral"], value["direction"],
                     None if kinds is None else tuple(kinds))  # fmt: skip


def truth_of_label(label: CocLabel) -> Truth:
    """The label's decision and cause kinds; unobserved causes are no truth."""
    kinds = tuple(sorted({cause.kind for cause in label.causes if cause.kind}))
    return Truth(
        label.decision_longitudinal, label.decision_lateral, label.direction, None if UNOBSERVED in kinds else kinds
    )


def truth_of_explanation(explanation: Any) -> Truth:
    """The town's own truth (worlds.expert.Explanation) at a decision step."""
    kinds = tuple(sorted({factor.kind for factor in explanation.causes}))
    return Truth(explanation.longitudinal, explanation.lateral, explanation.direction, kinds)


def decision_tallies(parsed: ParsedTrace, truth: Truth) -> dict[str, Tally]:
    """Shares of the accuracy per axis and of both; none where the truth leaves an axis open."""
    if truth.longitudinal is None or truth.lateral is None:
        return {}
    longitudinal = parsed.longitudinal == truth.longitudinal
    side = parsed.direction == truth.direction or truth.lateral not in DIRECTED_LATERAL
    lateral = parsed.lateral == truth.lateral and side
    return {
        "longitudinal_accuracy": Tally(float(longitudinal), 1),
        "lateral_accuracy": Tally(float(lateral), 1),
        "decision_accuracy": Tally(float(longitudinal and lateral), 1),
    }


def cause_tallies(kinds: Collection[str], truth: Truth) -> dict[str, Tally]:
    """Shares of precision, recall, F1 and exact match of the kinds named; none where nobody observed the causes."""
    if truth.cause_kinds is None:
        return {}
    said, right = set(kinds), set(truth.cause_kinds)
    tp, fp, fn = len(said & right), len(said - right), len(right - said)
    return {
        "cause_precision": Tally(tp, tp + fp),
        "cause_recall": Tally(tp, tp + fn),
        "cause_f1": Tally(2 * tp, 2 * tp + fp + fn),
        "cause_set_exact": Tally(float(said == right), 1),
    }
