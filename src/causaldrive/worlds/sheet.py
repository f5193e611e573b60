"""The command `worlds sheet`: one picture of all families, a cause scene beside a harmless one.

Lets the expert drive each scene and draws the camera's own picture, pixel for pixel, of the moment that shows most of
what the family is about. What only a rear camera sees, or only a second picture tells, is shown in a corner. Writes
one picture. Knows nothing of recordings.
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
from causaldrive.worlds.expert_drive import drive
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.scenes import FAMILIES, SceneSpec, build_scene, default_camera, draw_specs
from causaldrive.worlds.telling import best_moment, rear_camera

_TITLE_PX, _GAP_PX, _PAIRS_A_ROW, _INSET_SHARE = 30, 8, 3, 0.36
_LONGEST_S = 14.0
_TOLD_BY_MOTION, _EARLIER_TICKS = ("risky_driver",), 9  # which way a thing goes is seen from two pictures
_LATER_TICKS = 15  # who does not brake for a piece of road is nearer to it a little later
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


@dataclass(frozen=True)
class Panel:
    """One scene's picture, what the expert names there, and how many pixels the thing has (None: the road itself)."""

    frame: np.ndarray  # (H, W, 3) uint8
    tick: int  # of the drive
    reason: str
    visible_px: int | None
    inset: np.ndarray | None = None  # a second picture that is needed to tell, and what it is
    inset_name: str = ""


def _pair(family: str, seed: int, renderer: Renderer) -> Image.Image:
    """Both variants side by side under the family's name and what was named in each."""
    camera = renderer.camera
    width, height = camera.width_px, camera.height_px
    pair = Image.new("RGB", (2 * width, height + _TITLE_PX), (250, 250, 250))
    pen = ImageDraw.Draw(pair)
    pen.text((2, 1), f"{family} ({FAMILIES[family].focus_kind})", (0, 0, 0))
    at = None
    for column, harmless in enumerate((False, True)):
        shown = panel(SceneSpec(family, seed, harmless), renderer, at)
        at = shown.tick + _LATER_TICKS
        pair.paste(_with_inset(shown), (column * width, _TITLE_PX))
        pen.text((column * width + 2, 14), shown.reason[:54], (40, 90, 40) if harmless else (150, 20, 20))
    return pair


def panel(spec: SceneSpec, renderer: Renderer, else_at: int | None = None) -> Panel:
    """The expert's drive of a scene at its most telling moment; `else_at` is as in `best_moment`."""
    driven = drive(build_scene(spec), _LONGEST_S)
    scene = renderer.open(driven.context)
    try:
        moment = best_moment(driven, scene, else_at)
        state = driven.states[moment.index]
        earlier = driven.states[max(moment.index - _EARLIER_TICKS, 0)]
        inset, name = None, ""
        if moment.behind:
            inset, name = scene.render(state, rear_camera()), "rear camera"
        elif spec.family in _TOLD_BY_MOTION:
            inset, name = scene.render(earlier), f"{(state.t_us - earlier.t_us) * 1e-6:.1f} s before"
        reason = "; ".join(c.text for c in driven.explanations[moment.index].causes) or "the road is clear"
        return Panel(scene.render(state), moment.index, reason, moment.visible_px, inset, name)
    finally:
        scene.close()


def _with_inset(shown: Panel) -> Image.Image:
    """The front picture, with a second one in its upper corner, over sky and houses, where one is needed."""
    picture = Image.fromarray(shown.frame)
    if shown.inset is None:
        return picture
    size = round(_INSET_SHARE * picture.width), round(_INSET_SHARE * picture.height)
    inset = Image.fromarray(shown.inset).resize(size, Image.Resampling.LANCZOS)
    place = (picture.width - size[0] - 2, 13)
    picture.paste((250, 250, 250), (place[0] - 2, 0, picture.width, place[1] + size[1] + 2))
    ImageDraw.Draw(picture).text((place[0], place[1] - 12), shown.inset_name, (0, 0, 0))
    picture.paste(inset, place)
    return picture


def _tiled(pairs: list[Image.Image]) -> Image.Image:
    width, height = pairs[0].width + _GAP_PX, pairs[0].height + _GAP_PX
    rows = -(-len(pairs) // _PAIRS_A_ROW)
    sheet = Image.new("RGB", (min(len(pairs), _PAIRS_A_ROW) * width, rows * height), (250, 250, 250))
    for k, pair in enumerate(pairs):
        sheet.paste(pair, (k % _PAIRS_A_ROW * width, k // _PAIRS_A_ROW * height))
    return sheet
