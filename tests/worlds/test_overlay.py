"""The bird's-eye view and what is drawn into camera pictures."""

from __future__ import annotations

import numpy as np
import pytest
from drawing import agents_of, camera_of, context_of, light_of, state_of, strength
from hypothesis import given, settings
from hypothesis import strategies as st

from causaldrive.clips.geometry import from_frame
from causaldrive.clips.types import RoadMap
from causaldrive.worlds.draw_bev import draw_bev
from causaldrive.worlds.overlay import caption, draw_path
from causaldrive.worlds.state import EgoState, LightArrays, WorldState

# ---- bird's eye ----


def test_bev_puts_ahead_up_and_left_left():
    context = context_of(camera_of())
    state = state_of(agents_of(("a", "pedestrian", 21.4, 6.25, 0.0)))
    image = draw_bev(context, state, (300, 300), 60.0).astype(int)
    plain = draw_bev(context, state_of(), (300, 300), 60.0).astype(int)
    rows, columns = np.nonzero(np.abs(image - plain).max(axis=-1) > 40)
    px_per_m = 300 / 60
    assert columns.mean() == pytest.approx(150 - 8 * px_per_m, abs=2)
    assert rows.mean() == pytest.approx(0.67 * 300 - 20 * px_per_m, abs=2)


def test_bev_turns_with_the_ego():
    context = context_of(camera_of(), RoadMap())
    context.route_xy_in_local_m = np.zeros((2, 2))
    images = []
    for yaw in (0.0, 1.0):
        place = from_frame(np.array([18.0, -4.0]), np.zeros(2), yaw)
        ego = EgoState(np.zeros(2), yaw, 5.0)
        images.append(draw_bev(context, WorldState(0, ego, agents_of(("a", "car", *place, yaw)), LightArrays())))
    assert np.abs(images[0].astype(int) - images[1]).mean() < 0.5


def test_bev_shows_lights_trail_and_plans():
    context = context_of(camera_of())
    plain = draw_bev(context, state_of(), (200, 260))
    assert plain.shape == (260, 200, 3)
    red = draw_bev(context, state_of(lights=light_of("red", 25.0)), (200, 260))
    assert (strength(red, (0,), (1, 2)) > 150).sum() > 10
    ahead = np.column_stack([np.linspace(0.2, 25, 64), np.full(64, -1.75)])
    planned = draw_bev(context, state_of(), (200, 260), plans_xy=[ahead])
    trailed = draw_bev(context, state_of(), (200, 260), trail_xy=ahead - np.array([25, 0]))
    assert not np.array_equal(planned, plain) and not np.array_equal(trailed, plain)


# ---- overlay ----


@settings(max_examples=25, deadline=None)
@given(side=st.floats(-2.0, 2.0), scale=st.sampled_from((1, 2)))
def test_a_path_is_drawn_where_the_camera_projects_it(side, scale):
    camera = camera_of()
    image = np.zeros((192 * scale, 320 * scale, 3), np.uint8)
    path = np.column_stack([np.linspace(0, 40, 64), np.full(64, side)])
    mask = draw_path(image, camera, path, (255, 255, 255), 0.6)[..., 0] > 100
    uv, inside = camera.project(np.array([12.0, side, 0.0]))
    edges, _ = camera.project(np.array([[12.0, side + 0.3, 0.0], [12.0, side - 0.3, 0.0]]))
    row = int(uv[1] * scale)
    columns = np.flatnonzero(mask[row])
    assert inside and abs(columns.mean() + 0.5 - uv[0] * scale) < 1.0
    assert abs(len(columns) - (edges[1, 0] - edges[0, 0]) * scale) <= 2.5


def test_paths_that_cannot_be_seen_leave_the_picture_alone():
    camera, image = camera_of(), np.full((192, 320, 3), 90, np.uint8)
    behind = np.column_stack([np.linspace(-30, -2, 40), np.zeros(40)])
    for path in (behind, np.zeros((64, 2)), np.zeros((0, 2))):
        assert np.array_equal(draw_path(image, camera, path, (0, 255, 0), 0.5), image)


def test_a_path_from_behind_is_clipped_not_mirrored():
    camera, image = camera_of(), np.zeros((192, 320, 3), np.uint8)
    path = np.column_stack([np.linspace(-20, 30, 100), np.zeros(100)])
    drawn = draw_path(image, camera, path, (255, 255, 255), 0.5)[..., 0]
    horizon = int(camera.cy_px - camera.fy_px * np.tan(0.05))
    assert (drawn[: horizon - 1] == 0).all() and drawn[-1, 150:170].any() and image.max() == 0


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(min_size=0, max_size=160), max_size=3))
def test_captions_keep_the_picture_and_add_a_panel(lines):
    image = np.full((40, 120, 3), 7, np.uint8)
    out = caption(image, lines)
    assert out.shape[1:] == (120, 3) and out.shape[0] >= 40 and np.array_equal(out[:40], image)
    if lines:
        assert out.shape[0] > 40


def test_captions_wrap_long_text_without_losing_the_right_edge():
    image = np.zeros((10, 200, 3), np.uint8)
    short, long = caption(image, ["word"]), caption(image, ["word " * 40, "x" * 300])
    assert len(long) > 4 * (len(short) - 10)
    assert (long[10:, -3:] == long[-1, -1]).all() and (long[10:] > 150).any()
