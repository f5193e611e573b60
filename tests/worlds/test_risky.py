"""Risky driving: each of its ways is named, and the same car in its own lane is not."""

from __future__ import annotations

import numpy as np
import pytest

from causaldrive.label.trace_rules import cause_kinds
from causaldrive.worlds.expert_drive import drive
from causaldrive.worlds.scenes import SceneSpec, build_scene
from causaldrive.worlds.sumo_traffic import SumoTraffic

SEEDS = range(6)


def named(seed: int, harmless: bool) -> set[str]:
    driven = drive(build_scene(SceneSpec("risky_driver", seed, harmless)), 12.0)
    return {c.text for said in driven.explanations for c in said.causes if c.kind == "risky_vehicle"}


@pytest.fixture(scope="module")
def told() -> set[str]:
    return {text for seed in SEEDS for text in named(seed, False)}


def test_all_ways_are_drawn_and_named(told):
    for word in ("swerving", "straddles the line", "the wrong way"):
        assert any(word in text for text in told), (word, told)


def test_their_words_are_read_back_as_what_they_are(told):
    assert all("risky_vehicle" in cause_kinds(text) for text in told)


def test_the_same_car_in_its_own_lane_is_not_blamed():
    assert not any(named(seed, True) for seed in SEEDS)


def test_it_is_slow_beside_a_car_that_comes_the_wrong_way():
    for seed in SEEDS:
        driven = drive(build_scene(SceneSpec("risky_driver", seed)), 12.0)
        texts = [" ".join(c.text for c in said.causes) for said in driven.explanations]
        if any("wrong way" in text for text in texts):
            speeds = np.array([state.ego.speed_mps for state in driven.states])
            assert speeds[15:].min() < 0.85 * speeds[:15].max()
            return
    raise AssertionError("no car came the wrong way")


def test_who_straddles_the_line_in_a_bend_is_kept_behind_and_not_run_up_to():
    driven = drive(build_scene(SceneSpec("risky_driver", 2700108)), 17.0)
    assert any("straddles the line" in cause.text for said in driven.explanations for cause in said.causes)
    assert min(said.acceleration_mps2 for said in driven.explanations) > -4.0


@pytest.mark.parametrize(("harmless", "signals"), [(False, False), (True, True)])
def test_only_who_leaves_a_roundabout_at_once_signals_right_before_it(harmless, signals):
    scene = build_scene(SceneSpec("roundabout", 2, harmless))
    assert scene.sumo is not None and scene.focus_id is not None
    traffic = SumoTraffic(scene.sumo, scene.ego)
    seen = []
    for _ in range(30):
        traffic.step(scene.ego)
        agents = traffic.agents()
        seen.append(agents.indicator[agents.ids.index(scene.focus_id)])
    traffic.close()
    assert bool(min(seen) < 0) is signals
