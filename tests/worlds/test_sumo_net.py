"""Reading SUMO networks: lanes, rights of way, heads, routes; broken files say what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from causaldrive.clips.geometry import arc_lengths, project_on_polyline
from causaldrive.clips.tables import map_table, read_map
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import write_table
from causaldrive.worlds.families.sumo_draft import network_named
from causaldrive.worlds.scoring import road_surface
from causaldrive.worlds.sumo_net import read_network
from causaldrive.worlds.sumo_plan import NETWORKS

NAMES = sorted(path.name.removesuffix(".net.xml") for path in NETWORKS.glob("*.net.xml"))


@pytest.mark.parametrize("name", NAMES)
def test_shipped_networks_are_small_and_told_of(name):
    assert (NETWORKS / f"{name}.net.xml").stat().st_size < (400_000 if name == "helsinki" else 64_000)
    assert f"`{name}`" in (NETWORKS / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_lanes_connect_and_their_boundaries_enclose_them(name):
    road = network_named(name).road
    for lane in road.lanes.values():
        assert project_on_polyline(lane.centre_xy_m[len(lane.centre_xy_m) // 2], lane.left_xy_m)[1] < -1.0
        assert project_on_polyline(lane.centre_xy_m[len(lane.centre_xy_m) // 2], lane.right_xy_m)[1] > 1.0
        assert np.linalg.norm(np.diff(lane.centre_xy_m, axis=0), axis=1).max() < 2.1
        for after in lane.successors:
            assert np.linalg.norm(lane.centre_xy_m[-1] - road.lanes[after].centre_xy_m[0]) < 0.3
            assert lane.lane_id in road.lanes[after].predecessors
    for way in road.right_of_way.values():
        assert road.lanes[way.lane_id].in_junction and all(foe in road.lanes for foe in way.foes)


def test_rights_of_way_are_those_of_the_junctions():
    kinds = {name: {way.kind for way in network_named(name).road.right_of_way.values()} for name in NAMES}
    assert kinds["four_way_stop"] == {"all_way_stop"} and kinds["left_turn"] == {"left_turn", "stop"}
    assert kinds["ramp_merge"] == {"merge"} and kinds["roundabout"] == {"roundabout"}
    assert len(network_named("town").heads()) == 10 and {"all_way_stop", "yield", "left_turn"} <= kinds["town"]
    turn = next(
        link for link in network_named("left_turn").links if (link.from_edge, link.to_edge) == ("s_in", "w_out")
    )
    oncoming = {link.via[0] for link in network_named("left_turn").links if link.from_edge == "n_in"}
    assert set(network_named("left_turn").road.right_of_way[turn.via[0]].foes) <= oncoming


def test_a_route_runs_on_the_road_without_jumps():
    network = network_named("town")
    route = network.line_through(("b0b1", "b1b2", "b2c2", "c2c1"))
    assert np.linalg.norm(np.diff(route, axis=0), axis=1).max() < 1.05 and arc_lengths(route)[-1] > 350
    ground = shapely.prepared.prep(road_surface(network.road))
    assert all(ground.contains(shapely.Point(*xy)) for xy in route)


def test_edges_that_do_not_connect_are_refused():
    with pytest.raises(UserError, match="does not lead to"):
        network_named("town").line_through(("b0b1", "c2c1"))
    with pytest.raises(UserError, match="no edge 'nowhere'"):
        network_named("town").line_through(("nowhere",))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("<net><edge id='a'>", "not well-formed"),
        ("<osm/>", "holds <osm>"),
        ("<net/>", "no lane that cars may use"),
        (
            "<net><edge id='a' from='x' to='y'><lane id='a_0' allow='pedestrian' shape='0,0 9,0'/></edge></net>",
            "no lane",
        ),
        ("<net><edge id='a' from='x' to='y'><lane id='a_0' shape='0,0 9;0'/></edge></net>", "pairs of x,y"),
    ],
)
def test_what_is_no_network_is_named(tmp_path, content, says):
    path = tmp_path / "odd.net.xml"
    path.write_text(content)
    with pytest.raises(UserError, match=says):
        read_network(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_network(tmp_path / "absent.net.xml")


def test_rights_of_way_survive_the_store(tmp_path):
    road = network_named("roundabout").road
    write_table(tmp_path / "map.parquet", map_table(road))
    back = read_map(tmp_path / "map.parquet").right_of_way
    assert back.keys() == road.right_of_way.keys()
    for key, way in road.right_of_way.items():
        assert (back[key].kind, back[key].foes) == (way.kind, way.foes)
        assert np.allclose(back[key].stop_xy_m, way.stop_xy_m) and abs(back[key].yaw_rad - way.yaw_rad) < 1e-9


def test_a_right_of_way_of_unknown_kind_is_refused(tmp_path):
    table = map_table(network_named("roundabout").road).to_pylist()
    for row in table:
        if row["element"] == "right_of_way":
            row["kind"] = "whoever_honks"
    schema = map_table(network_named("roundabout").road).schema
    write_table(tmp_path / "map.parquet", type(map_table(network_named("roundabout").road)).from_pylist(table, schema))
    with pytest.raises(UserError, match="whoever_honks"):
        read_map(tmp_path / "map.parquet")
