"""Log replay: agents and lights by time, the ego by its own dynamics, history from the log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from causaldrive.clips import av2, store
from causaldrive.clips.geometry import arc_lengths, quat_of_yaw
from causaldrive.clips.resample import motion_from_poses
from causaldrive.clips.types import AgentTracks, Camera, CameraTrack, Lane, LightTracks, Recording, RoadMap
from causaldrive.ground.errors import UserError
from causaldrive.worlds.replay import ReplayWorld, context_of, states_of
from causaldrive.worlds.vehicle import LIMITS

SECONDS = 10


def tracks(rows: list[tuple]) -> AgentTracks:
    """Rows of (t_us, id, x, yaw, speed), cars all of them."""
    count = len(rows)
    return AgentTracks(
        t_us=np.array([row[0] for row in rows], np.int64),
        agent_id=np.array([row[1] for row in rows]),
        category=np.array(["car"] * count),
        xyz_in_local_m=np.array([(row[2], 3.0, 0.0) for row in rows]),
        yaw_rad=np.array([row[3] for row in rows], float),
        size_m=np.full((count, 3), 2.0),
        speed_mps=np.array([row[4] for row in rows], float),
        brake_light=np.zeros(count, bool),
        indicator=np.zeros(count, np.int8),
    )


def log(agents: AgentTracks | None = None, lights: LightTracks | None = None, road: RoadMap | None = None) -> Recording:
    """An ego that brakes from 10 m/s by 1 m/s2 on a gentle left bend, 50 Hz."""
    t = np.arange(0, SECONDS + 1e-9, 0.02)
    arc = 10 * t - 0.5 * t**2
    yaw = 0.01 * arc
    xyz = np.column_stack([np.sin(yaw) / 0.01, (1 - np.cos(yaw)) / 0.01, 0 * t])
    ego = motion_from_poses(np.rint(t * 1e6).astype(np.int64), xyz, quat_of_yaw(yaw))
    return Recording("log", "av2", "none", ego, agents=agents, lights=lights, road=road)


def test_agents_between_two_annotations():
    drive = log(tracks([(0, "a", 0.0, 3.1, 4.0), (100_000, "a", 0.4, -3.1, 6.0)]))
    state = states_of(drive, [25_000])[0]
    assert state.agents.ids == ["a"]
    np.testing.assert_allclose(state.agents.xy_in_local_m, [[0.1, 3.0]])
    np.testing.assert_allclose(state.agents.speed_mps, [4.5])
    turn = (2 * np.pi - 6.2) * 0.25  # the short way, through pi
    np.testing.assert_allclose(np.cos(state.agents.yaw_rad), np.cos(3.1 + turn))


def test_agents_come_and_go():
    drive = log(tracks([(0, "a", 0, 0, 0), (0, "b", 1, 0, 0), (100_000, "b", 1, 0, 0), (1_000_000, "c", 9, 0, 0)]))
    seen = {t: states_of(drive, [t])[0].agents.ids for t in (0, 50_000, 100_000, 250_000, 500_000, 800_000, 1_000_000)}
    assert seen == {0: ["a", "b"], 50_000: ["b"], 100_000: ["b"], 250_000: ["b"], 500_000: [], 800_000: ["c"],
                    1_000_000: ["c"]}  # fmt: skip


def test_lights_keep_their_last_state():
    head = {"stop_xy_in_local_m": np.zeros((3, 2)), "head_xyz_in_local_m": np.zeros((3, 3)), "yaw_rad": np.zeros(3)}
    lights = LightTracks(np.array([0, 500_000, 2_000_000]), np.array(["x", "y", "x"]), np.array(["1", "2", "1"]),
                         np.array(["red", "yellow", "green"]), **head)  # fmt: skip
    states = states_of(log(lights=lights), [100_000, 600_000, 2_000_000])
    assert [dict(zip(s.lights.ids, s.lights.state, strict=True)) for s in states] == [
        {"x": "red"}, {"x": "red", "y": "yellow"}, {"x": "green", "y": "yellow"}]  # fmt: skip


def test_the_logged_ego():
    drive = replace(log(), ego_size_m=(5.0, 2.0, 1.5), rear_axle_to_centre_m=1.3)
    ego = states_of(drive, [4_000_000])[0].ego
    assert ego.speed_mps == pytest.approx(6, abs=0.01) and ego.acceleration_mps2 == pytest.approx(-1, abs=0.02)
    assert ego.curvature_1pm == pytest.approx(0.01, rel=0.01)
    assert (ego.size_m, ego.rear_axle_to_centre_m) == ((5.0, 2.0, 1.5), 1.3)
    with pytest.raises(UserError, match="known from 0 to"):
        states_of(drive, [SECONDS * 1_000_000 + 100])


def test_history_is_the_log_before_the_start():
    drive = log()
    world = ReplayWorld(drive, 3_000_000)
    assert [state.t_us for state in world.history] == list(range(1_000_000, 3_000_001, 100_000))
    for state, logged in zip(world.history, states_of(drive, [s.t_us for s in world.history]), strict=True):
        np.testing.assert_array_equal(state.ego.xy_in_local_m, logged.ego.xy_in_local_m)
    assert world.state is world.history[-1] and not world.finished


def test_the_ego_is_driven_within_actuator_limits():
    world = ReplayWorld(log(), 2_000_000)
    speed = world.state.ego.speed_mps
    world.step(-99.0, 0.0)
    assert world.state.t_us == 2_100_000 and len(world.history) == 21
    assert speed - world.state.ego.speed_mps <= -LIMITS.min_acceleration_mps2 * 0.1 + 1e-6
    for _ in range(30):
        world.step(-99.0, 0.0)
    assert world.state.ego.speed_mps == 0.0
    before = world.state.ego.xy_in_local_m
    world.step(0.0, 0.0)
    np.testing.assert_array_equal(world.state.ego.xy_in_local_m, before)
    assert world.log_ego(world.state.t_us).speed_mps > 3  # the log went on without it


def test_the_logged_controls_stay_on_the_log():
    world = ReplayWorld(log(), 1_500_000)
    while not world.finished:
        world.step(*world.log_control(world.history))
        gap = world.log_ego(world.state.t_us).xy_in_local_m - world.state.ego.xy_in_local_m
        assert np.linalg.norm(gap) < 0.15
    assert world.state.t_us == SECONDS * 1_000_000


def test_distance_along_the_route():
    world = ReplayWorld(log(), 2_000_000)
    assert world.log_distance_m(2_000_000, 4_000_000) == pytest.approx(14, abs=0.1)  # 20 - 2 - (40 - 8) back to front
    assert world.log_distance_m(2_000_000, 99_000_000) == pytest.approx(50 - 18, abs=0.1)


@pytest.mark.parametrize("start", [0, 1_400_000, 9_950_000, 20_000_000])
def test_a_start_without_log_around_it_is_refused(start: int):
    with pytest.raises(UserError, match=f"cannot start at t_us {start}; a time from 1500000 to 9900000 expected"):
        ReplayWorld(log(), start)


def test_the_world_ends_where_the_annotations_end():
    agents = tracks([(t, "a", 0, 0, 0) for t in range(0, 6_000_001, 100_000)])
    world = ReplayWorld(log(agents), 5_800_000)
    world.step(0, 0)
    world.step(0, 0)
    assert world.finished and world.state.t_us == 6_000_000


def test_context_from_the_recording():
    line = np.array([[0.0, 0], [50, 0]])
    lanes = {
        "1": Lane("1", line, line + 1, line - 1, speed_limit_mps=7.0),
        "2": Lane("2", line, line, line, 30.0, "bike"),
    }
    assert context_of(log(road=RoadMap(lanes))).target_speed_mps == 7.0
    plain = context_of(log())
    assert plain.target_speed_mps == pytest.approx(10, abs=0.05) and plain.road.lanes == {}
    assert (plain.camera.width_px, plain.camera.height_px) == (320, 192)
    camera = Camera("dash", 64, 48, 50, 50, 32, 24, (1.0, 0, 1), (0.5, -0.5, 0.5, -0.5))
    assert context_of(replace(log(), cameras={"dash": CameraTrack(camera, np.arange(2))})).camera is camera
    route = np.array([[0.0, 0], [9, 9]])
    assert context_of(replace(log(), route_xy_in_local_m=route)).route_xy_in_local_m is route


def test_the_driven_path_of_a_standing_car_still_points_ahead():
    t_us = np.arange(0, 3_000_000, 100_000)
    ego = motion_from_poses(t_us, np.zeros((30, 3)), quat_of_yaw(np.full(30, 0.5)))
    path = context_of(replace(log(), ego=ego)).route_xy_in_local_m
    assert arc_lengths(path)[-1] == pytest.approx(1.0)
    assert np.arctan2(*(path[-1] - path[0])[::-1]) == pytest.approx(0.5)


def test_the_real_logs_replay(samples_dir: Path, tmp_path: Path):
    av2.run(av2.ImportAv2Config(samples_dir / "av2" / "sensor", tmp_path))
    for drive in store.read_recordings(tmp_path)[0]:
        world = ReplayWorld(drive, 3_000_000)
        assert len(world.state.agents) > 30
        worst = 0.0
        while not world.finished:
            world.step(*world.log_control(world.history))
            gap = world.log_ego(world.state.t_us).xy_in_local_m - world.state.ego.xy_in_local_m
            worst = max(worst, float(np.linalg.norm(gap)))
        assert worst < 0.3
