"""Bodies of everything that is not a car: people, riders, animals, cones, barriers, signs.

Each stands on z = 0 with its middle at the origin, x forward, scaled to its size. Knows nothing of Panda3D or of
the scene.
"""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.render_mesh import RGB, Mesh, block, disc, frustum, join, moved, rod
from causaldrive.worlds.render_signs import stop_face
from causaldrive.worlds.render_vehicles import TYRE_RGB, Size

SKIN_RGB, HAIR_RGB, TROUSERS_RGB, FRAME_RGB = (222, 174, 140), (58, 40, 30), (44, 52, 84), (60, 64, 70)
WAVING = 2  # the `stride` of one who stands and has a hand up
VEST_RGB, LAMP_RGB = (214, 255, 40), (255, 30, 24)
FUR_RGB, CONE_RGB, SIGN_RGB, POLE_RGB, WHITE_RGB = (
    (122, 88, 58),
    (255, 106, 20),
    (206, 22, 28),
    (150, 152, 156),
    (244,) * 3,
)


def pedestrian_body(size_m: Size, rgb: RGB, stride: int) -> Mesh:
    """`stride`: 0 stands, 1 and -1 are the two halves of a step, 2 stands with a hand up."""
    height = size_m[2]
    width = float(np.clip(size_m[1], 0.45, 0.75))
    hip, shoulder = 0.47 * height, 0.82 * height
    reach = 0.0 if stride == WAVING else stride * 0.17 * height
    parts = []
    for side in (1, -1):
        swing = side * reach
        y = side * 0.19 * width
        parts.append(rod((0.0, y, hip), (swing, y, 0.0), 0.085 * height / 1.7, TROUSERS_RGB))
        arm = side * 0.52 * width
        if stride == WAVING and side > 0:
            parts += _raised_arm(side * 0.42 * width, shoulder, height / 1.7, rgb)
            continue
        parts.append(rod((0.0, arm, shoulder), (-swing * 0.8, arm, 0.47 * height), 0.06 * height / 1.7, rgb))
    torso = frustum(
        (-0.13, 0.13, -0.36 * width, 0.36 * width, hip), (-0.15, 0.15, -0.5 * width, 0.5 * width, shoulder), rgb
    )
    return join([*parts, torso, *_head(0.0, shoulder, height)])


def _raised_arm(y_m: float, shoulder_m: float, scale: float, rgb: RGB) -> list[Mesh]:
    """Forward and up, thicker than an arm at rest and with a large hand, so that it is seen from afar."""
    hand = (0.5 * scale, 1.4 * y_m, shoulder_m + 0.42 * scale)
    arm = rod((0.0, y_m, shoulder_m - 0.06 * scale), hand, 0.1 * scale, rgb)
    return [arm, block(hand, (0.18 * scale, 0.18 * scale, 0.24 * scale), SKIN_RGB)]


def _head(x_m: float, neck_m: float, top_m: float) -> list[Mesh]:
    head = top_m - neck_m
    face = block((x_m, 0.0, neck_m + 0.4 * head), (0.72 * head, 0.68 * head, 0.7 * head), SKIN_RGB)
    hair = block((x_m - 0.02, 0.0, neck_m + 0.84 * head), (0.8 * head, 0.76 * head, 0.32 * head), HAIR_RGB)
    return [face, hair]


def cyclist_body(size_m: Size, rgb: RGB) -> Mesh:
    length, height = size_m[0], size_m[2]
    radius = min(0.36, 0.2 * length)
    reach = length / 2 - radius
    wheels = _thin_wheels((reach, -reach), radius, 0.06)
    frame = [
        rod((-reach, 0.0, radius), (0.1, 0.0, 0.55), 0.04, FRAME_RGB, 3),
        rod((reach, 0.0, radius), (reach - 0.15, 0.0, 0.62 * height), 0.04, FRAME_RGB, 3),
        rod((-0.15, 0.0, 0.5 * height), (reach - 0.1, 0.0, 0.52 * height), 0.04, FRAME_RGB, 3),
    ]
    return join([*wheels, *frame, *_rider(height, 0.52 * height, reach, rgb), *_seen_from_behind(height, reach)])


def _seen_from_behind(height_m: float, reach_m: float) -> list[Mesh]:
    """What makes a cyclist one from far: a bright vest with its band, a helmet, a red lamp over the rear wheel."""
    vest = frustum((-0.36, -0.0, -0.3, 0.3, 0.52 * height_m), (-0.12, 0.24, -0.32, 0.32, 0.84 * height_m), VEST_RGB)
    band = block((-0.19, 0.0, 0.67 * height_m), (0.3, 0.66, 0.09 * height_m), WHITE_RGB)
    helmet = block((0.1, 0.0, 0.97 * height_m), (0.34, 0.3, 0.1 * height_m), WHITE_RGB)
    lamp = disc((-reach_m - 0.1, 0.0, 0.4 * height_m), (-1.0, 0.0, 0.0), 0.13, LAMP_RGB)
    return [vest, band, helmet, lamp]


def motorcycle_body(size_m: Size, rgb: RGB) -> Mesh:
    length, height = size_m[0], size_m[2]
    radius = min(0.36, 0.2 * length)
    reach = length / 2 - radius
    wheels = _thin_wheels((reach, -reach), radius, 0.16)
    tank = frustum(
        (-0.7 * reach, 0.75 * reach, -0.2, 0.2, 0.3), (-0.6 * reach, 0.5 * reach, -0.16, 0.16, 0.55 * height), rgb
    )
    lamp = block((-reach, 0.0, 0.52 * height), (0.1, 0.26, 0.14), (190, 20, 20))
    return join([*wheels, tank, lamp, *_rider(height, 0.55 * height, reach, FRAME_RGB)])


def _thin_wheels(at_x_m: tuple[float, ...], radius_m: float, width_m: float) -> list[Mesh]:
    parts = []
    for x in at_x_m:
        for side in (1.0, -1.0):
            parts.append(disc((x, side * width_m / 2, radius_m), (0.0, side, 0.0), radius_m, TYRE_RGB))
        parts.append(block((x, 0.0, radius_m), (1.2 * radius_m, width_m, 2 * radius_m), TYRE_RGB))
    return parts


def _rider(height_m: float, seat_m: float, reach_m: float, rgb: RGB) -> list[Mesh]:
    neck = 0.86 * height_m
    torso = frustum((-0.32, -0.02, -0.19, 0.19, seat_m), (-0.05, 0.22, -0.23, 0.23, neck), rgb)
    legs = [rod((-0.15, side * 0.14, seat_m), (0.12, side * 0.14, 0.22), 0.09, TROUSERS_RGB) for side in (1, -1)]
    arms = [
        rod((0.1, side * 0.22, 0.95 * neck), (0.6 * reach_m, side * 0.2, 0.66 * height_m), 0.06, rgb)
        for side in (1, -1)
    ]
    return [torso, *legs, *arms, *_head(0.12, neck, height_m)]


def animal_body(size_m: Size, rgb: RGB) -> Mesh:
    length, width, height = size_m
    legs = [
        rod((x * length, y * width, 0.5 * height), (x * length, y * width, 0.0), 0.05 * height, rgb)
        for x in (-0.32, 0.24)
        for y in (-0.3, 0.3)
    ]
    trunk = block((-0.05 * length, 0.0, 0.6 * height), (0.75 * length, 0.8 * width, 0.36 * height), rgb)
    head = block((0.42 * length, 0.0, 0.84 * height), (0.26 * length, 0.5 * width, 0.3 * height), rgb)
    return join([*legs, trunk, head])


def cone_body(size_m: Size, rgb: RGB) -> Mesh:
    radius, height = min(size_m[0], size_m[1]) / 2, size_m[2]
    foot = block((0.0, 0.0, 0.03), (2 * radius, 2 * radius, 0.06), rgb)
    low = rod((0.0, 0.0, 0.05), (0.0, 0.0, 0.4 * height), (0.8 * radius, 0.55 * radius), rgb, 6)
    band = rod((0.0, 0.0, 0.4 * height), (0.0, 0.0, 0.65 * height), (0.55 * radius, 0.35 * radius), WHITE_RGB, 6)
    tip = rod((0.0, 0.0, 0.65 * height), (0.0, 0.0, height), (0.35 * radius, 0.0), rgb, 6)
    return join([foot, low, band, tip])


def barrier_body(size_m: Size, rgb: RGB) -> Mesh:
    """Alternating coloured and white panels along the longer side."""
    along_x = size_m[0] >= size_m[1]
    length, depth, height = max(size_m[:2]), max(min(size_m[:2]), 0.12), size_m[2]
    panels = int(np.clip(round(length / 0.6), 2, 9))
    step = length / panels
    parts = [
        block((0.0, (k + 0.5) * step - length / 2, 0.5 * height), (depth, step, height), (rgb, WHITE_RGB)[k % 2])
        for k in range(panels)
    ]
    return moved(join(parts), (0.0, 0.0, 0.0), -np.pi / 2 if along_x else 0.0)


def sign_body(size_m: Size, rgb: RGB) -> Mesh:
    """A stop sign on a pole, the same from the front and from behind, a third larger than its box says.

    Logs annotate the plate alone, which then is a low box: it goes up to where such plates hang.
    """
    height = size_m[2] if size_m[2] > 1.4 else 2.3
    radius = float(np.clip(0.67 * max(size_m[:2]), 0.5, 0.8))
    face = stop_face(radius, height - radius, rgb)
    pole = rod((0.0, 0.0, 0.0), (0.0, 0.0, height - radius), 0.05, POLE_RGB)
    return join([pole, face, moved(face, (0.0, 0.0, 0.0), np.pi)])


def plain_body(size_m: Size, rgb: RGB) -> Mesh:
    return block((0.0, 0.0, size_m[2] / 2), size_m, rgb)
