"""Groups of drives of the same scenes, with everything at hand to recompute what the policy's words were worth.

Each scene is driven by `group_size` members that differ only in their random numbers. Kept per decision: the sample
as the policy saw it, the tokens that it wrote, and their log-probabilities when they were written; and other paths for
the same words where the policy draws some. A scene that breaks
or a policy that raises or stalls makes a rollout with a failure, counted apart. Knows nothing of rewards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from causaldrive.clips.types import Sample
from causaldrive.ground.progress import Meter
from causaldrive.ground.words import FUTURE_STEPS, STEP_S
from causaldrive.rl.policy import StudentPolicy, sample_of
from causaldrive.student.generate import Generated
from causaldrive.worlds.episode import EpisodeResult, Observation, Plan, Spec
from causaldrive.worlds.pool import Asked, BrokenScene, Reply, WorldPool


@dataclass(frozen=True)
class Job:
    """One drive to be made: which scene (by index into the iteration's scenes) and which member of its group."""

    scene: int
    member: int
    spec: Spec


@dataclass(frozen=True)
class Spoken:
    """One decision as the policy saw and said it."""

    sample: Sample
    token_ids: tuple[int, ...]  # completion, up to and including <|traj_future_start|>
    logprobs: np.ndarray  # (len(token_ids),) float32, under the sampling temperature
    chosen: int  # how many of the tokens the policy chose itself: the last one of a truncated text is forced
    chain: np.ndarray | None = None  # (S + 1, 64, 2) states of the flow-SDE, when the decoder is trained
    given: int = 0  # how many of the first tokens were given and are not to be learnt from
    every: int = 1  # of those that follow, one in so many is to be learnt from

    @property
    def places(self) -> range:
        """Of the tokens that are to be learnt from."""
        return range(self.given, self.chosen, self.every)


@dataclass(frozen=True)
class Drawn:
    """Another answer at a decision, of the same words or of its own: all that was written, and where it leads."""

    spoken: Spoken  # words and path, of which the path is chosen and the words are given
    text: str
    said: int  # how many tokens of its words the policy chose itself
    xy_in_rig_m: np.ndarray  # (64, 2)
    yaw_rad: np.ndarray  # (64,)

    @property
    def word_ids(self) -> tuple[int, ...]:
        return self.spoken.token_ids[: self.spoken.given]

    @property
    def words(self) -> Spoken:
        """The same answer where its words are what is to be learnt from."""
        return replace(self.spoken, given=0, chosen=self.said)

    def of_axis(self, axis: int, until_s: float = FUTURE_STEPS * STEP_S) -> Spoken:
        """What was spoken of acceleration (0) or of curvature (1) up to then: they take turns, a pair a step."""
        spoken = self.spoken
        last = spoken.given + 2 * round(until_s / STEP_S)
        return replace(spoken, given=spoken.given + axis, chosen=min(spoken.chosen, last), every=2)


@dataclass
class Rollout:
    """One finished drive: its words and its result, or why it failed."""

    job: Job
    spoken: list[Spoken] = field(default_factory=list)
    result: EpisodeResult | None = None
    failure: str | None = None
    drawn: list[list[Drawn]] = field(default_factory=list)  # per decision, none unless the policy draws several paths


def jobs_of(specs: Sequence[Spec], group_size: int) -> list[Job]:
    """All members of all scenes, scene by scene."""
    return [Job(scene, member, spec) for scene, spec in enumerate(specs) for member in range(group_size)]


def roll(jobs: Sequence[Job], policy: StudentPolicy, pool: WorldPool, batch: int, label: str) -> list[Rollout]:
    """Drive every job to its end, at most `batch` side by side; rollouts come in the order of the jobs."""
    rollouts = [Rollout(job) for job in jobs]
    asked = Asked(_Members(policy), pool.settings)
    with Meter(label, total=len(jobs), unit="drives") as meter, asked:
        for start in range(0, len(jobs), batch):
            for _ in _roll_together(rollouts[start : start + batch], policy, asked, pool):
                meter.advance()
    return rollouts


class _Members:
    """A student asked with the member of its group beside each observation."""

    def __init__(self, policy: StudentPolicy):
        self.policy = policy

    def act(self, observations: Sequence[tuple[Observation, int]]) -> list[Plan | Exception]:
        return self.policy.plan([seen for seen, _ in observations], [member for _, member in observations])


def _roll_together(
    rollouts: Sequence[Rollout], policy: StudentPolicy, asked: Asked, pool: WorldPool
) -> Iterator[Rollout]:
    """Advance all of them step by step; yields each as it ends."""
    replies: dict[int, Reply] = pool.start([(key, rollout.job.spec) for key, rollout in enumerate(rollouts)])
    while replies:
        seeing: dict[int, Observation] = {}
        for key in sorted(replies):
            reply = replies[key]
            if isinstance(reply, Observation):
                seeing[key] = reply
            else:
                yield _close(rollouts[key], reply)
        replies = _advance(rollouts, seeing, policy, asked, pool) if seeing else {}


def _advance(
    rollouts: Sequence[Rollout], seeing: dict[int, Observation], policy: StudentPolicy, asked: Asked, pool: WorldPool
) -> dict[int, Reply]:
    keys = sorted(seeing)
    plans = asked.act([(seeing[key], rollouts[key].job.member) for key in keys])
    for key, plan in zip(keys, plans, strict=True):
        if isinstance(plan, Plan):
            rollouts[key].spoken.append(spoken_of(seeing[key], plan, policy))
            rollouts[key].drawn.append(drawn_of(rollouts[key].spoken[-1], plan))
    return pool.advance(list(zip(keys, plans, strict=True)))


def spoken_of(observation: Observation, plan: Plan, policy: StudentPolicy) -> Spoken:
    """What the trainer needs of one plan of a StudentPolicy."""
    generated: Generated = plan.notes["generated"]
    return Spoken(
        sample=sample_of(observation, policy.processor.config),
        token_ids=tuple(generated.token_ids),
        logprobs=np.asarray(generated.logprobs, np.float32),
        chosen=len(generated.token_ids) - int(generated.truncated),
        chain=plan.notes.get("chain"),
    )


def drawn_of(spoken: Spoken, plan: Plan) -> list[Drawn]:
    """The other paths that a plan's policy spelt in tokens for the same words."""
    others: Sequence[Generated] = plan.notes.get("others", ())
    return [
        Drawn(
            Spoken(
                sample=spoken.sample,
                token_ids=(*other.token_ids, *other.traj_token_ids),
                logprobs=np.asarray([*other.logprobs, *other.traj_logprobs], np.float32),
                chosen=len(other.token_ids) + len(other.traj_token_ids),
                given=len(other.token_ids),
            ),
            other.trace,
            len(other.token_ids) - int(other.truncated),
            other.xyz_in_rig_m[:, :2],
            other.yaw_rad,
        )
        for other in others
        if other.traj_token_ids
    ]


def _close(rollout: Rollout, reply: EpisodeResult | BrokenScene) -> Rollout:
    if isinstance(reply, BrokenScene):
        rollout.failure = f"scene broke: {reply.reason}"
    elif reply.score is None:
        rollout.failure = f"policy failed: {reply.failure}"
    else:
        rollout.result = reply
        assert len(reply.decisions) == len(rollout.spoken), "one decision per text"
    return rollout
