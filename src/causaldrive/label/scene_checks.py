"""Checks of a label against the recording's annotations: do the things it names exist, and are they what it says?

Deterministic, and silent (cannot judge) where a recording has no annotations. Knows nothing of teachers or files.
"""

from __future__ import annotations

import re

from causaldrive.label.evidence import Evidence
from causaldrive.label.types import Cause, CocLabel, Verdict

PUSH_FREE_S = 2.5  # of the future that must be the driver's own
_HALF_LANE_M = 1.75
_SLOW_MPS = 2.0  # a car this slow may have waited for the light for longer than the history tells
_VEHICLES = ("car", "truck", "bus", "motorcycle", "other")
_CATEGORIES = {  # kind of cause -> what the named agent may be
    "lead_vehicle": (*_VEHICLES, "cyclist"),
    "cut_in_vehicle": (*_VEHICLES, "cyclist"),
    "stopped_vehicle": _VEHICLES,
    "pedestrian_crossing": ("pedestrian",),
    "cyclist": ("cyclist", "motorcycle"),
}
_LIGHTS = {"red_light": "red", "yellow_light": "yellow", "green_light": "green"}


def verdict(check: str, faults: list[str]) -> Verdict:
    """Passed without faults, failed with their sentences."""
    return Verdict(check, not faults, 0.0 if faults else 1.0, "; ".join(faults))


def unknown(check: str, reason: str) -> Verdict:
    """Neither passed nor failed."""
    return Verdict(check, None, None, reason)


def causes_exist(label: CocLabel, evidence: Evidence) -> Verdict:
    """Every agent or light that a cause names was there in the 2 s up to t0; so was one of its kind if it has no id."""
    objects = [cause for cause in label.causes if cause.agent_id or cause.kind in (*_CATEGORIES, *_LIGHTS)]
    if objects and evidence.ids is None:
        return unknown("causes_exist", "the recording lists no agents or lights")
    faults = []
    for cause in objects:
        if cause.agent_id is not None and cause.agent_id not in (evidence.ids or ()):
            faults.append(f"{cause.agent_id} ('{cause.text}') was not there")
        elif cause.agent_id is None and not _any_of_kind(cause, evidence):
            faults.append(f"'{cause.text}', but there was no such thing")
    return verdict("causes_exist", faults)


def _any_of_kind(cause: Cause, evidence: Evidence) -> bool:
    if cause.kind in _LIGHTS:
        return any(_LIGHTS[cause.kind] in states for states in evidence.light_states.values())
    return any(category in _CATEGORIES[cause.kind or ""] for category in evidence.category.values())


def causes_are_as_said(label: CocLabel, evidence: Evidence) -> Verdict:
    """A named agent is of the kind said, a named light shows at t0 what is said; 'turned green' was not green before.

    A car that hardly moves may have waited for longer than the 2 s of history. Who is ahead of a car that keeps its
    lane is less than half a lane beside the way that it drove.
    """
    faults = []
    for cause in label.causes:
        category = evidence.category.get(cause.agent_id or "")
        if category is not None and cause.kind in _CATEGORIES and category not in _CATEGORIES[cause.kind]:
            faults.append(f"{cause.agent_id} is a {category}, not what '{cause.text}' says")
        states = evidence.light_states.get(cause.agent_id or "", ())
        if cause.kind in _LIGHTS and states:
            faults.extend(_light_faults(cause, states, evidence))
        elif category is not None and cause.kind in _LIGHTS:
            faults.append(f"{cause.agent_id} is a {category}, no light")
        aside_m = evidence.aside_m.get(cause.agent_id or "", 0.0)
        if cause.kind == "lead_vehicle" and label.decision_lateral == "lane_keeping" and abs(aside_m) > _HALF_LANE_M:
            faults.append(f"'{cause.text}', but {cause.agent_id} is {abs(aside_m):.1f} m beside the way driven")
    return verdict("causes_are_as_said", faults)


def _light_faults(cause: Cause, states: tuple[str, ...], evidence: Evidence) -> list[str]:
    said = _LIGHTS[cause.kind or ""]
    if states[-1] != said:
        return [f"'{cause.text}', but {cause.agent_id} was {states[-1]}"]
    waits = evidence.motion is not None and float(evidence.motion.speed_mps[0]) < _SLOW_MPS
    if said == "green" and re.search(r"\bturned\b", cause.text) and set(states) == {"green"} and not waits:
        return [f"'{cause.text}', but {cause.agent_id} was green all along"]
    return []


def undisturbed(label: CocLabel, evidence: Evidence) -> Verdict:
    """The motion after t0 is the driver's own: what a push did is nobody's decision and no example to learn from."""
    soon = [max(begin, 0.0) for begin, end in evidence.pushed_s if end > 0 and begin <= PUSH_FREE_S]
    found = [f"the car was pushed off its course, or nobody looked, {soon[0]:.1f} s after t0"] if soon else []
    return verdict("undisturbed", found)
