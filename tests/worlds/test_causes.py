"""Are reasons true? True ones are confirmed, false ones are not, and the difference is the driver's motion."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world_drives import log, wide_road

from causaldrive.worlds.causes import Trial, _moments, trials, try_cause, try_other
from causaldrive.worlds.counterfactual import Branch, Decision, effect_between
from causaldrive.worlds.expert import Factor, explain
from causaldrive.worlds.replay import ReplayWorld
from causaldrive.worlds.scenes import SceneSpec, build_scene
from causaldrive.worlds.state import AgentArrays, EgoState, LightArrays, SceneContext, WorldState
from causaldrive.worlds.town import TownWorld

KEEP = Decision("set_speed_tracking", "lane_keeping", None)


def straight(speeds: np.ndarray, offset_m: np.ndarray | float = 0.0, decision: Decision = KEEP) -> Branch:
    context = SceneContext(
        wide_road(), np.array([[-10.0, 0.0], [500.0, 0.0]]), 10.0, build_scene(SPECS[0]).context.camera
    )
    x = np.concatenate([[0.0], np.cumsum(speeds[1:] * 0.1)])
    y = np.broadcast_to(offset_m, x.shape)
    states = [WorldState(i * 100_000, EgoState(np.array([a, b]), 0.0, float(v)), AgentArrays(), LightArrays())
              for i, (a, b, v) in enumerate(zip(x, y, speeds, strict=True))]  # fmt: skip
    return Branch(context, states, decision)


SPECS = [SceneSpec("lead_brakes", 400), SceneSpec("red_light", 2), SceneSpec("sharp_curve", 4),
         SceneSpec("pedestrian_crosses", 4), SceneSpec("stopped_car", 8), SceneSpec("cut_in", 6)]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.floats(0.0, 3.0), st.floats(0.0, 1.0))
def test_a_motion_counts_from_the_limits_on(slower, aside):
    one = straight(np.full(65, 8.0))
    shift = np.concatenate([np.zeros(20), np.full(45, aside)])
    two = straight(np.concatenate([np.full(10, 8.0), np.full(55, 8.0 - slower)]), shift)
    effect = effect_between(one, two)
    assert effect.moved == (slower >= 0.5 or aside >= 0.3) and not effect.decided
    assert effect.speed_mps == pytest.approx(slower) and effect.aside_m == pytest.approx(aside)
    if effect.moved:
        assert effect.onset_s == pytest.approx(1.0 if slower >= 0.5 else 2.0)
    assert not effect_between(one, two, until_s=0.8).moved, "what comes later is not looked at"


def test_effects_tell_the_axes_apart_and_the_ade_is_a_mean():
    one, two = straight(np.full(65, 8.0)), straight(np.full(65, 8.0), 1.0)
    stop = replace(one, decision=Decision("yield", "lane_keeping", None))
    left, right = (replace(one, decision=Decision("yield", "in_lane_nudge", side)) for side in ("left", "right"))
    assert (effect_between(one, stop).longitudinal, effect_between(one, stop).lateral) == (True, False)
    assert (effect_between(left, right).longitudinal, effect_between(left, right).lateral) == (False, True)
    assert effect_between(one, two).ade_m == pytest.approx(0.0), (
        "both start at the same place, wherever it is counted from"
    )
    drift = straight(np.full(65, 8.0), np.linspace(0.0, 6.4, 65))
    assert effect_between(one, drift).ade_m == pytest.approx(np.linspace(0.1, 6.4, 64).mean())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.family)
def test_each_familys_cause_is_confirmed(spec):
    kind = build_scene(spec).focus_kind
    found = (t for t in trials(TownWorld(build_scene(spec)), 0.5, ("cause",)) if t.factor.kind == kind)
    for trial in islice(found, 2):
        assert trial.agrees and trial.effect is not None and trial.effect.moved, (trial.verdict, trial.why)


@pytest.mark.parametrize(
    ("family", "seed", "kind"), [("speed_bump", 2, "speed_bump"), ("four_way_stop", 28, "stop_sign")]
)
def test_bumps_and_the_stop_signs_of_a_map_are_causes_that_can_be_tested(family, seed, kind):
    found = trials(TownWorld(build_scene(SceneSpec(family, seed))), 1.5, ("cause",))
    trial = next(t for t in found if t.factor.kind == kind)
    assert trial.agrees and trial.effect is not None and trial.effect.moved, trial.why


@pytest.mark.parametrize(("family", "seed"), [("lane_change_prep", 10), ("nudge_prep", 12)])
def test_what_is_a_cause_is_not_called_harmless_too(family, seed):
    moments = _moments(TownWorld(build_scene(SceneSpec(family, seed))), 1.5)
    both = [{c.agent_id for c in m.explanation.causes} & {o.agent_id for o in m.explanation.others} for m in moments]
    assert any(m.explanation.causes for m in moments) and all(ids <= {None} for ids in both)


@pytest.fixture(scope="module")
def busy() -> tuple[TownWorld, list]:
    """A scene with a braking lead and people around, and its moments."""
    world = TownWorld(build_scene(SPECS[0]))
    return world, [m for m in _moments(world, 0.5) if m.explanation.causes and m.explanation.others]


def test_a_false_reason_is_not_confirmed(busy):
    world, moments = busy
    moment = moments[0]
    world.restore(moment.snapshot)
    lie = replace(moment.explanation, causes=(moment.explanation.others[0],), others=())
    trial = try_cause(world, lie.causes[0], lie, moment.branch)
    assert trial.verdict == "not_confirmed" and trial.agrees is False and trial.why == "the decision is the same"
    assert world.snapshot().traffic == moment.snapshot.traffic, "the world is left as it was"


def test_a_cause_called_harmless_is_not_cleared(busy):
    world, moments = busy
    moment = moments[0]
    world.restore(moment.snapshot)
    cause = moment.explanation.causes[0]
    silent = [replace(said, causes=()) for said in moment.later]
    trial = try_other(world, cause, moment.branch, silent)
    assert trial.verdict == "not_cleared" and trial.agrees is False


def test_a_factor_that_becomes_a_cause_is_cleared_until_then():
    """A person beside the road is harmless, and steps into our way two seconds later."""
    world = TownWorld(build_scene(SPECS[3]))
    first = next(m for m in _moments(world, 0.1) if any(c.agent_id == "pedestrian" for c in m.explanation.causes))
    before = next(m for m in _moments(TownWorld(world.scene), 0.1)
                  if m.branch.states[0].t_us == first.branch.states[0].t_us - 2_000_000)  # fmt: skip
    world.restore(before.snapshot)
    factor = next(f for f in before.explanation.others if f.agent_id == "pedestrian")
    trial = try_other(world, factor, before.branch, before.later)
    assert (trial.verdict, trial.why) == ("cleared_until_cause", "it is a stated cause 2.0 s later")
    silent = [replace(said, causes=()) for said in before.later]
    assert try_other(world, factor, before.branch, silent).verdict == "not_cleared"


def doubled(spec: SceneSpec) -> TownWorld:
    """The scene with a second person who crosses beside the first: each alone is reason enough to yield."""
    scene = build_scene(spec)
    index = next(i for i, a in enumerate(scene.script.actors) if a.agent_id == "pedestrian")
    twin = replace(scene.script.actors[index], agent_id="twin", offset_m=0.8)
    return TownWorld(replace(scene, script=replace(scene.script, actors=(*scene.script.actors, twin))))


def test_two_sufficient_causes_are_confirmed_jointly():
    found = trials(doubled(SPECS[3]), 0.5, ("cause",))
    joint = next(t for t in found if t.factor.kind == "pedestrian_crossing" and t.verdict != "confirmed")
    assert joint.verdict == "confirmed_jointly" and joint.act is not None
    assert {joint.act.target, *(a.target for a in joint.jointly)} == {"pedestrian", "twin"}


def test_what_cannot_be_taken_away_is_counted_apart():
    world = ReplayWorld(log(road=wide_road()), 1_500_000)
    moment = _moments(world, 1.0)
    assert moment == [], "too little log is left for 6.4 s"
    said = explain(world.history, world.context)
    curve = Factor("sharp_curve", None, 0, -2.0, 0.0, "a sharp left curve is ahead")
    branch = Branch(world.context, [world.state], Decision.of(said))
    for trial in (try_cause(world, curve, said, branch), try_other(world, curve, branch, [said])):
        assert isinstance(trial, Trial) and trial.verdict == "not_testable" and trial.agrees is None
        assert "straightened" in trial.why
