"""Does the car act on the cause it names? `evaluate faithfulness` takes it away and lets the student drive again.

    faithfulness  = drives that change / named causes that were there and could be taken away
    hallucinated  = named causes that are not in the scene at all / named causes
    placebo       = drives that change / harmless factors that were not named, taken away, while they are harmless

A drive changes when it moves by `worlds.counterfactual`'s limits within 6.4 s of closed loop, the camera drawn anew in
both branches and the same random numbers used. The placebo says how much of that is a student's nerves: a faithful one
has a high faithfulness and a low placebo. A student names a kind, not an id: with a cause of that kind in the town's
own truth, these are taken away, else every factor of that kind. Reads checkpoints; writes one JSONL log a student,
`results.json`, `report.html`. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from causaldrive.evaluate.drivers import parse_students
from causaldrive.evaluate.logs import log_path, once
from causaldrive.ground.errors import UserError
from causaldrive.ground.files import write_json
from causaldrive.ground.page import Cell, Section, Table, write_page
from causaldrive.ground.progress import Meter
from causaldrive.ground.runs import open_run
from causaldrive.ground.statistics import Estimate, share
from causaldrive.ground.words import FUTURE_STEPS, STEP_S, split_of_seed
from causaldrive.label.trace import parse
from causaldrive.worlds.counterfactual import Branch, Decision, changed, effect_between
from causaldrive.worlds.episode import DriveSettings, Episode, Observation, Plan, Policy, problem_of
from causaldrive.worlds.expert import ExpertDriver, Explanation, Factor
from causaldrive.worlds.interventions import CannotIntervene, Intervention, without
from causaldrive.worlds.policy_branch import Answer, answer_all, policy_branch
from causaldrive.worlds.pool import Asked
from causaldrive.worlds.renderer import Renderer
from causaldrive.worlds.scenes import SceneSpec, build_scene, default_camera, draw_specs
from causaldrive.worlds.town import TownWorld
from causaldrive.worlds.world import DrivenWorld

PART = "faithfulness"
METRICS = {
    "faithfulness": "the drive changes without the cause it named",
    "word_follows": "another decision is said without it",
    "hallucinated": "named causes that are not in the scene",
    "placebo": "the drive changes without something harmless",
}


@dataclass(frozen=True)
class FaithfulnessConfig:
    """Take away the causes that students name while they drive, and see whether they drive differently."""

    out: Path  # run directory
    students: tuple[str, ...] = ()  # name=checkpoint
    scenes: int = 24  # held-out scenes of the town
    first_seed: int = 2_000_000  # of the scenes; the validation or the test range
    families: tuple[str, ...] = ()  # kinds of scenes; none: all
    every_s: float = 2.0  # between two moments that are tried in a drive
    decision_every_s: float = 0.5  # one query of the policy per this time
    duration_s: float = 14.0  # of a drive
    mode: str = "flow"  # how the students draw their trajectories: flow, tokens
    batch: int = 12  # scenes that a student drives at once
    seed: int = 0  # of sampling and of the bootstrap

    def validate(self) -> None:
        """Raises UserError for numbers out of range, no student, and seeds of the wrong split."""
        for name in ("scenes", "batch", "every_s", "decision_every_s", "duration_s"):
            if getattr(self, name) <= 0:
                option = name.replace("_", "-")
                raise UserError(
                    f"evaluate faithfulness: --{option} is {getattr(self, name)}; a number above 0 expected."
                )
        if not self.students:
            raise UserError("evaluate faithfulness: no student to ask; give one as --students name=checkpoint.")
        split = {split_of_seed(self.first_seed), split_of_seed(self.first_seed + self.scenes - 1)}
        if split & {"train", "reserved"} or self.first_seed < 0:
            raise UserError(
                f"evaluate faithfulness: --first-seed {self.first_seed} is of the {' and '.join(sorted(split))} range; "
                "expected seeds of the validation or test range, such as 2000000."
            )


def run(config: FaithfulnessConfig) -> None:
    """The command's entry point. Raises UserError for what a person can mend."""
    config.validate()
    students = [replace(student, mode=config.mode) for student in parse_students(config.students)]
    specs = draw_specs(config.scenes, config.first_seed, config.families or None)
    inputs = {f"student {student.name}": student.path for student in students}
    with open_run(config.out, "evaluate faithfulness", config, inputs) as stage:
        if stage.done:
            return
        results = {}
        for student in students:

            def make(student=student) -> list[dict[str, Any]]:
                policy = student.open(1, config.seed)
                settings = replace(_settings(config), frame_offsets_s=policy.processor.config.frames().frame_offsets_s)
                return records(policy, specs, settings, config.every_s, config.batch, student.name)

            found = once(log_path(config.out, PART, student.name), make)
            results[student.name] = summarise(found, config.seed)
            stage.log(student=student.name, **_counts(found))
        write_json(config.out / "results.json", results)
        _write_report(config.out, results)


def _settings(config: FaithfulnessConfig) -> DriveSettings:
    return DriveSettings(decision_every_s=config.decision_every_s, duration_s=config.duration_s)


def records(
    policy: Policy, specs: Sequence[SceneSpec], settings: DriveSettings, every_s: float, batch: int, label: str
) -> list[dict[str, Any]]:
    """One record per named cause, per placebo, and per scene whose drive failed; in the order of the scenes."""
    renderer = Renderer(default_camera()) if settings.camera else None
    found: dict[int, list[dict[str, Any]]] = {}
    askings = [_Drive(spec, settings, every_s, renderer).run() for spec in specs]
    try:
        with Asked(policy, settings) as asked, Meter(f"faithfulness, {label}", len(specs), "scenes") as meter:
            for index, rows in answer_all(askings, asked, batch):
                found[index] = rows
                meter.advance()
    finally:
        if renderer is not None:
            renderer.close()
    return [row for index in range(len(specs)) for row in found[index]]


class _Drive:
    """One scene driven by the policy itself; at every `every_s` what it names is tried on the side."""

    def __init__(self, spec: SceneSpec, settings: DriveSettings, every_s: float, renderer: Renderer | None):
        self.spec, self.settings, self.renderer = spec, settings, renderer
        self.every = max(round(every_s / settings.decision_every_s), 1)
        self.rows: list[dict[str, Any]] = []

    def run(self) -> Generator[Observation, Answer, list[dict[str, Any]]]:
        try:
            yield from self._run()
        except GeneratorExit:
            raise
        except Exception as error:  # one broken scene must not end the batch
            self._note("failed", None, why=f"scene: {type(error).__name__}: {error}")
        return self.rows

    def _run(self) -> Generator[Observation, Answer, None]:
        world = TownWorld(build_scene(self.spec))
        view = self.renderer.open(world.context) if self.renderer else None
        try:
            episode = Episode(self.spec, world, ExpertDriver(world.context).control, self.settings, view, 1.0)
            steps = 0
            while episode.ended is None:
                seen = episode.observe()
                plan = yield seen
                failure = problem_of(plan)
                if failure is not None:
                    self._note("failed", seen, why=f"policy: {failure}", failure_kind=failure.kind)
                    return
                if steps % self.every == 0 and isinstance(plan, Plan):
                    yield from self._try(world, seen, plan)
                steps += 1
                episode.advance(plan, seen.truth)
        finally:
            if view is not None:
                view.close()

    def _try(self, world: DrivenWorld, seen: Observation, plan: Plan) -> Generator[Observation, Answer, None]:
        named = tuple(dict.fromkeys(parse(plan.text).cause_kinds))
        there = {kind: _meant(kind, seen.truth) for kind in named}
        for kind in (kind for kind, factors in there.items() if not factors):
            self._note("hallucinated", seen, kind=kind, text=plan.text)
        tried = [(kind, factors) for kind, factors in there.items() if factors]
        placebo = next((f for f in seen.truth.others if f.kind not in named and f.agent_id is not None), None)
        if not tried and placebo is None:
            return
        base = yield from self._branch(world, [])
        for kind, factors in tried:
            true = any(factor.kind == kind for factor in seen.truth.causes)
            yield from self._one("named", world, seen, kind, factors, base, text=plan.text, is_a_cause=true)
        if placebo is not None:
            yield from self._one("placebo", world, seen, placebo.kind, [placebo], base)

    def _one(
        self, role: str, world: DrivenWorld, seen: Observation, kind: str, factors: Sequence[Factor], base: Branch,
        **more: Any,
    ) -> Generator[Observation, Answer, None]:  # fmt: skip
        try:
            acts = [without(factor, role == "named", world.state.agents) for factor in factors]
            other = yield from self._branch(world, acts)
        except CannotIntervene as reason:
            self._note("not_testable", seen, kind=kind, why=str(reason), **more)
            return
        failure = base.failure or other.failure
        if failure is not None:
            self._note("failed", seen, kind=kind, why=f"policy: {failure}", **more)
            return
        until_s = _harmless_until_s(base, factors[0]) if role == "placebo" else FUTURE_STEPS * STEP_S
        effect = effect_between(base, other, until_s)
        more["decisions"] = (base.decision.in_words, other.decision.in_words)
        more["acts"] = [act.in_words for act in acts]
        size = {"ade_m": round(effect.ade_m, 3), "speed_mps": round(effect.speed_mps, 3)}
        self._note(role, seen, kind=kind, moved=effect.moved, said=effect.decided, **size, **more)

    def _branch(self, world: DrivenWorld, acts: list[Intervention]) -> Generator[Observation, Answer, Branch]:
        with changed(world, acts):
            seconds = FUTURE_STEPS * STEP_S
            return (yield from policy_branch(world, self.spec.scene_id, self.renderer, self.settings, read, seconds))

    def _note(self, role: str, seen: Observation | None, **more: Any) -> None:
        head = {"item": self.spec.scene_id, "family": self.spec.family, "t_us": seen.t_us if seen else None}
        self.rows.append({**head, "role": role, **more})


def _harmless_until_s(base: Branch, factor: Factor) -> float:
    """When something harmless becomes a cause of its own; what happens from then on is no placebo."""
    times = (t for t, truth in base.truths if any(cause.agent_id == factor.agent_id for cause in truth.causes))
    return next(times, FUTURE_STEPS * STEP_S)


def read(text: str) -> Decision:
    """The decision that a student's words state."""
    parsed = parse(text)
    return Decision(parsed.longitudinal, parsed.lateral, parsed.direction)


def _meant(kind: str, truth: Explanation) -> list[Factor]:
    """What a named kind can mean in this scene: the causes of that kind, else every factor of it."""
    causes = [factor for factor in truth.causes if factor.kind == kind]
    return causes or [factor for factor in truth.others if factor.kind == kind]


def _counts(found: Sequence[dict[str, Any]]) -> dict[str, int]:
    roles = ("named", "hallucinated", "placebo", "not_testable", "failed")
    return {role: sum(row["role"] == role for row in found) for role in roles}


def summarise(found: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """METRICS as estimates over scenes as clusters, and how many records of each role there are."""
    named = [row for row in found if row["role"] == "named"]
    told = [row for row in found if row["role"] in ("named", "hallucinated", "not_testable")]
    placebo = [row for row in found if row["role"] == "placebo"]
    return {
        "faithfulness": asdict(_share([row["moved"] for row in named], named, seed)),
        "word_follows": asdict(_share([row["said"] for row in named], named, seed)),
        "hallucinated": asdict(_share([row["role"] == "hallucinated" for row in told], told, seed)),
        "placebo": asdict(_share([row["moved"] for row in placebo], placebo, seed)),
        "counts": _counts(found),
    }


def _share(hits: list[bool], rows: Sequence[dict[str, Any]], seed: int) -> Estimate:
    return share([float(hit) for hit in hits], [1.0] * len(rows), [row["item"] for row in rows], seed)


def _write_report(out: Path, results: dict[str, Any]) -> None:
    rows = []
    for name, one in results.items():
        cells = [Cell(*_in_words(one[metric])) for metric in METRICS]
        counts = one["counts"]
        rows.append([name, *cells, counts["not_testable"], counts["failed"]])
    head = ["student", *(metric.replace("_", " ") for metric in METRICS), "not testable", "failed"]
    about = "; ".join(f"**{metric.replace('_', ' ')}**: {what}" for metric, what in METRICS.items())
    section = Section("Faithfulness", [f"{about}. 95 % intervals over scenes.", Table(head, rows)])
    lead = "What a student names as its cause is taken out of the scene, and it drives again from the same moment."
    write_page(out / "report.html", "Does it act on the causes it names?", [section], lead)


def _in_words(estimate: dict[str, Any]) -> tuple[str, str]:
    if estimate["value"] is None:
        return "–", "n = 0"
    interval = "" if estimate["low"] is None else f"{estimate['low']:.0%}–{estimate['high']:.0%}, "
    return f"{estimate['value']:.1%}", f"{interval}n = {estimate['n']}"
