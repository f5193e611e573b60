"""What a camera shows of a cause, measured in its picture: near more than far, nothing where it is hidden or behind."""

from __future__ import annotations

import numpy as np
import pytest
from drawing import agents_of, camera_of, context_of, light_of, state_of, straight_road

from causaldrive.clips.types import Lane, RoadMap
from causaldrive.worlds.expert_drive import Drive
from causaldrive.worlds.explanation import Explanation, Factor
from causaldrive.worlds.render_road import merge_arrows
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.scenes import CORE_FAMILIES, SceneSpec, build_scene
from causaldrive.worlds.sheet import panel
from causaldrive.worlds.state import WAVES
from causaldrive.worlds.telling import ENOUGH_PX, best_moment, rear_camera, visible


@pytest.fixture(scope="module")
def renderer():
    opened = Renderer(camera_of(), "software")
    yield opened
    opened.close()


@pytest.fixture
def scene(renderer):
    opened = renderer.open(context_of(renderer.camera))
    yield opened
    opened.close()


def test_near_counts_more_than_far_and_another_name_nothing(scene):
    near, far = (state_of(agents_of(("car", "car", x, -1.75, 0.0))) for x in (12.0, 40.0))
    assert visible(scene, near, "car").sum() > 4 * visible(scene, far, "car").sum() > 0
    assert not visible(scene, near, "someone").any()


def test_what_a_van_hides_is_not_visible(scene):
    person = ("person", "pedestrian", 22.0, -1.75, 0.0)
    alone, hidden = agents_of(person), agents_of(person, ("van", "truck", 14.0, -1.75, 0.0))
    assert visible(scene, state_of(alone), "person").sum() > 60
    assert visible(scene, state_of(hidden), "person").sum() < 10


def test_who_comes_from_behind_is_seen_by_the_rear_camera_alone(scene):
    state = state_of(agents_of(("car", "car", -12.0, -1.75, 0.0)))
    assert not visible(scene, state, "car").any()
    assert visible(scene, state, "car", rear_camera()).sum() > 200


def test_a_light_is_visible_too(scene):
    assert visible(scene, state_of(lights=light_of("red", 25.0)), "light").sum() > 60


def _drive(states, named) -> Drive:
    """The focus is the pedestrian of the scene, named where `named` says."""
    cause = Factor("pedestrian_crossing", "pedestrian", 0, -2.0, 0.0, "a pedestrian is crossing")
    said = [_explained((cause,) if there else ()) for there in named]
    return Drive(build_scene(SceneSpec("pedestrian_crosses", 0)), states, said, [])


def _explained(causes) -> Explanation:
    return Explanation("yield", "lane_keeping", None, causes, (), 0.0, 0.0)


def test_the_moment_is_the_one_that_shows_most_while_it_is_named(scene):
    places = [(60.0, False), (40.0, True), (25.0, True), (14.0, True), (9.0, False)]
    states = [state_of(agents_of(("pedestrian", "pedestrian", x, -1.75, 1.57))) for x, _ in places for _ in range(3)]
    found = best_moment(_drive(states, [there for _, there in places for _ in range(3)]), scene)
    assert found.index in (9, 10, 11) and not found.behind
    assert found.visible_px is not None and 60 < found.visible_px <= ENOUGH_PX


def test_a_picture_in_which_it_brakes_tells_more_than_a_nearer_one_in_which_it_does_not(scene):
    far, near = (
        agents_of(("pedestrian", "car", x, -1.75, 0.0), brake=brakes) for x, brakes in ((16.0, True), (13.0, False))
    )
    found = best_moment(_drive([state_of(far)] * 3 + [state_of(near)] * 3, [True] * 6), scene)
    assert found.index == 0


def test_a_raised_hand_is_seen_at_the_distance_at_which_it_is_named(scene):
    person = ("person", "pedestrian", 14.0, -4.2, 1.57)
    waits, waves = (scene.render(state_of(agents_of(person, indicator=shown))) for shown in (0, WAVES))
    changed = np.argwhere(np.abs(waits.astype(int) - waves).sum(axis=2) > 60)
    body = np.argwhere(visible(scene, state_of(agents_of(person)), "person"))
    assert len(changed) > 20
    assert changed[:, 0].min() <= body[:, 0].min(), "it is as high as the head"


def test_what_only_motion_tells_has_an_earlier_picture_beside_it(renderer):
    swerves, stands = (panel(SceneSpec(name, 8), renderer) for name in ("risky_driver", "stopped_car"))
    assert swerves.inset is not None and swerves.inset_name == "0.9 s before" and stands.inset is None
    assert swerves.inset.shape == swerves.frame.shape and np.abs(swerves.inset.astype(int) - swerves.frame).mean() > 1


def test_a_lane_that_ends_beside_one_that_goes_on_has_arrows_and_others_none():
    x = np.linspace(0.0, 90.0, 46)
    line = {y: np.column_stack([x, np.full(len(x), y)]) for y in (-3.5, -1.75, 0.0, 1.75, 3.5)}
    ends = Lane("ends", line[-1.75], line[0.0], line[-3.5], left_neighbour="on")
    on = Lane("on", line[1.75], line[3.5], line[0.0], successors=("next",), right_neighbour="ends")
    arrows = merge_arrows(RoadMap({"ends": ends, "on": on}))
    corners = np.concatenate([mesh.xyz_m for mesh in arrows])
    assert len(arrows) == 4 and corners[:, 1].min() > -3.5 and corners[:, 1].max() < 0.5
    assert not merge_arrows(straight_road())
    assert not any(merge_arrows(build_scene(SceneSpec(name, 1)).context.road) for name in CORE_FAMILIES)


def test_a_guide_line_is_painted_where_it_is_asked_for(renderer):
    pictures = []
    for hints in ({}, {"guide_rgb": [40, 190, 110]}):
        opened = renderer.open(context_of(renderer.camera, **hints))
        pictures.append(opened.render(state_of()).astype(int))
        opened.close()
    green = pictures[1][..., 1] - pictures[1][..., 0] > 80
    assert green[150:, 120:200].sum() > 200 and not (pictures[0][..., 1] - pictures[0][..., 0] > 80).any()
