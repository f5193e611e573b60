"""Acts on a scene: what goes, what stays, what is remembered, and that a restored world never heard of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world_drives import log, wide_road

from causaldrive.clips.geometry import project_on_polyline
from causaldrive.ground.errors import UserError
from causaldrive.worlds.expert import ExpertDriver, Factor, explain
from causaldrive.worlds.interventions import CannotIntervene, Intervention, act, without
from causaldrive.worlds.replay import ReplayWorld
from causaldrive.worlds.route import route_of
from causaldrive.worlds.scenes import SceneSpec, build_scene
from causaldrive.worlds.scoring import Scorer
from causaldrive.worlds.state import AgentArrays, WorldState
from causaldrive.worlds.town import TownWorld
from causaldrive.worlds.world import DrivenWorld

LEAD, LIGHT, CURVE = SceneSpec("lead_brakes", 400), SceneSpec("red_light", 2), SceneSpec("sharp_curve", 4)


def driven(world: DrivenWorld, steps: int) -> list[WorldState]:
    driver = ExpertDriver(world.context)
    return [world.step(*driver.control(world.history)) for _ in range(steps)]


def town(spec: SceneSpec, steps: int) -> TownWorld:
    world = TownWorld(build_scene(spec))
    driven(world, steps)
    return world


def replayed() -> ReplayWorld:
    return ReplayWorld(log(12.0, road=wide_road()), 2_000_000)


def numbers(states: list[WorldState]) -> list[tuple]:
    return [(*s.ego.xy_in_local_m, s.ego.speed_mps, *s.agents.ids, *s.agents.xy_in_local_m.ravel(), *s.lights.state)
            for s in states]  # fmt: skip


@pytest.mark.parametrize("make", [lambda: town(LEAD, 30), replayed], ids=["town", "replay"])
def test_a_removed_agent_is_gone_and_was_never_there(make):
    world = make()
    others = [name for name in world.state.agents.ids if name != "lead"]
    act(world, [Intervention("remove_agent", "lead")])
    assert all(state.agents.ids == others for state in world.history[-5:]) and len(world.history) > 5
    assert all(state.agents.ids == others for state in driven(world, 10))
    with pytest.raises(CannotIntervene, match="'lead'"):
        act(world, [Intervention("remove_agent", "lead")])


@pytest.mark.parametrize("make", [lambda: town(LEAD, 30), replayed], ids=["town", "replay"])
def test_a_frozen_agent_stands_and_is_driven_up_to(make):
    world = make()
    at = world.state.agents.xy_in_local_m[world.state.agents.ids.index("lead")].copy()
    act(world, [Intervention("freeze_agent", "lead")])
    for state in [world.state, *driven(world, 60)]:
        index = state.agents.ids.index("lead")
        np.testing.assert_array_equal(state.agents.xy_in_local_m[index], at)
        assert state.agents.speed_mps[index] == 0.0
    assert world.history[0].agents.ids, "its past is kept"
    assert world.state.ego.speed_mps < 6.5, "the driver slows down behind it"


@pytest.mark.parametrize("kind", ["remove_agent", "freeze_agent", "straighten_road"])
def test_restoring_undoes_every_act_bit_for_bit(kind):
    world, twin = town(LEAD, 25), town(LEAD, 25)
    saved, context = world.snapshot(), world.context
    act(world, [Intervention(kind, None if kind == "straighten_road" else "lead")])
    driven(world, 15)
    world.restore(saved)
    assert world.context is context and numbers(world.history) == numbers(twin.history)
    assert numbers(driven(world, 40)) == numbers(driven(twin, 40))


def test_nothing_else_changes_when_a_stranger_is_removed():
    world, twin = town(LEAD, 20), town(LEAD, 20)
    far = next(name for name in world.state.agents.ids if name.startswith(("stroller", "parked")))
    act(world, [Intervention("remove_agent", far)])
    for one, two in zip(driven(world, 20), driven(twin, 20), strict=True):
        np.testing.assert_array_equal(one.ego.xy_in_local_m, two.ego.xy_in_local_m)
        kept = two.agents.keep([name != far for name in two.agents.ids])
        np.testing.assert_array_equal(one.agents.xy_in_local_m, kept.xy_in_local_m)


def test_a_light_held_green_holds_its_group_and_stops_the_cross_road():
    world = town(LIGHT, 45)
    assert world.state.lights.state[world.state.lights.ids.index("light_main_0")] == "red"
    act(world, [Intervention("hold_light", "light_main_0", "green")])
    for state in [*world.history, *driven(world, 60)]:
        shown = dict(zip(state.lights.ids, state.lights.state, strict=True))
        assert {shown[n] for n in shown if n.startswith(("light_main", "light_back"))} == {"green"}
    assert {shown[n] for n in shown if n.startswith(("light_right", "light_left"))} == {"red"}
    assert world.state.ego.speed_mps > 5.0, "nothing is left to wait for"


def test_a_light_held_red_is_waited_for():
    world = town(SceneSpec("red_light", 3, True), 30)
    act(world, [Intervention("hold_light", "light_main_0", "red")])
    assert driven(world, 90)[-1].ego.speed_mps < 0.3
    with pytest.raises(CannotIntervene, match="'no_light'"):
        act(world, [Intervention("hold_light", "no_light", "red")])


def test_a_straightened_road_keeps_gaps_and_asks_for_no_slowing():
    world = town(CURVE, 50)
    bent = explain(world.history, world.context)
    assert "sharp_curve" in {factor.kind for factor in bent.causes}
    before, ego = world.state, world.state.ego
    arcs = project_on_polyline(before.agents.xy_in_local_m, world.context.route_xy_in_local_m)
    act(world, [Intervention("straighten_road")])
    np.testing.assert_allclose(world.state.ego.xy_in_local_m, ego.xy_in_local_m, atol=1e-6)
    assert np.abs(route_of(world.context).curvature_1pm).max() < 1e-6
    after = project_on_polyline(world.state.agents.xy_in_local_m, world.context.route_xy_in_local_m)
    here = project_on_polyline(ego.xy_in_local_m, world.context.route_xy_in_local_m)[0]
    there = project_on_polyline(ego.xy_in_local_m, build_scene(CURVE).context.route_xy_in_local_m)[0]
    near = np.abs(arcs[0] - there) < 60
    np.testing.assert_allclose((after[0] - here)[near], (arcs[0] - there)[near], atol=0.3)
    np.testing.assert_allclose(after[1][near], arcs[1][near], atol=0.3)
    assert explain(world.history, world.context).longitudinal == "set_speed_tracking"
    driven(world, 50)
    assert abs(project_on_polyline(world.state.ego.xy_in_local_m, world.context.route_xy_in_local_m)[1]) < 0.2


def test_a_log_says_what_it_cannot_do():
    world = replayed()
    for one in (Intervention("straighten_road"), Intervention("hold_light", "any"), Intervention("remove_agent"),
                Intervention("delete_sign", "none"), Intervention("walk_on", "lead")):  # fmt: skip
        with pytest.raises(CannotIntervene):
            act(world, [one])


def test_a_deleted_stop_line_is_gone():
    world = town(LIGHT, 5)
    name = next(iter(world.context.road.stop_lines))
    act(world, [Intervention("delete_sign", name)])
    assert name not in world.context.road.stop_lines and name in world.scene.context.road.stop_lines


def test_the_next_bump_is_gone_and_then_the_one_after_it():
    world = TownWorld(build_scene(SceneSpec("speed_bump", 2)))
    count = len(world.context.road.bumps)
    for left in range(count - 1, -1, -1):
        act(world, [Intervention("flatten_bump")])
        assert len(world.context.road.bumps) == left
    with pytest.raises(CannotIntervene, match="no speed bump"):
        act(world, [Intervention("flatten_bump")])


def test_without_its_stop_sign_a_way_still_lets_the_others_go_first():
    world = TownWorld(build_scene(SceneSpec("four_way_stop", 28)))
    saved, before = world.snapshot(), world.context.road.right_of_way
    act(world, [Intervention("delete_sign")])
    after = world.context.road.right_of_way
    changed = [key for key, way in after.items() if way.kind != before[key].kind]
    assert {(before[key].kind, after[key].kind) for key in changed} == {("all_way_stop", "yield")}
    assert all(after[key].foes == before[key].foes for key in changed) and len(changed) < len(before) / 2
    assert np.ptp([before[key].stop_xy_m for key in changed], axis=0).max() < 0.1, "one approach, one sign"
    world.restore(saved)
    assert world.context.road.right_of_way is before


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(1.0, 7.0), min_size=0, max_size=5), st.floats(10.0, 40.0))
def test_a_blockage_goes_with_its_row_and_nothing_beyond_a_gap(gaps, beyond):
    x = np.cumsum([30.0, *gaps, beyond])
    count = len(x)
    cones = AgentArrays([f"cone_{i}" for i in range(count)], ["cone"] * count, np.stack([x, np.zeros(count)], 1),
                        np.zeros(count), np.zeros(count), np.ones((count, 3)), np.zeros(count, bool),
                        np.zeros(count, np.int8))  # fmt: skip
    gone: list[str] = []

    class World:
        state = dataclasses.make_dataclass("State", ["agents"])(cones)

        def remove_agent(self, name: str) -> None:
            gone.append(name)

    act(World(), [Intervention("clear_blockage", "cone_0")])  # type: ignore[arg-type]
    assert gone == [f"cone_{i}" for i in range(count - 1)]


def test_a_route_that_stays_in_our_lane_needs_no_other_one():
    world = TownWorld(build_scene(SceneSpec("lane_change", 0)))
    while "route_lane" not in {f.kind for f in explain(world.history, world.context).causes}:
        driven(world, 1)
    ego, road = world.state.ego, world.context.road
    act(world, [Intervention("keep_lane")])
    assert abs(float(route_of(world.context).project(ego.xy_in_local_m)[1])) < 0.5 and world.context.road is road
    said = explain(world.history, world.context)
    assert said.lateral == "lane_keeping" and "route_lane" not in {f.kind for f in (*said.causes, *said.others)}
    driven(world, 60)
    assert abs(float(route_of(world.context).project(world.state.ego.xy_in_local_m)[1])) < 0.5
    with pytest.raises(CannotIntervene, match="in the lane that its route needs"):
        act(world, [Intervention("keep_lane")])


def test_a_lane_that_ends_can_be_made_to_go_on():
    world = TownWorld(build_scene(SceneSpec("lane_ends", 2)))
    while "lane_ends" not in {f.kind for f in explain(world.history, world.context).causes}:
        driven(world, 1)
    saved, boards = world.snapshot(), [n for n in world.state.agents.ids if n.startswith("board")]
    act(world, [Intervention("keep_lane")])
    assert boards and not set(boards) & set(world.state.agents.ids), "what closed the lane is gone"
    assert "lane_ends" not in {f.kind for f in explain(world.history, world.context).causes}
    scorer = Scorer(world.context)
    for state in driven(world, 80):
        scorer.add(state)
    assert not [e for e in scorer.events if e.at_fault], "there is a road where it ended"
    assert world.state.ego.speed_mps > 0.8 * world.context.target_speed_mps
    world.restore(saved)
    assert "kept" not in world.context.road.lanes and set(boards) <= set(world.state.agents.ids)


def test_one_who_waits_can_walk_on_and_is_yielded_to_then():
    world = TownWorld(build_scene(SceneSpec("no_yield", 2)))
    while "pedestrian_waiting" not in {f.kind for f in explain(world.history, world.context).causes}:
        driven(world, 1)
    place = world.state.agents.xy_in_local_m[world.state.agents.ids.index("pedestrian")].copy()
    act(world, [Intervention("walk_on", "pedestrian")])
    agents = world.state.agents
    row = agents.ids.index("pedestrian")
    np.testing.assert_array_equal(agents.xy_in_local_m[row], place)
    assert agents.speed_mps[row] == pytest.approx(1.3) and agents.indicator[row] == 0
    said = explain(world.history, world.context)
    assert said.longitudinal == "yield" and said.causes[0].agent_id == "pedestrian"
    with pytest.raises(CannotIntervene, match="no pedestrian 'nobody'"):
        act(world, [Intervention("walk_on", "nobody")])


def test_every_factor_has_its_act():
    agents = AgentArrays(["a", "c"], ["car", "cone"])

    def of(kind: str, name: str | None, cause: bool = True) -> Intervention:
        return without(Factor(kind, name, 0, 0.0, 0.0, ""), cause, agents)

    assert of("lead_vehicle", "a") == Intervention("remove_agent", "a")
    assert of("stopped_vehicle", "c") == Intervention("clear_blockage", "c")
    assert of("red_light", "l") == of("yellow_light", "l") == Intervention("hold_light", "l", "green")
    assert of("green_light", "l") == Intervention("hold_light", "l", "red")
    assert of("green_light", "l", cause=False) == Intervention("hold_light", "l", "off")
    assert of("stop_sign", "s") == Intervention("delete_sign", "s")
    assert of("speed_bump", None) == Intervention("flatten_bump")
    assert of("sharp_curve", None) == Intervention("straighten_road")
    assert of("route_lane", None) == of("lane_ends", None, cause=False) == Intervention("keep_lane")
    assert of("pedestrian_waiting", "a") == Intervention("walk_on", "a")
    assert of("pedestrian_waiting", "a", cause=False) == Intervention("remove_agent", "a")
    with pytest.raises(CannotIntervene, match="unobserved"):
        of("unobserved", None)
    with pytest.raises(UserError, match="Did you mean remove_agent"):
        Intervention("remove_agnet", "a")
