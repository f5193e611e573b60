"""A dry run: the requests that a label run would send, counted and priced, none of them sent.

Prompt tokens are estimated from the very messages; replies are counted at their longest, so the figures are upper
bounds for one try per question. Prints a table. Knows nothing of endpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from causaldrive.clips.store import read_recording
from causaldrive.ground.errors import UserError
from causaldrive.label.asking import AskSettings
from causaldrive.label.budget import Usage, most_of
from causaldrive.label.critic import Critic
from causaldrive.label.endpoint import Request
from causaldrive.label.keyframes import Keyframe
from causaldrive.label.openai_teacher import OpenAiTeacher
from causaldrive.label.proactive import keyframes_of
from causaldrive.label.recording_view import RecordingView, view_of
from causaldrive.label.seen import past_of
from causaldrive.label.teachers import MotionTeacher
from causaldrive.label.types import CocLabel


def print_estimate(directories: Sequence[Path], settings: AskSettings) -> None:
    """Print requests, tokens and money per role over all keyframes; a recording that cannot be used is named."""
    totals = {"teacher": [0, Usage()], "critic": [0, Usage()]}
    keyframes = 0
    for directory in directories:
        try:
            view = view_of(read_recording(directory), settings.profile)
            found = keyframes_of(view, settings.every_s, settings.proactive)
            asked = [(role, request) for keyframe in found for role, request in _requests(view, keyframe, settings)]
        except UserError as error:
            print(f"label: would set aside {directory}: {error}")
            continue
        keyframes += len(found)
        for role, request in asked:
            totals[role][0] += 1
            totals[role][1] = totals[role][1].plus(most_of(request))
    print(f"label: dry run, nothing is asked: {keyframes} keyframes of {len(directories)} recordings")
    for role, option, config in (("teacher", "openai", settings.openai), ("critic", "critic", settings.critic)):
        count, usage = totals[role]
        if count:
            money = f"money unknown without --{option}.price-in and --{option}.price-out"
            if config.price_in or config.price_out:
                money = f"at most {usage.money(config.price_in, config.price_out):.4f} money at the prices given"
            print(f"label: {role} {config.model}: {count} requests, about {usage.tokens_in} prompt tokens, at most "
                  f"{usage.tokens_out} reply tokens, {money}")  # fmt: skip


def _requests(view: RecordingView, keyframe: Keyframe, settings: AskSettings) -> Iterator[tuple[str, Request]]:
    if settings.teacher == OpenAiTeacher.name:
        for request in OpenAiTeacher(settings.openai).estimate(view, keyframe):
            yield "teacher", request
    if settings.critic.wanted:
        past = past_of(view, keyframe.t0_us, settings.critic)
        label = MotionTeacher().explain(view, keyframe)  # about as long as any label
        assert isinstance(label, CocLabel)
        for vote in range(settings.critic.votes):
            yield "critic", Critic(settings.critic).request(view, label, past, vote)
