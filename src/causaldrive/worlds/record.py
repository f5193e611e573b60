"""The stage `worlds record`: the expert drives seeded scenes of the town, camera on, one recording a scene.

Writes `recordings/<id>/` (see `clips.store`), `metrics.jsonl` and `report.html` into its run directory. Scenes run side
by side in worker processes; a finished recording is never driven again, and one that fails is set aside and counted.
Knows nothing of labels.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from causaldrive.clips.store import write_recording
from causaldrive.ground.errors import UserError
from causaldrive.ground.progress import Meter
from causaldrive.ground.runs import Run, open_run
from causaldrive.ground.words import STEP_S
from causaldrive.worlds.expert_drive import Disturbance, Drive, draw_disturbance, drive
from causaldrive.worlds.record_report import write_report
from causaldrive.worlds.recording_of import recording_of
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.scenes import SceneSpec, build_scene, default_camera, draw_specs

_MARK = "recording.json"


@dataclass(frozen=True)
class RecordConfig:
    """Record the expert in the embedded town."""

    out: Path  # run directory
    scenes: int = 24  # how many
    first_seed: int = 0  # seeds run on from here; 12 scenes show every core family in both variants
    families: tuple[str, ...] = ()  # which kinds of scene; the six core ones when empty
    workers: int = 2  # processes, one renderer each
    camera_hz: float = 10.0  # frames a second: 10, 5, 2.5, 2 or 1
    duration_s: float = 16.0  # longest recording
    disturb: float = 0.5  # share of scenes in which the car is pushed off its course and has to recover
    late: float = 0.0  # share in which the driver looks away at the first cause and acts late; not of the pushed ones


@dataclass(frozen=True)
class Outcome:
    """How one scene ended. `failure` is empty when its recording was written."""

    scene_id: str
    failure: str = ""


def run(config: RecordConfig) -> None:
    """Record all scenes of `config`. Raises UserError when no scene could be recorded."""
    specs = draw_specs(config.scenes, config.first_seed, config.families)
    _frame_stride(config.camera_hz)
    _check(config)
    with open_run(config.out, "worlds record", config) as stage:
        if stage.done:
            return
        stage.keep_metrics(lambda line: not line["failure"])
        missing = [spec for spec in specs if not (_directory(config, spec) / _MARK).exists()]
        with Meter("worlds record", len(specs), "scenes", done=len(specs) - len(missing)) as meter:
            for outcome in _record_all(missing, config):
                _note(stage, outcome)
                meter.advance()
        failed = [line for line in stage.metrics() if line["failure"]]
        if failed and len(failed) == len(specs):
            raise UserError(
                f"none of {len(specs)} scenes could be recorded; the first failed with: {failed[0]['failure']}"
            )
        written = [spec for spec in specs if (_directory(config, spec) / _MARK).exists()]
        write_report(config.out, [_directory(config, spec) for spec in written], failed)


def _check(config: RecordConfig) -> None:
    if config.workers < 1:
        raise UserError(f"workers is {config.workers}; at least 1 expected, so set --workers 1.")
    if config.duration_s < 2.0:
        raise UserError(f"duration-s is {config.duration_s}; at least 2 expected for a history, so make it longer.")
    for name in ("disturb", "late"):
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise UserError(f"{name} is {getattr(config, name)}; a share from 0 to 1 expected, so change it.")
    if config.disturb + config.late > 1.0:
        raise UserError(
            f"disturb and late are {config.disturb} and {config.late}; shares of all scenes that are 1 together at "
            "most expected, so lower one."
        )


def _frame_stride(camera_hz: float) -> int:
    stride = 1 / (STEP_S * camera_hz) if camera_hz > 0 else 0.0
    if stride < 1 or abs(stride - round(stride)) > 1e-6:
        raise UserError(f"camera-hz is {camera_hz}; the town ticks at 10 Hz, so choose 10, 5, 2.5, 2 or 1.")
    return round(stride)


def _directory(config: RecordConfig, spec: SceneSpec) -> Path:
    return config.out / "recordings" / spec.scene_id


def _note(stage: Run, outcome: Outcome) -> None:
    stage.log(scene=outcome.scene_id, failure=outcome.failure)
    if outcome.failure:
        print(f"worlds record: {outcome.scene_id} set aside: {outcome.failure}", flush=True)


def _record_all(specs: list[SceneSpec], config: RecordConfig) -> Iterator[Outcome]:
    """Record in this process with one worker, else in spawned ones (a forked renderer would share its GL state)."""
    if config.workers == 1 or len(specs) < 2:
        recorder = Recorder(config)
        yield from (recorder.record(spec) for spec in specs)
        recorder.close()
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(config.workers, len(specs)), context, _start_worker, (config,)) as pool:
        for future in as_completed([pool.submit(_work, spec) for spec in specs]):
            yield future.result()


_recorder: Recorder | None = None  # one per worker process


def _start_worker(config: RecordConfig) -> None:
    global _recorder
    _recorder = Recorder(config)


def _work(spec: SceneSpec) -> Outcome:
    assert _recorder is not None
    return _recorder.record(spec)


class Recorder:
    """Drives, renders and writes scenes one by one, with one renderer."""

    def __init__(self, config: RecordConfig):
        self.config = config
        self._renderer: Renderer | None = None

    def record(self, spec: SceneSpec) -> Outcome:
        """Write one recording; whatever goes wrong is told in the outcome, so that the others go on."""
        try:
            self._write(spec)
        except Exception as error:  # one broken scene must not end the stage
            return Outcome(spec.scene_id, f"{type(error).__name__}: {error}")
        return Outcome(spec.scene_id)

    def close(self) -> None:
        if self._renderer is not None:
            self._renderer.close()

    def _write(self, spec: SceneSpec) -> None:
        disturbance = draw_disturbance(spec, self.config.disturb, self.config.late)
        driven = drive(build_scene(spec), self.config.duration_s, disturbance)
        shown = driven.states[:: _frame_stride(self.config.camera_hz)]
        frame_t_us = np.array([s.t_us for s in shown], np.int64)
        meta = _meta(spec, driven, disturbance)
        recording = recording_of(spec.scene_id, driven.states, driven.context, frame_t_us, meta)
        write_recording(
            _directory(self.config, spec), recording, {driven.context.camera.name: self._render(driven, shown)}
        )

    def _render(self, driven: Drive, shown: list) -> Iterator[np.ndarray]:
        if self._renderer is None:
            self._renderer = Renderer(default_camera())
        scene = self._renderer.open(driven.context)
        try:
            for state in shown:
                yield scene.render(state)
        finally:
            scene.close()


def _meta(spec: SceneSpec, driven: Drive, disturbance: Disturbance | None) -> dict:
    """What a reader of the recording may want to know of its scene."""
    return {
        "family": spec.family,
        "seed": spec.seed,
        "harmless": spec.harmless,
        "disturbed": disturbance is not None and not disturbance.late_s,
        "late_s": disturbance.late_s if disturbance else 0.0,
        "pushed_us": [list(span) for span in driven.pushed_us],
        "duration_s": round((driven.states[-1].t_us - driven.states[0].t_us) * 1e-6, 3),
        "target_speed_mps": driven.context.target_speed_mps,
        "focus_id": driven.scene.focus_id,
        "focus_kind": driven.scene.focus_kind,
        "key_t_us": driven.key_t_us(),
        "appearance": driven.context.appearance,
    }
