"""Three rewards of a decision step, each in [0, 1], each on its own: drive, reasoning, consistency.

    drive_k       = (1 - h_k) (0.7 p_k + 0.3 c_k)
    drive_episode = scene score (1 - 0.5 [a rule was broken]) (0.8 + 0.2 comfort)
    reasoning_k   = 0.6 (longitudinal right + lateral and side right) / 2 + 0.4 F1(named cause kinds, true ones)
    consistency_k = 1 if the plan does what the text says on both axes, else 0
    outcome       = (1 - h) exp(-gap / scale)     of a path that was tried, by axis: gap to the expert's way, metres

p_k: metres driven during the step over the metres that the reference drive makes in that time on average, at most 1.
c_k: share of the step's ticks inside the comfort bounds. h_k: the worst harm that follows within 3 s, fading the
further off it is. Text that cannot be read earns 0 of both text rewards. Reads finished episodes; knows nothing of
models or advantages.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from causaldrive.ground.words import STEP_S
from causaldrive.label.consistency import LIMITS, PlannedMotion, judge
from causaldrive.label.trace import ParsedTrace, parse
from causaldrive.rl.rollouts import Drawn
from causaldrive.worlds.episode import WARM_UP_S, DecisionRecord, EpisodeResult, Plan, Shown, plan_speeds
from causaldrive.worlds.expert import Explanation
from causaldrive.worlds.scoring import Event, Score, comfort

REWARDS = ("drive", "reasoning", "consistency")
PROGRESS_SHARE, COMFORT_SHARE = 0.7, 0.3
DECISION_SHARE, CAUSE_SHARE = 0.6, 0.4
HARM = {"collision": 1.0, "off_road": 1.0, "red_light": 0.7, "wrong_way": 0.7, "speeding": 0.4, "close_encounter": 0.2}
LOOK_BACK_S = 3.0  # decisions this long before a harmful event share the blame
FADE_PER_S = 0.8  # share of the harm that is left per second between decision and event
PATH_BANDS_M = (0.3, 0.6, 1.2, 2.4)
OUTCOME_SCALES_M = (2.0, 0.5)  # along the route and aside
_PATH_LIMITS = tuple(replace(LIMITS, keep_band_m=band_m) for band_m in PATH_BANDS_M)
RULE_FACTOR = 0.5  # what is left of an episode's drive reward after a broken rule


@dataclass(frozen=True)
class StepRewards:
    """One decision step. `rubric` is the paper's 0-5 scale; `readable` says whether the text could be parsed."""

    drive: float
    reasoning: float
    consistency: float
    rubric: int
    readable: bool


def step_rewards(result: EpisodeResult, decision_every_s: float, duration_s: float) -> list[StepRewards]:
    """One per decision of a scored episode. `duration_s` is of the whole drive, warm-up included."""
    assert result.score is not None, "an episode that failed has no rewards"
    drive = drive_rewards(result, decision_every_s, duration_s)
    return [
        StepRewards(reward, *_text_rewards(decision)) for reward, decision in zip(drive, result.decisions, strict=True)
    ]


def _text_rewards(decision: DecisionRecord) -> tuple[float, float, int, bool]:
    parsed = parse(decision.text)
    truth = decision.truth
    return (
        reasoning_reward(parsed, truth),
        consistency_reward(parsed, motion_of(decision)),
        rubric(parsed, truth),
        is_readable(parsed),
    )


# --- drive ---------------------------------------------------------------------------------------------------------


def drive_rewards(result: EpisodeResult, decision_every_s: float, duration_s: float) -> list[float]:
    """drive_k per decision; see the module's head."""
    assert result.score is not None
    pace_m = reference_m(result.score) / (duration_s - WARM_UP_S) * decision_every_s
    return [_drive_step(result, decision, decision_every_s, pace_m) for decision in result.decisions]


def _drive_step(result: EpisodeResult, decision: DecisionRecord, every_s: float, pace_m: float) -> float:
    last = decision.tick + round(every_s / STEP_S)
    states = result.states[decision.tick : last + 1]
    metres = sum(max(state.ego.speed_mps, 0.0) * STEP_S for state in states[1:])
    progress = min(metres / pace_m, 1.0)
    good = PROGRESS_SHARE * progress + COMFORT_SHARE * comfort(states)
    return (1.0 - harm_ahead(result.events, decision.t_us)) * good


def reference_m(score: Score) -> float:
    """How far the reference drive came: distance / progress, at least 5 m (as the score has it)."""
    return max(score.distance_m / score.progress, 5.0) if score.progress > 0 else 5.0


def harm_ahead(events: Sequence[Event], t_us: int) -> float:
    """h = max over the ego's own events of the next 3 s of HARM[kind] * 0.8^(seconds until it)."""
    worst = 0.0
    for event in events:
        seconds = (event.t_us - t_us) * 1e-6
        if event.at_fault and 0.0 < seconds <= LOOK_BACK_S:
            worst = max(worst, HARM[event.kind] * FADE_PER_S**seconds)
    return worst


def episode_reward(score: Score) -> float:
    """Terminal drive reward of a whole episode."""
    rules = RULE_FACTOR if score.rule_breaking else 1.0
    return score.scene_score * rules * (0.8 + 0.2 * score.comfort)


# --- reasoning -----------------------------------------------------------------------------------------------------


def reasoning_reward(parsed: ParsedTrace, truth: Explanation) -> float:
    """0.6 share of right decision axes + 0.4 cause F1; 0 when the text cannot be read."""
    if not is_readable(parsed):
        return 0.0
    right = sum(decision_agreement(parsed, truth))
    return DECISION_SHARE * right / 2 + CAUSE_SHARE * cause_f1(parsed.cause_kinds, true_kinds(truth))


def rubric(parsed: ParsedTrace, truth: Explanation) -> int:
    """0-5 after the paper's critic: 5 all right, 4 causes mostly right, 3 causes wrong, 2 and 1 one axis wrong, 0 else.

    Both axes right: 5 with cause F1 = 1, 4 with F1 >= 0.5, else 3. One axis right: 2 with F1 >= 0.5, else 1. No axis
    right, or text that cannot be read: 0.
    """
    if not is_readable(parsed):
        return 0
    right = sum(decision_agreement(parsed, truth))
    f1 = cause_f1(parsed.cause_kinds, true_kinds(truth))
    if right == 2:
        return 5 if f1 == 1.0 else 4 if f1 >= 0.5 else 3
    return (2 if f1 >= 0.5 else 1) if right == 1 else 0


def is_readable(parsed: ParsedTrace) -> bool:
    """Both decisions can be read and nothing in the text contradicts itself."""
    return parsed.longitudinal is not None and parsed.lateral is not None and not parsed.problems


def decision_agreement(parsed: ParsedTrace, truth: Explanation) -> tuple[bool, bool]:
    """(longitudinal right, lateral right with its side)."""
    lateral = parsed.lateral == truth.lateral and parsed.direction == truth.direction
    return parsed.longitudinal == truth.longitudinal, lateral


def true_kinds(truth: Explanation) -> tuple[str, ...]:
    """Kinds of the binding factors."""
    return tuple(factor.kind for factor in truth.causes)


def cause_f1(named: Collection[str], true: Collection[str]) -> float:
    """2 |named and true| / (|named| + |true|) over sets; 1 when both are empty."""
    found, expected = set(named), set(true)
    if not found and not expected:
        return 1.0
    return 2 * len(found & expected) / (len(found) + len(expected))


# --- consistency ---------------------------------------------------------------------------------------------------


def consistency_reward(parsed: ParsedTrace, motion: PlannedMotion) -> float:
    """1 only if both axes agree; 0 when the text cannot be read."""
    return float(is_readable(parsed) and judge(parsed, motion).consistent)


def motion_of(decision: DecisionRecord) -> PlannedMotion:
    """The plan of a decision step as label.consistency reads it: 1 + 64 frames."""
    path = (decision.xy_in_rig_m, decision.yaw_rad, decision.lane_offset_m)
    return _motion(decision.speeds_mps, *path, decision.joins)


def motion_shown(decision: DecisionRecord, shown: Shown) -> PlannedMotion:
    """The same of the expert's way from there."""
    speeds = plan_speeds(Plan(shown.xy_in_rig_m, shown.yaw_rad), float(decision.speeds_mps[0]))
    return _motion(speeds, shown.xy_in_rig_m, shown.yaw_rad, shown.lane_offset_m, decision.joins)


def path_rewards(decision: DecisionRecord, drawn: Sequence[Drawn]) -> np.ndarray:
    """(K, 2) how well each path that was drawn for the words of a decision step does what they say, by axis.

        longitudinal = 1 if its speed agrees, else 0        lateral = share of PATH_BANDS_M with which its course agrees

    The band is how far a path may leave a lane that it is to keep: with one alone all paths of a hard place would be
    equally wrong, and those of an easy one equally right.
    """
    if not drawn:
        return np.zeros((0, 2))
    offsets, now_mps = decision.samples_lane_offset_m, float(decision.speeds_mps[0])
    assert offsets is not None and len(offsets) == 1 + len(drawn), "the driven path and every drawn one"
    speeds = [plan_speeds(Plan(path.xy_in_rig_m, path.yaw_rad), now_mps) for path in drawn]
    return np.array([
        _by_axis(parse(path.text), _motion(speed, path.xy_in_rig_m, path.yaw_rad, offset, decision.joins))
        for path, speed, offset in zip(drawn, speeds, offsets[1:], strict=True)
    ])  # fmt: skip


def outcome_rewards(decision: DecisionRecord, drawn: Sequence[Drawn]) -> np.ndarray:
    """(K, 2) where each drawn path of a decision step leads, by axis; nan where it was not tried, or where its words
    decide wrongly on that axis: it is then to do as they say, and they are what is to be mended.

        (1 - h) exp(-gap / OUTCOME_SCALES_M)        h: the worst harm of its own within the trial
    """
    if decision.outcomes is None:
        return np.full((len(drawn), 2), np.nan)
    assert len(decision.outcomes) == len(drawn), "every drawn path is tried"
    harm = [max((HARM[e.kind] for e in one.events if e.at_fault), default=0.0) for one in decision.outcomes]
    gaps_m = np.array([(one.along_m, one.aside_m) for one in decision.outcomes]).reshape(-1, 2)
    rewards = (1.0 - np.array(harm)[:, None]) * np.exp(-gaps_m / OUTCOME_SCALES_M)
    right = np.array([decision_agreement(parse(path.text), decision.truth) for path in drawn]).reshape(-1, 2)
    return np.where(right, rewards, np.nan)


def _by_axis(parsed: ParsedTrace, motion: PlannedMotion) -> tuple[float, float]:
    if not is_readable(parsed):
        return 0.0, 0.0
    found = [judge(parsed, motion, limits) for limits in _PATH_LIMITS]
    return float(found[0].longitudinal is True), float(np.mean([one.lateral is True for one in found]))


def _motion(
    speeds_mps: np.ndarray, xy: np.ndarray, yaw: np.ndarray, lane_offset_m: np.ndarray, joins: bool
) -> PlannedMotion:
    whole = np.concatenate([np.zeros((1, 2)), xy]), np.concatenate([[0.0], yaw])
    return PlannedMotion(speeds_mps, *whole, lane_offset_m, joins=joins)
