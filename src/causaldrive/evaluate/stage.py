"""The evaluate stage: drivers against held-out recordings and scenes; one table with intervals.

Reads recordings, labels and checkpoints. Writes `open_loop/`, `closed_loop/`, `replay/` (one JSONL log a driver),
`videos/`, `results.json`, `report.html`. A killed run continues with the first driver that has no log. Knows nothing
of training.
"""

from __future__ import annotations

import multiprocessing as mp
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from causaldrive.evaluate import closed_loop, open_loop
from causaldrive.evaluate.closed_loop import Fleet, Shown
from causaldrive.evaluate.drivers import (
    BUILT_IN,
    CONSTANT_TURN,
    CONSTANT_VELOCITY,
    EXPERT,
    StudentEntry,
    parse_students,
)
from causaldrive.evaluate.logs import log_path, once
from causaldrive.evaluate.metrics import Difference, Log, compare
from causaldrive.evaluate.report import write_report
from causaldrive.evaluate.tables import COMPARED
from causaldrive.evaluate.videos import Shot, outcome_in_words, pick_shown, shot_of, write_videos
from causaldrive.ground.errors import UserError, unknown_name
from causaldrive.ground.files import write_json
from causaldrive.ground.runs import Run, open_run
from causaldrive.ground.words import RESERVED_SEED, VALIDATION_SEED, split_of_seed
from causaldrive.student.generate import MODES
from causaldrive.worlds.episode import DriveSettings, EpisodeResult, Spec
from causaldrive.worlds.scenes import SceneSpec, draw_specs

MOST_REPLAYS = 60
MOST_FAILURES_SHOWN = 40


@dataclass(frozen=True)
class EvaluateConfig:
    """Open loop, closed loop and reasoning of any number of students beside constant velocity and the expert."""

    out: Path  # run directory
    students: tuple[str, ...] = ()  # name=checkpoint, or name=checkpoint@trajectory for one that writes no trace
    recordings: Path | None = None  # held-out recordings for open loop (and for --replay)
    labels: Path | None = None  # label set of these recordings: the truth of decisions and causes
    closed_loop_scenes: int = 36  # held-out scenes of the town; 0 for none
    first_seed: int = 2_000_000  # of the scenes; the validation or the test range
    families: tuple[str, ...] = ()  # kinds of scenes; none: all
    open_loop_limit: int = 400  # moments, evenly spread over the labels
    mode: str = "flow"  # how the students draw their trajectories: flow, tokens, text
    samples: int = 6  # trajectories a moment; the K of minADE
    duration_s: float = 14.0  # of a drive
    decision_every_s: float = 0.5  # one query of the policy per this time
    decision_limit_s: float = 60.0  # a policy that takes longer per decision has stalled: its drives fail
    latency_s: float = 0.0  # a plan is driven this long after what it was made from was seen; the one before goes on
    track: bool = True  # steer back to the plan where the car is off it; --no-track: the plan's own controls alone
    workers: int = 2  # world processes
    beside: int = 1  # students measured side by side, each in a process on one thread with one world process
    batch: int = 48  # moments or drives that a student answers at once
    seed: int = 0  # of sampling and of the bootstrap
    videos: int = 6  # scenes to film with the last student
    replay: bool = False  # also drive the recordings themselves as closed-loop log replay
    reactive_log: bool = False  # in a replayed log the others brake for the ego; else they follow the log by time

    def validate(self) -> None:
        """Raises UserError for numbers out of range and seeds of the wrong split."""
        for name in ("open_loop_limit", "samples", "workers", "batch", "duration_s", "decision_every_s",
                     "decision_limit_s", "beside"):  # fmt: skip
            _expect(name, getattr(self, name), getattr(self, name) > 0, "above 0")
        fits = 0.0 <= self.latency_s <= self.decision_every_s
        _expect("latency_s", self.latency_s, fits, f"from 0 to --decision-every-s ({self.decision_every_s})")
        if self.reactive_log and not self.replay:
            raise UserError("evaluate: --reactive-log is about replayed logs; give --replay too, or leave it out.")
        if self.mode not in MODES:
            raise unknown_name("evaluate: mode", self.mode, MODES)
        for name in ("closed_loop_scenes", "videos", "seed"):
            _expect(name, getattr(self, name), getattr(self, name) >= 0, "0 or more")
        if self.closed_loop_scenes:
            _check_seeds(self.first_seed, self.first_seed + self.closed_loop_scenes - 1)
        if (self.labels is None) != (self.recordings is None) and not (self.replay and self.labels is None):
            raise UserError("evaluate: --recordings and --labels go together; give both for open loop, or neither.")
        if self.replay and self.recordings is None:
            raise UserError("evaluate: --replay drives recordings; give them with --recordings.")
        if not self.closed_loop_scenes and self.recordings is None:
            raise UserError("evaluate: nothing to do; give --recordings and --labels, or --closed-loop-scenes above 0.")


def _expect(name: str, value: Any, holds: bool, expected: str) -> None:
    if not holds:
        raise UserError(f"evaluate: --{name.replace('_', '-')} is {value}, a number {expected} expected; change it.")


def _check_seeds(first: int, last: int) -> None:
    splits = {split_of_seed(first), split_of_seed(last)}
    if first < 0 or splits & {"train", "reserved"}:
        raise UserError(
            f"evaluate: --first-seed {first} drives seeds up to {last} of the {' and '.join(sorted(splits))} range; "
            f"expected seeds from {VALIDATION_SEED} to {RESERVED_SEED - 1}, which no training saw and nobody reserved."
        )


def run(config: EvaluateConfig) -> None:
    """The stage's entry point. Raises UserError for what a person can mend."""
    config.validate()
    students, specs = _students(config), _specs(config)
    inputs = {f"student {student.name}": student.path for student in students}
    inputs |= {name: path for name in ("recordings", "labels") if (path := getattr(config, name)) is not None}
    with open_run(config.out, "evaluate", config, inputs) as opened:
        if not opened.done:
            if config.beside > 1:
                _measure_beside(config, [student.name for student in students])
            _Evaluation(config, students, specs, opened).carry_out()


def _students(config: EvaluateConfig) -> list[StudentEntry]:
    return [replace(student, mode=config.mode) for student in parse_students(config.students)]


def _specs(config: EvaluateConfig) -> list[SceneSpec]:
    return draw_specs(config.closed_loop_scenes, config.first_seed, config.families or None)


def _measure_beside(config: EvaluateConfig, students: Sequence[str]) -> None:
    """Write the logs of all drivers, those of the last student first: it is filmed and takes longest.

    Raises what a process raised, and UserError for a process that was killed.
    """
    groups = [*((name,) for name in reversed(students)), BUILT_IN]
    with ProcessPoolExecutor(config.beside, mp_context=mp.get_context("spawn")) as pool:
        try:
            for _ in pool.map(_measure_some, [replace(config, workers=1)] * len(groups), groups):
                pass
        except BrokenProcessPool as error:
            raise UserError(
                "evaluate: a process ended before its driver was measured (killed, or out of memory); run the same "
                "command again, with a smaller --beside or --batch if memory is short."
            ) from error


def _measure_some(config: EvaluateConfig, drivers: tuple[str, ...]) -> None:
    torch.set_num_threads(1)
    _Evaluation(config, _students(config), _specs(config), None, drivers).measure()


class _Evaluation:
    """One run of the stage: the logs as they come, then everything computed from them."""

    def __init__(
        self, config: EvaluateConfig, students: list[StudentEntry], specs: list[SceneSpec], opened: Run | None,
        only: tuple[str, ...] = (),
    ):  # fmt: skip
        """Without a run no table is made: the logs of the drivers in `only` are all that is wanted."""
        self.config, self.students, self.specs, self.opened, self.only = config, students, specs, opened, only
        self.set_aside: dict[str, int] = {}
        self.notes: list[str] = []
        self.logs: list[Log] = []

    def carry_out(self) -> None:
        self.measure()
        results = self._results()
        write_json(self.config.out / "results.json", results)
        write_report(self.config.out, results)

    def measure(self) -> None:
        """Every log that is not there yet."""
        c = self.config
        settings = DriveSettings(decision_every_s=c.decision_every_s, duration_s=c.duration_s, track=c.track,
                                 latency_s=c.latency_s, decision_limit_s=c.decision_limit_s,
                                 reactive_log=c.reactive_log)  # fmt: skip
        with Fleet(settings, c.workers, c.batch) as self.fleet:
            self._parts()

    def _parts(self) -> None:
        if self.config.recordings is not None and self.config.labels is not None:
            self._open_loop(self.config.recordings, self.config.labels)
        if self.specs:
            self._closed_loop()
        if self.config.replay and self.config.recordings is not None:
            self._replay(self.config.recordings)

    def _open_loop(self, recordings: Path, labels: Path) -> None:
        c = self.config
        offsets = sorted({offset for student in self.students for offset in student.frame_offsets_us})
        found = open_loop.find_moments(recordings, labels, c.open_loop_limit, offsets)
        self.set_aside = found.set_aside
        town = [m.recording.meta for m in found.moments if m.recording.source == "town"]
        if any(split_of_seed(int(meta.get("seed", VALIDATION_SEED))) == "train" for meta in town):
            self.notes.append("The open-loop recordings hold training seeds: these numbers are not of held-out drives.")
        for driver in (CONSTANT_VELOCITY, CONSTANT_TURN, EXPERT):
            make = partial(open_loop.simple_records, driver, found.moments)
            self._add("open_loop", driver, make, by_construction=driver == EXPERT)
        for student in self.students:
            make = partial(open_loop.student_records, student, found.moments, c.samples, c.batch, c.seed)
            self._add("open_loop", student.name, make)

    def _closed_loop(self) -> None:
        for driver in (CONSTANT_VELOCITY, CONSTANT_TURN):
            self._add("closed_loop", driver, partial(closed_loop.simple_records, driver, self.specs, self.fleet))
        self._add("closed_loop", EXPERT, partial(closed_loop.expert_records, self.specs, self.fleet))
        self._drive_students("closed_loop", self.specs)

    def _replay(self, recordings: Path) -> None:
        specs = closed_loop.replay_specs(recordings, MOST_REPLAYS)
        for driver in (CONSTANT_VELOCITY, CONSTANT_TURN):
            self._add("replay", driver, partial(closed_loop.simple_records, driver, specs, self.fleet))
        self._drive_students("replay", specs)

    def _drive_students(self, part: str, specs: Sequence[Spec]) -> None:
        filmed = next((s for s in reversed(self.students) if s.reason), self.students[-1] if self.students else None)
        for student in self.students:
            show = self.config.videos if student is filmed else 0
            self._add(part, student.name, partial(self._student_drives, student, specs, show))

    def _student_drives(self, student: StudentEntry, specs: Sequence[Spec], show: int) -> list[dict[str, Any]]:
        """Drive, and write the videos before the log: a driver with a log is finished."""
        shots: list[Shot] = []

        def keep(spec: Spec, result: EpisodeResult) -> None:
            shots.append(shot_of(self.config.out / "videos", student.name, spec, result))

        shown = Shown(pick_shown(specs, show), self.config.samples, keep) if show else None
        records = closed_loop.student_records(student, specs, self.fleet, self.config.seed, shown)
        write_videos(shots, self.config.workers)
        files = {shot.spec.scene_id: f"videos/{shot.path.name}" for shot in shots}
        return [{**record, "driver": student.name, "video": files.get(record["item"])} for record in records]

    def _add(self, part: str, driver: str, make: Any, by_construction: bool = False) -> None:
        if self.only and driver not in self.only:
            return
        records = once(log_path(self.config.out, part, driver), make)
        if self.opened is not None:
            self.opened.log(part=part, driver=driver, records=len(records),
                            failures=sum(record["failure"] is not None for record in records))  # fmt: skip
        self.logs.append(Log(driver, part, records, by_construction))

    def _results(self) -> dict[str, Any]:
        c = self.config
        assert self.opened is not None
        return {
            "command": self.opened.record["command"],
            "seeds": {"seed": c.seed, "first_scene": c.first_seed, "scenes": c.closed_loop_scenes},
            "samples": c.samples,
            "drivers": list(dict.fromkeys(log.driver for log in self.logs)),
            "students": {s.name: {"path": str(s.path), "reason": s.reason} for s in self.students},
            "set_aside": self.set_aside,
            "notes": self.notes,
            "rows": [asdict(row) for log in self.logs for row in log.rows(c.seed)],
            "differences": [asdict(difference) for difference in self._differences()],
            "failures": self._failures(),
            "failures_by_kind": self._failures_by_kind(),
            "videos": self._videos(),
        }

    def _differences(self) -> list[Difference]:
        """Each student against constant velocity, and against the student before it."""
        found = []
        names = [student.name for student in self.students]
        pairs = [(name, CONSTANT_VELOCITY) for name in names] + [(b, a) for a, b in pairwise(names)]
        for part, metrics in COMPARED.items():
            logs = {log.driver: log for log in self.logs if log.part == part}
            for first, second in pairs:
                if first in logs and second in logs:
                    found += compare(logs[first], logs[second], metrics, self.config.seed)
        return [difference for difference in found if difference.value is not None]

    def _failures(self) -> list[dict[str, str]]:
        failed = [{"part": log.part, "driver": log.driver, "item": record["item"], "reason": record["failure"]}
                  for log in self.logs for record in log.records if record["failure"] is not None]  # fmt: skip
        return failed[:MOST_FAILURES_SHOWN]

    def _failures_by_kind(self) -> list[dict[str, Any]]:
        """How many drives failed, by part, driver and kind (a broken scene, or one of episode.FAILURE_KINDS)."""
        tally = Counter((log.part, log.driver, record["failure_kind"]) for log in self.logs for record in log.records
                        if record.get("failure_kind"))  # fmt: skip
        return [dict(zip(("part", "driver", "kind", "n"), (*key, n), strict=True)) for key, n in sorted(tally.items())]

    def _videos(self) -> list[dict[str, Any]]:
        return [{"file": record["video"], "part": log.part, "driver": log.driver, "item": record["item"],
                 "family": record["family"], "harmless": record["harmless"], "outcome": outcome_in_words(record)}
                for log in self.logs for record in log.records if record.get("video")]  # fmt: skip
