"""How good a label is where the truth is known: in the town, whose expert says why it drives as it does.

    hallucination = named objects that were not there / named objects
    locality violation = evidence outside [t0 - 2 s, t0] or without a time / causes

A label that holds no decision lowers the parse rate alone. Reads a view and labels; knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Sequence

from causaldrive.clips.geometry import to_frame
from causaldrive.ground import statistics
from causaldrive.ground.statistics import Estimate
from causaldrive.label.keyframes import Keyframe
from causaldrive.label.recording_view import RecordingView
from causaldrive.label.teachers import ExpertTeacher
from causaldrive.label.trace import ParsedTrace
from causaldrive.label.truth import UNOBSERVED, Tally, Truth, cause_tallies, decision_tallies, truth_of_label
from causaldrive.label.types import Cause, CocLabel
from causaldrive.label.validators import HISTORY_US
from causaldrive.worlds.state import WorldState

METRICS = {
    "parse_rate": "labels with a decision",
    "accepted": "accepted by the validators",
    "longitudinal_accuracy": "longitudinal decision right",
    "lateral_accuracy": "lateral decision right",
    "decision_accuracy": "both right",
    "cause_precision": "cause precision",
    "cause_recall": "cause recall",
    "cause_f1": "cause F1",
    "hallucination_rate": "named objects not in the scene",
    "locality_violations": "causes outside the history",
}
_VEHICLES = frozenset({"car", "truck", "bus", "motorcycle"})
_AGENTS_FOR = {
    "lead_vehicle": _VEHICLES,
    "cut_in_vehicle": _VEHICLES,
    "stopped_vehicle": _VEHICLES,
    "pedestrian_crossing": frozenset({"pedestrian"}),
    "cyclist": frozenset({"cyclist"}),
}
_LIGHT_FOR = {"red_light": "red", "yellow_light": "yellow", "green_light": "green"}
_OBJECTS = (*_AGENTS_FOR, *_LIGHT_FOR, "stop_sign")
_SEEN_M, _BEHIND_M = 100.0, -10.0  # an object farther away or behind is none that a driver could name


def truth_at(view: RecordingView, t0_us: int) -> Truth:
    """What the town's expert decides at t0, and why."""
    label = ExpertTeacher().explain(view, Keyframe(t0_us, "periodic"))
    assert isinstance(label, CocLabel), "the expert explains every moment of its own drive"
    return truth_of_label(label)


def tallies_of(label: CocLabel, view: RecordingView) -> dict[str, Tally]:
    """Every metric's share of one label; metrics that cannot be judged there are absent."""
    if label.decision_longitudinal is None and label.decision_lateral is None:
        return {"parse_rate": Tally(0, 1), "accepted": Tally(0, 1)}
    truth = truth_at(view, label.t0_us)
    said = ParsedTrace(label.decision_longitudinal, label.decision_lateral, label.direction, ())
    named = [cause for cause in label.causes if cause.kind != UNOBSERVED]
    found = {"parse_rate": Tally(1, 1), "accepted": Tally(float(label.status == "accepted"), 1)}
    found |= decision_tallies(said, truth)
    causes = cause_tallies([cause.kind or f"other {cause.category}" for cause in named], truth)
    found |= {name: causes[name] for name in ("cause_precision", "cause_recall", "cause_f1") if name in causes}
    history = view.history_states(label.t0_us)
    objects = [cause for cause in named if cause.kind in _OBJECTS or cause.agent_id is not None]
    invented = sum(not is_there(cause, history) for cause in objects)
    outside = sum(_outside(cause, label.t0_us) for cause in named)
    return found | {
        "hallucination_rate": Tally(invented, len(objects), len(objects)),
        "locality_violations": Tally(outside, len(named), len(named)),
    }


def is_there(cause: Cause, history: Sequence[WorldState]) -> bool:
    """Whether the object that a cause names, by id and by kind, was near and ahead at some time of the history."""
    return any(_is_there(cause, state) for state in history)


def _is_there(cause: Cause, state: WorldState) -> bool:
    agents, lights = state.agents, state.lights
    if cause.agent_id is not None and cause.agent_id not in (*agents.ids, *lights.ids):
        return False
    if cause.kind in _AGENTS_FOR:
        xy = to_frame(agents.xy_in_local_m.reshape(-1, 2), state.ego.xy_in_local_m, state.ego.yaw_rad)
        return any(
            category in _AGENTS_FOR[cause.kind] and x > _BEHIND_M and x * x + y * y < _SEEN_M**2
            for category, (x, y) in zip(agents.category, xy, strict=True)
        )
    if cause.kind in _LIGHT_FOR:
        return _LIGHT_FOR[cause.kind] in lights.state
    return cause.kind != "stop_sign"  # the town has none


def _outside(cause: Cause, t0_us: int) -> bool:
    return cause.evidence_t_us is None or not t0_us - HISTORY_US <= cause.evidence_t_us <= t0_us


def estimates(rows: Sequence[dict[str, Tally]], recordings: Sequence[str]) -> dict[str, Estimate]:
    """Every metric over all labels, with its 95 % interval over recordings, since labels of one drive are alike."""
    found = {}
    for metric in METRICS:
        shares = [row.get(metric, Tally(0.0, 0.0, 0)) for row in rows]
        found[metric] = statistics.share(
            [share.numerator for share in shares],
            [share.denominator for share in shares],
            recordings,
            n=sum(share.n for share in shares if share.denominator > 0),
        )
    return found
