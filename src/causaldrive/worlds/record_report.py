"""The page of `worlds record`: a contact sheet with one frame of each family and variant, counts, what was set aside.

Reads recordings, writes `report.html`. Knows nothing of how they were made.
"""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from pathlib import Path

from PIL import Image

from causaldrive.clips.store import read_frames, read_recording
from causaldrive.clips.types import Recording
from causaldrive.ground.files import write_text

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .8rem;border-bottom:1px solid #ddd;text-align:left}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(320px,1fr));gap:1rem}
figure{margin:0}img{width:100%;border-radius:4px}figcaption{font-size:13px;color:#555}"""


def write_report(out: Path, directories: list[Path], failed: list[dict]) -> None:
    """Write `out`/report.html over the given recordings and the lines of those that failed."""
    recordings = [read_recording(directory) for directory in directories]
    first: dict[tuple[str, bool], tuple[Path, Recording]] = {}
    for directory, recording in zip(directories, recordings, strict=True):
        key = (recording.meta["family"], recording.meta["harmless"])
        if key not in first or (first[key][1].meta["disturbed"] and not recording.meta["disturbed"]):
            first[key] = (directory, recording)
    figures = "".join(_figure(*first[key]) for key in sorted(first))
    body = f"<h1>Recorded scenes</h1>{_counts(recordings)}<div class=sheet>{figures}</div>{_set_aside(failed)}"
    page = f"<!doctype html><meta charset=utf-8><title>worlds record</title><style>{_STYLE}</style>{body}"
    write_text(out / "report.html", page)


def _counts(recordings: list[Recording]) -> str:
    seconds = sum(r.meta["duration_s"] for r in recordings)
    disturbed = sum(bool(r.meta["disturbed"]) for r in recordings)
    tally = Counter((r.meta["family"], r.meta["harmless"]) for r in recordings)
    families = sorted({family for family, _ in tally})
    rows = "".join(f"<tr><td>{f}<td>{tally[f, False]}<td>{tally[f, True]}" for f in families)
    return (
        f"<p>{len(recordings)} recordings, {seconds / 60:.1f} minutes; {disturbed} with pushes to recover from.</p>"
        f"<table><tr><th>family<th>as a cause<th>harmless{rows}</table>"
    )


def _figure(directory: Path, recording: Recording) -> str:
    meta = recording.meta
    camera = next(iter(recording.cameras))
    times = recording.cameras[camera].t_us
    nearest = int(times[abs(times - meta["key_t_us"]).argmin()])
    picture = to_jpeg(read_frames(directory, camera, [nearest])[0])
    name = html.escape(f"{meta['family']}, {'harmless' if meta['harmless'] else 'cause'}")
    data = base64.b64encode(picture).decode()
    caption = f"{name}: seed {meta['seed']}, {nearest / 1e6:.1f} s"
    return f'<figure><img alt="{name}" src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'


def to_jpeg(image) -> bytes:
    """(H, W, 3) uint8 as JPEG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _set_aside(failed: list[dict]) -> str:
    if not failed:
        return ""
    rows = "".join(f"<tr><td>{html.escape(line['scene'])}<td>{html.escape(line['failure'])}" for line in failed)
    return f"<h2>Set aside: {len(failed)}</h2><table>{rows}</table>"
