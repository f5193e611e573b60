"""How often `clips check` finds a planted fault, and how often it raises a false alarm.

    python benchmarks/clips_check.py --recordings RECORDINGS [--samples SAMPLES] --out docs/results/clips_check.json

RECORDINGS: town recordings (`causaldrive worlds record --scenes 36`). Every recording is checked untouched, then with
each fault planted in turn. A drive that stands still or goes straight cannot show some faults, so that each row also
says in how many drives the fault was found of those in which the car moves (or turns). SAMPLES: a directory of real
ones; comma2k19 and Argoverse 2 logs are imported and checked untouched.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from causaldrive.clips import av2, comma2k19
from causaldrive.clips.check import cameras_of, read_poses
from causaldrive.clips.clock import findings_of, fit_clock
from causaldrive.clips.faults import Finding, Poses, check_poses, course_and_heading
from causaldrive.clips.image_motion import ImageMotion, image_motion
from causaldrive.clips.store import find_recordings
from causaldrive.clips.video import iterate_video
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import write_json
from causaldrive.ground.progress import track
from causaldrive.ground.statistics import share

Fault = Callable[[Poses], Poses]
MIDDLE_JUMP_M = np.array([6.0, 3.0, 0.0])


def _jump(poses: Poses) -> Poses:
    moved = poses.position_m.copy()
    moved[len(moved) // 2 :] += MIDDLE_JUMP_M
    return replace(poses, position_m=moved)


def _repeat(poses: Poses, to: int) -> Poses:
    t_us = poses.t_us.copy()
    t_us[50] = t_us[to]
    return replace(poses, t_us=t_us)


def _scaled_speed(poses: Poses) -> Poses:
    assert poses.speed_mps is not None
    return replace(poses, speed_mps=poses.speed_mps * 3.6)


FAULTS: dict[str, tuple[str, Fault]] = {  # what is planted -> the kind that must be found
    "x and y exchanged": ("swapped axes", lambda p: replace(p, position_m=p.position_m[:, [1, 0, 2]])),
    "y and z exchanged": ("swapped axes", lambda p: replace(p, position_m=p.position_m[:, [0, 2, 1]])),
    "yaw negated": ("wrong yaw sign", lambda p: replace(p, yaw_rad=-p.yaw_rad)),
    "degrees as radians": ("yaw unit", lambda p: replace(p, yaw_rad=np.rad2deg(p.yaw_rad))),
    "km/h as m/s": ("speed unit", _scaled_speed),
    "ms as us": ("time unit", lambda p: replace(p, t_us=p.t_us // 1000)),
    "jump of 6.7 m": ("position jump", _jump),
    "one time repeated": ("duplicate times", lambda p: _repeat(p, 49)),
    "one time 2 s back": ("backwards times", lambda p: _repeat(p, 30)),
}
OFFSETS_S = (-0.8, -0.3, 0.3, 0.8)


def findings(poses: Poses, image: ImageMotion | None) -> list[Finding]:
    """Poses and clock, as the command judges them."""
    found = check_poses(poses)
    return found + (findings_of(fit_clock(poses, image), "front") if image is not None and not found else [])


def motion_of(directory: Path) -> ImageMotion | None:
    """Image motion of the first camera that looks ahead."""
    for camera, file, t_us in cameras_of(directory):
        return image_motion(iterate_video(file), t_us, camera.fx_px, (camera.cx_px, camera.cy_px), camera.width_px)
    return None


def moves(poses: Poses) -> bool:
    return len(course_and_heading(poses)[0]) >= 10


def measure(directories: list[Path]) -> dict:
    rows: dict[str, list[tuple[bool, bool]]] = {}  # fault -> (found, could be found) a drive
    alarms, errors_s = [], []
    for directory in track(directories, "clips check", len(directories), "drives"):
        poses, image = read_poses(directory), motion_of(directory)
        alarms.append([f.kind for f in findings(poses, image)])
        for name, (kind, plant) in FAULTS.items():
            found = any(f.kind == kind for f in check_poses(plant(poses)))
            rows.setdefault(name, []).append((found, "time" in kind or moves(poses)))
        for offset in OFFSETS_S if image is not None else ():
            late = ImageMotion(image.mid_t_us + round(offset * 1e6), image.yaw_rate_radps, image.growth_1ps)
            fit = fit_clock(poses, late)
            found = any(f.kind == "clock offset" for f in findings_of(fit, "front"))
            rows.setdefault("camera clock off by 0.3 or 0.8 s", []).append((found, bool(fit.signals)))
            errors_s += [abs((fit.offset_s or 0.0) - offset)] if found else []
    raised = [kind for kinds in alarms for kind in kinds]
    return {
        "drives": len(directories),
        "false_alarms": _share([bool(kinds) for kinds in alarms]) | {"kinds": raised},
        "faults": {name: {"all": _share([f for f, _ in row]), "could_show": _share([f for f, can in row if can])}
                   for name, row in rows.items()},
        "offset_error_s": {"median": _quantile(errors_s, 0.5), "p95": _quantile(errors_s, 0.95), "n": len(errors_s)},
    }  # fmt: skip


def _share(hits: list[bool]) -> dict:
    value = share(np.array(hits, float), np.ones(len(hits)), [str(i) for i in range(len(hits))])
    return {"found": int(sum(hits)), "n": len(hits), "share": value.value, "low": value.low, "high": value.high}


def _quantile(values: list[float], q: float) -> float | None:
    return round(float(np.quantile(values, q)), 3) if values else None


def samples_of(samples: Path, out: Path) -> list[Path]:
    comma2k19.run(comma2k19.ImportComma2k19Config(samples / "comma2k19", out / "comma2k19"))
    av2.run(av2.ImportAv2Config(samples / "av2", out / "av2"))
    return find_recordings(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, default=Path("runs/demo/recordings"))
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/clips_check.json"))
    options = parser.parse_args()
    result = {"town": measure(find_recordings(options.recordings))}
    if options.samples:
        with tempfile.TemporaryDirectory() as folder:
            real = samples_of(options.samples, Path(folder))
            result["real"] = {d.name: [f.kind for f in findings(read_poses(d), motion_of(d))] for d in real}
    write_json(options.out, result)
    town = result["town"]
    print(f"false alarms: {town['false_alarms']['found']} of {town['drives']} town drives; real: {result.get('real')}")
    for name, row in town["faults"].items():
        print(f"{name:<34} {row['could_show']['found']} of {row['could_show']['n']} (all: {row['all']['found']} of "
              f"{row['all']['n']})")  # fmt: skip
    print(f"offset error: {town['offset_error_s']}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"clips_check: {error}") from None
