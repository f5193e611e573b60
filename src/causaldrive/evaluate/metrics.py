"""From records to table rows: every metric is a ratio of sums, so one mechanism gives all values and intervals.

A record is one line of a log: a moment (open loop) or a scene (closed loop) of one driver. Records that carry a
`failure` are counted apart and score nothing. Reads and writes nothing. Knows nothing of drivers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from causaldrive.evaluate.reasoning import motion_from_json, tallies
from causaldrive.ground import statistics
from causaldrive.ground.statistics import Estimate
from causaldrive.label.truth import Tally, Truth

Record = Mapping[str, Any]
SHORT_STEPS, FULL_STEPS = 30, 64  # 3 s and 6.4 s at 10 Hz


@dataclass(frozen=True)
class Metric:
    """A metric's name in words, its unit ('m', '%', ''), which way is better, and whether it is a share of trials."""

    title: str
    unit: str
    better: str  # 'low', 'high', 'none'
    is_share: bool


def _percent(title: str, better: str) -> Metric:
    return Metric(title, "%", better, True)


METRICS: dict[str, Metric] = {
    "minade_3s_m": Metric("minADE @3 s", "m", "low", False),
    "minade_6s4_m": Metric("minADE @6.4 s", "m", "low", False),
    "ade_6s4_m": Metric("ADE @6.4 s, first sample", "m", "low", False),
    "fde_6s4_m": Metric("FDE @6.4 s, first sample", "m", "low", False),
    "jerk_mps3": Metric("jerk, RMS", "m/s³", "low", False),
    "lateral_acceleration_mps2": Metric("lateral acceleration, RMS", "m/s²", "low", False),
    "aside_2s_m": Metric("aside @2 s, first sample", "m", "low", False),
    "steering_gain": Metric("steering gain @2 s", "", "none", False),
    "path_parse_rate": _percent("paths readable", "high"),
    "written_tokens": Metric("tokens an answer", "", "low", False),
    "clean_share": _percent("clean scenes", "high"),
    "at_fault_collision_share": _percent("at-fault collision", "low"),
    "any_collision_share": _percent("any collision", "low"),
    "off_road_share": _percent("off road", "low"),
    "rule_breaking_share": _percent("rule breaking", "low"),
    "close_encounter_share": _percent("close encounter", "low"),
    "progress": Metric("progress", "", "high", False),
    "comfort": Metric("comfort", "", "high", False),
    "scene_score": Metric("scene score", "", "high", False),
    "parse_rate": _percent("readable", "high"),
    "longitudinal_accuracy": _percent("longitudinal right", "high"),
    "lateral_accuracy": _percent("lateral right", "high"),
    "decision_accuracy": _percent("decision right", "high"),
    "cause_precision": Metric("cause precision", "", "high", True),
    "cause_recall": Metric("cause recall", "", "high", True),
    "cause_f1": Metric("cause F1", "", "high", True),
    "cause_set_exact": _percent("causes exactly right", "high"),
    "consistency": _percent("does what it says", "high"),
}


@dataclass(frozen=True)
class Row:
    """One number of one driver. `group` is 'all', 'family:NAME' or 'variant:cause|harmless'."""

    part: str  # 'open_loop', 'closed_loop', 'replay'
    driver: str
    group: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int
    failures: int
    method: str
    by_construction: bool = False  # the driver is the truth it is measured by


@dataclass(frozen=True)
class Difference:
    """One driver minus another on the items both have."""

    part: str
    driver: str
    other: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    clusters: int


def tally_of(record: Record, part: str) -> dict[str, Tally]:
    """A record's share of every metric; empty for a failure."""
    if record["failure"] is not None:
        return {}
    return _open_loop(record) if part == "open_loop" else _closed_loop(record)


def _open_loop(record: Record) -> dict[str, Tally]:
    error_m = np.array(record["error_m"], float)  # (K, 64) distance of each sample to the truth at each way-point
    if not error_m.size:  # no answer could be read: unscored, and counted
        return {"path_parse_rate": Tally(0, record["paths"][1], record["paths"][1])}
    found = {
        "minade_3s_m": Tally(float(error_m[:, :SHORT_STEPS].mean(axis=1).min()), 1),
        "minade_6s4_m": Tally(float(error_m[:, :FULL_STEPS].mean(axis=1).min()), 1),
        "ade_6s4_m": Tally(float(error_m[0].mean()), 1),
        "fde_6s4_m": Tally(float(error_m[0, -1]), 1),
    }
    for name in ("jerk_mps3", "lateral_acceleration_mps2", "aside_2s_m", "written_tokens"):  # old logs have none
        if record.get(name) is not None:
            found[name] = Tally(float(record[name]), 1)
    if "steered_m2" in record:
        found["steering_gain"] = Tally(*record["steered_m2"])
    if record.get("paths"):
        read, asked = record["paths"]
        found["path_parse_rate"] = Tally(read, asked, asked)
    return found | (_said(record) if record["text"] is not None else {})


def _said(moment: Record) -> dict[str, Tally]:
    return tallies(moment["text"], Truth.from_json(moment["truth"]), motion_from_json(moment["motion"]))


_FLAGS = ("at_fault_collision", "any_collision", "off_road", "rule_breaking", "close_encounter", "clean")


def _closed_loop(record: Record) -> dict[str, Tally]:
    score = record["score"]
    found = {f"{flag}_share": Tally(float(score[flag]), 1) for flag in _FLAGS}
    found |= {name: Tally(score[name], 1) for name in ("progress", "comfort", "scene_score")}
    for moment in record["decisions"]:
        if moment["text"] is not None:
            for name, tally in _said(moment).items():
                before = found.get(name, Tally(0, 0, 0))
                found[name] = before.plus(tally)
    return found


def group_names(record: Record) -> list[str]:
    """Groups of a record: all, its family, its variant where known."""
    names = ["all"]
    if record.get("family"):
        names.append(f"family:{record['family']}")
    if record.get("harmless") is not None:
        names.append("variant:" + ("harmless" if record["harmless"] else "cause"))
    return names


class Log:
    """One driver's records of one part, tallied once."""

    def __init__(self, driver: str, part: str, records: Sequence[Record], by_construction: bool = False):
        self.driver, self.part, self.records, self.by_construction = driver, part, list(records), by_construction
        self.tallies = [tally_of(record, part) for record in self.records]

    def rows(self, seed: int) -> list[Row]:
        """Every metric of every group."""
        groups: dict[str, list[int]] = {}
        for index, record in enumerate(self.records):
            for name in group_names(record):
                groups.setdefault(name, []).append(index)
        return [row for group, chosen in groups.items() for row in self._group_rows(group, chosen, seed)]

    def _group_rows(self, group: str, chosen: list[int], seed: int) -> Iterable[Row]:
        failures = sum(self.records[index]["failure"] is not None for index in chosen)
        for metric in METRICS:
            held = [index for index in chosen if metric in self.tallies[index]]
            if held or (failures == len(chosen) and metric in _ALWAYS[self.part]):
                e = self._estimate(metric, held, seed)
                yield Row(self.part, self.driver, group, metric, e.value, e.low, e.high, e.n, e.clusters, failures,
                          e.method, self.by_construction)  # fmt: skip

    def _estimate(self, metric: str, held: list[int], seed: int) -> Estimate:
        columns = np.array([self.tallies[index][metric] for index in held]).reshape(-1, 3)
        clusters = [self.records[index]["cluster"] for index in held]
        function = statistics.share if METRICS[metric].is_share else statistics.ratio
        return function(columns[:, 0], columns[:, 1], clusters, seed, n=int(columns[:, 2].sum()))


_ALWAYS: dict[str, tuple[str, ...]] = {  # shown even when every drive failed: n = 0 says so
    "open_loop": ("minade_3s_m", "minade_6s4_m"),
    "closed_loop": ("clean_share", "scene_score"),
    "replay": ("clean_share", "scene_score"),
}


def compare(first: Log, second: Log, metrics: Sequence[str], seed: int) -> list[Difference]:
    """first minus second, metric by metric, over items (same `item` name) that both scored."""
    at = {record["item"]: index for index, record in enumerate(second.records)}
    pairs = [(i, at[record["item"]]) for i, record in enumerate(first.records) if record["item"] in at]
    return [_difference(first, second, pairs, metric, seed) for metric in metrics]


def _difference(first: Log, second: Log, pairs: list[tuple[int, int]], metric: str, seed: int) -> Difference:
    both = [(i, j) for i, j in pairs if metric in first.tallies[i] and metric in second.tallies[j]]
    a = np.array([first.tallies[i][metric] for i, _ in both]).reshape(-1, 3)
    b = np.array([second.tallies[j][metric] for _, j in both]).reshape(-1, 3)
    clusters = [first.records[i]["cluster"] for i, _ in both]
    e = statistics.difference((a[:, 0], a[:, 1]), (b[:, 0], b[:, 1]), clusters, seed)
    return Difference(first.part, first.driver, second.driver, metric, e.value, e.low, e.high, e.n, e.clusters)
