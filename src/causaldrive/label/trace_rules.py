"""Keyword rules that read decisions and causes from free English, as other teachers write it.

Two tables say everything: which words name a decision, which words name a cause. A cause that is denied ("no
pedestrian") is none. Input is lower case. Knows nothing of our own sentences, files or motion.
"""

from __future__ import annotations

import re

from causaldrive.ground.words import CAUSE_KINDS, LATERAL_DECISIONS, LONGITUDINAL_DECISIONS

_CAR = r"(?:cars?|vehicles?|trucks?|bus(?:es)?|vans?|suvs?|motorcycles?|traffic|obstacle)"
_LIGHT = r"\b(?:traffic )?(?:light|signal)s?\b"
_OUT = r"(?:out of|across|over|beyond)"
_NOT = re.compile(r"\b(?:no|not|without|isn't|aren't|never|nor|neither|none|free of|clear of)\b")
_NOT_AFTER = re.compile(
    r"\b(?:not|n't) (?:crossing|entering|cutting|relevant|the reason|in (?:our|the) (?:way|lane|path))\b"
)
_REASON = re.compile(
    r"\b(?:because(?: of)?|due to|since|given|in response to|owing to|to avoid|caused by)\b"
    r"|(?<=\w)\s+as\s+(?=(?:the|a|an)\b)"
)
# Words that name an object even where no reason is spelled out: "slow down for the red light".
_OBJECT = re.compile(r"\b(?:for|to|behind|around|past)\s+(?=(?:the|a|an|our)\b)")
_CLAUSE = re.compile(r",|;|:|\.|\bbut\b|\bwhile\b|\bwhich\b|\band (?=(?:the|a|an|no|there|our|we|construction)\b)")

_Alternatives = dict[str, tuple[str, ...]]
_LONGITUDINAL: _Alternatives = {
    "lead_obstacle_following": (
        r"\bfollow\w*\b(?! (?:the|our|its) lane)",
        r"\bkeep\w*(?: \w+)? (?:gap|distance)",
        r"\b(?:safe|time) gap",
        rf"\bbehind the (?:lead|{_CAR})",
    ),
    "speed_adaptation": (
        r"\b(?:adapt|adjust|reduc|lower)\w* (?:\w+ )?speed",
        r"\bslow\w* (?:down\b|(?:down )?(?:for|in|into|through) )",
        r"\bdecelerat\w*",
        r"\bbrak(?:e|es|ing)\b",
    ),
    "gap_searching": (r"\b(?:search|look|wait|seek)\w* (?:for )?(?:a|the) gap", r"\bgap.search\w*"),
    "acceleration_for_passing": (
        r"\b(?:speed\w* up|accelerat\w*) to (?:pass|overtake)",
        r"\bovertak\w*",
        r"\bpass(?:es|ing)? the (?:slow|lead)",
    ),
    "yield": (
        r"\byield\w*",
        r"\bgiv(?:e|es|ing) way",
        r"\blet\w* (?:\w+ ){0,4}(?:cross|pass|in|merge|through)\b",
    ),
    "stop_for_static_constraint": (
        r"\bstop\w*(?! (?:car|vehicle|truck|bus|van|sign|line|traffic|light|pedestrian))\b",
        r"\b(?:remain|stay|wait)\w* (?:stopped|stationary|at)",
        r"\bcom(?:e|es|ing) to (?:a|rest)",
    ),
    "set_speed_tracking": (
        r"\b(?:keep|maintain|hold|resum|track|continu)\w* (?:at )?(?:\w+ ){0,2}?(?:speed|pace)",
        r"\bresum\w*",
        r"\bset.speed",
        r"\bproceed\w*",
        r"\bpull\w* away",
        r"\b(?:accelerat\w*|speed\w* up)\b(?! to (?:pass|overtake))",
        r"\b(?:continu\w* driving|cruis\w*|driv(?:e|es|ing) on)",
    ),
}
_LATERAL: _Alternatives = {
    "lane_keeping": (
        r"\b(?:keep|stay|remain|hold|maintain|follow)\w* (?:\w+ )?(?:(?:in|within) )?"
        r"(?:(?:the|our|its) )?(?:(?:current|same) )?lane",
        r"\band the lane$",
        r"\bcent(?:er|re)d?\b",
        r"\b(?:go|keep|continu|driv)\w* straight",
        r"\blane.keep\w*",
    ),
    "merge_split": (r"\bmerg\w*", r"\btak(?:e|es|ing) the (?:exit|ramp|fork)", r"\bsplit\b"),
    "out_of_lane_nudge": (
        rf"\bnudg\w* (?:\w+ ){{0,4}}{_OUT} (?:(?:the|our|its) )?lane",
        r"\b(?:straddl|swerv)\w*",
        r"\b(?:cross|leav)\w* (?:(?:the|our) )?(?:lane|centre|center) ?(?:line)?(?: briefly)?",
    ),
    "in_lane_nudge": (
        rf"\b(?:nudg|shift|bias|offset|mov)\w*(?!.{{0,30}}\b{_OUT}\b.{{0,6}}lane)(?!.{{0,12}}to the \w+ lane)"
        r"(?: \w+){0,3}? (?:left|right)",
    ),
    "lane_change": (
        r"\blane.chang\w*",
        r"\bchang\w* (?:to )?(?:(?:the|into the) )?(?:\w+ )?lanes?",
        r"\bmov\w* (?:in)?to the (?:left|right) lane",
    ),
    "pull_over": (r"\bpull\w* over", r"\bkerb", r"\bcurb"),
    "turn": (r"\bturn(?:s|ing)? (?:\w+ )?(?:left|right)", r"\b(?:left|right) turn", r"\bu-turn"),
    "lateral_abort": (r"\babort\w*", r"\breturn\w* to (?:the|our) lane", r"\bcancel\w*"),
}
_CAUSES: _Alternatives = {  # order matters: the first that matches a clause takes it
    "unobserved": (r"\b(?:not observed|unobserved|unknown|not visible|cannot be seen)\b",),
    "stop_sign": (r"\bstop sign", r"\b(?:all|four).way stop"),
    "green_light": (rf"\bgreen\b.*{_LIGHT}", rf"{_LIGHT}.*\bgreen\b"),
    "red_light": (rf"\bred\b.*{_LIGHT}", rf"{_LIGHT}.*\bred\b"),
    "yellow_light": (rf"\b(?:yellow|amber)\b.*{_LIGHT}", rf"{_LIGHT}.*\b(?:yellow|amber)\b"),
    "school_bus": (r"\bschool bus(?:es)?\b",),
    "emergency_vehicle": (r"\b(?:emergency vehicles?|ambulances?|fire (?:engine|truck)s?|police cars?|sirens?)\b",),
    "speed_bump": (r"\b(?:speed )?(?:bump|hump)s?\b",),
    "construction": (r"\b(?:construction|road ?works?|work zone|(?:traffic )?cones?|barriers?)\b",),
    "lane_ends": (r"\blane (?:\w+ )?(?:ends?|ending|drops?|closes)\b", r"\bend of (?:our|the) lane"),
    "route_lane": (r"\broute\b.*\blane\b", r"\blane\b.*\broute\b"),
    "risky_vehicle": (
        rf"{_CAR}.*\b(?:swerv|weav|erratic|reckless)\w*",
        rf"{_CAR}.*\b(?:straddl\w*|on the line between|the wrong way)\b",
        rf"\b(?:swerving|weaving|erratic|reckless) {_CAR}",
    ),
    "oncoming_vehicle": (rf"\boncoming (?:\w+ )?{_CAR}", rf"{_CAR}.*\b(?:oncoming|towards? us)\b"),
    "neighbour_vehicle": (rf"{_CAR} (?:\w+ )?(?:beside|alongside|next to) us\b",),
    "cyclist": (r"\b(?:cyclists?|bicycl\w*|bikes?|riders?)\b",),
    "pedestrian_waiting": (r"\b(?:pedestrians?|persons?|people|walkers?)\b.*\bwait(?:s|ing)?\b.*\b(?:curb|kerb|side)",),
    "pedestrian_crossing": (r"\b(?:pedestrians?|persons?|people|walkers?|child(?:ren)?|jaywalk\w*)\b",),
    "merging_vehicle": (
        rf"{_CAR} (?:(?:that|which) is |already )?(?:in|on) the (?:roundabout|circle|main road|motorway|highway)",
        rf"\b(?:merging|circling|circulating) {_CAR}",
    ),
    "crossing_vehicle": (
        rf"\b(?:crossing|cross) {_CAR}",
        rf"{_CAR} (?:\w+ ){{0,3}}(?:came|arrived|was|were) (?:\w+ )?first",
        rf"{_CAR} (?:\w+ ){{0,3}}(?:has|have|had) (?:the )?(?:right of way|priority)",
    ),
    "cut_in_vehicle": (
        r"\bcut(?:s|ting)?[- ]in",
        rf"{_CAR}.*\b(?:mov|merg|chang|com)\w* (?:in)?to (?:our|the ego|my|this) lane",
    ),
    "stopped_vehicle": (
        rf"\b(?:stopped|parked|stationary|stalled|broken.down|double.parked|disabled) {_CAR}",
        rf"{_CAR}.*\bblock\w*",
        rf"{_CAR} (?:(?:is|are) )?(?:parked|stalled|broken)",
    ),
    "lead_vehicle": (
        rf"\blead(?:ing)? {_CAR}",
        r"\bthe lead\b",
        rf"{_CAR} (?:\w+ )?(?:ahead|in front)",
        rf"\b(?:slow|slower|slowing|braking) {_CAR}",
    ),
    "sharp_curve": (r"\b(?:curves?|bends?|corners?)\b",),
}
assert set(_CAUSES) == set(CAUSE_KINDS) and set(_LONGITUDINAL) == set(LONGITUDINAL_DECISIONS)
assert set(_LATERAL) == set(LATERAL_DECISIONS)


def _compile(table: _Alternatives) -> dict[str, re.Pattern[str]]:
    return {name: re.compile("|".join(alternatives)) for name, alternatives in table.items()}


_LONGITUDINAL_RULES, _LATERAL_RULES, _CAUSE_RULES = (_compile(table) for table in (_LONGITUDINAL, _LATERAL, _CAUSES))


def split_reason(sentence: str) -> tuple[str, str]:
    """(decision part, reason part); a sentence that gives no reason in so many words is both."""
    found = _REASON.search(sentence)
    if found:
        head, tail = sentence[: found.start()], sentence[found.end() :]
        return (head.strip(" ,"), tail) if head.strip(" ,") else _reason_first(tail)
    named = _OBJECT.search(sentence)
    return sentence, sentence[named.end() :] if named else sentence


def _reason_first(tail: str) -> tuple[str, str]:
    """'Because the light is red, stop.'"""
    reason, _, decision = tail.partition(",")
    return decision, reason


def longitudinal_of(decision: str, reason: str) -> tuple[str, ...]:
    """Longitudinal decisions that the words name: one where they agree, several where they contradict."""
    found = [name for name, rule in _LONGITUDINAL_RULES.items() if _said(rule, decision)]
    if len(found) > 1 and "speed_adaptation" in found:
        found.remove("speed_adaptation")  # "slow down and stop": slowing is how, not what
    if len(found) > 1 and "acceleration_for_passing" in found and "set_speed_tracking" in found:
        found.remove("set_speed_tracking")
    return (_why_slow(reason),) if found == ["speed_adaptation"] else tuple(found)


def _why_slow(reason: str) -> str:
    """Slowing is named by its reason: for a light it is a stop, for a person it is yielding."""
    kinds = cause_kinds(reason)
    if {"red_light", "yellow_light", "stop_sign", "school_bus"} & set(kinds):
        return "stop_for_static_constraint"
    yielded = {"pedestrian_crossing", "cut_in_vehicle", "emergency_vehicle", "oncoming_vehicle", "risky_vehicle"}
    if (yielded | {"crossing_vehicle"}) & set(kinds):
        return "yield"
    return "lead_obstacle_following" if "lead_vehicle" in kinds else "speed_adaptation"


def lateral_of(decision: str) -> tuple[str, ...]:
    """Lateral decisions that the words name."""
    found = [name for name, rule in _LATERAL_RULES.items() if _said(rule, decision)]
    if "out_of_lane_nudge" in found and "in_lane_nudge" in found:
        found.remove("in_lane_nudge")
    return tuple(found)


def direction_of(decision: str) -> str | None:
    """The side named, None when none or both are."""
    sides = set(re.findall(r"\b(left|right)\b", decision))
    return sides.pop() if len(sides) == 1 else None


def cause_kinds(reason: str) -> tuple[str, ...]:
    """Kinds named in the reason, in order, each once; denied ones left out."""
    kinds: list[str] = []
    for clause in _CLAUSE.split(reason):
        for kind, rule in _CAUSE_RULES.items():
            if kind not in kinds and ((kind == "unobserved" and rule.search(clause)) or _said(rule, clause)):
                kinds.append(kind)
                break
    return tuple(kinds)


def _said(rule: re.Pattern[str], text: str) -> bool:
    """It matches, and nothing denies it: in the match, three words before, or "is not crossing" after."""
    for match in rule.finditer(text):
        before = " ".join(text[: match.start()].split()[-3:])
        denied = _NOT.search(before) or _NOT.search(match.group()) or _NOT_AFTER.search(text, match.end())
        if not denied:
            return True
    return False
