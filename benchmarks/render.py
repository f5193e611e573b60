"""How fast the front camera draws at 320 x 192: frames a second of one core, per back end.

One row for each core family with ten agents, and one that the bar is about: a drive through the town in which 30 agents
are visible in every frame (those of the scene, and cars, trucks, cyclists and people standing on the lanes in view,
nearest first; visible: the middle of its box lies in the picture and within 90 m). Asked there: 150 frames a second.
Prints a table and writes JSON. Run: python benchmarks/render.py [--backends gl software] [--out render.json]
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from causaldrive.clips.geometry import arc_lengths, pose_on_polyline, to_frame
from causaldrive.clips.types import Camera, RoadMap
from causaldrive.ground.files import write_json
from causaldrive.worlds.expert import ExpertDriver
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.scenes import CORE_FAMILIES, SceneSpec, build_scene, default_camera
from causaldrive.worlds.state import AgentArrays, EgoState, SceneContext, WorldState
from causaldrive.worlds.town import TownWorld

SEED, AGENTS, VISIBLE, GOAL_FPS = 3, 10, 30, 150.0
SEEN_M, EVERY_M = 90.0, 7.0
KINDS = (("car", (4.6, 1.9, 1.5)), ("pedestrian", (0.5, 0.6, 1.75)), ("car", (4.4, 1.8, 1.45)),
         ("truck", (7.5, 2.3, 2.9)), ("cyclist", (1.8, 0.6, 1.7)), ("car", (4.8, 1.95, 1.5)))  # fmt: skip


def with_more(state: WorldState, names: list[str], poses: np.ndarray, kinds: list[tuple]) -> WorldState:
    """The state with further standing agents at `poses` (K, 3: x, y, yaw), every other one braking or signalling."""
    agents, count = state.agents, len(names)
    filled = AgentArrays(
        ids=[*agents.ids, *names],
        category=[*agents.category, *(kind for kind, _ in kinds)],
        xy_in_local_m=np.concatenate([agents.xy_in_local_m.reshape(-1, 2), poses[:, :2]]),
        yaw_rad=np.concatenate([agents.yaw_rad, poses[:, 2]]),
        speed_mps=np.concatenate([agents.speed_mps, np.zeros(count)]),
        size_m=np.concatenate([agents.size_m.reshape(-1, 3), np.array([size for _, size in kinds]).reshape(-1, 3)]),
        brake_light=np.concatenate([agents.brake_light, np.arange(count) % 2 == 0]),
        indicator=np.concatenate([agents.indicator, (np.arange(count) % 3 - 1).astype(np.int8)]),
    )
    return WorldState(state.t_us, state.ego, filled, state.lights)


def in_a_row(state: WorldState) -> WorldState:
    """Filled up to ten cars along the ego's heading, so that scenes compare."""
    missing = max(AGENTS - len(state.agents), 0)
    ego = state.ego
    ahead = np.array([np.cos(ego.yaw_rad), np.sin(ego.yaw_rad)])
    xy = ego.xy_in_local_m + np.arange(12, 12 + 7 * missing, 7)[:, None] * ahead
    poses = np.column_stack([xy, np.full(missing, ego.yaw_rad)])
    return with_more(state, [f"extra_{k}" for k in range(missing)], poses, [KINDS[0]] * missing)


def places_on(road: RoadMap) -> np.ndarray:
    """(P, 3) x, y, yaw every 7 m of all lanes outside junctions."""
    found = []
    for lane in road.lanes.values():
        if not lane.in_junction:
            xy, yaw = pose_on_polyline(np.arange(4.0, arc_lengths(lane.centre_xy_m)[-1], EVERY_M), lane.centre_xy_m)
            found.append(np.column_stack([xy, yaw]))
    return np.concatenate(found)


def visible(xy_m: np.ndarray, ego: EgoState, camera: Camera) -> np.ndarray:
    """(K,) which of the places, at a car's half height, lie in the picture and near enough to be told."""
    at = to_frame(xy_m, ego.xy_in_local_m, ego.yaw_rad)
    _, inside = camera.project(np.column_stack([at, np.full(len(at), 0.75)]))
    return inside & (np.hypot(*at.T) < SEEN_M)


def crowded(state: WorldState, places: np.ndarray, camera: Camera) -> WorldState:
    """The state with as many more agents on the lanes in view as make 30 visible, the nearest first."""
    there = visible(state.agents.xy_in_local_m.reshape(-1, 2), state.ego, camera).sum()
    free = np.flatnonzero(visible(places[:, :2], state.ego, camera))
    away = np.linalg.norm(places[free, :2] - state.ego.xy_in_local_m, axis=1)
    rows = free[np.argsort(away)][: max(VISIBLE - there, 0)]
    return with_more(state, [f"extra_{k}" for k in rows], places[rows], [KINDS[k % len(KINDS)] for k in rows])


def straight_on(family: str, frames: int, _camera: Camera) -> tuple[SceneContext, list[WorldState]]:
    world = TownWorld(build_scene(SceneSpec(family, SEED, False)))
    states = []
    for _ in range(frames):
        states.append(in_a_row(world.state))
        world.step(0.0, 0.0)
    return world.context, states


def through_town(family: str, frames: int, camera: Camera) -> tuple[SceneContext, list[WorldState]]:
    """The expert's drive, filled up; only frames in which the lanes in view have room for all 30."""
    world = TownWorld(build_scene(SceneSpec(family, SEED, False)))
    driver, places, states = ExpertDriver(world.context), places_on(world.context.road), []
    while len(states) < frames and not world.at_end:
        state = crowded(world.state, places, camera)
        if visible(state.agents.xy_in_local_m, state.ego, camera).sum() >= VISIBLE:
            states.append(state)
        world.step(*driver.control(world.history))
    return world.context, states


def measure(renderer: Renderer, context: SceneContext, states: list[WorldState]) -> dict:
    """Seconds to open, and frames a second by the clock and of processor time (what one core gives)."""
    start = time.perf_counter()
    scene = renderer.open(context)
    opened_s = time.perf_counter() - start
    scene.render(states[0])
    start_wall, start_cpu = time.perf_counter(), time.process_time()
    for state in states:
        scene.render(state)
    wall_s, cpu_s = time.perf_counter() - start_wall, time.process_time() - start_cpu
    scene.close()
    shown = [visible(s.agents.xy_in_local_m.reshape(-1, 2), s.ego, renderer.camera).sum() for s in states]
    return {"visible_agents": round(float(np.mean(shown)), 1), "frames": len(states), "open_s": round(opened_s, 4),
            "fps": round(len(states) / wall_s, 1), "fps_per_core": round(len(states) / cpu_s, 1)}  # fmt: skip


def rows_of(backend: str, frames: int, families: list[str]) -> Iterator[dict]:
    renderer = Renderer(default_camera(), backend)
    for family in families:
        drawn = through_town if family == "town_drive" else straight_on
        yield {"backend": backend, "family": family,
               **measure(renderer, *drawn(family, frames, renderer.camera))}  # fmt: skip
    renderer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", default=["gl", "software"])
    parser.add_argument("--families", nargs="+", default=[*CORE_FAMILIES, "town_drive"])
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    load, rows = os.getloadavg()[0], []
    for backend in options.backends:
        for row in rows_of(backend, options.frames, options.families):
            rows.append(row)
            speed = f"{row['fps']:7.1f} fps  {row['fps_per_core']:7.1f} fps/core"
            seen = f"{row['visible_agents']:4.1f} agents visible"
            print(f"{backend:9} {row['family']:20} {seen}  open {row['open_s']:6.3f} s  {speed}", flush=True)
    if options.out:
        write_json(options.out, {"load_at_start": round(load, 2), "goal_fps_with_30_visible": GOAL_FPS, "rows": rows})


if __name__ == "__main__":
    main()
