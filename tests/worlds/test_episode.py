"""Episodes: what is observed and when, how plans are followed, and what ends a drive."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from world_drives import BLIND, arc_plan, finished, log, wide_road, written

from causaldrive.clips.geometry import from_frame, project_on_polyline, to_frame, wrap_angle
from causaldrive.ground.errors import UserError
from causaldrive.ground.words import FUTURE_STEPS, HISTORY_STEPS, STEP_US
from causaldrive.worlds.episode import (
    WARM_UP_S,
    DriveSettings,
    Episode,
    EpisodeResult,
    Observation,
    Plan,
    PlanFollower,
    ReplaySpec,
    plan_speeds,
    strip_notes,
)
from causaldrive.worlds.expert import ExpertDriver
from causaldrive.worlds.pool import BrokenScene, Worker
from causaldrive.worlds.scenes import SceneSpec, build_scene
from causaldrive.worlds.scoring import Scorer
from causaldrive.worlds.state import EgoState, WorldState
from causaldrive.worlds.town import TownWorld
from causaldrive.worlds.vehicle import advance

SPEC = SceneSpec("lead_brakes", 4, False)
WARM_TICKS = round(WARM_UP_S * 10)


class StampedView:
    """A camera whose pictures hold the tick they were drawn at; counts them."""

    def __init__(self) -> None:
        self.drawn: list[int] = []

    def render(self, state: WorldState) -> np.ndarray:
        self.drawn.append(state.t_us // STEP_US)
        return np.full((2, 3, 3), self.drawn[-1], np.uint8)

    def close(self) -> None:
        pass


def episode(changes: DriveSettings = BLIND, view: StampedView | None = None) -> Episode:
    world = TownWorld(build_scene(SPEC))
    return Episode(SPEC, world, ExpertDriver(world.context).control, changes, view, reference_m=30.0)


# --- what is observed ----------------------------------------------------------------------------------------------


def test_history_is_sixteen_poses_that_end_at_the_origin():
    running = episode()
    seen, states = running.observe(), running.states
    assert seen.history_xyz_in_rig_m.shape == (HISTORY_STEPS, 3) and seen.history_yaw_rad.shape == (HISTORY_STEPS,)
    assert not seen.history_xyz_in_rig_m[-1].any() and seen.history_yaw_rad[-1] == 0.0
    now = states[-1].ego
    driven = from_frame(seen.history_xyz_in_rig_m[:, :2], now.xy_in_local_m, now.yaw_rad)
    np.testing.assert_allclose(driven, [s.ego.xy_in_local_m for s in states[-HISTORY_STEPS:]], atol=1e-9)
    assert (np.diff(seen.history_xyz_in_rig_m[:, 0]) > 0).all(), "driving forward, the past lies behind"
    assert (seen.t_us, seen.speed_mps, seen.frames) == (WARM_TICKS * STEP_US, now.speed_mps, None)
    assert seen.scene_id == SPEC.scene_id


@pytest.mark.parametrize(
    ("offsets_s", "every_s"),
    [((-0.4, 0.0), 0.5), ((-0.4, 0.0), 0.1), ((-1.5, -1.0, -0.5, 0.0), 0.1), ((-0.9, -0.7, -0.2), 0.3)],
)
def test_frames_are_those_of_their_times(offsets_s, every_s):
    view = StampedView()
    asked = DriveSettings(decision_every_s=every_s, duration_s=4.0, frame_offsets_s=offsets_s)
    running = episode(asked, view)
    while running.ended is None:
        frames = running.observe().frames
        assert frames is not None and frames.shape == (len(offsets_s), 2, 3, 3)
        assert frames[:, 0, 0, 0].tolist() == [running.tick + round(offset * 10) for offset in offsets_s]
        running.advance(arc_plan(running.states[-1].ego.speed_mps), running.observe().truth)
    assert len(view.drawn) == len(set(view.drawn)), "no picture is drawn twice"
    assert len(running.pictures) <= 17, "old pictures are given back"


def test_only_the_frames_that_are_looked_at_are_drawn():
    view = StampedView()
    running = episode(DriveSettings(decision_every_s=1.0, duration_s=5.0), view)
    while running.ended is None:
        running.advance(arc_plan(8.0), running.observe().truth)
    assert view.drawn == [0, 2, 6, 12, 16, 22, 26, 32, 36, 42, 46]


def test_frames_before_the_first_moment_repeat_it():
    running = episode(DriveSettings(frame_offsets_s=(-2.0, 0.0)), StampedView())
    frames = running.observe().frames
    assert frames is not None and frames[:, 0, 0, 0].tolist() == [0, WARM_TICKS]


@pytest.mark.parametrize("camera", [True, False])
def test_a_kept_video_has_a_frame_a_state(camera):
    view = StampedView() if camera else None
    running = episode(DriveSettings(duration_s=2.5, keep_video=True), view)
    while running.ended is None:
        running.advance(arc_plan(8.0), running.observe().truth)
    result = running.result()
    if camera:
        assert result.frames is not None and result.context is running.world.context
        assert result.frames[:, 0, 0, 0].tolist() == list(range(len(result.states)))
    else:
        assert result.frames is None and result.context is None


# --- decisions and failures ----------------------------------------------------------------------------------------


def test_decisions_are_recorded_with_lane_offsets():
    running = episode()
    truth = running.observe().truth
    now, route = running.states[-1].ego, running.world.context.route_xy_in_local_m
    plan = dataclasses.replace(arc_plan(now.speed_mps, left_m=0.7), samples_xy_in_rig_m=np.ones((2, 64, 2)))
    running.advance(plan, truth)
    (decision,) = running.decisions
    assert (decision.tick, decision.t_us, decision.text) == (WARM_TICKS, WARM_TICKS * STEP_US, "Keep going.")
    assert decision.truth is truth and decision.samples_xy_in_rig_m is plan.samples_xy_in_rig_m
    assert decision.lane_offset_m.shape == decision.speeds_mps.shape == (FUTURE_STEPS + 1,)
    _, offset = project_on_polyline(now.xy_in_local_m, route)
    assert decision.lane_offset_m[0] == pytest.approx(offset)
    heading = project_on_polyline(now.centre_xy_in_local_m, route)[1] - offset  # 1.4 m ahead
    assert decision.lane_offset_m[1] == pytest.approx(offset + 0.7, abs=float(abs(heading)) + 0.02)
    assert running.tick == WARM_TICKS + 5, "one decision lasts 0.5 s"


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (Plan(np.full((64, 2), np.nan), np.zeros(64)), "not numbers"),
        (Plan(np.zeros((64, 2)), np.full(64, np.inf)), "not numbers"),
        (Plan(np.zeros((63, 2)), np.zeros(64)), "(63, 2)"),
        (Plan(np.zeros((64, 2)), np.zeros((64, 1))), "(64, 1)"),
        (ValueError("no trajectory spoken"), "ValueError: no trajectory spoken"),
    ],
)
def test_a_policy_that_fails_has_no_score(plan, told):
    running = episode()
    truth = running.observe().truth
    running.advance(arc_plan(8.0), truth)
    before = running.tick
    running.advance(plan, truth)
    result = running.result()
    assert result.failure is not None and told in result.failure
    assert (result.score, result.ended) == (None, "failure")
    assert running.tick == before and len(result.decisions) == 1, "what cannot be driven is neither driven nor recorded"


def test_what_travels_to_the_world_leaves_the_policys_notes_behind():
    plan = dataclasses.replace(arc_plan(5.0), notes={"logits": np.zeros(9)})
    sent = strip_notes(plan)
    assert isinstance(sent, Plan) and sent.notes == {} and sent.xy_in_rig_m is plan.xy_in_rig_m
    error = strip_notes(KeyError("speed"))
    assert isinstance(error, Exception) and str(error) == "KeyError: 'speed'" == str(strip_notes(error))


# --- following a plan ----------------------------------------------------------------------------------------------


def followed(plan: Plan, ego: EgoState, steps: int) -> np.ndarray:
    """(steps, 2) where the ego comes, in the rig frame at the start."""
    start, follower = ego, PlanFollower(plan, ego.xy_in_local_m, ego.yaw_rad, ego.speed_mps)
    driven = []
    for step in range(steps):
        ego = advance(ego, *follower.control(step, ego))
        driven.append(to_frame(ego.xy_in_local_m, start.xy_in_local_m, start.yaw_rad))
    return np.array(driven)


@pytest.mark.parametrize("speed_mps", [0.0, 1.0, 3.0, 8.0, 14.0, 20.0])
@pytest.mark.parametrize(("acceleration", "lateral_mps2"), [(0, 0), (0, 1.5), (0, -1.5), (-4, 0), (-2, 1), (2, 0)])
def test_a_drivable_plan_is_followed(speed_mps, acceleration, lateral_mps2):
    plan = arc_plan(speed_mps, acceleration, lateral_mps2 / max(speed_mps, 5.0) ** 2)
    driven = followed(plan, EgoState(np.array([30.0, -7.0]), 2.5, speed_mps), 5)
    assert np.linalg.norm(driven - plan.xy_in_rig_m[:5], axis=1).max() < 0.15


@settings(max_examples=60, deadline=None)
@given(
    speed_mps=st.floats(0.5, 20), acceleration=st.floats(-4, 2), lateral_mps2=st.floats(-2, 2), yaw=st.floats(-3.2, 3.2)
)
def test_any_plan_within_comfort_is_followed_anywhere(speed_mps, acceleration, lateral_mps2, yaw):
    curvature = float(np.clip(lateral_mps2 / speed_mps**2, -0.1, 0.1))
    plan = arc_plan(speed_mps, acceleration, curvature)
    ego = EgoState(np.array([-3.0, 11.0]), yaw, speed_mps, acceleration, curvature)
    assert np.linalg.norm(followed(plan, ego, 5) - plan.xy_in_rig_m[:5], axis=1).max() < 0.15


@pytest.mark.parametrize(("speed_mps", "curvature_1pm"), [(3.0, -0.1), (8.0, 0.02), (14.0, 0.01), (20.0, -0.005)])
def test_a_steady_curve_is_followed_to_its_end(speed_mps, curvature_1pm):
    plan = arc_plan(speed_mps, curvature_1pm=curvature_1pm)
    driven = followed(plan, EgoState(np.zeros(2), 0.4, speed_mps, 0.0, curvature_1pm), FUTURE_STEPS)
    assert np.linalg.norm(driven - plan.xy_in_rig_m, axis=1).max() < 0.02


@pytest.mark.parametrize("speed_mps", [2.0, 6.0, 12.0])
def test_braking_to_rest_comes_to_rest_where_planned(speed_mps):
    plan = arc_plan(speed_mps, -3.0)
    driven = followed(plan, EgoState(np.zeros(2), 0.0, speed_mps, -3.0), 64)
    assert np.linalg.norm(driven[-1] - driven[-10]) < 0.02
    assert np.linalg.norm(driven[-1] - plan.xy_in_rig_m[-1]) < 0.6


@settings(max_examples=40, deadline=None)
@given(speed_mps=st.floats(4, 20), left_m=st.floats(-0.8, 0.8))
def test_a_plan_beside_the_ego_is_reached_without_swinging(speed_mps, left_m):
    driven = followed(arc_plan(speed_mps, left_m=left_m), EgoState(np.zeros(2), 0.0, speed_mps), 64)
    gap = np.abs(driven[:, 1] - left_m)
    assert gap[-10:].max() < 0.1 * abs(left_m) + 1e-6 and gap.max() <= abs(left_m) + 1e-6
    assert np.abs(driven[:, 1]).max() < 1.3 * abs(left_m) + 1e-6


def test_a_standing_plan_keeps_the_car_standing():
    jitter = np.random.default_rng(0).normal(0, 0.002, (64, 2))
    driven = followed(Plan(jitter, np.full(64, 0.01)), EgoState(np.zeros(2), 0.0, 0.0), 64)
    assert np.abs(driven).max() < 0.3


def test_speeds_of_a_plan_are_signed():
    plan = arc_plan(6.0, 0.0, 0.05)
    np.testing.assert_allclose(plan_speeds(plan, 6.5), [6.5, *[6.0] * 64], rtol=2e-3)
    back = Plan(plan.xy_in_rig_m * [-1, 1], -plan.yaw_rad)
    np.testing.assert_allclose(plan_speeds(back, 0.0)[1:], -6.0, rtol=2e-3)


# --- latency, tracking, and who is at the wheel ---------------------------------------------------------------------


def test_a_late_plan_is_driven_late():
    """Full braking that is seen 0.3 s later begins 0.3 s later; before, the last plan goes on."""
    speeds = {}
    for latency in (0.0, 0.3):
        running = episode(dataclasses.replace(BLIND, latency_s=latency))
        running.advance(arc_plan(running.states[-1].ego.speed_mps), running.observe().truth)
        running.advance(arc_plan(running.states[-1].ego.speed_mps, -4.0), running.observe().truth)
        speeds[latency] = [state.ego.speed_mps for state in running.states[-6:]]
    assert speeds[0.3][:4] == pytest.approx([speeds[0.3][0]] * 4, abs=0.02) and speeds[0.0][3] < speeds[0.3][3] - 0.5
    assert speeds[0.3][5] < speeds[0.3][3] - 0.2
    with pytest.raises(UserError, match="latency_s is"):
        DriveSettings(latency_s=0.9)


def test_without_tracking_nobody_looks_where_the_car_is():
    """A car beside its plan comes back with tracking only; without, it drives the plan's own controls."""
    ego = EgoState(np.array([0.0, 0.4]), 0.0, 8.0)
    ends = []
    for track in (True, False):
        now, follower = ego, PlanFollower(arc_plan(8.0), np.zeros(2), 0.0, 8.0, track)
        for step in range(40):
            now = advance(now, *follower.control(step, now))
        ends.append(float(now.xy_in_local_m[1]))
    assert abs(ends[0]) < 0.1 and ends[1] == pytest.approx(0.4)


def test_what_happens_in_the_warm_up_is_not_the_policys_doing():
    """The warm-up driver leaves the road and comes back; the policy's drive has no event."""
    world = TownWorld(build_scene(SPEC))
    turns = iter([0.12] * 9 + [-0.12] * 60)
    running = Episode(SPEC, world, lambda history: (0.0, next(turns)), BLIND, None, 30.0)
    assert running.scorer.events == [] and not running.scorer.fatal
    watching = Scorer(world.context)
    for state in running.states:
        watching.add(state)
    assert {event.kind for event in watching.events} >= {"off_road"}, "there was something to forget"
    running.advance(arc_plan(running.states[-1].ego.speed_mps, -4.0), running.observe().truth)
    assert running.ended is None or "off_road" not in {event.kind for event in running.scorer.events}


# --- replays -------------------------------------------------------------------------------------------------------


def replayed(directory: Path, plan_of, duration_s: float = 5.0) -> EpisodeResult:
    worker = Worker(DriveSettings(camera=False))
    reply = worker.start(0, ReplaySpec(directory, 1_500_000, duration_s))
    while isinstance(reply, Observation):
        reply = worker.advance(0, plan_of(reply))
    assert not worker.episodes
    return finished(reply)


@pytest.fixture(scope="module")
def straight_log(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("log") / "straight", log(road=wide_road()))


def test_a_replay_that_leaves_the_log_by_four_metres_is_cut(straight_log):
    result = replayed(straight_log, lambda seen: arc_plan(seen.speed_mps, curvature_1pm=0.05))
    offsets = np.array([state.ego.xy_in_local_m[1] + 1.75 for state in result.states])
    assert result.ended == "deviation" and offsets[-1] > 4.0 and (offsets[:-1] <= 4.0).all()
    assert result.failure is None and result.score is not None and result.score.clean
    assert 0.0 < result.score.progress < 0.9


def test_a_replay_that_keeps_to_the_log_scores_its_progress(straight_log):
    result = replayed(straight_log, lambda seen: arc_plan(seen.speed_mps))
    assert result.ended == "time" and result.events == [] and result.score is not None
    assert result.score.progress == pytest.approx(1.0, abs=0.01) and result.score.scene_score == 1.0
    assert result.states[-1].t_us == 1_500_000 + 5_000_000


def test_stopping_on_the_log_is_late_and_not_away(straight_log):
    result = replayed(straight_log, lambda seen: arc_plan(seen.speed_mps, -4.0))
    assert result.ended == "time" and result.score is not None
    assert result.score.progress == pytest.approx((8.0 / 4 * 8.0 / 2) / (8.0 * 3.4), abs=0.05)
    assert result.score.scene_score == pytest.approx(result.score.progress / 0.8)


def test_a_replay_needs_a_map(tmp_path):
    reply = Worker(BLIND).start(0, ReplaySpec(written(tmp_path / "bare", log()), 1_500_000))
    assert isinstance(reply, BrokenScene) and "has no map" in reply.reason


def test_the_recorded_past_is_the_first_history(straight_log):
    reply = Worker(BLIND).start(0, ReplaySpec(straight_log, 1_500_000))
    assert isinstance(reply, Observation) and reply.scene_id == "straight@1500000"
    np.testing.assert_allclose(reply.history_xyz_in_rig_m[:, 0], 0.8 * np.arange(-15, 1), atol=0.05)
    assert np.abs(wrap_angle(reply.history_yaw_rad)).max() < 1e-3
