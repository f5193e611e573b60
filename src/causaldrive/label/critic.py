"""The critic: another model grades a label by the rubric 0 to 5, as often as asked for.

    grade of a vote = min(behaviour, causality)      score = median of votes / 5      spread = largest - smallest

Source of the rubric: arXiv 2511.00088, section 5.3 (there it is a reward). A vote that cannot be read is no vote; a
label without any vote is unscored, not zero. Reads a `Past`, the motion that followed and a label. Knows nothing of
files.
"""

from __future__ import annotations

import asyncio
import json
import statistics
from dataclasses import dataclass, replace

from causaldrive.ground.errors import UserError
from causaldrive.label.endpoint import Endpoint, EndpointConfig, Request, converse
from causaldrive.label.openai_teacher import ModelConfig, messages_of
from causaldrive.label.prompts import prompt_hash, read_prompt
from causaldrive.label.recording_view import RecordingView
from causaldrive.label.replies import BadReply, critic_schema, read_grades
from causaldrive.label.seen import Past, future_rows
from causaldrive.label.types import CocLabel, Verdict

TOP = 5


@dataclass(frozen=True)
class CriticConfig(ModelConfig):
    """The model that judges labels which the validators pass; none where no URL is named."""

    votes: int = 1  # how often each label is judged; the median counts
    least: float = 3.0  # a label whose median grade is lower is rejected
    itself: bool = False  # let the very model that wrote the labels judge them

    @property
    def wanted(self) -> bool:
        return bool(self.url or self.model)

    def check(self, option: str) -> None:
        """Raises UserError for a setting that cannot work."""
        super().check(option)
        if self.votes < 1 or not 0 <= self.least <= TOP:
            raise UserError(
                f"--{option}.votes {self.votes} and --{option}.least {self.least} found; at least one vote and a grade "
                f"from 0 to {TOP} expected."
            )

    def refuse_itself(self, teacher: EndpointConfig) -> None:
        """Raises UserError when teacher and critic are one and the same, unless that is wanted."""
        if not self.itself and (self.host, self.model) == (teacher.host, teacher.model):
            raise UserError(
                f"teacher and critic are both {self.model} at {self.host}, and would agree with themselves; name "
                "another model with --critic.model, or say --critic.itself."
            )


class Critic:
    """Judges labels at one endpoint."""

    def __init__(self, config: CriticConfig):
        self.config = config
        self._prompt = read_prompt("critic", config.prompts)
        self.prompt_hash = prompt_hash((self._prompt,), json.dumps(critic_schema()))

    def request(self, view: RecordingView, label: CocLabel, past: Past, vote: int) -> Request:
        """What one vote asks; the last picture alone is shown, as in the paper."""
        system, user = self._prompt.render(
            trace=label.trace, longitudinal=label.decision_longitudinal, lateral=label.decision_lateral,
            direction=label.direction, causes=label.causes, ego_history=past.ego_rows,
            ego_future=future_rows(view, label.t0_us), meta_future=label.meta_future, scene=past.scene,
            pictures=past.picture_s[-1:],
        )  # fmt: skip
        messages = messages_of(system, user, past.pictures[-1:])
        return Request(messages, "grades", critic_schema(), self.config.max_tokens, f"vote {vote}")

    async def judge(self, view: RecordingView, label: CocLabel, past: Past, endpoint: Endpoint) -> CocLabel:
        """The label with the critic's verdict and the status that follows from it."""
        requests = [self.request(view, label, past, vote) for vote in range(self.config.votes)]
        votes = await asyncio.gather(*(self._vote(request, endpoint) for request in requests))
        verdict = self._verdict([vote for vote in votes if not isinstance(vote, BadReply)], votes)
        status = {True: label.status, False: "rejected", None: "unscored"}[verdict.passed]
        return replace(label, verdicts=(*label.verdicts, verdict), status=status)

    async def _vote(self, request: Request, endpoint: Endpoint) -> tuple[int, int, str] | BadReply:
        try:
            return await converse(endpoint, request, read_grades, self.config.asks)
        except BadReply as fault:
            return fault

    def _verdict(self, graded: list[tuple[int, int, str]], votes: list[tuple[int, int, str] | BadReply]) -> Verdict:
        name = f"critic {self.config.model}"
        if not graded:
            return Verdict(name, None, None, f"no vote can be read: {votes[0]}")
        grades = sorted(min(behaviour, causality) for behaviour, causality, _ in graded)
        median = statistics.median(grades)
        lowest = min(graded, key=lambda vote: min(vote[:2]))
        reason = (
            f"grade {median:g} of {TOP} (behaviour {statistics.median(v[0] for v in graded):g}, causality "
            f"{statistics.median(v[1] for v in graded):g}; {len(graded)} of {len(votes)} votes, spread "
            f"{grades[-1] - grades[0]}): {lowest[2]}"
        )
        return Verdict(name, median >= self.config.least, median / TOP, reason)
