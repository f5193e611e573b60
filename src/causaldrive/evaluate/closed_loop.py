"""Closed loop: drivers at the wheel in held-out scenes of the town, or in replayed logs.

Runs drives through the world pool and turns each into a record. Reads checkpoints through `drivers`; for replays, the
recordings. Knows nothing of tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from causaldrive.clips.store import read_recordings
from causaldrive.evaluate.drivers import SIMPLE_POLICIES, StudentEntry
from causaldrive.evaluate.expert_drives import drive_experts
from causaldrive.evaluate.reasoning import motion_as_json
from causaldrive.ground.errors import UserError
from causaldrive.label.consistency import PlannedMotion
from causaldrive.label.truth import truth_of_explanation
from causaldrive.rl.policy import StudentPolicy
from causaldrive.worlds.episode import (
    DecisionRecord,
    DriveSettings,
    EpisodeResult,
    Policy,
    ReplaySpec,
    Spec,
)
from causaldrive.worlds.pool import BrokenScene, WorldPool, drive
from causaldrive.worlds.scenes import SceneSpec

REPLAY_EVERY_S, REPLAY_S, REPLAY_LEAD_S = 4.0, 8.0, 2.0
LEAST_REPLAY_S = 5.0

Outcome = EpisodeResult | BrokenScene
Keep = Callable[[Spec, EpisodeResult], None]


class Fleet:
    """How drives are carried out, and the one world pool that is open. Use as a context manager."""

    def __init__(self, settings: DriveSettings, workers: int, batch: int):
        self.settings, self.workers, self.batch = settings, workers, batch
        self._pool: WorldPool | None = None

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pool is not None:
            self._pool.__exit__(*exc)
            self._pool = None

    def pool(self, **changes: Any) -> WorldPool:
        """The pool for these settings, shared by drivers in a row that need the same: opening one takes seconds."""
        settings = replace(self.settings, **changes)
        if self._pool is None or self._pool.settings != settings:
            self.__exit__()
            self._pool = WorldPool(settings, self.workers)
        return self._pool


@dataclass(frozen=True)
class Shown:
    """Scenes (indices into the specs) in which a student draws `samples` trajectories; `keep` gets their results."""

    indices: frozenset[int]
    samples: int
    keep: Keep


def simple_records(driver: str, specs: Sequence[Spec], fleet: Fleet) -> list[dict[str, Any]]:
    """Records of a driver that needs no camera, in the order of the specs."""
    pool, everything = fleet.pool(camera=False), range(len(specs))
    records = _driven(specs, everything, SIMPLE_POLICIES[driver](), pool, fleet.batch, f"drive, {driver}", False)
    return [records[index] for index in everything]


def student_records(
    student: StudentEntry, specs: Sequence[Spec], fleet: Fleet, seed: int, shown: Shown | None = None
) -> list[dict[str, Any]]:
    """Records of a checkpoint, in the order of the specs."""
    policy = student.open(1, seed)
    offsets = policy.processor.config.frames().frame_offsets_s
    picked = shown.indices if shown else frozenset()
    rest = [index for index in range(len(specs)) if index not in picked]
    label = f"drive, {student.name}"
    pool = fleet.pool(frame_offsets_s=offsets)
    records = _driven(specs, rest, policy, pool, fleet.batch, label, student.reason)
    if shown:
        several = StudentPolicy(policy.model, policy.processor, replace(policy.settings, num_samples=shown.samples))
        records |= _driven(specs, sorted(picked), several, pool, fleet.batch, f"{label}, to show", student.reason,
                           shown.keep)  # fmt: skip
    return [records[index] for index in range(len(specs))]


def expert_records(specs: Sequence[SceneSpec], fleet: Fleet) -> list[dict[str, Any]]:
    """Records of the privileged expert, scenes side by side in worker processes."""
    settings = replace(fleet.settings, camera=False, keep_video=False)
    outcomes = drive_experts(specs, settings, fleet.workers)
    return [record_of(spec, outcome, speaks=False) for spec, outcome in zip(specs, outcomes, strict=True)]


def _driven(
    specs: Sequence[Spec], indices: Sequence[int], policy: Policy, pool: WorldPool, batch: int, label: str,
    speaks: bool, keep: Keep | None = None,
) -> dict[int, dict[str, Any]]:  # fmt: skip
    """Records by index into `specs`. A drive is reduced to its record as soon as it ends; only `keep` holds more."""
    records: dict[int, dict[str, Any]] = {}
    for place, outcome in drive([specs[index] for index in indices], policy, pool, batch, label):
        index = indices[place]
        if keep is not None and isinstance(outcome, EpisodeResult):
            keep(specs[index], outcome)
        records[index] = record_of(specs[index], outcome, speaks)
    return records


def record_of(spec: Spec, outcome: Outcome, speaks: bool) -> dict[str, Any]:
    """One drive as a log line. A broken scene or policy has a `failure` and no score."""
    town = isinstance(spec, SceneSpec)
    head = {
        "item": spec.scene_id,
        "cluster": spec.scene_id if town else spec.recording.name,
        "family": spec.family if town else None,
        "harmless": spec.harmless if town else None,
        "seed": spec.seed if town else None,
    }
    if isinstance(outcome, BrokenScene):
        none = {"failure_kind": "scene", "ended": "failure", "score": None, "decisions": []}
        return {**head, "failure": f"scene: {outcome.reason}", **none}
    if outcome.score is None:
        none = {"failure_kind": outcome.failure_kind, "ended": outcome.ended, "score": None, "decisions": []}
        return {**head, "failure": f"policy: {outcome.failure}", **none}
    return {
        **head,
        "failure": None,
        "ended": outcome.ended,
        "score": {**asdict(outcome.score), "clean": outcome.score.clean},
        "events": [asdict(event) for event in outcome.events],
        "decisions": [_decision(decision, speaks) for decision in outcome.decisions],
    }


def _decision(decision: DecisionRecord, speaks: bool) -> dict[str, Any]:
    truth = truth_of_explanation(decision.truth).as_json()
    said = {"t_us": decision.t_us, "text": decision.text if speaks else None, "truth": truth}
    return said | ({"motion": motion_as_json(motion_of_decision(decision))} if speaks else {})


def motion_of_decision(decision: DecisionRecord) -> PlannedMotion:
    """The plan of a decision step with the present pose in front."""
    return PlannedMotion(
        speed_mps=decision.speeds_mps,
        xy_in_rig_m=np.concatenate([np.zeros((1, 2)), decision.xy_in_rig_m]),
        yaw_rad=np.concatenate([[0.0], decision.yaw_rad]),
        lane_offset_m=decision.lane_offset_m,
        joins=decision.joins,
    )


def replay_specs(recordings: Path, limit: int) -> list[ReplaySpec]:
    """Starts every 4 s through the logs that have agents and a map; drives of up to 8 s.

    Raises UserError when no recording can be replayed.
    """
    sound, _ = read_recordings(recordings)
    specs = [
        ReplaySpec(r.directory, start_us, (min(REPLAY_S, (end_us - start_us) / 1e6)))
        for r in sound
        if r.directory is not None and r.agents is not None and r.road is not None and len(r.agents.t_us)
        for end_us in [int(min(r.ego.t_us[-1], r.agents.t_us[-1]))]
        for start_us in replay_starts(int(max(r.ego.t_us[0], r.agents.t_us[0])), end_us)
    ]
    if not specs:
        raise UserError(
            f"{recordings} holds no recording with agents and a map that lasts long enough; replay needs both, so "
            "import such logs or leave --replay out."
        )
    if limit and len(specs) > limit:
        specs = [specs[i] for i in np.linspace(0, len(specs) - 1, limit).round().astype(int)]
    return specs


def replay_starts(first_us: int, last_us: int) -> list[int]:
    """Every 4 s, with 2 s of log before the first and at least 5 s after each."""
    lead, least, every = (round(1e6 * s) for s in (REPLAY_LEAD_S, LEAST_REPLAY_S, REPLAY_EVERY_S))
    return list(range(first_us + lead, last_us - least + 1, every))
