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
_CROSSES = re.compile(r"\b(?:cross|oncoming|turn|revers|towards us)")
_CUTS_IN = re.compile(r"\b(?:cut\w*[ -]in|cross|merg|turn|pull\w* out)")
_TRAFFIC = (*_VEHICLES, "school_bus", "emergency_vehicle", "cyclist")
CATEGORIES = {  # kind of cause -> what the named agent may be
    "lead_vehicle": (*_VEHICLES, "cyclist"),
    "cut_in_vehicle": (*_VEHICLES, "cyclist"),
    "stopped_vehicle": _VEHICLES,
    "pedestrian_crossing": ("pedestrian",),
    "pedestrian_waiting": ("pedestrian",),
    "cyclist": ("cyclist", "motorcycle"),
    "crossing_vehicle": _TRAFFIC,
    "oncoming_vehicle": _TRAFFIC,
    "merging_vehicle": _TRAFFIC,
    "risky_vehicle": _TRAFFIC,
    "neighbour_vehicle": _TRAFFIC,
    "construction": ("cone", "barrier"),
    "school_bus": ("school_bus", "bus"),  # real logs tell a school bus from a bus by its words alone
    "emergency_vehicle": ("emergency_vehicle", *_VEHICLES),  # and an ambulance from a van
    "stop_sign": ("sign",),
}
LIGHTS = {"red_light": "red", "yellow_light": "yellow", "green_light": "green"}


def verdict(check: str, faults: list[str]) -> Verdict:
    """Passed without faults, failed with their sentences."""
    return Verdict(check, not faults, 0.0 if faults else 1.0, "; ".join(faults))


def unknown(check: str, reason: str) -> Verdict:
    """Neither passed nor failed."""
    return Verdict(check, None, None, reason)


def causes_exist(label: CocLabel, evidence: Evidence) -> Verdict:
    """Every agent or light that a cause names was there in the 2 s up to t0; so was one of its kind if it has no id."""
    objects = [cause for cause in label.causes if cause.agent_id or cause.kind in (*CATEGORIES, *LIGHTS)]
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
    if cause.kind == "stop_sign" and evidence.signs is not False:
        return True  # there, or nobody knows
    if cause.kind in LIGHTS:
        return any(LIGHTS[cause.kind] in states for states in evidence.light_states.values())
    return any(category in CATEGORIES[cause.kind or ""] for category in evidence.category.values())


def causes_are_as_said(label: CocLabel, evidence: Evidence) -> Verdict:
    """A named agent is of the kind said, a named light shows at t0 what is said; 'turned green' was not green before.

    A car that hardly moves may have waited for longer than the 2 s of history. What makes a lead: `_lead_faults`.
    """
    faults = []
    for cause in label.causes:
        category = evidence.category.get(cause.agent_id or "")
        if category is not None and cause.kind in CATEGORIES and category not in CATEGORIES[cause.kind]:
            faults.append(f"{cause.agent_id} is a {category}, not what '{cause.text}' says")
        states = evidence.light_states.get(cause.agent_id or "", ())
        if cause.kind in LIGHTS and states:
            faults.extend(_light_faults(cause, states, evidence))
        elif category is not None and cause.kind in LIGHTS:
            faults.append(f"{cause.agent_id} is a {category}, no light")
        if cause.kind == "lead_vehicle":
            faults.extend(_lead_faults(cause, label, evidence))
    return verdict("causes_are_as_said", faults)


def _lead_faults(cause: Cause, label: CocLabel, evidence: Evidence) -> list[str]:
    """A lead drives our way, has not just come in from beside it (that is a cut-in), and is ahead of us.

    Who is ahead of a car that keeps its lane is less than half a lane beside the way that it drove. One who crosses or
    has the right of way is not told from a lead by its kind, so its words exempt it.
    """
    name = cause.agent_id or ""
    if name in evidence.oncoming and not _CROSSES.search(cause.text):
        return [f"'{cause.text}', but {name} comes towards us"]
    if name in evidence.came_in and not _CUTS_IN.search(cause.text):
        return [f"'{cause.text}', but {name} is cutting in from beside the way to go"]
    aside_m = abs(evidence.aside_m.get(name, 0.0))
    if label.decision_lateral == "lane_keeping" and aside_m > _HALF_LANE_M:
        return [f"'{cause.text}', but {name} is {aside_m:.1f} m beside the way driven"]
    return []


def _light_faults(cause: Cause, states: tuple[str, ...], evidence: Evidence) -> list[str]:
    said = LIGHTS[cause.kind or ""]
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
