"""Teachers: who writes the label of a keyframe.

`expert` lets the privileged expert of the worlds look at the recording's own agents, lights and map; `motion` has no
perception at hand, decides from the motion and marks the cause as unobserved. Causal locality holds by construction:
the function that names causes is handed states up to t0 and nothing else. Reads a `RecordingView`. Knows nothing of
files or validators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.words import DIRECTED_LATERAL
from causaldrive.label.consistency import LIMITS, PlannedMotion, SideProfile, SpeedProfile, judge
from causaldrive.label.human import Fitted, fit_to_human
from causaldrive.label.keyframes import Keyframe
from causaldrive.label.recording_view import PRIVILEGED_SOURCE, RecordingView
from causaldrive.label.trace import UNOBSERVED, ParsedTrace, compose
from causaldrive.label.types import Cause, CocLabel
from causaldrive.worlds.expert import Explanation, Factor, explain
from causaldrive.worlds.state import SceneContext, WorldState


@dataclass(frozen=True)
class Rejection:
    """The teacher would not label this moment; `label` holds what it had in hand, for the record."""

    reason: str
    label: CocLabel
    status: str = "rejected"  # 'unscored' where no answer that can be read came


class Teacher(Protocol):
    """Writes one label; a moment that it cannot explain becomes a `Rejection`, never a guess."""

    name: str

    def explain(self, view: RecordingView, keyframe: Keyframe) -> CocLabel | Rejection: ...


def teacher_of(name: str) -> Teacher:
    """A teacher that computes. Raises UserError for a name that is not known."""
    if name not in TEACHERS:
        raise unknown_name("teacher", name, (*TEACHERS, "openai"))  # which is asked, and so is no `Teacher`
    return TEACHERS[name]()


class ExpertTeacher:
    """The privileged expert; on a human's drive only what the human's motion bears out."""

    name = "expert"

    def explain(self, view: RecordingView, keyframe: Keyframe) -> CocLabel | Rejection:
        if view.recording.agents is None:
            raise UserError(
                f"{view.recording.recording_id} has no agents, which the expert teacher needs; use --teacher motion."
            )
        t0_us = keyframe.t0_us
        explanation = name_causes(view.history_states(t0_us), view.context, t0_us)
        if view.recording.source == PRIVILEGED_SOURCE:
            return self._label(view, keyframe, _fitted(explanation))
        fitted = fit_to_human(explanation, view.motion_from(t0_us))
        if isinstance(fitted, str):
            return Rejection(fitted, self._label(view, keyframe, _fitted(explanation)))
        return self._label(view, keyframe, fitted)

    def _label(self, view: RecordingView, keyframe: Keyframe, fitted: Fitted) -> CocLabel:
        causes = tuple(_cause(factor) for factor in fitted.factors)
        return compose_label(view, keyframe, self.name, (fitted.longitudinal, fitted.lateral, fitted.direction), causes)


def name_causes(history: Sequence[WorldState], context: SceneContext, t0_us: int) -> Explanation:
    """The expert's explanation from what was seen up to t0: no state of the future can be passed in."""
    assert history and all(state.t_us <= t0_us for state in history), "causes must come from states up to t0"
    return explain(history, context)


def trace_of(explanation: Explanation) -> str:
    """What the expert says of a moment of a world whose every cause is known."""
    fitted = _fitted(explanation)
    causes = tuple(_cause(factor) for factor in fitted.factors)
    return compose(fitted.longitudinal, fitted.lateral, fitted.direction, causes)


def _fitted(explanation: Explanation) -> Fitted:
    lateral = explanation.lateral
    direction = explanation.direction if lateral in DIRECTED_LATERAL else None
    return Fitted(explanation.longitudinal, lateral, direction, tuple(explanation.causes))


def _cause(factor: Factor) -> Cause:
    return Cause(factor.category, factor.text, factor.kind, factor.agent_id, factor.evidence_t_us)


class MotionTeacher:
    """Decision from the motion that followed; the cause is marked unobserved, never invented."""

    name = "motion"

    def explain(self, view: RecordingView, keyframe: Keyframe) -> CocLabel | Rejection:
        motion = view.motion_from(keyframe.t0_us)
        lateral, direction = lateral_of_motion(motion)
        cause = Cause("odd_constraint", UNOBSERVED, "unobserved")
        decision = (longitudinal_of_motion(motion), lateral, direction)
        return compose_label(view, keyframe, self.name, decision, (cause,))


def longitudinal_of_motion(motion: PlannedMotion) -> str:
    """The decision that claims least: standing is a stop, slowing an adapted speed, all else the set speed."""
    speed = SpeedProfile(motion.speed_mps, LIMITS)
    if speed.stands or (speed.slows and float(speed.v.min()) <= LIMITS.still_mps):
        return "stop_for_static_constraint"
    return "speed_adaptation" if speed.slows else "set_speed_tracking"


def lateral_of_motion(motion: PlannedMotion) -> tuple[str | None, str | None]:
    """(lateral, direction). None where a bare path cannot tell a lane change from anything else."""
    side = SideProfile(motion, None, LIMITS)
    if judge(ParsedTrace(None, "lane_keeping", None, ()), motion).lateral:
        return "lane_keeping", None
    if not side.on_route:
        return None, None
    moves = side.course - side.course[0]
    direction = "left" if moves.max() >= -moves.min() else "right"
    wide = side.peak() > LIMITS.widest_nudge_m
    return ("lane_change" if wide else "out_of_lane_nudge"), direction


def compose_label(
    view: RecordingView,
    keyframe: Keyframe,
    teacher: str,
    decision: tuple[str | None, str | None, str | None],
    causes: tuple[Cause, ...],
) -> CocLabel:
    """The label of a decision and its causes, its trace composed of them; no prompt was sent."""
    meta_history, meta_future = view.meta_words(keyframe.t0_us)
    return CocLabel(
        recording_id=view.recording.recording_id,
        t0_us=keyframe.t0_us,
        origin=keyframe.origin,
        decision_longitudinal=decision[0],
        decision_lateral=decision[1],
        direction=decision[2],
        causes=causes,
        trace=compose(*decision, causes),
        meta_history=meta_history,
        meta_future=meta_future,
        teacher=teacher,
        prompt_hash="",
    )


TEACHERS: dict[str, type[ExpertTeacher] | type[MotionTeacher]] = {"expert": ExpertTeacher, "motion": MotionTeacher}
