"""Rewards to advantages: each reward is compared within its own group, then the parts are added with their weights.

    A_i(k)  = (r_i(k) - mean) / max(std, floor)        over the members of a group
    A(k)    = b(k) (w_drive (A_step + A_episode) / 2 + w_reasoning A_reasoning + w_consistency A_consistency)
    b(k)    = n(class of the true decision at k)^-balance, scaled to mean 1

Group of a step reward: the drives of one scene at one decision index; all decisions of the scene where fewer than two
members still drive. Group of the episode reward: the drives of one scene. The floor keeps a constant reward at zero
and tiny differences tiny. Balancing matters: on a clear road nothing has to be explained most of the time, and without
it the best lesson is to say that always. Paths that were drawn for the words of one decision are compared with each
other alone (`path_lessons`), and words then do not answer for consistency. Decisions whose advantage is zero teach
nothing; they are dropped and counted. Knows nothing of tokens or models.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from causaldrive.label.consistency import deciding_s
from causaldrive.label.trace import parse
from causaldrive.rl.rewards import (
    REWARDS,
    StepRewards,
    episode_reward,
    outcome_rewards,
    path_rewards,
    reasoning_reward,
    step_rewards,
)
from causaldrive.rl.rollouts import Drawn, Rollout, Spoken
from causaldrive.worlds.episode import DecisionRecord
from causaldrive.worlds.explanation import Explanation

STD_FLOOR = 0.1
_NOTHING = 1e-8  # an advantage below this is rounding


@dataclass(frozen=True)
class Weights:
    """What each reward counts, and how far rare decisions are lifted (0: not at all, 1: all classes count alike)."""

    drive: float
    reasoning: float
    consistency: float
    balance: float = 0.0


@dataclass(frozen=True)
class Lesson:
    """One decision to learn from.

    `group` is (scene, decision index), the index -1 where the whole scene is the group; of a path (scene, decision
    index, member, axis).
    """

    spoken: Spoken
    group: tuple[int, ...]
    advantage: float


@dataclass(frozen=True)
class Judged:
    """One driven decision with its rewards."""

    rollout: Rollout
    index: int  # of the decision in its drive
    rewards: StepRewards

    @property
    def decision(self) -> DecisionRecord:
        """As it was driven."""
        assert self.rollout.result is not None
        return self.rollout.result.decisions[self.index]

    @property
    def truth(self) -> Explanation:
        """What is true there."""
        return self.decision.truth

    @property
    def drawn(self) -> list[Drawn]:
        """The other answers at the decision."""
        return self.rollout.drawn[self.index] if self.rollout.drawn else []

    @property
    def has_own_words(self) -> bool:
        """Whether other words were drawn here."""
        driven = self.rollout.spoken[self.index].token_ids
        return any(answer.word_ids != driven for answer in self.drawn)

    @cached_property
    def words_advantages(self) -> np.ndarray:
        """(1 + K,) reasoning advantages of the words that were driven and of the others, within this one decision."""
        others = [reasoning_reward(parse(answer.text), self.truth) for answer in self.drawn]
        return normalised([self.rewards.reasoning, *others], [0] * (1 + len(others)))

    @property
    def truth_class(self) -> tuple[str, str, str | None]:
        """(longitudinal, lateral, kind of the first cause), as sft balances its samples."""
        truth = self.truth
        return truth.longitudinal, truth.lateral, truth.causes[0].kind if truth.causes else None


@dataclass(frozen=True)
class Lessons:
    """What an iteration teaches, and how many decisions taught nothing."""

    rows: list[Lesson]
    without_variance: int


def judge_rollouts(rollouts: Sequence[Rollout], decision_every_s: float, duration_s: float) -> list[Judged]:
    """Every decision of every drive that was scored."""
    return [
        Judged(rollout, index, rewards)
        for rollout in rollouts
        if rollout.result is not None
        for index, rewards in enumerate(step_rewards(rollout.result, decision_every_s, duration_s))
    ]


def lessons_of(judged: Sequence[Judged], weights: Weights) -> Lessons:
    """Advantages of all decisions; those with none are left out. A scene that was driven once says nothing of driving:
    how hard its places are is all that its decisions differ by. Where paths were drawn, they answer for keeping to the
    words; blamed for it too, words would learn to say what the car happens to do."""
    groups = step_groups([(one.rollout.job.scene, one.index) for one in judged])
    parts = {name: normalised([getattr(one.rewards, name) for one in judged], groups) for name in REWARDS}
    parts["reasoning"] = np.array([one.words_advantages[0] if one.has_own_words else a
                                   for one, a in zip(judged, parts["reasoning"], strict=True)])  # fmt: skip
    drive = 0.5 * (parts["drive"] + _episode_advantages(judged))
    agreement = np.where([bool(one.drawn) for one in judged], 0.0, parts["consistency"])
    driven = weights.drive * drive + weights.consistency * agreement
    total = weights.reasoning * parts["reasoning"] + np.where(_has_company(judged), driven, 0.0)
    total *= balancing([one.truth_class for one in judged], weights.balance)
    rows = [
        Lesson(one.rollout.spoken[one.index], group, float(advantage))
        for one, group, advantage in zip(judged, groups, total, strict=True)
        if abs(advantage) > _NOTHING
    ]
    return Lessons(rows, len(judged) - len(rows))


def _has_company(judged: Sequence[Judged]) -> np.ndarray:
    """(N,) whether another drive of the same scene was scored."""
    members: defaultdict[int, set[int]] = defaultdict(set)
    for one in judged:
        members[one.rollout.job.scene].add(one.rollout.job.member)
    return np.array([len(members[one.rollout.job.scene]) > 1 for one in judged], bool)


def word_lessons(judged: Sequence[Judged], weights: Weights) -> Lessons:
    """The other words of each decision, compared with each other and with the driven ones by their reasoning reward.

    All were written from one place, so nothing but the words can make the difference.
    """
    lift = balancing([one.truth_class for one in judged], weights.balance)
    rows, dumb = [], 0
    for one, b in zip(judged, lift, strict=True):
        if not one.has_own_words:
            continue
        found = b * weights.reasoning * one.words_advantages[1:]
        group = (one.rollout.job.scene, one.index, one.rollout.job.member)
        taught = _taught([answer.words for answer in one.drawn], found, group)
        rows += taught
        dumb += len(found) - len(taught)
    return Lessons(rows, dumb)


def path_lessons(judged: Sequence[Judged], weights: Weights, tried_s: float = 0.0, mirrored: bool = False) -> Lessons:
    """The paths drawn at each decision, compared with each other by how well they do what the words say.

        A(axis) = b(k) (w_consistency A_consistency(axis) + w_drive A_outcome(axis))     within the paths of a decision

    All of them were drawn from one place, so nothing but the answer can make the difference. Outcomes are compared
    where paths were tried, among those whose words are right. Tokens of acceleration answer for the longitudinal axis
    and those of curvature for the lateral one: rewarded for the whole, a path keeps to its lane by not getting far.
    Those beyond the time that the words are judged by, or that the paths were tried for (`tried_s`), answer for
    nothing; blamed with the rest they are but noise.

    Where paths are `mirrored`, each is compared with its twin alone (`_compare_twins`): what is learnt is to which side
    to go. Compared with all, most of what is learnt is to stay near the middle of what is drawn, since whatever is far
    from it fails on either side; and the middle, which is what is driven, stays where it is.
    """
    lift = balancing([one.truth_class for one in judged], weights.balance)
    compare = _compare_twins if mirrored else _compare
    rows, dumb = [], 0
    for one, b in zip(judged, lift, strict=True):
        drawn = one.drawn
        kept_word, outcome = path_rewards(one.decision, drawn), outcome_rewards(one.decision, drawn)
        for axis in range(kept_word.shape[1]):
            group = (one.rollout.job.scene, one.index, one.rollout.job.member, axis)
            found = weights.consistency * compare(kept_word[:, axis]) + weights.drive * compare(outcome[:, axis])
            taught = _taught([_deciding(path, axis, tried_s) for path in drawn], b * found, group)
            rows += taught
            dumb += len(drawn) - len(taught)
    return Lessons(rows, dumb)


def _deciding(path: Drawn, axis: int, tried_s: float) -> Spoken:
    """The tokens of an axis on which the comparison can depend."""
    return path.of_axis(axis, max(deciding_s(parse(path.text))[axis], tried_s))


def _compare(rewards: np.ndarray) -> np.ndarray:
    """(K,) advantages among those that have a reward; 0 for the others."""
    known = np.flatnonzero(~np.isnan(rewards))
    out = np.zeros(len(rewards))
    out[known] = normalised(rewards[known].tolist(), [0] * len(known))
    return out


def _compare_twins(rewards: np.ndarray) -> np.ndarray:
    """(K,) half of what each of two neighbours has more than the other, by the spread of all; 0 without a reward."""
    pairs = rewards.reshape(-1, 2)
    known = rewards[~np.isnan(rewards)]
    out = (pairs - pairs.mean(1, keepdims=True)) / max(known.std() if len(known) else 0.0, STD_FLOOR)
    return np.nan_to_num(out).reshape(-1)


def _taught(spoken: Sequence[Spoken], advantages: np.ndarray, group: tuple[int, ...]) -> list[Lesson]:
    """A lesson for each answer that is better or worse than the others of its group."""
    rows = zip(spoken, advantages, strict=True)
    return [Lesson(answer, group, float(a)) for answer, a in rows if abs(a) > _NOTHING]


def balancing(classes: Sequence[Hashable], power: float) -> np.ndarray:
    """(N,) weights count(class)^-power, scaled to mean 1."""
    counts = Counter(classes)
    weights = np.array([counts[name] ** -power for name in classes])
    return weights / weights.mean() if len(weights) else weights


def step_groups(places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Group of each (scene, decision index): itself, or (scene, -1) where only one drive got that far."""
    count: defaultdict[tuple[int, int], int] = defaultdict(int)
    for place in places:
        count[place] += 1
    return [place if count[place] > 1 else (place[0], -1) for place in places]


def normalised(rewards: Sequence[float], groups: Sequence[Hashable]) -> np.ndarray:
    """(N,) advantages. A lone decision in a group (scene, -1) is compared with all decisions of its scene."""
    values = np.asarray(rewards, float)
    members: defaultdict[Hashable, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    out = np.zeros(len(values))
    for group, rows in members.items():
        compared = values[_compared(group, rows, groups)]
        out[rows] = (values[rows] - compared.mean()) / max(compared.std(), STD_FLOOR)
    return out


def _compared(group: Hashable, rows: list[int], groups: Sequence[Hashable]) -> list[int]:
    if isinstance(group, tuple) and len(group) == 2 and group[1] == -1:
        return [i for i, other in enumerate(groups) if isinstance(other, tuple) and other[0] == group[0]]
    return rows


def _episode_advantages(judged: Sequence[Judged]) -> np.ndarray:
    """(N,) each drive's terminal advantage among the drives of its scene, on every one of its decisions."""
    drives = {id(one.rollout): one.rollout for one in judged}
    scores = [rollout.result.score for rollout in drives.values() if rollout.result and rollout.result.score]
    assert len(scores) == len(drives)
    found = normalised([episode_reward(score) for score in scores], [r.job.scene for r in drives.values()])
    by_drive = dict(zip(drives, found, strict=True))
    return np.array([by_drive[id(one.rollout)] for one in judged])
