"""The pool: many scenes with one policy, in this process and in workers, and what breaks without breaking the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, cast

import numpy as np
import pytest
from world_drives import BLIND, InProcess, Swerving, finished, same_drive

from causaldrive.ground.errors import MissingExtra
from causaldrive.worlds import pool as pool_module
from causaldrive.worlds.episode import WARM_UP_S, EpisodeResult, Observation, Plan, ReplaySpec
from causaldrive.worlds.pool import (
    BrokenScene,
    ConstantVelocity,
    Worker,
    WorldPool,
    constant_velocity_plan,
    drive,
    drive_expert,
)
from causaldrive.worlds.scenes import SceneSpec, draw_specs

SPECS = draw_specs(6, 12)
BROKEN = SceneSpec("no_such_family", 1, False)
CURVE = SceneSpec("sharp_curve", 4, False)
LONG = replace(BLIND, duration_s=14.0)
Outcomes = dict[int, EpisodeResult | BrokenScene]


def driven(specs: Sequence[Any], policy: Any, pool: InProcess | WorldPool, batch: int = 48) -> Outcomes:
    outcomes = list(drive(specs, policy, cast(WorldPool, pool), batch))
    assert sorted(key for key, _ in outcomes) == list(range(len(specs))), "every scene ends, and ends once"
    return dict(outcomes)


@pytest.fixture(scope="module")
def pool() -> Iterator[WorldPool]:
    with WorldPool(BLIND, workers=1) as running:
        yield running


@pytest.fixture(scope="module")
def at_home() -> Outcomes:
    """The drives that the others are compared with."""
    return driven(SPECS, Swerving(), InProcess())


def test_a_worker_process_drives_what_this_process_drives(pool, at_home):
    away = driven(SPECS, Swerving(), pool)
    assert all(same_drive(finished(away[key]), finished(at_home[key])) for key in at_home)
    again = driven(SPECS, Swerving(), pool)
    assert all(same_drive(finished(away[key]), finished(again[key])) for key in at_home)
    other = driven(SPECS[:1], ConstantVelocity(), InProcess())
    assert not same_drive(finished(other[0]), finished(at_home[0]))


@pytest.mark.parametrize("batch", [1, 4])
def test_results_do_not_depend_on_the_batch(at_home, batch):
    seen: list[int] = []

    class Watched(Swerving):
        def act(self, observations: Sequence[Observation]) -> list[Plan]:
            seen.append(len(observations))
            return super().act(observations)

    outcomes = driven(SPECS, Watched(), InProcess(), batch)
    assert max(seen) == batch
    assert all(same_drive(finished(outcomes[key]), finished(at_home[key])) for key in at_home)


class Moody(Swerving):
    """Raises at its third call and never again."""

    calls = 0

    def act(self, observations: Sequence[Observation]) -> list[Plan]:
        self.calls += 1
        if self.calls == 3:
            raise MissingExtra("patience", "moods", "driving")  # one that does not survive pickling
        return super().act(observations)


def test_a_policy_that_raises_ends_that_batch_alone(pool, at_home):
    outcomes = {key: finished(outcome) for key, outcome in driven(SPECS, Moody(), pool, batch=2).items()}
    failed = [key for key, outcome in outcomes.items() if outcome.failure is not None]
    assert failed == [0, 1] and all(outcomes[key].score is None for key in failed)
    assert all((outcomes[key].failure or "").startswith("MissingExtra: driving needs") for key in failed)
    assert all(same_drive(outcomes[key], finished(at_home[key])) for key in range(2, len(SPECS)))


class Stalling(Swerving):
    """Answers everything but what it sees of one scene at one time, for which it never comes back."""

    def act(self, observations: Sequence[Observation]) -> list[Plan]:
        if any(o.scene_id == SPECS[1].scene_id and o.t_us > 2_500_000 for o in observations):
            Event().wait()
        return super().act(observations)


def test_a_policy_that_stalls_ends_that_batch_alone(at_home):
    engine = InProcess(replace(BLIND, decision_limit_s=0.5))
    outcomes = {key: finished(outcome) for key, outcome in driven(SPECS[:3], Stalling(), engine, batch=1).items()}
    assert (outcomes[1].failure_kind, outcomes[1].score, outcomes[1].ended) == ("stalled", None, "failure")
    assert "within 0.5 s" in (outcomes[1].failure or "") and len(outcomes[1].decisions) == 2
    assert all(same_drive(outcomes[key], finished(at_home[key])) for key in (0, 2))


@pytest.mark.parametrize(
    ("xy", "kind"),
    [
        (np.full((64, 2), np.nan), "not_a_number"),
        (np.zeros((3, 2)), "wrong_shape"),
        (np.outer(np.arange(1, 65), [30.0, 0.0]), "out_of_range"),
        (None, "raised"),
    ],
)
def test_failures_are_told_apart_by_kind(pool, xy, kind):
    class Broken(Swerving):
        def act(self, observations: Sequence[Observation]) -> list[Any]:
            return [ValueError("mute") if xy is None else Plan(xy, np.zeros(64)) for _ in observations]

    outcome = finished(driven(SPECS[:1], Broken(), pool)[0])
    assert (outcome.failure_kind, outcome.score, outcome.ended) == (kind, None, "failure")


def test_the_members_of_a_group_share_one_reference_drive(monkeypatch):
    made: list[SceneSpec] = []
    whole = pool_module.drive_expert

    def counted(spec: SceneSpec, *rest: Any, **more: Any) -> EpisodeResult:
        made.append(spec)
        return whole(spec, *rest, **more)

    monkeypatch.setattr(pool_module, "drive_expert", counted)
    worker, spec = Worker(replace(BLIND, duration_s=2.7)), SceneSpec("lead_brakes", 424)
    replies = [worker.start(member, spec) for member in range(4)]
    assert all(isinstance(reply, Observation) for reply in replies) and made == [spec]


def test_one_failed_plan_ends_its_own_episode(at_home):
    class Speechless(Swerving):
        def act(self, observations: Sequence[Observation]) -> list[Any]:
            plans: list[Any] = super().act(observations)
            mute = [observation.scene_id == SPECS[1].scene_id for observation in observations]
            return [ValueError("no words") if m else plan for m, plan in zip(mute, plans, strict=True)]

    outcomes = driven(SPECS[:3], Speechless(), InProcess())
    assert finished(outcomes[1]).failure == "ValueError: no words"
    assert all(same_drive(finished(outcomes[key]), finished(at_home[key])) for key in (0, 2))


def test_the_policys_notes_stay_at_home(pool):
    class Noted(Swerving):
        def act(self, observations: Sequence[Observation]) -> list[Plan]:
            return [replace(plan, notes={"private": lambda: None}) for plan in super().act(observations)]

    assert finished(driven(SPECS[:1], Noted(), pool)[0]).failure is None


def test_a_broken_scene_is_counted_apart(pool, at_home):
    nowhere = ReplaySpec(Path("no/such/log"), 0)
    for engine in (pool, InProcess()):
        outcomes = driven([SPECS[0], BROKEN, nowhere, SPECS[1]], Swerving(), engine)
        assert isinstance(outcomes[1], BrokenScene) and isinstance(outcomes[2], BrokenScene)
        assert "no_such_family" in outcomes[1].reason and "holds no recording" in outcomes[2].reason
        assert same_drive(finished(outcomes[0]), finished(at_home[0]))
        assert same_drive(finished(outcomes[3]), finished(at_home[1]))


def test_only_broken_scenes_and_none_at_all(pool):
    assert isinstance(driven([BROKEN], Swerving(), pool)[0], BrokenScene)
    assert driven([], Swerving(), pool) == {}


def test_a_scene_that_breaks_on_the_way_gives_its_view_back():
    closed = []

    class View:
        def render(self, state) -> np.ndarray:
            if state.t_us > (WARM_UP_S + 0.8) * 1e6:
                raise RuntimeError("the picture is torn")
            return np.zeros((2, 2, 3), np.uint8)

        def close(self) -> None:
            closed.append(True)

    class Camera:
        def open(self, context) -> View:
            return View()

    worker = Worker(BLIND)
    worker.renderer = cast(Any, Camera())
    reply = worker.start(0, SPECS[0])
    while isinstance(reply, Observation):
        reply = worker.advance(0, constant_velocity_plan(reply.speed_mps))
    assert isinstance(reply, BrokenScene) and "the picture is torn" in reply.reason and "test_pool.py" in reply.reason
    assert closed == [True] and worker.episodes == {}


def test_a_scene_that_breaks_at_its_first_picture_gives_its_view_back():
    closed = []

    class View:
        def render(self, state) -> np.ndarray:
            raise RuntimeError("no picture")

        def close(self) -> None:
            closed.append(True)

    worker = Worker(BLIND)
    worker.renderer = cast(Any, type("Camera", (), {"open": lambda self, context: View()})())
    reply = worker.start(0, SPECS[0])
    assert isinstance(reply, BrokenScene) and closed == [True] and worker.episodes == {}


def test_a_killed_worker_breaks_its_scenes_and_no_others(at_home):
    with WorldPool(BLIND, workers=2) as running:
        first = running.start([(0, SPECS[0]), (1, SPECS[1])])
        assert all(isinstance(reply, Observation) for reply in first.values())
        victim = running._processes[0]
        victim.kill()
        victim.join(timeout=10)
        plans = [(key, constant_velocity_plan(8.0)) for key in (0, 1)]
        replies = running.advance(plans)
        dead = replies[0]
        assert isinstance(dead, BrokenScene) and dead.reason == "the world's process died (exit code -9)"
        assert isinstance(replies[1], Observation)
        lost = running.advance([(0, plans[0][1])])[0]
        assert isinstance(lost, BrokenScene) and "took this drive with it" in lost.reason
        outcomes = driven(SPECS[:4], Swerving(), running)
    assert all(same_drive(finished(outcomes[key]), finished(at_home[key])) for key in range(4)), "a new one drives"
    assert not any(process.is_alive() for process in running._processes)


# --- drivers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", draw_specs(6, 0) + draw_specs(6, 18), ids=lambda spec: spec.scene_id)
def test_the_expert_drives_clean(spec):
    result = drive_expert(spec, LONG)
    assert result.score is not None and result.score.clean and result.failure is None, result.events
    assert result.score.progress == pytest.approx(1.0) or result.score.distance_m < 5.0  # it is its own reference
    assert result.score.scene_score == 1.0 and result.ended == "time"


def test_constant_velocity_leaves_the_road_in_a_curve():
    outcome = finished(driven([CURVE], ConstantVelocity(), InProcess(LONG))[0])
    assert outcome.ended == "event" and outcome.score is not None and outcome.score.off_road
    assert outcome.score.scene_score == 0.0 and 0.1 < outcome.score.progress < 1.0
    assert outcome.decisions and outcome.states[-1].t_us < 14_000_000


def test_constant_velocity_plans_go_straight():
    plan = constant_velocity_plan(7.0)
    assert plan.problem() is None
    np.testing.assert_allclose(plan.xy_in_rig_m[[0, -1]], [[0.7, 0.0], [44.8, 0.0]])
    assert not plan.yaw_rad.any()
