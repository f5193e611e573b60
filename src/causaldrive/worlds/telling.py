"""How much of a cause a camera shows, and at which moment of a drive it shows most.

Measured in the picture itself: 'pixels that change when the thing is taken out of the state', so that what stands
behind something, lies off the picture or is too small counts for what it is. Knows nothing of families or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from causaldrive.clips.types import Camera
from causaldrive.worlds.expert_drive import Drive
from causaldrive.worlds.families.draft import default_camera
from causaldrive.worlds.renderer import RenderedScene
from causaldrive.worlds.state import WorldState

ENOUGH_PX = 2_000  # 3 % of the town's picture: more tells a person no more
LEAST_PX = 60  # below this a person sees a dot
_EVERY_TICKS = 3
_CHANGED = 24  # sum of the three channels' differences, 0..765
_CUT_WEIGHT = 0.4  # of what the picture's edge cuts off
_LIT_WEIGHT = 2.0  # brake lights, indicators and raised hands say more than the thing alone
_ROAD_SHARE = 0.7  # how far through the time in which the road itself is the cause


@dataclass(frozen=True)
class Moment:
    """A tick of a drive, and how many pixels the cause has there; None where the cause is the road itself."""

    index: int
    visible_px: int | None
    behind: bool = False  # it is seen in the rear camera only


def rear_camera() -> Camera:
    """The town's front camera, turned round and put at the rear window: 320x192, 75 degrees wide."""
    front = default_camera()
    w, x, y, z = front.rig_to_camera_quat
    return replace(front, name="rear", rig_to_camera_position_m=(-0.8, 0.0, 1.5),
                   rig_to_camera_quat=(-z, -y, x, w))  # fmt: skip


def visible(scene: RenderedScene, state: WorldState, name: str, camera: Camera | None = None) -> np.ndarray:
    """(H, W) bool: where the picture changes when the agent or light `name` is taken away."""
    agents, lights = state.agents, state.lights
    without = replace(state, agents=agents.keep([i != name for i in agents.ids]),
                      lights=lights.keep([i != name for i in lights.ids]))  # fmt: skip
    full, bare = (scene.render(s, camera).astype(np.int16) for s in (state, without))
    return np.abs(full - bare).sum(axis=2) > _CHANGED


def best_moment(driven: Drive, scene: RenderedScene, else_at: int | None = None) -> Moment:
    """Where to look: of the ticks at which the focus is named as cause (all ticks where it never is), the first that
    shows most of it. A cause no front camera sees is looked for in the rear one. Where the road itself is the focus and
    never named, it is `else_at` (the middle when None).
    """
    agent = driven.scene.focus_id
    ticks = _named(driven)
    if agent is None:
        last = len(driven.states) - 1
        run = _first_run(ticks) or [min(last // 2 if else_at is None else else_at, last)]
        return Moment(run[round(_ROAD_SHARE * (len(run) - 1))], None)
    ticks = (ticks or list(range(len(driven.states))))[::_EVERY_TICKS]
    front = [_weight(visible(scene, driven.states[k], agent)) for k in ticks]
    if max(front) >= LEAST_PX:
        return _first_best(ticks, front, behind=False, lit=[_lit(driven.states[k], agent) for k in ticks])
    rear = [_weight(visible(scene, driven.states[k], agent, rear_camera())) for k in ticks]
    return _first_best(ticks, rear, behind=True) if max(rear) > max(front) else _first_best(ticks, front, behind=False)


def _named(driven: Drive) -> list[int]:
    """Ticks at which the scene's focus is among the causes."""
    kind, agent = driven.scene.focus_kind, driven.scene.focus_id
    return [k for k, said in enumerate(driven.explanations)
            if any(c.kind == kind and agent in (None, c.agent_id) for c in said.causes)]  # fmt: skip


def _first_run(ticks: list[int]) -> list[int]:
    """The leading ticks without a gap."""
    return [k for place, k in enumerate(ticks) if k - ticks[0] == place]


def _weight(mask: np.ndarray) -> int:
    """Visible pixels, fewer where the left or right edge of the picture cuts the thing off; ENOUGH_PX at most."""
    count = int(mask.sum())
    cut = bool(mask[:, 0].any() or mask[:, -1].any())
    return min(int(count * (_CUT_WEIGHT if cut else 1.0)), ENOUGH_PX)


def _lit(state: WorldState, name: str) -> bool:
    """It shows a brake light, an indicator, or a hand."""
    agents = state.agents
    row = agents.ids.index(name) if name in agents.ids else None
    return row is not None and bool(agents.brake_light[row] or agents.indicator[row])


def _first_best(ticks: list[int], weights: list[int], behind: bool, lit: Sequence[bool] = ()) -> Moment:
    at = int(np.argmax(np.array(weights) * np.where(lit, _LIT_WEIGHT, 1.0) if len(lit) else weights))
    return Moment(ticks[at], weights[at], behind)
