"""Are the expert's reasons true? Every stated cause and every harmless factor of a drive is taken away and tried.

**A stated cause is confirmed** when without it the driver would have decided differently: at that moment it states
another decision on an axis *and* its drive over the next 6.4 s moves (`counterfactual.moved`). Both are asked for,
because a word that changes while the car does the same is no decision, and a car that drives on differently under the
same decision may just meet the next factor. Where one act does not do it, another factor may be sufficient by itself
and takes over; then the factors that take over are taken away in both branches (up to three rounds), and the cause is
`confirmed_jointly` when, with them gone, it alone makes the decision that was made, and taking it away as well changes
it (the contingency of Halpern and Pearl 2005). Effects may come late: the whole 6.4 s count.

**A harmless factor is cleared** when taking it away changes neither the decision stated now nor, by the same limits,
the drive. A factor that is harmless now may become a cause later; from the moment at which the driver itself states it
in the undisturbed drive, its effect is no contradiction: it is `cleared_until_cause` when nothing moved before.

What no act can take away is `not_testable`, and counted apart from both. Knows nothing of the disk or of pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from causaldrive.ground.words import FUTURE_STEPS, STEP_S, STEP_US
from causaldrive.worlds.counterfactual import Branch, Decision, Effect, changed, effect_between, expert_branch
from causaldrive.worlds.episode import WARM_UP_S
from causaldrive.worlds.expert import ExpertDriver, Explanation, Factor, explain
from causaldrive.worlds.interventions import CannotIntervene, Intervention, without
from causaldrive.worlds.world import DrivenWorld, WorldSnapshot

CAUSE_VERDICTS = ("confirmed", "confirmed_jointly", "not_confirmed", "not_testable")
OTHER_VERDICTS = ("cleared", "cleared_until_cause", "not_cleared", "not_testable")
AGREES = ("confirmed", "confirmed_jointly", "cleared", "cleared_until_cause")
_ROUNDS = 3


@dataclass(frozen=True)
class Trial:
    """One factor at one moment, with and without it. `jointly` are the acts that both branches share."""

    t_us: int
    role: str  # 'cause' or 'other'
    factor: Factor
    verdict: str  # of CAUSE_VERDICTS or OTHER_VERDICTS
    why: str  # in words, for a person
    act: Intervention | None = None
    jointly: tuple[Intervention, ...] = ()
    with_it: Branch | None = None
    without_it: Branch | None = None
    effect: Effect | None = None

    @property
    def agrees(self) -> bool | None:
        """Does the intervention agree with what was stated? None when it could not be tested."""
        return None if self.verdict == "not_testable" else self.verdict in AGREES


@dataclass(frozen=True)
class _Moment:
    snapshot: WorldSnapshot
    explanation: Explanation
    branch: Branch  # the undisturbed drive from here
    later: list[Explanation]  # at each tick of the branch


def trials(world: DrivenWorld, every_s: float, roles: Sequence[str] = ("cause", "other")) -> Iterator[Trial]:
    """Drive the world to its end with the expert, then try every factor at moments `every_s` apart.

    Moments run from the end of the warm-up to 6.4 s before the end.
    """
    for moment in _moments(world, every_s):
        world.restore(moment.snapshot)
        if "cause" in roles:
            for factor in moment.explanation.causes:
                yield try_cause(world, factor, moment.explanation, moment.branch)
        if "other" in roles:
            for factor in moment.explanation.others:
                yield try_other(world, factor, moment.branch, moment.later)


def _moments(world: DrivenWorld, every_s: float) -> list[_Moment]:
    driver = ExpertDriver(world.context)
    states, snapshots, said = [world.state], [world.snapshot()], [explain(world.history, world.context)]
    while not world.finished:
        world.step(*driver.control(world.history))
        states.append(world.state)
        snapshots.append(world.snapshot())
        said.append(explain(world.history, world.context))
    first, every = round(WARM_UP_S / STEP_S), round(every_s / STEP_S)
    found = []
    for i in range(first, len(states) - FUTURE_STEPS, every):
        ahead = slice(i, i + FUTURE_STEPS + 1)
        branch = Branch(world.context, states[ahead], Decision.of(said[i]))
        found.append(_Moment(snapshots[i], said[i], branch, said[ahead]))
    return found


def try_cause(world: DrivenWorld, factor: Factor, said: Explanation, branch: Branch) -> Trial:
    """Take a stated cause away, alone and then with whatever takes over. The world is left as it was."""
    t_us, acts = world.state.t_us, []
    try:
        gone = without(factor, True, world.state.agents)
        other, after = _branch(world, [gone])
        alone = effect_between(branch, other)
        if alone.decided and alone.moved:
            return Trial(t_us, "cause", factor, "confirmed", "", gone, (), branch, other, alone)
        for _ in range(_ROUNDS):
            more = [f for f in after.causes if not _same(f, factor)]
            more += [] if acts else [f for f in said.causes if not _same(f, factor) and not _among(f, more)]
            if not more:
                break
            acts += [a for a in (without(f, True, world.state.agents) for f in more) if a not in acts]
            base, _ = _branch(world, acts)
            both, after = _branch(world, [*acts, gone])
            jointly = effect_between(base, both)
            if _decides_alone(jointly, base.decision, branch.decision) and jointly.moved:
                return Trial(t_us, "cause", factor, "confirmed_jointly", "another factor alone asks for the same", gone,
                             tuple(acts), base, both, jointly)  # fmt: skip
    except CannotIntervene as reason:
        return Trial(t_us, "cause", factor, "not_testable", str(reason), with_it=branch)
    why = "the decision is the same" if not alone.decided else "the decision changes in words only"
    return Trial(t_us, "cause", factor, "not_confirmed", why, gone, (), branch, other, alone)


def _decides_alone(effect: Effect, base: Decision, made: Decision) -> bool:
    """With the others gone, the factor makes the decision that was made, and without it another one is made."""
    same_longitudinal = base.longitudinal == made.longitudinal
    same_lateral = (base.lateral, base.direction) == (made.lateral, made.direction)
    return (effect.longitudinal and same_longitudinal) or (effect.lateral and same_lateral)


def try_other(world: DrivenWorld, factor: Factor, branch: Branch, later: Sequence[Explanation]) -> Trial:
    """Take a harmless factor away. `later`: what the driver says at each tick of the undisturbed `branch`."""
    t_us = world.state.t_us
    try:
        gone = without(factor, False, world.state.agents)
        other, _ = _branch(world, [gone])
    except CannotIntervene as reason:
        return Trial(t_us, "other", factor, "not_testable", str(reason), with_it=branch)
    named = next((i for i, said in enumerate(later) if any(_same(f, factor) for f in said.causes)), None)
    whole = effect_between(branch, other)
    head = (t_us, "other", factor)
    rest = (gone, (), branch, other, whole)
    if whole.decided:
        return Trial(*head, "not_cleared", "another decision is made without it", *rest)
    if not whole.moved:
        return Trial(*head, "cleared", "", *rest)
    assert whole.onset_s is not None
    if named is not None and whole.onset_s >= (later_s := named * STEP_US * 1e-6) - 1e-6:
        return Trial(*head, "cleared_until_cause", f"it is a stated cause {later_s:.1f} s later", *rest)
    return Trial(*head, "not_cleared", f"the drive differs from {whole.onset_s:.1f} s on", *rest)


def _branch(world: DrivenWorld, acts: Sequence[Intervention]) -> tuple[Branch, Explanation]:
    with changed(world, acts):
        said = explain(world.history, world.context)
        return expert_branch(world), said


def _same(one: Factor, two: Factor) -> bool:
    """The same thing in the world, whatever it is called at the moment."""
    return one.agent_id == two.agent_id and (one.agent_id is not None or one.kind == two.kind)


def _among(factor: Factor, factors: Sequence[Factor]) -> bool:
    return any(_same(factor, other) for other in factors)
