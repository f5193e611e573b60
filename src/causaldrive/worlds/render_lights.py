"""Signal heads as Panda3D nodes: a pole, an arm where the head hangs over a lane, three big lamps, one of them lit.

Reads `LightArrays`. Lamps shine by themselves and are oversized, so that a red light is a red blob from 40 m in a
320 x 192 picture; a head is below 60 triangles. Knows nothing of cars.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import shapely
from panda3d.core import Geom, GeomNode, NodePath

from causaldrive.clips.geometry import rotate
from causaldrive.clips.types import RoadMap
from causaldrive.worlds.render_look import Look
from causaldrive.worlds.render_mesh import Mesh, block, disc, join, rod, to_geom
from causaldrive.worlds.render_road import lane_ring
from causaldrive.worlds.state import LightArrays

LAMP_RADIUS_M, LIT_RADIUS_M, LAMP_STEP_M = 0.29, 0.38, 0.74
HOUSING_RGB, POLE_RGB = (24, 25, 28), (92, 96, 100)
LIT_RGB = {"red": (255, 24, 18), "yellow": (255, 206, 0), "green": (24, 255, 96)}
DARK_RGB = {"red": (64, 14, 14), "yellow": (62, 52, 12), "green": (10, 56, 30)}
ORDER = ("red", "yellow", "green")  # from the top
LONGEST_ARM_M = 12.0


class LightNodes:
    """The signal heads of one scene under `parent`, made when a state first holds them."""

    def __init__(self, parent: NodePath, look: Look, road: RoadMap):
        self._parent, self._look, self._road = parent, look, road
        self._nodes: dict[str, tuple[NodePath, tuple]] = {}
        self._shown: LightArrays | None = None
        self._lanes: list[shapely.Polygon] | None = None

    def show(self, lights: LightArrays) -> None:
        """Bring the heads to this state; heads absent from it are hidden. Most frames change none."""
        if self._shown is not None and _same(self._shown, lights):
            return
        self._shown = LightArrays(
            [*lights.ids], [], [*lights.state], lights.stop_xy_in_local_m,
            lights.head_xyz_in_local_m.copy(), lights.yaw_rad.copy(),
        )  # fmt: skip
        hidden = set(self._nodes)
        for index, light_id in enumerate(lights.ids):
            node, lamps = self._head(light_id, lights.head_xyz_in_local_m[index], float(lights.yaw_rad[index]))
            lamps.set_geom(0, _lamp_geom(lights.state[index]))
            node.show()
            hidden.discard(light_id)
        for light_id in hidden:
            self._nodes[light_id][0].hide()

    def _head(self, light_id: str, xyz_m: np.ndarray, yaw_rad: float) -> tuple[NodePath, GeomNode]:
        place = (*(float(c) for c in np.round(xyz_m, 3)), round(yaw_rad, 4))
        known = self._nodes.get(light_id)
        if known is not None and known[1] == place:
            return known[0], known[0].find("lamps").node()
        if known is not None:
            known[0].remove_node()
        node = self._build(np.asarray(xyz_m, float), yaw_rad)
        self._nodes[light_id] = (node, place)
        return node, node.find("lamps").node()

    def _build(self, xyz_m: np.ndarray, yaw_rad: float) -> NodePath:
        """The head's node; its frame has x along the lane's driving direction, so lamps look to -x."""
        node = self._parent.attach_new_node("signal")
        node.set_pos_hpr(*(float(c) for c in xyz_m), float(np.rad2deg(yaw_rad)), 0.0, 0.0)
        stand = self._look.baked(_stand(float(xyz_m[2]), self._arm(xyz_m[:2], yaw_rad)), yaw_rad)
        still = GeomNode("stand")
        still.add_geom(to_geom(stand))
        shining = GeomNode("lamps")
        shining.add_geom(_lamp_geom("off"))
        node.attach_new_node(still)
        node.attach_new_node(shining)
        return node

    def _arm(self, xy_m: np.ndarray, yaw_rad: float) -> float:
        """Sideways distance to the pole, left positive: 0 beside the road, else the nearest spot off the lanes."""
        if self._lanes is None:
            self._lanes = [shapely.Polygon(lane_ring(lane)) for lane in self._road.lanes.values()]
        reach = np.arange(0.0, LONGEST_ARM_M + 0.1, 0.5)
        for distance in reach:
            for side in (-1.0, 1.0):
                x, y = xy_m + rotate(np.array([0.0, side * distance]), yaw_rad)
                if not shapely.contains_xy(self._lanes, x, y).any():
                    return side * (distance + 0.8 if distance else 0.0)
        return 0.0


def _same(one: LightArrays, two: LightArrays) -> bool:
    """The same heads in the same places show the same."""
    where = np.array_equal(one.head_xyz_in_local_m, two.head_xyz_in_local_m)
    return one.ids == two.ids and one.state == two.state and where and np.array_equal(one.yaw_rad, two.yaw_rad)


def _stand(height_m: float, arm_m: float) -> Mesh:
    """Housing, pole and arm, in the head's own frame."""
    wide, tall = 2.7 * LAMP_RADIUS_M, 3 * LAMP_STEP_M + 0.12
    housing = block((0.16, 0.0, 0.0), (0.28, wide, tall), HOUSING_RGB)
    pole = rod((0.38, arm_m, -height_m), (0.38, arm_m, 0.3), 0.11, POLE_RGB)
    if not arm_m:
        return join([housing, pole])
    return join([housing, pole, rod((0.38, arm_m, 0.2), (0.38, 0.0, 0.2), 0.09, POLE_RGB)])


def lamp_mesh(state: str) -> Mesh:
    """Three lamps, the one of `state` lit and a little larger; 'off' leaves all dark."""
    parts = []
    for k, colour in enumerate(ORDER):
        lit = colour == state
        rgb, radius = (LIT_RGB[colour], LIT_RADIUS_M) if lit else (DARK_RGB[colour], LAMP_RADIUS_M)
        depth = -0.06 if lit else -0.03
        parts.append(disc((depth, 0.0, (1 - k) * LAMP_STEP_M), (-1.0, 0.0, 0.0), radius, rgb))
    return join(parts)


@lru_cache(maxsize=8)
def _lamp_geom(state: str) -> Geom:
    return to_geom(lamp_mesh(state))
