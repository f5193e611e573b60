"""Which weights were best on the validation samples.

    score = sum_m w_m L_m / L_m(first) / sum_m w_m, over the metrics m that are chosen; smaller is better

Each metric is measured by where it started, so that losses of different size count alike. Knows nothing of weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from causaldrive.ground.errors import UserError, unknown_name

METRICS = ("loss", "text_loss", "traj_loss", "flow_loss", "ade_m")


def weights_of(words: Sequence[str]) -> dict[str, float]:
    """('text_loss', 'ade_m=2') to {'text_loss': 1, 'ade_m': 2}. Raises UserError for what is not one of METRICS."""
    found = {}
    for word in words:
        name, _, weight = word.partition("=")
        if name not in METRICS:
            raise unknown_name("sft: --best-by", name, METRICS)
        try:
            found[name] = float(weight or 1)
        except ValueError:
            found[name] = 0.0
        if not found[name] > 0:
            raise UserError(
                f"sft: --best-by {word}: the weight is {weight!r}, a number above 0 expected, as in {name}=2."
            )
    return found


class Best:
    """Remembers the validation rows so far; `offer` says whether a new one is the best."""

    def __init__(self, words: Sequence[str]):
        self.weights = weights_of(words)
        self.step, self.score = 0, float("inf")
        self._first: Mapping[str, float] | None = None

    def offer(self, step: int, row: Mapping[str, float]) -> bool:
        """True when `row` beats every row before. The first row, before any training, is the measure and never best."""
        if self._first is None:
            self._first = row
        score = self._score(row)
        if step == 0 or score is None or not score < self.score:
            return False
        self.step, self.score = step, score
        return True

    def _score(self, row: Mapping[str, float]) -> float | None:
        """None where nothing can be compared: no metric is chosen, or all began at 0 (no traces)."""
        assert self._first is not None, "asked with a first row"
        used = {name: weight for name, weight in self.weights.items() if self._first.get(name, 0) > 0}
        total = sum(used.values())
        return sum(w * row[name] / self._first[name] for name, w in used.items()) / total if used else None
