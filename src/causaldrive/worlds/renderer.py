"""The front camera: world states in, pictures out, by Panda3D without a window.

`Renderer` owns the back end, one a process (Panda3D's engine is global; start worker processes with spawn, a forked
one inherits a dead GL context). `RenderedScene` holds one scene's geometry; any number may be open side by side. The
same state gives the same pixels within a back end; the two back ends differ a little (software has no fog), so use
one for training and evaluation. Writes nothing. Knows nothing of where states come from.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from panda3d.core import Fog, GeomNode, NodePath

from causaldrive.clips.types import Camera
from causaldrive.ground.errors import UserError
from causaldrive.worlds.render_agents import AgentNodes
from causaldrive.worlds.render_backend import View, in_picture, open_pipe, pose_matrix
from causaldrive.worlds.render_lights import LightNodes
from causaldrive.worlds.render_look import Look, look_of
from causaldrive.worlds.render_mesh import Mesh, by_cell, to_geom
from causaldrive.worlds.render_road import asphalt, guide_line, paint, pavement
from causaldrive.worlds.render_scenery import (
    GROUND_PERIOD_M,
    buildings,
    ground_patch,
    ground_places,
    sky_dome,
    trees,
)
from causaldrive.worlds.render_signs import signs
from causaldrive.worlds.render_special import speed_bumps
from causaldrive.worlds.state import SceneContext, WorldState

CELL_M = 48.0  # static geometry is culled in cells of this size


class Renderer:
    """Draws scenes through `camera`. `backend`: 'auto' (software, else GL), 'gl' or 'software'.

    Raises UserError for an unknown backend, when none opens, or for a camera without pixels.
    """

    def __init__(self, camera: Camera, backend: str = "auto"):
        self.camera = camera
        self.backend, self._pipe = open_pipe(backend)
        self._views: dict[tuple[int, int], View] = {}
        self.view_for(camera)

    def open(self, context: SceneContext) -> RenderedScene:
        """Build the static geometry of a scene. Raises UserError for appearance hints of the wrong kind."""
        return RenderedScene(self, context)

    def view_for(self, camera: Camera) -> View:
        """The picture buffer of this camera's size, made on first use."""
        size = (int(camera.width_px), int(camera.height_px))
        if min(size) < 1 or camera.fx_px <= 0 or camera.fy_px <= 0:
            raise UserError(
                f"camera {camera.name!r} has {size[0]} x {size[1]} pixels and focal lengths {camera.fx_px}, "
                f"{camera.fy_px}; expected positive numbers, so correct its intrinsics."
            )
        if size not in self._views:
            self._views[size] = View(self._pipe, *size)
        return self._views[size]

    def close(self) -> None:
        """Give the buffers back. Scenes of this renderer cannot render afterwards."""
        for view in self._views.values():
            view.close()
        self._views.clear()


class RenderedScene:
    """One scene's geometry. Render any of its states, in any order, between those of other scenes."""

    def __init__(self, renderer: Renderer, context: SceneContext):
        self._renderer = renderer
        look = look_of(context.appearance)
        self._root = NodePath("scene")
        self._around = _surroundings(self._root, look)
        self._sky = _sky(self._root, look)
        _layers(self._root, context, look)
        self._agents = AgentNodes(self._root.attach_new_node("agents"), look)
        self._lights = LightNodes(self._root.attach_new_node("signals"), look, context.road)
        if look.fog > 0:
            _add_fog(self._root, look)

    def render(self, state: WorldState, camera: Camera | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB from the front camera, or from another `camera` on the rig; the ego is not drawn."""
        assert not self._root.is_empty(), "the scene is closed"
        camera = camera or self._renderer.camera
        ego = state.ego
        x, y = np.floor(np.asarray(ego.xy_in_local_m, float) / GROUND_PERIOD_M) * GROUND_PERIOD_M
        self._around.set_pos(float(x), float(y), 0.0)
        self._sky.set_pos(float(ego.xy_in_local_m[0]), float(ego.xy_in_local_m[1]), camera.rig_to_camera_position_m[2])
        pose = pose_matrix(ego.xy_in_local_m, ego.yaw_rad)
        self._agents.show(state.agents, state.t_us, ego.xy_in_local_m, partial(in_picture, camera, pose))
        self._lights.show(state.lights)
        return self._renderer.view_for(camera).draw(self._root, camera, pose)

    def close(self) -> None:
        """Free the geometry; closing twice does nothing."""
        if not self._root.is_empty():
            self._root.remove_node()


def _attach(parent: NodePath, name: str, meshes: list[Mesh]) -> NodePath:
    node = GeomNode(name)
    for mesh in meshes:
        node.add_geom(to_geom(mesh))
    return parent.attach_new_node(node)


def _flat(node: NodePath, sort: int) -> NodePath:
    """A layer of the backdrop: drawn in the order of `sort` before everything with depth, itself without."""
    node.set_bin("background", sort)
    node.set_depth_test(False)
    node.set_depth_write(False)
    node.set_two_sided(True)
    return node


def _sky(root: NodePath, look: Look) -> NodePath:
    sky = _flat(_attach(root, "sky", [sky_dome(look)]), 0)
    sky.set_fog_off()
    return sky


def _surroundings(root: NodePath, look: Look) -> NodePath:
    """The ground: copies of one patch under a node that travels with the ego."""
    around = root.attach_new_node("ground")
    patch = GeomNode("patch")
    patch.add_geom(to_geom(look.baked(ground_patch(look))))
    for x, y in ground_places():
        place = around.attach_new_node("place")
        place.attach_new_node(patch)  # a node appears once under a parent, so each copy has a parent of its own
        place.set_pos(x, y, 0.0)
    return _flat(around, 1)


def _layers(root: NodePath, context: SceneContext, look: Look) -> None:
    road = context.road
    flat = [pavement(road), asphalt(road), paint(road)]
    if look.guide_rgb is not None:
        flat.append(guide_line(context.route_xy_in_local_m, look.guide_rgb))
    for sort, mesh in enumerate(flat, start=2):
        _flat(_attach(root, "road", by_cell(look.baked(mesh), CELL_M)), sort)
    for mesh in (buildings(road, look.building_rgb), trees(look), speed_bumps(road), signs(road)):
        _attach(root, "scenery", by_cell(look.baked(mesh), CELL_M))


def _add_fog(root: NodePath, look: Look) -> None:
    fog = Fog("fog")
    fog.set_color(*(float(c) / 255 for c in look.horizon_rgb))
    fog.set_exp_density(look.fog)
    root.set_fog(fog)
