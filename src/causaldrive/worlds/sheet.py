"""The command `worlds sheet`: one picture of all families, the key moment of a cause scene beside a harmless one.

Lets the expert drive each scene, draws one frame of it. Writes one picture. Knows nothing of recordings.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import write_bytes
from causaldrive.ground.progress import track
from causaldrive.worlds.expert_drive import Drive, drive
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.scenes import FAMILIES, SceneSpec, build_scene, default_camera, draw_specs

_CELL_PX, _TITLE_PX, _GAP_PX, _PAIRS_A_ROW = (256, 154), 30, 8, 3
_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


@dataclass(frozen=True)
class SheetConfig:
    """Draw a contact sheet of scene families."""

    out: Path = Path("families.png")  # picture to write, .png or .jpg
    seed: int = 0  # which scene of each family
    families: tuple[str, ...] = ()  # which kinds of scene; all when empty


def run_sheet(config: SheetConfig) -> None:
    """Write the sheet. Raises UserError for an unknown family, a reserved seed or an unknown picture format."""
    kind = _FORMATS.get(config.out.suffix.lower())
    if kind is None:
        raise UserError(f"{config.out} ends in {config.out.suffix!r}; expected .png or .jpg, so rename it.")
    names = config.families or tuple(FAMILIES)
    draw_specs(1, config.seed, names)  # refuses what cannot be drawn before the first drive
    renderer = Renderer(default_camera())
    pairs = [_pair(name, config.seed, renderer) for name in track(names, "worlds sheet", len(names), "families")]
    renderer.close()
    buffer = io.BytesIO()
    _tiled(pairs).save(buffer, kind, **({"quality": 82} if kind == "JPEG" else {}))
    write_bytes(config.out, buffer.getvalue())
    print(f"wrote {config.out}: {len(names)} families, cause left, harmless right")


def _pair(family: str, seed: int, renderer: Renderer) -> Image.Image:
    """Both variants side by side under the family's name and what was named in each."""
    width, height = _CELL_PX
    pair = Image.new("RGB", (2 * width, height + _TITLE_PX), (250, 250, 250))
    pen = ImageDraw.Draw(pair)
    pen.text((2, 1), f"{family} ({FAMILIES[family].focus_kind})", (0, 0, 0))
    for column, harmless in enumerate((False, True)):
        frame, reason = key_frame(SceneSpec(family, seed, harmless), renderer)
        picture = Image.fromarray(frame).resize(_CELL_PX, Image.Resampling.LANCZOS)
        pair.paste(picture, (column * width, _TITLE_PX))
        pen.text((column * width + 2, 14), reason[:46], (40, 90, 40) if harmless else (150, 20, 20))
    return pair


def key_frame(spec: SceneSpec, renderer: Renderer) -> tuple[np.ndarray, str]:
    """(frame at the key moment of the expert's drive, what the expert names there)."""
    driven = drive(build_scene(spec), 12.0)
    index = _key_index(driven)
    scene = renderer.open(driven.context)
    frame = scene.render(driven.states[index])
    scene.close()
    return frame, "; ".join(c.text for c in driven.explanations[index].causes) or "the road is clear"


def _key_index(driven: Drive) -> int:
    """The middle of the first run of ticks in which the focus is a cause, at most 1.5 s in; else the key moment."""
    kind, agent = driven.scene.focus_kind, driven.scene.focus_id
    named = [any(c.kind == kind and agent in (None, c.agent_id) for c in e.causes) for e in driven.explanations]
    if True in named:
        first = named.index(True)
        run = named[first:].index(False) if False in named[first:] else len(named) - first
        return first + min(run // 2, 15)
    return next(i for i, state in enumerate(driven.states) if state.t_us >= driven.key_t_us())


def _tiled(pairs: list[Image.Image]) -> Image.Image:
    width, height = pairs[0].width + _GAP_PX, pairs[0].height + _GAP_PX
    rows = -(-len(pairs) // _PAIRS_A_ROW)
    sheet = Image.new("RGB", (min(len(pairs), _PAIRS_A_ROW) * width, rows * height), (250, 250, 250))
    for k, pair in enumerate(pairs):
        sheet.paste(pair, (k % _PAIRS_A_ROW * width, k // _PAIRS_A_ROW * height))
    return sheet
