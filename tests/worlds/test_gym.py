"""The town through Gymnasium: its own checker, seeds, failures, arrays, several at once, the example of the docs."""

from __future__ import annotations

import re
import warnings
from contextlib import closing
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from causaldrive.ground.errors import UserError
from causaldrive.worlds.expert import ExpertDriver
from causaldrive.worlds.gym import TownEnv, vector
from causaldrive.worlds.scenes import SceneSpec

DOCS = Path(__file__).resolve().parents[2] / "docs" / "gym.md"
CURVE = {"spec": SceneSpec("sharp_curve", 4)}


@pytest.mark.parametrize("camera", [False, True])
def test_gymnasiums_own_checker_is_content(camera):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")
        env = gymnasium.make("causaldrive/Town-v0", camera=camera, render_mode="rgb_array").unwrapped
        check_env(env)
        env.close()


def test_it_is_registered_and_a_seed_is_a_scene():
    with gymnasium.make("causaldrive/Town-v0", families=("cut_in",)) as env:
        first, info = env.reset(seed=3)
        again, same = env.reset(seed=3)
        assert info == same and "cut_in" in info["scene_id"]
        assert all(np.array_equal(first[name], again[name]) for name in first)
        assert env.reset(seed=4)[1]["scene_id"] != info["scene_id"]


def test_the_expert_earns_more_than_one_who_goes_straight():
    totals = []
    for expert in (True, False):
        env = TownEnv()
        env.reset(options=CURVE)
        driver, total, terminated = ExpertDriver(env.world.context), 0.0, False
        for _ in range(140):
            action = driver.control(env.world.history) if expert else (0.0, 0.0)
            action = np.clip(action, env.action_space.low, env.action_space.high)
            _, reward, terminated, truncated, info = env.step(action)
            total += reward
            if terminated or truncated:
                break
        totals.append(total)
        assert terminated == (not expert) and ("off_road" in info["events"]) == (not expert)
    assert totals[0] > totals[1] + 20


@pytest.mark.parametrize(
    ("action", "failure"),
    [((np.nan, 0.0), "not_a_number"), ((50.0, 0.0), "out_of_range"), ((0.0, -0.3), "out_of_range"),
     ((0.0,), "wrong_shape")],
)  # fmt: skip
def test_an_action_that_cannot_be_driven_ends_the_drive(action, failure):
    env = TownEnv()
    env.reset(options=CURVE)
    _, reward, terminated, truncated, info = env.step(np.array(action))
    assert (terminated, truncated, info["failure"]) == (True, False, failure) and reward < 0


def test_observations_are_the_world_seen_from_the_car():
    env = TownEnv(most_agents=30)
    seen, _ = env.reset(options={"spec": SceneSpec("red_light", 2)})
    state = env.world.state
    count = len(state.agents)
    assert seen["agents"][:, 0].sum() == count and not seen["agents"][count:].any()
    away = np.sort(np.linalg.norm(state.agents.xy_in_local_m - state.ego.xy_in_local_m, axis=1))
    np.testing.assert_allclose(np.linalg.norm(seen["agents"][:count, 1:3], axis=1), away, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(seen["route"][0]), 5.0, atol=0.1)
    assert seen["ego"][0] == np.float32(state.ego.speed_mps) and abs(seen["ego"][3]) < 0.01


def test_the_scene_can_be_read_as_arrays():
    env = TownEnv()
    with pytest.raises(UserError, match="reset"):
        env.lanes()
    env.reset(options={"spec": SceneSpec("red_light", 2)})
    lanes, agents, lights = env.lanes(), env.agents(), env.lights()
    count = len(lanes["lane_id"])
    assert lanes["centre_xy_m"].shape == lanes["left_xy_m"].shape == (count, 20, 2) and lanes["in_junction"].any()
    assert agents["xy_in_local_m"].shape == (len(agents["id"]), 2) and agents["size_m"].shape == (len(agents["id"]), 3)
    assert set(lights["lane_id"]) <= set(lanes["lane_id"]) and set(lights["state"]) <= {"red", "green"}


@pytest.mark.parametrize("workers", [False, True])
def test_several_at_once_are_the_single_ones(workers):
    with closing(vector(2, workers=workers, families=("lead_brakes",))) as several:
        seen, infos = several.reset(seed=[5, 6])
        after, *_ = several.step(np.zeros((2, 2), np.float32))
    for index, seed in enumerate((5, 6)):
        env = TownEnv(families=("lead_brakes",))
        first, info = env.reset(seed=seed)
        second, *_ = env.step(np.zeros(2))
        assert infos["scene_id"][index] == info["scene_id"]
        for name in first:
            np.testing.assert_array_equal(seen[name][index], first[name])
            np.testing.assert_array_equal(after[name][index], second[name])


def test_wrong_requests_are_refused():
    with pytest.raises(UserError, match="Did you mean cut_in"):
        TownEnv(families=("cutin",))
    with pytest.raises(UserError, match="reserved"):
        TownEnv(first_seed=9_000_000)
    with pytest.raises(UserError, match="render_mode"):
        TownEnv(render_mode="human")
    with pytest.raises(UserError, match="SceneSpec expected"):
        TownEnv().reset(options={"spec": "cut_in"})


def test_the_example_of_the_docs_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    space: dict = {}
    exec(code, space)
    assert "town_red_light" in capsys.readouterr().out and space["observations"]["agents"].shape == (4, 16, 9)
