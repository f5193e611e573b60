"""Trials of paths and the expert asked on the way: where they lead, and that the drive itself notices nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from world_drives import BLIND, arc_plan, finished, same_drive

from causaldrive.worlds.episode import EpisodeResult, Observation, Plan
from causaldrive.worlds.path_trials import Outcome
from causaldrive.worlds.pool import Worker
from causaldrive.worlds.scenes import SceneSpec

CLEAR, LEAD = SceneSpec("lead_brakes", 3, False), SceneSpec("lead_brakes", 4, True)
ROUNDABOUT = SceneSpec("roundabout", 3, True)


def with_paths(driven: Plan, *others: Plan) -> Plan:
    plans = (driven, *others)
    xy, yaw = (np.stack([getattr(plan, name) for plan in plans]) for name in ("xy_in_rig_m", "yaw_rad"))
    return replace(driven, samples_xy_in_rig_m=xy, samples_yaw_rad=yaw)


def ways(seen: Observation) -> Plan:
    """Steady and straight; and, to be tried, the same, one that brakes, one to the left, one that speeds off."""
    v = seen.speed_mps
    steady = arc_plan(v)
    return with_paths(steady, steady, arc_plan(v, -3.0), arc_plan(v, 0.0, 0.06), arc_plan(v, 4.0))


def driven(spec: SceneSpec, seconds: float) -> EpisodeResult:
    worker = Worker(replace(BLIND, try_paths_s=seconds))
    reply = worker.start(0, spec)
    while isinstance(reply, Observation):
        reply = worker.advance(0, ways(reply))
    return finished(reply)


def outcomes(spec: SceneSpec, index: int = 0) -> list[Outcome]:
    found = driven(spec, 3.0).decisions[index].outcomes
    assert found is not None and len(found) == 4
    return found


def test_a_path_is_measured_by_how_far_it_leads_from_the_experts_way():
    steady, braking, leaving, fast = outcomes(CLEAR)
    assert steady.along_m < 0.5 and steady.aside_m < 0.1 and not steady.events
    assert braking.along_m > 3.0 > steady.along_m and braking.aside_m < 0.2
    assert leaving.aside_m > 0.7 and fast.along_m > 3.0 and fast.aside_m < 0.2


def test_harm_of_a_path_is_its_own():
    steady, _, leaving, _ = outcomes(CLEAR)
    assert [event.kind for event in leaving.events if event.at_fault] == ["off_road"] and not steady.events
    last = outcomes(CLEAR, -1)
    assert [event.kind for event in last[3].events if event.at_fault] == ["collision"]  # it reaches the car ahead
    assert not last[0].events and not last[1].events


def test_a_drive_with_trials_is_the_drive_without_also_with_traffic_by_sumo():
    for spec in (LEAD, ROUNDABOUT):
        tried, plain = driven(spec, 3.0), driven(spec, 0.0)
        assert same_drive(tried, plain)
        assert all(one.outcomes is None for one in plain.decisions) and all(one.outcomes for one in tried.decisions)


def test_the_same_trial_ends_the_same():
    assert outcomes(LEAD) == outcomes(LEAD)


# --- the expert asked at every decision ------------------------------------------------------------------------------


def asked(spec: SceneSpec, plan=ways, ask: bool = True) -> EpisodeResult:
    worker = Worker(replace(BLIND, show_expert=ask))
    reply = worker.start(0, spec)
    while isinstance(reply, Observation):
        reply = worker.advance(0, plan(reply))
    return finished(reply)


def test_the_expert_shows_the_way_back_to_a_car_that_leaves_its_lane():
    found = asked(CLEAR, lambda seen: arc_plan(seen.speed_mps, 0.0, 0.02)).decisions
    away = [one for one in found if one.shown is not None and abs(one.shown.lane_offset_m[0]) > 0.4]
    assert away
    for one in away:
        assert one.shown is not None and one.shown.xy_in_rig_m.shape == (64, 2) and one.shown.yaw_rad.shape == (64,)
        assert abs(one.shown.lane_offset_m[-1]) < 0.2 < abs(one.shown.lane_offset_m[0])
        assert abs(one.lane_offset_m[-1]) > 1.0  # the car's own plan leads further away


def test_a_drive_with_the_expert_asked_is_the_drive_without_also_with_traffic_by_sumo():
    for spec in (LEAD, ROUNDABOUT):
        with_expert, plain = asked(spec), asked(spec, ask=False)
        assert same_drive(with_expert, plain)
        assert all(one.shown is None for one in plain.decisions)
        assert all(one.shown is not None for one in with_expert.decisions)
