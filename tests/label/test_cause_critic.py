"""The critic of causes: it lets the expert's causes stand, and nothing that changes nothing, asked or driven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from label_drives import recording_of_states

from causaldrive.label.cause_critic import binds, cause_critic, suffices
from causaldrive.label.keyframes import Keyframe
from causaldrive.label.labelling import label_recording
from causaldrive.label.recording_view import RecordingView, view_of
from causaldrive.label.teachers import ExpertTeacher, name_causes
from causaldrive.label.types import Cause, CocLabel
from causaldrive.worlds.expert import explain
from causaldrive.worlds.expert_drive import draw_disturbance, drive
from causaldrive.worlds.scenes import SceneSpec, build_scene
from causaldrive.worlds.state import WorldState
from causaldrive.worlds.still import StillWorld
from causaldrive.worlds.town import TownWorld


@pytest.fixture(scope="module")
def labelled(town) -> list[tuple[RecordingView, list[CocLabel]]]:
    views = [view_of(recording) for recording in town.values()]
    return [(view, label_recording(view, ExpertTeacher(), 0.5)) for view in views]


def harmless_things(view: RecordingView, label: CocLabel) -> list[Cause]:
    seen = name_causes(view.history_states(label.t0_us), view.context, label.t0_us)
    found = (f for f in seen.others if f.agent_id and f.category == "critical_object")
    return [Cause(f.category, f.text, f.kind, f.agent_id, f.evidence_t_us) for f in found]


def test_the_experts_own_causes_stand(labelled):
    judged = [cause_critic(view)(label) for view, labels in labelled for label in labels if label.causes]
    assert len(judged) > 20 and all(verdict.passed for verdict in judged)


def test_a_harmless_thing_falls(labelled):
    fallen = 0
    for view, labels in labelled:
        for label in labels:
            for harmless in harmless_things(view, label):
                verdict = cause_critic(view)(replace(label, causes=(harmless,)))
                assert verdict.passed is False and harmless.text in verdict.reason
                fallen += 1
    assert fallen > 5


def test_one_true_cause_does_not_excuse_an_idle_one(labelled):
    view, labels = labelled[0]
    label = next(label for label in labels if {c.kind for c in label.causes} == {"lead_vehicle"})
    nobody = Cause("critical_object", "the car ahead is slower", "lead_vehicle", "nobody", label.t0_us)
    assert cause_critic(view)(replace(label, causes=(*label.causes, nobody))).passed is False


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
    world = StillWorld(view.context, twins)
    assert all(binds(cause, both, world) for cause in both)
    named = {factor.agent_id for factor in explain(twins, view.context).causes}
    assert lead.agent_id in named and binds(lead, (lead,), world), "alone it would make the same decision"
    braking = replace(lead, kind="stopped_vehicle")  # which the expert does not call it
    assert not binds(braking, (braking,), world), "with the other one there, it changes nothing"
    bystander = next(c for c in harmless_things(view, label) if c.agent_id not in named)
    assert not binds(bystander, (bystander,), world) and not binds(bystander, (lead, bystander), world)


def test_a_sign_stands_beside_a_car_that_came_first_but_not_beside_nothing():
    """At this all-way stop both ask for the same stop, and the expert names the sign."""
    driven = drive(build_scene(SceneSpec("four_way_stop", 715_008, False)), 9.0, None)
    view = view_of(recording_of_states("four_way_stop", driven.states, driven.context))
    first = next(i for i in range(20, 60) if {c.kind for c in driven.explanations[i].causes} == {"stop_sign"})
    label = ExpertTeacher().explain(view, Keyframe(driven.states[first].t_us, "periodic"))
    assert isinstance(label, CocLabel)
    assert cause_critic(view)(label).passed
    (sign,) = label.causes
    world = StillWorld(view.context, view.history_states(label.t0_us))
    unsigned = replace(view.context, road=replace(view.context.road, right_of_way={}))
    assert not binds(sign, (sign,), StillWorld(unsigned, world.history))


def test_a_light_that_turned_green_is_a_reason_and_a_curve_that_is_not_there_is_none(labelled):
    view, labels = next((v, ls) for v, ls in labelled if "red_light" in v.recording.recording_id)
    label = [label for label in labels if {c.kind for c in label.causes} == {"red_light"}][-1]
    (red,) = label.causes
    turned = replace(view, states=tuple(_green(s) if s.t_us > label.t0_us - 300_000 else s for s in view.states))
    green = replace(red, kind="green_light", text="the traffic light ahead has turned green")
    assert cause_critic(turned)(replace(label, causes=(green,))).passed is True
    assert cause_critic(turned)(replace(label, causes=(red,))).passed is False
    curve = Cause("road_event", "a sharp left curve is ahead", "sharp_curve", None, labels[0].t0_us)
    assert cause_critic(view)(replace(labels[0], causes=(curve,))).passed is False, "the road is straight here"


def _green(state: WorldState) -> WorldState:
    return replace(state, lights=replace(state.lights, state=["green"] * len(state.lights)))


@pytest.mark.parametrize("drives", [False, True])
def test_what_cannot_be_taken_away_is_not_judged(labelled, drives):
    view, labels = labelled[0]
    judge = cause_critic(view, drives)
    assert judge(replace(labels[0], causes=())).passed is None
    unseen = Cause("odd_constraint", "the cause was not observed", "unobserved")
    assert judge(replace(labels[0], causes=(unseen,))).passed is None
    blind = replace(view, recording=replace(view.recording, agents=None))
    assert cause_critic(blind, drives)(labels[0]).passed is None


def of_scene(spec: SceneSpec, meta: dict) -> RecordingView:
    driven = drive(build_scene(spec), 12.0, draw_disturbance(spec, 1.0))
    return view_of(replace(recording_of_states(spec.scene_id, driven.states, driven.context), meta=meta))


@pytest.fixture
def worlds_opened(monkeypatch) -> Callable[[], int]:
    opened, init = [], TownWorld.__init__
    monkeypatch.setattr(TownWorld, "__init__", lambda self, *a, **k: (opened.append(1), init(self, *a, **k))[1])
    return lambda: len(opened)


@pytest.mark.parametrize("where", ["in its town", "in its log", "in its log, since the town's drive is another one"])
def test_driving_on_says_the_same(where, worlds_opened):
    """The scene is driven again where the recording names it and it comes out as recorded; else the log is."""
    spec = SceneSpec("lead_brakes", 2, False)
    names = {"family": spec.family, "seed": spec.seed, "harmless": False, "disturbed": True}
    meta = {"in its town": names, "in its log": {}}.get(where, names | {"disturbed": False})
    view = of_scene(spec, meta)
    before = worlds_opened()
    judge = cause_critic(view, drives=True)
    label = next(
        x for x in label_recording(view, ExpertTeacher(), 0.5) if {c.kind for c in x.causes} == {"lead_vehicle"}
    )
    assert judge(label).passed is True
    idle = replace(label.causes[0], agent_id="nobody")
    assert judge(replace(label, causes=(idle,))).passed is False
    for harmless in harmless_things(view, label):
        assert judge(replace(label, causes=(harmless,))).passed is False
    assert worlds_opened() - before == (1 if meta else 0)


@pytest.mark.parametrize(("family", "seed", "kinds"), [
    ("nudge_prep", 700_052, {"stopped_vehicle", "oncoming_vehicle"}),  # neither alone would make it stop
    ("no_yield", 700_056, {"pedestrian_waiting"}),  # a reason to go on as before
])  # fmt: skip
def test_causes_that_only_together_or_by_changing_nothing_make_a_decision_stand(family, seed, kinds):
    driven = drive(build_scene(SceneSpec(family, seed, False)), 12.0, None)
    view = view_of(recording_of_states(family, driven.states, driven.context))
    first = next(
        e for e in range(20, len(driven.states) - 64) if {c.kind for c in driven.explanations[e].causes} == kinds
    )
    label = ExpertTeacher().explain(view, Keyframe(driven.states[first].t_us, "periodic"))
    assert isinstance(label, CocLabel) and {c.kind for c in label.causes} == kinds
    judge = cause_critic(view)
    assert judge(label).passed
    named = {cause.agent_id for cause in label.causes}
    others = [name for name in driven.states[first].agents.ids if name not in named]
    idle = [replace(label, causes=(*label.causes, replace(label.causes[0], agent_id=name))) for name in others]
    assert all(judge(more).passed is False for more in idle)


def test_a_label_that_leaves_out_what_made_the_decision_falls():
    """The expert stops for the parked car and the oncoming one; either alone would not make it."""
    driven = drive(build_scene(SceneSpec("nudge_prep", 700_052, False)), 12.0, None)
    view = view_of(recording_of_states("nudge_prep", driven.states, driven.context))
    both = {"stopped_vehicle", "oncoming_vehicle"}
    first = next(i for i in range(20, len(driven.states)) if {c.kind for c in driven.explanations[i].causes} == both)
    label = ExpertTeacher().explain(view, Keyframe(driven.states[first].t_us, "periodic"))
    assert isinstance(label, CocLabel)
    for cause in label.causes:
        verdict = cause_critic(view)(replace(label, causes=(cause,)))
        assert verdict.passed is False and "nobody there but whom it names" in verdict.reason
    assert suffices(label.causes, StillWorld(view.context, view.history_states(label.t0_us)))
    nameless = replace(label.causes[0], agent_id=None)
    assert suffices((nameless,), StillWorld(view.context, view.history_states(label.t0_us))), "nobody knows who that is"
