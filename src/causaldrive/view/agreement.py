"""The command `view agreement`: how far two people (or a person and a teacher) agree, field by field.

    kappa = (p_o - p_e) / (1 - p_e)        p_o: share of labels with the same value, p_e: share expected by chance

with the 95 % interval of a bootstrap over recordings (labels of one drive resemble each other). Reads two label sets;
of a reviewed one only labels that a person decided on. Writes `agreement.json` and `report.html`. Source: Cohen 1960.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tyro.conf import Positional

from causaldrive.ground.errors import UserError
from causaldrive.ground.files import write_json
from causaldrive.ground.page import Cell, Section, Table, write_page
from causaldrive.ground.runs import open_run
from causaldrive.label.types import CocLabel
from causaldrive.view.review_log import Key, decided_labels

DRAWS = 1000
FIELDS: dict[str, Callable[[CocLabel], str]] = {
    "verdict": lambda label: "rejected" if label.status == "rejected" else "kept",
    "decision_longitudinal": lambda label: label.decision_longitudinal or "none",
    "decision_lateral": lambda label: label.decision_lateral or "none",
    "direction": lambda label: label.direction or "none",
    "cause_categories": lambda label: " ".join(sorted({cause.category for cause in label.causes})) or "none",
    "cause_kinds": lambda label: " ".join(sorted({cause.kind or cause.category for cause in label.causes})) or "none",
    "trace": lambda label: label.trace.strip().lower(),
}


@dataclass(frozen=True)
class AgreementConfig:
    """Agreement of two label sets over the same keyframes."""

    a: Positional[Path]  # a label run's directory, or a labels.parquet
    b: Positional[Path]  # the other one; a second annotator's lies in second_NAME/
    out: Path  # run directory for agreement.json and report.html


def run(config: AgreementConfig) -> None:
    """Raises UserError when the two sets have no decided label in common."""
    first, second = dict(decided_labels(config.a)), dict(decided_labels(config.b))
    shared = sorted(set(first) & set(second))
    if not shared:
        raise UserError(
            f"{config.a} ({len(first)} decided labels) and {config.b} ({len(second)}) have no label in common; two "
            "people must decide on the same keyframes first."
        )
    with open_run(config.out, "view agreement", config, {"a": config.a, "b": config.b}) as opened:
        if opened.done:
            return
        result = {name: _field(shared, first, second, of) for name, of in FIELDS.items()}
        write_json(config.out / "agreement.json", result)
        rows = [_row(name, value) for name, value in result.items()]
        write_page(config.out / "report.html", "Agreement", [_section(rows, config, first, second)])
        for name, value in result.items():
            print(f"{name:<22} {_sentence(value)}")


def kappa(a: Sequence[str], b: Sequence[str]) -> float | None:
    """Cohen's kappa of two raters over the same items; None where both say one and the same word throughout."""
    count = len(a)
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / count
    of_a, of_b = Counter(a), Counter(b)
    chance = sum(of_a[word] * of_b[word] for word in of_a) / count**2
    return None if chance == 1 else (observed - chance) / (1 - chance)


def _field(shared: list[Key], first: dict[Key, CocLabel], second: dict[Key, CocLabel],
           of: Callable[[CocLabel], str]) -> dict[str, Any]:  # fmt: skip
    a, b = [of(first[key]) for key in shared], [of(second[key]) for key in shared]
    agreed = sum(x == y for x, y in zip(a, b, strict=True))
    low, high = _interval(a, b, [key[0] for key in shared])
    return {"n": len(shared), "recordings": len({key[0] for key in shared}), "agreed": agreed, "kappa": kappa(a, b),
            "low": low, "high": high}  # fmt: skip


def _interval(a: list[str], b: list[str], clusters: list[str]) -> tuple[float | None, float | None]:
    """95 % percentile interval over resampled recordings; none for fewer than two of them."""
    groups = [[i for i, name in enumerate(clusters) if name == own] for own in sorted(set(clusters))]
    if len(groups) < 2:
        return None, None
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        items = [i for k in generator.integers(len(groups), size=len(groups)) for i in groups[k]]
        value = kappa([a[i] for i in items], [b[i] for i in items])
        drawn += [] if value is None else [value]
    if not drawn:
        return None, None
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def _section(rows: list[list[Cell | str | int]], config: AgreementConfig, first: dict, second: dict) -> Section:
    text = (
        f"`{config.a}` ({len(first)} labels) against `{config.b}` ({len(second)} labels). Cohen's kappa is 1 for full "
        "agreement and 0 for what chance alone gives; no value where both always say the same word."
    )
    return Section(
        "Cohen's kappa by field", [text, Table(["field", "kappa", "same value", "labels", "recordings"], rows)]
    )


def _row(name: str, value: dict[str, Any]) -> list[Cell | str | int]:
    note = f"{value['low']:.2f} to {value['high']:.2f}" if value["low"] is not None else ""
    shown = Cell("–" if value["kappa"] is None else f"{value['kappa']:.2f}", note)
    return [name.replace("_", " "), shown, f"{value['agreed'] / value['n']:.0%}", value["n"], value["recordings"]]


def _sentence(value: dict[str, Any]) -> str:
    known = "kappa not defined (one word throughout)" if value["kappa"] is None else f"kappa {value['kappa']:.2f}"
    interval = f" [{value['low']:.2f}, {value['high']:.2f}]" if value["low"] is not None else ""
    return f"{known}{interval}, {value['agreed']} of {value['n']} labels alike"
