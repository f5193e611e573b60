"""The counterfactual critic: is a named cause one, that is, would the driver have decided otherwise without it?

    binds(c) = D(scene without the other named) differs from D(scene without all named)

D is the privileged expert's decision. The others are taken out on both sides, so that one of two causes that ask for
the same is not excused by the other. Works on every recording with annotated agents, real logs included: the scene is
that of the recording, edited in the 2 s up to t0. In the town the expert is also driver and teacher, so there the
critic cannot find the expert's own errors of judgement; what it finds is a label that the scene does not bear out.
Knows nothing of teachers or files.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from causaldrive.label.recording_view import RecordingView
from causaldrive.label.scene_checks import unknown, verdict
from causaldrive.label.types import Cause, CocLabel, Verdict
from causaldrive.worlds.expert import Explanation, explain
from causaldrive.worlds.state import AgentArrays, LightArrays, SceneContext, WorldState

NAME = "counterfactual"
LEAST_MPS2 = 0.25  # less difference of acceleration is none: the expert binds from 0.3 on
LEAST_M = 0.3
_STRAIGHT_M = 200


def counterfactual(label: CocLabel, view: RecordingView) -> Verdict:
    """Fails where some named cause changes nothing; cannot judge without annotations or causes that can be removed."""
    history = view.history_states(label.t0_us)
    testable = [cause for cause in label.causes if cause.agent_id is not None or cause.kind == "sharp_curve"]
    if view.recording.agents is None or not history:
        return unknown(NAME, "the recording lists no agents to take away")
    if not testable:
        reason = "no cause is named" if not label.causes else "no named cause can be taken away"
        return unknown(NAME, reason)
    idle = [cause for cause in testable if not binds(cause, testable, history, view.context)]
    return verdict(NAME, [f"without '{cause.text}' the driver would have decided the same" for cause in idle])


def binds(cause: Cause, named: Sequence[Cause], history: Sequence[WorldState], context: SceneContext) -> bool:
    """Whether the expert's decision at the last state hangs on the cause, the other named ones being away."""
    if cause.kind == "sharp_curve":
        bare = [replace(state, agents=AgentArrays(), lights=LightArrays()) for state in history]
        return _differs(explain(bare, context), explain(bare, _straightened(context, history[-1])))
    others = {c.agent_id for c in named if c.agent_id is not None and c is not cause} - {cause.agent_id}
    scene = [_without(state, others) for state in history]
    if cause.kind == "green_light":  # a light that turned green is a reason because it changed
        return _differs(explain(scene, context), explain([_held_red(s, cause.agent_id) for s in scene], context))
    return _differs(explain(scene, context), explain([_without(s, {cause.agent_id}) for s in scene], context))


def _differs(first: Explanation, second: Explanation) -> bool:
    faster = abs(first.acceleration_mps2 - second.acceleration_mps2) >= LEAST_MPS2
    aside = abs(first.lateral_offset_m - second.lateral_offset_m) >= LEAST_M
    return faster or aside or first.lateral != second.lateral


def _without(state: WorldState, names: Collection[str | None]) -> WorldState:
    """The state without some agents and lights."""
    agents, lights = ([name not in names for name in things.ids] for things in (state.agents, state.lights))
    return replace(state, agents=state.agents.keep(agents), lights=state.lights.keep(lights))


def _held_red(state: WorldState, light_id: str | None) -> WorldState:
    shown = ["red" if name == light_id else now for name, now in zip(state.lights.ids, state.lights.state, strict=True)]
    return replace(state, lights=replace(state.lights, state=shown))


def _straightened(context: SceneContext, now: WorldState) -> SceneContext:
    """The same wish to go on, straight ahead from where the ego is."""
    ahead = np.array([np.cos(now.ego.yaw_rad), np.sin(now.ego.yaw_rad)])
    route = now.ego.xy_in_local_m + np.arange(-20, _STRAIGHT_M)[:, None] * ahead
    return replace(context, route_xy_in_local_m=route)
