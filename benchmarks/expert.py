"""How well the expert drives and explains: N scenes over all families, without camera, in worker processes.

By family: share without at-fault collision, off-road or rule breaking; progress against an unhindered drive where
nothing blocks; comfort; the intended cause named, the harmless object not blamed. What fails, or leaves the bound on
jerk, is the residue: listed by family, with a picture each on one sheet.
Run: python benchmarks/expert.py [--scenes 2000] [--out docs/results/expert.json] [--pictures FILE.jpg] [--rows FILE]
The same command goes on from `--rows` where it was stopped; with fewer `--scenes` it tells of those driven so far.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from causaldrive.ground.files import write_bytes, write_json, write_text
from causaldrive.ground.progress import track
from causaldrive.ground.words import STEP_S
from causaldrive.worlds import bounds
from causaldrive.worlds.expert_drive import Drive, drive
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.scenes import FAMILIES, SceneSpec, build_scene, default_camera, draw_specs
from causaldrive.worlds.scoring import (
    ACCELERATION_BOUNDS_MPS2,
    JERK_MPS3,
    LATERAL_ACCELERATION_MPS2,
    Scorer,
    score_drive,
)

DURATION_S, NAMED_TICKS = 16.0, 3
SHEET_COLUMNS, CAPTION_PX = 4, 26
LONGITUDINAL_JERK_MPS3 = 4.13
BLOCKING = {"lead_vehicle", "cut_in_vehicle", "red_light", "yellow_light", "pedestrian_crossing", "stop_sign",
            "school_bus", "oncoming_vehicle", "emergency_vehicle", "neighbour_vehicle"}  # fmt: skip


def free_distance_m(speed_mps: float, wish_mps: float, seconds: float) -> float:
    """How far a car comes that only tracks its target speed."""
    way = 0.0
    for _ in range(round(seconds / STEP_S)):
        after = speed_mps + bounds.free(speed_mps, wish_mps) * STEP_S
        way += (speed_mps + after) / 2 * STEP_S
        speed_mps = after
    return way


def measure(spec: SceneSpec) -> dict:
    """One drive in numbers."""
    start = time.process_time()
    driven = drive(build_scene(spec), DURATION_S)
    cpu_s = time.process_time() - start
    scorer = Scorer(driven.context)
    for state in driven.states:
        scorer.add(state)
    seconds = (driven.states[-1].t_us - driven.states[0].t_us) * 1e-6
    free = free_distance_m(driven.scene.ego.speed_mps, driven.context.target_speed_mps, seconds)
    score = score_drive(scorer.events, driven.states, driven.context.route_xy_in_local_m, free)
    kinds = {cause.kind for said in driven.explanations for cause in said.causes}
    faults = [e for e in scorer.events if e.kind not in ("close_encounter",) and e.at_fault]
    return {
        "family": spec.family, "seed": spec.seed, "harmless": spec.harmless, "clean": score.clean,
        "progress": score.progress, "open": not kinds & BLOCKING, "named": focus_named(driven), "cpu_s": cpu_s,
        "faults": [{"t_us": e.t_us, "kind": e.kind, "detail": e.detail} for e in faults], **motion(driven),
        "close": score.close_encounter,
    }  # fmt: skip


def focus_named(driven: Drive) -> bool:
    """What the family is about is named as a cause in at least three ticks."""
    kind, agent = driven.scene.focus_kind, driven.scene.focus_id
    hits = [any(c.kind == kind and agent in (None, c.agent_id) for c in said.causes) for said in driven.explanations]
    return sum(hits) >= NAMED_TICKS


def motion(driven: Drive) -> dict:
    """Extremes, and the share of ticks within all comfort bounds."""
    v = np.array([s.ego.speed_mps for s in driven.states])
    a = np.array([s.ego.acceleration_mps2 for s in driven.states])[1:]
    jerk = np.diff(a) / STEP_S
    lateral = v[1:] ** 2 * np.array([s.ego.curvature_1pm for s in driven.states])[1:]
    low, high = ACCELERATION_BOUNDS_MPS2
    inside = (a >= low) & (a <= high) & (np.abs(lateral) <= LATERAL_ACCELERATION_MPS2)
    inside[1:] &= np.abs(jerk) <= LONGITUDINAL_JERK_MPS3
    return {
        "comfort": float(inside.mean()), "hardest_mps2": float(a.min()), "jerk_mps3": float(np.abs(jerk).max()),
        "lateral_mps2": float(np.abs(lateral).max()), "jerk_inside": bool(np.abs(jerk).max() <= JERK_MPS3),
    }  # fmt: skip


def measured(specs: Sequence[SceneSpec], workers: int, kept: Path | None) -> list[dict]:
    """All drives in the order of `specs`; rows go to `kept` as they come, and what lies there is not driven again."""
    rows = {(row["family"], row["seed"], row["harmless"]): row for row in rows_of(kept)}
    missing = [s for s in specs if (s.family, s.seed, s.harmless) not in rows]
    for row in track(driven_rows(missing, workers), "expert", len(missing), "drives"):
        rows[row["family"], row["seed"], row["harmless"]] = row
        if kept is not None:
            with kept.open("a") as file:
                file.write(json.dumps(row) + "\n")
    return [rows[s.family, s.seed, s.harmless] for s in specs]


def driven_rows(specs: Sequence[SceneSpec], workers: int) -> Iterator[dict]:
    """One row a drive, as it comes; one worker is this process itself."""
    if workers == 1:
        yield from map(measure, specs)
        return
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(measure, specs, chunksize=2)


def rows_of(kept: Path | None) -> list[dict]:
    """The whole lines of the file; one that a kill cut short is cut off, so that the next begins on its own."""
    if kept is None or not kept.exists():
        return []
    whole = kept.read_text().rpartition("\n")[0]
    write_text(kept, whole + "\n" * bool(whole))
    return [json.loads(line) for line in whole.splitlines()]


def table(rows: Sequence[dict]) -> dict:
    """The figures of a set of drives."""
    cause, harmless = ([r for r in rows if r["harmless"] is h] for h in (False, True))
    opened = [r["progress"] for r in rows if r["open"] and r["harmless"]]
    share = lambda found: round(float(np.mean(found)), 4) if len(found) else None  # noqa: E731
    return {
        "n": len(rows),
        "clean": share([r["clean"] for r in rows]),
        "progress_open": share(opened), "n_open": len(opened),
        "comfort_ticks": share([r["comfort"] for r in rows]),
        "jerk_inside": share([r["jerk_inside"] for r in rows]),
        "lateral_inside": share([r["lateral_mps2"] <= LATERAL_ACCELERATION_MPS2 for r in rows]),
        "cause_named": share([r["named"] for r in cause]),
        "harmless_cleared": share([not r["named"] for r in harmless]),
        "close_encounters": share([r["close"] for r in rows]),
    }  # fmt: skip


def residue(rows: Sequence[dict]) -> list[dict]:
    """Each drive that is not clean, too jerky, or whose explanation misses, by family: what and when."""
    found = []
    for row in sorted(rows, key=lambda row: (list(FAMILIES).index(row["family"]), row["seed"])):
        what = [f"{f['kind']}: {f['detail']}" for f in row["faults"]]
        if row["named"] is row["harmless"]:
            what.append("harmless object blamed" if row["harmless"] else "intended cause not named")
        if not row["jerk_inside"]:
            what.append(f"jerk {row['jerk_mps3']:.1f} m/s3, bound {JERK_MPS3:g}")
        if what:
            at = row["faults"][0]["t_us"] if row["faults"] else None
            found.append({k: row[k] for k in ("family", "seed", "harmless")} | {"what": what, "t_us": at})
    return found


def picture(entry: dict, renderer: Renderer) -> Image.Image:
    """Half a second before the fault, where the jerk is largest, or the key moment; under what is wrong there."""
    spec = SceneSpec(entry["family"], entry["seed"], entry["harmless"])
    driven = drive(build_scene(spec), DURATION_S)
    if entry["t_us"] is not None:
        at = max(entry["t_us"] - 500_000, 0)
    else:
        jerk = np.abs(np.diff([s.ego.acceleration_mps2 for s in driven.states]))
        at = driven.states[int(np.argmax(jerk))].t_us if "jerk" in entry["what"][0] else driven.key_t_us()
    scene = renderer.open(driven.context)
    index = next(k for k, s in enumerate(driven.states) if s.t_us >= at)
    frame = scene.render(driven.states[index])
    scene.close()
    tile = Image.new("RGB", (frame.shape[1], frame.shape[0] + CAPTION_PX), (250, 250, 250))
    tile.paste(Image.fromarray(frame), (0, CAPTION_PX))
    pen, causes = ImageDraw.Draw(tile), "; ".join(c.text for c in driven.explanations[index].causes)
    pen.text((2, 1), f"{spec.scene_id} {at * 1e-6:.1f} s: {entry['what'][0]}"[:56], (150, 20, 20))
    pen.text((2, 13), (causes or "the road is clear")[:56], (0, 0, 0))
    return tile


def contact_sheet(entries: Sequence[dict], path: Path) -> None:
    """All pictures of the residue on one sheet, in its order."""
    renderer = Renderer(default_camera())
    tiles = [picture(entry, renderer) for entry in track(entries, "pictures", len(entries), "drives")]
    renderer.close()
    width, height = tiles[0].size
    sheet = Image.new("RGB", (SHEET_COLUMNS * width, -(-len(tiles) // SHEET_COLUMNS) * height), (250, 250, 250))
    for k, tile in enumerate(tiles):
        sheet.paste(tile, (k % SHEET_COLUMNS * width, k // SHEET_COLUMNS * height))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=82)
    write_bytes(path, buffer.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/results/expert.json"))
    parser.add_argument("--rows", type=Path, default=None, help="JSON lines of drives made so far, to go on from")
    parser.add_argument("--pictures", type=Path, default=None, help="a .jpg sheet with a picture of each such drive")
    options = parser.parse_args()
    specs = draw_specs(options.scenes, options.first_seed, options.families)
    rows = measured(specs, options.workers, options.rows)
    failed = residue(rows)
    if options.pictures is not None and failed:
        contact_sheet(failed, options.pictures)
    by_family = {name: table([r for r in rows if r["family"] == name]) for name in options.families}
    for name, figures in by_family.items():
        print(f"{name:20s} " + "  ".join(f"{key} {value}" for key, value in figures.items()))
    print(f"{'all':20s} {table(rows)}")
    for entry in failed:
        print(entry)
    cpu_ms = 1000 * float(np.sum([r["cpu_s"] for r in rows])) / len(rows)
    write_json(options.out, {
        "command": f"python benchmarks/expert.py --scenes {options.scenes} --first-seed {options.first_seed}",
        "scenes": len(rows), "duration_s": DURATION_S, "cpu_ms_per_drive": round(cpu_ms, 1), "all": table(rows),
        "families": by_family, "residue": failed,
    })  # fmt: skip


if __name__ == "__main__":
    main()
