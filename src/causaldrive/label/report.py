"""The label stage's page: counts, plots of some recordings with their meta actions and keyframes, rejected examples.

Reads labels and a few recordings, writes `report.html`, self-contained. Knows nothing of how labels were made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from causaldrive.clips.resample import ego_at_10hz
from causaldrive.clips.store import SetAside, read_recording
from causaldrive.ground.files import write_text
from causaldrive.label.balance import Group
from causaldrive.label.lane_actions import detect_lane
from causaldrive.label.meta_actions import detect
from causaldrive.label.plots import motion_plot
from causaldrive.label.types import CocLabel

SHOWN_RECORDINGS = 6
SHOWN_KEYFRAMES = 14
SHOWN_REJECTED = 12
GROUPS = "Accepted by scene family and decision"


@dataclass(frozen=True)
class Count:
    """One bar: a name, how often, and its share of the table's largest."""

    name: str
    count: int
    share: float


def write_report(
    out: Path, labels: Sequence[CocLabel], directories: Sequence[Path], set_aside: Sequence[SetAside], teacher: str,
    groups: Sequence[Group] = (),
) -> None:  # fmt: skip
    """Write `report.html` into `out`; `directories` are the labelled recordings, of which a few are plotted."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("causaldrive.label", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    accepted = [label for label in labels if label.status == "accepted"]
    rejected = [label for label in labels if label.status == "rejected"]
    page = environment.get_template("report.html.jinja").render(
        teacher=teacher,
        recordings=len(directories),
        set_aside=set_aside,
        labels=labels,
        accepted=len(accepted),
        rejected=len(rejected),
        tables={**count_tables(labels), GROUPS: _group_counts(groups)},
        plots=[_plotted(directory, labels) for directory in _spread(directories, SHOWN_RECORDINGS)],
        rejected_examples=[_row(label) for label in _one_per_reason(rejected)],
    )
    write_text(out / "report.html", page)


def count_tables(labels: Sequence[CocLabel]) -> dict[str, list[Count]]:
    """Title -> counts. Decisions and causes are counted over accepted labels, reasons over rejected ones."""
    accepted = [label for label in labels if label.status == "accepted"]
    kinds = [cause.kind or cause.category for label in accepted for cause in label.causes]
    free = ["no cause"] * sum(not label.causes for label in accepted)
    checks = [_outcome(v.check, v.passed) for label in labels for v in label.verdicts if v.passed is not True]
    return {
        "Status": _counts(label.status for label in labels),
        "Keyframes": _counts(label.origin for label in labels),
        "Longitudinal decision": _counts(label.decision_longitudinal or "none" for label in accepted),
        "Lateral decision": _counts(_lateral(label) for label in accepted),
        "Cause": _counts([*kinds, *free]),
        "Checks not passed": _counts(checks),
        "Why rejected": _counts(_without_numbers(reason_of(label)) for label in labels if label.status == "rejected"),
        "Why unscored": _counts(failure_kind(label) for label in labels if label.status == "unscored"),
    }


def _group_counts(groups: Sequence[Group]) -> list[Count]:
    """One bar a group, as long as what was kept; the name tells how many there were."""
    most = max((group.kept for group in groups), default=1)
    return [Count(f"{g.name} (of {g.found})", g.kept, g.kept / most) for g in groups]


def reason_of(label: CocLabel) -> str:
    """What the failed checks said, in one line; empty where none failed."""
    return "; ".join(verdict.reason for verdict in label.verdicts if verdict.passed is False)


def failure_kind(label: CocLabel) -> str:
    """The kind of failure for which a label is unscored, as its verdict names it."""
    said = [verdict.reason for verdict in label.verdicts if verdict.passed is None]
    return said[-1].partition(":")[0] if said else "not judged"


def _outcome(check: str, passed: bool | None) -> str:
    return f"{check}: {'failed' if passed is False else 'could not judge'}"


def _counts(names: Iterable[str]) -> list[Count]:
    found = Counter(names).most_common()
    return [Count(name, count, count / found[0][1]) for name, count in found]


def _lateral(label: CocLabel) -> str:
    return " ".join(part for part in (label.decision_lateral, label.direction) if part) or "none"


def _without_numbers(reason: str) -> str:
    """Numbers out, so that like reasons count as one."""
    return re.sub(r"[-+]?\d+(\.\d+)?", "#", reason)


def _spread(directories: Sequence[Path], count: int) -> list[Path]:
    picked = {i * len(directories) // count for i in range(count)} if directories else set()
    return [directories[i] for i in sorted(picked)]


def _plotted(directory: Path, labels: Sequence[CocLabel]) -> dict:
    recording = read_recording(directory)
    own = [label for label in labels if label.recording_id == recording.recording_id]
    ego = ego_at_10hz(recording.ego)
    start_us = int(ego.t_us[0])
    shown = sorted(own, key=lambda label: (label.origin != "transition", label.t0_us))[:SHOWN_KEYFRAMES]
    return {
        "id": recording.recording_id,
        "image": motion_plot(ego, detect(ego), own, detect_lane(ego, recording.road) if recording.road else None),
        "rows": [_row(label, start_us) for label in sorted(shown, key=lambda label: label.t0_us)],
        "left_out": len(own) - len(shown),
    }


def _row(label: CocLabel, start_us: int = 0) -> dict:
    return {
        "id": label.recording_id,
        "t_s": (label.t0_us - start_us) / 1e6,
        "origin": label.origin,
        "trace": label.trace,
        "status": label.status,
        "reason": reason_of(label),
        "future": ", ".join(label.meta_future[:3]),
    }


def _one_per_reason(rejected: Sequence[CocLabel]) -> list[CocLabel]:
    seen: dict[str, CocLabel] = {}
    for label in rejected:
        seen.setdefault(_without_numbers(reason_of(label)), label)
    return list(seen.values())[:SHOWN_REJECTED]
