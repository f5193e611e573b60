"""Agents as Panda3D nodes: one a visible agent, kept by id, shared shapes, lamps swapped when they change.

Reads `AgentArrays`. Shapes are cached for the process by kind, size, colour and pose. Knows nothing of roads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
from causaldrive.worlds.render_mesh import RGB, Mesh, flat_quads, join, moved, to_geom
from causaldrive.worlds.render_people import (
    CONE_RGB,
    FUR_RGB,
    SIGN_RGB,
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
from causaldrive.worlds.state import AgentArrays

VIEW_RANGE_M = 160.0
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


class AgentNodes:
    """The agents of one scene under `parent`; those absent from a state are hidden, not removed."""

    def __init__(self, parent: NodePath, look: Look):
        self._parent, self._look = parent, look
        self._nodes: dict[str, tuple[NodePath, Shape]] = {}
        self._bodies: dict[tuple, Geom] = {}

    def show(self, agents: AgentArrays, t_us: int, around_xy_m: np.ndarray) -> None:
        """Bring the nodes to this state; agents farther than 160 m from `around_xy_m` are hidden."""
        hidden = set(self._nodes)
        offset = np.asarray(agents.xy_in_local_m, float).reshape(-1, 2) - around_xy_m
        for index in np.flatnonzero(np.hypot(offset[:, 0], offset[:, 1]) < VIEW_RANGE_M):
            agent_id = agents.ids[index]
            node = self._node(agent_id, self._shape(agents, int(index), t_us))
            x, y = agents.xy_in_local_m[index]
            node.set_pos_hpr(float(x), float(y), 0.0, float(np.rad2deg(agents.yaw_rad[index])), 0.0, 0.0)
            node.show()
            hidden.discard(agent_id)
        for agent_id in hidden:
            self._nodes[agent_id][0].hide()

    def _shape(self, agents: AgentArrays, index: int, t_us: int) -> Shape:
        category = agents.category[index]
        length, width, height = (max(round(float(side), 2), SMALLEST_M) for side in agents.size_m[index])
        hinted = agents.ids[index] in self._look.agent_rgb
        rgb = self._look.paint_of(agents.ids[index], category)
        rgb = rgb if hinted else OWN_RGB.get(category, rgb)
        lamped = category in LAMP_CATEGORIES
        return Shape(
            category,
            (length, width, height),
            rgb,
            stride=_stride(category, float(agents.speed_mps[index]), t_us),
            brake=lamped and bool(agents.brake_light[index]),
            indicator=min(max(int(agents.indicator[index]), -1), WARNING) if lamped else 0,
            flash=int(t_us // FLASH_US % 2) if lamped and agents.indicator[index] == WARNING else 0,
            heading_step=round(float(agents.yaw_rad[index]) / HEADING_STEP_RAD) % 24,
        )

    def _node(self, agent_id: str, shape: Shape) -> NodePath:
        """The agent's node in this shape; its body is rebuilt only when the shape differs from the last one."""
        known = self._nodes.get(agent_id)
        if known is None:
            node = self._parent.attach_new_node(GeomNode("agent"))
        elif known[1] == shape:
            return known[0]
        else:
            node = known[0]
        self._fill(node.node(), shape)
        self._nodes[agent_id] = (node, shape)
        return node

    def _fill(self, node: GeomNode, shape: Shape) -> None:
        """Shadow, body and self-lit lamps of a shape become the node's parts."""
        node.remove_all_geoms()
        node.add_geom(_shadow_geom(shape.category, shape.size_m), _shadow_state())
        node.add_geom(self._body(shape))
        if shape.category in LAMP_CATEGORIES:
            node.add_geom(_lamp_geom(shape.size_m, shape.category, shape.brake, shape.indicator, shape.flash))

    def _body(self, shape: Shape) -> Geom:
        """The body with this scene's light on it; other lamps do not need another body."""
        key = (shape.category, shape.size_m, shape.rgb, shape.stride, shape.heading_step)
        if key not in self._bodies:
            heading = shape.heading_step * HEADING_STEP_RAD
            mesh = body_mesh(shape.category, shape.size_m, shape.rgb, shape.stride)
            lit = self._look.baked(moved(mesh, (0.0, 0.0, 0.0), heading))
            self._bodies[key] = to_geom(replace(mesh, rgb=lit.rgb))
        return self._bodies[key]


def _stride(category: str, speed_mps: float, t_us: int) -> int:
    if category != "pedestrian" or abs(speed_mps) < WALKING_MPS:
        return 0
    return 1 if (t_us // STRIDE_US) % 2 else -1


@lru_cache(maxsize=512)
def body_mesh(category: str, size_m: Size, rgb: RGB, stride: int = 0) -> Mesh:
    """The body of an agent, standing on z = 0 with its middle at the origin."""
    if category == "pedestrian":
        return pedestrian_body(size_m, rgb, stride)
    return BODIES[category](size_m, rgb)


@lru_cache(maxsize=512)
def _lamp_geom(size_m: Size, category: str, brake: bool, indicator: int, flash: int) -> Geom:
    if indicator == WARNING:
        return to_geom(join([lamps(size_m, category, brake, 0), warning_lights(size_m, category, flash)]))
    return to_geom(lamps(size_m, category, brake, indicator))


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
