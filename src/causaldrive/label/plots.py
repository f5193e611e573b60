"""Plots of one drive: speed, acceleration, curvature, the ribbon of meta actions, keyframes as lines.

Returns pictures as data URIs, to stand inside a page. Knows nothing of files.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from causaldrive.clips.types import EgoMotion
from causaldrive.label.meta_actions import MetaActions, Span, acceleration_of, spans_of
from causaldrive.label.types import CocLabel

COLOURS = {
    "strong_accelerate": "#1b7837",
    "gentle_accelerate": "#7fbf7b",
    "maintain_speed": "#d9d9d9",
    "gentle_decelerate": "#f4a582",
    "strong_decelerate": "#b2182b",
    "stop": "#404040",
    "reverse": "#762a83",
    "go_straight": "#d9d9d9",
    "steer_left": "#92c5de",
    "sharp_steer_left": "#0571b0",
    "steer_right": "#fdb863",
    "sharp_steer_right": "#b35806",
    "reverse_left": "#5e3c99",
    "reverse_right": "#9970ab",
    "keep_lane": "#d9d9d9",
    "lane_change_left": "#0571b0",
    "lane_change_right": "#b35806",
    "nudge_left": "#92c5de",
    "nudge_right": "#fdb863",
    "turn_left": "#5e3c99",
    "turn_right": "#9970ab",
    "follow_curve_left": "#c7e9c0",
    "follow_curve_right": "#a1d99b",
    "merge": "#e7298a",
    "split": "#f7b6d2",
    "off_map": "#ffffff",
}
_STATUS_COLOUR = {"accepted": "#1a9850", "rejected": "#d73027"}
_DPI = 100


def motion_plot(
    ego: EgoMotion, meta: MetaActions, labels: Sequence[CocLabel], lane_words: np.ndarray | None = None
) -> str:
    """PNG data URI of a drive at 10 Hz with its meta actions and keyframes; times from the start of the drive.

    `lane_words` (T,) of LANE_META make a third ribbon.
    """
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(4, 1, sharex=True, height_ratios=[3, 2, 2, 1.6])
    t_s = (ego.t_us - ego.t_us[0]) / 1e6
    _curve(axes[0], t_s, ego.speed_mps, "speed\nm/s")
    _curve(axes[1], t_s, acceleration_of(ego.speed_mps), "acceleration\nm/s²")
    _curve(axes[2], t_s, ego.curvature_1pm, "curvature\n1/m (left +)")
    lane = () if lane_words is None else spans_of("lane", ego.t_us, lane_words)
    _ribbon(axes[3], (*meta.spans, *lane), int(ego.t_us[0]))
    for label in labels:
        for axis in axes:
            colour = _STATUS_COLOUR.get(label.status, "#666666")
            axis.axvline((label.t0_us - ego.t_us[0]) / 1e6, color=colour, lw=0.9, alpha=0.6)
    axes[3].set_xlabel("time in s; lines are keyframes, green accepted, red rejected")
    axes[3].set_xlim(0, float(t_s[-1]))
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _curve(axis: Axes, t_s: np.ndarray, values: np.ndarray, name: str) -> None:
    axis.plot(t_s, values, color="#2166ac", lw=1.4)
    axis.axhline(0, color="#999999", lw=0.6)
    axis.set_ylabel(name, fontsize=9)
    axis.grid(axis="y", color="#eeeeee")
    axis.spines[["top", "right"]].set_visible(False)


def _ribbon(axis: Axes, spans: Sequence[Span], start_us: int) -> None:
    used: dict[str, str] = {}
    rows = [name for name in ("lane", "lateral", "longitudinal") if any(span.axis == name for span in spans)]
    for span in spans:
        row = rows.index(span.axis)
        left, width = (span.start_t_us - start_us) / 1e6, (span.end_t_us - span.start_t_us) / 1e6
        axis.barh(row, width, left=left, height=0.8, color=COLOURS[span.label], edgecolor="white", lw=0.5)
        used.setdefault(span.label, COLOURS[span.label])
    axis.set_yticks(range(len(rows)), rows, fontsize=9)
    axis.spines[["top", "right", "left"]].set_visible(False)
    handles = [Patch(color=colour, label=name.replace("_", " ")) for name, colour in used.items()]
    axis.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.62), ncols=6, fontsize=8, frameon=False)
