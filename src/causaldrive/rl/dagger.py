"""What the expert would say and do where the student drove to: supervised samples of its own places (DAgger).

    sample_k = (what the student saw at k, the expert's reason there, the expert's way of the next 6.4 s)

A student learns from drives that are not its own; what it does where only its own mistakes lead nobody has shown it.
An answer whose words and way disagree is left out, as step 1 leaves it out. Reads judged decisions. Knows nothing of
files or losses. Source: Ross, Gordon and Bagnell 2011, algorithm 3.1, with the last round's places alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from causaldrive.clips.types import Sample
from causaldrive.label.teachers import trace_of
from causaldrive.label.trace import parse
from causaldrive.rl.advantages import Judged
from causaldrive.rl.rewards import consistency_reward, motion_shown
from causaldrive.worlds.episode import Shown


@dataclass(frozen=True)
class ShownAnswer:
    """One place with the expert's answer."""

    sample: Sample  # as the student saw it, with the expert's future
    trace: str
    decision_class: tuple[str, str, str | None]  # what sampling is balanced over


def shown_answers(judged: Sequence[Judged]) -> list[ShownAnswer]:
    """Of every decision at which the expert was asked and did what it said."""
    return [answer for one in judged if (answer := _answer(one)) is not None]


def _answer(one: Judged) -> ShownAnswer | None:
    shown, trace = one.decision.shown, trace_of(one.truth)
    if shown is None or not consistency_reward(parse(trace), motion_shown(one.decision, shown)):
        return None
    return ShownAnswer(_with_future(one.rollout.spoken[one.index].sample, shown), trace, one.truth_class)


def _with_future(sample: Sample, shown: Shown) -> Sample:
    xyz = np.column_stack([shown.xy_in_rig_m, np.zeros(len(shown.xy_in_rig_m))])
    return replace(sample, future_xyz_in_rig_m=xyz, future_yaw_rad=shown.yaw_rad)
