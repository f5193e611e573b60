"""Panda3D's engine without a window: pipes, off-screen buffers, exact lenses, read-back.

The picture is drawn at twice its size and averaged down, which smooths edges alike on both back ends. Knows nothing
of roads or cars.
"""

from __future__ import annotations

import os
from functools import lru_cache

import cv2
import numpy as np
from panda3d.core import (
    Camera as PandaCamera,
)
from panda3d.core import (
    CullBinManager,
    FrameBufferProperties,
    GraphicsEngine,
    GraphicsOutput,
    GraphicsPipe,
    GraphicsPipeSelection,
    LMatrix4,
    NodePath,
    PerspectiveLens,
    Texture,
    WindowProperties,
    load_prc_file_data,
)

from causaldrive.clips.geometry import matrix_of_quat
from causaldrive.clips.types import Camera
from causaldrive.ground.errors import UserError, unknown_name

# Software first: without a GPU it draws about twice as many frames as Mesa's GL (benchmarks/render.py), needs no
# driver, and its pixels do not depend on the machine's Mesa version.
MODULES = {"software": "p3tinydisplay", "gl": "p3headlessgl"}
OVERSAMPLING = 2
NEAR_M, FAR_M = 0.3, 450.0
_TO_RGB = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}
_SETTINGS = """
window-type none
audio-library-name null
notify-level fatal
notify-level-display fatal
notify-level-x11display fatal
notify-level-tinydisplay fatal
notify-level-glgsg fatal
notify-level-egldisplay fatal
textures-power-2 none
"""


def open_pipe(backend: str) -> tuple[str, GraphicsPipe]:
    """The graphics pipe of `backend`, or for 'auto' the first that can draw: software, then GL through EGL.

    Raises UserError for an unknown name and when nothing opens.
    """
    if backend != "auto" and backend not in MODULES:
        raise unknown_name("renderer backend", backend, ["auto", *MODULES])
    for name in MODULES if backend == "auto" else (backend,):
        pipe = _make_pipe(name)
        if pipe is not None and _can_draw(pipe):
            return name, pipe
    raise UserError(
        f"renderer backend {backend!r} could not be opened; expected an EGL driver for 'gl' (Debian: apt-get install "
        "libegl1 libgl1-mesa-dri) or panda3d's own 'software' renderer, so install one of them or name the other."
    )


def _make_pipe(backend: str) -> GraphicsPipe | None:
    # EGL must not look for a display; one thread a process, because worlds run in one process a core.
    os.environ.setdefault("EGL_PLATFORM", "surfaceless")
    os.environ.setdefault("LP_NUM_THREADS", "1")
    load_prc_file_data("causaldrive", _SETTINGS)
    _draw_in_order()
    return GraphicsPipeSelection.get_global_ptr().make_module_pipe(MODULES[backend])


def _draw_in_order() -> None:
    """Draw opaque things in the order of the scene graph: by default it is that of their states' addresses in memory,
    so that ties in depth would fall one way today and another tomorrow."""
    bins = CullBinManager.get_global_ptr()
    bins.set_bin_type(bins.find_bin("opaque"), CullBinManager.BT_unsorted)


def _can_draw(pipe: GraphicsPipe) -> bool:
    buffer = _make_buffer(pipe, 8, 8)
    if buffer is None:
        return False
    GraphicsEngine.get_global_ptr().remove_window(buffer)
    return True


def _make_buffer(pipe: GraphicsPipe, width_px: int, height_px: int) -> GraphicsOutput | None:
    wanted = FrameBufferProperties()
    wanted.set_rgb_color(True)
    wanted.set_rgba_bits(8, 8, 8, 0)
    wanted.set_depth_bits(24)
    size = WindowProperties.size(width_px, height_px)
    engine = GraphicsEngine.get_global_ptr()
    return engine.make_output(pipe, "causaldrive", 0, wanted, size, GraphicsPipe.BF_refuse_window)


class View:
    """An off-screen picture of one size. Inactive except while it draws, so views do not pay for each other."""

    def __init__(self, pipe: GraphicsPipe, width_px: int, height_px: int):
        self.size_px = (width_px, height_px)
        buffer = _make_buffer(pipe, OVERSAMPLING * width_px, OVERSAMPLING * height_px)
        if buffer is None:
            raise UserError(
                f"the renderer cannot draw {width_px} x {height_px} pictures (it draws at twice the size and shrinks); "
                "expected at most about 4000 x 4000, so lower the camera's width_px and height_px."
            )
        self._buffer = buffer
        self._pixels = Texture("pixels")
        buffer.add_render_texture(self._pixels, GraphicsOutput.RTM_copy_ram)
        self._lens = PerspectiveLens()
        self._camera = NodePath(PandaCamera("front", self._lens))
        buffer.make_display_region().set_camera(self._camera)
        buffer.set_active(False)
        self._set_for: Camera | None = None
        self._rig_to_camera = np.eye(4)

    def draw(self, root: NodePath, camera: Camera, rig_to_local: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB of what hangs under `root`, from `camera` on a rig at pose `rig_to_local` (4, 4)."""
        if camera != self._set_for:
            _set_lens(self._lens, camera)
            self._set_for, self._rig_to_camera = camera, _camera_pose(camera)
        self._camera.reparent_to(root)
        self._camera.set_mat(_panda_pose(rig_to_local @ self._rig_to_camera))
        self._buffer.set_active(True)
        GraphicsEngine.get_global_ptr().render_frame()
        self._buffer.set_active(False)
        self._camera.detach_node()
        return self._read()

    def _read(self) -> np.ndarray:
        width, height = self.size_px
        raw = np.frombuffer(self._pixels.get_ram_image(), np.uint8)
        bgr = raw.reshape(OVERSAMPLING * height, OVERSAMPLING * width, -1)
        small = cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA)
        return cv2.flip(cv2.cvtColor(small, _TO_RGB[small.shape[2]]), 0)

    def close(self) -> None:
        GraphicsEngine.get_global_ptr().remove_window(self._buffer)
        self._camera.remove_node()


def pose_matrix(xy_m: np.ndarray, yaw_rad: float) -> np.ndarray:
    """(4, 4) pose of a rig standing on the ground at `xy_m`, heading `yaw_rad`."""
    pose = np.eye(4)
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    pose[:2, :2] = [[c, -s], [s, c]]
    pose[:2, 3] = xy_m
    return pose


@lru_cache(maxsize=16)
def _camera_pose(camera: Camera) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = matrix_of_quat(np.array(camera.rig_to_camera_quat))
    pose[:3, 3] = camera.rig_to_camera_position_m
    return pose


def in_picture(camera: Camera, rig_to_local: np.ndarray, xyz_m: np.ndarray, radius_m: np.ndarray) -> np.ndarray:
    """(N,) which balls reach into the picture: those not wholly beyond the near plane or one of the picture's edges.

    A ball at `xyz_m` (N, 3) in local is beyond an edge where n . p < -r, n the edge's unit inward normal.
    """
    pose = rig_to_local @ _camera_pose(camera)
    inward = pose[:3, :3] @ _inward(camera).T
    return np.all((xyz_m - pose[:3, 3]) @ inward > -radius_m[:, None], axis=1)


@lru_cache(maxsize=16)
def _inward(camera: Camera) -> np.ndarray:
    """(5, 3) unit normals into the picture, in the optical frame: left, right, upper, lower edge, and ahead."""
    normals = np.array([
        [camera.fx_px, 0.0, camera.cx_px], [-camera.fx_px, 0.0, camera.width_px - camera.cx_px],
        [0.0, camera.fy_px, camera.cy_px], [0.0, -camera.fy_px, camera.height_px - camera.cy_px], [0.0, 0.0, 1.0],
    ])  # fmt: skip
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _panda_pose(optical: np.ndarray) -> LMatrix4:
    """An optical pose (x right, y down, z forward) as Panda3D's (x right, y forward, z up), row vectors."""
    x, y, z, origin = (optical[:3, k] for k in range(4))
    rows = [(*x, 0.0), (*z, 0.0), (*-y, 0.0), (*origin, 1.0)]
    return LMatrix4(*(float(value) for row in rows for value in row))


def _set_lens(lens: PerspectiveLens, camera: Camera) -> None:
    """At focal length 1 the film is (W / fx, H / fy), shifted by ((W/2 - cx) / fx, (cy - H/2) / fy)."""
    lens.set_focal_length(1.0)
    lens.set_film_size(camera.width_px / camera.fx_px, camera.height_px / camera.fy_px)
    lens.set_film_offset(
        (camera.width_px / 2 - camera.cx_px) / camera.fx_px, (camera.cy_px - camera.height_px / 2) / camera.fy_px
    )
    lens.set_near_far(NEAR_M, FAR_M)
