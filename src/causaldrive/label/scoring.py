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
from causaldrive.ground.words import STOP_WAYS
from causaldrive.label.keyframes import Keyframe
from causaldrive.label.recording_view import RecordingView
from causaldrive.label.scene_checks import CATEGORIES, LIGHTS
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
_OBJECTS = (*CATEGORIES, *LIGHTS, "speed_bump")
_SEEN_M, _BEHIND_M = 100.0, 10.0  # an object farther away or behind is none that a driver could name
_FROM_BEHIND_M = 75.0  # as far as the mirrors show those who come from behind
_FROM_BEHIND = ("emergency_vehicle", "merging_vehicle", "neighbour_vehicle", "cut_in_vehicle")


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
    objects = [cause for cause in named if cause.kind in _OBJECTS or cause.agent_id is not None]
    invented = sum(not is_there(cause, view, label.t0_us) for cause in objects)
    outside = sum(_outside(cause, label.t0_us) for cause in named)
    return found | {
        "hallucination_rate": Tally(invented, len(objects), len(objects)),
        "locality_violations": Tally(outside, len(named), len(named)),
    }


def is_there(cause: Cause, view: RecordingView, t0_us: int) -> bool:
    """Whether the object that a cause names was near at some time of the 2 s up to t0; one with an id must be that one.

    Stop signs of road networks and speed bumps stand on the map, not among the agents.
    """
    road = view.context.road
    if cause.agent_id is None and cause.kind == "speed_bump":
        return bool(road.bumps)
    if (
        cause.agent_id is None
        and cause.kind == "stop_sign"
        and any(way.kind in STOP_WAYS for way in road.right_of_way.values())
    ):
        return True
    return any(_is_there(cause, state) for state in view.history_states(t0_us))


def _is_there(cause: Cause, state: WorldState) -> bool:
    agents, lights, name = state.agents, state.lights, cause.agent_id
    if cause.kind in LIGHTS:
        shown = (s for s, light in zip(lights.state, lights.ids, strict=True) if name in (None, light))
        return LIGHTS[cause.kind] in shown
    if cause.kind not in CATEGORIES:
        return name in (*agents.ids, *lights.ids)
    behind_m = _FROM_BEHIND_M if cause.kind in _FROM_BEHIND else _BEHIND_M
    xy = to_frame(agents.xy_in_local_m.reshape(-1, 2), state.ego.xy_in_local_m, state.ego.yaw_rad)
    return any(
        name in (None, agent) and category in CATEGORIES[cause.kind] and x > -behind_m and x * x + y * y < _SEEN_M**2
        for agent, category, (x, y) in zip(agents.ids, agents.category, xy, strict=True)
    )


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
