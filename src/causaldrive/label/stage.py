"""The `label` stage: recordings in, `labels.parquet` and `report.html` out.

Each recording becomes a shard of its own, so that a killed run continues with what is missing; when all are there they
become one file. Reads recordings, writes a label run. Knows nothing of how a label is made.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from causaldrive.clips.store import MARK, SetAside, find_recordings
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import read_json
from causaldrive.ground.runs import Run, open_run
from causaldrive.label.asking import Asked, AskSettings
from causaldrive.label.balance import Group, balanced
from causaldrive.label.critic import Critic, CriticConfig
from causaldrive.label.dry_run import print_estimate
from causaldrive.label.engines import check_engine, label_all
from causaldrive.label.labelling import ShardTask, unanswered
from causaldrive.label.meta_actions import profile_of
from causaldrive.label.openai_teacher import OpenAiTeacher, TeacherConfig
from causaldrive.label.report import write_report
from causaldrive.label.store import FILE, read_labels, write_labels
from causaldrive.label.teachers import teacher_of
from causaldrive.label.types import CocLabel


@dataclass(frozen=True)
class LabelConfig:
    """Explain the decisions of driven recordings as Chain-of-Causation labels."""

    recordings: Path  # a recording, or a directory that holds some
    out: Path  # run directory for labels.parquet and report.html
    teacher: str = "expert"  # expert: from annotations; motion: no cause is named; openai: a model at an endpoint
    every_s: float = 0.0  # also label every so many seconds; 0: only where the car changes what it does
    proactive: bool = False  # also label where a cause is there before anybody has to react: curve ahead, lane end, ...
    limit: int = 0  # label at most this many recordings; 0: all
    workers: int = 2  # worker processes; with ray, how many of the whole cluster
    engine: str = "local"  # local: this machine; ray: a Ray cluster whose machines see the same files
    ray_address: str = ""  # of the cluster (host:port, or auto on one of its machines); one is started here where empty
    profile: str = "causaldrive"  # thresholds of the meta actions: causaldrive, or released (the published detector's)
    counterfactual: bool = False  # also ask whether without each named cause the expert would have decided the same
    drive_causes: bool = False  # the same, driving on with and without each cause: the stricter test, and slower
    balance: int = 0  # keep at most this many accepted labels of each decision and scene family; 0: all
    openai: TeacherConfig = field(default_factory=TeacherConfig)  # the endpoint of the openai teacher
    critic: CriticConfig = field(default_factory=CriticConfig)  # judges what the validators pass; none without a URL
    cache: Path | None = None  # where raw replies are kept; in the run directory where none is named
    dry_run: bool = False  # print how many requests, tokens and how much money it would take; ask nothing

    @property
    def settings(self) -> AskSettings:
        """Who is asked, and where the replies are."""
        cache = self.cache or self.out / "replies"
        return AskSettings(
            self.teacher, self.openai, self.critic, self.every_s, cache, self.profile, self.counterfactual,
            self.drive_causes, self.proactive,
        )  # fmt: skip

    @property
    def deciding(self) -> LabelConfig:
        """The part that decides what comes out: the rest may change when a killed run goes on."""
        openai, critic = self.openai.deciding(), self.critic.deciding()
        return replace(self, openai=openai, critic=critic, cache=None, workers=1, engine="local", ray_address="")


def run(config: LabelConfig) -> None:
    """Label every recording. Raises UserError when none can be labelled or the configuration makes no sense."""
    _check(config)
    directories = find_recordings(config.recordings)[: config.limit or None]
    if config.dry_run:
        print_estimate(directories, config.settings)
        return
    with open_run(config.out, "label", config.deciding, {"recordings": config.recordings}) as opened:
        if opened.done:
            return
        tasks = _tasks(config, directories)
        asked = Asked()
        try:
            results = label_all(tasks, config.settings, asked, config.workers, config.engine, config.ray_address)
        finally:
            _log_asked(opened, config, asked)
        set_aside = [SetAside(r.task.directory, r.reason) for r in results if r.reason]
        usable = [task for task in tasks if task.shard.exists()]
        if not usable:
            raise UserError(f"{config.recordings}: no recording could be labelled; the first: {set_aside[0].reason}")
        labels, doubles = _merge(usable)
        set_aside = sorted([*set_aside, *doubles], key=lambda entry: entry.path)
        labels, groups = balanced(labels, _families(usable), config.balance)
        write_labels(config.out, labels)
        directories = [task.directory for task in usable]
        write_report(config.out, labels, directories, set_aside, config.teacher, groups)
        _finish(opened, labels, len(tasks), set_aside, groups)
        without = sum(map(unanswered, labels))
        if without:
            print(f"label: {without} keyframes got no answer; the same command with another --out and with --cache "
                  f"{config.settings.cache} asks for these alone")  # fmt: skip


def _check(config: LabelConfig) -> None:
    if config.teacher == OpenAiTeacher.name:
        config.openai.check("openai")
        OpenAiTeacher(config.openai)  # reads its prompts
    else:
        teacher_of(config.teacher)
    profile_of(config.profile)
    check_engine(config.engine)
    if config.ray_address and config.engine != "ray":
        raise UserError(f"--ray-address {config.ray_address} found without --engine ray; add that, or leave it out.")
    if config.critic.wanted:
        config.critic.check("critic")
        config.critic.refuse_itself(config.openai)
        Critic(config.critic)
    for name, least in (("every_s", 0.0), ("limit", 0), ("workers", 1), ("balance", 0)):
        if not getattr(config, name) >= least:
            raise UserError(f"{name} = {getattr(config, name)} found, at least {least} expected; change --{name}.")


def _tasks(config: LabelConfig, directories: list[Path]) -> list[ShardTask]:
    tasks = []
    for directory in directories:
        inside = directory.relative_to(config.recordings) if directory != config.recordings else Path(directory.name)
        shard = config.out / "shards" / f"{'__'.join(inside.parts)}.parquet"
        options = (config.teacher, config.every_s, config.profile, config.counterfactual, config.drive_causes,
                   config.proactive)  # fmt: skip
        tasks.append(ShardTask(directory, shard, *options))
    return tasks


def _log_asked(opened: Run, config: LabelConfig, asked: Asked) -> None:
    """One line for each role that was asked, also when the run stops: a resumed run adds its own."""
    for role, counts, at in (("teacher", asked.teacher, config.openai), ("critic", asked.critic, config.critic)):
        if counts.requests or counts.cached or counts.failures:
            cost = counts.as_json(at.price_in, at.price_out)
            opened.log(role=role, model=at.model, endpoint=at.host, **cost)
            kinds = ", ".join(f"{kind} {count}" for kind, count in cost["failures"].items()) or "none"
            print(
                f"label: {role} {at.model}: {cost['requests']} requests, {cost['from_cache']} replies from the cache, "
                f"{cost['tokens_in']} + {cost['tokens_out']} tokens, money {cost['money']:g}, failures: {kinds}"
            )


def _merge(tasks: Iterable[ShardTask]) -> tuple[list[CocLabel], list[SetAside]]:
    """Labels of all shards; a recording id that came before is set aside, since labels are found by id."""
    labels: list[CocLabel] = []
    first_with: dict[str, Path] = {}
    doubles = []
    for task in tasks:
        found = read_labels(task.shard)
        owner = first_with.setdefault(found[0].recording_id, task.directory) if found else task.directory
        if owner != task.directory:
            reason = f"{task.directory} has the recording id of {owner}; ids must differ, so rename one."
            doubles.append(SetAside(task.directory, reason))
        else:
            labels.extend(found)
    return labels, doubles


def _families(tasks: Iterable[ShardTask]) -> dict[str, str]:
    """Recording id -> scene family, of those that a world of ours made."""
    heads = [read_json(task.directory / MARK) for task in tasks]
    return {head["recording_id"]: str(head["meta"]["family"]) for head in heads if "family" in head["meta"]}


def _finish(
    opened: Run, labels: list[CocLabel], recordings: int, set_aside: list[SetAside], groups: list[Group]
) -> None:
    counts = {
        status: sum(label.status == status for label in labels) for status in ("accepted", "rejected", "unscored")
    }
    opened.log(recordings=recordings, set_aside=len(set_aside), keyframes=len(labels), **counts)
    for entry in set_aside:
        print(f"label: set aside {entry.path}: {entry.reason}")
    print(
        f"label: {len(labels)} keyframes of {recordings - len(set_aside)} recordings, {counts['accepted']} accepted, "
        f"{counts['rejected']} rejected with reason, {counts['unscored']} unscored, {len(set_aside)} recordings set "
        f"aside: {opened.directory / FILE}"
    )
    origins = Counter(label.origin for label in labels)
    print("label: keyframes by kind: " + ", ".join(f"{origin} {count}" for origin, count in origins.most_common()))
    left_out = sum(group.found - group.kept for group in groups)
    if left_out:
        print(f"label: {left_out} accepted labels left out for balance")
    for group in groups:
        print(f"label: {group.kept:5} of {group.found:5}  {group.name.replace('_', ' ')}")
    shutil.rmtree(opened.directory / "shards", ignore_errors=True)  # all their rows are in labels.parquet
