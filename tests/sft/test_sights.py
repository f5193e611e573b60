"""What is where in a picture: targets agree with the camera, the map and the mirror."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sft_drives import drive

from causaldrive.clips.types import AgentTracks, Camera, CameraTrack, LightTracks, Recording
from causaldrive.sft.sights import KINDS, SCALES, Sight, sight_of, sights_of

ROWS, COLUMNS, T_US = 6, 10, 2_000_000
CAMERA = Camera("front", 320, 192, 200.0, 200.0, 160.0, 96.0, (1.6, 0.0, 1.5), (0.5, -0.5, 0.5, -0.5))


def recording(**changes) -> Recording:
    """A straight drive along x with a camera of 320 x 192 pixels, and a route that lies 1 m to its left."""
    base = drive(1)
    track = CameraTrack(CAMERA, base.cameras["front"].t_us)
    route = np.array([[-50.0, 1.0], [500.0, 1.0]])
    return dataclasses.replace(base, cameras={"front": track}, route_xy_in_local_m=route, **changes)


def place_of(base: Recording, ahead_m: float, left_m: float) -> np.ndarray:
    """A point of the local frame so far ahead and left of the car at T_US."""
    x = float(np.interp(T_US, base.ego.t_us, base.ego.position_in_local_m[:, 0]))
    return np.array([x + ahead_m, left_m, 0.0])


def one_agent(category: str, ahead_m: float, left_m: float, speed_mps: float = 3.0, **changes) -> AgentTracks:
    size = {"pedestrian": (0.6, 0.6, 1.8)}.get(category, (4.5, 1.9, 1.6))
    rows = {
        "t_us": np.array([T_US]),
        "agent_id": np.array(["a"]),
        "category": np.array([category]),
        "xyz_in_local_m": place_of(drive(1), ahead_m, left_m)[None],
        "yaw_rad": np.zeros(1),
        "size_m": np.array([size]),
        "speed_mps": np.array([speed_mps]),
        "brake_light": np.array([False]),
        "indicator": np.zeros(1, np.int8),
    }
    return AgentTracks(**(rows | changes))


@given(ahead_m=st.floats(6, 40), side=st.floats(-0.5, 0.5))
def test_a_car_is_in_the_cell_that_the_camera_projects_it_to(ahead_m, side):
    left_m = side * ahead_m
    agents = one_agent("car", ahead_m, left_m)
    middle, inside = CAMERA.project(np.array([ahead_m, left_m, 0.8]))
    sight = sight_of(recording(agents=agents), "front", T_US, ROWS, COLUMNS)
    cell = int(middle[1] // 32) * COLUMNS + int(middle[0] // 32)
    touched = np.flatnonzero(sight.kind == KINDS.index("vehicle"))
    assert inside and len(touched)
    near = np.abs(np.stack(np.divmod(touched, COLUMNS)) - np.array(divmod(cell, COLUMNS))[:, None]).max(axis=0)
    assert near.min() <= 1  # the middle of a car that lies across cells may be in a cell it covers little of
    of_car = sight.measures[touched]
    assert np.allclose(of_car[:, 1], left_m / SCALES["side"], atol=1e-5)
    assert np.allclose(of_car[:, 2], 3.0 / SCALES["along"], atol=1e-5)
    assert np.allclose(
        np.exp(of_car[:, 0] / SCALES["distance"]), ahead_m - CAMERA.rig_to_camera_position_m[0], atol=0.6
    )


def test_the_nearer_thing_hides_the_farther_one():
    near, far = one_agent("pedestrian", 8.0, 0.0), one_agent("car", 20.0, 0.0)
    both = AgentTracks(
        *(np.concatenate([getattr(far, f.name), getattr(near, f.name)]) for f in dataclasses.fields(near))
    )
    kinds = sight_of(recording(agents=both), "front", T_US, ROWS, COLUMNS).kind
    assert KINDS.index("person") in kinds
    alone = sight_of(recording(agents=far), "front", T_US, ROWS, COLUMNS).kind
    assert (kinds == KINDS.index("vehicle")).sum() < (alone == KINDS.index("vehicle")).sum()


@pytest.mark.parametrize(("yaw", "state", "wanted"), [(0.0, "red", "red light"), (0.0, "green", "green light"),
                                                     (np.pi, "red", None), (0.0, "off", None)])  # fmt: skip
def test_a_signal_head_counts_when_it_faces_the_car_and_shines(yaw, state, wanted):
    head = np.add(place_of(drive(1), 25.0, 2.0), (0, 0, 4.0))
    rows = {"t_us": [0], "light_id": ["l"], "lane_id": ["x"], "state": [state], "stop_xy_in_local_m": [head[:2]],
            "head_xyz_in_local_m": [head], "yaw_rad": [yaw]}  # fmt: skip
    lights = LightTracks(**{name: np.array(value) for name, value in rows.items()})
    found = {KINDS[k] for k in sight_of(recording(lights=lights), "front", T_US, ROWS, COLUMNS).kind}
    assert found == {"nothing", wanted} - {None}


def test_the_ground_is_measured_from_the_routes_line():
    sight = sight_of(recording(), "front", T_US, ROWS, COLUMNS)
    ground = sight.ground.reshape(ROWS, COLUMNS) * SCALES["ground"]
    assert np.isnan(ground[:3]).all() and np.isfinite(ground[4:]).all()  # above and below the horizon
    assert (np.diff(ground[5]) < 0).all()  # left is positive
    assert np.interp(0, [-(0.5 * 32), 0.5 * 32], ground[5, 4:6][::-1]) == pytest.approx(-1.0, abs=1e-4)
    assert np.allclose(sight.path[:-1] * SCALES["path"], 1.0, atol=1e-4)
    assert sight.path[-1] * SCALES["offset"] == pytest.approx(-1.0, abs=1e-4)


def test_what_a_recording_does_not_have_is_not_made_up():
    bare = dataclasses.replace(recording(), route_xy_in_local_m=None)
    sight = sight_of(bare, "front", T_US, ROWS, COLUMNS)
    assert np.isnan(sight.ground).all() and np.isnan(sight.path).all() and not sight.kind.any()
    elsewhen = recording(agents=one_agent("car", 10.0, 0.0, t_us=np.array([T_US + 500_000])))
    assert not sight_of(elsewhen, "front", T_US, ROWS, COLUMNS).kind.any()


def test_pictures_together_are_the_same_as_one_by_one():
    """An agent that is annotated at some moments, a head whose light changes."""
    times = [T_US - 400_000, T_US, T_US + 500_000]
    seen = [one_agent("car", 10.0, 0.5 * k, t_us=np.array([t])) for k, t in enumerate(times[:2])]
    agents = AgentTracks(
        *(np.concatenate([getattr(each, f.name) for each in seen]) for f in dataclasses.fields(AgentTracks))
    )
    head = np.add(place_of(drive(1), 25.0, 2.0), (0, 0, 4.0))
    rows = {"t_us": [0, T_US], "light_id": ["l"] * 2, "lane_id": ["x"] * 2, "state": ["red", "green"],
            "stop_xy_in_local_m": [head[:2]] * 2, "head_xyz_in_local_m": [head] * 2, "yaw_rad": [0.0] * 2}  # fmt: skip
    world = recording(agents=agents, lights=LightTracks(**{name: np.array(value) for name, value in rows.items()}))
    together = sights_of(world, "front", times, ROWS, COLUMNS)
    for t_us, found in zip(times, together, strict=True):
        alone = sight_of(world, "front", t_us, ROWS, COLUMNS)
        for name in ("kind", "measures", "ground", "path"):
            assert np.array_equal(getattr(found, name), getattr(alone, name), equal_nan=True), name
    kinds = [{KINDS[k] for k in sight.kind} - {"nothing"} for sight in together]
    assert kinds == [{"vehicle", "red light"}, {"vehicle", "green light"}, {"green light"}]


@given(ahead_m=st.floats(6, 40), side=st.floats(-0.5, 0.5))
def test_a_mirrored_world_is_the_mirrored_sight(ahead_m, side):
    """The car on the other side, the route on the other side: all targets swap left and right."""

    def seen(sign: float) -> Sight:
        world = recording(agents=one_agent("car", ahead_m, sign * side * ahead_m))
        world = dataclasses.replace(world, route_xy_in_local_m=np.array([[-50.0, sign], [500.0, sign]]))
        return sight_of(world, "front", T_US, ROWS, COLUMNS)

    one, other = seen(1.0).mirrored(COLUMNS), seen(-1.0)
    for name in ("kind", "measures", "ground", "path"):
        assert np.allclose(getattr(one, name), getattr(other, name), atol=1e-5, equal_nan=True), name
