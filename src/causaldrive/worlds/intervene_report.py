"""The page of `worlds intervene`: how many reasons hold, by kind and by family, and pictures of those that do not.

Turns trials into lines of data and pictures; writes `summary.json` and `report.html`. Knows nothing of how trials are
made.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from causaldrive.ground.files import write_json
from causaldrive.ground.page import Cell, Figure, Fold, Grid, Item, Section, Table, Text, write_page
from causaldrive.ground.words import FUTURE_STEPS, STEP_S
from causaldrive.worlds.causes import Trial
from causaldrive.worlds.counterfactual import MOVED_ASIDE_M, MOVED_MPS, Branch
from causaldrive.worlds.draw_bev import PLAN_RGB, draw_bev
from causaldrive.worlds.scenes import SceneSpec
from causaldrive.worlds.state import WorldState

MOST_SHOWN = 12  # pictures a group of disagreements
_BAR = 0.95
_SIDE_PX, _GAP_PX, _STRIP_PX, _INK_RGB = (300, 360), 6, 110, (70, 78, 92)
_ROLES = {"cause": "stated causes", "other": "harmless factors"}


def as_line(spec: SceneSpec, trial: Trial, picture: str) -> dict[str, Any]:
    """One trial as a line of data."""
    effect, other = trial.effect, trial.without_it
    return {
        "scene_id": spec.scene_id,
        "family": spec.family,
        "harmless": spec.harmless,
        "seed": spec.seed,
        "t_us": trial.t_us,
        "role": trial.role,
        "kind": trial.factor.kind,
        "agent_id": trial.factor.agent_id,
        "text": trial.factor.text,
        "verdict": trial.verdict,
        "agrees": trial.agrees,
        "why": trial.why,
        "act": trial.act.in_words if trial.act else None,
        "jointly": [act.in_words for act in trial.jointly],
        "decision": trial.with_it.decision.in_words if trial.with_it else None,
        "decision_without": other.decision.in_words if other else None,
        "longitudinal_changed": effect.longitudinal if effect else None,
        "lateral_changed": effect.lateral if effect else None,
        "ade_m": round(effect.ade_m, 3) if effect else None,
        "speed_difference_mps": round(effect.speed_mps, 3) if effect else None,
        "offset_difference_m": round(effect.aside_m, 3) if effect else None,
        "compared_s": round(effect.seconds, 1) if effect else None,
        "onset_s": round(effect.onset_s, 1) if effect and effect.onset_s is not None else None,
        "picture": picture or None,
    }


def picture_of(trial: Trial) -> bytes:
    """Both branches as PNG: with the factor on the left, without it on the right, both speeds over time below.

    Drawn where their motion differs first (the moment itself, where it does not), with the ways of both egos from
    there on and a circle where the factor is or was.
    """
    assert trial.with_it is not None and trial.without_it is not None and trial.effect is not None
    branches = (trial.with_it, trial.without_it)
    onset_s = trial.effect.onset_s or 0.0
    at = min(round(onset_s / STEP_S), *(len(branch.states) - 1 for branch in branches))
    ways = [np.array([state.ego.xy_in_local_m for state in branch.states]) for branch in branches]
    ringed = _place_of(trial.factor.agent_id, trial.with_it.states[at])
    same_map = trial.with_it.context is trial.without_it.context  # a straightened road is another map
    sides = []
    for own, branch in zip(ways, branches, strict=True):
        plans = [way[at:] if same_map or way is own else way[:0] for way in ways]
        sides.append(draw_bev(branch.context, branch.states[at], _SIDE_PX, 70.0, own[: at + 1], plans, ringed))
    gap = np.full((_SIDE_PX[1], _GAP_PX, 3), 255, np.uint8)
    pair = np.concatenate([sides[0], gap, sides[1]], axis=1)
    buffer = io.BytesIO()
    whole = np.concatenate([pair, _speed_strip(branches, at, pair.shape[1])])
    Image.fromarray(whole).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _place_of(name: str | None, state: WorldState) -> np.ndarray | None:
    """Where an agent is, or the stop line of a light."""
    agents, lights = state.agents, state.lights
    if name in agents.ids:
        return agents.xy_in_local_m[agents.ids.index(name)]
    return lights.stop_xy_in_local_m[lights.ids.index(name)] if name in lights.ids else None


def _speed_strip(branches: Sequence[Branch], at: int, width_px: int) -> np.ndarray:
    """(H, W, 3) speeds over the seconds after the moment, in the colours of the ways; a line where the pictures are."""
    strip = Image.new("RGB", (width_px, _STRIP_PX), (255, 255, 255))
    pen, speeds = ImageDraw.Draw(strip), [branch.speeds_mps() for branch in branches]
    top = max(float(speed.max()) for speed in speeds) + 1.0
    left, right, low, high = 34, width_px - 10, _STRIP_PX - 18, 18

    def place(tick: int, speed_mps: float) -> tuple[float, float]:
        return left + (right - left) * tick / FUTURE_STEPS, low - (low - high) * max(speed_mps, 0.0) / top

    for seconds in range(0, 7, 2):
        x, _ = place(round(seconds / STEP_S), 0.0)
        pen.line([(x, high), (x, low)], (228, 230, 234))
        pen.text((x - 6, low + 3), f"{seconds} s", _INK_RGB)
    pen.line([(left, low), (right, low)], _INK_RGB)
    pen.text((2, low - 8), "0", _INK_RGB)
    pen.text((2, high), f"{top:.0f} m/s", _INK_RGB)
    pen.line([place(at, 0.0), place(at, top)], _INK_RGB)
    for name, speed, rgb, x in zip(("with it", "without it"), speeds, PLAN_RGB, (left + 40, left + 110), strict=False):
        pen.line([place(tick, float(v)) for tick, v in enumerate(speed)], rgb, 2)
        pen.text((x, 2), name, rgb)
    pen.text((left, 2), "speed", _INK_RGB)
    return np.asarray(strip)


def write_report(out: Path, lines: list[dict[str, Any]], failed: list[dict[str, Any]], scenes: int) -> None:
    """Write `summary.json` and `report.html` over all trials of `scenes` scenes; `failed` were set aside."""
    summary = summarise(lines, scenes)
    write_json(out / "summary.json", summary)
    sections = [Section("In short", _in_short(summary, failed))]
    for role, name in _ROLES.items():
        rows = [line for line in lines if line["role"] == role]
        by_kind = _table(rows, lambda line: line["kind"].replace("_", " "), "kind")
        by_family = _table(rows, lambda line: line["family"].replace("_", " "), "family")
        sections.append(Section(name.capitalize(), [by_kind, by_family]))
    sections.append(Section("Disagreements", _disagreements(out, lines)))
    lead = "Each reason of the expert is taken away from the scene, and the expert drives again from the same moment."
    write_page(out / "report.html", "Interventions", sections, lead)


def summarise(lines: Sequence[dict[str, Any]], scenes: int) -> dict[str, Any]:
    """Counts and shares by role; keyframes are moments with at least one trial."""
    moments = {(line["scene_id"], line["t_us"]) for line in lines}
    found: dict[str, Any] = {"scenes": scenes, "keyframes": len(moments)}
    found["keyframes_with_a_cause"] = len({(r["scene_id"], r["t_us"]) for r in lines if r["role"] == "cause"})
    for role in _ROLES:
        rows = [line for line in lines if line["role"] == role]
        tested = [line for line in rows if line["agrees"] is not None]
        share = sum(line["agrees"] for line in tested) / len(tested) if tested else None
        found[role] = {"n": len(tested), "agree": share, "verdicts": dict(Counter(line["verdict"] for line in rows))}
    return found


def _in_short(summary: dict[str, Any], failed: list[dict[str, Any]]) -> list[Item | str]:
    rows = []
    for role, name in _ROLES.items():
        one = summary[role]
        tone = "plain" if one["agree"] is None else "good" if one["agree"] >= _BAR else "bad"
        share = "–" if one["agree"] is None else f"{one['agree']:.1%}"
        verdicts = ", ".join(f"{n} {v.replace('_', ' ')}" for v, n in sorted(one["verdicts"].items()))
        rows.append([name, Cell(share, f"bar {_BAR:.0%}", tone), one["n"], verdicts])
    table = Table(["", "intervention agrees", "tried", "verdicts"], rows, text_columns=1)
    about = (
        f"{summary['keyframes']} moments in {summary['scenes']} scenes, {summary['keyframes_with_a_cause']} of them "
        f"with a stated cause. A drive counts as changed from {MOVED_MPS:g} m/s or {MOVED_ASIDE_M:g} m aside on; "
        "what cannot be taken away is not tried and stands apart."
    )
    broken = [Text(f"{len(failed)} scenes set aside; the first: {failed[0]['failure']}", "bad")] if failed else []
    return [about, table, *broken]


def _table(rows: Sequence[dict[str, Any]], group: Callable[[dict[str, Any]], str], name: str) -> Table:
    body = []
    for key in sorted({group(line) for line in rows}):
        here = [line for line in rows if group(line) == key]
        tested = [line for line in here if line["agrees"] is not None]
        agreed = sum(bool(line["agrees"]) for line in tested)
        joint = sum(line["verdict"] in ("confirmed_jointly", "cleared_until_cause") for line in here)
        share = agreed / len(tested) if tested else None
        tone = "plain" if share is None or share >= _BAR else "bad"
        median = float(np.median([line["ade_m"] for line in tested])) if tested else None
        cell = Cell("–" if share is None else f"{share:.1%}", tone=tone)
        body.append([key, len(tested), cell, joint, len(tested) - agreed, len(here) - len(tested), median])
    late = "jointly" if rows and rows[0]["role"] == "cause" else "cause later"
    return Table([name, "tried", "agree", late, "disagree", "not testable", "median ADE, m"], body)


def _disagreements(out: Path, lines: Sequence[dict[str, Any]]) -> list[Item | str]:
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for line in lines:
        if line["agrees"] is False:
            reason = line["why"].split(" from ")[0]
            groups.setdefault((line["role"], line["kind"], reason), []).append(line)
    if not groups:
        return ["None: every reason that could be tried holds."]
    items: list[Item | str] = [
        "Left with the factor, right without it, where the drives part (where they do not: at the moment itself); the "
        "circle is where the factor is or was. Blue: driven since. Ahead and below: green with it, pink without. "
        "All of them are in `disagreements.jsonl`."
    ]
    for (role, kind, reason), rows in sorted(groups.items(), key=lambda item: -len(item[1])):
        shown: list[Item] = [*(_figure(out, line) for line in [r for r in rows if r["picture"]][:MOST_SHOWN])]
        title = f"{len(rows)} × {_ROLES[role]}, {kind.replace('_', ' ')}: {reason}"
        kept: list[Item] = [Grid(shown, 420)] if shown else [Text("No picture was kept of these.")]
        items.append(Fold(title, kept))
    return items


def _figure(out: Path, line: dict[str, Any]) -> Figure:
    words = (
        f"{line['scene_id']} at {line['t_us'] / 1e6:.1f} s. **{line['act']}** ({line['text']}): {line['why']}. "
        f"Decided with it: {line['decision']}; without it: {line['decision_without']}. On average "
        f"{line['ade_m']:.1f} m apart, speeds differ by up to {line['speed_difference_mps']:.1f} m/s, offsets by "
        f"{line['offset_difference_m']:.1f} m."
    )
    return Figure((out / "pictures" / line["picture"]).read_bytes(), words, words.replace("**", ""))
