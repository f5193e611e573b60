"""The critic of causes: is a named cause one, that is, would the driver have decided otherwise without it?

    stated    D(now) differs from D(now | this one away), or
              D(now | others away) differs from D(now | others and this one away), or
              D(now | unnamed away) = D(now) differs from D(now | unnamed and this one away), where the expert names it
              or it is no agent;
              and D(now) is D(now | unnamed away)
    driven    without it another decision is stated *and* the drive of the next 6.4 s moves (`worlds/causes.py`)

D is the privileged expert's decision, `others` are the other named causes, `unnamed` all agents that are none: both of
two that only together make it are causes, and each of two named ones that ask for the same. A sign, light or bend that
suffices is a cause also where an unnamed agent asks for the same; of two such agents it is the one that the expert
names. Both take things away with the acts of `worlds/interventions.py`. `stated` edits the 2 s up to t0 and asks once;
`driven` drives two branches from t0: in the town itself where the recording names its scene and the expert's drive of
it is the recorded one, else in the replayed log. In the town the expert is also driver and teacher, so there neither
can find the expert's own errors of judgement; what they find is a label that the scene does not bear out. Knows nothing
of teachers or files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from causaldrive.label.recording_view import RecordingView
from causaldrive.label.scene_checks import unknown, verdict
from causaldrive.label.types import Cause, CocLabel, Verdict
from causaldrive.worlds.causes import try_cause
from causaldrive.worlds.counterfactual import changed, expert_branch
from causaldrive.worlds.expert import Explanation, explain
from causaldrive.worlds.expert_drive import disturbance_of, driving
from causaldrive.worlds.explanation import Factor
from causaldrive.worlds.interventions import CannotIntervene, Intervention, act, row_of, without
from causaldrive.worlds.replay import ReplayWorld
from causaldrive.worlds.scenes import FAMILIES, SceneSpec, build_scene
from causaldrive.worlds.still import StillWorld
from causaldrive.worlds.world import DrivenWorld, WorldSnapshot

NAME = "counterfactual"
LEAST_MPS2 = 0.25  # less difference of acceleration is none: the expert binds from 0.3 on
LEAST_M = 0.3
_SAME_PLACE_M = 0.01
_INFORMS = ("pedestrian_waiting",)  # a reason to go on as before: without it the same is done, so it is asked for
_HERE = ("critical_object", "traffic_light")  # what is of these and not there cannot have caused anything

Judge = Callable[[CocLabel], Verdict]


def cause_critic(view: RecordingView, drives: bool = False) -> Judge:
    """The critic of one recording's labels: `stated`, or with `drives` the slower `driven`.

    It fails a label where some named cause changes nothing, and cannot judge without annotations or without a cause
    that can be taken away.
    """
    worlds = _WorldsOf(view)

    def judge(label: CocLabel) -> Verdict:
        if view.recording.agents is None or not view.history_states(label.t0_us):
            return unknown(NAME, "the recording lists no agents to take away")
        if not label.causes:
            return unknown(NAME, "no cause is named")
        found = _driven(label, worlds.at(label.t0_us)) if drives else _stated(label, worlds.still(label.t0_us))
        if all(binds is None for binds in found):
            return unknown(NAME, "no named cause can be taken away")
        idle = [cause for cause, binds in zip(label.causes, found, strict=True) if binds is False]
        faults = [f"without '{cause.text}' the driver would have decided the same" for cause in idle]
        if not faults and not drives and not suffices(label.causes, worlds.still(label.t0_us)):
            faults = ["with nobody there but whom it names, the driver would have decided otherwise"]
        return verdict(NAME, faults)

    return judge


def _stated(label: CocLabel, world: DrivenWorld) -> list[bool | None]:
    return [binds(cause, label.causes, world) for cause in label.causes]


def binds(cause: Cause, named: Sequence[Cause], world: DrivenWorld) -> bool | None:
    """Whether the expert's decision now hangs on the cause, with the other named ones or without; None: cannot tell."""
    try:
        gone = _away(cause, world)
        with changed(world, [gone]):
            pass
    except CannotIntervene:
        return False if cause.category in _HERE else None
    return (
        _matters(cause, (), gone, world)
        or (len(named) > 1 and _matters(cause, named, gone, world))
        or (_told_from_its_like(cause, world) and _needed_alone(named, gone, world))
    )


def _told_from_its_like(cause: Cause, world: DrivenWorld) -> bool:
    """Of two agents that ask for the same the wrong one may be named, so there the expert is asked which it is."""
    return cause.category != "critical_object" or _named_by_expert(cause, explain(world.history, world.context))


def _named_by_expert(cause: Cause, said: Explanation) -> bool:
    return any(factor.agent_id == cause.agent_id and factor.kind == cause.kind for factor in said.causes)


def _needed_alone(named: Sequence[Cause], gone: Intervention, world: DrivenWorld) -> bool:
    """Whether what is named suffices, and does not without the cause."""
    unnamed = _unnamed(named, world)
    if unnamed is None or not suffices(named, world):
        return False
    with changed(world, unnamed):
        base = explain(world.history, world.context)
        try:
            act(world, [gone])
        except CannotIntervene:
            return False
        return _differs(base, explain(world.history, world.context))


def suffices(named: Sequence[Cause], world: DrivenWorld) -> bool:
    """Whether the expert's decision now stays with every agent away that is not named, nor of a named row."""
    unnamed = _unnamed(named, world)
    if unnamed is None:
        return True
    base = explain(world.history, world.context)
    with changed(world, unnamed):
        return not _differs(base, explain(world.history, world.context))


def _unnamed(named: Sequence[Cause], world: DrivenWorld) -> list[Intervention] | None:
    """Acts that take away every agent that is not named; None where an object is named without its id."""
    if any(cause.category in _HERE and cause.agent_id is None for cause in named):
        return None
    agents = world.state.agents
    ours = {name for cause in named if cause.agent_id in agents.ids for name in row_of(agents, str(cause.agent_id))}
    return [Intervention("remove_agent", name) for name in agents.ids if name not in ours]


def _matters(cause: Cause, named: Sequence[Cause], gone: Intervention, world: DrivenWorld) -> bool:
    """Whether taking the cause away changes the decision, the other `named` ones being away already."""
    with changed(world, []):
        for other in named:
            _take_away(other, world, but_not=gone)
        base = explain(world.history, world.context)
        if cause.kind in _INFORMS:
            return _named_by_expert(cause, base)
        act(world, [gone])
        return _differs(base, explain(world.history, world.context))


def _take_away(other: Cause, world: DrivenWorld, but_not: Intervention) -> None:
    """Another named cause goes, unless what is asked about is the same thing and would go with it."""
    before = world.snapshot()
    try:
        gone = _away(other, world)
        if gone == but_not:
            return
        act(world, [gone])
    except CannotIntervene:
        return  # it is not there, or it stays in both
    try:
        with changed(world, [but_not]):
            pass
    except CannotIntervene:
        world.restore(before)


def _driven(label: CocLabel, world: DrivenWorld) -> list[bool | None]:
    """Each cause as `worlds.causes` tries what the expert itself states."""
    before = world.snapshot()
    said = explain(world.history, world.context)
    branch = expert_branch(world)
    found: list[bool | None] = []
    for cause in label.causes:
        world.restore(before)
        agrees = try_cause(world, _factor(cause, world), said, branch).agrees
        found.append(False if agrees is None and cause.category in _HERE else agrees)
    return found


def _differs(first: Explanation, second: Explanation) -> bool:
    faster = abs(first.acceleration_mps2 - second.acceleration_mps2) >= LEAST_MPS2
    aside = abs(first.lateral_offset_m - second.lateral_offset_m) >= LEAST_M
    return faster or aside or first.lateral != second.lateral


def _away(cause: Cause, world: DrivenWorld) -> Intervention:
    return without(_factor(cause, world), True, world.state.agents)


def _factor(cause: Cause, world: DrivenWorld) -> Factor:
    """The named cause as what the acts take away: by its kind, else by what its id is."""
    kind, lights = cause.kind or "unobserved", world.state.lights
    if cause.kind is None and cause.agent_id in lights.ids:
        kind = "green_light" if lights.state[lights.ids.index(cause.agent_id)] == "green" else "red_light"
    return Factor(kind, cause.agent_id, cause.evidence_t_us or world.state.t_us, 0.0, 0.0, cause.text)


class _WorldsOf:
    """Worlds at moments of one recording. The town is driven once, and only when it is asked for."""

    def __init__(self, view: RecordingView):
        self._view = view
        self._town: DrivenWorld | None = None
        self._snapshots: dict[int, WorldSnapshot] | None = None

    def still(self, t0_us: int) -> DrivenWorld:
        """What was seen up to t0."""
        return StillWorld(self._view.context, self._view.history_states(t0_us))

    def at(self, t0_us: int) -> DrivenWorld:
        """The scene that was recorded, where it can be driven as it was; the log else."""
        if self._snapshots is None:
            self._snapshots = self._drive_town()
        saved = self._snapshots.get(t0_us)
        if saved is None or self._town is None:
            return ReplayWorld(self._view.recording, t0_us)
        self._town.restore(saved)
        return self._town

    def _drive_town(self) -> dict[int, WorldSnapshot]:
        """Snapshots by time, up to where the drive is no longer the recorded one."""
        meta, snapshots = self._view.recording.meta, {}
        if meta.get("family") not in FAMILIES or "seed" not in meta:
            return {}
        spec = SceneSpec(meta["family"], int(meta["seed"]), bool(meta.get("harmless", False)))
        recorded = {state.t_us: state.ego.xy_in_local_m for state in self._view.states}
        for world, _, _ in driving(build_scene(spec), float(self._view.ego.t_us[-1]) / 1e6, disturbance_of(spec, meta)):
            now = world.state
            if now.t_us not in recorded or np.abs(now.ego.xy_in_local_m - recorded[now.t_us]).max() > _SAME_PLACE_M:
                break
            self._town = world
            snapshots[now.t_us] = world.snapshot()
        return snapshots
