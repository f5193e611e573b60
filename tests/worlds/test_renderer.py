"""The front camera, the bird's-eye view and the overlay, through their public doors."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawing import agents_of, camera_of, context_of, light_of, state_of, strength
from hypothesis import given, settings
from hypothesis import strategies as st

from causaldrive.clips.geometry import box_corners, from_frame
from causaldrive.clips.types import RoadMap
from causaldrive.ground.errors import UserError
from causaldrive.ground.words import AGENT_CATEGORIES
from causaldrive.worlds import render_backend
from causaldrive.worlds.render_backend import in_picture, pose_matrix
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.scenes import SceneSpec, build_scene, default_camera
from causaldrive.worlds.state import EgoState, LightArrays, WorldState
from causaldrive.worlds.town import TownWorld

MAGENTA = (255, 0, 255)


def _backends() -> list[str]:
    """The software renderer must open everywhere; GL is tested where the machine has a driver."""
    with contextlib.suppress(UserError):
        Renderer(camera_of(), "gl").close()
        return ["software", "gl"]
    return ["software"]


@pytest.fixture(scope="module", params=_backends())
def renderer(request):
    renderer = Renderer(camera_of(), request.param)
    yield renderer
    renderer.close()


def picture(renderer: Renderer, state: WorldState, **appearance) -> np.ndarray:
    scene = renderer.open(context_of(renderer.camera, **appearance))
    image = scene.render(state)
    scene.close()
    return image


def hull_centre(uv: np.ndarray) -> np.ndarray:
    moments = cv2.moments(cv2.convexHull(uv.astype(np.float32)))
    return np.array([moments["m10"], moments["m01"]]) / moments["m00"]


# ---- geometry: what `Camera.project` says is what the picture shows ----


@settings(max_examples=12, deadline=None)
@given(
    ahead=st.floats(6.0, 30.0),
    share=st.floats(-0.5, 0.5),
    yaw=st.floats(-3.0, 3.0),
    shift=st.tuples(st.floats(-40, 40), st.floats(-25, 25)),
    stretch=st.floats(0.8, 1.3),
)
def test_a_marker_lands_where_the_camera_projects_it(renderer, ahead, share, yaw, shift, stretch):
    plain = camera_of()
    camera = camera_of(cx_px=160 + shift[0], cy_px=96 + shift[1], fy_px=plain.fy_px * stretch)
    ego = EgoState(np.array([37.0, -12.0]), yaw, 0.0)
    xy = from_frame(np.array([ahead, share * 0.6 * ahead]), ego.xy_in_local_m, yaw)
    agents = agents_of(("marker", "other", *xy, yaw))
    agents.size_m[:] = (0.3, 0.6, 0.6)
    scene = renderer.open(context_of(camera, RoadMap(), agent_rgb={"marker": MAGENTA}))
    seen = strength(scene.render(WorldState(0, ego, agents, LightArrays()), camera), (0, 2), (1,)).astype(float)
    scene.close()
    seen[seen < 60] = 0
    ring = box_corners(np.array([ahead, share * 0.6 * ahead]), np.array(0.0), np.array(0.3), np.array(0.6))
    corners = np.concatenate([np.column_stack([ring, np.full(4, z)]) for z in (0.0, 0.6)])
    uv, inside = camera.project(corners)
    if not inside.all():
        return
    rows, columns = np.nonzero(seen)
    weights = np.sqrt(seen[rows, columns])
    found = np.average(np.column_stack([columns, rows]) + 0.5, axis=0, weights=weights)
    assert np.abs(found - hull_centre(uv)).max() < 1.0


def test_the_horizon_is_where_the_pitch_puts_it(renderer):
    scene = renderer.open(context_of(renderer.camera, RoadMap(), ground_rgb=(0, 160, 0), sky_rgb=(120, 160, 255)))
    image = scene.render(state_of())
    column = image[:, 5].astype(int)
    row = int(np.argmax(column[:, 1] > column[:, 2] + 30))
    camera = renderer.camera
    assert abs(row - (camera.cy_px - camera.fy_px * np.tan(0.05))) < 3


# ---- what must be readable ----


def test_a_red_light_at_40_m_is_red_and_a_green_one_green(renderer):
    red = picture(renderer, state_of(lights=light_of("red", 40.0)))
    green = picture(renderer, state_of(lights=light_of("green", 40.0)))
    off = picture(renderer, state_of(lights=light_of("off", 40.0)))
    assert (strength(red, (0,), (1, 2)) > 110).sum() >= 5 > (strength(off, (0,), (1, 2)) > 110).sum()
    assert (strength(green, (1,), (0, 2)) > 90).sum() >= 5 > (strength(red, (1,), (0, 2)) > 90).sum()


def test_a_head_shows_its_lamps_only_to_its_own_lane(renderer):
    lights = light_of("red", 25.0)
    lights.yaw_rad[:] = np.pi
    away = picture(renderer, state_of(lights=lights))
    assert (strength(away, (0,), (1, 2)) > 110).sum() == 0


def test_brake_lights_turn_red_on_every_motor_vehicle(renderer):
    for category in ("car", "truck", "bus"):
        row = ("lead", category, 30.0, -1.75, 0.0)
        counts = [
            (strength(picture(renderer, state_of(agents_of(row, brake=brake))), (0,), (1, 2)) > 130).sum()
            for brake in (False, True)
        ]
        assert counts[0] == 0 and counts[1] >= 10, category


def test_an_indicator_shows_on_its_side(renderer):
    def orange(indicator: int) -> np.ndarray:
        image = picture(renderer, state_of(agents_of(("lead", "car", 18.0, -1.75, 0.0), indicator=indicator)))
        return (image[..., 0] > 190) & (image[..., 2] < 60) & (image[..., 1] > 90) & (image[..., 1] < 190)

    unlit = orange(0)  # the road's yellow line has such pixels too
    left, right = (np.nonzero(orange(side) & ~unlit)[1] for side in (1, -1))
    assert len(left) >= 20 and len(right) >= 20
    assert left.max() < 160 < right.min()


def test_every_category_is_drawn(renderer):
    empty = picture(renderer, state_of())
    for category in AGENT_CATEGORIES:
        image = picture(renderer, state_of(agents_of(("one", category, 12.0, -1.75, 0.3))))
        assert (np.abs(image.astype(int) - empty).max(axis=-1) > 20).sum() > 20, category


def test_a_pedestrian_stays_visible_at_30_m(renderer):
    crossing = agents_of(("walker", "pedestrian", 30.0, -1.0, 1.57))
    difference = picture(renderer, state_of(crossing)).astype(int) - picture(renderer, state_of())
    assert (np.abs(difference).max(axis=-1) > 40).sum() > 15


@pytest.mark.parametrize("side", [-1.0, 1.0])
@pytest.mark.parametrize("ahead", [4.0, 10.0, 16.0])
def test_what_only_reaches_into_the_picture_is_drawn_up_to_its_edge(renderer, side, ahead):
    """A lorry moved outward step by step shows less and less, and never goes while a part of it would show."""
    half = (ahead + 1.0) * np.tan(np.deg2rad(37.5))
    empty = picture(renderer, state_of())
    shown = []
    for aside in half + np.array([-2.0, 0.0, 1.0, 2.0, 4.0, 8.0]):
        image = picture(renderer, state_of(agents_of(("lorry", "truck", ahead, -1.75 + side * aside, 1.57))))
        shown.append(int((np.abs(image.astype(int) - empty).max(axis=-1) > 20).sum()))
    assert shown == sorted(shown, reverse=True) and shown[1] > 0 == shown[-1]


@settings(max_examples=200, deadline=None)
@given(
    place=st.tuples(st.floats(-60, 60), st.floats(-60, 60), st.floats(0, 5)),
    off=st.tuples(*[st.floats(-1, 1)] * 3), radius=st.floats(0.1, 6.0),
    yaw=st.floats(-3, 3), pitch=st.floats(-1.2, 1.2),
)  # fmt: skip
def test_a_ball_with_a_point_in_the_picture_is_in_it(place, off, radius, yaw, pitch):
    camera, pose = camera_of(pitch_rad=pitch, cx_px=130.0), pose_matrix(np.array([3.0, -2.0]), yaw)
    point = np.array(place) + radius / 1.8 * np.array(off)
    _, inside = camera.project((point - pose[:3, 3]) @ pose[:3, :3])
    kept = in_picture(camera, pose, np.array([place]), np.array([radius]))
    assert kept[0] or not inside


def test_nothing_behind_the_camera_is_in_the_picture():
    pose = pose_matrix(np.zeros(2), 0.0)
    places = np.array([[-20.0, 0.0, 0.8], [20.0, 60.0, 0.8], [20.0, 0.0, 0.8]])
    assert in_picture(camera_of(), pose, places, np.full(3, 3.0)).tolist() == [False, False, True]


# ---- the same state gives the same picture ----


def test_same_state_same_pixels_also_between_other_scenes(renderer):
    state = state_of(agents_of(("a", "car", 20.0, -1.75, 0.1), brake=True), light_of("red", 45.0))
    other = state_of(agents_of(("a", "bus", 15.0, 1.75, 3.1)), x=7.0)
    context = context_of(renderer.camera, fog=0.01, brightness=0.8)
    first, second = renderer.open(context), renderer.open(context_of(renderer.camera, sky_rgb=(250, 180, 140)))
    before = first.render(state)
    assert before.shape == (192, 320, 3) and before.dtype == np.uint8
    strange = second.render(other)
    assert np.array_equal(first.render(state), before)
    first.render(other)
    second.close()
    assert np.array_equal(first.render(state), before)
    again = renderer.open(context)
    assert np.array_equal(again.render(state), before) and not np.array_equal(strange, before)
    first.close()
    first.close()


def test_a_scene_of_the_town_opened_again_has_the_same_pixels():
    """Cars, lamps and trees that tie in depth are drawn in one order, however memory lies."""
    renderer = Renderer(default_camera())
    world = TownWorld(build_scene(SceneSpec("red_light", 2)))
    for _ in range(16):
        world.step(0.0, 0.0)
    pictures, kept = [], []
    for attempt in range(5):
        view = renderer.open(world.context)
        pictures.append(view.render(world.state))
        view.close()
        kept.append([object() for _ in range(1000 * attempt)])
    renderer.close()
    assert all(np.array_equal(pictures[0], again) for again in pictures[1:])


def test_agents_and_lights_come_and_go(renderer):
    scene = renderer.open(context_of(renderer.camera))
    bare = scene.render(state_of())
    full = state_of(
        agents_of(("a", "car", 20.0, -1.75, 0.0), ("b", "pedestrian", 15.0, 2.0, 0.0)), light_of("red", 40.0)
    )
    crowded = scene.render(full)
    assert not np.array_equal(crowded, bare)
    assert np.array_equal(scene.render(state_of()), bare)
    assert np.array_equal(scene.render(full), crowded)
    assert np.array_equal(scene.render(state_of(agents_of(("far", "car", 400.0, -1.75, 0.0)))), bare)


def test_an_agent_that_changes_is_redrawn(renderer):
    scene = renderer.open(context_of(renderer.camera))
    row = ("a", "car", 20.0, -1.75, 0.0)
    images = [scene.render(state_of(agents_of(row, brake=brake))) for brake in (False, True, False)]
    assert not np.array_equal(images[0], images[1]) and np.array_equal(images[0], images[2])


def test_driving_on_moves_the_ground_smoothly(renderer):
    """The travelling ground patch jumps by its own period: crossing that line must not change the picture's look."""
    scene = renderer.open(context_of(renderer.camera, RoadMap()))
    before, after = (scene.render(state_of(x=x)).astype(int) for x in (99.99, 100.01))
    assert np.abs(after - before).mean() < 0.5


def test_another_camera_gives_its_own_size(renderer):
    scene = renderer.open(context_of(renderer.camera))
    small = scene.render(state_of(), camera_of(160, 96))
    assert small.shape == (96, 160, 3)
    large = cv2.resize(scene.render(state_of()), (160, 96), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - large).mean() < 4


_OTHER_PROCESS = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from drawing import agents_of, camera_of, light_of, state_of
from test_renderer import picture
from causaldrive.worlds.renderer import Renderer
renderer = Renderer(camera_of(), sys.argv[2])
state = state_of(agents_of(("a", "car", 20.0, -1.75, 0.1), ("b", "pedestrian", 12.0, 2.0, 0.0)), light_of("red", 45.0))
np.save(sys.argv[3], picture(renderer, state))
"""


def test_another_process_draws_the_same_and_keeps_quiet(renderer, tmp_path):
    target = tmp_path / "image.npy"
    arguments = [str(Path(__file__).parent), renderer.backend, str(target)]
    done = subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and done.stdout == ""
    agents = agents_of(("a", "car", 20.0, -1.75, 0.1), ("b", "pedestrian", 12.0, 2.0, 0.0))
    error = np.load(target).astype(float) - picture(renderer, state_of(agents, light_of("red", 45.0)))
    assert 10 * np.log10(255**2 / max(np.mean(error**2), 1e-9)) > 45


# ---- errors a person can cause ----


def test_an_unknown_backend_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"'softwar'.*Did you mean software\?"):
        Renderer(camera_of(), "softwar")


def test_no_backend_at_all_says_what_to_install(monkeypatch):
    monkeypatch.setattr(render_backend, "_make_pipe", lambda backend: None)
    with pytest.raises(UserError, match="apt-get install"):
        Renderer(camera_of())


def test_auto_falls_back_to_the_other(monkeypatch):
    make = render_backend._make_pipe
    monkeypatch.setattr(render_backend, "MODULES", {"gl": "p3headlessgl", "software": "p3tinydisplay"})
    monkeypatch.setattr(render_backend, "_make_pipe", lambda backend: None if backend == "gl" else make(backend))
    renderer = Renderer(camera_of())
    assert renderer.backend == "software"
    renderer.close()


def test_a_camera_without_pixels_is_refused():
    with pytest.raises(UserError, match="0 x 192 pixels"):
        Renderer(camera_of(width=0, fx_px=100.0, fy_px=100.0), "software")


@pytest.mark.parametrize(
    "hint", [{"sky_rgb": (1, 2)}, {"agent_rgb": {"a": (0, 0, 300)}}, {"fog": -1}, {"trees": [[1]]}, {"brightness": "x"}]
)
def test_wrong_appearance_hints_are_named(renderer, hint):
    with pytest.raises(UserError, match=next(iter(hint))):
        renderer.open(context_of(renderer.camera, **hint))
