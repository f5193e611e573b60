"""`worlds convert`: three kinds of road description in, a network that can be driven out; bad files are told of."""

from __future__ import annotations

import sys

import pytest

from causaldrive.ground.errors import MissingExtra, UserError
from causaldrive.worlds import convert as stage
from causaldrive.worlds.convert import ConvertConfig, convert, kind_of, run, scene_on
from causaldrive.worlds.sumo_net import read_network
from causaldrive.worlds.sumo_plan import NETWORKS

ROAD = """<?xml version="1.0"?>
<OpenDRIVE><header revMajor="1" revMinor="4" name="bend" north="0" south="0" east="0" west="0"/>
<road name="bend" length="200" id="1" junction="-1"><link/>
<planView><geometry s="0" x="0" y="0" hdg="0" length="100"><line/></geometry>
<geometry s="100" x="100" y="0" hdg="0" length="100"><arc curvature="0.01"/></geometry></planView>
<lanes><laneSection s="0">
<left><lane id="1" type="driving" level="false"><link/><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane></left>
<center><lane id="0" type="none" level="false"><link/></lane></center>
<right><lane id="-1" type="driving" level="false"><link/><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane></right>
</laneSection></lanes></road></OpenDRIVE>
"""


@pytest.mark.parametrize("name", ["quarter", "helsinki"])
def test_the_shipped_networks_are_what_their_sources_convert_to(tmp_path, name):
    source = NETWORKS / "sources" / f"{name}.osm"
    convert(source, kind_of(source), tmp_path / "made.net.xml")
    assert (tmp_path / "made.net.xml").read_bytes() == (NETWORKS / f"{name}.net.xml").read_bytes()


def test_an_extract_says_whose_it_is():
    head = (NETWORKS / "sources" / "helsinki.osm").read_text()[:400]
    assert "OpenStreetMap contributors" in head and "ODbL" in head


def test_opendrive_becomes_lanes_of_the_same_width_and_length(tmp_path):
    source = tmp_path / "bend.xodr"
    source.write_text(ROAD)
    convert(source, kind_of(source), tmp_path / "bend.net.xml")
    network = read_network(tmp_path / "bend.net.xml")
    assert len(network.lane_ids) == 2
    assert all(195 < network.length_m(edge) < 205 for edge in network.lane_ids)


def test_a_sumo_network_is_tried_by_the_expert_and_reported(tmp_path, capsys):
    config = ConvertConfig(NETWORKS / "ramp_merge.net.xml", tmp_path / "out", agents=4)
    run(config)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The expert drove" in page and "data:image/png" in page
    scene = scene_on(read_network(tmp_path / "out" / "network.net.xml"), seed=2, agents=4)
    assert scene.sumo is not None and scene.sumo.network == tmp_path / "out" / "network.net.xml"
    run(config)
    assert "already finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.osm", "", "is empty"),
        ("a.osm", "<osm><node", "not well-formed"),
        ("a.osm", "hello", "not well-formed"),
        ("a.xml", "<gpx/>", "holds <gpx>"),
        ("a.osm", "<osm version='0.6'></osm>", "netconvert cannot make a network"),
    ],
)
def test_bad_files_are_named_and_leave_no_network(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(UserError, match=says):
        run(ConvertConfig(path, tmp_path / "out"))
    assert not (tmp_path / "out" / "network.net.xml").exists()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.osm cannot be read"):
        kind_of(tmp_path / "absent.osm")


def test_without_netconvert_the_install_command_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "sumo", None)
    with pytest.raises(MissingExtra, match=r"pip install 'causaldrive\[convert\]'"):
        stage.netconvert()
