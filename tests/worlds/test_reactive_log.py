"""Logged vehicles that mind the ego: exact while nothing is in their way, and never through the car that is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from world_drives import log, wide_road

from causaldrive.clips.types import AgentTracks, Recording
from causaldrive.worlds.interventions import Intervention, act
from causaldrive.worlds.replay import ReplayWorld


def follower_log(gap_m: float = 14.0) -> Recording:
    """`log` with a car that follows the ego at the same speed, and one that crosses far behind."""
    drive = log(16.0, road=wide_road())
    lead = drive.agents
    assert lead is not None
    behind = replace(lead, agent_id=np.array(["follower"] * len(lead.t_us)),
                     xyz_in_local_m=lead.xyz_in_local_m - np.array([60.0 + gap_m, 0.0, 0.0]))  # fmt: skip
    both = {name: np.concatenate([getattr(lead, name), getattr(behind, name)]) for name in vars(lead)}
    order = np.argsort(both["t_us"], kind="stable")
    return replace(drive, agents=AgentTracks(**{name: value[order] for name, value in both.items()}))


def driven(world: ReplayWorld, acceleration: float, steps: int) -> list[float]:
    """Free gap of the follower to the ego's rear at each step."""
    gaps = []
    for _ in range(steps):
        state = world.step(acceleration, 0.0)
        index = state.agents.ids.index("follower")
        gap = state.ego.centre_xy_in_local_m - state.agents.xy_in_local_m[index]
        gaps.append(float(np.linalg.norm(gap) * np.sign(gap[0])) - 4.6)
    return gaps


def test_the_log_is_replayed_exactly_while_nobody_is_in_the_way():
    plain, reactive = (ReplayWorld(follower_log(30.0), 1_500_000, reactive=r) for r in (False, True))
    for _ in range(60):
        one, two = plain.step(0.0, 0.0), reactive.step(0.0, 0.0)
        np.testing.assert_array_equal(one.agents.xy_in_local_m, two.agents.xy_in_local_m)
        assert one.agents.ids == two.agents.ids


def test_a_follower_stops_behind_an_ego_that_stops_where_the_log_drives_through_it():
    reactive, plain = (ReplayWorld(follower_log(), 1_500_000, reactive=r) for r in (True, False))
    assert min(driven(reactive, -3.0, 100)) > 0.5
    assert min(driven(plain, -3.0, 100)) < -4.0
    state = reactive.state
    assert state.agents.speed_mps[state.agents.ids.index("follower")] < 0.3
    assert state.agents.brake_light[state.agents.ids.index("follower")]
    assert state.agents.speed_mps[state.agents.ids.index("lead")] == pytest.approx(8.0), "who is ahead drives on"


def test_who_was_held_up_goes_on_and_catches_up():
    world = ReplayWorld(follower_log(), 1_500_000, reactive=True)
    driven(world, -3.0, 30)
    driven(world, 3.0, 40)
    state = world.state
    assert state.agents.speed_mps[state.agents.ids.index("follower")] > 5.0


def test_snapshots_hold_who_left_the_log_and_edits_reach_them():
    world = ReplayWorld(follower_log(), 1_500_000, reactive=True)
    driven(world, -3.0, 40)
    saved = world.snapshot()
    first = driven(world, -3.0, 20)
    world.restore(saved)
    assert driven(world, -3.0, 20) == first
    world.restore(saved)
    act(world, [Intervention("freeze_agent", "follower")])
    at = world.state.agents.xy_in_local_m[world.state.agents.ids.index("follower")]
    driven(world, 1.0, 10)
    np.testing.assert_array_equal(world.state.agents.xy_in_local_m[world.state.agents.ids.index("follower")], at)
    act(world, [Intervention("remove_agent", "follower")])
    assert "follower" not in world.step(0.0, 0.0).agents.ids
