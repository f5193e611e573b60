"""The page builder and its plots: all inside the file, nothing unescaped, same bytes for same numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causaldrive.ground import plots
from causaldrive.ground.page import (
    Block,
    Cell,
    Figure,
    Fold,
    Grid,
    Section,
    Table,
    Text,
    Video,
    inline,
    number,
    write_page,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def page(tmp_path: Path, *items) -> str:
    write_page(tmp_path / "report.html", "a <title>", [Section("One part", items)], "lead")
    return (tmp_path / "report.html").read_text()


def test_every_item_appears_and_the_page_needs_no_other_file_but_videos(tmp_path: Path):
    table = Table(("driver", "score"), [["coc", Cell("0.51", "n 3", "good")], ["other", None]], "the caption")
    html = page(tmp_path, "plain words", Fold("open me", [Grid([table, Figure(PNG, "a picture")])]),
                Video("videos/a b+c.mp4", "a film"), Block("causaldrive <x>"))  # fmt: skip
    for words in ("plain words", "open me", "the caption", "a picture", "a film", "causaldrive &lt;x&gt;", "0.51", "–"):
        assert words in html
    sources = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert [s for s in sources if not s.startswith(("data:", "#"))] == ["videos/a%20b%2Bc.mp4"]
    assert "a &lt;title&gt;" in html and "controls muted loop" in html


def test_numbers_are_right_aligned_and_words_left(tmp_path: Path):
    html = page(tmp_path, Table(("driver", "what", "score"), [["coc", "x", 1.5]], text_columns=2))
    assert re.findall(r'<td class="(\w+)', html) == ["word", "word", "num"]


@given(st.text())
def test_inline_text_never_lets_markup_through(text: str):
    html = re.sub(r"</?(code|b)>|<a href=\"[^\"]*\">|</a>", "", str(inline(text)))
    assert "<" not in html and ">" not in html


def test_inline_marks():
    assert str(inline("`a*b*` **c** [d](e/f.html)")) == '<code>a*b*</code> <b>c</b> <a href="e/f.html">d</a>'
    assert "href" not in str(inline("[x](javascript:alert)"))


@pytest.mark.parametrize(("value", "text"), [(0.51234, "0.512"), (12.3456, "12.3"), (1234.5, "1234"), (0.0, "0.00"),
                                             (float("nan"), "–"), (1e-6, "1.00e-06")])  # fmt: skip
def test_numbers_have_three_digits(value: float, text: str):
    assert number(value) == text


def test_contents_line_comes_with_four_sections(tmp_path: Path):
    few, many = ([Section(f"Part {i}", [Text("x")]) for i in range(n)] for n in (3, 4))
    for sections, expected in ((few, 0), (many, 1)):
        write_page(tmp_path / "r.html", "t", sections)
        assert (tmp_path / "r.html").read_text().count("<nav>") == expected


def test_plots_give_the_same_bytes_and_other_bytes_for_other_numbers():
    def curve(height: float) -> bytes:
        return plots.curves([plots.Panel("loss", [plots.Curve("a", [0, 1, 2], [1.0, height, 0.5])], "step")])

    assert curve(0.7) == curve(0.7) != curve(0.8)
    t = np.arange(10.0)
    spans = [(0.0, 4.0, "maintain_speed"), (4.0, 9.0, "stop")]
    strip = plots.strips([plots.Strip("speed", t, t**2)], [plots.Ribbon("meta", spans)], [(4.0, "1")])
    bars = plots.intervals({"score": [plots.Interval("coc", 0.5, 0.4, 0.6), plots.Interval("none", None)]})
    assert all(image.lstrip().startswith(b"<?xml") for image in (strip, bars))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.integers(1, 10))
def test_running_mean_is_the_mean_of_the_last_values(values: list[float], width: int):
    made = plots.running_mean(np.array(values), width)
    for index in range(len(values)):
        assert made[index] == pytest.approx(np.mean(values[max(index - width + 1, 0) : index + 1]), abs=1e-9)
