"""Episodes side by side in worker processes; the policy is batched over them in this one.

Each worker owns one renderer and any number of episodes. `drive` runs many scenes to their end with one policy;
`WorldPool` is its engine. A scene that breaks or a policy that raises ends that episode with its failure; the batch
goes on. Knows nothing of models.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, Protocol

import numpy as np

from causaldrive.clips.store import read_recording
from causaldrive.ground.errors import UserError
from causaldrive.ground.progress import Meter
from causaldrive.worlds.episode import (
    WARM_UP_S,
    DriveSettings,
    Episode,
    EpisodeResult,
    Observation,
    Plan,
    Policy,
    PolicyFailure,
    ReplaySpec,
    Spec,
    strip_notes,
)
from causaldrive.worlds.expert import ExpertDriver
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.replay import ReplayWorld
from causaldrive.worlds.scenes import SceneSpec, build_scene, default_camera
from causaldrive.worlds.town import TownWorld


@dataclass(frozen=True)
class BrokenScene:
    """A scene that could not be opened or driven on; counted apart from every score."""

    reason: str


Reply = Observation | EpisodeResult | BrokenScene


class Worker:
    """Runs episodes in one process; also usable in-process, which is how tests compare the two."""

    def __init__(self, settings: DriveSettings, backend: str = "auto"):
        self.settings = settings
        self.renderer = Renderer(default_camera(), backend) if settings.camera else None
        self.episodes: dict[int, tuple[Episode, Observation]] = {}

    def start(self, key: int, spec: Spec) -> Reply:
        return self._guarded(key, lambda: self._open(key, spec))

    def advance(self, key: int, plan: Plan | Exception) -> Reply:
        return self._guarded(key, lambda: self._advance(key, plan))

    def _open(self, key: int, spec: Spec) -> Reply:
        world, warm_up, reference_m = _open_world(spec, self.settings)
        settings = self.settings
        if isinstance(spec, ReplaySpec):
            settings = replace(settings, duration_s=spec.duration_s)
        view = self.renderer.open(world.context) if self.renderer else None
        try:
            episode = Episode(spec, world, warm_up, settings, view, reference_m)
            self.episodes[key] = (episode, episode.observe())
        except Exception:  # told of by the caller; here only the scene's geometry is given back
            if view is not None:
                view.close()
            raise
        return self.episodes[key][1]

    def _advance(self, key: int, plan: Plan | Exception) -> Reply:
        if key not in self.episodes:
            return BrokenScene("the world's process died and took this drive with it")
        episode, observation = self.episodes[key]
        episode.advance(plan, observation.truth)
        if episode.ended is None:
            self.episodes[key] = (episode, episode.observe())
            return self.episodes[key][1]
        self.drop(key)
        return episode.result()

    def drop(self, key: int) -> None:
        episode, _ = self.episodes.pop(key, (None, None))
        if episode is not None and episode.view is not None:
            episode.view.close()

    def _guarded(self, key: int, call) -> Reply:
        try:
            return call()
        except Exception as error:  # one broken scene must not stop the batch
            self.drop(key)
            where = traceback.extract_tb(error.__traceback__)[-1]
            return BrokenScene(f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})")


def _open_world(spec: Spec, settings: DriveSettings):
    """World, warm-up driver and the reference drive's distance along the route."""
    if isinstance(spec, ReplaySpec):
        recording = read_recording(spec.recording)
        if recording.road is None:
            raise UserError(
                f"{spec.recording} has no map; a replay needs one to tell the road from its surroundings, so import "
                "the log with its map."
            )
        world = ReplayWorld(recording, spec.t_start_us, reactive=settings.reactive_log)
        policy_us, end_us = (spec.t_start_us + round(seconds * 1e6) for seconds in (WARM_UP_S, spec.duration_s))
        return world, world.log_control, world.log_distance_m(policy_us, end_us)
    reference_m = expert_distance_m(spec, settings)
    world = TownWorld(build_scene(spec))
    return world, ExpertDriver(world.context).control, reference_m


def expert_distance_m(spec: SceneSpec, settings: DriveSettings) -> float:
    """How far the expert comes along the route after the warm-up, in the time of one drive.

    Driven once per scene and process: all members of a group have the same reference.
    """
    return _distance_in(spec, settings.duration_s)


@lru_cache(maxsize=1024)
def _distance_in(spec: SceneSpec, duration_s: float) -> float:
    result = drive_expert(spec, DriveSettings(duration_s=duration_s, camera=False), reference_m=1.0)
    return result.score.distance_m if result.score else 0.0


def drive_expert(
    spec: SceneSpec, settings: DriveSettings, reference_m: float | None = None, view=None
) -> EpisodeResult:
    """The privileged expert drives the whole scene, scored like any policy."""
    reference = expert_distance_m(spec, settings) if reference_m is None else reference_m
    world = TownWorld(build_scene(spec))
    driver = ExpertDriver(world.context)
    episode = Episode(spec, world, driver.control, settings, view, reference)
    episode.drive(driver.control)
    return episode.result()


def _serve(connection: Connection, settings: DriveSettings, backend: str) -> None:
    worker = Worker(settings, backend)
    while True:
        message = connection.recv()
        if message is None:
            return
        call, jobs = message
        handler = {"start": worker.start, "advance": worker.advance}[call]
        connection.send([(key, handler(key, job)) for key, job in jobs])


class WorldPool:
    """`workers` processes that hold episodes. Use as a context manager; keys are chosen by the caller."""

    def __init__(self, settings: DriveSettings, workers: int = 2, backend: str = "auto"):
        self.settings, self._backend = settings, backend
        opened = [self._open() for _ in range(workers)]
        self._ends: list[Connection] = [end for end, _ in opened]
        self._processes = [process for _, process in opened]
        self._home: dict[int, int] = {}

    def _open(self) -> tuple[Connection, BaseProcess]:
        spawn = mp.get_context("spawn")
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(theirs, self.settings, self._backend), daemon=True)
        process.start()
        theirs.close()
        return ours, process

    def __enter__(self) -> WorldPool:
        return self

    def __exit__(self, *exc: object) -> None:
        for end in self._ends:
            try:
                end.send(None)
            except (BrokenPipeError, OSError):
                continue
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
                process.join()

    def start(self, jobs: Sequence[tuple[int, Spec]]) -> dict[int, Reply]:
        """Open scenes under the given keys; each reply is the first observation (or a broken scene)."""
        for key, _ in jobs:
            self._home[key] = key % len(self._ends)
        return self._call("start", jobs)

    def advance(self, plans: Sequence[tuple[int, Plan | Exception]]) -> dict[int, Reply]:
        """Send one plan per running episode; each reply is the next observation or the episode's result."""
        return self._call("advance", [(key, strip_notes(plan)) for key, plan in plans])

    def _call(self, call: str, jobs: Sequence[tuple]) -> dict[int, Reply]:
        shares: dict[int, list] = {}
        for key, job in jobs:
            shares.setdefault(self._home[key], []).append((key, job))
        for home, share in shares.items():
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a dead worker is told of below
                self._ends[home].send((call, share))
        replies: dict[int, Reply] = {}
        for home, share in shares.items():
            try:
                replies.update(self._ends[home].recv())
            except (EOFError, ConnectionResetError, BrokenPipeError):
                dead = BrokenScene(f"the world's process died (exit code {self._reopen(home)})")
                replies.update(dict.fromkeys((key for key, _ in share), dead))
        return replies

    def _reopen(self, home: int) -> int | None:
        """A new process in the place of a dead one, whose exit code is returned; its drives are lost."""
        self._processes[home].join(timeout=1)  # its pipe closes a moment before its exit code is known
        code = self._processes[home].exitcode
        self._ends[home].close()
        self._ends[home], self._processes[home] = self._open()
        return code


def drive(
    specs: Sequence[Spec], policy: Policy, pool: WorldPool, batch: int = 48, label: str = "drive"
) -> Iterator[tuple[int, EpisodeResult | BrokenScene]]:
    """Drive every scene to its end, at most `batch` at a time; yields (index into specs, result) as they end."""
    waiting = list(enumerate(specs))[::-1]
    seeing: dict[int, Observation] = {}
    with Meter(label, total=len(specs), unit="scenes") as meter, Asked(policy, pool.settings) as asked:
        while waiting or seeing:
            opening = [waiting.pop() for _ in range(min(len(waiting), batch - len(seeing)))]
            replies = pool.start(opening) if opening else {}
            if seeing:
                keys = sorted(seeing)
                plans = asked.act([seeing[key] for key in keys])
                replies.update(pool.advance(list(zip(keys, plans, strict=True))))
            seeing = {key: reply for key, reply in replies.items() if isinstance(reply, Observation)}
            for key in sorted(replies):
                reply = replies[key]
                if not isinstance(reply, Observation):
                    meter.advance()
                    yield key, reply


class Asker(Protocol):
    """A policy, or one whose observations come with more beside them."""

    def act(self, observations: Sequence[Any]) -> Sequence[Plan | Exception]: ...


class Asked:
    """A policy whose answers are waited for no longer than `decision_limit_s` per observation.

    It answers in a thread of its own. One that stalls cannot be stopped from outside: its thread is left behind (and
    ends with the process), every episode of that call ends with the failure, and the next call gets a new thread.
    """

    def __init__(self, policy: Asker, settings: DriveSettings):
        self.policy, self.limit_s = policy, settings.decision_limit_s
        self._calls: Queue = Queue()
        self._thread: Thread | None = None

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *exc: object) -> None:
        self._calls.put(None)

    def act(self, observations: Sequence[Any]) -> list[Plan | Exception]:
        """One plan per observation, or why there is none."""
        if self._thread is None:
            self._calls = Queue()
            self._thread = Thread(target=_answer, args=(self.policy, self._calls), daemon=True)
            self._thread.start()
        reply: Queue = Queue()
        self._calls.put((observations, reply))
        try:
            plans = reply.get(timeout=self.limit_s * len(observations))
        except Empty:
            self._calls.put(None)
            self._thread = None
            what = f"no plan for {len(observations)} observations within {self.limit_s:g} s each"
            return [PolicyFailure(what, "stalled")] * len(observations)
        return plans


def _answer(policy: Asker, calls: Queue) -> None:
    while (call := calls.get()) is not None:
        observations, reply = call
        try:
            plans = list(policy.act(observations))
            assert len(plans) == len(observations), "a policy returns one plan per observation"
        except Exception as error:  # the whole batch failed: every episode in it ends with that failure
            plans = [error] * len(observations)
        reply.put(plans)


class ConstantVelocity:
    """The simplest rival: keeps speed and heading."""

    def act(self, observations: Sequence[Observation]) -> list[Plan]:
        return [constant_velocity_plan(observation.speed_mps) for observation in observations]


def constant_velocity_plan(speed_mps: float) -> Plan:
    ahead = speed_mps * 0.1 * np.arange(1, 65)
    return Plan(np.stack([ahead, np.zeros(64)], axis=1), np.zeros(64))
