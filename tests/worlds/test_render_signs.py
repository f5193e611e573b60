"""Stop and yield signs: seen from the lane that they are for, and not from behind."""

from __future__ import annotations

import numpy as np
import pytest
from junction_views import context_on, line_end_m, view

from causaldrive.clips.types import RoadMap
from causaldrive.worlds.render_signs import signs
from causaldrive.worlds.renderer import Renderer


@pytest.fixture(scope="module")
def renderer():
    opened = Renderer(context_on("left_turn", ("s_in", "n_out")).camera, "software")
    yield opened
    opened.close()


def _red_pixels(renderer: Renderer, name: str, edges: tuple[str, ...], before_m: float) -> int:
    context = context_on(name, edges)
    scene = renderer.open(context)
    picture = scene.render(view(context, line_end_m(name, edges[0]) - before_m, 0.0)[-1]).astype(int)
    scene.close()
    return int(((picture[..., 0] > 110) & (picture[..., 1] < 60) & (picture[..., 2] < 70)).sum())


@pytest.mark.parametrize(
    ("name", "edges"),
    [("four_way_stop", ("s_in", "n_out")), ("left_turn", ("w_in", "e_out")), ("roundabout", ("s_in", "ring_s"))],
)
def test_a_sign_is_a_red_blob_for_whom_it_is_for(renderer, name, edges):
    near, far = (_red_pixels(renderer, name, edges, before) for before in (9.0, 40.0))
    assert near > 60 and 1 <= far < near


def test_the_road_that_goes_first_sees_no_sign(renderer):
    assert _red_pixels(renderer, "left_turn", ("s_in", "n_out"), 9.0) == 0


def test_a_sign_stands_beside_its_lane_once():
    road = context_on("four_way_stop", ("s_in", "n_out")).road
    mesh = signs(road)
    assert len(mesh) == 4 * len(signs(RoadMap(road.lanes, right_of_way=dict(list(road.right_of_way.items())[:1]))))
    assert np.isfinite(mesh.xyz_m).all() and mesh.xyz_m[:, 2].max() < 3.5
    assert len(signs(RoadMap())) == 0


def test_the_word_stop_is_read_on_the_sign(renderer):
    context = context_on("four_way_stop", ("s_in", "n_out"))
    scene = renderer.open(context)
    picture = scene.render(view(context, line_end_m("four_way_stop", "s_in") - 9.0, 0.0)[-1]).astype(int)
    scene.close()
    red = (picture[..., 0] > 110) & (picture[..., 1] < 60)
    rows, columns = (np.flatnonzero(red.any(axis=axis)) for axis in (1, 0))
    inside = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    middle = inside[len(inside) // 3 : -(len(inside) // 3), inside.shape[1] // 5 : -(inside.shape[1] // 5)]
    assert (middle.min(axis=-1) > 150).sum() > 20
