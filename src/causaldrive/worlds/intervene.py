"""The stage `worlds intervene`: every reason of the expert is tried by taking it away; `causes.py` has the criterion.

Writes `scenes/<id>.json` (the trials of one scene), `trials.parquet` (all of them), `disagreements.jsonl` and
`pictures/` (those where intervention and expert disagree), `summary.json`, `report.html` into its run directory. A
scene that is done is never tried again; one that fails is set aside and counted. Knows nothing of labels or students.
"""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_json, write_bytes, write_json, write_table, write_text
from causaldrive.ground.progress import Meter
from causaldrive.ground.runs import Run, open_run
from causaldrive.ground.words import STEP_S
from causaldrive.worlds.causes import Trial, trials
from causaldrive.worlds.intervene_report import as_line, picture_of, write_report
from causaldrive.worlds.scenes import FAMILIES, SceneSpec, build_scene, draw_specs
from causaldrive.worlds.town import TownWorld

MOST_PICTURES_A_SCENE = 3


@dataclass(frozen=True)
class InterveneConfig:
    """Take every stated cause and every harmless factor away, and see whether the expert drives differently."""

    out: Path  # run directory
    scenes: int = 60  # how many
    first_seed: int = 0  # seeds run on from here; 60 scenes show every family in both variants
    families: tuple[str, ...] = ()  # which kinds of scene; all when empty
    every_s: float = 0.5  # between two moments that are tried, in each scene
    workers: int = 2  # processes

    def validate(self) -> None:
        """Raises UserError for numbers out of range."""
        if self.scenes < 1:
            raise UserError(f"scenes is {self.scenes}; at least 1 expected, so set --scenes 60.")
        if self.workers < 1:
            raise UserError(f"workers is {self.workers}; at least 1 expected, so set --workers 1.")
        if self.every_s < STEP_S - 1e-9:
            raise UserError(f"every-s is {self.every_s}; the town ticks every {STEP_S} s, so give that or more.")


@dataclass(frozen=True)
class _Tried:
    """One scene's trials as lines, and the pictures of its disagreements; or why there are none."""

    scene_id: str
    lines: list[dict[str, Any]]
    pictures: dict[str, bytes]
    failure: str = ""


def run(config: InterveneConfig) -> None:
    """The stage's entry point. Raises UserError when no scene could be tried."""
    config.validate()
    specs = draw_specs(config.scenes, config.first_seed, config.families or tuple(FAMILIES))
    with open_run(config.out, "worlds intervene", config) as stage:
        if stage.done:
            return
        stage.keep_metrics(lambda line: not line["failure"])
        missing = [spec for spec in specs if not _file(config, spec.scene_id).exists()]
        with Meter("worlds intervene", len(specs), "scenes", done=len(specs) - len(missing)) as meter:
            for tried in _try_all(missing, config):
                _keep(stage, config, tried)
                meter.advance()
        _finish(stage, config, specs)


def _file(config: InterveneConfig, scene_id: str) -> Path:
    return config.out / "scenes" / f"{scene_id}.json"


def _keep(stage: Run, config: InterveneConfig, tried: _Tried) -> None:
    verdicts = Counter(line["verdict"] for line in tried.lines)
    if tried.failure:
        print(f"worlds intervene: {tried.scene_id} set aside: {tried.failure}", flush=True)
    else:
        for name, data in tried.pictures.items():
            write_bytes(config.out / "pictures" / name, data)
        write_json(_file(config, tried.scene_id), tried.lines)
    stage.log(scene=tried.scene_id, failure=tried.failure, trials=len(tried.lines), **verdicts)


def _finish(stage: Run, config: InterveneConfig, specs: list[SceneSpec]) -> None:
    failed = [line for line in stage.metrics() if line["failure"]]
    if len(failed) == len(specs):
        raise UserError(f"none of {len(specs)} scenes could be tried; the first failed with: {failed[0]['failure']}")
    found = [_file(config, spec.scene_id) for spec in specs if _file(config, spec.scene_id).exists()]
    lines = [line for path in found for line in read_json(path)]
    if lines:
        write_table(config.out / "trials.parquet", pa.Table.from_pylist(lines))
    apart = [line for line in lines if line["agrees"] is False]
    write_text(config.out / "disagreements.jsonl", "".join(_json_line(line) for line in apart))
    write_report(config.out, lines, failed, len(found))


def _json_line(line: dict[str, Any]) -> str:
    return json.dumps(line) + "\n"


def _try_all(specs: list[SceneSpec], config: InterveneConfig) -> Iterator[_Tried]:
    if config.workers == 1 or len(specs) < 2:
        yield from (try_scene(spec, config.every_s) for spec in specs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(config.workers, len(specs)), context) as pool:
        for future in as_completed([pool.submit(try_scene, spec, config.every_s) for spec in specs]):
            yield future.result()


def try_scene(spec: SceneSpec, every_s: float) -> _Tried:
    """All trials of one scene; whatever goes wrong is told, so that the others go on."""
    lines: list[dict[str, Any]] = []
    pictures: dict[str, bytes] = {}
    try:
        for trial in trials(TownWorld(build_scene(spec)), every_s):
            name = ""
            if trial.agrees is False and len(pictures) < MOST_PICTURES_A_SCENE:
                name = _picture_name(spec, trial)
                pictures[name] = picture_of(trial)
            lines.append(as_line(spec, trial, name))
    except Exception as error:  # one broken scene must not end the stage
        return _Tried(spec.scene_id, [], {}, f"{type(error).__name__}: {error}")
    return _Tried(spec.scene_id, lines, pictures)


def _picture_name(spec: SceneSpec, trial: Trial) -> str:
    about = (trial.factor.agent_id or trial.factor.kind).replace("/", "_")
    return f"{spec.scene_id}_{trial.t_us // 100_000:04d}_{about}.png"
