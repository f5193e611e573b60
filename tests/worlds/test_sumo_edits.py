"""Interventions on SUMO's traffic: each does what it says, nothing else, and comes back with the moment."""

from __future__ import annotations

import pytest

from causaldrive.worlds.scenes import SceneSpec, build_scene
from causaldrive.worlds.town import TownWorld
from causaldrive.worlds.traffic import CannotIntervene


@pytest.fixture
def world():
    world = TownWorld(build_scene(SceneSpec("town_drive", 4)))
    for _ in range(10):
        world.step(0.0, 0.0)
    yield world
    world.traffic.close()


def _moving(world: TownWorld, category: str) -> str:
    agents = world.state.agents
    return next(
        n for n, c, v in zip(agents.ids, agents.category, agents.speed_mps, strict=True) if c == category and v > 1
    )


def _places(world: TownWorld) -> dict[str, tuple[float, float]]:
    agents = world.state.agents
    return {name: tuple(xy) for name, xy in zip(agents.ids, agents.xy_in_local_m.tolist(), strict=True)}


@pytest.mark.parametrize("category", ["car", "pedestrian"])
def test_a_removed_agent_is_gone_and_comes_back_with_the_moment(world, category):
    name, saved = _moving(world, category), world.snapshot()
    for _ in range(5):
        world.step(0.0, 0.0)
    factual = _places(world)
    world.restore(saved)
    world.remove_agent(name)
    assert all(name not in state.agents.ids for state in world.history)
    for _ in range(5):
        world.step(0.0, 0.0)
    assert name not in _places(world) and len(_places(world)) >= len(factual) - 1
    world.restore(saved)
    for _ in range(5):
        world.step(0.0, 0.0)
    assert _places(world) == factual


@pytest.mark.parametrize("category", ["car", "pedestrian"])
def test_a_frozen_agent_stands(world, category):
    name = _moving(world, category)
    world.freeze_agent(name)
    world.step(0.0, 0.0)
    before = _places(world)[name]
    for _ in range(10):
        world.step(0.0, 0.0)
    assert _places(world)[name] == pytest.approx(before, abs=0.05)


@pytest.mark.parametrize("state", ["green", "red", "off"])
def test_a_held_light_keeps_its_state(world, state):
    light = world.state.lights.ids[0]
    world.hold_light(light, state)
    for _ in range(60):
        world.step(0.0, 0.0)
        assert world.state.lights.state[world.state.lights.ids.index(light)] == state


def test_what_is_not_there_cannot_be_changed(world):
    for act in (
        lambda: world.remove_agent("nobody"),
        lambda: world.freeze_agent("nobody"),
        lambda: world.hold_light("nothing", "green"),
        world.straighten_road,
    ):
        with pytest.raises(CannotIntervene):
            act()
