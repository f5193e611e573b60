"""The command `clips check`: faults of own recordings, each in a sentence with what to do.

Looks at recordings and at folders of own cameras (see `own`) as they lie on disk, before anything is held to be sound.
Poses are judged by `faults`, clocks and the sign of yaw by what the camera shows (`clock`). Writes `findings.json` and
`report.html` into its run directory. Knows nothing of labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from tyro.conf import Positional

from causaldrive.clips import own, tables
from causaldrive.clips.clock import findings_of, fit_clock, sentence
from causaldrive.clips.faults import Finding, Poses, check_poses, check_times
from causaldrive.clips.geometry import matrix_of_quat, yaw_of
from causaldrive.clips.image_motion import image_motion
from causaldrive.clips.store import MARK, find_recordings, read_cameras
from causaldrive.clips.types import Camera
from causaldrive.clips.video import index_video, iterate_video
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_table, write_json
from causaldrive.ground.page import Cell, Figure, Item, Section, Table, Text, write_page
from causaldrive.ground.plots import Strip, strips
from causaldrive.ground.progress import track
from causaldrive.ground.runs import open_run

_AHEAD = 0.8  # cosine: a camera that looks along the rig's x axis
_EGO = (
    "t_us",
    "position_x_m",
    "position_y_m",
    "position_z_m",
    "quat_w",
    "quat_x",
    "quat_y",
    "quat_z",
    "velocity_x_mps",
)


@dataclass(frozen=True)
class CheckConfig:
    """Find faults of own recordings and say what to do."""

    path: Positional[Path]  # recordings, or folders with poses.csv
    out: Path = Path("check")  # run directory for findings.json and report.html
    video: bool = True  # compare the clocks of camera and poses, about 2 s of CPU for 160 frames


@dataclass(frozen=True)
class Checked:
    """One drive: its findings, and what was seen of its clocks."""

    name: str
    findings: list[Finding]
    clocks: list[str] = field(default_factory=list)
    poses: Poses | None = None


def run(config: CheckConfig) -> int:
    """Check every drive below `config.path`; exit status 1 when something was found. Raises UserError for no drive."""
    drives = find_drives(config.path)
    with open_run(config.out, "clips check", config, {"path": config.path}) as opened:
        if not opened.done:
            checked = [check_drive(d, config.video) for d in track(drives, "clips check", len(drives), "drives")]
            results = [
                {"name": c.name, "findings": [asdict(f) for f in c.findings], "clocks": c.clocks} for c in checked
            ]
            write_json(config.out / "findings.json", results)
            _write_report(config.out, checked)
            for line in _lines(checked):
                print(line)
            opened.record["found"] = sum(bool(c.findings) for c in checked)
        return 1 if opened.record.get("found") else 0


def find_drives(path: Path) -> list[Path]:
    """Recordings and folders of own cameras at or below `path`."""
    if not path.is_dir():
        raise UserError(f"{path} is not a directory; recordings or folders with {own.POSES} expected.")
    folders = sorted({file.parent for file in path.rglob(own.POSES)})
    try:
        return [*folders, *find_recordings(path)]
    except UserError:
        if folders:
            return folders
        raise UserError(f"{path} holds neither recordings ({MARK}) nor folders with {own.POSES}.") from None


def check_drive(directory: Path, video: bool = True) -> Checked:
    """All findings of one drive; what cannot be read is a finding as well."""
    try:
        poses = read_poses(directory)
    except UserError as error:
        return Checked(directory.name, [Finding("unreadable", str(error), "Repair the file, then check again.")])
    findings = check_poses(poses)
    clocks: list[str] = []
    _, sound = check_times(poses)
    broken_clock = any(f.kind == "time unit" for f in findings)
    if video and not broken_clock and len(sound.t_us) > 2:
        try:
            for camera, file, t_us in cameras_of(directory):
                found, clock = _check_camera(sound, camera, file, t_us)
                clocks.append(clock)
                findings += [f for f in found if f.kind not in {known.kind for known in findings}]
        except UserError as error:
            findings.append(Finding("unreadable", str(error), "Repair the video or its times, then check again."))
    return Checked(directory.name, findings, clocks, poses)


def read_poses(directory: Path) -> Poses:
    """Poses as they lie on disk. Raises UserError for a file that cannot be read or values that are no numbers."""
    if own.is_folder(directory):
        raw = own.read_poses(directory / own.POSES)
        poses = Poses(raw.t_us, raw.position_m, yaw_of(raw.quat), raw.speed_mps)
    else:
        file = directory / "ego.parquet"
        columns = {name: read_table(file, list(_EGO)).column(name).to_numpy() for name in _EGO}
        position, quat = (np.stack([columns[name] for name in names], axis=1) for names in (_EGO[1:4], _EGO[4:8]))
        poses = Poses(columns["t_us"].astype(np.int64), position, yaw_of(quat), columns["velocity_x_mps"])
    if not (np.isfinite(poses.position_m).all() and np.isfinite(poses.yaw_rad).all()):
        raise UserError(f"{directory}: poses hold values that are not numbers; finite positions and headings expected.")
    return poses


def cameras_of(directory: Path) -> Iterator[tuple[Camera, Path, np.ndarray]]:
    """Cameras that look ahead, with their video and frame times."""
    for camera, file, t_us in _own_cameras(directory) if own.is_folder(directory) else _recorded_cameras(directory):
        axis = matrix_of_quat(np.array(camera.rig_to_camera_quat))[:, 2]
        if axis[0] >= _AHEAD:
            yield camera, file, t_us


def _own_cameras(directory: Path) -> Iterator[tuple[Camera, Path, np.ndarray]]:
    start = int(own.read_poses(directory / own.POSES).t_us[0])
    mounts = own.read_cameras(directory / own.CAMERAS)
    for file in sorted(directory.glob("*.mp4")):
        size = index_video(file).width_px, index_video(file).height_px
        yield own.camera_of(file, mounts.get(file.stem), size), file, own.frame_times(file, start)


def _recorded_cameras(directory: Path) -> Iterator[tuple[Camera, Path, np.ndarray]]:
    for camera in read_cameras(directory):
        yield camera, directory / f"{camera.name}.mp4", tables.read_frame_times(directory / f"{camera.name}.parquet")


def _check_camera(poses: Poses, camera: Camera, file: Path, t_us: np.ndarray) -> tuple[list[Finding], str]:
    count = len(index_video(file).pts)
    if count != len(t_us) or count < 3:
        found = f"{file.name} has {count} frames and {len(t_us)} frame times; the same number, at least 3, expected."
        return [Finding("frame times", found, "Cut the longer one, or export the frame times again.")], found
    motion = image_motion(iterate_video(file), t_us, camera.fx_px, (camera.cx_px, camera.cy_px), camera.width_px)
    fit = fit_clock(poses, motion)
    return findings_of(fit, camera.name), sentence(fit, camera.name)


def _lines(checked: list[Checked]) -> Iterator[str]:
    for drive in checked:
        for finding in drive.findings:
            yield f"{drive.name}: {finding.kind}: {finding.found} {finding.fix}"
    clean = sum(not drive.findings for drive in checked)
    yield f"clips check: {clean} of {len(checked)} drives without a finding"


def _write_report(out: Path, checked: list[Checked]) -> None:
    rows = [[c.name, _verdict(c), " ".join(c.clocks)] for c in checked]
    sections = [Section("Drives", [Table(["drive", "found", "clocks"], rows, text_columns=3)])]
    for drive in [c for c in checked if c.findings][:30]:
        items: list[Item | str] = [Text(f"**{f.kind}**: {f.found} {f.fix}") for f in drive.findings]
        sections.append(Section(drive.name, [*items, *_plot(drive.poses)]))
    clean = sum(not c.findings for c in checked)
    write_page(
        out / "report.html", "Check of recordings", sections, f"{clean} of {len(checked)} drives without a finding."
    )


def _verdict(drive: Checked) -> Cell:
    kinds = ", ".join(finding.kind for finding in drive.findings)
    return Cell(kinds, tone="bad") if kinds else Cell("sound", tone="good")


def _plot(poses: Poses | None) -> list[Item | str]:
    if poses is None or len(poses.t_us) < 3:
        return []
    t_s = (poses.t_us - poses.t_us[0]) / 1e6
    shown = [Strip("x in m", t_s, poses.position_m[:, 0]), Strip("y in m", t_s, poses.position_m[:, 1]),
             Strip("yaw in rad", t_s, poses.yaw_rad)]  # fmt: skip
    return [Figure(strips(shown), "The poses as they lie on disk.")]
