"""What all importers share: go through the sources, set broken ones aside, continue after a kill, write a report.

Reads what a converter reads. Writes one recording directory a source, `metrics.jsonl` (one line a source) and
`report.html`. Knows nothing of any data set's layout.
"""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from causaldrive.clips.resample import ego_at_10hz
from causaldrive.clips.store import MARK, read_recordings, write_recording
from causaldrive.clips.types import EgoMotion, Recording
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import write_text
from causaldrive.ground.progress import Meter
from causaldrive.ground.runs import Run, open_run


@dataclass(frozen=True)
class Source:
    """One drive to import: the id its recording gets, and where it lies."""

    recording_id: str
    path: Path


@dataclass(frozen=True)
class Converted:
    """A converted drive: the recording and its cameras' images, streamed."""

    recording: Recording
    frames: Mapping[str, Iterable[np.ndarray]] = field(default_factory=dict)


def safe_id(*parts: str) -> str:
    """Parts joined to a name that any file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "_".join(parts))


def find_directories(path: Path, is_source: Callable[[Path], bool], depth: int, expected: str) -> list[Path]:
    """Directories at `path` or up to `depth` levels below that `is_source` accepts, sorted.

    Raises UserError saying what was `expected` when there is none.
    """
    if not path.is_dir():
        raise UserError(f"{path} is not a directory; expected {expected}.")

    def search(here: Path, left: int) -> list[Path]:
        if is_source(here):
            return [here]
        children = sorted(p for p in here.iterdir() if p.is_dir() and not p.name.startswith("."))
        return [found for child in children for found in search(child, left - 1)] if left else []

    found = search(path, depth)
    if not found:
        raise UserError(f"{path} holds nothing to import; expected {expected}.")
    return found


def import_all(stage: str, config: Any, out: Path, sources: Sequence[Source], convert: Callable[[Source], Converted]):
    """Run an import stage into `out`: `out/<recording id>/` for each sound source, the others set aside and counted.

    Raises UserError when not one source could be imported.
    """
    with open_run(out, stage, config) as run:
        if run.done:
            return
        run.keep_metrics(lambda line: "set_aside" not in line and (out / line["recording_id"] / MARK).exists())
        have = {line["recording_id"] for line in run.metrics()}
        with Meter(stage, total=len(sources), unit="drives", done=len(have)) as meter:
            for source in sources:
                if source.recording_id not in have:
                    run.log(**_import_one(source, out, convert))
                    meter.advance()
        _finish(run, stage, sources)


def _import_one(source: Source, out: Path, convert: Callable[[Source], Converted]) -> dict[str, Any]:
    try:
        converted = convert(source)
        write_recording(out / source.recording_id, converted.recording, converted.frames)
    except UserError as error:
        print(f"set aside {source.recording_id}: {error}", file=sys.stderr)
        return {"recording_id": source.recording_id, "set_aside": str(error)}
    return {"recording_id": source.recording_id, **_summary(converted.recording)}


def _summary(recording: Recording) -> dict[str, Any]:
    speed = recording.ego.speed_mps
    return {
        "duration_s": round(float(recording.ego.t_us[-1] - recording.ego.t_us[0]) / 1e6, 2),
        "poses": len(recording.ego.t_us),
        "speed_mps": [round(float(value), 2) for value in (speed[0], speed.min(), speed.max(), speed[-1])],
        "frames": {name: len(track.t_us) for name, track in recording.cameras.items()},
        "agents": 0 if recording.agents is None else len(np.unique(recording.agents.agent_id)),
        "lanes": 0 if recording.road is None else len(recording.road.lanes),
        "source": str(recording.meta.get("source_name", "")),
    }


def _finish(run: Run, stage: str, sources: Sequence[Source]) -> None:
    lines = run.metrics()
    broken = [line for line in lines if "set_aside" in line]
    if len(broken) == len(sources):
        raise UserError(
            f"{stage}: none of {len(sources)} drives could be imported; the first: {broken[0]['set_aside']}"
        )
    run.record["counts"] = {"imported": len(sources) - len(broken), "set_aside": len(broken)}
    recordings, _ = read_recordings(run.directory)
    write_text(run.directory / "report.html", report_html(stage, recordings, lines))


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}"
    "svg{width:100%;height:auto}pre{white-space:pre-wrap;background:#f5f5f5;padding:.6rem}"
)


def report_html(title: str, recordings: Sequence[Recording], lines: Sequence[Mapping[str, Any]]) -> str:
    """A page with one row a drive, and speed and curvature over time for each recording."""
    rows = "".join(_row(line) for line in lines)
    parts = "".join(_section(recording) for recording in recordings)
    heads = "<tr><th>recording<th>length<th>speed: first / lowest / highest / last<th>content</tr>"
    head = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    )
    return f"{head}<h1>{html.escape(title)}</h1><table>{heads}{rows}</table>{parts}</html>\n"


def _row(line: Mapping[str, Any]) -> str:
    name = html.escape(line["recording_id"])
    if "set_aside" in line:
        return f"<tr><td>{name}</td><td colspan=3>set aside: {html.escape(line['set_aside'])}</td></tr>"
    speeds = " / ".join(f"{value:.1f}" for value in line["speed_mps"])
    video = ", ".join(f"{count} frames of {html.escape(camera)}" for camera, count in line["frames"].items())
    content = f"{line['agents']} agents, {line['lanes']} lanes, {video or 'no video'}"
    return f"<tr><td>{name}</td><td>{line['duration_s']:.1f} s</td><td>{speeds} m/s</td><td>{content}</td></tr>"


def _section(recording: Recording) -> str:
    notes = "\n".join(f"{name}: {value}" for name, value in recording.meta.items())
    return (f"<h2>{html.escape(recording.recording_id)}</h2>{_plot(recording.ego)}"
            f"<pre>{html.escape(notes)}</pre><p>Licence: {html.escape(recording.licence)}</p>")  # fmt: skip


def _plot(ego: EgoMotion) -> str:
    ego = ego_at_10hz(ego)
    seconds = (ego.t_us - ego.t_us[0]) / 1e6
    curves = (("speed m/s", ego.speed_mps), ("acceleration m/s2", ego.acceleration_in_rig_mps2[:, 0]),
              ("curvature 1/m", ego.curvature_1pm))  # fmt: skip
    drawn = "".join(_curve(seconds, values, label, 90 * i) for i, (label, values) in enumerate(curves))
    return f'<svg viewBox="0 0 800 {90 * len(curves)}" role=img aria-label="motion over time">{drawn}</svg>'


def _curve(seconds: np.ndarray, values: np.ndarray, label: str, top: int) -> str:
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    x = 10 + 780 * seconds / max(float(seconds[-1]), 1e-9)
    y = top + 80 - 60 * (values - low) / max(high - low, 1e-9)
    zero = top + 80 - 60 * (0 - low) / max(high - low, 1e-9)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return (f'<line x1=10 x2=790 y1="{zero:.1f}" y2="{zero:.1f}" stroke="#ccc"/>'
            f'<polyline points="{points}" fill=none stroke="#0a6" stroke-width=1.5 />'
            f'<text x=10 y="{top + 14}" font-size=12>{label}: {values.min():.3g} to {values.max():.3g}, '
            f"{seconds[-1]:.0f} s</text>")  # fmt: skip
