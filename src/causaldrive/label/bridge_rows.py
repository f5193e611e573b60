"""What all bridges share: free text to a label and back, and the sentences for what was set aside.

A sentence from elsewhere is read by `label/trace.py`. What can be read becomes decision and causes; what cannot stays
with its text, empty decisions, the reason as a verdict, and the status `unscored`. Knows nothing of file formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from causaldrive.ground.words import CAUSE_KINDS
from causaldrive.label.trace import parse
from causaldrive.label.types import Cause, CocLabel, Verdict

CHECK = "read_from_text"
_SPOKEN = {  # what a cause of each kind is called where only its kind could be read
    "lead_vehicle": "a vehicle ahead",
    "cut_in_vehicle": "a vehicle cutting in",
    "stopped_vehicle": "a stopped vehicle",
    "pedestrian_crossing": "a pedestrian",
    "cyclist": "a cyclist",
    "red_light": "the red light",
    "yellow_light": "the yellow light",
    "green_light": "the green light",
    "stop_sign": "the stop sign",
    "crossing_vehicle": "a crossing vehicle",
    "oncoming_vehicle": "an oncoming vehicle",
    "merging_vehicle": "a vehicle on the main road",
    "sharp_curve": "the curve",
    "speed_bump": "the speed bump",
    "pedestrian_waiting": "a pedestrian waiting at the side",
    "risky_vehicle": "a swerving vehicle",
    "neighbour_vehicle": "a vehicle beside us",
    "lane_ends": "the end of our lane",
    "route_lane": "the lane of our route",
    "construction": "construction",
    "school_bus": "a stopped school bus",
    "emergency_vehicle": "an emergency vehicle",
    "unobserved": "the cause was not observed",
}
assert set(_SPOKEN) == set(CAUSE_KINDS)


@dataclass(frozen=True)
class Imported:
    """Labels, and a sentence for each row that held none."""

    labels: list[CocLabel]
    set_aside: list[str] = field(default_factory=list)


def label_of_text(recording_id: str, t0_us: int, text: str, source: str) -> CocLabel:
    """The label that a sentence makes; status `unscored`, the text word for word as its trace."""
    said = parse(text)
    causes = tuple(Cause(CAUSE_KINDS[kind], _SPOKEN[kind], kind) for kind in said.cause_kinds)
    verdict = Verdict(CHECK, None if said.problems else True, None if said.problems else 1.0, "; ".join(said.problems))
    return CocLabel(
        recording_id=recording_id, t0_us=t0_us, origin="periodic", decision_longitudinal=said.longitudinal,
        decision_lateral=said.lateral, direction=said.direction, causes=causes, trace=text, meta_history=(),
        meta_future=(), teacher=source, prompt_hash="", verdicts=(verdict,), status="unscored",
    )  # fmt: skip


def sentences(labels: Sequence[CocLabel]) -> str:
    """How many of the labels could be read, and from what, in a few words."""
    read = [verdict.passed for label in labels for verdict in label.verdicts if verdict.check == CHECK]
    parts = {
        "with fields of their own": len(labels) - len(read),
        "with a decision read from their text": read.count(True),
        "with text alone": read.count(None),
    }
    return ", ".join([f"{len(labels)} labels", *(f"{count} {what}" for what, count in parts.items() if count)])
