"""Labels of one recording: keyframes, teacher, validators. What a worker process runs.

Reads one recording directory, writes one shard of labels. A recording that cannot be used comes back with its
reason. Knows nothing of other recordings or of reports.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from causaldrive.clips.store import read_recording
from causaldrive.ground.errors import UserError
from causaldrive.label.cause_critic import Judge, cause_critic
from causaldrive.label.endpoint import UNANSWERED
from causaldrive.label.proactive import keyframes_of
from causaldrive.label.recording_view import RecordingView, view_of
from causaldrive.label.store import write_labels
from causaldrive.label.teachers import Rejection, Teacher, teacher_of
from causaldrive.label.types import CocLabel, Verdict
from causaldrive.label.validators import validate


@dataclass(frozen=True)
class ShardTask:
    """One recording to label, and where its labels go."""

    directory: Path
    shard: Path
    teacher: str
    every_s: float
    profile: str = "causaldrive"
    counterfactual: bool = False
    drive_causes: bool = False
    proactive: bool = False


@dataclass(frozen=True)
class ShardResult:
    """`reason` tells why the recording was set aside; None when its shard was written."""

    task: ShardTask
    reason: str | None = None


def label_shard(task: ShardTask) -> ShardResult:
    """Label the recording and write its shard; what a user can cause sets this recording aside."""
    try:
        view = view_of(read_recording(task.directory), task.profile)
        labels = label_recording(view, teacher_of(task.teacher), task.every_s, task.proactive)
        if task.counterfactual or task.drive_causes:
            judge = cause_critic(view, task.drive_causes)
            labels = [criticised(label, judge) for label in labels]
    except UserError as error:
        return ShardResult(task, str(error))
    write_labels(task.shard, labels)
    return ShardResult(task)


def label_recording(
    view: RecordingView, teacher: Teacher, every_s: float = 0.0, proactive: bool = False
) -> list[CocLabel]:
    """One label a keyframe, validated; what the teacher rejects stays as a rejected row with its reason."""
    keyframes = keyframes_of(view, every_s, proactive)
    return [checked(teacher.explain(view, keyframe), view) for keyframe in keyframes]


def checked(answer: CocLabel | Rejection, view: RecordingView) -> CocLabel:
    """A teacher's answer as a row: validated, or kept with the reason why there is no label."""
    if isinstance(answer, CocLabel):
        return validate(answer, view.evidence(answer.t0_us))
    judged = (False, 0.0) if answer.status == "rejected" else (None, None)
    return replace(answer.label, verdicts=(Verdict("teacher", *judged, answer.reason),), status=answer.status)


def unanswered(label: CocLabel) -> bool:
    """Whether nobody answered for this keyframe, which another time may mend."""
    return label.status == "unscored" and any(
        verdict.check == "teacher" and verdict.reason.startswith(UNANSWERED) for verdict in label.verdicts
    )


def criticised(label: CocLabel, judge: Judge) -> CocLabel:
    """An accepted label with the verdict of the critic of causes; other labels as they are."""
    if label.status != "accepted":
        return label
    verdict = judge(label)
    status = "rejected" if verdict.passed is False else label.status
    return replace(label, verdicts=(*label.verdicts, verdict), status=status)
