"""How a scene looks: sky, ground, sun, fog and the colours of its agents, from hints with good defaults.

Reads `SceneContext.appearance`. Shading is 'a + d * max(0, n . s)' with ambient a, sun strength d, normal n and sun
direction s, baked into the colours: both back ends then show the same, which their own lighting does not.
Knows nothing of meshes' shapes.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causaldrive.clips.geometry import rotate
from causaldrive.ground.errors import UserError
from causaldrive.worlds.render_mesh import RGB, Mesh

AMBIENT, SUN = 0.62, 0.45
SUN_HEIGHT_RAD = 0.9

# Body paints: none is close to a brake light, an indicator or asphalt.
CAR_RGB: tuple[RGB, ...] = (
    (225, 228, 232), (38, 72, 150), (176, 186, 196), (28, 110, 98), (120, 30, 48),
    (232, 214, 150), (60, 62, 68), (92, 142, 200), (104, 84, 62), (70, 120, 60),
)  # fmt: skip
CLOTHES_RGB: tuple[RGB, ...] = (
    (250, 210, 40), (240, 90, 160), (60, 200, 235), (235, 60, 60), (250, 140, 50), (150, 230, 80),
)  # fmt: skip
FACADE_RGB: tuple[RGB, ...] = (
    (196, 170, 140), (168, 110, 88), (205, 200, 190), (150, 156, 166), (214, 190, 150), (134, 120, 110),
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """A scene's appearance. Hints of the same names in `SceneContext.appearance` replace these defaults."""

    sky_rgb: RGB = (118, 168, 224)  # at the zenith; the horizon is paler
    ground_rgb: RGB = (104, 138, 78)
    agent_rgb: Mapping[str, RGB] = field(default_factory=dict)  # by agent id
    building_rgb: tuple[RGB, ...] = FACADE_RGB  # each building takes one
    fog: float = 0.0  # density of exponential fog, 1/m; 0.01 hides things beyond about 200 m
    sun_yaw_rad: float = 0.7  # where the sun stands, in local
    brightness: float = 1.0  # of everything that does not shine itself
    guide_rgb: RGB | None = None  # a line of this colour is painted along the way to go; None: no line
    trees: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))  # (K, 3) x, y in local and height

    @property
    def sun_direction(self) -> np.ndarray:
        """(3,) unit vector towards the sun, in local."""
        flat = np.cos(SUN_HEIGHT_RAD)
        return np.array([flat * np.cos(self.sun_yaw_rad), flat * np.sin(self.sun_yaw_rad), np.sin(SUN_HEIGHT_RAD)])

    @property
    def horizon_rgb(self) -> np.ndarray:
        """(3,) sky colour just above the ground, 0..255; also the colour of fog."""
        return self.brightness * (0.45 * np.array(self.sky_rgb) + 0.55 * np.array([226, 232, 238]))

    def paint_of(self, agent_id: str, category: str) -> RGB:
        """The hinted colour, else one picked from a palette by a checksum of the id: the same in every process."""
        if agent_id in self.agent_rgb:
            return self.agent_rgb[agent_id]
        palette = CLOTHES_RGB if category in ("pedestrian", "cyclist", "motorcycle") else CAR_RGB
        return palette[zlib.crc32(agent_id.encode()) % len(palette)]

    def baked(self, mesh: Mesh, turned_rad: float = 0.0) -> Mesh:
        """The mesh with sun, ambient light and brightness worked into its colours, for a place turned by so much."""
        sun = self.sun_direction
        sun[:2] = rotate(sun[:2], -turned_rad)
        light = AMBIENT + SUN * np.maximum(0.0, mesh.normal @ sun)
        return dataclasses.replace(mesh, rgb=np.clip(mesh.rgb * light[:, None] * self.brightness, 0, 255))


def look_of(hints: Mapping[str, Any]) -> Look:
    """The look that `SceneContext.appearance` asks for; keys that are not about looks are left alone.

    Colours are 0..255. Raises UserError naming the hint that is not of its kind.
    """
    given: dict[str, Any] = {}
    for key in ("sky_rgb", "ground_rgb", "guide_rgb"):
        if key in hints:
            given[key] = _rgb(key, hints[key])
    for key in ("fog", "sun_yaw_rad", "brightness"):
        if key in hints:
            given[key] = _number(key, hints[key])
    if "agent_rgb" in hints:
        given["agent_rgb"] = {str(k): _rgb(f"agent_rgb[{k!r}]", v) for k, v in dict(hints["agent_rgb"]).items()}
    if len(hints.get("building_rgb", ())):
        given["building_rgb"] = tuple(_rgb("building_rgb", rgb) for rgb in hints["building_rgb"])
    if len(hints.get("trees", ())):
        given["trees"] = _trees(hints["trees"])
    return Look(**given)


def _rgb(key: str, value: Any) -> RGB:
    colour = np.asarray(value)
    if colour.shape != (3,) or colour.dtype.kind not in "iuf" or not ((colour >= 0) & (colour <= 255)).all():
        raise UserError(f"appearance {key} is {value!r}; expected three numbers from 0 to 255, so correct the scene.")
    return int(colour[0]), int(colour[1]), int(colour[2])


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
        raise UserError(f"appearance {key} is {value!r}; expected a finite number, so correct the scene.")
    if key != "sun_yaw_rad" and value < 0:
        raise UserError(f"appearance {key} is {value!r}; expected 0 or more, so correct the scene.")
    return float(value)


def _trees(value: Any) -> np.ndarray:
    trees = np.asarray(value, float)
    if trees.ndim != 2 or trees.shape[1] not in (2, 3):
        raise UserError(
            f"appearance trees has shape {trees.shape}; expected (K, 2) positions or (K, 3) positions and heights."
        )
    if trees.shape[1] == 3:
        return trees
    checksum = np.array([zlib.crc32(np.round(xy, 2).tobytes()) for xy in trees])
    return np.column_stack([trees, 5.0 + 3.0 * (checksum % 1000) / 1000])
