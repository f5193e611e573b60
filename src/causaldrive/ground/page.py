"""One builder for every report page: sections of text, tables, figures and videos become a self-contained HTML file.

Images and styles are inside the page; videos stay files beside it and are named relative to it. Reads its template
(`page.html.jinja`, `page.css`); writes one HTML file. Knows nothing of driving.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from causaldrive.ground.files import write_text

TONES = ("plain", "good", "bad", "muted", "strong")


@dataclass(frozen=True)
class Text:
    """A paragraph. `code` in backticks, **bold** and [links](href) are understood; anything else is shown as it is."""

    text: str
    tone: str = "plain"
    kind: str = "text"


@dataclass(frozen=True)
class Cell:
    """One table cell: what it says, a smaller second line (an interval, a count), and its tone (of TONES)."""

    text: str
    note: str = ""
    tone: str = "plain"


@dataclass(frozen=True)
class Table:
    """A table; the first `text_columns` columns are left-aligned text, the rest right-aligned numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell | str | float | int | None]]
    caption: str = ""
    text_columns: int = 1
    kind: str = "table"


@dataclass(frozen=True)
class Figure:
    """An image inside the page: PNG, JPEG or SVG bytes. `width_px` caps its width."""

    data: bytes
    caption: str = ""
    alt: str = ""
    width_px: int | None = None
    kind: str = "figure"

    @property
    def source(self) -> str:
        """The image as a data URI."""
        kinds = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"))
        form = next((name for magic, name in kinds if self.data.startswith(magic)), "svg+xml")
        return f"data:image/{form};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Video:
    """A video file, named relative to the page."""

    href: str
    caption: str = ""
    kind: str = "video"


@dataclass(frozen=True)
class Block:
    """Preformatted text: a command, a log, a trace."""

    text: str
    caption: str = ""
    kind: str = "block"


@dataclass(frozen=True)
class Grid:
    """Items side by side, as many as fit, each at least `least_px` wide."""

    items: Sequence[Item]
    least_px: int = 420
    kind: str = "grid"


@dataclass(frozen=True)
class Fold:
    """Items behind a summary line that opens on a click."""

    summary: str
    items: Sequence[Item]
    kind: str = "fold"


Item = Text | Table | Figure | Video | Block | Grid | Fold


@dataclass(frozen=True)
class Section:
    """A titled part of a page."""

    title: str
    items: Sequence[Item | str]
    anchor: str = ""

    @property
    def name(self) -> str:
        return self.anchor or re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    @property
    def shown(self) -> list[Item]:
        return [Text(item) if isinstance(item, str) else item for item in self.items]


def write_page(path: Path, title: str, sections: Sequence[Section], lead: str = "") -> None:
    """Write `path` (HTML). `lead` is the sentence under the title; a contents line appears from four sections on."""
    page = _environment().get_template("page.html.jinja")
    write_text(path, page.render(title=title, lead=lead, sections=list(sections)))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = inline
    environment.filters["cell"] = as_cell
    return environment


def inline(text: str) -> Markup:
    """Escaped text with `code`, **bold** and [link](href) turned into HTML."""
    html = escape(text)
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", html)
    html = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", html)
    html = re.sub(r"\[([^\]]+)\]\(([^)\s:]+|https?://[^)\s]+)\)", r'<a href="\2">\1</a>', html)
    return Markup(html)


def as_cell(value: Cell | str | float | int | None) -> Cell:
    """Whatever stands in a table row, as a Cell; None is a dash."""
    if isinstance(value, Cell):
        return value
    if value is None:
        return Cell("–", tone="muted")
    if isinstance(value, float):
        return Cell(number(value))
    return Cell(str(value))


def number(value: float, digits: int = 3) -> str:
    """A float with `digits` significant digits and no exponent for everyday sizes."""
    if not np.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1e5 or 0 < size < 1e-4:
        return f"{value:.{digits - 1}e}"
    decimals = max(digits - 1 - int(np.floor(np.log10(size))), 0) if size else digits - 1
    return f"{value:.{decimals}f}"
