"""Small plots for report pages: curves, intervals, strips over time. Each returns SVG bytes.

The same numbers give the same bytes. Knows nothing of driving or files.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

PALETTE = ("#2f6fd0", "#e0762b", "#2a9d62", "#c2413b", "#7e5bc2", "#8a6a4f", "#d15c9c", "#5c6b7a")
_STYLE: Any = {
    "font.family": "sans-serif", "font.size": 9.5, "axes.titlesize": 10.5, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#8a93a0",
    "axes.grid": True, "grid.color": "#e6e9ee", "grid.linewidth": 0.8, "axes.axisbelow": True,
    "xtick.color": "#5b6675", "ytick.color": "#5b6675", "axes.labelcolor": "#5b6675", "legend.frameon": False,
    "svg.hashsalt": "causaldrive", "svg.fonttype": "path",
}  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """One line: its name and points. NaN leaves a gap."""

    name: str
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Panel:
    """One set of axes with its curves."""

    title: str
    curves: Sequence[Curve]
    x_label: str = ""
    y_label: str = ""
    log_y: bool = False


@dataclass(frozen=True)
class Interval:
    """A value with its interval; None where there is no value."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Strip:
    """A quantity over time, (T,) each."""

    label: str
    t_s: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Ribbon:
    """Named spans over time: (start_s, end_s, name)."""

    label: str
    spans: Sequence[tuple[float, float, str]]
    colours: Mapping[str, str] = field(default_factory=dict)  # of names; others come from the palette


def curves(panels: Sequence[Panel], columns: int = 3, smooth: int = 1) -> bytes:
    """Panels in a grid. `smooth` > 1 draws the raw line pale and its running mean over that many points on top."""
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.1 * min(columns, len(panels)), 2.75 * rows), layout="constrained")
        for index, panel in enumerate(panels):
            _draw_panel(figure.add_subplot(rows, min(columns, len(panels)), index + 1), panel, smooth)
        return _svg(figure)


def _draw_panel(axes: Any, panel: Panel, smooth: int) -> None:
    for index, curve in enumerate(panel.curves):
        x, y = np.asarray(curve.x, float), np.asarray(curve.y, float)
        colour = PALETTE[index % len(PALETTE)]
        thin = smooth > 1 and len(y) > 2 * smooth
        axes.plot(x, y, color=colour, alpha=0.25 if thin else 1.0, linewidth=1.0 if thin else 1.6,
                  label=None if thin else curve.name, marker="o" if len(y) <= 12 else None, markersize=3)  # fmt: skip
        if thin:
            axes.plot(x, running_mean(y, smooth), color=colour, linewidth=1.8, label=curve.name)
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    if panel.log_y:
        axes.set_yscale("log")
    if len(panel.curves) > 1:
        axes.legend(fontsize=8)


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """(N,) mean over the last `width` values, fewer at the start; values that are not finite are left out."""
    good = np.isfinite(values)
    total = np.cumsum(np.where(good, values, 0.0))
    count = np.cumsum(good)
    total[width:], count[width:] = total[width:] - total[:-width], count[width:] - count[:-width]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def intervals(groups: Mapping[str, Sequence[Interval]], columns: int = 3) -> bytes:
    """One panel a group, one row an interval: a dot at the value, a bar from low to high."""
    height = 0.34 * max(len(rows) for rows in groups.values()) + 0.75
    lines = -(-len(groups) // columns)
    width = min(columns, len(groups))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.1 * width, height * lines), layout="constrained")
        for index, (title, rows) in enumerate(groups.items()):
            _draw_intervals(figure.add_subplot(lines, width, index + 1), title, rows)
        return _svg(figure)


def _draw_intervals(axes: Any, title: str, rows: Sequence[Interval]) -> None:
    for index, row in enumerate(rows):
        if row.value is None:
            continue
        colour = PALETTE[index % len(PALETTE)]
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [index, index], color=colour, linewidth=5, alpha=0.3,
                      solid_capstyle="round")  # fmt: skip
        axes.plot(row.value, index, "o", color=colour, markersize=6)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(title)
    axes.grid(axis="y", visible=False)


def strips(strips: Sequence[Strip], ribbons: Sequence[Ribbon] = (), marks: Sequence[tuple[float, str]] = ()) -> bytes:
    """Quantities over one time axis, ribbons of named spans below them, numbered marks as vertical lines."""
    heights = [1.5] * len(strips) + [0.55] * len(ribbons)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(12.0, sum(heights) + 0.5), layout="constrained")
        all_axes = np.atleast_1d(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
        for axes, strip in zip(all_axes, strips, strict=False):
            axes.plot(strip.t_s, strip.value, color=PALETTE[0], linewidth=1.4)
            axes.set_ylabel(strip.label)
        for axes, ribbon in zip(all_axes[len(strips) :], ribbons, strict=True):
            _draw_ribbon(axes, ribbon)
        for axes in all_axes:
            for t_s, _ in marks:
                axes.axvline(t_s, color="#c2413b", linewidth=1, linestyle=(0, (3, 2)))
        for t_s, name in marks:
            all_axes[0].annotate(name, (t_s, 1.0), xycoords=("data", "axes fraction"), fontsize=8, color="#c2413b",
                                 ha="center", va="bottom")  # fmt: skip
        all_axes[-1].set_xlabel("time (s)")
        figure.align_ylabels()
        return _svg(figure)


def _draw_ribbon(axes: Any, ribbon: Ribbon) -> None:
    names = sorted({name for _, _, name in ribbon.spans})
    spare = {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}
    for start_s, end_s, name in ribbon.spans:
        axes.axvspan(start_s, end_s, color=ribbon.colours.get(name, spare[name]), alpha=0.55, linewidth=0)
        axes.text((start_s + end_s) / 2, 0.5, name.replace("_", " "), ha="center", va="center", fontsize=7,
                  clip_on=True, transform=axes.get_xaxis_transform())  # fmt: skip
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.set_ylabel(ribbon.label, rotation=0, ha="right", va="center")


def _svg(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.patch.set_facecolor("white")
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    return stream.getvalue()
