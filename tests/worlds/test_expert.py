"""The expert: what each factor imposes, decisions on made-up moments, and whole drives that are safe and explained."""

import math
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from causaldrive.clips.geometry import box_corners
from causaldrive.clips.types import Lane, RoadMap
from causaldrive.ground.words import CAUSE_KINDS, DIRECTED_LATERAL, LATERAL_DECISIONS, LONGITUDINAL_DECISIONS
from causaldrive.worlds import bounds
from causaldrive.worlds.expert import REACTION_S, ExpertDriver, explain
from causaldrive.worlds.expert_drive import Disturbance, Drive, disturbance_of, draw_disturbance, drive
from causaldrive.worlds.explanation import Nudge
from causaldrive.worlds.route import Route, pavement, route_of
from causaldrive.worlds.scenes import SceneSpec, build_scene, default_camera, draw_specs
from causaldrive.worlds.scoring import JERK_MPS3
from causaldrive.worlds.state import AgentArrays, EgoState, LightArrays, SceneContext, WorldState
from causaldrive.worlds.vehicle import advance

CAR, PERSON = (4.5, 1.8, 1.5), (0.5, 0.6, 1.75)


def _straight_context(target_mps: float = 10.0) -> SceneContext:
    """Two lanes of 3.5 m, one each way, 300 m long; the route lies in the right one, along x."""
    x = np.linspace(0.0, 300.0, 151)

    def line(y: float, back: bool = False):
        points = np.column_stack([x, np.full_like(x, y)])
        return points[::-1].copy() if back else points

    lanes = {
        "ours": Lane("ours", line(0.0), line(1.75), line(-1.75)),
        "theirs": Lane("theirs", line(3.5, True), line(1.75, True), line(5.25, True)),
    }
    return SceneContext(RoadMap(lanes), line(0.0), target_mps, default_camera())


def _agents(*rows) -> AgentArrays:
    """Rows of (id, category, x, y, yaw, speed, size, brake, indicator)."""
    if not rows:
        return AgentArrays()
    columns = list(zip(*rows, strict=True))
    return AgentArrays(
        list(columns[0]), list(columns[1]), np.column_stack([columns[2], columns[3]]).astype(float),
        np.array(columns[4], float), np.array(columns[5], float), np.array(columns[6], float),
        np.array(columns[7], bool), np.array(columns[8], np.int8),
    )  # fmt: skip


def _history(make_agents, speed: float = 10.0, light=None, seconds: float = 2.0, x: float = 60.0):
    """States at 10 Hz in which the ego drives along x and is at `x` now; `make_agents(t)`, t = 0 is now."""
    states = []
    for i in range(round(seconds * 10), -1, -1):
        t = -i / 10
        ego = EgoState(np.array([x + speed * t, 0.0]), 0.0, speed)
        lights = LightArrays() if light is None else light(t)
        states.append(WorldState(5_000_000 - i * 100_000, ego, make_agents(t), lights))
    return states


def _light(state_at, stop_x: float):
    def at(t: float) -> LightArrays:
        stop = np.array([[stop_x, 0.0]])
        return LightArrays(["head"], ["ours"], [state_at(t)], stop, np.array([[stop_x + 7, 0.0, 4.0]]), np.zeros(1))

    return at


def test_an_empty_road_is_driven_freely():
    said = explain(_history(lambda t: _agents()), _straight_context())
    assert (said.longitudinal, said.lateral, said.direction) == ("set_speed_tracking", "lane_keeping", None)
    assert said.causes == () and said.others == () and said.acceleration_mps2 == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("speed", "brake", "text"), [(5.0, False, "slower"), (7.0, True, "braking"), (0.0, True, "stopped")]
)
def test_a_lead_car_is_followed_and_described(speed, brake, text):
    said = explain(
        _history(lambda t: _agents(("a", "car", 85 + speed * t, 0, 0, speed, CAR, brake, 0))), _straight_context()
    )
    assert said.longitudinal == "lead_obstacle_following"
    assert [(c.kind, c.agent_id) for c in said.causes] == [("lead_vehicle", "a")]
    assert text in said.causes[0].text and said.acceleration_mps2 < -0.5


def test_the_same_car_in_the_next_lane_is_seen_and_harmless():
    said = explain(
        _history(lambda t: _agents(("a", "car", 85 + 5 * t, 3.5, 0, 5.0, CAR, True, 0))), _straight_context()
    )
    assert said.causes == () and [f.agent_id for f in said.others] == ["a"]


@pytest.mark.parametrize("side", [1, -1])
def test_a_cut_in_is_told_from_a_car_that_keeps_its_lane(side):
    def moving(t):
        return _agents(("a", "car", 75 + 7 * t, side * (3.5 - 0.8 * (t + 2) / 2), 0, 7.0, CAR, False, -side))

    said = explain(_history(moving), _straight_context())
    assert said.longitudinal == "yield" and said.causes[0].kind == "cut_in_vehicle"
    assert ("left" if side > 0 else "right") in said.causes[0].text
    kept = explain(
        _history(lambda t: _agents(("a", "car", 75 + 7 * t, side * 3.5, 0, 7.0, CAR, False, 0))), _straight_context()
    )
    assert kept.causes == ()


@pytest.mark.parametrize("side", [1, -1])
def test_a_pedestrian_who_steps_towards_our_way_is_yielded_to(side):
    def walking(t):
        return _agents(
            ("p", "pedestrian", 95, side * (4.0 - 1.4 * (t + 1)), -side * math.pi / 2, 1.4, PERSON, False, 0)
        )

    said = explain(_history(walking), _straight_context())
    assert said.longitudinal == "yield" and said.causes[0].agent_id == "p"
    assert said.causes[0].text == f"a pedestrian is crossing from the {'left' if side > 0 else 'right'}"


@pytest.mark.parametrize(
    ("y", "rate"),
    [(-4.0, 0.0), (-4.0, -1.4), (4.5, 1.4), (-2.9, -1.4)],
    ids=["waits", "leaves", "leaves_left", "is_out"],
)
def test_a_pedestrian_who_stands_or_leaves_is_harmless(y, rate):
    def person(t):
        return _agents(("p", "pedestrian", 90, y + rate * t, math.copysign(1.57, rate), abs(rate), PERSON, False, 0))

    said = explain(_history(person), _straight_context())
    assert said.causes == () and [f.kind for f in said.others] == ["pedestrian_crossing"]


def test_a_pedestrian_along_the_sidewalk_of_a_bend_is_harmless():
    context = build_scene(SceneSpec("sharp_curve", 11, True)).context
    route = Route(context)

    def person(t):
        arc = 130 + 1.4 * t
        heading = float(route.heading(arc))
        xy = np.array([np.interp(arc, np.arange(len(route.xy_m)), route.xy_m[:, k]) for k in (0, 1)])
        xy = xy + 4.5 * np.array([math.sin(heading), -math.cos(heading)])
        return _agents(("p", "pedestrian", xy[0], xy[1], heading, 1.4, PERSON, False, 0))

    states = _history(person)
    for state, arc in zip(states, np.linspace(85, 105, 21), strict=True):
        index = int(arc)
        state.ego = EgoState(route.xy_m[index], float(route.yaw_rad[index]), 10.0)
    assert [c.kind for c in explain(states, context).causes] == []


def test_red_stops_green_does_not_and_another_lanes_light_is_ignored():
    nobody = _agents()
    red = explain(_history(lambda t: nobody, light=_light(lambda t: "red", 100.0)), _straight_context())
    assert red.longitudinal == "stop_for_static_constraint" and red.causes[0].kind == "red_light"
    green = explain(_history(lambda t: nobody, light=_light(lambda t: "green", 100.0)), _straight_context())
    assert green.causes == () and [f.kind for f in green.others] == ["green_light"]
    aside = _history(lambda t: nobody, light=lambda t: replace(_light(lambda t: "red", 100.0)(t),
                     stop_xy_in_local_m=np.array([[100.0, 3.5]])))  # fmt: skip
    assert explain(aside, _straight_context()).causes == ()


def test_waiting_at_red_stays_a_stop_and_green_is_the_reason_to_go():
    waiting = _history(lambda t: _agents(), 0.0, _light(lambda t: "red", 65.0))
    said = explain(waiting, _straight_context())
    assert said.longitudinal == "stop_for_static_constraint" and said.acceleration_mps2 <= 0
    released = _history(lambda t: _agents(), 0.0, _light(lambda t: "red" if t < -0.25 else "green", 65.0))
    said = explain(released, _straight_context())
    assert (said.longitudinal, said.causes[0].kind) == ("set_speed_tracking", "green_light")
    assert said.causes[0].evidence_t_us == 4_800_000  # the first green moment


def test_yellow_is_stopped_for_only_where_there_is_room():
    near = _history(lambda t: _agents(), light=_light(lambda t: "yellow" if t > -0.15 else "green", 72.0))
    assert "yellow_light" not in [c.kind for c in explain(near, _straight_context()).causes]
    far = _history(lambda t: _agents(), light=_light(lambda t: "yellow" if t > -0.15 else "green", 95.0))
    assert explain(far, _straight_context()).causes[0].kind == "yellow_light"


@pytest.mark.parametrize(("sticks_out", "lateral"), [(0.5, "in_lane_nudge"), (1.2, "out_of_lane_nudge")])
def test_a_standing_car_is_passed_on_the_left(sticks_out, lateral):
    y = -1.75 + sticks_out - 0.9
    said = explain(_history(lambda t: _agents(("s", "car", 85, y, 0, 0.0, CAR, False, 0))), _straight_context())
    assert (said.lateral, said.direction) == (lateral, "left")
    assert said.lateral_offset_m == pytest.approx(-1.75 + sticks_out + 0.95 + 0.7, abs=1e-6)
    assert said.longitudinal == "set_speed_tracking" and said.causes[0].kind == "stopped_vehicle"


def test_a_standing_car_is_waited_for_while_somebody_comes_the_other_way():
    def both(t):
        return _agents(
            ("s", "car", 90, -1.0, 0, 0.0, CAR, False, 0), ("o", "car", 120 - 9 * t, 3.5, math.pi, 9.0, CAR, False, 0)
        )

    said = explain(_history(both), _straight_context())
    assert said.lateral == "lane_keeping" and said.longitudinal == "stop_for_static_constraint"
    assert said.causes[0].kind == "stopped_vehicle"


def test_a_parked_car_beside_the_lane_is_harmless():
    said = explain(_history(lambda t: _agents(("s", "car", 80, -3.1, 0, 0.0, CAR, False, 0))), _straight_context())
    assert said.causes == () and said.others[0].agent_id == "s"


def test_explain_needs_neither_history_nor_a_map():
    context = SceneContext(RoadMap(), np.array([[0.0, 0.0], [200.0, 0.0]]), 10.0, default_camera())
    said = explain(_history(lambda t: _agents(("a", "car", 80, 0, 0, 0.0, CAR, True, 0)), seconds=0.0), context)
    assert said.causes[0].kind == "lead_vehicle"


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 20), st.floats(0, 15), st.floats(0.5, 80), st.floats(0, 3))
def test_bounds_never_ask_for_more_than_free_driving_and_grow_with_room(speed, lead, gap, more):
    free = bounds.free(speed, 12.0)
    assert bounds.HARDEST_MPS2 <= bounds.follow(speed, lead, gap, free) <= max(free, bounds.HARDEST_MPS2)
    assert bounds.follow(speed, lead, gap + more, free) >= bounds.follow(speed, lead, gap, free) - 1e-9
    if speed > 0.5:
        near, far = (bounds.stop_at(speed, 0.4 + g, free, 1.0) for g in (gap, gap + more))
        assert bounds.HARDEST_MPS2 <= near <= far + 1e-9 and far <= free + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.floats(-2, 2), st.floats(-60, 160))
def test_a_nudge_is_smooth_and_never_more_than_its_offset(offset, arc):
    nudge = Nudge(offset, 40.0, 60.0, 25.0)
    assert abs(nudge.at(arc)) <= abs(offset) + 1e-9
    assert abs(nudge.at(arc + 0.1) - nudge.at(arc)) <= abs(offset) * 1.5 / 25.0 * 0.1 + 1e-9
    assert nudge.at(50.0) == pytest.approx(offset) and nudge.at(14.0) == nudge.at(86.0) == 0.0


@pytest.fixture(scope="module")
def drives() -> list[Drive]:
    """The expert in 24 scenes: each family and variant twice."""
    return [drive(build_scene(spec), 20.0) for spec in draw_specs(24, 700)]


def _ego_box(state: WorldState) -> shapely.Polygon:
    ego = state.ego
    length, width = (np.array(v) for v in ego.size_m[:2])
    return shapely.Polygon(box_corners(ego.centre_xy_in_local_m, np.array(ego.yaw_rad), length, width))


def test_the_expert_touches_nobody_and_stays_on_the_road(drives):
    for driven in drives:
        ground = pavement(driven.context.road)
        for state in driven.states:
            box, agents = _ego_box(state), state.agents
            assert shapely.contains(ground, box), (driven.scene.spec.scene_id, state.t_us)
            others = box_corners(agents.xy_in_local_m, agents.yaw_rad, agents.size_m[:, 0], agents.size_m[:, 1])
            assert not any(box.intersects(shapely.Polygon(o)) for o in others), (driven.scene.spec.scene_id, state.t_us)


def test_the_expert_never_crosses_a_stop_line_at_red(drives):
    checked = 0
    for driven in drives:
        route = route_of(driven.context)
        arcs = route.project(np.array([s.ego.xy_in_local_m for s in driven.states]))[0] + 3.7
        for i, state in enumerate(driven.states[1:], start=1):
            for lane, xy, light in zip(
                state.lights.lane_ids, state.lights.stop_xy_in_local_m, state.lights.state, strict=True
            ):
                arc, offset = route.project(xy)
                if lane.startswith("forward") and abs(offset) < 1.5 and light == "red":
                    checked += 1
                    assert not arcs[i - 1] < arc <= arcs[i], driven.scene.spec.scene_id
    assert checked > 100


def test_every_intended_cause_is_named_and_no_harmless_object_is(drives):
    for driven in drives:
        scene = driven.scene
        named = [c for e in driven.explanations for c in e.causes]
        hits = [c for c in named if c.kind == scene.focus_kind and scene.focus_id in (None, c.agent_id)]
        blamed = [c for c in named if c.agent_id == scene.focus_id] if scene.focus_id else hits
        assert (not blamed) if scene.spec.harmless else hits, scene.spec.scene_id


def test_explanations_speak_the_closed_sets_and_point_into_the_history(drives):
    for driven in drives:
        for state, said in zip(driven.states, driven.explanations, strict=True):
            assert said.longitudinal in LONGITUDINAL_DECISIONS and said.lateral in LATERAL_DECISIONS
            assert (said.direction is not None) == (said.lateral in DIRECTED_LATERAL)
            for factor in said.causes + said.others:
                assert factor.category == CAUSE_KINDS[factor.kind]
                assert state.t_us - 2_000_000 <= factor.evidence_t_us <= state.t_us


def test_drives_are_comfortable_and_decisions_do_not_flicker(drives):
    for driven in drives:
        acceleration = np.array([s.ego.acceleration_mps2 for s in driven.states])
        lateral = np.array([s.ego.curvature_1pm * s.ego.speed_mps**2 for s in driven.states])
        changes = sum(
            (a.longitudinal, a.lateral) != (b.longitudinal, b.lateral)
            for a, b in zip(driven.explanations, driven.explanations[1:], strict=False)
        )
        assert np.abs(lateral).max() <= 3.0 and changes <= 6, driven.scene.spec.scene_id
        assert np.quantile(acceleration, 0.01) > -3.6, driven.scene.spec.scene_id


@pytest.mark.parametrize(
    ("family", "seed"),
    [("lead_brakes", 2700002), ("emergency_vehicle", 2700032), ("ramp_merge", 2700058), ("pedestrian_crosses", 2700084),
     ("van_jaywalker", 2700102)],
)  # fmt: skip
def test_braking_is_built_up_and_let_go_within_the_bound_on_jerk(family, seed):
    driven = drive(build_scene(SceneSpec(family, seed)), 12.0)
    assert np.abs(np.diff([s.ego.acceleration_mps2 for s in driven.states])).max() / 0.1 <= JERK_MPS3
    assert_unharmed(driven, family)


@pytest.mark.parametrize("speed", [0.3, 0.7, 1.2, 2.0, 4.0, 7.0])
@pytest.mark.parametrize("braking", [-1.5, -3.0, -5.0, -7.9])
@pytest.mark.parametrize("there", [False, True], ids=["cleared", "wall"])
def test_hard_braking_is_let_go_without_a_jolt_before_the_car_stands(speed, braking, there):
    braking = max(braking, -math.sqrt(2 * 8.0 * speed))  # nobody who brakes like this brakes harder at that speed
    wall = 60.0 + 3.7 + 2.25 + speed**2 / (2 * -braking) + 3.0
    agents = _agents(("wall", "car", wall, 0.0, 0.0, 0.0, CAR, False, 0)) if there else AgentArrays()
    history = [WorldState(0, EgoState(np.array([60.0, 0.0]), 0.0, speed, braking), agents, LightArrays())]
    driver = ExpertDriver(_straight_context())
    for step in range(1, 60):
        state = history[-1]
        moved = advance(state.ego, *driver.control(history))
        assert abs(moved.acceleration_mps2 - state.ego.acceleration_mps2) <= 0.1 * JERK_MPS3
        history = [*history[-20:], replace(state, t_us=step * 100_000, ego=moved)]
    front = history[-1].ego.xy_in_local_m[0] + 3.7
    assert front < wall - 2.25 and history[-1].ego.speed_mps < 0.5 if there else history[-1].ego.speed_mps > 2.0


def test_who_steps_out_close_before_us_is_braked_for_as_hard_as_it_takes():
    """Eight metres at 10 m/s ask for more than the bound on jerk allows: there it is left."""
    context = _straight_context()
    driver = ExpertDriver(context)
    history = _history(lambda t: _agents(("person", "pedestrian", 71.7, 0.4, 1.57, 1.0, PERSON, False, 0)))
    asked = driver.control(history)[0] - history[-1].ego.acceleration_mps2
    assert explain(history, context).acceleration_mps2 < -6.0 and asked < -0.1 * JERK_MPS3


def test_the_lane_centre_is_held_also_in_sharp_curves(drives):
    curves = [d for d in drives if d.scene.spec.family == "sharp_curve"]
    assert curves
    for driven in curves:
        offset = Route(driven.context).project(np.array([s.ego.xy_in_local_m for s in driven.states]))[1]
        assert np.abs(offset).max() < 0.3


def test_events_end_and_the_drive_goes_on(drives):
    resumed = [d for d in drives if d.scene.spec.family == "red_light" and not d.scene.spec.harmless]
    green = [any(c.kind == "green_light" for e in d.explanations for c in e.causes) for d in resumed]
    assert any(green)


def test_the_response_comes_a_reaction_time_after_the_explanation():
    """A pedestrian who starts to walk changes the explanation at once and the driver's command 0.6 s later."""

    def walks_since(start: float):
        def person(t: float):
            y = -4.2 + 1.4 * max(t - start, 0.0)
            return _agents(("p", "pedestrian", 95, y, math.pi / 2, 1.4 if t > start else 0.0, PERSON, False, 0))

        return person

    context = _straight_context()
    driver = ExpertDriver(context)
    early, late = _history(walks_since(-0.45)), _history(walks_since(-1.3))
    assert explain(early, context).longitudinal == explain(late, context).longitudinal == "yield"
    assert driver.control(early)[0] == pytest.approx(0.0, abs=0.05)
    assert driver.control(late)[0] < -0.3
    assert REACTION_S == 0.6


def test_a_pushed_expert_comes_back_and_harms_nobody():
    pushed = 0
    for spec in draw_specs(12, 900):
        driven = drive(build_scene(spec), 16.0, draw_disturbance(spec, 1.0))
        pushed += len(driven.pushed_us)
        assert_unharmed(driven, spec.scene_id)
    assert pushed > 6


def test_one_who_looks_away_acts_late_and_still_harms_nobody():
    late = 0
    for spec in draw_specs(12, 900):
        driven = drive(build_scene(spec), 16.0, Disturbance(late_s=1.2))
        assert_unharmed(driven, spec.scene_id)
        if spec.harmless:
            assert driven.pushed_us == [], spec.scene_id
        for begin_us, end_us in driven.pushed_us:
            late += 1
            assert end_us - begin_us <= 1_800_000  # 1.2 s and up to the next half second
            away = [s.ego.acceleration_mps2 for s in driven.states if begin_us < s.t_us <= end_us]
            assert min(away) > -1.0, spec.scene_id  # what it has to act on asks for more
    assert late >= 4


def test_a_recording_tells_how_it_was_disturbed():
    spec = draw_specs(1, 900)[0]
    assert disturbance_of(spec, {"disturbed": False, "late_s": 0.0}) is None
    assert disturbance_of(spec, {"disturbed": True}) == draw_disturbance(spec, 1.0)
    assert disturbance_of(spec, {"disturbed": False, "late_s": 0.7}) == Disturbance(late_s=0.7)


def assert_unharmed(driven: Drive, name: str) -> None:
    """On the road all the way, and nobody touched."""
    ground = pavement(driven.context.road)
    assert all(shapely.contains(ground, _ego_box(s)) for s in driven.states), name
    for state in driven.states:
        agents = state.agents
        others = box_corners(agents.xy_in_local_m, agents.yaw_rad, agents.size_m[:, 0], agents.size_m[:, 1])
        assert not any(_ego_box(state).intersects(shapely.Polygon(o)) for o in others), name


def test_the_share_of_disturbed_scenes_is_the_one_asked_for():
    specs = draw_specs(400, 0)
    assert not any(draw_disturbance(s, 0.0) for s in specs)
    assert 0.2 < np.mean([draw_disturbance(s, 0.3) is not None for s in specs]) < 0.4
    drawn = [draw_disturbance(s, 0.3, 0.3) for s in specs]
    assert 0.2 < np.mean([d is not None and d.late_s > 0 for d in drawn]) < 0.4
    assert [d for d in drawn if d and not d.late_s] == [d for s in specs if (d := draw_disturbance(s, 0.3))]
