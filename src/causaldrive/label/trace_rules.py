"""Keyword rules that read decisions and causes from free English, as other teachers write it.

Two tables say everything: which words name a decision, which words name a cause. A cause that is denied ("no
pedestrian") is none. Input is lower case. Knows nothing of our own sentences, files or motion.
"""

from __future__ import annotations

import re

from causaldrive.ground.words import CAUSE_KINDS, LATERAL_DECISIONS, LONGITUDINAL_DECISIONS

_CAR = r"(?:cars?|vehicles?|trucks?|bus(?:es)?|vans?|suvs?|motorcycles?|traffic|obstacle)"
_NOT = re.compile(r"\b(?:no|not|without|isn't|aren't|never|nor|neither|none|free of|clear of)\b")
_REASON = re.compile(
    r"\b(?:because(?: of)?|due to|since|given|in response to|owing to|to avoid|caused by)\b|(?<=\w)\s+as\s+(?=(?:the|a|an)\b)"
)
# Words that name an object even where no reason is spelled out: "slow down for the red light".
_OBJECT = re.compile(r"\b(?:for|to|behind|around|past)\s+(?=(?:the|a|an|our)\b)")

_LONGITUDINAL = {
    "lead_obstacle_following": rf"\bfollow\w*\b|\bkeep\w*( \w+)? (gap|distance)|\b(safe|time) gap|\bbehind the (lead|{_CAR})",
    "speed_adaptation": r"\b(adapt|adjust|reduc|lower)\w* (\w+ )?speed|\bslow\w* (down )?(for|in|into|through) (\w+ ){0,3}?"
    r"(curve|bend|corner|turn|bump|ramp|roundabout|junction|intersection)|\bslow\w* down\b|\bdecelerat\w*|\bbrak(e|es|ing)\b",
    "gap_searching": r"\b(search|look|wait)\w* for (a|the) gap|\bgap.search\w*",
    "acceleration_for_passing": r"\b(speed\w* up|accelerat\w*) to (pass|overtake)|\bovertak\w*|\bpass(es|ing)? the (slow|lead)",
    "yield": r"\byield\w*|\bgiv(e|es|ing) way|\blet\w* (\w+ ){0,4}(cross|pass|in|merge|through)\b",
    "stop_for_static_constraint": r"\bstop\w*(?! (car|vehicle|truck|bus|van|sign|line|traffic|light|pedestrian))\b|\b(remain|stay|wait)\w* "
    r"(stopped|stationary|at)|\bcom(e|es|ing) to (a|rest)",
    "set_speed_tracking": r"\b(keep|maintain|hold|resum|track|continu)\w* (at )?(\w+ ){0,2}?(speed|pace)|\bresum\w*|\bset.speed|"
    r"\bproceed\w*|\bpull\w* away|\baccelerat\w*(?! to (pass|overtake))|\bspeed\w* up\b(?! to (pass|overtake))|\bcontinu\w* driving|"
    r"\bcruis\w*|\bdriv(e|es|ing) on",
}
_LATERAL = {
    "lane_keeping": r"\b(keep|stay|remain|hold|maintain|follow)\w* (\w+ )?(in |within )?(the |our |its )?(current |same )?lane|\band the lane$|"
    r"\bcent(er|re)d?\b|\b(go|keep|continu|driv)\w* straight|\blane.keep\w*",
    "merge_split": r"\bmerg\w*|\btak(e|es|ing) the (exit|ramp|fork)|\bsplit\b",
    "out_of_lane_nudge": r"\bnudg\w* (\w+ ){0,4}(out of|across|over|beyond) (the |our |its )?lane|\b(straddl|swerv)\w*|"
    r"\b(cross|leav)\w* (the |our )?(lane|centre|center) ?(line)?( briefly)?",
    "in_lane_nudge": r"\b(nudg|shift|bias|offset|mov)\w*(?!.{0,30}\b(out of|across|over|beyond)\b.{0,6}lane)(?!.{0,12}to the \w+ lane)"
    r"( \w+){0,3}? (left|right)",
    "lane_change": r"\b(lane.chang\w*|chang\w* (to )?(the |into the )?(\w+ )?lanes?)|\bmov\w* (in)?to the (left|right) lane",
    "pull_over": r"\bpull\w* over|\bkerb|\bcurb",
    "turn": r"\bturn(s|ing)? (\w+ )?(left|right)|\b(left|right) turn|\bu-turn",
    "lateral_abort": r"\babort\w*|\breturn\w* to (the|our) lane|\bcancel\w*",
}
_LEAD = rf"\blead(ing)? ({_CAR}|pedestrian)|\bthe lead\b|{_CAR} (\w+ )?(ahead|in front)|\b(slow|slower|slowing|braking) {_CAR}"
_LIGHT = r"\b(traffic )?(light|signal)s?\b"
_CAUSES = {  # order matters: the first match in a clause takes it
    "unobserved": r"\b(not observed|unobserved|unknown|not visible|cannot be seen)\b",
    "stop_sign": r"\bstop sign|\ball.way stop|\bfour.way stop",
    "green_light": rf"\bgreen\b.*{_LIGHT}|{_LIGHT}.*\bgreen\b",
    "red_light": rf"\bred\b.*{_LIGHT}|{_LIGHT}.*\bred\b",
    "yellow_light": rf"\b(yellow|amber)\b.*{_LIGHT}|{_LIGHT}.*\b(yellow|amber)\b",
    "cyclist": r"\b(cyclists?|bicycl\w*|bikes?|riders?)\b",
    "pedestrian_crossing": r"\b(pedestrians?|persons?|people|walkers?|child(ren)?|jaywalk\w*)\b",
    "cut_in_vehicle": rf"\bcut(s|ting)?[- ]in|{_CAR}.*\b(mov|merg|chang|com)\w* (in)?to (our|the ego|my|this) lane",
    "stopped_vehicle": rf"\b(stopped|parked|stationary|stalled|broken.down|double.parked|disabled) {_CAR}|{_CAR}.*\bblock\w*|"
    rf"{_CAR} (is |are )?(parked|stalled|broken)",
    "lead_vehicle": _LEAD,
    "sharp_curve": r"\b(curves?|bends?|corners?)\b",
}
assert set(_CAUSES) == set(CAUSE_KINDS) and set(_LONGITUDINAL) == set(LONGITUDINAL_DECISIONS)
assert set(_LATERAL) == set(LATERAL_DECISIONS)
_CAUSE_RULES = {kind: re.compile(pattern) for kind, pattern in _CAUSES.items()}
_LONGITUDINAL_RULES = {name: re.compile(pattern) for name, pattern in _LONGITUDINAL.items()}
_LATERAL_RULES = {name: re.compile(pattern) for name, pattern in _LATERAL.items()}
_CLAUSE = re.compile(r",|;|:|\.|\bbut\b|\bwhile\b|\bwhich\b|\band (?=(?:the|a|an|no|there|our)\b)")


def split_reason(sentence: str) -> tuple[str, str]:
    """(decision part, reason part); a sentence that gives no reason in so many words is both."""
    found = _REASON.search(sentence)
    if found:
        head, tail = sentence[: found.start()], sentence[found.end() :]
        return (head, tail) if head.strip(" ,") else _reason_first(tail)
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
    if {"red_light", "yellow_light", "stop_sign"} & set(kinds):
        return "stop_for_static_constraint"
    if {"pedestrian_crossing", "cut_in_vehicle"} & set(kinds):
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
            if kind not in kinds and (kind == "unobserved" and rule.search(clause) or _said(rule, clause)):
                kinds.append(kind)
                break
    return tuple(kinds)


def _said(rule: re.Pattern[str], text: str) -> bool:
    """The rule matches, and no denial stands in the match or in the three words before it."""
    for match in rule.finditer(text):
        before = " ".join(text[: match.start()].split()[-3:])
        if not _NOT.search(before) and not _NOT.search(match.group()):
            return True
    return False
