"""The commands `worlds list` and `worlds show`: which families there are, and what a scene of one looks like.

`show` lets the expert drive one scene and writes a picture of its key moment and a video. Writes into the directory it
is given. Knows nothing of recordings.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from causaldrive.clips.video import encode_video
from causaldrive.ground.files import atomic_path, write_bytes
from causaldrive.worlds.expert_drive import Drive, drive
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.scenes import FAMILIES, SceneSpec, build_scene, default_camera

_FRAMES_PER_S = 10


@dataclass(frozen=True)
class ListConfig:
    """List the families of scenes."""


@dataclass(frozen=True)
class ShowConfig:
    """Show one scene: the expert's drive as a picture and a video."""

    family: tyro.conf.Positional[str]  # a name that `worlds list` prints
    seed: int = 0  # which scene of the family
    harmless: bool = False  # the variant in which the same object is no cause
    out: Path = Path("scenes")  # directory for the PNG and the MP4
    duration_s: float = 16.0  # longest video


def run_list(config: ListConfig) -> None:
    """Print a line for each family: name, the cause kind it is about, its variants, what happens."""
    width = max(len(name) for name in FAMILIES)
    kinds = max(len(family.focus_kind) for family in FAMILIES.values())
    for name, family in FAMILIES.items():
        print(f"{name:<{width}}  {family.focus_kind:<{kinds}}  cause, harmless  {family.description}")


def run_show(config: ShowConfig) -> None:
    """Write `<scene id>.png` and `<scene id>.mp4`. Raises UserError for an unknown family or a reserved seed."""
    spec = SceneSpec(config.family, config.seed, config.harmless)
    driven = drive(build_scene(spec), config.duration_s)
    picture, video = (config.out / f"{spec.scene_id}{suffix}" for suffix in (".png", ".mp4"))
    renderer = Renderer(default_camera())
    scene = renderer.open(driven.context)
    try:
        key = next(state for state in driven.states if state.t_us >= driven.key_t_us())
        write_bytes(picture, _png(scene.render(key)))
        with atomic_path(video) as temporary:
            encode_video(temporary, (scene.render(s) for s in driven.states), Fraction(_FRAMES_PER_S), str(video))
    finally:
        scene.close()
        renderer.close()
    for line in story(driven):
        print(line)
    print(f"wrote {picture} and {video}")


def story(driven: Drive) -> Iterator[str]:
    """One line for each change of decision or causes."""
    told = None
    for state, said in zip(driven.states, driven.explanations, strict=True):
        reasons = "; ".join(cause.text for cause in said.causes) or "the road is clear"
        aside = f" {said.direction}" if said.direction else ""
        line = f"{said.longitudinal}, {said.lateral}{aside}: {reasons}"
        if line != told:
            yield f"{state.t_us / 1e6:5.1f} s  {state.ego.speed_mps:4.1f} m/s  {line}"
        told = line


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
