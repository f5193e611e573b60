"""The road surface as flat layers: pavement beside the lanes, asphalt, painted marks.

Reads a `RoadMap`. All layers lie at z = 0 and are drawn in order without depth, so that nothing flickers.
Knows nothing of Panda3D.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import cv2
import numpy as np
import shapely

from causaldrive.clips.geometry import arc_lengths, pose_on_polyline, rotate
from causaldrive.clips.types import Lane, RoadMap
from causaldrive.worlds.render_mesh import Mesh, empty, flat_quads, flat_ring, join

ASPHALT_RGB, BIKE_RGB, PARKING_RGB = (84, 86, 91), (122, 74, 66), (98, 98, 102)
PAVEMENT_RGB, KERB_RGB = (160, 157, 150), (192, 190, 184)
MARK_RGB = {"white": (244, 244, 240), "yellow": (250, 200, 40), "blue": (70, 120, 230)}
MARK_WIDTH_M, DASH_M, GAP_M = 0.2, 3.0, 4.5
PAVEMENT_WIDTH_M, KERB_WIDTH_M = 2.2, 0.25
STOP_LINE_WIDTH_M, BAR_WIDTH_M, BAR_GAP_M = 0.45, 0.5, 0.6
LONGEST_PIECE_M = 12.0  # quads that reach behind the camera get wrong fog: keep them short
TILE_M = 32.0
GUIDE_WIDTH_M = 0.5
ARROWS_BEFORE_M = (8.0, 24.0, 40.0, 56.0)  # the end of a lane
# A shaft, its bend to the left, and the head; (3, 4, 2) with x along the lane, 5 m long.
ARROW_M = np.array([
    [(-2.5, -0.22), (0.4, -0.22), (0.4, 0.22), (-2.5, 0.22)],
    [(0.1, -0.22), (0.5, -0.22), (2.0, 0.75), (1.4, 0.95)],
    [(2.5, 0.35), (2.9, 1.6), (0.9, 1.25), (0.9, 1.25)],
])  # fmt: skip


def pavement(road: RoadMap) -> Mesh:
    """What lies beside the asphalt: a strip along every lane side without neighbour, and around drivable areas."""
    sides = list(_outer_sides(road))
    strips = [_edge(side, PAVEMENT_WIDTH_M, PAVEMENT_RGB) for side in sides]
    kerbs = [_edge(side, KERB_WIDTH_M, KERB_RGB) for side in sides]
    areas = [shapely.Polygon(ring) for ring in road.drivable.values()]
    rims = [_filled(area.buffer(PAVEMENT_WIDTH_M, join_style="mitre"), PAVEMENT_RGB) for area in areas]
    rim_kerbs = [_filled(area.buffer(KERB_WIDTH_M, join_style="mitre"), KERB_RGB) for area in areas]
    return join([*strips, *rims, *kerbs, *rim_kerbs])


def asphalt(road: RoadMap) -> Mesh:
    """Drivable areas, then every lane from boundary to boundary."""
    areas = [_filled(shapely.Polygon(ring), ASPHALT_RGB) for ring in road.drivable.values()]
    return join([*areas, *(_lane_surface(lane) for lane in road.lanes.values())])


def paint(road: RoadMap) -> Mesh:
    """Lane marks, stop lines and crosswalk bars."""
    marks = [_mark(line, kind) for line, kind in marked_lines(road)]
    stops = [
        _ribbon(np.asarray(line, float), STOP_LINE_WIDTH_M, MARK_RGB["white"]) for line in road.stop_lines.values()
    ]
    bars = [flat_quads(zebra_bars(ring), MARK_RGB["white"]) for ring in road.crosswalks.values()]
    return join([*marks, *stops, *bars, *merge_arrows(road)])


def merge_arrows(road: RoadMap) -> list[Mesh]:
    """Arrows that bend to the left before the end of every lane that ends beside one that goes on."""
    meshes = []
    for lane in road.lanes.values():
        beside = road.lanes.get(lane.left_neighbour or "")
        if lane.successors or lane.in_junction or beside is None or not beside.successors:
            continue
        line = _line_up_to(road, lane)
        arc = arc_lengths(line)
        for before in ARROWS_BEFORE_M:
            if arc[-1] > before + 2:
                xy, yaw = pose_on_polyline(arc[-1] - before, line)
                meshes.append(flat_quads(xy + rotate(ARROW_M, float(yaw)), MARK_RGB["white"]))
    return meshes


def _line_up_to(road: RoadMap, lane: Lane) -> np.ndarray:
    """The centre line of a lane and of what leads straight to it, as far as the arrows reach."""
    line = np.asarray(lane.centre_xy_m, float)
    while lane.predecessors and arc_lengths(line)[-1] < ARROWS_BEFORE_M[-1] + 5:
        lane = road.lanes[lane.predecessors[0]]
        line = np.concatenate([np.asarray(lane.centre_xy_m, float)[:-1], line])
    return line


def guide_line(route_xy_m: np.ndarray, rgb: tuple[int, int, int]) -> Mesh:
    """A coloured band in the middle of the lane that the way to go is in, as roads with guide lines have it."""
    return _ribbon(_cut(_thinned(np.asarray(route_xy_m, float))), GUIDE_WIDTH_M, rgb)


def lane_ring(lane: Lane) -> np.ndarray:
    """(K, 2) outline of a lane, left boundary forward and right boundary back."""
    return np.concatenate([lane.left_xy_m, lane.right_xy_m[::-1]])


def _lane_surface(lane: Lane) -> Mesh:
    rgb = {"bike": BIKE_RGB, "parking": PARKING_RGB}.get(lane.kind, ASPHALT_RGB)
    return _between(np.asarray(lane.left_xy_m, float), np.asarray(lane.right_xy_m, float), rgb)


def _between(left_xy_m: np.ndarray, right_xy_m: np.ndarray, rgb: tuple[int, int, int]) -> Mesh:
    """Quads between two polylines that run side by side."""
    left, right = _thinned(left_xy_m), _thinned(right_xy_m)
    arcs = [arc_lengths(line) for line in (left, right)]
    longest = max(arc[-1] for arc in arcs)
    if min(arc[-1] for arc in arcs) < 1e-3:
        return empty()
    pieces = np.linspace(0, 1, int(np.ceil(longest / LONGEST_PIECE_M)) + 1)
    share = np.unique(np.round(np.concatenate([pieces, arcs[0] / arcs[0][-1], arcs[1] / arcs[1][-1]]), 4))
    a, b = (_at(line, arc, share * arc[-1]) for line, arc in zip((left, right), arcs, strict=True))
    quads = np.stack([b[:-1], b[1:], a[1:], a[:-1]], axis=1)
    return flat_quads(quads, _mottled(quads.mean(axis=1), rgb))


def _mottled(xy_m: np.ndarray, rgb: tuple[int, int, int]) -> np.ndarray:
    """(N, 3) the colour made a little lighter or darker by place: plain surfaces would hide one's own motion."""
    cell = np.floor(xy_m / 4.0).astype(np.int64)
    noise = ((cell[:, 0] * 73_856_093) ^ (cell[:, 1] * 19_349_663)) % 1009 / 1008
    return np.array(rgb, float) * (0.97 + 0.06 * noise[:, None])


def _thinned(line_xy_m: np.ndarray) -> np.ndarray:
    """The polyline without the points that 3 cm do not need."""
    return shapely.get_coordinates(shapely.simplify(shapely.LineString(line_xy_m), 0.03))


def _at(line_xy_m: np.ndarray, arc_m: np.ndarray, at_m: np.ndarray) -> np.ndarray:
    return np.column_stack([np.interp(at_m, arc_m, line_xy_m[:, axis]) for axis in (0, 1)])


def _ribbon(line_xy_m: np.ndarray, width_m: float, rgb: tuple[int, int, int], offset_m: float = 0.0) -> Mesh:
    """A band along a polyline, mitred at its corners; `offset_m` moves it to the left."""
    left = _side(line_xy_m, offset_m + width_m / 2)
    right = _side(line_xy_m, offset_m - width_m / 2)
    return flat_quads(np.stack([right[:-1], right[1:], left[1:], left[:-1]], axis=1), rgb)


def _side(line_xy_m: np.ndarray, offset_m: float) -> np.ndarray:
    """The polyline shifted to its left by `offset_m`, sharp corners cut at twice the offset."""
    step = np.diff(line_xy_m, axis=0)
    unit = step / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
    before, after = np.vstack([unit[:1], unit]), np.vstack([unit, unit[-1:]])
    normal = rotate(before + after, np.pi / 2)
    length = np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    stretch = np.minimum(2.0 / length, 2.0)
    return line_xy_m + offset_m * stretch * normal / length


def _outer_sides(road: RoadMap) -> Iterator[tuple[np.ndarray, int]]:
    """Lane boundaries with no neighbour beyond, with the side they look to: 1 left, -1 right. Junctions have none."""
    for lane in road.lanes.values():
        if lane.left_neighbour is None and not lane.in_junction:
            yield _cut(_thinned(np.asarray(lane.left_xy_m, float))), 1
        if lane.right_neighbour is None and not lane.in_junction:
            yield _cut(_thinned(np.asarray(lane.right_xy_m, float))), -1


def _edge(side: tuple[np.ndarray, int], width_m: float, rgb: tuple[int, int, int]) -> Mesh:
    line, sign = side
    outer = _side(line, sign * width_m)
    return flat_quads(np.stack([line[:-1], line[1:], outer[1:], outer[:-1]], axis=1), rgb)


def _filled(area: shapely.Geometry, rgb: tuple[int, int, int]) -> Mesh:
    """A polygon of any shape, cut along a grid so that its triangles stay short."""
    area = shapely.make_valid(area)
    x0, y0, x1, y1 = area.bounds if not area.is_empty else (0.0, 0.0, 0.0, 0.0)
    meshes = []
    for x in np.arange(x0, x1, TILE_M):
        for y in np.arange(y0, y1, TILE_M):
            meshes += _rings(shapely.clip_by_rect(area, x, y, x + TILE_M, y + TILE_M), rgb)
    return join(meshes)


def _rings(part: shapely.Geometry, rgb: tuple[int, int, int]) -> list[Mesh]:
    """Meshes of the polygons in `part`; those with holes go through a Delaunay triangulation."""
    meshes = []
    for polygon in shapely.get_parts(part):
        if polygon.geom_type != "Polygon" or polygon.area < 1e-4:
            continue
        if polygon.interiors:
            triangles = shapely.get_parts(shapely.delaunay_triangles(polygon))
            inside = shapely.contains(polygon, shapely.centroid(triangles))
            meshes += [flat_ring(shapely.get_coordinates(t)[:-1], rgb) for t in triangles[inside]]
        else:
            meshes.append(flat_ring(_without_doubles(shapely.get_coordinates(polygon)[:-1]), rgb))
    return meshes


def _without_doubles(ring_xy_m: np.ndarray) -> np.ndarray:
    """The ring without points within 5 mm of the one before, where any are within 1 mm: the triangulator, given corners
    as close as buffers of real junctions have them, never comes back.
    """
    gaps = np.linalg.norm(ring_xy_m - np.roll(ring_xy_m, 1, axis=0), axis=1)
    return ring_xy_m if gaps.min() >= 1e-3 else ring_xy_m[gaps >= 5e-3]


def marked_lines(road: RoadMap) -> Iterator[tuple[np.ndarray, str]]:
    """Painted boundaries, each once: neighbours share theirs, and dashes drawn twice would close their gaps."""
    seen: set[tuple] = set()
    for lane in road.lanes.values():
        for line, kind in ((lane.left_xy_m, lane.left_mark), (lane.right_xy_m, lane.right_mark)):
            if kind == "none" or len(line) < 2:
                continue
            ends = [tuple(np.round(line[k] * 2).astype(int)) for k in (0, -1)]
            middle = tuple(np.round(np.mean(line, axis=0) * 2).astype(int))
            key = (middle, *sorted(ends))
            if key not in seen:
                seen.add(key)
                yield np.asarray(line, float), kind


def _mark(line_xy_m: np.ndarray, kind: str) -> Mesh:
    """One painted boundary; `kind` is words joined by '_': solid or dashed, a colour, double."""
    words = kind.lower().split("_")
    rgb = next((MARK_RGB[word] for word in words if word in MARK_RGB), MARK_RGB["white"])
    line = _thinned(line_xy_m)
    if any(word.startswith("dash") for word in words) and "solid" not in words:
        return _dashes(line, rgb)
    if "double" in words:
        return join([_ribbon(_cut(line), 0.14, rgb, offset) for offset in (-0.16, 0.16)])
    return _ribbon(_cut(line), MARK_WIDTH_M, rgb)


def _cut(line_xy_m: np.ndarray) -> np.ndarray:
    """The polyline with extra points where its pieces are long."""
    arc = arc_lengths(line_xy_m)
    extra = np.linspace(0, arc[-1], int(np.ceil(arc[-1] / LONGEST_PIECE_M)) + 1)
    return _at(line_xy_m, arc, np.unique(np.round(np.concatenate([arc, extra]), 3)))


def _dashes(line_xy_m: np.ndarray, rgb: tuple[int, int, int]) -> Mesh:
    """Dashes of two straight quads each, so that they follow curves."""
    arc = arc_lengths(line_xy_m)
    starts = np.arange(0.5 * GAP_M, max(arc[-1] - 0.5 * DASH_M, 0.5 * GAP_M + 1e-6), DASH_M + GAP_M)
    ends = np.minimum(starts + DASH_M, arc[-1])
    points = [_at(line_xy_m, arc, at) for at in (starts, (starts + ends) / 2, ends)]
    meshes = []
    for a, b in itertools.pairwise(points):
        unit = (b - a) / np.maximum(np.linalg.norm(b - a, axis=1, keepdims=True), 1e-9)
        side = rotate(unit, np.pi / 2) * MARK_WIDTH_M / 2
        meshes.append(flat_quads(np.stack([a - side, b - side, b + side, a + side], axis=1), rgb))
    return join(meshes)


def zebra_bars(ring_xy_m: np.ndarray) -> np.ndarray:
    """(N, 4, 2) bars across the short side of a crosswalk's rectangle, repeated along its long side."""
    middle, (a, b), angle_deg = cv2.minAreaRect(np.asarray(ring_xy_m - ring_xy_m[0], np.float32))
    along = np.deg2rad(angle_deg) + (0.0 if a >= b else np.pi / 2)
    length, depth = max(a, b), min(a, b)
    count = max(int((length + BAR_GAP_M) // (BAR_WIDTH_M + BAR_GAP_M)), 1)
    at = (np.arange(count) - (count - 1) / 2) * (BAR_WIDTH_M + BAR_GAP_M)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [BAR_WIDTH_M / 2, depth / 2]
    bars = corners[None] + np.stack([at, np.zeros(count)], axis=-1)[:, None]
    return rotate(bars, along) + np.array(middle) + ring_xy_m[0]
