"""Labels that take asking: many keyframes of several recordings at once, in one process.

A recording is opened when there is room for its keyframes; each keyframe is asked, validated and, where a critic is
configured, judged; when a recording's last keyframe is done its labels are handed over. What a recording lacks sets it
aside, what makes asking on senseless stops the run; every reply is in the cache by then. Knows nothing of shards.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from causaldrive.clips.store import read_recording
from causaldrive.ground.errors import UserError
from causaldrive.label.budget import Purse, StopAsking
from causaldrive.label.cause_critic import Judge, cause_critic
from causaldrive.label.critic import Critic, CriticConfig
from causaldrive.label.endpoint import Counts, Endpoint, EndpointConfig
from causaldrive.label.keyframes import Keyframe
from causaldrive.label.labelling import checked, criticised
from causaldrive.label.openai_teacher import OpenAiTeacher, TeacherConfig
from causaldrive.label.proactive import keyframes_of
from causaldrive.label.recording_view import RecordingView, view_of
from causaldrive.label.reply_cache import ReplyCache
from causaldrive.label.seen import past_of, pictures_ahead
from causaldrive.label.teachers import teacher_of
from causaldrive.label.types import CocLabel

Finished = Callable[[Path, list[CocLabel], str | None], None]  # recording, labels, why it was set aside
_AHEAD = 16  # keyframes of a recording whose pictures are read in one pass
PurseOf = Callable[[str, EndpointConfig], Purse]  # role (teacher, critic), endpoint -> what pays its requests


def own_purse(role: str, config: EndpointConfig) -> Purse:
    """The whole budget of a role, for a process that asks alone."""
    return config.budget()


@dataclass(frozen=True)
class AskSettings:
    """Who is asked, and where replies are kept. A teacher other than `openai` is not asked but may be judged."""

    teacher: str
    openai: TeacherConfig
    critic: CriticConfig
    every_s: float
    cache: Path
    profile: str = "causaldrive"
    counterfactual: bool = False
    drive_causes: bool = False
    proactive: bool = False

    def roles(self) -> Mapping[str, EndpointConfig]:
        """Who is asked, by the names of `Asked`; nobody where the teacher computes and no critic is wanted."""
        teacher = {"teacher": self.openai} if self.teacher == OpenAiTeacher.name else {}
        return teacher | ({"critic": self.critic} if self.critic.wanted else {})

    @property
    def asks(self) -> bool:
        """Whether any model is asked at all."""
        return bool(self.roles())

    @property
    def concurrency(self) -> int:
        return max((config.concurrency for config in self.roles().values()), default=1)


@dataclass
class Asked:
    """What asking took, per role."""

    teacher: Counts = field(default_factory=Counts)
    critic: Counts = field(default_factory=Counts)

    def add(self, other: Asked) -> None:
        """Count another share in."""
        self.teacher.add(other.teacher)
        self.critic.add(other.critic)


@dataclass
class _Open:
    """A recording under way: its view, its keyframes, the labels so far, and why it was set aside."""

    directory: Path
    view: RecordingView
    labels: list[CocLabel | None]
    left: int
    judge: Judge | None  # of causes, where that is asked for
    reason: str | None = None


@dataclass(frozen=True)
class _Job:
    """One keyframe to be labelled, with the pictures that were read ahead for it."""

    opened: _Open
    number: int
    keyframe: Keyframe
    pictures: Mapping[int, str]


def ask_all(
    directories: Sequence[Path], settings: AskSettings, finished: Finished, asked: Asked, purse_of: PurseOf = own_purse
) -> None:
    """Label every recording; `finished` is called once for each, in the order in which they end.

    `asked` counts what it takes. Raises StopAsking when asking on makes no sense, with everything that was answered in
    the cache.
    """
    asyncio.run(_ask_all(directories, settings, finished, asked, purse_of))


async def _ask_all(
    directories: Sequence[Path], settings: AskSettings, finished: Finished, asked: Asked, purse_of: PurseOf
) -> None:
    jobs: asyncio.Queue[_Job] = asyncio.Queue(maxsize=settings.concurrency)
    async with AsyncExitStack() as stack:
        asker = await _asker(settings, asked, purse_of, stack)
        try:
            async with asyncio.TaskGroup() as group:
                workers = [group.create_task(_work(jobs, asker, finished)) for _ in range(settings.concurrency)]
                await _open_all(directories, settings, jobs, finished)
                await jobs.join()
                for worker in workers:
                    worker.cancel()
        except BaseExceptionGroup as group_error:
            raise _first(group_error) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _asker(settings: AskSettings, asked: Asked, purse_of: PurseOf, stack: AsyncExitStack) -> Asker:
    cache, at = ReplyCache(settings.cache), {}
    for role, config in settings.roles().items():
        at[role] = await stack.enter_async_context(Endpoint(config, cache, purse_of(role, config)))
        at[role].counts = getattr(asked, role)
    return Asker(settings, at.get("teacher"), at.get("critic"))


async def _open_all(
    directories: Sequence[Path], settings: AskSettings, jobs: asyncio.Queue, finished: Finished
) -> None:
    for directory in directories:
        try:
            view = await asyncio.to_thread(lambda where=directory: view_of(read_recording(where), settings.profile))
        except UserError as error:
            finished(directory, [], str(error))
            continue
        keyframes = keyframes_of(view, settings.every_s, settings.proactive)
        wanted = settings.counterfactual or settings.drive_causes
        judge = cause_critic(view, settings.drive_causes) if wanted else None
        opened = _Open(directory, view, [None] * len(keyframes), len(keyframes), judge)
        if not keyframes:
            finished(directory, [], None)
        for first in range(0, len(keyframes), _AHEAD):
            part = keyframes[first : first + _AHEAD]
            pictures = await asyncio.to_thread(_read_ahead, view, part, settings)
            for number, keyframe in enumerate(part, first):
                await jobs.put(_Job(opened, number, keyframe, pictures))


def _read_ahead(view: RecordingView, keyframes: Sequence[Keyframe], settings: AskSettings) -> Mapping[int, str]:
    """What the teacher will be shown; nothing where it cannot be read, so that who needs it says why."""
    if "teacher" not in settings.roles():
        return {}
    try:
        return pictures_ahead(view, [keyframe.t0_us for keyframe in keyframes], settings.openai)
    except UserError:
        return {}


async def _work(jobs: asyncio.Queue, asker: Asker, finished: Finished) -> None:
    while True:
        job = await jobs.get()
        opened = job.opened
        try:
            if opened.reason is None:
                opened.labels[job.number] = await asker.label(opened.view, job.keyframe, opened.judge, job.pictures)
        except StopAsking:
            raise
        except UserError as error:
            opened.reason = str(error)
        opened.left -= 1
        if opened.left == 0:
            labels = [] if opened.reason else [label for label in opened.labels if label is not None]
            finished(opened.directory, labels, opened.reason)
        jobs.task_done()


class Asker:
    """Labels one keyframe: teacher, validators, critic."""

    def __init__(self, settings: AskSettings, teacher: Endpoint | None, critic: Endpoint | None):
        self._settings, self._teacher_at, self._critic_at = settings, teacher, critic
        self._asked = OpenAiTeacher(settings.openai) if teacher else None
        self._present = None if teacher else teacher_of(settings.teacher)
        self._critic = Critic(settings.critic) if critic else None

    async def label(
        self, view: RecordingView, keyframe: Keyframe, judge: Judge | None = None,
        pictures: Mapping[int, str] | None = None,
    ) -> CocLabel:  # fmt: skip
        """The label of one keyframe, checked and judged. Raises UserError for what the recording lacks."""
        if self._asked and self._teacher_at:
            past = await asyncio.to_thread(past_of, view, keyframe.t0_us, self._settings.openai, ready=pictures)
            answer = await self._asked.explain(view, keyframe, past, self._teacher_at)
        else:
            assert self._present is not None, "a teacher is either asked or at hand"
            answer = self._present.explain(view, keyframe)
        label = checked(answer, view)
        if judge:
            label = criticised(label, judge)
        if self._critic and self._critic_at and label.status == "accepted":
            past = await asyncio.to_thread(past_of, view, label.t0_us, self._settings.critic)
            label = await self._critic.judge(view, label, past, self._critic_at)
        return label
