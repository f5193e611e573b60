"""The trace: one short sentence, decision first, then its causes; written here and read back here.

    <longitudinal> and <lateral> because <cause> and <cause>.

`compose` speaks with a small fixed vocabulary. `parse` reads those sentences exactly, and free text by keyword
rules. Source: arXiv 2511.00088, section 3.3 (trace composed from decision and components). Knows nothing of files,
motion or models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from causaldrive.ground.words import DIRECTED_LATERAL, DIRECTIONS, LATERAL_DECISIONS, LONGITUDINAL_DECISIONS
from causaldrive.label import trace_rules
from causaldrive.label.types import Cause

NO_CAUSE = "the road is clear"
UNOBSERVED = "the cause was not observed"
SIDED_LATERAL = (*DIRECTED_LATERAL, "merge_split", "pull_over")  # the last two may name a side
MOST_CAUSES = 3  # annotation economy: a sentence, not a tour of the scene

_LONGITUDINAL = {
    "set_speed_tracking": "keep the speed",
    "lead_obstacle_following": "keep the gap",
    "speed_adaptation": "adapt the speed",
    "gap_searching": "seek a gap",
    "acceleration_for_passing": "speed up to pass",
    "yield": "yield",
    "stop_for_static_constraint": "stop",
}
_RESUME = "resume the speed"  # set-speed tracking after a light has turned green
_LATERAL = {
    "lane_keeping": "keep the lane",
    "merge_split": "merge",
    "out_of_lane_nudge": "nudge {side} out of the lane",
    "in_lane_nudge": "nudge {side} in the lane",
    "lane_change": "change to the {side} lane",
    "pull_over": "pull over",
    "turn": "turn {side}",
    "lateral_abort": "return to the lane",
}
_NOTHING = "decide nothing"


@dataclass(frozen=True)
class ParsedTrace:
    """What a sentence says. None and empty where it cannot be read; `problems` tells what is wrong with it."""

    longitudinal: str | None
    lateral: str | None
    direction: str | None
    cause_kinds: tuple[str, ...]
    problems: tuple[str, ...] = ()


def compose(longitudinal: str | None, lateral: str | None, direction: str | None, causes: Sequence[Cause]) -> str:
    """One sentence of the decision and at most three causes; no cause is said as a clear road.

    A direction is spoken with the decisions of `SIDED_LATERAL` and must be there for `DIRECTED_LATERAL`.
    """
    assert lateral not in DIRECTED_LATERAL or direction in DIRECTIONS, f"{lateral} needs a direction"
    assert direction is None or lateral in SIDED_LATERAL, f"{lateral} has no direction"
    kinds = {cause.kind for cause in causes}
    first = _RESUME if longitudinal == "set_speed_tracking" and "green_light" in kinds else None
    decision = _decision(first or _LONGITUDINAL.get(longitudinal or ""), _lateral_phrase(lateral, direction))
    reason = " and ".join(cause.text.strip().rstrip(".") for cause in causes[:MOST_CAUSES]) or NO_CAUSE
    return f"{decision[0].upper()}{decision[1:]} because {reason}."


def _decision(longitudinal: str | None, lateral: str | None) -> str:
    if longitudinal and lateral == "keep the lane" and longitudinal.startswith("keep "):
        return f"{longitudinal} and the lane"
    return " and ".join(part for part in (longitudinal, lateral) if part) or _NOTHING


def _lateral_phrase(lateral: str | None, direction: str | None) -> str | None:
    if lateral is None:
        return None
    phrase = _LATERAL[lateral].format(side=direction)
    return f"{phrase} {direction}" if direction and "{side}" not in _LATERAL[lateral] else phrase


def _own_decisions() -> dict[str, tuple[str | None, str | None, str | None]]:
    """Every decision phrase that `compose` can write, with what it means."""
    longitudinal = [(None, None), *((name, phrase) for name, phrase in _LONGITUDINAL.items())]
    table = {}
    for name, phrase in [*longitudinal, ("set_speed_tracking", _RESUME)]:
        for lateral in (None, *LATERAL_DECISIONS):
            sides = DIRECTIONS if lateral in DIRECTED_LATERAL else (None, *DIRECTIONS)
            for side in sides if lateral in SIDED_LATERAL else (None,):
                table[_decision(phrase, _lateral_phrase(lateral, side))] = (name, lateral, side)
    return table


assert set(_LONGITUDINAL) == set(LONGITUDINAL_DECISIONS) and set(_LATERAL) == set(LATERAL_DECISIONS)
_OWN = _own_decisions()


def parse(text: str) -> ParsedTrace:
    """Decision and cause kinds of a sentence: exact for what `compose` writes, by keywords for anything else."""
    sentence = _clean(text)
    if not sentence:
        return ParsedTrace(None, None, None, (), ("the trace is empty",))
    decision, _, reason = sentence.partition(" because ")
    if reason and decision in _OWN:
        return ParsedTrace(*_OWN[decision], trace_rules.cause_kinds(reason))
    return _parse_free(sentence)


def _clean(text: str) -> str:
    """Lower case, one space, no thinking block, no closing full stop."""
    text = re.sub(r"<think>.*?(</think>|$)", " ", text, flags=re.DOTALL)
    return " ".join(text.lower().split()).strip(" .!")


def _parse_free(sentence: str) -> ParsedTrace:
    decision, reason = trace_rules.split_reason(sentence)
    longitudinal = trace_rules.longitudinal_of(decision, reason)
    lateral = trace_rules.lateral_of(decision)
    problems = [
        f"{axis} decisions contradict each other: {', '.join(found)}"
        for axis, found in (("longitudinal", longitudinal), ("lateral", lateral))
        if len(found) > 1
    ]
    if not longitudinal and not lateral:
        problems.append("no decision can be read from the trace")
    one_lateral = lateral[0] if len(lateral) == 1 else None
    side = trace_rules.direction_of(decision) if one_lateral in SIDED_LATERAL else None
    if one_lateral in DIRECTED_LATERAL and side is None:
        problems.append(f"{one_lateral} names no side")
    one_longitudinal = longitudinal[0] if len(longitudinal) == 1 else None
    return ParsedTrace(one_longitudinal, one_lateral, side, trace_rules.cause_kinds(reason), tuple(problems))
