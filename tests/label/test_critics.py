"""The counterfactual critic: it lets the expert's causes stand, and nothing that changes nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from causaldrive.label.critics import binds, counterfactual
from causaldrive.label.labelling import label_recording
from causaldrive.label.recording_view import RecordingView, view_of
from causaldrive.label.teachers import ExpertTeacher, name_causes
from causaldrive.label.types import Cause, CocLabel
from causaldrive.worlds.state import WorldState


@pytest.fixture(scope="module")
def labelled(town) -> list[tuple[RecordingView, list[CocLabel]]]:
    views = [view_of(recording) for recording in town.values()]
    return [(view, label_recording(view, ExpertTeacher(), 0.5)) for view in views]


def test_the_experts_own_causes_stand(labelled):
    judged = [counterfactual(label, view) for view, labels in labelled for label in labels if label.causes]
    assert len(judged) > 20 and all(verdict.passed for verdict in judged)


def test_a_harmless_thing_falls(labelled):
    fallen = 0
    for view, labels in labelled:
        for label in labels:
            seen = name_causes(view.history_states(label.t0_us), view.context, label.t0_us)
            for factor in (f for f in seen.others if f.agent_id and f.category == "critical_object"):
                harmless = Cause(factor.category, factor.text, factor.kind, factor.agent_id, factor.evidence_t_us)
                verdict = counterfactual(replace(label, causes=(harmless,)), view)
                assert verdict.passed is False and factor.text in verdict.reason
                fallen += 1
    assert fallen > 5


def test_one_true_cause_does_not_excuse_an_idle_one(labelled):
    view, labels = labelled[0]
    label = next(label for label in labels if {c.kind for c in label.causes} == {"lead_vehicle"})
    nobody = Cause("critical_object", "the car ahead is slower", "lead_vehicle", "nobody", label.t0_us)
    assert counterfactual(replace(label, causes=(*label.causes, nobody)), view).passed is False


def test_either_of_two_that_ask_for_the_same_is_a_cause(labelled):
    view, labels = labelled[0]
    label = next(label for label in labels if {c.kind for c in label.causes} == {"lead_vehicle"})
    (lead,) = label.causes
    history = view.history_states(label.t0_us)
    twins = []
    for state in history:
        agents = state.agents
        i = agents.ids.index(lead.agent_id)
        parts = {}
        for field in agents.__dataclass_fields__:
            value = getattr(agents, field)
            more = ["twin"] if field == "ids" else value[i : i + 1]
            parts[field] = [*value, *more] if isinstance(value, list) else np.concatenate([value, more])
        twins.append(replace(state, agents=replace(agents, **parts)))
    both = (lead, replace(lead, agent_id="twin"))
    assert all(binds(cause, both, twins, view.context) for cause in both)
    assert not binds(lead, (lead,), twins, view.context), "with the other one there, it changes nothing"


def test_a_light_that_turned_green_is_a_reason_and_a_curve_that_is_not_there_is_none(labelled):
    view, labels = next((v, ls) for v, ls in labelled if "red_light" in v.recording.recording_id)
    label = [label for label in labels if {c.kind for c in label.causes} == {"red_light"}][-1]
    (red,) = label.causes
    turned = replace(view, states=tuple(_green(s) if s.t_us > label.t0_us - 300_000 else s for s in view.states))
    green = replace(red, kind="green_light", text="the traffic light ahead has turned green")
    assert counterfactual(replace(label, causes=(green,)), turned).passed is True
    assert counterfactual(replace(label, causes=(red,)), turned).passed is False
    curve = Cause("road_event", "a sharp left curve is ahead", "sharp_curve", None, labels[0].t0_us)
    assert counterfactual(replace(labels[0], causes=(curve,)), view).passed is False, "the road is straight here"


def _green(state: WorldState) -> WorldState:
    return replace(state, lights=replace(state.lights, state=["green"] * len(state.lights)))


def test_what_cannot_be_taken_away_is_not_judged(labelled):
    view, labels = labelled[0]
    assert counterfactual(replace(labels[0], causes=()), view).passed is None
    unseen = Cause("odd_constraint", "the cause was not observed", "unobserved")
    assert counterfactual(replace(labels[0], causes=(unseen,)), view).passed is None
    blind = replace(view, recording=replace(view.recording, agents=None))
    assert counterfactual(labels[0], blind).passed is None
