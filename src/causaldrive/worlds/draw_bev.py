"""A bird's-eye picture of a world state: lanes, marks, agents, signal heads, the ego, where it was and means to go.

Ego heading up, the ego in the middle of the width and two thirds down, so that most of the picture is ahead. Drawn
with OpenCV at twice the size and shrunk. Works alike for the town and for replayed logs. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from causaldrive.clips.geometry import box_corners, rotate, to_frame
from causaldrive.clips.types import RoadMap
from causaldrive.worlds.render_mesh import RGB
from causaldrive.worlds.render_road import marked_lines, zebra_bars
from causaldrive.worlds.state import AgentArrays, EgoState, LightArrays, SceneContext, WorldState

GROUND_RGB, ROAD_RGB, JUNCTION_RGB, BUILDING_RGB = (232, 232, 226), (150, 154, 160), (142, 146, 152), (208, 202, 194)
CROSSWALK_RGB, STOP_LINE_RGB, ROUTE_RGB = (240, 240, 238), (250, 250, 250), (172, 190, 206)
MARK_RGB: dict[str, RGB] = {"white": (246, 246, 246), "yellow": (246, 200, 60), "blue": (90, 130, 230)}
EGO_RGB, TRAIL_RGB, BRAKE_RGB, INDICATOR_RGB = (24, 104, 220), (24, 104, 220), (240, 30, 24), (255, 150, 0)
PLAN_RGB: tuple[RGB, ...] = ((0, 158, 115), (213, 94, 160), (230, 120, 0), (120, 80, 200), (0, 150, 190), (140, 140, 0))
AGENT_RGB: dict[str, RGB] = {
    "car": (70, 78, 92),
    "truck": (98, 70, 48),
    "bus": (128, 60, 110),
    "school_bus": (214, 150, 10),
    "emergency_vehicle": (200, 30, 60),
    "motorcycle": (176, 92, 20),
    "cyclist": (206, 120, 10),
    "pedestrian": (206, 34, 80),
    "animal": (120, 84, 40),
    "cone": (240, 110, 20),
    "barrier": (180, 60, 50),
    "sign": (170, 20, 24),
    "other": (110, 110, 110),
}
LIGHT_RGB: dict[str, RGB] = {"red": (236, 26, 22), "yellow": (250, 200, 0), "green": (16, 180, 70), "off": (60, 60, 60)}
ARROWED = ("car", "truck", "bus", "school_bus", "emergency_vehicle", "motorcycle", "cyclist")
SMALLEST_M = 1.1
OVERSAMPLING, SHIFT = 2, 4  # OpenCV takes coordinates in 1/16 pixel
EGO_DOWN = 0.67  # share of the height above the ego
RING_RGB, RINGED_M = (230, 20, 150), 3.4


@dataclass(frozen=True)
class _Sheet:
    """The picture being drawn and where it lies in the world."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    ego: EgoState
    px_per_m: float

    def place(self, xy_in_local_m: np.ndarray) -> np.ndarray:
        """Points (..., 2) to OpenCV's fixed-point pixels: forward is up, left is left."""
        x, y = np.moveaxis(to_frame(xy_in_local_m, self.ego.centre_xy_in_local_m, self.ego.yaw_rad), -1, 0)
        height, width = self.image.shape[:2]
        pixels = np.stack([width / 2 - y * self.px_per_m, EGO_DOWN * height - x * self.px_per_m], axis=-1)
        return np.rint(np.clip(pixels, -30_000, 30_000) * 2**SHIFT).astype(np.int32)

    def fill(self, ring_xy_m: np.ndarray, rgb: RGB) -> None:
        cv2.fillPoly(self.image, [self.place(np.asarray(ring_xy_m, float))], rgb, cv2.LINE_AA, SHIFT)

    def line(self, line_xy_m: np.ndarray, rgb: RGB, width_m: float, closed: bool = False) -> None:
        """A polyline at least one pixel wide in the final picture."""
        width = max(round(width_m * self.px_per_m), OVERSAMPLING)
        cv2.polylines(self.image, [self.place(np.asarray(line_xy_m, float))], closed, rgb, width, cv2.LINE_AA, SHIFT)

    def dot(self, xy_m: np.ndarray, radius_m: float, rgb: RGB) -> None:
        x, y = (int(c) for c in self.place(np.asarray(xy_m, float)))
        radius = max(radius_m * self.px_per_m, 2.0 * OVERSAMPLING)
        cv2.circle(self.image, (x, y), int(radius * 2**SHIFT), rgb, -1, cv2.LINE_AA, SHIFT)


def draw_bev(
    context: SceneContext,
    state: WorldState,
    size_px: tuple[int, int] = (320, 320),
    metres: float = 60.0,
    trail_xy: np.ndarray | None = None,
    plans_xy: Sequence[np.ndarray] | np.ndarray | None = None,
    ringed_xy: np.ndarray | None = None,
) -> np.ndarray:
    """(H, W, 3) uint8 RGB bird's-eye picture of `size_px` (width, height), `metres` from bottom to top.

    `trail_xy` (T, 2) is where the ego was, `plans_xy`, K trajectories (T, 2), where it means to go, and a circle is
    drawn around the place `ringed_xy` (2,); all in local.
    """
    width, height = (OVERSAMPLING * int(side) for side in size_px)
    sheet = _Sheet(np.full((height, width, 3), GROUND_RGB, np.uint8), state.ego, height / metres)
    _draw_road(sheet, context.road)
    sheet.line(context.route_xy_in_local_m, ROUTE_RGB, 0.5)
    if trail_xy is not None and len(trail_xy) > 1:
        sheet.line(np.asarray(trail_xy)[:, :2], TRAIL_RGB, 0.45)
    for k, plan in enumerate(plans_xy if plans_xy is not None else ()):
        _draw_plan(sheet, np.asarray(plan, float)[:, :2], PLAN_RGB[k % len(PLAN_RGB)])
    _draw_agents(sheet, state.agents)
    _draw_ego(sheet, state.ego)
    _draw_lights(sheet, state.lights)
    if ringed_xy is not None:
        turn = np.linspace(0.0, 2 * np.pi, 40)[:, None]
        sheet.line(ringed_xy + RINGED_M * np.hstack([np.cos(turn), np.sin(turn)]), RING_RGB, 0.5, closed=True)
    return cv2.resize(sheet.image, tuple(int(side) for side in size_px), interpolation=cv2.INTER_AREA)


def _draw_road(sheet: _Sheet, road: RoadMap) -> None:
    for ring in road.buildings.values():
        sheet.fill(ring, BUILDING_RGB)
    for ring in road.drivable.values():
        sheet.fill(ring, ROAD_RGB)
    for lane in road.lanes.values():
        ring = np.concatenate([lane.left_xy_m, lane.right_xy_m[::-1]])
        sheet.fill(ring, JUNCTION_RGB if lane.in_junction else ROAD_RGB)
    for ring in road.crosswalks.values():
        for bar in zebra_bars(ring):
            sheet.fill(bar, CROSSWALK_RGB)
    for line, kind in marked_lines(road):
        _draw_mark(sheet, line, kind)
    for segment in road.stop_lines.values():
        sheet.line(segment, STOP_LINE_RGB, 0.5)


def _draw_mark(sheet: _Sheet, line_xy_m: np.ndarray, kind: str) -> None:
    rgb = next((colour for word, colour in MARK_RGB.items() if word in kind), MARK_RGB["white"])
    if "dash" not in kind:
        sheet.line(line_xy_m, rgb, 0.2)
        return
    steps = np.linalg.norm(np.diff(line_xy_m, axis=0), axis=1)
    arc = np.concatenate([[0.0], np.cumsum(steps)])
    for start in np.arange(min(1.5, arc[-1]), arc[-1] - 1.0, 6.0):
        at = np.linspace(start, min(start + 3.0, arc[-1]), 3)
        sheet.line(np.column_stack([np.interp(at, arc, line_xy_m[:, k]) for k in (0, 1)]), rgb, 0.2)


def _draw_agents(sheet: _Sheet, agents: AgentArrays) -> None:
    """Boxes in the colour of their category with a pale front; lit brake lights and indicators as edges."""
    if not len(agents):
        return
    drawn = np.maximum(agents.size_m[:, :2], SMALLEST_M)  # people and cones stay visible
    corners = box_corners(agents.xy_in_local_m, agents.yaw_rad, drawn[:, 0], drawn[:, 1])
    for k, ring in enumerate(corners):
        sheet.fill(ring, AGENT_RGB.get(agents.category[k], AGENT_RGB["other"]))
        sheet.line(ring, (255, 255, 255), 0.0, closed=True)
        if agents.category[k] in ARROWED:
            _draw_nose(sheet, ring)
        if agents.brake_light[k]:
            sheet.line(ring[2:4], BRAKE_RGB, 0.55)
        if agents.indicator[k]:
            sheet.line(ring[[0, 3]] if agents.indicator[k] > 0 else ring[[1, 2]], INDICATOR_RGB, 0.45)


def _draw_nose(sheet: _Sheet, ring_xy_m: np.ndarray) -> None:
    """A pale triangle that points forward; corners run front left, front right, rear right, rear left."""
    front, middle = ring_xy_m[:2].mean(axis=0), ring_xy_m.mean(axis=0)
    side = 0.35 * (ring_xy_m[0] - ring_xy_m[1])
    base = middle + 0.3 * (front - middle)
    sheet.fill(np.stack([middle + 0.88 * (front - middle), base + side, base - side]), (240, 240, 240))


def _draw_plan(sheet: _Sheet, xy_m: np.ndarray, rgb: RGB) -> None:
    """A trajectory with a dot a second (every tenth point)."""
    sheet.line(np.vstack([sheet.ego.xy_in_local_m[None], xy_m]), rgb, 0.3)
    for point in xy_m[9::10]:
        sheet.dot(point, 0.35, rgb)


def _draw_ego(sheet: _Sheet, ego: EgoState) -> None:
    ring = box_corners(
        ego.centre_xy_in_local_m, np.array(ego.yaw_rad), np.array(ego.size_m[0]), np.array(ego.size_m[1])
    )
    sheet.fill(ring, EGO_RGB)
    sheet.line(ring, (255, 255, 255), 0.25, closed=True)
    _draw_nose(sheet, ring)


def _draw_lights(sheet: _Sheet, lights: LightArrays) -> None:
    """Each head's state where its lane must stop, and a bar across the lane in the same colour."""
    for k in range(len(lights)):
        rgb = LIGHT_RGB.get(lights.state[k], LIGHT_RGB["off"])
        stop = np.asarray(lights.stop_xy_in_local_m[k], float)
        across = rotate(np.array([0.0, 1.4]), lights.yaw_rad[k])
        sheet.line(np.stack([stop - across, stop + across]), rgb, 0.5)
        sheet.dot(stop, 1.15, (30, 30, 32))
        sheet.dot(stop, 0.85, rgb)
