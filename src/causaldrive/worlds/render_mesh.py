"""Triangle meshes in numpy, and their way into Panda3D.

A `Mesh` is built from quads, boxes, frustums, prisms and discs, shaded flat (each face has its own corners and
normal), then turned into a Panda3D `Geom` in one copy. Colours are 0..255. Knows nothing of roads, cars or cameras.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from panda3d.core import Geom, GeomEnums, GeomTriangles, GeomVertexData, GeomVertexFormat, Triangulator

from causaldrive.clips.geometry import rotate

RGB = tuple[int, int, int]
_ROW = np.dtype([("xyz", "<f4", 3), ("rgba", "u1", 4)])
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Mesh:
    """V corners and T triangles; a face looks towards the side its corners run counter-clockwise on."""

    xyz_m: np.ndarray  # (V, 3)
    normal: np.ndarray  # (V, 3) unit
    rgb: np.ndarray  # (V, 3) 0..255, not rounded
    triangles: np.ndarray  # (T, 3) int

    def __len__(self) -> int:
        return len(self.triangles)


def empty() -> Mesh:
    return Mesh(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3), np.int64))


def join(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh of all, in the given order (which is the drawing order where depth is not tested)."""
    if not meshes:
        return empty()
    starts = np.cumsum([0] + [len(mesh.xyz_m) for mesh in meshes[:-1]])
    return Mesh(
        np.concatenate([mesh.xyz_m for mesh in meshes]),
        np.concatenate([mesh.normal for mesh in meshes]),
        np.concatenate([mesh.rgb for mesh in meshes]),
        np.concatenate([mesh.triangles + start for mesh, start in zip(meshes, starts, strict=True)]),
    )


def moved(mesh: Mesh, xyz_m: Sequence[float], yaw_rad: float = 0.0) -> Mesh:
    """The mesh turned about z by `yaw_rad`, then shifted."""
    xyz, normal = mesh.xyz_m.copy(), mesh.normal.copy()
    xyz[:, :2], normal[:, :2] = rotate(xyz[:, :2], yaw_rad), rotate(normal[:, :2], yaw_rad)
    return replace(mesh, xyz_m=xyz + np.asarray(xyz_m, float), normal=normal)


def polygons(xyz_m: np.ndarray, rgb: np.ndarray | Sequence[float]) -> Mesh:
    """N convex planar polygons of K corners each (N, K, 3); `rgb` is (3,), (N, 3) or (N, K, 3)."""
    corners = np.asarray(xyz_m, float)
    count, sides = corners.shape[:2]
    normal = _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    colour = np.asarray(rgb, float)
    colour = colour[:, None] if colour.ndim == 2 else colour
    fan = np.array([[0, k, k + 1] for k in range(1, sides - 1)])
    triangles = (np.arange(count)[:, None, None] * sides + fan).reshape(-1, 3)
    return Mesh(
        corners.reshape(-1, 3),
        np.repeat(normal, sides, axis=0),
        np.broadcast_to(colour, corners.shape).reshape(-1, 3).copy(),
        triangles,
    )


def flat_quads(xy_m: np.ndarray, rgb: np.ndarray | Sequence[float], z_m: float = 0.0) -> Mesh:
    """N quads (N, 4, 2) lying at height z, lit from above whichever way their corners run."""
    xy = np.asarray(xy_m, float)
    mesh = polygons(np.concatenate([xy, np.full((*xy.shape[:-1], 1), z_m)], axis=-1), rgb)
    return replace(mesh, normal=np.tile([0.0, 0.0, 1.0], (len(mesh.normal), 1)))


def flat_ring(ring_xy_m: np.ndarray, rgb: Sequence[float], z_m: float = 0.0) -> Mesh:
    """A simple polygon (K, 2), concave allowed, lying at height z and facing up."""
    triangulator = Triangulator()
    for x, y in ring_xy_m:
        triangulator.add_polygon_vertex(triangulator.add_vertex(float(x), float(y)))
    triangulator.triangulate()
    count = triangulator.get_num_triangles()
    index = [
        (triangulator.get_triangle_v0(k), triangulator.get_triangle_v1(k), triangulator.get_triangle_v2(k))
        for k in range(count)
    ]
    xyz = np.column_stack([ring_xy_m, np.full(len(ring_xy_m), z_m)])
    up = np.tile([0.0, 0.0, 1.0], (len(xyz), 1))
    colour = np.broadcast_to(np.asarray(rgb, float), xyz.shape).copy()
    return Mesh(xyz, up, colour, np.array(index, np.int64).reshape(-1, 3))


def frustum(
    low: tuple[float, float, float, float, float],
    high: tuple[float, float, float, float, float],
    side_rgb: Sequence[float],
    top_rgb: Sequence[float] | None = None,
) -> Mesh:
    """A block between two rectangles (x0, x1, y0, y1, z): four sides and the top, no bottom."""
    lower, upper = _rectangle(low), _rectangle(high)
    following = np.roll(np.arange(4), -1)
    sides = np.stack([lower, lower[following], upper[following], upper], axis=1)
    return join([polygons(sides, side_rgb), polygons(upper[None], side_rgb if top_rgb is None else top_rgb)])


def _rectangle(extent: tuple[float, float, float, float, float]) -> np.ndarray:
    x0, x1, y0, y1, z = extent
    return np.array([[x0, y0, z], [x1, y0, z], [x1, y1, z], [x0, y1, z]])


def block(centre_m: Point, size_m: Point, rgb: Sequence[float], top_rgb: Sequence[float] | None = None) -> Mesh:
    """An upright box: `centre_m` of the box, sizes along x, y, z; no bottom."""
    (x, y, z), (a, b, c) = centre_m, (size_m[0] / 2, size_m[1] / 2, size_m[2] / 2)
    return frustum((x - a, x + a, y - b, y + b, z - c), (x - a, x + a, y - b, y + b, z + c), rgb, top_rgb)


def disc(centre_m: Point, facing: Point, radius_m: float, rgb: Sequence[float], sides: int = 8) -> Mesh:
    """A regular polygon around `centre_m`, visible from the side `facing` points to."""
    across, up = _plane_axes(*facing)
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    ring = radius_m * (np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * up)
    return polygons((np.asarray(centre_m) + ring)[None], rgb)


def rod(
    start_m: Point, end_m: Point, radius_m: float | tuple[float, float], rgb: Sequence[float], sides: int = 4
) -> Mesh:
    """The mantle of a prism (or cone, with two radii) between two points, without its ends."""
    r0, r1 = radius_m if isinstance(radius_m, tuple) else (radius_m, radius_m)
    start, end = np.asarray(start_m, float), np.asarray(end_m, float)
    across, up = _plane_axes(*(end - start).tolist())
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    ring = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * up
    following = np.roll(np.arange(sides), -1)
    low, high = start + r0 * ring, end + r1 * ring
    faces = np.stack([low, low[following], high[following], high], axis=1)
    if r1 == 0:
        faces = faces[:, :3]
    return polygons(faces, rgb)


@lru_cache(maxsize=4096)
def _plane_axes(x: float, y: float, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors a, b with a x b along (x, y, z)."""
    axis = np.array([x, y, z]) / np.linalg.norm([x, y, z])
    helper = np.array([0.0, 0.0, 1.0]) if abs(axis[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    across = _cross(helper, axis)
    across /= np.linalg.norm(across)
    return across, _cross(axis, across)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a x b of (..., 3), written out: for the few corners of a body NumPy's own takes three times as long."""
    x, y, z, u, v, w = (part[..., k] for part in (a, b) for k in range(3))
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], axis=-1)


def by_cell(mesh: Mesh, cell_m: float) -> list[Mesh]:
    """The mesh cut into groups of triangles by the ground cell of their middle, each culled on its own."""
    if not len(mesh):
        return []
    middle = mesh.xyz_m[mesh.triangles].mean(axis=1)[:, :2]
    cells, group = np.unique(np.floor(middle / cell_m).astype(np.int64), axis=0, return_inverse=True)
    return [_only(mesh, mesh.triangles[group.ravel() == k]) for k in range(len(cells))]


def _only(mesh: Mesh, triangles: np.ndarray) -> Mesh:
    used, index = np.unique(triangles, return_inverse=True)
    return Mesh(mesh.xyz_m[used], mesh.normal[used], mesh.rgb[used], index.reshape(-1, 3))


Packed = tuple[np.ndarray, np.ndarray]  # (V, 16) bytes of position and final colour, (T, 3) corners


def packed(mesh: Mesh) -> Packed:
    """The mesh as the rows that Panda3D takes."""
    rows = np.empty(len(mesh.xyz_m), _ROW)
    rows["xyz"] = mesh.xyz_m
    rows["rgba"][:, :3] = np.clip(np.rint(mesh.rgb), 0, 255)
    rows["rgba"][:, 3] = 255
    return rows.view(np.uint8).reshape(-1, _ROW.itemsize), mesh.triangles.astype("<u4")


def to_geom(mesh: Mesh) -> Geom:
    """The mesh as a Panda3D Geom of positions and final colours."""
    return geom_of([packed(mesh)])


def geom_of(parts: Sequence[Packed]) -> Geom:
    """All parts as one Geom, in the given order."""
    rows = np.concatenate([part for part, _ in parts])
    starts = np.cumsum([0] + [len(part) for part, _ in parts[:-1]]).astype("<u4")
    triangles = np.concatenate([corners + start for (_, corners), start in zip(parts, starts, strict=True)])
    data = GeomVertexData("mesh", GeomVertexFormat.get_v3c4(), GeomEnums.UH_static)
    data.unclean_set_num_rows(len(rows))
    memoryview(data.modify_array(0)).cast("B")[:] = rows.tobytes()  # type: ignore[arg-type]
    geom = Geom(data)
    geom.add_primitive(_primitive(triangles))
    return geom


def _primitive(triangles: np.ndarray) -> GeomTriangles:
    primitive = GeomTriangles(GeomEnums.UH_static)
    primitive.set_index_type(GeomEnums.NT_uint32)
    index = primitive.modify_vertices()
    index.unclean_set_num_rows(triangles.size)
    memoryview(index).cast("B")[:] = triangles.tobytes()  # type: ignore[arg-type]
    return primitive
