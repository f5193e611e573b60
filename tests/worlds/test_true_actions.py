"""The true timeline of actions: exact where the commands are known, to a quarter of a step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causaldrive.worlds.expert import ExpertDriver
from causaldrive.worlds.scenes import build_scene, draw_specs
from causaldrive.worlds.state import EgoState
from causaldrive.worlds.town import TownWorld
from causaldrive.worlds.true_actions import ActionWords, _applied, true_actions, true_actions_of
from causaldrive.worlds.vehicle import advance


def driven(speed_mps: float, *commands: tuple[float, float, float]) -> list[EgoState]:
    """States of (acceleration, curvature, seconds)."""
    egos = [EgoState(np.zeros(2), 0.0, speed_mps)]
    for acceleration, curvature, seconds in commands:
        for _ in range(round(seconds * 10)):
            egos.append(advance(egos[-1], acceleration, curvature))
    return egos


def said(phases) -> list[tuple[str, float]]:
    return [(phase.label, phase.start_us / 1e6) for phase in phases]


def test_a_brake_begins_where_the_brakes_do():
    actions = true_actions(driven(10, (0, 0, 3), (-1, 0, 2), (0, 0, 3)))
    assert said(actions.longitudinal) == [("maintain_speed", 0), ("gentle_decelerate", 3.0), ("maintain_speed", 5.025)]
    assert list(actions.longitudinal_words[28:32]) == ["maintain_speed"] * 2 + ["gentle_decelerate"] * 2


def test_standing_is_standing():
    actions = true_actions(driven(4, (-2, 0, 4), (1, 0, 2)))
    (brake, _), (stop, stands), (go, goes) = said(actions.longitudinal)
    assert (brake, stop, go) == ("strong_decelerate", "stop", "gentle_accelerate")
    assert stands == pytest.approx(2.0, abs=0.05) and goes == pytest.approx(4.0, abs=0.05)


def test_steering_by_side_and_radius():
    for sign, side in ((1, "left"), (-1, "right")):
        actions = true_actions(driven(6, (0, 0, 2), (0, sign * 0.02, 3), (0, sign * 0.07, 3), (0, 0, 2)))
        labels = [label for label, _ in said(actions.lateral)]
        assert labels == ["go_straight", f"steer_{side}", f"sharp_steer_{side}", "go_straight"]


def test_what_is_too_short_or_too_small_is_no_action():
    assert said(true_actions(driven(10, (0, 0, 3), (-2, 0, 0.2), (0, 0, 3))).longitudinal) == [("maintain_speed", 0)]
    assert said(true_actions(driven(10, (0, 0, 3), (-0.2, 0, 1), (0, 0, 3))).longitudinal) == [("maintain_speed", 0)]
    plain = ActionWords(speed_change_mps=0.0)
    assert len(true_actions(driven(10, (0, 0, 3), (-0.2, 0, 1), (0, 0, 3)), words=plain).longitudinal) == 3


def test_reversing_is_named_by_the_wheel():
    speed, curvature = np.full(80, -1.0), np.full(80, 0.1)
    actions = true_actions_of(speed, np.zeros(80), curvature, 21)
    assert said(actions.longitudinal) == [("reverse", 0)] and said(actions.lateral) == [("reverse_left", 0)]
    assert said(true_actions_of(speed, np.zeros(80), -curvature, 21).lateral) == [("reverse_right", 0)]


def test_what_was_applied_gives_back_what_was_driven():
    """The parts of each step, integrated, end at the states of the town's own vehicle."""
    world = TownWorld(build_scene(draw_specs(2, 0, ["red_light"])[0]))
    driver, egos = ExpertDriver(world.context), [world.state.ego]
    for _ in range(120):
        egos.append(world.step(*driver.control(world.history)).ego)
    speed, acceleration, curvature = _applied(egos)
    v = np.array([ego.speed_mps for ego in egos])
    moving = np.repeat(v[1:] > 0, 4)
    change = np.where(moving, acceleration * 0.025, 0).reshape(-1, 4).sum(axis=1)
    np.testing.assert_allclose(change[v[1:] > 0], np.diff(v)[v[1:] > 0], atol=1e-9)
    yaw = np.unwrap([ego.yaw_rad for ego in egos])
    turned = (speed * curvature * 0.025).reshape(-1, 4).sum(axis=1)
    np.testing.assert_allclose(turned[v[1:] > 0], np.diff(yaw)[v[1:] > 0], atol=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_phases_tile_the_drive(seed):
    rng = np.random.default_rng(seed)
    commands = [(rng.uniform(-3, 2), rng.uniform(-0.08, 0.08), rng.uniform(0.1, 2)) for _ in range(8)]
    egos = driven(9, *commands)
    actions = true_actions(egos, start_us=500_000)
    for phases, words in (
        (actions.longitudinal, actions.longitudinal_words),
        (actions.lateral, actions.lateral_words),
    ):
        assert len(words) == len(egos)
        assert phases[0].start_us == 500_000 and phases[-1].end_us == 500_000 + 100_000 * (len(egos) - 1)
        assert all(a.end_us == b.start_us and a.label != b.label for a, b in itertools.pairwise(phases))
        inner = phases[1:-1]
        assert all(phase.end_us - phase.start_us >= 400_000 for phase in inner)
