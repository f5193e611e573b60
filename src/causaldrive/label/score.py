"""The `label score` stage: how well any teacher labels drives of the town, where decisions and causes are known.

Reads recordings of the town; writes `score.json`, the teacher's `labels.parquet`, its raw replies and `report.html`.
Knows nothing of how a label is made.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from causaldrive.clips.store import find_recordings, read_recording
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import write_json
from causaldrive.ground.page import Cell, Section, Table, write_page
from causaldrive.ground.progress import Meter
from causaldrive.ground.runs import open_run
from causaldrive.ground.words import CAUSE_KINDS
from causaldrive.label.asking import Asked, AskSettings, ask_all
from causaldrive.label.critic import CriticConfig
from causaldrive.label.openai_teacher import OpenAiTeacher, TeacherConfig
from causaldrive.label.recording_view import PRIVILEGED_SOURCE, view_of
from causaldrive.label.report import reason_of
from causaldrive.label.scoring import METRICS, estimates, tallies_of, truth_at
from causaldrive.label.store import write_labels
from causaldrive.label.teachers import teacher_of
from causaldrive.label.truth import Tally, Truth
from causaldrive.label.types import CocLabel

_LOWER_IS_BETTER = ("hallucination_rate", "locality_violations")
_SHOWN = 24


@dataclass(frozen=True)
class ScoreConfig:
    """Score a teacher on drives of the town, whose causes are known."""

    recordings: Path  # a recording of the town, or a directory that holds some
    out: Path  # run directory for score.json and report.html
    teacher: str = "openai"  # openai, motion or expert
    every_s: float = 2.0  # also score every so many seconds; 0: only where the car changes what it does
    limit: int = 0  # score on at most this many recordings; 0: all
    openai: TeacherConfig = field(default_factory=TeacherConfig)  # the endpoint of the openai teacher
    cache: Path | None = None  # where raw replies are kept; in the run directory where none is named

    @property
    def deciding(self) -> ScoreConfig:
        """The part that decides what comes out."""
        return replace(self, openai=self.openai.deciding(), cache=None)


@dataclass
class Scored:
    """Labels with what they earned and what was true, and recordings set aside with the reason."""

    labels: list[CocLabel] = field(default_factory=list)
    rows: list[dict[str, Tally]] = field(default_factory=list)
    truths: list[Truth] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)


def run(config: ScoreConfig) -> None:
    """Score a teacher. Raises UserError when nothing can be scored or the configuration makes no sense."""
    if config.teacher == OpenAiTeacher.name:
        config.openai.check("openai")
    else:
        teacher_of(config.teacher)
    directories = find_recordings(config.recordings)[: config.limit or None]
    with open_run(config.out, "label score", config.deciding, {"recordings": config.recordings}) as opened:
        if opened.done:
            return
        scored, asked, started = Scored(), Asked(), time.monotonic()
        try:
            _label(directories, config, scored, asked)
        finally:
            opened.log(**asked.teacher.as_json(config.openai.price_in, config.openai.price_out))
        if not scored.labels:
            why = scored.set_aside[0] if scored.set_aside else "no recording holds a keyframe"
            raise UserError(f"{config.recordings}: nothing can be scored; {why}.")
        write_labels(config.out, scored.labels)
        result = _result(config, scored, opened.metrics(), time.monotonic() - started)
        write_json(config.out / "score.json", result)
        _write_report(config.out, result, scored)
        _print(result)


def _label(directories: Sequence[Path], config: ScoreConfig, scored: Scored, asked: Asked) -> None:
    cache = config.cache or config.out / "replies"
    settings = AskSettings(config.teacher, config.openai, CriticConfig(), config.every_s, cache)
    done: dict[Path, list[CocLabel]] = {}
    with Meter("label score", len(directories), "recordings") as meter:

        def finished(directory: Path, labels: list[CocLabel], reason: str | None) -> None:
            if reason:
                scored.set_aside.append(f"{directory}: {reason}")
            done[directory] = labels
            meter.advance()

        known = [directory for directory in directories if _is_town(directory, scored)]
        ask_all(known, settings, finished, asked)
    for directory in known:  # in a fixed order, whichever ended first
        _score(directory, done[directory], scored)


def _is_town(directory: Path, scored: Scored) -> bool:
    try:
        recording = read_recording(directory)
        if recording.source != PRIVILEGED_SOURCE or recording.agents is None:
            raise UserError("its causes are not known; a recording of the town with its agents expected")
    except UserError as error:
        scored.set_aside.append(f"{directory}: {error}")
        return False
    return True


def _score(directory: Path, labels: Sequence[CocLabel], scored: Scored) -> None:
    if not labels:
        return
    view = view_of(read_recording(directory))
    for label in labels:
        scored.labels.append(label)
        scored.rows.append(tallies_of(label, view))
        scored.truths.append(truth_at(view, label.t0_us))


def _result(config: ScoreConfig, scored: Scored, logged: Sequence[dict[str, Any]], seconds: float) -> dict[str, Any]:
    recordings = [label.recording_id for label in scored.labels]
    asked = config.teacher == OpenAiTeacher.name
    count = len(scored.labels)
    totals = {name: sum(line.get(name, 0) for line in logged)
              for name in ("requests", "tokens_in", "tokens_out", "reply_seconds", "money")}  # fmt: skip
    failures: dict[str, int] = {}
    for label in scored.labels:
        for verdict in label.verdicts:
            if verdict.check == "teacher":
                kind = verdict.reason.partition(":")[0]
                failures[kind] = failures.get(kind, 0) + 1
    return {
        "teacher": config.teacher,
        "model": config.openai.model if asked else "",
        "endpoint": config.openai.host if asked else "",
        "prompt_hash": scored.labels[0].prompt_hash,
        "recordings": len(set(recordings)),
        "set_aside": scored.set_aside,
        "keyframes": count,
        "metrics": {name: asdict(value) for name, value in estimates(scored.rows, recordings).items()},
        "failures": dict(sorted(failures.items())),
        "cost": {**totals, "wall_seconds": round(seconds, 3)},
        "cost_per_label": {name: round(total / count, 6) for name, total in totals.items()},
    }


def _shown(value: dict[str, Any]) -> Cell:
    if value["value"] is None:
        return Cell("–", "nothing to count", "muted")
    interval = "" if value["low"] is None else f"{100 * value['low']:.0f}–{100 * value['high']:.0f}, "
    return Cell(f"{100 * value['value']:.1f} %", f"{interval}n {value['n']}")


def _print(result: dict[str, Any]) -> None:
    who = " ".join(part for part in (result["teacher"], result["model"]) if part)
    print(f"label score: {who}, {result['keyframes']} keyframes of {result['recordings']} recordings")
    for name, title in METRICS.items():
        cell = _shown(result["metrics"][name])
        print(f"  {title:<32} {cell.text:>8}  {cell.note}")
    cost = result["cost_per_label"]
    print(f"  per label: {cost['requests']:.1f} requests, {cost['tokens_in']:.0f} + {cost['tokens_out']:.0f} tokens, "
          f"{cost['reply_seconds']:.2f} s of replies, {cost['money']:.5f} money")  # fmt: skip
    for reason in result["set_aside"]:
        print(f"  set aside {reason}")


def _write_report(out: Path, result: dict[str, Any], scored: Scored) -> None:
    better = {name: "lower" if name in _LOWER_IS_BETTER else "higher" for name in METRICS}
    metrics = [[title, _shown(result["metrics"][name]), better[name]] for name, title in METRICS.items()]
    cost = [[name.replace("_", " "), result["cost"][name], per] for name, per in result["cost_per_label"].items()]
    failures = [[kind, count] for kind, count in result["failures"].items()]
    kinds = [[kind, *counts] for kind, counts in _by_kind(scored).items()]
    sections = [
        Section("How good", [Table(("metric", "value", "better"), metrics, "95 % intervals over recordings.")]),
        Section("Causes by kind", [Table(("kind", "true", "named", "both"), kinds)]),
        Section("Cost", [Table(("what", "in all", "per label"), cost)]),
        Section("Without a label", [Table(("kind of failure", "keyframes"), failures)] if failures else ["None."]),
        Section("Some labels", [_examples(scored)]),
        Section("Set aside", list(result["set_aside"]) or ["None."]),
    ]
    who = result["model"] or result["teacher"]
    lead = f"{result['keyframes']} keyframes of {result['recordings']} drives of the town, whose causes are known."
    write_page(out / "report.html", f"The teacher {who}, scored", sections, lead)


def _by_kind(scored: Scored) -> dict[str, list[int]]:
    """Kind -> in how many labels it was true, named, both; kinds that never came up are left out."""
    counts = {kind: [0, 0, 0] for kind in CAUSE_KINDS}
    for label, truth in zip(scored.labels, scored.truths, strict=True):
        named, right = {cause.kind for cause in label.causes}, set(truth.cause_kinds or ())
        for kind, count in counts.items():
            hits = (kind in right, kind in named, kind in right and kind in named)
            count[:] = [total + hit for total, hit in zip(count, hits, strict=True)]
    return {kind: count for kind, count in counts.items() if any(count)}


def _examples(scored: Scored) -> Table:
    """Labels spread over all of them, beside the truth."""
    step = max(len(scored.labels) // _SHOWN, 1)
    rows = []
    for label, truth in list(zip(scored.labels, scored.truths, strict=True))[::step][:_SHOWN]:
        right = f"{truth.longitudinal}, {truth.lateral}: {', '.join(truth.cause_kinds or ()) or 'no cause'}"
        rows.append([f"{label.recording_id} {label.t0_us / 1e6:.1f} s", label.trace or reason_of(label)
                     or label.verdicts[0].reason, right, label.status])  # fmt: skip
    return Table(("keyframe", "the teacher said", "the truth", "status"), rows, text_columns=4)
