"""Scenes: everything from the seed, every family in both variants, objects where the camera sees them."""

import json

import numpy as np
import pytest
import shapely

from causaldrive.clips.geometry import box_corners, to_frame
from causaldrive.ground.errors import UserError
from causaldrive.ground.words import RESERVED_SEED
from causaldrive.worlds.route import pavement
from causaldrive.worlds.scenes import CORE_FAMILIES, SceneSpec, build_scene, default_camera, draw_specs
from causaldrive.worlds.town import TownWorld


def test_any_run_of_twelve_seeds_shows_each_family_in_both_variants():
    for first in (0, 1, 7, 1_000_003):
        specs = draw_specs(2 * len(CORE_FAMILIES), first)
        assert [s.seed for s in specs] == list(range(first, first + 12))
        assert {(s.family, s.harmless) for s in specs} == {(f, h) for f in CORE_FAMILIES for h in (False, True)}


def test_chosen_families_are_cycled_too():
    specs = draw_specs(4, 10, ["cut_in", "red_light"])
    assert {(s.family, s.harmless) for s in specs} == {(f, h) for f in ("cut_in", "red_light") for h in (False, True)}


@pytest.mark.parametrize(
    ("count", "first", "families", "says"),
    [
        (1, RESERVED_SEED, None, "reserved"),
        (2, RESERVED_SEED - 1, None, "reserved"),
        (1, -1, None, "0 or more"),
        (1, 0, ["red_ligth"], "Did you mean red_light"),
    ],
)
def test_what_may_not_be_drawn_is_refused(count, first, families, says):
    with pytest.raises(UserError, match=says):
        draw_specs(count, first, families)


def test_building_a_reserved_scene_is_refused():
    with pytest.raises(UserError, match="reserved"):
        build_scene(SceneSpec("cut_in", RESERVED_SEED))


@pytest.mark.parametrize("spec", draw_specs(12, 40), ids=lambda s: s.scene_id)
def test_a_scene_is_drawn_the_same_twice_and_differs_between_seeds(spec):
    one, two, other = (
        build_scene(spec),
        build_scene(spec),
        build_scene(SceneSpec(spec.family, spec.seed + 12, spec.harmless)),
    )
    assert np.array_equal(one.context.route_xy_in_local_m, two.context.route_xy_in_local_m)
    assert one.script.actors == two.script.actors and one.context.appearance == two.context.appearance
    assert one.context.target_speed_mps != other.context.target_speed_mps
    json.dumps(one.context.appearance)
    assert set(one.context.appearance["agent_rgb"]) == {a.agent_id for a in one.script.actors}


def test_a_car_that_holds_its_heading_leaves_the_road_in_most_scenes():
    left = 0
    for spec in draw_specs(36, 100):
        world = TownWorld(build_scene(spec))
        ground = pavement(world.context.road)
        while not world.finished:
            world.step(0.0, 0.0)
        left += not shapely.contains_xy(ground, *world.state.ego.xy_in_local_m)
    assert left >= 18


def test_nobody_touches_anybody_at_the_start():
    for spec in draw_specs(48, 200):
        world = TownWorld(build_scene(spec))
        state = world.state
        boxes = [shapely.Polygon(box_corners(a.xy, a.yaw, a.length, a.width)) for a in _boxes(state)]
        touching = [(i, j) for i in range(len(boxes)) for j in range(i) if boxes[i].intersects(boxes[j])]
        assert not touching, spec.scene_id


class _Box:
    def __init__(self, xy, yaw, length, width):
        self.xy, self.yaw, self.length, self.width = xy, np.array(yaw), np.array(length), np.array(width)


def _boxes(state):
    agents, ego = state.agents, state.ego
    yield _Box(ego.centre_xy_in_local_m, ego.yaw_rad, ego.size_m[0], ego.size_m[1])
    for i in range(len(agents)):
        yield _Box(agents.xy_in_local_m[i], agents.yaw_rad[i], agents.size_m[i, 0], agents.size_m[i, 1])


def test_the_camera_looks_forward_and_slightly_down():
    camera = default_camera()
    pixel, inside = camera.project(np.array([[30.0, 0.0, 0.0], [30.0, 5.0, 1.5], [-5.0, 0.0, 1.0]]))
    assert inside.tolist() == [True, True, False]
    assert pixel[0] == pytest.approx((160.0, 96.0 - 208.5 * (np.tan(np.radians(3) - np.arctan(1.5 / 28.4)))), abs=1.0)
    assert pixel[1, 0] < 160.0 and pixel[0, 1] > pixel[1, 1]


def test_a_waiting_driver_still_sees_the_light_overhead():
    """The ego stands 1.2 m before its stop line: the governing head must be inside the picture."""
    for seed in (2, 14, 26, 38):
        scene = build_scene(SceneSpec("red_light", seed))
        head = next(h for h in scene.script.heads if h.light_id == scene.focus_id)
        stop = np.array(head.stop_xy_m)
        rear_axle = stop - (3.7 + 1.2) * np.array([np.cos(head.yaw_rad), np.sin(head.yaw_rad)])
        xy = to_frame(np.array(head.head_xyz_m[:2]), rear_axle, head.yaw_rad)
        _, inside = scene.context.camera.project(np.array([*xy, head.head_xyz_m[2] + 0.8]))
        assert inside
