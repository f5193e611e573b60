"""What several seeds say: mean, interval, differences paired by seed. Recipes use it; it knows nothing of stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

Numbers = Mapping[str, float | None]  # one student's, by name; None where nothing could be measured
Summary = dict[str, float | int | None]


def summary(values: Sequence[float | None]) -> Summary:
    """Mean and the half width of its 95 % interval (Student's t) over seeds; nothing is read where nothing is there."""
    known = [value for value in values if value is not None]
    half = None
    if len(known) > 1:
        half = float(stats.t.ppf(0.975, len(known) - 1) * np.std(known, ddof=1) / np.sqrt(len(known)))
    return {"mean": float(np.mean(known)) if known else None, "half_width": half, "seeds": len(known)}


def summaries(each: Mapping[str, Sequence[Numbers]]) -> dict[str, dict[str, Summary]]:
    """By arm and name, over the seeds of each arm."""
    return {arm: {name: summary([one[name] for one in rows]) for name in rows[0]} for arm, rows in each.items()}


def differences(each: Mapping[str, Sequence[Numbers]], to: str) -> dict[str, dict[str, Summary]]:
    """Of every other arm to the arm `to`, seed by seed."""
    return {
        arm: {
            name: summary([_minus(one[name], other[name]) for one, other in zip(rows, each[to], strict=True)])
            for name in rows[0]
        }
        for arm, rows in each.items()
        if arm != to
    }


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def table_text(table: Mapping[str, Mapping[str, Summary]]) -> str:
    """Names down, arms across."""
    arms = list(table)
    lines = [" " * 32 + "".join(f"{arm:>20s}" for arm in arms)]
    for name in table[arms[0]]:
        lines.append(f"{name:32s}" + "".join(f"{_cell(table[arm][name]):>20s}" for arm in arms))
    return "\n".join(lines)


def _cell(value: Summary) -> str:
    if value["mean"] is None:
        return "-"
    return f"{value['mean']:.3f}" + ("" if value["half_width"] is None else f" ± {value['half_width']:.3f}")
