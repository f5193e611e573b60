"""One drive of one scene: observations out, plans in, ticks scored, failures kept apart from scores.

An episode asks its policy for a plan every `decision_every_s` and follows it at 10 Hz under actuator limits.
The first `WARM_UP_S` are driven by the world's own driver (the expert, or the log) so that the ego history is full.
Knows nothing of models: a policy is whatever turns observations into plans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from causaldrive.clips.geometry import from_frame, project_on_polyline, to_frame, wrap_angle
from causaldrive.ground.errors import UserError
from causaldrive.ground.words import FUTURE_STEPS, HISTORY_STEPS, STEP_S
from causaldrive.worlds.counterfactual import expert_branch
from causaldrive.worlds.expert import Explanation, explain
from causaldrive.worlds.expert_turns import joins_at
from causaldrive.worlds.path_trials import Outcome, try_paths
from causaldrive.worlds.scenes import SceneSpec
from causaldrive.worlds.scoring import Score, Scorer, score_drive
from causaldrive.worlds.state import EgoState, SceneContext, WorldState
from causaldrive.worlds.world import DrivenWorld

WARM_UP_S = 1.6
MOST_STEP_M = 10.0  # of a plan, in 0.1 s
MAX_DEVIATION_M = 4.0  # a log replay is cut where the ego is farther than this from the log (public AlpaSim)


@dataclass(frozen=True)
class ReplaySpec:
    """A replayed log as a scene: the recording's directory and the moment the policy takes over."""

    recording: Path
    t_start_us: int
    duration_s: float = 8.0

    @property
    def scene_id(self) -> str:
        return f"{self.recording.name}@{self.t_start_us}"


Spec = SceneSpec | ReplaySpec
Control = Callable[[Sequence[WorldState]], tuple[float, float]]


@dataclass(frozen=True)
class DriveSettings:
    """How drives are made. A policy that breaks one of these ends its own episode, never the batch."""

    decision_every_s: float = 0.5  # one query of the policy per this time
    duration_s: float = 14.0  # of one drive, warm-up included
    camera: bool = True  # render what the policy sees
    frame_offsets_s: tuple[float, ...] = (-0.4, 0.0)  # frames of one observation, oldest first
    keep_video: bool = False  # render every tick and keep it in the result
    decision_limit_s: float = 60.0  # a policy that takes longer per observation has stalled
    track: bool = True  # feedback on where the car is off its plan; False: the plan's own controls, come what may
    latency_s: float = 0.0  # a plan is driven this long after what it was made from was seen; the one before goes on
    reactive_log: bool = False  # in a replayed log the others brake for the ego; False: they follow the log by time
    try_paths_s: float = 0.0  # the other paths of a plan are driven this long, each in a branch; 0: not at all
    show_expert: bool = False  # note at every decision step where the expert would drive from there

    def __post_init__(self) -> None:
        if not 0.0 <= self.latency_s <= self.decision_every_s:
            raise UserError(
                f"latency_s is {self.latency_s}; from 0 to decision_every_s ({self.decision_every_s}) expected, so "
                "that a plan is driven before the next one comes."
            )


@dataclass(frozen=True)
class Observation:
    """What a policy may see at one decision step, and `truth`, which it may not: that is for rewards and metrics."""

    scene_id: str
    t_us: int
    frames: np.ndarray | None  # (F, H, W, 3) uint8, oldest first
    history_xyz_in_rig_m: np.ndarray  # (16, 3), the last is the origin
    history_yaw_rad: np.ndarray  # (16,)
    speed_mps: float
    acceleration_mps2: float
    curvature_1pm: float
    truth: Explanation


@dataclass(frozen=True)
class Plan:
    """64 way-points at 10 Hz in the rig frame at the decision step, what the policy says, and its own notes."""

    xy_in_rig_m: np.ndarray  # (64, 2)
    yaw_rad: np.ndarray  # (64,)
    text: str = ""
    samples_xy_in_rig_m: np.ndarray | None = None  # (K, 64, 2) this path and further ones, for pictures and trials
    samples_yaw_rad: np.ndarray | None = None  # (K, 64)
    notes: dict = field(default_factory=dict)  # stays in the policy's process

    def problem(self) -> PolicyFailure | None:
        """Why this plan cannot be driven, or None.

        Out of range is what no car does, so that it is no clumsy plan but a broken one: a step of more than 10 m in
        0.1 s. Anything less is driven as well as the actuators allow.
        """
        if self.xy_in_rig_m.shape != (FUTURE_STEPS, 2) or self.yaw_rad.shape != (FUTURE_STEPS,):
            shapes = f"{self.xy_in_rig_m.shape} and {self.yaw_rad.shape}"
            return PolicyFailure(f"plan has shapes {shapes}, expected (64, 2) and (64,)", "wrong_shape")
        if not (np.isfinite(self.xy_in_rig_m).all() and np.isfinite(self.yaw_rad).all()):
            return PolicyFailure("plan holds values that are not numbers", "not_a_number")
        steps = np.linalg.norm(np.diff(self.xy_in_rig_m, axis=0, prepend=0.0), axis=1)
        if steps.max() > MOST_STEP_M:
            what = f"plan moves {steps.max():.1f} m in {STEP_S} s, at most {MOST_STEP_M:g} m expected"
            return PolicyFailure(what, "out_of_range")
        return None


FAILURE_KINDS = ("raised", "stalled", "wrong_shape", "not_a_number", "out_of_range")


class PolicyFailure(Exception):
    """Why a policy has no plan, in words and of which of FAILURE_KINDS: not every exception survives the way to
    another process, so one that a policy raised is told as `Type: message`."""

    def __init__(self, message: str, kind: str = "raised"):
        super().__init__(message, kind)
        self.kind = kind

    def __str__(self) -> str:
        return str(self.args[0])


class Policy(Protocol):
    def act(self, observations: Sequence[Observation]) -> Sequence[Plan | Exception]:
        """One plan per observation, or the exception that kept it from planning."""
        ...


@dataclass(frozen=True)
class Shown:
    """Where the expert, who knows everything, would drive from a decision step."""

    xy_in_rig_m: np.ndarray  # (64, 2)
    yaw_rad: np.ndarray  # (64,)
    lane_offset_m: np.ndarray  # (65,) lateral offset from the route now and along the way, left positive


@dataclass(frozen=True)
class DecisionRecord:
    """One decision step as it was driven."""

    tick: int  # index into EpisodeResult.states
    t_us: int
    text: str
    truth: Explanation
    speeds_mps: np.ndarray  # (65,) now and planned
    xy_in_rig_m: np.ndarray  # (64, 2)
    yaw_rad: np.ndarray  # (64,)
    lane_offset_m: np.ndarray  # (65,) lateral offset from the route now and along the plan, left positive
    samples_xy_in_rig_m: np.ndarray | None = None
    samples_lane_offset_m: np.ndarray | None = None  # (K, 65), as `lane_offset_m`
    joins: bool = False  # the route joins or leaves a road close ahead
    outcomes: list[Outcome] | None = None  # (K - 1) of the further samples, where they are tried
    shown: Shown | None = None  # where the expert is asked, and the world goes on for long enough


@dataclass
class EpisodeResult:
    """One finished drive. `failure` is set when the policy broke; such a drive has no score."""

    spec: Spec
    states: list[WorldState]
    decisions: list[DecisionRecord]
    events: list
    score: Score | None
    failure: str | None = None
    ended: str = "time"  # 'time', 'event', 'deviation', 'failure'
    failure_kind: str | None = None  # of FAILURE_KINDS
    frames: np.ndarray | None = None  # (T, H, W, 3) when keep_video
    context: SceneContext | None = None  # when keep_video


class Episode:
    """One drive in progress."""

    def __init__(
        self, spec: Spec, world: DrivenWorld, warm_up: Control, settings: DriveSettings, scene_view, reference_m: float
    ):
        """`warm_up(history) -> (acceleration, curvature)` drives first; `scene_view` renders, None without camera."""
        self.spec, self.world, self.settings = spec, world, settings
        self.view, self.reference_m = scene_view, reference_m
        self.states: list[WorldState] = list(world.history[-1:])
        self.decisions: list[DecisionRecord] = []
        self.scorer = Scorer(world.context)
        self.pictures: dict[int, np.ndarray] = {}
        self.failure: PolicyFailure | None = None
        self.ended: str | None = None
        self._last: PlanFollower | None = None
        self._every = round(settings.decision_every_s / STEP_S)
        self._offsets = [round(offset / STEP_S) for offset in settings.frame_offsets_s]
        self._warm_ticks = round(WARM_UP_S / STEP_S)
        self._render()
        for _ in range(self._warm_ticks):
            self._tick(*warm_up(world.history))
        self.scorer.hand_over()
        self._drive_from = len(self.states) - 1

    @property
    def tick(self) -> int:
        return len(self.states) - 1

    def observe(self) -> Observation:
        frames = None
        if self.view is not None:
            frames = np.stack([self.pictures[max(self.tick + offset, 0)] for offset in self._offsets])
        return observation_of(self.spec.scene_id, self.world, frames)

    def advance(self, plan: Plan | Exception, truth: Explanation) -> None:
        """Follow the plan until the next decision step, or until the drive ends."""
        problem = problem_of(plan)
        if problem is not None or isinstance(plan, Exception):
            self.failure, self.ended = problem, "failure"
            return
        start = self.world.state.ego
        self._record(plan, truth)
        new = PlanFollower(plan, start.xy_in_local_m, start.yaw_rad, start.speed_mps, self.settings.track)
        for step in range(self._every):
            self._tick(*self._control(new, step))
            if self._check_end():
                return
        self._last = new

    def _control(self, new: PlanFollower, step: int) -> tuple[float, float]:
        """By the new plan once its latency is over, by the one before until then; the first is waited for steadily."""
        ego = self.world.state.ego
        if step >= round(self.settings.latency_s / STEP_S):
            return new.control(step, ego)
        if self._last is None:
            return ego.acceleration_mps2, ego.curvature_1pm
        return self._last.control(self._every + step, ego)

    def drive(self, control: Control) -> None:
        """Drive to the end by `control(history) -> (acceleration, curvature)`, which decides at every tick."""
        while not self._check_end():
            self._tick(*control(self.world.history))

    def _check_end(self) -> bool:
        if self.scorer.fatal:
            self.ended = "event"
        elif isinstance(self.spec, ReplaySpec) and self._deviation_m() > MAX_DEVIATION_M:
            self.ended = "deviation"
        elif self.world.finished or self.tick * STEP_S >= self.settings.duration_s - 1e-6:
            self.ended = "time"
        return self.ended is not None

    def _deviation_m(self) -> float:
        """Distance from the log's path, not from its position: stopping late is not leaving the log."""
        _, offset = project_on_polyline(self.world.state.ego.xy_in_local_m, self.world.context.route_xy_in_local_m)
        return abs(float(offset))

    def _tick(self, acceleration_mps2: float, curvature_1pm: float) -> None:
        self.world.step(acceleration_mps2, curvature_1pm)
        self.states.append(self.world.state)
        self.scorer.add(self.world.state)
        self._render()

    def _render(self) -> None:
        if self.view is None or not (self.settings.keep_video or self._wanted(self.tick)):
            return
        self.pictures[self.tick] = self.view.render(self.world.state)
        if not self.settings.keep_video:
            oldest = max(self.tick + min(self._offsets), 0)
            self.pictures = {tick: picture for tick, picture in self.pictures.items() if tick >= oldest}

    def _wanted(self, tick: int) -> bool:
        """Is this tick's frame part of an observation at some decision step?"""
        return tick == 0 or any((tick - offset - self._warm_ticks) % self._every == 0 for offset in self._offsets)

    def _record(self, plan: Plan, truth: Explanation) -> None:
        ego = self.world.state.ego
        speeds, samples = plan_speeds(plan, ego.speed_mps), plan.samples_xy_in_rig_m
        driven = self._lane_offset(plan.xy_in_rig_m)  # the first of the samples too
        offsets = None if samples is None else np.stack([driven, *(self._lane_offset(xy) for xy in samples[1:])])
        where = (plan.xy_in_rig_m, plan.yaw_rad, driven, samples, offsets)
        joins, _ = joins_at(self.world.context, ego)
        head = (self.tick, self.world.state.t_us, plan.text, truth, speeds)
        self.decisions.append(DecisionRecord(*head, *where, joins, self._outcomes(plan), self._shown()))

    def _outcomes(self, plan: Plan) -> list[Outcome] | None:
        """Where the further samples lead; None where they are not tried."""
        if not self.settings.try_paths_s or plan.samples_xy_in_rig_m is None:
            return None
        assert plan.samples_yaw_rad is not None, "samples that are tried have headings"
        ego = self.world.state.ego
        others = [Plan(xy, yaw) for xy, yaw in zip(plan.samples_xy_in_rig_m[1:], plan.samples_yaw_rad[1:], strict=True)]
        where = (ego.xy_in_local_m, ego.yaw_rad, ego.speed_mps, self.settings.track)
        paths = [PlanFollower(other, *where).control for other in others]
        return try_paths(self.world, self.scorer, paths, self.settings.try_paths_s)

    def _shown(self) -> Shown | None:
        """The expert's way from here, driven in a branch; None where it is not asked or the world ends before."""
        if not self.settings.show_expert:
            return None
        saved = self.world.snapshot()
        try:
            ways = [state.ego for state in expert_branch(self.world).states]
        finally:
            self.world.restore(saved)
        if len(ways) <= FUTURE_STEPS:
            return None
        now = ways[0]
        xy = to_frame(np.array([e.xy_in_local_m for e in ways[1:]]), now.xy_in_local_m, now.yaw_rad)
        yaw = wrap_angle(np.array([e.yaw_rad for e in ways[1:]]) - now.yaw_rad)
        return Shown(xy, yaw, self._lane_offset(xy))

    def _lane_offset(self, xy_in_rig_m: np.ndarray) -> np.ndarray:
        """(65,) lateral offset from the route now and along a path (64, 2)."""
        ego = self.world.state.ego
        path = from_frame(np.concatenate([np.zeros((1, 2)), xy_in_rig_m]), ego.xy_in_local_m, ego.yaw_rad)
        return project_on_polyline(path, self.world.context.route_xy_in_local_m)[1]

    def result(self) -> EpisodeResult:
        driven = self.states[self._drive_from :]
        score = None
        if self.failure is None:
            score = score_drive(self.scorer.events, driven, self.world.context.route_xy_in_local_m, self.reference_m)
        frames = context = None
        if self.settings.keep_video and self.view is not None:
            frames = np.stack([self.pictures[tick] for tick in range(len(self.states))])
            context = self.world.context
        failure, kind = (None, None) if self.failure is None else (str(self.failure), self.failure.kind)
        head = (self.spec, self.states, self.decisions, self.scorer.events)
        return EpisodeResult(*head, score, failure, self.ended or "time", kind, frames, context)


def observation_of(scene_id: str, world: DrivenWorld, frames: np.ndarray | None) -> Observation:
    """What a policy may see of a world now, with at least 1.6 s of history behind it."""
    states = world.history[-HISTORY_STEPS:]
    now = states[-1].ego
    xy = np.array([state.ego.xy_in_local_m for state in states])
    yaw = np.array([state.ego.yaw_rad for state in states])
    history = np.zeros((HISTORY_STEPS, 3))
    history[:, :2] = to_frame(xy, now.xy_in_local_m, now.yaw_rad)
    return Observation(
        scene_id=scene_id,
        t_us=states[-1].t_us,
        frames=frames,
        history_xyz_in_rig_m=history,
        history_yaw_rad=wrap_angle(yaw - now.yaw_rad),
        speed_mps=now.speed_mps,
        acceleration_mps2=now.acceleration_mps2,
        curvature_1pm=now.curvature_1pm,
        truth=explain(world.history, world.context),
    )


def plan_speeds(plan: Plan, speed_mps: float) -> np.ndarray:
    """(65,) speeds of a plan, now first: length of each 0.1 s step, signed by its direction along the heading."""
    path = np.concatenate([np.zeros((1, 2)), plan.xy_in_rig_m])
    yaw = np.concatenate([[0.0], plan.yaw_rad[:-1]])
    step = np.diff(path, axis=0)
    along = step[:, 0] * np.cos(yaw) + step[:, 1] * np.sin(yaw)
    return np.concatenate([[speed_mps], along / STEP_S])


class PlanFollower:
    """Turns a plan into acceleration and curvature per tick: the plan's own curvature plus feedback on the errors.

    curvature = kappa_plan + k_y e_y + k_psi e_psi with e the plan's pose seen from the ego; gains fall with speed so
    that the loop is stable at 10 Hz. Without `track` there is no feedback: the plan's own acceleration and curvature.
    """

    def __init__(self, plan: Plan, xy_in_local_m: np.ndarray, yaw_rad: float, speed_mps: float, track: bool = True):
        self.track = track
        path = np.concatenate([np.zeros((1, 2)), plan.xy_in_rig_m])
        self.xy = from_frame(path, xy_in_local_m, yaw_rad)
        self.yaw = np.concatenate([[0.0], plan.yaw_rad]) + yaw_rad
        self.speed = plan_speeds(plan, speed_mps)
        turn = wrap_angle(np.diff(self.yaw))
        ahead = np.maximum(np.abs(self.speed[1:]) * STEP_S, 0.05)
        self.curvature = np.where(self.speed[1:] > 0.3, turn / ahead, 0.0)

    def control(self, step: int, ego: EgoState) -> tuple[float, float]:
        """(acceleration, curvature) for the tick from `step` (0 is when the plan was made) to the next."""
        if not self.track:
            own = (self.speed[step + 1] - self.speed[step]) / STEP_S
            return float(own), float(np.clip(self.curvature[step], -0.2, 0.2))
        acceleration = (self.speed[step + 1] - ego.speed_mps) / STEP_S
        error = to_frame(self.xy[step + 1], ego.xy_in_local_m, ego.yaw_rad)
        lateral = error[1] - 0.5 * self.curvature[step] * (ego.speed_mps * STEP_S) ** 2
        heading = float(wrap_angle(self.yaw[step] - ego.yaw_rad))
        reach = max(ego.speed_mps, 3.0)
        feedback = 2.0 * lateral / reach**2 + 1.2 * heading / reach
        curvature = self.curvature[step] + (feedback if ego.speed_mps > 0.3 else 0.0)
        return float(acceleration), float(np.clip(curvature, -0.2, 0.2))


def strip_notes(plan: Plan | Exception) -> Plan | Exception:
    """The plan, or why there is none, as it travels to the world's process."""
    return _in_words(plan) if isinstance(plan, Exception) else replace(plan, notes={})


def problem_of(plan: Plan | Exception) -> PolicyFailure | None:
    """Why there is no plan to drive, or None when there is one."""
    return _in_words(plan) if isinstance(plan, Exception) else plan.problem()


def _in_words(error: Exception) -> PolicyFailure:
    return error if isinstance(error, PolicyFailure) else PolicyFailure(f"{type(error).__name__}: {error}")
