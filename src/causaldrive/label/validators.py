"""Deterministic checks of a label: each says passed, failed or cannot judge, and why.

A label is accepted when no check fails. Checks need no model and no picture: closed sets, one decision an axis, side
named and sane, evidence inside the history window, decision agrees with the motion that followed and with its causes,
keyword rules with their exemptions, trace agrees with its own fields; `scene_checks` asks the annotations. Keyword
rules are our own addition to the paper (the paper has none). Knows nothing of files or teachers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from causaldrive.ground.words import (
    CAUSE_CATEGORIES,
    CAUSE_KINDS,
    DIRECTED_LATERAL,
    DIRECTIONS,
    LATERAL_DECISIONS,
    LONGITUDINAL_DECISIONS,
)
from causaldrive.label.consistency import LIMITS, SpeedProfile, judge
from causaldrive.label.course_checks import course_faults, turn_faults
from causaldrive.label.evidence import HISTORY_US, Evidence
from causaldrive.label.scene_checks import causes_are_as_said, causes_exist, undisturbed, unknown, verdict
from causaldrive.label.side_checks import BLOCKED_SIDE, curve_faults, side_faults
from causaldrive.label.timing_checks import in_time
from causaldrive.label.trace import SIDED_LATERAL, UNOBSERVED, ParsedTrace, parse
from causaldrive.label.trace_rules import cause_kinds
from causaldrive.label.types import Cause, CocLabel, Verdict

_EASY_MPS2 = 0.5  # a stop that needs less braking than this is still far ahead
_BRISK_MPS = 1.5  # gain of speed within `_WITHIN_S` that no braking lead or crossing person allows
_WITHIN_S = 2.0


def validate(label: CocLabel, evidence: Evidence) -> CocLabel:
    """The label with a verdict of each check, in the order of `CHECKS`, and its status."""
    verdicts = (*label.verdicts, *(check(label, evidence) for check in CHECKS))
    failed = any(verdict.passed is False for verdict in verdicts)
    return replace(label, verdicts=verdicts, status="rejected" if failed else "accepted")


def closed_sets(label: CocLabel, evidence: Evidence) -> Verdict:
    """Every closed field holds a word of its set, and a cause's kind belongs to its category."""
    faults = []
    for name, known in (
        ("decision_longitudinal", LONGITUDINAL_DECISIONS),
        ("decision_lateral", LATERAL_DECISIONS),
        ("direction", DIRECTIONS),
    ):
        value = getattr(label, name)
        if value is not None and value not in known:
            faults.append(f"{name} {value!r} is none of the closed set")
    for cause in label.causes:
        if cause.category not in CAUSE_CATEGORIES:
            faults.append(f"cause category {cause.category!r} is none of the closed set")
        if cause.kind is not None and CAUSE_KINDS.get(cause.kind) != cause.category:
            faults.append(f"cause kind {cause.kind!r} does not belong to category {cause.category!r}")
    return verdict("closed_sets", faults)


def one_per_axis(label: CocLabel, evidence: Evidence) -> Verdict:
    """The trace speaks of one decision an axis, and the label holds at least one."""
    faults = [problem for problem in parse(label.trace).problems if "contradict" in problem]
    if label.decision_longitudinal is None and label.decision_lateral is None:
        faults.append("the label holds no decision")
    return verdict("one_per_axis", faults)


def direction_named(label: CocLabel, evidence: Evidence) -> Verdict:
    """A side is named where the decision needs one, nowhere else, and it is not the side that is blocked."""
    lateral, side = label.decision_lateral, label.direction
    faults = []
    if lateral in DIRECTED_LATERAL and side is None:
        faults.append(f"{lateral} names no side")
    if side is not None and lateral not in SIDED_LATERAL:
        faults.append(f"{lateral} has no side, found {side}")
    for cause in label.causes:
        faults.extend(curve_faults(cause, evidence))
    return verdict("direction_named", [*faults, *side_faults(label, evidence)])


def evidence_in_history(label: CocLabel, evidence: Evidence) -> Verdict:
    """Causal locality: every cause was seen in the 2 s up to t0, none after."""
    faults, untimed = [], []
    for cause in label.causes:
        if cause.evidence_t_us is None:
            untimed.append(cause.text)
            continue
        late_s = (cause.evidence_t_us - label.t0_us) / 1e6
        if late_s > 0:
            faults.append(f"evidence of '{cause.text}' comes {late_s:.1f} s after t0")
        elif late_s < -HISTORY_US / 1e6:
            faults.append(f"evidence of '{cause.text}' is {-late_s:.1f} s old, at most 2 s expected")
    open_ones = [text for text in untimed if text != UNOBSERVED]
    if open_ones and not faults:
        return unknown("evidence_in_history", f"no time of evidence for '{open_ones[0]}'")
    return verdict("evidence_in_history", faults)


def decision_matches_motion(label: CocLabel, evidence: Evidence) -> Verdict:
    """The car did what was decided, on each axis that was decided; it is also held against the way to go."""
    if evidence.motion is None:
        return unknown("decision_matches_motion", "the motion after t0 is not known")
    spoken = ParsedTrace(label.decision_longitudinal, label.decision_lateral, label.direction, ())
    if spoken.longitudinal not in (None, *LONGITUDINAL_DECISIONS) or spoken.lateral not in (None, *LATERAL_DECISIONS):
        return unknown("decision_matches_motion", "the decision is none of the closed set")
    result = judge(spoken, evidence.motion)
    faults = [
        f"{decision} is not what the car did"
        for decision, agrees in ((spoken.longitudinal, result.longitudinal), (spoken.lateral, result.lateral))
        if agrees is False
    ]
    faults += [*course_faults(label, evidence.motion), *turn_faults(label, evidence)]
    return verdict("decision_matches_motion", faults)


@dataclass(frozen=True)
class KeywordRule:
    """A cause that cannot go with a motion: `forbids(profile)` is true of the motion it cannot go with."""

    fault: str
    words: re.Pattern[str]  # in the text of a cause
    forbids: Callable[[SpeedProfile], bool]
    exempt: re.Pattern[str]
    far_is_exempt: bool = False


_ELSEWHERE = (
    r"far ahead|in the distance|(?:other|left|right|next|cross|oncoming|turn)\w* (?:\w+ )?(?:lane|traffic|road)"
)
KEYWORD_RULES = (
    KeywordRule(
        "a red light, stop sign or school bus is named but the car does not slow",
        re.compile(r"\bred\b.*\blight|\blight\b.*\bred\b|\bstop sign|\bschool bus"),
        lambda speed: not (speed.slows or speed.stands),
        re.compile(rf"\bgreen\b|{_ELSEWHERE}"),
        far_is_exempt=True,
    ),
    KeywordRule(
        "a green light is named but the car slows down",
        re.compile(r"\bgreen\b.*\blight|\blight\b.*\bgreen\b"),
        lambda speed: speed.drop(_WITHIN_S) > _BRISK_MPS,
        re.compile(_ELSEWHERE),
    ),
    KeywordRule(
        "a speed bump is named but the car speeds up",
        re.compile(r"\bspeed (?:bump|hump)"),
        lambda speed: speed.rise(_WITHIN_S) > _BRISK_MPS,
        re.compile(r"\bpassed|\bbehind us|far ahead"),
        far_is_exempt=True,
    ),
    KeywordRule(
        "a crossing person or a braking car is named but the car speeds up",
        re.compile(r"\bcrossing\b|\bbraking\b"),
        lambda speed: speed.rise(_WITHIN_S) > _BRISK_MPS,
        re.compile(r"\bhas crossed|\bfinished|\bcleared|far ahead"),
        far_is_exempt=True,
    ),
)


def keyword_rules(label: CocLabel, evidence: Evidence) -> Verdict:
    """No cause's words deny the motion; exempt: standing already, far ahead, another lane's, turned green."""
    if evidence.motion is None:
        return unknown("keyword_rules", "the motion after t0 is not known")
    speed = SpeedProfile(evidence.motion.speed_mps, LIMITS)
    faults = [
        rule.fault
        for rule in KEYWORD_RULES
        for cause in label.causes
        if rule.words.search(cause.text)
        and not rule.exempt.search(cause.text)
        and not (rule.far_is_exempt and _is_far(cause, speed.now, evidence))
        and rule.forbids(speed)
    ]
    return verdict("keyword_rules", faults)


def _is_far(cause: Cause, speed_mps: float, evidence: Evidence) -> bool:
    """d > v^2 / 2a for an easy a: nothing has to happen yet."""
    distance = evidence.distance_m.get(cause.agent_id or "")
    return distance is not None and speed_mps > LIMITS.still_mps and distance > speed_mps**2 / (2 * _EASY_MPS2)


def trace_matches_fields(label: CocLabel, evidence: Evidence) -> Verdict:
    """Reading the trace gives back the label's decision, side, and kinds of causes."""
    said = parse(label.trace)
    faults = [
        f"the trace says {name} {found}, the field says {expected}"
        for name, found, expected in (
            ("longitudinal", said.longitudinal, label.decision_longitudinal),
            ("lateral", said.lateral, label.decision_lateral),
            ("direction", said.direction, label.direction),
        )
        if found != expected
    ]
    kinds = {cause.kind for cause in label.causes if cause.kind is not None}
    if all(cause.kind is not None for cause in label.causes) and set(said.cause_kinds) != kinds:
        faults.append(f"the trace names {sorted(said.cause_kinds)}, the fields {sorted(kinds)}")
    return verdict("trace_matches_fields", faults)


_SIDEWAYS = ("in_lane_nudge", "out_of_lane_nudge", "lane_change")
_FITS: dict[str, tuple[str, ...]] = {  # kind of cause -> decisions of either axis that it can make
    "lead_vehicle": ("lead_obstacle_following", "acceleration_for_passing", *_SIDEWAYS),
    "cut_in_vehicle": ("yield", "lateral_abort", *_SIDEWAYS),
    "stopped_vehicle": ("stop_for_static_constraint", "lead_obstacle_following", *_SIDEWAYS),
    "pedestrian_crossing": ("yield", "lateral_abort", *_SIDEWAYS),
    "cyclist": ("yield", "lead_obstacle_following", "acceleration_for_passing", *_SIDEWAYS),
    "red_light": ("stop_for_static_constraint",),
    "yellow_light": ("stop_for_static_constraint",),
    "green_light": ("set_speed_tracking",),
    "stop_sign": ("stop_for_static_constraint",),
    "crossing_vehicle": ("yield",),
    "oncoming_vehicle": ("yield", *_SIDEWAYS),
    "merging_vehicle": ("gap_searching", "yield"),
    "sharp_curve": ("speed_adaptation",),
    "speed_bump": ("speed_adaptation",),
    "pedestrian_waiting": ("set_speed_tracking",),
    "risky_vehicle": ("yield", "lead_obstacle_following"),
    "neighbour_vehicle": ("gap_searching", "lateral_abort"),
    "lane_ends": ("merge_split", "lane_change", "lateral_abort"),
    "route_lane": ("merge_split", "lane_change", "lateral_abort"),
    "construction": ("stop_for_static_constraint", "speed_adaptation", "merge_split", *_SIDEWAYS),
    "school_bus": ("stop_for_static_constraint",),
    "emergency_vehicle": ("yield", "pull_over"),
}
_STANDS = re.compile(r"\b(?:stopped|parked|standing|stationary|broken)\b")
_BESIDE = re.compile(r"\bin the (?:left|right|next|other) lane\b")
_RIGHT_OF_WAY = re.compile(r"\b(?:cross|merg|oncoming|turn|emergency|right of way|pull\w* out|revers)")
_GOING = ("set_speed_tracking", "acceleration_for_passing")
_NEED_NO_CAUSE = (None, "set_speed_tracking", "lane_keeping", "turn")  # where the way to go turns, the map tells


def causes_fit_decision(label: CocLabel, evidence: Evidence) -> Verdict:
    """Each decision but driving on has a cause that can make it, and no cause speaks against it.

    What each kind of cause can make is `_FITS` (the paper's table of decisions: a cut-in is yielded to, a red light
    stopped for). Causes whose kind is not known, or that were not observed, can make anything.
    """
    kinds = [_kind_of(cause) for cause in label.causes]
    if "unobserved" in kinds:
        return verdict("causes_fit_decision", [])
    if any(kind not in _FITS for kind in kinds):
        return unknown("causes_fit_decision", "a cause is not of a known kind")
    fits = [_fits(cause, str(kind), label) for cause, kind in zip(label.causes, kinds, strict=True)]
    decisions = (label.decision_longitudinal, label.decision_lateral)
    joins = evidence.motion is not None and evidence.motion.joins
    free = (*_NEED_NO_CAUSE, "merge_split") if joins else _NEED_NO_CAUSE
    faults = [
        f"nothing named is a reason for {decision}"
        for decision in decisions
        if decision not in free and not any(decision in made for made in fits)
    ]
    for cause, made in zip(label.causes, fits, strict=True):
        against = label.decision_longitudinal in _GOING or "set_speed_tracking" in made
        if against and not set(decisions) & set(made):
            faults.append(f"'{cause.text}' is no reason for {label.decision_longitudinal}")
    return verdict("causes_fit_decision", faults)


def _kind_of(cause: Cause) -> str | None:
    return cause.kind or next(iter(cause_kinds(cause.text.lower())), None)


def _fits(cause: Cause, kind: str, label: CocLabel) -> tuple[str, ...]:
    """What one cause can make. A vehicle that has the right of way is yielded to, whatever else it is."""
    vehicle = kind in ("lead_vehicle", "stopped_vehicle")
    made = (*_FITS[kind], "yield") if vehicle and _RIGHT_OF_WAY.search(cause.text) else _FITS[kind]
    idle = _cannot_make(cause.text, kind, label.decision_lateral)
    return tuple(decision for decision in made if decision not in idle)


def _cannot_make(text: str, kind: str, lateral: str | None) -> set[str]:
    """What a kind of cause could make, but not this one.

    Who is beside us is not followed; nobody is passed by who keeps the lane behind; and no room within the lane is
    made for one who drives ahead in it.
    """
    if (kind == "stopped_vehicle" and BLOCKED_SIDE.search(text)) or (kind == "risky_vehicle" and _BESIDE.search(text)):
        return {"lead_obstacle_following"}
    if kind != "lead_vehicle":
        return set()
    passes = {"acceleration_for_passing"} if lateral == "lane_keeping" else set()
    return passes if _STANDS.search(text) else {*passes, "in_lane_nudge"}


CHECKS: tuple[Callable[[CocLabel, Evidence], Verdict], ...] = (
    closed_sets,
    one_per_axis,
    direction_named,
    evidence_in_history,
    decision_matches_motion,
    keyword_rules,
    trace_matches_fields,
    causes_exist,
    undisturbed,
    causes_fit_decision,
    causes_are_as_said,
    in_time,
)
