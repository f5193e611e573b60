"""How fast the town's traffic steps on SUMO, beside highway-env in the same run; what a snapshot is worth; memory.

Prints a table and writes JSON. Needs `pip install 'causaldrive[bench]'` for the rival.
Run: python benchmarks/world.py [--out docs/results/world.json]

Rates are given against the wall clock and against this process's own processor time (what one free core gives): on a
machine that others use, the second is the steadier one. Ratios come from rates of the same kind in the same run.

    growth = max over neighbouring numbers of agents of log(cost_2 / cost_1) / log(n_2 / n_1)      cost = seconds a tick

n is how many agents were present on average. A growth of at most 1 says that cost is no worse than linear in agents.
"""

from __future__ import annotations

import argparse
import io
import itertools
import math
import multiprocessing as mp
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from causaldrive.ground.files import write_json
from causaldrive.worlds.families.sumo_draft import finish, network_named
from causaldrive.worlds.families.town_drive import draw_on
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.scenes import Scene, SceneSpec, build_scene
from causaldrive.worlds.sumo_traffic import SumoTraffic
from causaldrive.worlds.town import TownWorld
from causaldrive.worlds.vehicle import advance

AGENTS, COUNTS = 50, (10, 25, 50, 100)
GOALS = {"ticks_per_s": 1000.0, "times_highway_env": 10.0, "loop_hz": 100.0, "two_workers": 1.8, "memory_mb": 400.0,
         "growth": 1.0}  # fmt: skip


def town_scene(agents: int = AGENTS, seed: int = 5) -> Scene:
    """A drive on the package's town among so many cars and people."""
    return finish(
        draw_on(network_named("town"), np.random.default_rng(seed), agents), SceneSpec("town_drive", seed), ""
    )


def rate(step: Callable[[], object], seconds: float) -> dict[str, float]:
    """Calls a second by wall clock and by this process's processor time, for at least so many seconds of the latter."""
    count, wall, cpu = 0, time.perf_counter(), time.process_time()
    while (spent := time.process_time() - cpu) < seconds:
        for _ in range(10):
            step()
        count += 10
    return {"per_s": round(count / (time.perf_counter() - wall), 1), "per_cpu_s": round(count / spent, 1)}


def traffic_ticks(agents: int, seconds: float) -> dict:
    """The traffic source alone: 0.1 s of everybody, every state and light read into arrays, the ego placed."""
    scene = town_scene(agents)
    assert scene.sumo is not None
    traffic = SumoTraffic(scene.sumo, scene.ego)
    ego = replace(scene.ego, speed_mps=0.0)
    present = []

    def step() -> None:
        traffic.step(ego)
        present.append(len(traffic.agents()))

    found = rate(step, seconds)
    traffic.close()
    return {"agents_at_start": present[0], "agents_mean": round(float(np.mean(present)), 1), **found}


def growth(traffic: dict[str, dict]) -> float:
    """The steepest rise of cost with the number of agents present: 1 is linear, below it cheaper."""
    rows = sorted((row["agents_mean"], 1.0 / row["per_cpu_s"]) for row in traffic.values())
    return round(max(math.log(b[1] / a[1]) / math.log(b[0] / a[0]) for a, b in itertools.pairwise(rows)), 2)


def by_calls(seconds: float) -> dict:
    """The second design: no subscriptions, four calls an agent. The same simulation, read another way."""
    scene = town_scene()
    assert scene.sumo is not None
    traffic = SumoTraffic(scene.sumo, scene.ego)
    sumo = traffic._sumo
    place = (*scene.ego.xy_in_local_m.tolist(), scene.ego.yaw_rad, 0.0)

    def step() -> None:
        traffic._place_ego(place)
        sumo.simulationStep()
        vehicle = sumo.vehicle
        [(vehicle.getPosition(n), vehicle.getAngle(n), vehicle.getSpeed(n), vehicle.getSignals(n))
         for n in vehicle.getIDList()]  # fmt: skip
        person = sumo.person
        [(person.getPosition(n), person.getAngle(n), person.getSpeed(n)) for n in person.getIDList()]

    found = rate(step, seconds)
    traffic.close()
    return found


def world_ticks(seconds: float) -> dict:
    """The whole town world: ego, history, traffic."""
    world = TownWorld(town_scene())
    return rate(lambda: world.step(-1.0, 0.0), seconds)


def highway_env(seconds: float) -> dict:
    """highway-env's own simulation step (10 Hz, no picture) at as many vehicles, every state read."""
    import gymnasium
    import highway_env

    gymnasium.register_envs(highway_env)
    settings = {"vehicles_count": AGENTS - 1, "simulation_frequency": 10, "policy_frequency": 10, "duration": 10**6,
                "lanes_count": 4, "observation": {"type": "Kinematics", "vehicles_count": AGENTS}}  # fmt: skip
    env = gymnasium.make("highway-v0", config=settings)
    env.reset(seed=0)

    def step() -> None:
        _, _, ended, cut, _ = env.step(1)
        if ended or cut:
            env.reset(seed=0)

    return {"vehicles": AGENTS, "version": highway_env.__version__ if hasattr(highway_env, "__version__") else "",
            **rate(step, seconds)}  # fmt: skip


def loop(seconds: float) -> dict:
    """Tick, render 320x192, JPEG into memory: what recording at 10 Hz costs a tick, without the expert."""
    world = TownWorld(build_scene(SceneSpec("town_drive", 3)))
    renderer = Renderer(world.context.camera)
    view = renderer.open(world.context)

    def step() -> None:
        world.step(0.0 if world.state.ego.speed_mps < 6 else -0.5, 0.0)
        Image.fromarray(view.render(world.state)).save(io.BytesIO(), "JPEG", quality=90)

    found = {"backend": renderer.backend, **rate(step, seconds)}
    view.close()
    renderer.close()
    return found


def _work(ticks: int, ready, go, out) -> None:
    world = TownWorld(town_scene())
    world.step(0.0, 0.0)
    ready.put(1)
    go.wait()
    start = time.perf_counter()
    for _ in range(ticks):
        world.step(-1.0, 0.0)
    out.put((time.perf_counter() - start, psutil.Process(os.getpid()).memory_info().rss / 2**20))


def workers(count: int, ticks: int = 3000) -> dict:
    """`count` processes step a world each; ticks a second of all together, memory of the largest."""
    context = mp.get_context("spawn")
    ready, out, go = context.Queue(), context.Queue(), context.Event()
    processes = [context.Process(target=_work, args=(ticks, ready, go, out)) for _ in range(count)]
    for process in processes:
        process.start()
    for _ in processes:
        ready.get()
    go.set()
    found = [out.get() for _ in processes]
    for process in processes:
        process.join()
    return {"ticks_per_s": round(count * ticks / max(t for t, _ in found), 1),
            "memory_mb": round(max(m for _, m in found), 1)}  # fmt: skip


def rendering_memory_mb() -> float:
    """Resident memory of a worker that steps and renders; measured in a process of its own."""
    context = mp.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_render_once, args=(queue,))
    process.start()
    found = queue.get()
    process.join()
    return round(found, 1)


def _render_once(queue) -> None:
    loop(0.5)
    queue.put(psutil.Process(os.getpid()).memory_info().rss / 2**20)


def snapshots() -> dict:
    """How far a restored simulation is from the one that went on, 6 s later: SUMO's saved state and our replay."""
    scene = build_scene(SceneSpec("town_drive", 4))
    assert scene.sumo is not None
    traffic = SumoTraffic(scene.sumo, scene.ego)
    ego = scene.ego
    for _ in range(60):
        traffic.step(ego)
        ego = advance(ego, 0.0, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "state.xml")
        traffic._sumo.simulation.saveState(path)
        saved, here = traffic.snapshot(), ego
        ahead = _onward(traffic, here)
        traffic._sumo.simulation.loadState(path)
        for group, names in (
            (traffic._sumo.vehicle, (0x42, 0x43, 0x40, 0x5B)),
            (traffic._sumo.person, (0x42, 0x43, 0x40)),
        ):
            for name in group.getIDList():
                if name != "ego":
                    group.subscribe(name, list(names))
        loaded = _onward(traffic, here)
    start = time.perf_counter()
    traffic.restore(saved)
    traffic.step(here)
    seconds = time.perf_counter() - start
    traffic.restore(saved)
    replayed = _onward(traffic, here)
    traffic.close()
    return {"saved_state_off_m": round(_apart(ahead, loaded), 4), "replay_off_m": _apart(ahead, replayed),
            "replay_of_6_s_takes_s": round(seconds, 4)}  # fmt: skip


def _onward(traffic: SumoTraffic, ego) -> list[dict[str, np.ndarray]]:
    found = []
    for _ in range(60):
        traffic.step(ego)
        ego = advance(ego, 0.0, 0.0)
        agents = traffic.agents()
        found.append(dict(zip(agents.ids, agents.xy_in_local_m, strict=True)))
    return found


def _apart(one: list[dict[str, np.ndarray]], two: list[dict[str, np.ndarray]]) -> float:
    """The largest distance between the same agents at the same times."""
    return max(float(np.linalg.norm(a[k] - b[k])) for a, b in zip(one, two, strict=True) for k in a.keys() & b.keys())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="processor time for each rate")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    result: dict = {"machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
                    "load_at_start": round(os.getloadavg()[0], 1), "goals": GOALS}  # fmt: skip
    result["highway_env"] = highway_env(options.seconds)
    result["traffic"] = {str(count): traffic_ticks(count, options.seconds) for count in COUNTS}
    result["growth"] = growth(result["traffic"])
    result["world"] = world_ticks(options.seconds)
    result["by_calls"] = by_calls(options.seconds)
    fifty = result["traffic"][str(AGENTS)]
    result["times_highway_env"] = round(fifty["per_cpu_s"] / result["highway_env"]["per_cpu_s"], 1)
    result["loop"] = loop(options.seconds)
    result["workers"] = {str(count): workers(count) for count in (1, 2)}
    result["two_workers"] = round(result["workers"]["2"]["ticks_per_s"] / result["workers"]["1"]["ticks_per_s"], 2)
    result["rendering_memory_mb"] = rendering_memory_mb()
    result["snapshot"] = snapshots()
    result["load_at_end"] = round(os.getloadavg()[0], 1)
    for name, value in result.items():
        print(f"{name:20} {value}")
    if options.out:
        write_json(options.out, result)


if __name__ == "__main__":
    main()
