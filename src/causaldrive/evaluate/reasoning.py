"""Is what the driver says true, and does the car do it? One moment of one driver at a time.

    precision = tp / (tp + fp)     recall = tp / (tp + fn)     F1 = 2 tp / (2 tp + fp + fn)     over cause kinds as sets

A trace whose decision cannot be read on both axes is unscored, not wrong: it lowers the parse rate alone. Reads plain
values; knows nothing of models or worlds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from causaldrive.ground.words import DIRECTED_LATERAL
from causaldrive.label.consistency import PlannedMotion, judge
from causaldrive.label.trace import ParsedTrace, parse
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


def readable(parsed: ParsedTrace) -> bool:
    """Both axes can be read, and a lateral decision that needs a side names one."""
    both = parsed.longitudinal is not None and parsed.lateral is not None
    return both and (parsed.lateral not in DIRECTED_LATERAL or parsed.direction is not None)


def tallies(text: str, truth: Truth, motion: PlannedMotion) -> dict[str, Tally]:
    """Every reasoning metric's share of one moment; metrics that cannot be judged there are absent."""
    parsed = parse(text)
    if not readable(parsed):
        return {"parse_rate": Tally(0, 1)}
    found = {"parse_rate": Tally(1, 1), "consistency": Tally(float(judge(parsed, motion).consistent), 1)}
    return found | _decision(parsed, truth) | _causes(parsed, truth)


def _decision(parsed: ParsedTrace, truth: Truth) -> dict[str, Tally]:
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


def _causes(parsed: ParsedTrace, truth: Truth) -> dict[str, Tally]:
    if truth.cause_kinds is None:
        return {}
    said, right = set(parsed.cause_kinds), set(truth.cause_kinds)
    tp, fp, fn = len(said & right), len(said - right), len(right - said)
    return {
        "cause_precision": Tally(tp, tp + fp),
        "cause_recall": Tally(tp, tp + fn),
        "cause_f1": Tally(2 * tp, 2 * tp + fp + fn),
        "cause_set_exact": Tally(float(said == right), 1),
    }


def motion_as_json(motion: PlannedMotion) -> dict[str, Any]:
    """A motion as short lists: centimetres, cm/s, milliradians are enough to judge it again."""
    offset = motion.lane_offset_m
    return {
        "speed_mps": np.round(motion.speed_mps, 2).tolist(),
        "xy_in_rig_m": np.round(motion.xy_in_rig_m, 2).tolist(),
        "yaw_rad": np.round(motion.yaw_rad, 3).tolist(),
        "lane_offset_m": None if offset is None else np.round(offset, 2).tolist(),
    }


def motion_from_json(value: Mapping[str, Any]) -> PlannedMotion:
    offset = value["lane_offset_m"]
    return PlannedMotion(
        np.array(value["speed_mps"], float),
        np.array(value["xy_in_rig_m"], float),
        np.array(value["yaw_rad"], float),
        None if offset is None else np.array(offset, float),
    )
