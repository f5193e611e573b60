"""Planted faults: how many the validators and the critic of causes catch, by kind, and what they reject untouched.

True labels are the expert's own in town drives of every family, where its decision and causes stay the same for the
next second and no push disturbs the motion. Each gets one fault of a drawn kind, written so that decision, causes and
trace agree with each other as far as the kind allows. A share of all rows is also judged by the critic that drives both
branches in the world. Rows are written drive by drive beside --out, so that a run that was cut goes on. Prints a table
and writes JSON. Run: python benchmarks/label_faults.py --out docs/results/label_faults.json
"""

from __future__ import annotations

import argparse
import json
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from causaldrive.ground.files import write_json
from causaldrive.ground.statistics import share
from causaldrive.ground.words import (
    CAUSE_KINDS,
    DIRECTED_LATERAL,
    DIRECTIONS,
    LATERAL_DECISIONS,
    LONGITUDINAL_DECISIONS,
    STEP_US,
)
from causaldrive.label.cause_critic import cause_critic
from causaldrive.label.consistency import LIMITS, SpeedProfile
from causaldrive.label.keyframes import Keyframe
from causaldrive.label.recording_view import RecordingView, view_of
from causaldrive.label.scene_checks import PUSH_FREE_S
from causaldrive.label.teachers import ExpertTeacher, Rejection
from causaldrive.label.trace import SIDED_LATERAL, compose
from causaldrive.label.types import Cause, CocLabel
from causaldrive.label.validators import validate
from causaldrive.worlds.expert import Explanation
from causaldrive.worlds.expert_drive import draw_disturbance, drive
from causaldrive.worlds.recording_of import recording_of
from causaldrive.worlds.scenes import FAMILIES, SceneSpec, build_scene, draw_specs

FIRST_SEED = 620_000  # the rules were mended on the drives from seed 660,000, 690,000 to 705,000 and 715,000 on
EVERY = 3  # label every third frame
DRIVEN_SHARE = 0.06  # of rows that are judged by driving on, too: that takes most of the time
HELD = 10  # frames for which a true decision stays the same
NUDGES = ("in_lane_nudge", "out_of_lane_nudge")
SAID = {  # an object's word that fits a decision: (kind, text)
    "lead_obstacle_following": ("lead_vehicle", "the car ahead is slower"),
    "yield": ("cut_in_vehicle", "a car from the left lane is cutting in"),
    "stop_for_static_constraint": ("red_light", "the traffic light ahead is red"),
    "set_speed_tracking": ("green_light", "the traffic light ahead has turned green"),
    "speed_adaptation": ("lead_vehicle", "the car ahead is braking"),
    "gap_searching": ("neighbour_vehicle", "a car is beside us in the left lane"),
    "acceleration_for_passing": ("lead_vehicle", "the car ahead is slower"),
}
BLOCKS = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Site:
    """A true label and what faults are made of."""

    drive: str
    view: RecordingView
    label: CocLabel
    now: Explanation
    later: tuple[CocLabel, ...]  # true labels of the same drive 2 s later or more


def sites(spec: SceneSpec) -> Iterator[Site]:
    """True labels of one drive."""
    driven = drive(build_scene(spec), 16.0, draw_disturbance(spec, 0.5))
    meta = {"pushed_us": [list(span) for span in driven.pushed_us], "target_speed_mps": driven.context.target_speed_mps,
            "family": spec.family, "seed": spec.seed, "harmless": spec.harmless,
            "disturbed": draw_disturbance(spec, 0.5) is not None}  # fmt: skip
    recording = recording_of(spec.scene_id, driven.states, driven.context, np.zeros(0, np.int64), meta)
    if recording.ego.t_us[-1] < 8_100_000:
        return  # too short a drive for one keyframe
    view = view_of(recording)
    first, last = (t // STEP_US for t in view.usable_range_us)
    made = []
    for i in range(first, last + 1, EVERY):
        if _holds(driven.explanations[i : i + HELD + 1]) and not _pushed(driven.pushed_us, i * STEP_US):
            label = ExpertTeacher().explain(view, Keyframe(i * STEP_US, "periodic"))
            assert not isinstance(label, Rejection)
            made.append((label, driven.explanations[i]))
    for label, now in made:
        later = tuple(other for other, _ in made if other.t0_us >= label.t0_us + 2_000_000 and other.causes)
        yield Site(spec.scene_id, view, label, now, later)


def _holds(explanations: list[Explanation]) -> bool:
    return (
        len({(e.longitudinal, e.lateral, frozenset((c.kind, c.agent_id) for c in e.causes)) for e in explanations}) == 1
    )


def _pushed(spans: list[tuple[int, int]], t0_us: int) -> bool:
    return any(begin <= t0_us + PUSH_FREE_S * 1e6 and end > t0_us for begin, end in spans)


def rewritten(label: CocLabel, **changes) -> CocLabel:
    """The label with changes, and a trace that says the same."""
    made = replace(label, **changes)
    side = made.direction if made.decision_lateral in SIDED_LATERAL else None
    made = replace(made, direction=side)
    return replace(made, trace=compose(made.decision_longitudinal, made.decision_lateral, side, made.causes))


def decision_flipped(site: Site, rng: np.random.Generator) -> CocLabel | None:
    label = site.label
    if rng.random() < 0.75:
        others = [d for d in LONGITUDINAL_DECISIONS if d != label.decision_longitudinal]
        return rewritten(label, decision_longitudinal=str(rng.choice(others)))
    lateral = str(rng.choice([d for d in LATERAL_DECISIONS if d != label.decision_lateral]))
    side = str(rng.choice(DIRECTIONS)) if lateral in DIRECTED_LATERAL else None
    return rewritten(label, decision_lateral=lateral, direction=side)


def side_flipped(site: Site, rng: np.random.Generator) -> CocLabel | None:
    """The decision's side; without one, the side a named curve bends to."""
    label = site.label
    if label.direction is not None:
        return rewritten(label, direction=BLOCKS[label.direction])
    curves = [cause for cause in label.causes if cause.kind == "sharp_curve"]
    if not curves:
        return None
    text = curves[0].text
    turned = text.replace("left", "right") if "left" in text else text.replace("right", "left")
    causes = tuple(replace(c, text=turned) if c is curves[0] else c for c in label.causes)
    return rewritten(label, causes=causes)


def hallucinated_object(site: Site, rng: np.random.Generator) -> CocLabel | None:
    """A thing that is not there: under an id nobody has, or of a kind of which there is none."""
    label = site.label
    decision = label.decision_longitudinal or "set_speed_tracking"
    kind, text = SAID[decision]
    seen = set(site.view.evidence(label.t0_us).category.values())
    if rng.random() < 0.5 and not seen & {"pedestrian"}:
        cause = Cause(
            "critical_object", "a pedestrian is crossing from the right", "pedestrian_crossing", None, label.t0_us
        )
        return rewritten(label, decision_longitudinal="yield", causes=(cause,))
    return rewritten(label, causes=(Cause(CAUSE_KINDS[kind], text, kind, "agent_99", label.t0_us), *label.causes[:1]))


def cause_from_the_future(site: Site, rng: np.random.Generator) -> CocLabel | None:
    """A cause of a later moment; half of them with a time of evidence forged into the history."""
    known = {(c.kind, c.agent_id) for c in site.label.causes}
    found = [(o, c) for o in site.later for c in o.causes if (c.kind, c.agent_id) not in known]
    if not found:
        return None
    other, cause = found[int(rng.integers(len(found)))]
    if rng.random() < 0.5:
        cause = replace(cause, evidence_t_us=site.label.t0_us - 100_000 * int(rng.integers(0, 10)))
    elif (cause.evidence_t_us or 0) <= site.label.t0_us:
        cause = replace(cause, evidence_t_us=other.t0_us)
    return rewritten(site.label, causes=(cause,), decision_longitudinal=other.decision_longitudinal,
                     decision_lateral=other.decision_lateral, direction=other.direction)  # fmt: skip


def red_light_while_accelerating(site: Site, rng: np.random.Generator) -> CocLabel | None:
    """A red light named where the car goes on; a light of the recording where there is one."""
    label = site.label
    speed = SpeedProfile(site.view.motion_from(label.t0_us).speed_mps, LIMITS)
    if speed.slows or speed.stands:
        return None
    lights = sorted(site.view.evidence(label.t0_us).light_states)
    name = str(rng.choice(lights)) if lights else None
    red = Cause("traffic_light", "the traffic light ahead is red", "red_light", name, label.t0_us)
    decision = "stop_for_static_constraint" if rng.random() < 0.5 else label.decision_longitudinal
    return rewritten(label, causes=(red,), decision_longitudinal=decision)


def harmless_object_named(site: Site, rng: np.random.Generator) -> CocLabel | None:
    """Something that is there and asks for nothing, named with a decision that it would fit."""
    label = site.label
    others = [f for f in site.now.others if f.agent_id and f.category == "critical_object"]
    if not others:
        return None
    harmless = others[int(rng.integers(len(others)))]
    t_us = harmless.evidence_t_us
    if harmless.kind == "pedestrian_crossing":
        cause = Cause(
            "critical_object", "a pedestrian is crossing from the left", harmless.kind, harmless.agent_id, t_us
        )
        return rewritten(label, causes=(cause,), decision_longitudinal="yield")
    if label.decision_lateral in NUDGES:
        text = f"a stopped car blocks the {BLOCKS[label.direction or 'left']} side of our lane"
        cause = Cause("critical_object", text, "stopped_vehicle", harmless.agent_id, t_us)
        return rewritten(label, causes=(cause,))
    decision = "yield" if label.decision_longitudinal == "yield" else "lead_obstacle_following"
    kind, text = SAID[decision]
    cause = Cause("critical_object", text, kind, harmless.agent_id, t_us)
    kept = label.causes[:1] if label.decision_longitudinal == decision and rng.random() < 0.5 else ()
    return rewritten(label, causes=(*kept, cause), decision_longitudinal=decision)


def trace_contradicts_fields(site: Site, rng: np.random.Generator) -> CocLabel | None:
    """The sentence of another decision, or of other causes."""
    label = site.label
    if rng.random() < 0.5:
        flipped = decision_flipped(site, rng)
        return replace(label, trace=flipped.trace if flipped else label.trace)
    kind, text = SAID[str(rng.choice(list(SAID)))]
    if kind in {cause.kind for cause in label.causes}:
        return None
    causes = (Cause(CAUSE_KINDS[kind], text, kind), *label.causes[1:])
    return replace(label, trace=rewritten(label, causes=causes).trace)


FAULTS: tuple[Callable[[Site, np.random.Generator], CocLabel | None], ...] = (
    decision_flipped, side_flipped, hallucinated_object, cause_from_the_future, red_light_while_accelerating,
    harmless_object_named, trace_contradicts_fields,
)  # fmt: skip


RARE = (side_flipped, cause_from_the_future)


@dataclass
class Row:
    """One planted or untouched label and who rejected it.

    `critic` is asked where the validators found nothing; `driven`, on a share of all rows, whatever they found.
    """

    kind: str
    drive: str
    validators: tuple[str, ...]
    critic: bool
    driven: bool | None  # None: not asked, or cannot judge
    trace: str


def rows_of(spec: SceneSpec, driven_share: float) -> Iterator[Row]:
    """An untouched and a faulty row for each true label of one drive."""
    judges = None
    for site in sites(spec):
        judges = judges or (cause_critic(site.view), cause_critic(site.view, drives=True))
        rng = np.random.default_rng([zlib.crc32(site.drive.encode()), site.label.t0_us // STEP_US])
        drives = rng.random() < driven_share
        wanted = [FAULTS[i] for i in rng.permutation(len(FAULTS))]
        if rng.random() < 0.6:
            wanted.sort(key=lambda fault: fault not in RARE)  # few labels can take these
        labels = {"untouched": site.label}
        for fault in wanted:
            planted = fault(site, rng)
            if planted is not None and planted != site.label:
                labels[fault.__name__] = planted
                break
        for kind, label in labels.items():
            checked = validate(label, site.view.evidence(label.t0_us))
            failed = tuple(v.check for v in checked.verdicts if v.passed is False)
            critic = not failed and judges[0](label).passed is False
            passed = judges[1](label).passed if drives else None
            yield Row(kind, site.drive, failed, critic, None if passed is None else not passed, label.trace)


def measure(drives: int, first_seed: int, kept: Path | None, driven_share: float) -> list[Row]:
    """Rows of all drives; those that `kept` holds already are read from there."""
    lines = kept.read_text().splitlines() if kept and kept.exists() else []
    rows = [Row(**json.loads(line)) for line in lines]
    done = {row.drive for row in rows if row.kind == "end"}
    rows = [row for row in rows if row.drive in done]
    for spec in draw_specs(drives, first_seed, tuple(FAMILIES)):
        if spec.scene_id in done:
            continue
        more = [*rows_of(spec, driven_share), Row("end", spec.scene_id, (), False, None, "")]
        rows += more
        if kept:
            with kept.open("a") as stream:
                stream.writelines(json.dumps(asdict(row)) + "\n" for row in more)
    return [row for row in rows if row.kind != "end"]


def summary(kind: str, rows: list[Row]) -> dict:
    def part(rows: list[Row], hits: list[bool]) -> dict:
        estimate = share(np.array(hits, float), np.ones(len(hits)), [row.drive for row in rows])
        return {"value": estimate.value, "low": estimate.low, "high": estimate.high}

    missed = [row.trace for row in rows if not row.validators and not row.critic]
    tried = [row for row in rows if row.driven is not None]
    return {
        "kind": kind, "n": len(rows), "drives": len({row.drive for row in rows}),
        "rejected": part(rows, [bool(row.validators) or row.critic for row in rows]),
        "by_validators": part(rows, [bool(row.validators) for row in rows]),
        "by_critic_alone": part(rows, [row.critic for row in rows]),
        "driven": {"n": len(tried), "rejected": part(tried, [bool(row.driven) for row in tried]) if tried else None},
        "checks": dict(Counter(check for row in rows for check in row.validators).most_common()),
        "missed": [] if kind == "untouched" else missed[:8],
        "examples": [f"{row.drive}: {row.trace}" for row in rows if row.validators or row.critic][:8],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drives", type=int, default=174)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--driven-share", type=float, default=DRIVEN_SHARE, help="of rows, judged by driving on too")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    started = time.process_time()
    kept = options.out.with_suffix(".rows.jsonl") if options.out else None
    rows = measure(options.drives, options.first_seed, kept, options.driven_share)
    report(rows, options, time.process_time() - started)


def report(rows: list[Row], options: argparse.Namespace, seconds: float) -> None:
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_kind[row.kind].append(row)
    lines = [summary(kind, by_kind[kind]) for kind in ("untouched", *(fault.__name__ for fault in FAULTS))]
    for line in lines:
        caught, driven = line["rejected"], line["driven"]
        print(
            f"{line['kind']:30} n {line['n']:5}  rejected {100 * caught['value']:5.1f} % "
            f"[{100 * caught['low']:.1f}, {100 * caught['high']:.1f}]  validators "
            f"{100 * line['by_validators']['value']:5.1f} %  {line['checks']}  {line['missed'][:3]}  driven {driven}"
        )
    if options.out:
        seeds = {"first": options.first_seed, "count": options.drives}
        write_json(options.out, {"seeds": seeds, "cpu_s": round(seconds, 1), "rows": lines})


if __name__ == "__main__":
    main()
