"""Argoverse 2: made-up logs and scenarios with known truth, broken ones, and the real samples."""

from __future__ import annotations

import json
from pathlib import Path

import av2_logs
import numpy as np
import pyarrow.feather
import pytest

from causaldrive.clips import av2, store
from causaldrive.clips.av2_map import mark_of
from causaldrive.clips.geometry import arc_lengths, project_on_polyline, wrap_angle
from causaldrive.clips.types import Recording
from causaldrive.ground.errors import UserError
from causaldrive.ground.runs import read_metrics


def run(path: Path, out: Path) -> list[Recording]:
    av2.run(av2.ImportAv2Config(path, out, image_width_px=160))
    recordings, aside = store.read_recordings(out)
    assert not aside
    return recordings


def rows_of(drive: Recording, agent: str) -> dict[str, np.ndarray]:
    assert drive.agents is not None
    rows = drive.agents.agent_id == agent
    return {name: value[rows] for name, value in vars(drive.agents).items()}


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    root = tmp_path_factory.mktemp("av2")
    return run(av2_logs.write_log(root / "in" / "log-1"), root / "out")[0]


def test_the_ego_stands_on_the_ground_of_the_local_frame(drive: Recording):
    ego = drive.ego
    assert np.diff(ego.t_us).min() >= 4_000  # stamps a few nanoseconds apart became one pose
    along = av2_logs.SPEED_MPS * ego.t_us / 1e6
    heading = np.array([np.cos(av2_logs.HEADING), np.sin(av2_logs.HEADING)])
    np.testing.assert_allclose(ego.position_in_local_m[:, :2], along[:, None] * heading, atol=1e-3)
    np.testing.assert_allclose(ego.position_in_local_m[:, 2], 0, atol=1e-9)
    np.testing.assert_allclose(ego.speed_mps, av2_logs.SPEED_MPS, atol=1e-3)
    np.testing.assert_allclose(drive.meta["city_to_local_m"], -(av2_logs.CITY_M - [0, 0, av2_logs.AXLE_M]))


def test_agents_stand_where_they_were(drive: Recording):
    lead = rows_of(drive, "lead")
    along = 20 + 6 * (lead["t_us"] / 1e6)
    heading = np.array([np.cos(av2_logs.HEADING), np.sin(av2_logs.HEADING)])
    np.testing.assert_allclose(lead["xyz_in_local_m"][:, :2], along[:, None] * heading, atol=2e-3)
    np.testing.assert_allclose(lead["xyz_in_local_m"][:, 2], 0, atol=1e-6)
    assert np.abs(wrap_angle(lead["yaw_rad"] - av2_logs.HEADING)).max() < 1e-6
    np.testing.assert_allclose(lead["size_m"], [[4.5, 1.9, 1.6]] * len(along))
    assert np.all(np.diff(drive.agents.t_us) >= 0)  # type: ignore[union-attr]


def test_speeds_and_categories(drive: Recording):
    for agent, category, speed in (("lead", "car", 6.0), ("ridden", "cyclist", 4.0), ("walker", "pedestrian", 1.4),
                                   ("parked", "other", 0.0), ("mystery", "other", 0.0)):  # fmt: skip
        rows = rows_of(drive, agent)
        assert set(rows["category"]) == {category}
        np.testing.assert_allclose(rows["speed_mps"], speed, atol=0.02)


def test_the_ego_is_not_its_own_agent(drive: Recording):
    assert not len(rows_of(drive, "self")["t_us"])


def test_lanes(drive: Recording):
    lanes = drive.road.lanes  # type: ignore[union-attr]
    one, two = lanes["1"], lanes["2"]
    assert (one.successors, two.predecessors) == (("2",), ("1",))  # lane 999 is outside the crop
    assert (one.left_neighbour, one.right_neighbour) == ("3", None)  # lane 4 runs the other way
    assert (lanes["3"].kind, two.kind, two.in_junction) == ("bike", "bus", True)
    assert (one.left_mark, one.right_mark) == ("dashed_white", "solid_yellow")
    _, offset = project_on_polyline(drive.ego.position_in_local_m[:, :2], one.centre_xy_m)
    assert np.abs(offset[:100]).max() < 1e-3
    _, left = project_on_polyline(one.left_xy_m, one.centre_xy_m)
    assert np.all(left > 1.6)
    ring = drive.road.crosswalks["7"]  # type: ignore[union-attr]
    area = 0.5 * abs(np.sum(ring[:, 0] * np.roll(ring[:, 1], 1) - ring[:, 1] * np.roll(ring[:, 0], 1)))
    assert area == pytest.approx(30.0, abs=1e-6)  # a crossed ring would have none


@pytest.mark.parametrize(("published", "ours"), [
    ("NONE", "none"), ("UNKNOWN", "none"), ("DASHED_YELLOW", "dashed_yellow"), ("DOUBLE_DASH_WHITE", "dashed_white"),
    ("SOLID_DASH_YELLOW", "solid_yellow"), ("DOUBLE_SOLID_YELLOW", "solid_yellow"), ("SOLID_BLUE", "solid_blue"),
])  # fmt: skip
def test_marks(published: str, ours: str):
    assert mark_of(published) == ours


def test_the_route_is_the_driven_path_and_goes_on(drive: Recording):
    route = drive.route_xy_in_local_m
    assert route is not None
    arcs, offset = project_on_polyline(drive.ego.position_in_local_m[:, :2], route)
    assert np.abs(offset).max() < 0.05 and np.all(np.diff(arcs) > -1e-6)
    assert arc_lengths(route)[-1] - arcs[-1] == pytest.approx(120, abs=2)
    assert np.linalg.norm(np.diff(route, axis=0), axis=1).min() > 0.3


def test_images_become_an_undistorted_front_camera(tmp_path: Path):
    drive = run(av2_logs.write_log(tmp_path / "in", images=True), tmp_path / "out")[0]
    track = drive.cameras["front"]
    assert (track.camera.width_px, track.camera.height_px) == (160, 210) and len(track.t_us) == 30
    assert track.camera.rig_to_camera_position_m[2] == pytest.approx(1.4 + av2_logs.AXLE_M)
    assert track.camera.fx_px == pytest.approx(177.6 * 160 / 155)
    image = store.read_frames(drive.directory, "front", [1_000_000])[0]  # type: ignore[arg-type]
    assert np.abs(image[105, 80].astype(int) - [30, 30, 200]).max() < 12  # red and blue are not swapped


def test_a_scenario(tmp_path: Path):
    drive = run(av2_logs.write_scenario(tmp_path / "in"), tmp_path / "out")[0]
    np.testing.assert_allclose(drive.ego.speed_mps, av2_logs.SPEED_MPS, atol=1e-6)
    assert drive.ego.t_us[-1] == 10_900_000 and np.abs(drive.ego.position_in_local_m[0]).max() < 1e-9
    _, offset = project_on_polyline(drive.ego.position_in_local_m[:, :2], drive.road.lanes["1"].centre_xy_m)  # type: ignore[union-attr]
    assert np.abs(offset).max() < 1e-6
    cyclist = rows_of(drive, "17")
    assert set(cyclist["category"]) == {"cyclist"} and not len(rows_of(drive, "AV")["t_us"])
    np.testing.assert_allclose(cyclist["speed_mps"], 3.0, atol=1e-6)


def test_a_log_without_any_agent(tmp_path: Path):
    drive = run(av2_logs.write_log(tmp_path / "in", agents=False), tmp_path / "out")[0]
    assert drive.agents is not None and len(drive.agents.t_us) == 0


def drop_column(path: Path, name: str) -> None:
    table = pyarrow.feather.read_table(path).drop_columns([name])
    pyarrow.feather.write_feather(table, str(path))


def set_nan(path: Path) -> None:
    table = pyarrow.feather.read_table(path).to_pydict()
    table["tx_m"][11] = float("nan")
    av2_logs.write_feather(path, table)


def archive(log: Path) -> Path:
    return next((log / "map").glob("*.json"))


DAMAGE = {
    "no poses": (lambda p: (p / "city_SE3_egovehicle.feather").unlink(), "city_SE3_egovehicle.feather is missing"),
    "truncated": (
        lambda p: (p / "annotations.feather").write_bytes(b"ARROW1 and no more"),
        "cannot be read as Feather",
    ),
    "no column": (lambda p: drop_column(p / "annotations.feather", "qw"), "lacks the column qw"),
    "NaN pose": (lambda p: set_nan(p / "city_SE3_egovehicle.feather"), "tx_m is not a number at row 11"),
    "NaN box": (lambda p: set_nan(p / "annotations.feather"), "tx_m is not a number at row 11"),
    "no map": (lambda p: archive(p).unlink(), "holds no log_map_archive_"),
    "map cut": (lambda p: archive(p).write_text(archive(p).read_text()[:500]), "is not valid JSON"),
    "other map": (lambda p: archive(p).write_text(json.dumps({"lanes": []})), "is not an Argoverse 2 map"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_broken_logs_are_set_aside(tmp_path: Path, kind: str):
    broken = av2_logs.write_log(tmp_path / "in" / "a-broken")
    av2_logs.write_log(tmp_path / "in" / "sound")
    damage, sentence = DAMAGE[kind]
    damage(broken)
    assert [d.recording_id for d in run(tmp_path / "in", tmp_path / "out")] == ["av2_sound"]
    lines = read_metrics(tmp_path / "out")
    assert sentence in lines[0]["set_aside"] and lines[1]["agents"] == 5


def test_nothing_to_import(tmp_path: Path):
    with pytest.raises(UserError, match="holds nothing to import; expected Argoverse 2 logs"):
        av2.run(av2.ImportAv2Config(tmp_path, tmp_path / "out"))


def test_the_real_logs(samples_dir: Path, tmp_path: Path):
    drives = {d.recording_id[4:12]: d for d in run(samples_dir / "av2" / "sensor", tmp_path / "out")}
    assert set(drives) == {"7fab2350", "adcf7d18"}
    for drive, agents, lanes in ((drives["7fab2350"], 114, 183), (drives["adcf7d18"], 146, 199)):
        assert drive.ego.t_us[-1] / 1e6 == pytest.approx(15.9, abs=0.1)
        assert len(np.unique(drive.agents.agent_id)) == agents and len(drive.road.lanes) == lanes  # type: ignore[union-attr]
        assert np.abs(drive.ego.velocity_in_rig_mps[:, 1]).max() < 0.5  # the rear axle does not slide
        near = np.linalg.norm(drive.agents.xyz_in_local_m[:, :2], axis=1) < 15  # type: ignore[union-attr]
        assert abs(np.median(drive.agents.xyz_in_local_m[near, 2])) < 0.2  # type: ignore[union-attr]
        assert np.abs(drive.agents.speed_mps).max() < 20  # type: ignore[union-attr]
