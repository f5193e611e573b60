"""Agents as Panda3D nodes: one a near agent, kept by id, its body and lamps one piece, swapped when they change.

A frame with many agents costs Python time before it costs drawing: what a state holds is turned into plain numbers
once for all agents, and an agent is touched only when it moved or looks different. Reads `AgentArrays`. Shapes are
cached by kind, size, colour and pose. Knows nothing of roads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from panda3d.core import (
    CullBinAttrib,
    DepthTestAttrib,
    DepthWriteAttrib,
    Geom,
    GeomNode,
    NodePath,
    RenderState,
)

from causaldrive.worlds.render_look import Look
from causaldrive.worlds.render_mesh import RGB, Mesh, Packed, flat_quads, geom_of, join, packed, to_geom
from causaldrive.worlds.render_people import (
    CONE_RGB,
    FUR_RGB,
    SIGN_RGB,
    WAVING,
    animal_body,
    barrier_body,
    cone_body,
    cyclist_body,
    motorcycle_body,
    pedestrian_body,
    plain_body,
    sign_body,
)
from causaldrive.worlds.render_special import WARNING, emergency_body, school_bus_body, warning_lights
from causaldrive.worlds.render_vehicles import Size, bus_body, car_body, lamps, truck_body
from causaldrive.worlds.state import WAVES, AgentArrays

VIEW_RANGE_M = 160.0
FAR_M = 45.0  # beyond it a wheel is less than three pixels high
STRIDE_US, WALKING_MPS = 320_000, 0.3
SHADOW_RGB = (46, 47, 50)
LAMP_CATEGORIES = ("car", "truck", "bus", "school_bus", "emergency_vehicle")
FLASH_US = 400_000
BODIES: dict[str, Callable[[Size, RGB], Mesh]] = {
    "car": car_body,
    "truck": truck_body,
    "bus": bus_body,
    "school_bus": school_bus_body,
    "emergency_vehicle": emergency_body,
    "motorcycle": motorcycle_body,
    "cyclist": cyclist_body,
    "animal": animal_body,
    "cone": cone_body,
    "barrier": barrier_body,
    "sign": sign_body,
    "other": plain_body,
}
OWN_RGB: dict[str, RGB] = {"animal": FUR_RGB, "cone": CONE_RGB, "barrier": (214, 40, 36), "sign": SIGN_RGB}
SMALLEST_M = 0.05  # logs hold boxes of no height: they must not become meshes without volume
SHADOW_SORT = 40
BEYOND_BOX_M = 2.5  # signs, raised hands and shadows reach beyond the box
Sees = Callable[[np.ndarray, np.ndarray], np.ndarray]  # which balls (N, 3), (N,) may show in the picture


HEADING_STEP_RAD = np.pi / 12  # light on a body is reworked when it has turned by this much


@dataclass(frozen=True)
class Shape:
    """What an agent looks like at one moment, apart from where it stands."""

    category: str
    size_m: Size
    rgb: RGB
    stride: int = 0
    brake: bool = False
    indicator: int = 0
    flash: int = 0  # which half of the warning lights shines
    heading_step: int = 0  # of 24, in local: where the light falls from
    far: bool = False  # so far away that its wheels are discs


class _Shown:
    """One agent's node, and what it shows: its shape as it was given, its place, whether it is there."""

    def __init__(self, node: NodePath):
        self.node, self.shape, self.place, self.there = node, (), (), True


class AgentNodes:
    """The agents of one scene under `parent`; those absent from a state are hidden, not removed."""

    def __init__(self, parent: NodePath, look: Look):
        self._parent, self._look = parent, look
        self._shown: dict[str, _Shown] = {}
        self._bodies: dict[tuple, Packed] = {}
        self._geoms: dict[Shape, Geom] = {}

    def show(self, agents: AgentArrays, t_us: int, around_xy_m: np.ndarray, sees: Sees) -> None:
        """Bring the nodes to this state; agents off the picture or over 160 m from `around_xy_m` are hidden."""
        gone = set(self._shown)
        for agent_id, place, shape in _near(agents, t_us, around_xy_m, sees):
            shown = self._shown.get(agent_id)
            if shown is None:
                shown = self._shown[agent_id] = _Shown(self._parent.attach_new_node(GeomNode("agent")))
            if shown.shape != shape:
                self._fill(shown.node.node(), self._painted(agent_id, shape))
                shown.shape = shape
            if shown.place != place:
                shown.node.set_pos_hpr(place[0], place[1], 0.0, place[2], 0.0, 0.0)
                shown.place = place
            if not shown.there:
                shown.node.show()
                shown.there = True
            gone.discard(agent_id)
        for agent_id in gone:
            shown = self._shown[agent_id]
            if shown.there:
                shown.node.hide()
                shown.there = False

    def _painted(self, agent_id: str, shape: tuple) -> Shape:
        category, *rest = shape
        rgb = self._look.paint_of(agent_id, category)
        own = rgb if agent_id in self._look.agent_rgb else OWN_RGB.get(category, rgb)
        return Shape(category, rest[0], own, *rest[1:])

    def _fill(self, node: GeomNode, shape: Shape) -> None:
        """Shadow, and body with self-lit lamps, of a shape become the node's parts."""
        if shape not in self._geoms:
            parts = [self._body(shape)]
            if shape.category in LAMP_CATEGORIES:
                parts.append(_lamps(shape.size_m, shape.category, shape.brake, shape.indicator, shape.flash))
            self._geoms[shape] = geom_of(parts)
        node.remove_all_geoms()
        node.add_geom(_shadow_geom(shape.category, shape.size_m), _shadow_state())
        node.add_geom(self._geoms[shape])

    def _body(self, shape: Shape) -> Packed:
        """The body with this scene's light on it; other lamps do not need another body."""
        key = (shape.category, shape.size_m, shape.rgb, shape.stride, shape.heading_step, shape.far)
        if key not in self._bodies:
            mesh = body_mesh(shape.category, shape.size_m, shape.rgb, shape.stride, shape.far)
            self._bodies[key] = packed(self._look.baked(mesh, shape.heading_step * HEADING_STEP_RAD))
        return self._bodies[key]


def _near(agents: AgentArrays, t_us: int, around_xy_m: np.ndarray, sees: Sees) -> Iterator[tuple[str, tuple, tuple]]:
    """Id, place (x, y, heading in degrees) and look (all of `Shape` but the colour) of each agent in the picture."""
    xy = np.asarray(agents.xy_in_local_m, float).reshape(-1, 2)
    away = np.hypot(*(xy - around_xy_m).T)
    yaw = np.asarray(agents.yaw_rad, float)
    size = np.maximum(np.round(np.asarray(agents.size_m, float).reshape(-1, 3), 2), SMALLEST_M)
    reach = np.linalg.norm(size, axis=1) / 2 + BEYOND_BOX_M
    seen = (away < VIEW_RANGE_M) & sees(np.column_stack([xy, size[:, 2] / 2]), reach)
    walks = np.abs(agents.speed_mps) >= WALKING_MPS
    stride, flash = (1 if (t_us // STRIDE_US) % 2 else -1), int(t_us // FLASH_US % 2)
    rows = np.flatnonzero(seen)
    columns = (
        rows, xy[rows, 0], xy[rows, 1], np.rad2deg(yaw[rows]), np.rint(yaw[rows] / HEADING_STEP_RAD).astype(int) % 24,
        size[rows], walks[rows], agents.indicator[rows] == WAVES, agents.brake_light[rows],
        np.clip(agents.indicator[rows], -1, WARNING), away[rows] > FAR_M,
    )  # fmt: skip
    for row, x, y, degrees, step, sides, moves, waves, brake, indicator, far in zip(
        *(c.tolist() for c in columns), strict=True
    ):
        category = agents.category[row]
        lamps_lit = (bool(brake), indicator, flash if indicator == WARNING else 0)
        lit = lamps_lit if category in LAMP_CATEGORIES else (False, 0, 0)
        pose = (stride if moves else WAVING if waves else 0) if category == "pedestrian" else 0
        look = (category, tuple(sides), pose, *lit, step, far)
        yield agents.ids[row], (x, y, degrees), look


@lru_cache(maxsize=512)
def body_mesh(category: str, size_m: Size, rgb: RGB, stride: int = 0, far: bool = False) -> Mesh:
    """The body of an agent, standing on z = 0 with its middle at the origin; `far`: with simpler wheels."""
    if category == "pedestrian":
        return pedestrian_body(size_m, rgb, stride)
    if category in ("car", "truck", "bus"):
        return {"car": car_body, "truck": truck_body, "bus": bus_body}[category](size_m, rgb, far)
    return BODIES[category](size_m, rgb)


@lru_cache(maxsize=512)
def _lamps(size_m: Size, category: str, brake: bool, indicator: int, flash: int) -> Packed:
    if indicator == WARNING:
        return packed(join([lamps(size_m, category, brake, 0), warning_lights(size_m, category, flash)]))
    return packed(lamps(size_m, category, brake, indicator))


@lru_cache(maxsize=512)
def _shadow_geom(category: str, size_m: Size) -> Geom:
    """A dark patch a little larger than the footprint: without it vehicles seem to float."""
    spread = 0.16 if category in LAMP_CATEGORIES else 0.05
    half = np.array([size_m[0], size_m[1]]) / 2 + spread
    corners = half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return to_geom(flat_quads(corners[None], SHADOW_RGB))


@lru_cache(maxsize=1)
def _shadow_state() -> RenderState:
    """Drawn onto the flat ground, after its layers and before everything with depth."""
    return RenderState.make(
        CullBinAttrib.make("background", SHADOW_SORT),
        DepthTestAttrib.make(DepthTestAttrib.M_none),
        DepthWriteAttrib.make(DepthWriteAttrib.M_off),
    )
