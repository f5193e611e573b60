"""Numbers and examples of a set of drives: what is logged per round and shown before and after.

Reads judged rollouts. Knows nothing of learning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from causaldrive.label.trace import compose
from causaldrive.label.types import Cause
from causaldrive.rl.advantages import Judged
from causaldrive.rl.rewards import episode_reward, outcome_rewards
from causaldrive.rl.rollouts import Rollout
from causaldrive.worlds.explanation import Explanation

_FAILURES_SHOWN = 5
_AXES = ("outcome_along", "outcome_aside")


def tally(rollouts: Sequence[Rollout], judged: Sequence[Judged]) -> dict[str, Any]:
    """Means over scored drives and their decisions; failures are counted apart. None where nothing was scored."""
    scores = [r.result.score for r in rollouts if r.result is not None and r.result.score is not None]
    steps = [one.rewards for one in judged]
    cut = [one.rollout.spoken[one.index] for one in judged]
    failures = [r.failure for r in rollouts if r.failure is not None]
    return {
        "drives": len(scores),
        "failures": len(failures),
        "failure_reasons": sorted(set(failures))[:_FAILURES_SHOWN],
        "decisions": len(steps),
        "reward_drive": _mean([s.drive for s in steps]),
        "reward_episode": _mean([episode_reward(s) for s in scores]),
        "reward_reasoning": _mean([s.reasoning for s in steps]),
        "reasoning_caused": _mean([one.rewards.reasoning for one in judged if one.truth.causes]),
        "reasoning_clear": _mean([one.rewards.reasoning for one in judged if not one.truth.causes]),
        "reward_consistency": _mean([s.consistency for s in steps]),
        **_outcomes(judged),
        "rubric": _mean([float(s.rubric) for s in steps]),
        "unreadable": _mean([float(not s.readable) for s in steps]),
        "truncated": _mean([float(s.chosen < len(s.token_ids)) for s in cut]),
        "scene_score": _mean([s.scene_score for s in scores]),
        "clean": _mean([float(s.clean) for s in scores]),
        "at_fault_collision": _mean([float(s.at_fault_collision) for s in scores]),
        "off_road": _mean([float(s.off_road) for s in scores]),
        "rule_breaking": _mean([float(s.rule_breaking) for s in scores]),
        "progress": _mean([s.progress for s in scores]),
        "comfort": _mean([s.comfort for s in scores]),
    }


def _outcomes(judged: Sequence[Judged]) -> dict[str, float]:
    """Mean outcome of the paths that were tried, by axis; nothing where none was."""
    rows = [outcome_rewards(one.decision, one.drawn) for one in judged if one.decision.outcomes]
    if not rows:
        return {}
    return {name: float(np.nanmean(axis)) for name, axis in zip(_AXES, np.concatenate(rows).T, strict=True)}


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def examples(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """One row a decision: scene, time, what was said, what was true, and the rewards."""
    return [
        {
            "scene": one.rollout.spoken[one.index].sample.recording_id,
            "index": one.index,
            "t_s": one.rollout.spoken[one.index].sample.t0_us * 1e-6,
            "text": _decision(one).text,
            "truth": truth_sentence(one.truth),
            "drive": one.rewards.drive,
            "reasoning": one.rewards.reasoning,
            "consistency": one.rewards.consistency,
            "rubric": one.rewards.rubric,
        }
        for one in judged
    ]


def _decision(one: Judged):
    assert one.rollout.result is not None
    return one.rollout.result.decisions[one.index]


def truth_sentence(truth: Explanation) -> str:
    """The expert's explanation in the words of a trace."""
    causes = [Cause(factor.category, factor.text, factor.kind, factor.agent_id) for factor in truth.causes]
    return compose(truth.longitudinal, truth.lateral, truth.direction, causes)
