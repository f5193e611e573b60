"""The shapes the renderer is fed: bodies, lamps, road layers."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from drawing import straight_road
from hypothesis import given, settings
from hypothesis import strategies as st

from causaldrive.clips.types import Lane, RoadMap
from causaldrive.ground.words import AGENT_CATEGORIES
from causaldrive.worlds.families.sumo_draft import network_named
from causaldrive.worlds.render_agents import body_mesh
from causaldrive.worlds.render_lights import _stand, lamp_mesh
from causaldrive.worlds.render_mesh import block, by_cell, flat_ring, join
from causaldrive.worlds.render_people import WAVING
from causaldrive.worlds.render_road import asphalt, paint, pavement
from causaldrive.worlds.render_vehicles import lamps

# ---- meshes ----


@settings(max_examples=40, deadline=None)
@given(
    category=st.sampled_from(AGENT_CATEGORIES),
    size=st.tuples(st.floats(0.3, 14), st.floats(0.3, 3), st.floats(0.4, 4)),
    stride=st.sampled_from((-1, 0, 1, WAVING)),
)
def test_bodies_are_light_finite_and_about_their_size(category, size, stride):
    mesh = body_mesh(category, size, (200, 100, 50), stride)
    extra = len(lamps(size, category, True, 1)) if category in ("car", "truck", "bus") else 0
    assert 0 < len(mesh) + extra < 200
    assert np.isfinite(mesh.xyz_m).all() and np.allclose(np.linalg.norm(mesh.normal, axis=1), 1, atol=1e-6)
    top = max(size[2], 2.3) if category == "sign" else size[2]
    assert mesh.xyz_m[:, 2].min() > -0.1 and mesh.xyz_m[:, 2].max() < 1.1 * top + 0.3


@pytest.mark.parametrize(
    ("category", "size"), [("car", (4.6, 1.9, 1.5)), ("truck", (7.5, 2.3, 2.9)), ("bus", (11.0, 2.5, 3.1))]
)
def test_from_afar_a_vehicle_has_fewer_triangles_and_the_same_outline(category, size):
    near, far = (body_mesh(category, size, (200, 100, 50), 0, away) for away in (False, True))
    assert len(far) <= 0.6 * len(near)
    for end in (np.min, np.max):
        assert np.allclose(end(far.xyz_m, axis=0), end(near.xyz_m, axis=0), atol=0.05)


def test_signal_heads_are_below_60_triangles():
    assert len(lamp_mesh("red")) + len(_stand(5.0, -3.0)) < 60


def test_block_faces_look_outward():
    mesh = block((1.0, 2.0, 3.0), (2.0, 3.0, 4.0), (1, 2, 3))
    middle = mesh.xyz_m[mesh.triangles].mean(axis=1) - [1.0, 2.0, 3.0]
    assert (np.sum(middle * mesh.normal[mesh.triangles[:, 0]], axis=1) > 0).all()


def areas_of(mesh) -> float:
    a, b, c = np.moveaxis(mesh.xyz_m[mesh.triangles][..., :2], 1, 0)
    return float(np.abs(np.cross(b - a, c - a)).sum() / 2) if len(mesh) else 0.0


def test_concave_rings_keep_their_area():
    ring = np.array([[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]], float)
    assert areas_of(flat_ring(ring, (1, 1, 1))) == pytest.approx(10.0)


def test_asphalt_covers_lanes_and_areas_and_cells_lose_nothing():
    road = straight_road()
    surface = asphalt(road)
    assert areas_of(surface) == pytest.approx(250 * 7 + 8 * 80, rel=1e-3)
    assert sum(areas_of(cell) for cell in by_cell(surface, 48.0)) == pytest.approx(areas_of(surface))


def test_a_boundary_two_lanes_share_is_painted_once():
    road = straight_road()
    lanes = {key: Lane(key, lane.centre_xy_m, lane.left_xy_m, lane.right_xy_m, left_mark=lane.left_mark)
             for key, lane in road.lanes.items()}  # fmt: skip
    assert areas_of(paint(RoadMap(lanes))) == pytest.approx(250 * 0.2, rel=0.01)


def test_empty_and_degenerate_roads_make_no_mesh():
    dot = np.zeros((2, 2))
    road = RoadMap({"dot": Lane("dot", dot, dot, dot, left_mark="solid_white", right_mark="dashed_white")})
    for mesh in (asphalt(RoadMap()), paint(RoadMap()), pavement(RoadMap()), join([]), asphalt(road), paint(road)):
        assert areas_of(mesh) == 0.0 and np.isfinite(mesh.xyz_m).all()


def test_flat_layers_are_all_lit_from_above():
    road = straight_road()
    for mesh in (pavement(road), asphalt(road), paint(road)):
        assert len(mesh) and (mesh.normal == [0, 0, 1]).all() and (mesh.xyz_m[:, 2] == 0).all()


def test_junctions_of_a_real_map_are_filled_whole():
    """Their buffers have corners that lie on each other, on which a triangulator never ends."""
    road = network_named("helsinki").road
    mesh = asphalt(RoadMap(drivable=road.drivable))
    corners = mesh.xyz_m[mesh.triangles][:, :, :2]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = 0.5 * np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()
    assert area == pytest.approx(sum(shapely.Polygon(ring).area for ring in road.drivable.values()), rel=1e-4)
    assert len(pavement(road)) > 5_000
