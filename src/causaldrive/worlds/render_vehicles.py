"""Bodies and lamps of cars, trucks and buses, below 150 triangles each.

A vehicle stands on z = 0 with its middle at the origin, x forward. Lamps are larger than real ones, because a brake
light must be seen in a 320 x 192 picture. Knows nothing of Panda3D or of the scene.
"""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.render_mesh import RGB, Mesh, block, disc, frustum, join, polygons

GLASS_RGB, TYRE_RGB, TRIM_RGB, HUB_RGB = (38, 46, 58), (26, 26, 28), (36, 37, 40), (150, 152, 156)
BRAKE_RGB, TAIL_RGB, INDICATOR_RGB, HEADLAMP_RGB = (255, 26, 16), (96, 10, 14), (255, 150, 0), (250, 246, 220)
Size = tuple[float, float, float]  # length, width, height


def car_body(size_m: Size, rgb: RGB, far: bool = False) -> Mesh:
    length, width, height = size_m
    a, b = length / 2, width / 2
    sill, belt = 0.16 * height, 0.58 * height
    glass = frustum((-0.86 * a, 0.42 * a, -0.92 * b, 0.92 * b, belt), (-0.62 * a, 0.1 * a, -0.74 * b, 0.74 * b, height),
                    GLASS_RGB, rgb)  # fmt: skip
    hull = frustum((-a, a, -b, b, sill), (-0.97 * a, 0.95 * a, -0.96 * b, 0.96 * b, belt), rgb)
    wheels = _wheels(size_m, min(0.34, 0.24 * height), (-0.6, 0.62), far)
    return join([hull, glass, _rear_panel(size_m, "car"), *wheels])


def truck_body(size_m: Size, rgb: RGB, far: bool = False) -> Mesh:
    """A coloured cab and a pale box behind it; short trucks are mostly cab, like vans."""
    length, width, height = size_m
    a, b = length / 2, width / 2
    cab = min(2.2, 0.4 * length)
    cab_top, floor = 0.8 * height, 0.2 * height
    pale = tuple(int(0.25 * c + 0.75 * 226) for c in rgb)
    box = frustum((-a, a - cab, -b, b, floor), (-a, a - cab, -b, b, height), pale)
    chassis = frustum((-a, a, -0.8 * b, 0.8 * b, 0.1 * height), (-a, a, -0.8 * b, 0.8 * b, floor), TRIM_RGB)
    front = frustum((a - cab, a, -0.96 * b, 0.96 * b, floor), (a - cab, a - 0.1, -0.94 * b, 0.94 * b, cab_top), rgb)
    screen = _wall_x(a - 0.02, 0.86 * b, 0.48 * height, 0.72 * height, GLASS_RGB)
    sides = [_wall_y(side * 0.975 * b, a - 0.8 * cab, a - 0.25 * cab, 0.48 * height, 0.7 * height, GLASS_RGB)
             for side in (1, -1)]  # fmt: skip
    wheels = _wheels(size_m, min(0.5, 0.2 * height), (-0.62, 0.72), far)
    return join([chassis, box, front, screen, *sides, _rear_panel(size_m, "truck"), *wheels])


def bus_body(size_m: Size, rgb: RGB, far: bool = False) -> Mesh:
    length, width, height = size_m
    a, b = length / 2, width / 2
    hull = frustum((-a, a, -b, b, 0.1 * height), (-a, a, -b, b, height), rgb, (236, 236, 236))
    low, high = 0.46 * height, 0.82 * height
    panes = [_wall_y(side * (b + 0.02), -0.94 * a, 0.94 * a, low, high, GLASS_RGB) for side in (1, -1)]
    ends = [_wall_x(side * (a + 0.02), 0.86 * b, low, high, GLASS_RGB) for side in (1, -1)]
    wheels = _wheels(size_m, min(0.5, 0.18 * height), (-0.58, 0.62), far)
    return join([hull, *panes, *ends, _rear_panel(size_m, "bus"), *wheels])


def lamps(size_m: Size, category: str, brake: bool, indicator: int) -> Mesh:
    """Self-lit parts. `indicator` 1 is left, -1 right: orange at both corners of that side and along its flank."""
    a, b, height = size_m[0] / 2, size_m[1] / 2, size_m[2]
    low, high = _lamp_band(category, height)
    rear, front = -a - 0.06, a + 0.03
    reach, grow = (0.34, 0.05) if brake else (0.26, 0.0)  # lit lamps glow past their glass
    parts = [_patch_x(front, side * 0.74 * b, 0.34 * b, low, high, HEADLAMP_RGB) for side in (1, -1)]
    colour = BRAKE_RGB if brake else TAIL_RGB
    parts += [_patch_x(rear, side * 0.72 * b, reach * 2 * b, low - grow, high + grow, colour) for side in (1, -1)]
    if brake:
        top = 0.93 * height if category == "car" else 0.9 * height
        depth = -0.74 * a if category == "car" else rear
        parts.append(_patch_x(depth, 0.0, 0.8 * b, top - 0.07, top + 0.05, BRAKE_RGB))
    if indicator:
        parts += _indicator(size_m, (low, high), 1 if indicator > 0 else -1)
    return join(parts)


def _indicator(size_m: Size, band_m: tuple[float, float], side: int) -> list[Mesh]:
    a, b = size_m[0] / 2, size_m[1] / 2
    low, high = band_m[0] - 0.1, band_m[1] + 0.12
    rear = [_patch_x(-a - 0.09, side * 0.86 * b, 0.46 * b, low, high, INDICATOR_RGB)]
    front = [_patch_x(a + 0.05, side * 0.86 * b, 0.4 * b, low, high, INDICATOR_RGB)]
    spans = ((-a, -a + 0.5), (-0.12, 0.32), (a - 0.5, a))
    flank = [_wall_y(side * (b + 0.04), x0, x1, low, high, INDICATOR_RGB) for x0, x1 in spans]
    return rear + front + flank


def _lamp_band(category: str, height_m: float) -> tuple[float, float]:
    """Heights between which the tail lamps stand."""
    if category == "car":
        return 0.36 * height_m, 0.55 * height_m
    return 0.24 * height_m, 0.24 * height_m + 0.34


def _rear_panel(size_m: Size, category: str) -> Mesh:
    """A dark strip behind the tail lamps: they stand out on any paint."""
    low, high = _lamp_band(category, size_m[2])
    return _wall_x(-size_m[0] / 2 - 0.03, 0.49 * size_m[1], low - 0.05, high + 0.05, TRIM_RGB)


def _wheels(size_m: Size, radius_m: float, axles: tuple[float, ...], far: bool) -> list[Mesh]:
    """More than half of a car's triangles are in its wheels; from afar their faces alone look the same."""
    parts = []
    for x in (share * size_m[0] / 2 for share in axles):
        for side in (1.0, -1.0):
            y = side * size_m[1] / 2
            face = disc((x, y + side * 0.03, radius_m), (0.0, side, 0.0), radius_m, TYRE_RGB)
            if far:
                parts.append(face)
                continue
            hub = disc((x, y + side * 0.05, radius_m), (0.0, side, 0.0), 0.5 * radius_m, HUB_RGB, sides=5)
            tyre = block((x, y - side * 0.11, radius_m / 2), (1.2 * radius_m, 0.24, radius_m), TYRE_RGB)
            parts += [tyre, face, hub]
    return parts


def _wall_x(x_m: float, half_width_m: float, low_m: float, high_m: float, rgb: RGB) -> Mesh:
    """An upright patch facing forward where x > 0, backward where x < 0."""
    return _patch_x(x_m, 0.0, 2 * half_width_m, low_m, high_m, rgb)


def _patch_x(x_m: float, y_m: float, width_m: float, low_m: float, high_m: float, rgb: RGB) -> Mesh:
    y0, y1 = y_m - width_m / 2, y_m + width_m / 2
    corners = np.array([[x_m, y0, low_m], [x_m, y1, low_m], [x_m, y1, high_m], [x_m, y0, high_m]])
    return polygons((corners if x_m > 0 else corners[::-1])[None], rgb)


def _wall_y(y_m: float, x0_m: float, x1_m: float, low_m: float, high_m: float, rgb: RGB) -> Mesh:
    """An upright patch facing left where y > 0, right where y < 0."""
    corners = np.array([[x0_m, y_m, low_m], [x1_m, y_m, low_m], [x1_m, y_m, high_m], [x0_m, y_m, high_m]])
    return polygons((corners[::-1] if y_m > 0 else corners)[None], rgb)
