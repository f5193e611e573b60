"""How fast the front camera draws: opening a scene and frames a second, per back end, in a town scene.

Prints a table and writes JSON. Run: python benchmarks/render.py [--backends gl software] [--out render.json]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from causaldrive.ground.files import write_json
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.scenes import FAMILIES, SceneSpec, build_scene, default_camera
from causaldrive.worlds.state import AgentArrays, WorldState
from causaldrive.worlds.town import TownWorld

AGENTS = 10


def crowded(state: WorldState) -> WorldState:
    """The state with its agents filled up to ten cars along the ego's heading, so that scenes compare."""
    missing = max(AGENTS - len(state.agents), 0)
    ahead = np.array([np.cos(state.ego.yaw_rad), np.sin(state.ego.yaw_rad)])
    extra = state.ego.xy_in_local_m + np.arange(12, 12 + 7 * missing, 7)[:, None] * ahead
    agents = state.agents
    filled = AgentArrays(
        ids=[*agents.ids, *(f"extra_{k}" for k in range(missing))],
        category=[*agents.category, *["car"] * missing],
        xy_in_local_m=np.concatenate([agents.xy_in_local_m.reshape(-1, 2), extra]),
        yaw_rad=np.concatenate([agents.yaw_rad, np.full(missing, state.ego.yaw_rad)]),
        speed_mps=np.concatenate([agents.speed_mps, np.zeros(missing)]),
        size_m=np.concatenate([agents.size_m.reshape(-1, 3), np.tile([4.6, 1.9, 1.5], (missing, 1))]),
        brake_light=np.concatenate([agents.brake_light, np.zeros(missing, bool)]),
        indicator=np.concatenate([agents.indicator, np.zeros(missing, np.int8)]),
    )
    return WorldState(state.t_us, state.ego, filled, state.lights)


def measure(renderer: Renderer, family: str, frames: int) -> dict:
    """Seconds to open and frames a second of processor time (what one core gives), the ego driving straight on."""
    world = TownWorld(build_scene(SceneSpec(family, 3, False)))
    start = time.perf_counter()
    scene = renderer.open(world.context)
    opened_s = time.perf_counter() - start
    states = []
    for _ in range(frames):
        states.append(crowded(world.state))
        world.step(0.0, 0.0)
    scene.render(states[0])
    start_wall, start_cpu = time.perf_counter(), time.process_time()
    for state in states:
        scene.render(state)
    wall_s, cpu_s = time.perf_counter() - start_wall, time.process_time() - start_cpu
    scene.close()
    return {"family": family, "open_s": round(opened_s, 4), "fps": round(frames / wall_s, 1),
            "fps_per_core": round(frames / cpu_s, 1)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", nargs="+", default=["gl", "software"])
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    rows = []
    for backend in options.backends:
        renderer = Renderer(default_camera(), backend)
        for family in FAMILIES:
            row = {"backend": backend, **measure(renderer, family, options.frames)}
            rows.append(row)
            speed = f"{row['fps']:7.1f} fps  {row['fps_per_core']:7.1f} fps/core"
            print(f"{backend:9} {family:20} open {row['open_s']:6.3f} s  {speed}")
        renderer.close()
    if options.out:
        write_json(options.out, rows)


if __name__ == "__main__":
    main()
