"""What a language model said, as values: thinking taken off, JSON found, closed sets held against it.

Whatever cannot be used becomes a `BadReply` of a counted kind; nothing is guessed. Knows nothing of endpoints.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from causaldrive.ground.words import (
    CAUSE_CATEGORIES,
    CAUSE_KINDS,
    DIRECTED_LATERAL,
    DIRECTIONS,
    LATERAL_DECISIONS,
    LONGITUDINAL_DECISIONS,
)
from causaldrive.label.trace import SIDED_LATERAL
from causaldrive.label.types import Cause

FAILURES = (
    "rate_limited", "server_error", "timeout", "connection", "bad_request",  # no reply came
    "invalid_json", "outside_closed_sets", "empty", "truncated", "refused",  # a reply that cannot be used
)  # fmt: skip
MOST_CAUSES = 3
_NONE = ("", "none", "null", "n/a")
_THINK = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


class BadReply(Exception):
    """A reply that cannot be used, or none at all: `kind` of FAILURES and a reason a person can read."""

    def __init__(self, kind: str, reason: str):
        assert kind in FAILURES
        super().__init__(f"{kind}: {reason}")
        self.kind, self.reason = kind, reason


def without_thinking(text: str) -> str:
    """The text after its thinking block; a block whose opening tag the server swallowed counts as well."""
    text = _THINK.sub("", text)
    return text.rpartition("</think>")[2].strip()


def find_json(text: str) -> dict[str, Any]:
    """The first JSON object in a text that holds one: bare, fenced, or with words around it.

    Raises BadReply 'empty' for no text and 'invalid_json' for none that can be read.
    """
    text = without_thinking(text)
    if not text:
        raise BadReply("empty", "the reply holds no text")
    decoder = json.JSONDecoder(strict=False)
    for match in re.finditer(r"\{", text):
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except (json.JSONDecodeError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    raise BadReply("invalid_json", f"no JSON object in {text[:80]!r}")


def causes_schema() -> dict[str, Any]:
    """JSON schema of the first call's answer."""
    cause = _object(
        category={"type": "string", "enum": list(CAUSE_CATEGORIES)},
        kind=_nullable(CAUSE_KINDS),
        text={"type": "string"},
        seen_s={"type": ["number", "null"]},
        agent_id={"type": ["string", "null"]},
    )
    return _object(causes={"type": "array", "items": cause})


def decision_schema() -> dict[str, Any]:
    """JSON schema of the second call's answer."""
    return _object(
        longitudinal=_nullable(LONGITUDINAL_DECISIONS),
        lateral=_nullable(LATERAL_DECISIONS),
        direction=_nullable(DIRECTIONS),
        binding={"type": "array", "items": {"type": "integer"}},
        trace={"type": "string"},
    )


def critic_schema() -> dict[str, Any]:
    """JSON schema of a critic's answer."""
    grade = {"type": "integer", "enum": list(range(6))}
    return _object(reason={"type": "string"}, behaviour=grade, causality=grade)


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _nullable(words: Sequence[str] | Mapping[str, str]) -> dict[str, Any]:
    return {"type": ["string", "null"], "enum": [*words, None]}


def read_causes(answer: Mapping[str, Any], t0_us: int) -> tuple[Cause, ...]:
    """The causes of the first call, at most three. Raises BadReply for a shape or a word that is not expected.

    A time outside the history is kept: the validators say so, and it is counted as a violation of locality.
    """
    entries = answer.get("causes")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadReply("invalid_json", "a list 'causes' of objects expected")
    return tuple(_cause(entry, t0_us) for entry in entries[:MOST_CAUSES])


def _cause(entry: Mapping[str, Any], t0_us: int) -> Cause:
    category = _word(entry, "category", CAUSE_CATEGORIES)
    kind = _word(entry, "kind", CAUSE_KINDS)
    text = _text(entry, "text")
    if category is None or not text:
        raise BadReply("invalid_json", f"a cause lacks its {'text' if category else 'category'}")
    if kind is not None and CAUSE_KINDS[kind] != category:
        raise BadReply("outside_closed_sets", f"kind {kind} belongs to {CAUSE_KINDS[kind]}, not to {category}")
    seen_s = entry.get("seen_s")
    evidence_t_us = None
    if isinstance(seen_s, (int, float)) and not isinstance(seen_s, bool) and abs(seen_s) < 1e6:
        evidence_t_us = t0_us + round(1e6 * seen_s)
    return Cause(category, text, kind, _text(entry, "agent_id") or None, evidence_t_us)


def read_decision(answer: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """(longitudinal, lateral, direction). A side is kept only where the decision can have one."""
    for name in ("longitudinal", "lateral"):
        if name not in answer:
            raise BadReply("invalid_json", f"{name!r} is missing")
    longitudinal = _word(answer, "longitudinal", LONGITUDINAL_DECISIONS)
    lateral = _word(answer, "lateral", LATERAL_DECISIONS)
    direction = _word(answer, "direction", DIRECTIONS)
    if lateral in DIRECTED_LATERAL and direction is None:
        raise BadReply("outside_closed_sets", f"{lateral} names no side, left or right expected")
    if longitudinal is None and lateral is None:
        raise BadReply("outside_closed_sets", "no decision on either axis")
    return longitudinal, lateral, direction if lateral in SIDED_LATERAL else None


def read_binding(answer: Mapping[str, Any], causes: Sequence[Cause]) -> tuple[Cause, ...]:
    """The causes that bind, by their numbers from 1; a number that none has is outside the closed set."""
    numbers = answer.get("binding")
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise BadReply("invalid_json", "a list 'binding' of numbers expected")
    for number in numbers:
        if not 1 <= number <= len(causes):
            raise BadReply("outside_closed_sets", f"cause {number} binds, but {len(causes)} were named")
    return tuple(cause for number, cause in enumerate(causes, 1) if number in numbers)


def read_grades(answer: Mapping[str, Any]) -> tuple[int, int, str]:
    """(behaviour, causality, reason); whole grades from 0 to 5."""
    grades = []
    for name in ("behaviour", "causality"):
        grade = answer.get(name)
        whole = type(grade) is int or (isinstance(grade, float) and grade.is_integer())
        if not whole or not isinstance(grade, (int, float)):
            raise BadReply("invalid_json", f"{name} is {grade!r}, a whole number expected")
        if not 0 <= grade <= 5:
            raise BadReply("outside_closed_sets", f"{name} is {grade}, 0 to 5 expected")
        grades.append(int(grade))
    return grades[0], grades[1], _text(answer, "reason")


def _text(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    return " ".join(value.split()) if isinstance(value, str) else ""


def _word(entry: Mapping[str, Any], name: str, known: Sequence[str] | Mapping[str, str]) -> str | None:
    value = entry.get(name)
    if value is None or (isinstance(value, str) and value.strip().lower() in _NONE):
        return None
    word = value.strip().lower().replace(" ", "_").replace("-", "_") if isinstance(value, str) else value
    if not isinstance(word, str) or word not in known:
        raise BadReply("outside_closed_sets", f"{name} {value!r} is none of {', '.join(known)}")
    return word
