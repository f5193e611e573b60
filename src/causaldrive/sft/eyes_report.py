"""The page of a `student see` run: curves, how well each kind of thing is found, and pictures with what was seen.

Reads metrics rows and pictures; writes one HTML file. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from causaldrive.ground.page import Figure, Grid, Section, Table, write_page
from causaldrive.ground.plots import Curve, Panel, curves
from causaldrive.sft.sights import KINDS

_TITLES = {"loss": "all", "kind": "what: cross-entropy", "measures": "where and how fast",
           "ground": "ground beside the route", "path": "where the route goes"}  # fmt: skip
_ERRORS = {"ground_m": "distance of the ground from the route's line", "path_m": "side of the route 4 to 40 m ahead",
           "offset_m": "own offset from the route"}  # fmt: skip
_RGB = ((0, 0, 0), (64, 160, 255), (255, 96, 200), (255, 160, 0), (200, 200, 80), (255, 40, 40), (255, 220, 0),
        (40, 230, 80))  # fmt: skip
_ENLARGE = 2


@dataclass(frozen=True)
class Shown:
    """One held-back picture (H, W, 3) and the kinds of its cells (rows, columns): true and seen."""

    image: NDArray[np.uint8]
    true: NDArray[np.int64]
    seen: NDArray[np.int64]


def write_report(path: Path, metrics: Sequence[dict[str, Any]], seen: Mapping[str, float | None],
                 pictures: Sequence[Shown]) -> None:  # fmt: skip
    """report.html of the run."""
    sections = [Section("Losses", [Figure(curves(_panels(metrics), columns=3, smooth=20), alt="loss curves")])]
    if seen:
        rows = [[kind, seen[f"recall {kind}"], seen[f"precision {kind}"]] for kind in KINDS]
        errors = [[what, seen[name]] for name, what in _ERRORS.items()]
        sections.append(Section("Seen on recordings held back", [
            Table(["cells with", "recall", "precision"], rows), Table(["mean error, m", "value"], errors),
        ]))  # fmt: skip
    if pictures:
        figures = [Figure(_drawn(each), alt="what was seen", width_px=640) for each in pictures]
        note = "Thin frame: what is there. Thick corner: what was seen. " + ", ".join(KINDS[1:]) + "."
        sections.append(Section("Pictures", [note, Grid(figures)]))
    write_page(path, "Eyes: what is where", sections, "The vision encoder, taught with the annotations of recordings.")


def _panels(metrics: Sequence[dict[str, Any]]) -> list[Panel]:
    train = [row for row in metrics if row["split"] == "train"]
    steps = [row["step"] for row in train]
    return [
        Panel(title, [Curve("training", steps, [row[name] for row in train])], "step", log_y=True)
        for name, title in _TITLES.items()
        if any(row[name] for row in train)
    ]


def _drawn(shown: Shown) -> bytes:
    image = cv2.resize(shown.image, None, fx=_ENLARGE, fy=_ENLARGE, interpolation=cv2.INTER_CUBIC)
    rows, columns = shown.true.shape
    height, width = image.shape[0] // rows, image.shape[1] // columns
    for row, column in np.argwhere((shown.true > 0) | (shown.seen > 0)):
        x, y = int(column * width), int(row * height)
        if shown.true[row, column]:
            cv2.rectangle(image, (x + 1, y + 1), (x + width - 2, y + height - 2), _RGB[shown.true[row, column]], 1)
        if shown.seen[row, column]:
            cv2.rectangle(image, (x + 4, y + 4), (x + 16, y + 16), _RGB[shown.seen[row, column]], -1)
    return cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
