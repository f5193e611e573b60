"""The `openai` teacher: any OpenAI-compatible model writes the label, in two calls per keyframe.

The first call is made of a `Past` alone and names causes; the second gets those causes and the future as motion and
meta actions, and fixes the decision and which causes bind. No cause can come from the future, since the call that names
them is never shown it. What cannot be used becomes a row with its reason. Knows nothing of files or validators.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.words import (
    CAUSE_CATEGORIES,
    CAUSE_KINDS,
    DIRECTED_LATERAL,
    LATERAL_DECISIONS,
    LONGITUDINAL_DECISIONS,
)
from causaldrive.label.endpoint import Endpoint, EndpointConfig, Request, converse
from causaldrive.label.keyframes import Keyframe
from causaldrive.label.prompts import prompt_hash, read_prompt
from causaldrive.label.recording_view import RecordingView
from causaldrive.label.replies import (
    BadReply,
    causes_schema,
    decision_schema,
    read_binding,
    read_causes,
    read_decision,
    without_thinking,
)
from causaldrive.label.seen import HISTORY_S, Past, Sight, future_rows, past_of
from causaldrive.label.teachers import Rejection, compose_label
from causaldrive.label.types import Cause, CocLabel

TRACES = ("composed", "model")


@dataclass(frozen=True)
class ModelConfig(Sight, EndpointConfig):
    """A model at an endpoint, and how it is shown a moment."""

    prompts: Path | None = None  # directory of own prompt templates; the package's where none is named
    asks: int = 2  # how often one question is put before an answer that cannot be used is given up

    def check(self, option: str) -> None:
        """Raises UserError for a setting that cannot work."""
        EndpointConfig.check(self, option)
        Sight.check(self, option)
        if self.asks < 1:
            raise UserError(f"--{option}.asks is {self.asks}; at least 1 expected.")


@dataclass(frozen=True)
class TeacherConfig(ModelConfig):
    """The model that writes labels."""

    trace: str = "composed"  # composed: of the decision and the causes that bind; model: the model's own sentence

    def check(self, option: str) -> None:
        """Raises UserError for a setting that cannot work."""
        super().check(option)
        if self.trace not in TRACES:
            raise unknown_name(f"--{option}.trace", self.trace, TRACES)


def messages_of(system: str, user: str, pictures: tuple[str, ...] = ()) -> tuple[dict, ...]:
    """The two messages of a prompt; plain text where there is no picture, as text-only models want it."""
    if not pictures:
        return ({"role": "system", "content": system}, {"role": "user", "content": user})
    shown = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
    return (
        {"role": "system", "content": system},
        {"role": "user", "content": [*shown, {"type": "text", "text": user}]},
    )


class OpenAiTeacher:
    """Two calls per keyframe to one endpoint."""

    name = "openai"

    def __init__(self, config: TeacherConfig):
        self.config = config
        self._causes = read_prompt("causes", config.prompts)
        self._decision = read_prompt("decision", config.prompts)
        schemas = json.dumps([causes_schema(), decision_schema()])
        self.prompt_hash = prompt_hash((self._causes, self._decision), schemas)

    def ask_causes(self, past: Past) -> Request:
        """The first call: made of the past alone."""
        system, user = self._causes.render(
            seconds=HISTORY_S, pictures=past.picture_s, ego_history=past.ego_rows, scene=past.scene,
            categories=CAUSE_CATEGORIES, kinds=CAUSE_KINDS,
        )  # fmt: skip
        messages = messages_of(system, user, past.pictures)
        return Request(messages, "causes", causes_schema(), self.config.max_tokens)

    def ask_decision(self, view: RecordingView, t0_us: int, causes: tuple[Cause, ...]) -> Request:
        """The second call: the causes, and the future as motion and meta actions."""
        system, user = self._decision.render(
            causes=causes, ego_future=future_rows(view, t0_us), meta_future=view.meta_words(t0_us)[1],
            lane_future=view.lane_words(t0_us), longitudinal=LONGITUDINAL_DECISIONS, lateral=LATERAL_DECISIONS,
            directed=DIRECTED_LATERAL,
        )  # fmt: skip
        return Request(messages_of(system, user), "decision", decision_schema(), self.config.max_tokens)

    async def explain(
        self, view: RecordingView, keyframe: Keyframe, past: Past, endpoint: Endpoint
    ) -> CocLabel | Rejection:
        """The label of one keyframe, or why there is none; a word outside the closed sets rejects it."""
        causes: tuple[Cause, ...] = ()
        try:
            causes = await converse(
                endpoint, self.ask_causes(past), lambda answer: read_causes(answer, keyframe.t0_us), self.config.asks
            )
            request = self.ask_decision(view, keyframe.t0_us, causes)
            decision, binding, said = await converse(
                endpoint,
                request,
                lambda answer: (read_decision(answer), read_binding(answer, causes), str(answer.get("trace") or "")),
                self.config.asks,
            )
        except BadReply as fault:
            status = "rejected" if fault.kind == "outside_closed_sets" else "unscored"
            return Rejection(str(fault), self._stamped(self._bare(view, keyframe, causes)), status)
        label = self._stamped(compose_label(view, keyframe, self.name, decision, binding))
        said = " ".join(without_thinking(said).split())
        return replace(label, trace=said) if self.config.trace == "model" and said else label

    def estimate(self, view: RecordingView, keyframe: Keyframe) -> tuple[Request, Request]:
        """The two requests of a keyframe as a dry run counts them: three causes assumed, nothing asked."""
        named = tuple(Cause("critical_object", "the car ahead is braking", "lead_vehicle") for _ in range(3))
        past = past_of(view, keyframe.t0_us, self.config)
        return self.ask_causes(past), self.ask_decision(view, keyframe.t0_us, named)

    def _bare(self, view: RecordingView, keyframe: Keyframe, causes: tuple[Cause, ...]) -> CocLabel:
        label = compose_label(view, keyframe, self.name, (None, None, None), causes)
        return replace(label, trace="")

    def _stamped(self, label: CocLabel) -> CocLabel:
        return replace(label, prompt_hash=self.prompt_hash, model=self.config.model, endpoint=self.config.host)
