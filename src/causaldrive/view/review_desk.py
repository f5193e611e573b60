"""The reviewer's desk: what each request of the page means, with every rule of the review checked here.

    one stage:   label and future at once; accept, edit, reject
    two stages:  causes are named from history alone, and only then the future, the decision and the trace are shown;
                 afterwards a cause may be dropped but none added, so that no cause comes from the future

Turns JSON into labels and labels into JSON. Reads recordings through `review_media`, writes through `review_log`.
Knows nothing of HTTP.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.words import (
    CAUSE_CATEGORIES,
    CAUSE_KINDS,
    DIRECTED_LATERAL,
    DIRECTIONS,
    LATERAL_DECISIONS,
    LONGITUDINAL_DECISIONS,
)
from causaldrive.label.trace import SIDED_LATERAL, compose
from causaldrive.label.types import Cause, CocLabel
from causaldrive.label.validators import CHECKS, HISTORY_US, Evidence
from causaldrive.view.review_log import ACTIONS, ReviewLog
from causaldrive.view.review_media import FIRST_TICK, LAST_TICK, Media, has_bev

FIELDS = ("decision_longitudinal", "decision_lateral", "direction", "trace")
WORDS = {
    "decision_longitudinal": LONGITUDINAL_DECISIONS,
    "decision_lateral": LATERAL_DECISIONS,
    "direction": DIRECTIONS,
    "categories": CAUSE_CATEGORIES,
    "kinds": CAUSE_KINDS,
    "sided": SIDED_LATERAL,
    "directed": DIRECTED_LATERAL,
}


class Stale(UserError):
    """The label was changed after the page had loaded it."""


class Hidden(UserError):
    """What was asked for lies in the future, which this reviewer may not see yet."""


class Desk:
    """All requests of one reviewing session; safe to call from several threads."""

    def __init__(self, log: ReviewLog, media: Media, two_stage: bool):
        self.log, self.media, self.two_stage, self._lock = log, media, two_stage, threading.Lock()
        self._session = uuid.uuid4().hex[
            :8
        ]  # part of picture addresses: a browser keeps them, but for this session only

    def overview(self) -> dict[str, Any]:
        """Everything the list on the left needs, and the closed sets."""
        return {
            "annotator": self.log.who,
            "set": str(self.log.file.resolve()),
            "session": self._session,
            "two_stage": self.two_stage,
            "words": WORDS,
            "ticks": [FIRST_TICK, LAST_TICK],
            "rows": [self._row(index) for index in range(len(self.log.labels))],
        }

    def _row(self, index: int) -> dict[str, Any]:
        label = self.log.labels[index]
        return {
            "index": index,
            "recording_id": self._name(index),
            "t0_us": label.t0_us,
            "status": label.status,
            "by": self.log.reviewed_by(index),
            "open": self.is_open(index),
            "title": _title(label) if self.is_open(index) else "future hidden",
        }

    def _name(self, index: int) -> str:
        """The recording's id; a number while the future is hidden, since ids may tell what is going to happen."""
        return self.log.labels[index].recording_id if self.is_open(index) else f"label {index + 1}"

    def is_open(self, index: int) -> bool:
        """Whether the future may be shown: always in one stage, in two after the causes have been named."""
        return not self.two_stage or self.log.named_causes(index) is not None

    def detail(self, index: int) -> dict[str, Any]:
        """One label as the page shows it; nothing of the future while it is hidden."""
        label, opened = self._label(index), self.is_open(index)
        answer: dict[str, Any] = {
            "index": index,
            "revision": self.log.revision(index),
            "recording_id": self._name(index),
            "t0_us": label.t0_us,
            "origin": label.origin,
            "status": label.status,
            "by": self.log.reviewed_by(index),
            "teacher": label.teacher,
            "open": opened,
            "earliest_evidence_us": label.t0_us - HISTORY_US,
        }
        answer |= self._pictures(label, opened)
        if opened:
            named = self.log.named_causes(index) if self.two_stage else None
            shown = replace(label, causes=named.causes) if named and not self._decided_by_me(index) else label
            answer |= {"form": _fields(shown), "saved": _fields(label), "checks": self.checks(label)}
            answer["original"] = _fields(self.log.original(index))
        return answer

    def _decided_by_me(self, index: int) -> bool:
        return self.log.reviewed_by(index) == self.log.who

    def _pictures(self, label: CocLabel, opened: bool) -> dict[str, Any]:
        """What there is to see; a recording that is missing or broken is said in `problem`, and the text stays."""
        try:
            view = self.media.view(label.recording_id)
            motion = self.media.motion(label.recording_id, label.t0_us, LAST_TICK if opened else 0)
            ids = self.media.present_ids(label.recording_id, label.t0_us)
        except UserError as error:
            return {"problem": str(error), "cameras": [], "bev": False, "motion": None, "ids": []}
        if view is None:
            problem = f"The recording {label.recording_id} was not found; name its directory with --recordings."
            return {"problem": problem, "cameras": [], "bev": False, "motion": None, "ids": []}
        return {"problem": "", "cameras": list(view.recording.cameras), "bev": has_bev(view.recording),
                "motion": motion, "ids": ids}  # fmt: skip

    def checks(self, label: CocLabel) -> list[dict[str, Any]]:
        """What the validators hold against a label, as far as they can tell."""
        verdicts = [check(label, self._evidence(label)) for check in CHECKS]
        return [{"check": v.check, "reason": v.reason} for v in verdicts if v.passed is False]

    def _evidence(self, label: CocLabel) -> Evidence:
        try:
            view = self.media.view(label.recording_id)
            return view.evidence(label.t0_us) if view else Evidence()
        except UserError:
            return Evidence()

    def picture(self, index: int, kind: str, tick: int) -> bytes | None:
        """JPEG of a camera's name or of 'bev'. Raises Hidden for a tick of the future that may not be seen yet."""
        label = self._label(index)
        if tick > 0 and not self.is_open(index):
            raise Hidden("The future is hidden until the causes are named.")
        if not FIRST_TICK <= tick <= LAST_TICK:
            raise UserError(f"Tick {tick} asked for; {FIRST_TICK} to {LAST_TICK} expected.")
        if kind == "bev":
            return self.media.bev(label.recording_id, label.t0_us, tick)
        return self.media.frame(label.recording_id, kind, label.t0_us, tick)

    def compose(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The trace that the fields make."""
        return {"trace": _composed(_decision(body), _causes(body))}

    def name_causes(self, index: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Stage one of two: keep the causes, then show the rest."""
        with self._lock:
            label = self._label(index)
            if not self.two_stage:
                raise UserError("Causes are named first only with --two-stage.")
            if self.is_open(index):
                raise Stale("The causes of this label are already named and the future was shown.")
            causes = _causes(body)
            _check_evidence(label, causes)
            self.log.name_causes(index, replace(label, causes=causes))
        return self.detail(index)

    def act(self, index: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Accept, edit, reject or undo. Raises Stale when another page changed the label first."""
        action = str(body.get("action", ""))
        if action not in (*ACTIONS, "undo"):
            raise unknown_name("action", action, (*ACTIONS, "undo"))
        with self._lock:
            label = self._label(index)
            if body.get("revision") != self.log.revision(index):
                raise Stale(
                    "This label was changed on another page; it is shown again as it is now, your text is kept."
                )
            if not self.is_open(index):
                raise Hidden("Name the causes first; the decision is judged once the future is shown.")
            if action == "undo":
                self.log.undo(index)
            else:
                self.log.act(index, action, self._after(index, label, action, body), str(body.get("note", ""))[:500])
        return self.detail(index)

    def _after(self, index: int, label: CocLabel, action: str, body: Mapping[str, Any]) -> CocLabel:
        if action == "accept" and self.two_stage:
            self._check_named(index, label.causes)
        if action != "edit":
            return label
        decision, causes = _decision(body), _causes(body)
        trace = " ".join(str(body.get("trace", "")).split())
        if not trace:
            raise UserError("The trace is empty; write a sentence or compose it from the fields.")
        _check_evidence(label, causes)
        if self.two_stage:
            self._check_named(index, causes)
        after = replace(label, causes=causes, trace=trace, **decision)
        kept = tuple(v for v in label.verdicts if v.check not in {check.__name__ for check in CHECKS})
        return replace(after, verdicts=(*kept, *(check(after, self._evidence(after)) for check in CHECKS)))

    def _check_named(self, index: int, causes: tuple[Cause, ...]) -> None:
        named = self.log.named_causes(index)
        late = [cause.text for cause in causes if named is not None and cause not in named.causes]
        if late:
            raise UserError(
                f"The cause {late[0]!r} was not named before the future was shown; causes may be dropped now, not "
                "added or reworded."
            )

    def _label(self, index: int) -> CocLabel:
        if not 0 <= index < len(self.log.labels):
            raise UserError(f"There is no label {index}; 0 to {len(self.log.labels) - 1} expected.")
        return self.log.labels[index]


def _title(label: CocLabel) -> str:
    parts = (label.decision_longitudinal, label.decision_lateral, label.direction)
    return ", ".join(part.replace("_", " ") for part in parts if part) or "no decision"


def _fields(label: CocLabel) -> dict[str, Any]:
    return {name: getattr(label, name) for name in FIELDS} | {"causes": [asdict(cause) for cause in label.causes]}


def _decision(body: Mapping[str, Any]) -> dict[str, str | None]:
    """The three closed fields. Raises UserError for a word outside its set or a side that does not fit."""
    decision: dict[str, str | None] = {}
    for name in FIELDS[:3]:
        value = body.get(name) or None
        if value is not None and value not in WORDS[name]:
            raise unknown_name(name.replace("_", " "), str(value), WORDS[name])
        decision[name] = value
    lateral, side = decision["decision_lateral"], decision["direction"]
    if lateral in DIRECTED_LATERAL and side is None:
        raise UserError(f"The decision {lateral} needs a side: choose left or right.")
    if side is not None and lateral not in SIDED_LATERAL:
        raise UserError(f"A side ({side}) stands beside {lateral or 'no lateral decision'}, which has none: remove it.")
    return decision


def _causes(body: Mapping[str, Any]) -> tuple[Cause, ...]:
    entries = body.get("causes", [])
    if not isinstance(entries, list):
        raise UserError(f"causes is {type(entries).__name__}; a list expected.")
    return tuple(_cause(entry, number) for number, entry in enumerate(entries, 1))


def _cause(entry: Any, number: int) -> Cause:
    if not isinstance(entry, dict):
        raise UserError(f"Cause {number} is {type(entry).__name__}; an object with category and text expected.")
    text, kind = " ".join(str(entry.get("text") or "").split()), entry.get("kind") or None
    category, evidence = entry.get("category") or None, entry.get("evidence_t_us")
    if not text:
        raise UserError(f"Cause {number} has no text; say in a few words what was seen.")
    if category not in CAUSE_CATEGORIES:
        raise unknown_name(f"Cause {number}: category", str(category), CAUSE_CATEGORIES)
    if kind is not None and kind not in CAUSE_KINDS:
        raise unknown_name(f"Cause {number}: kind", str(kind), CAUSE_KINDS)
    if kind is not None and CAUSE_KINDS[kind] != category:
        raise UserError(
            f"Cause {number}: {kind} belongs to {CAUSE_KINDS[kind]}, not to {category}; change one of them."
        )
    if evidence is not None and (isinstance(evidence, bool) or not isinstance(evidence, int)):
        raise UserError(f"Cause {number}: evidence time is {evidence!r}; whole microseconds expected.")
    return Cause(category, text, kind, entry.get("agent_id") or None, evidence)


def _check_evidence(label: CocLabel, causes: tuple[Cause, ...]) -> None:
    for cause in causes:
        seen = cause.evidence_t_us
        if seen is not None and not label.t0_us - HISTORY_US <= seen <= label.t0_us:
            raise UserError(
                f"The evidence of {cause.text!r} lies {(seen - label.t0_us) / 1e6:+.1f} s from t0; a moment in the 2 s "
                "before t0 expected, since a cause must have been seen."
            )


def _composed(decision: Mapping[str, str | None], causes: tuple[Cause, ...]) -> str:
    return compose(decision["decision_longitudinal"], decision["decision_lateral"], decision["direction"], causes)
