"""The CoC label: decision, causes, one composed trace, its evidence times and its provenance.

Source of the closed sets: arXiv 2511.00088, section 3. Knows nothing of files.
"""

from __future__ import annotations

from dataclasses import dataclass

STATUSES = ("accepted", "rejected", "unscored", "edited")


@dataclass(frozen=True)
class Cause:
    """An observed factor that made the decision: open text, a category of CAUSE_CATEGORIES, and its evidence."""

    category: str
    text: str  # e.g. "a pedestrian is crossing from the right"
    kind: str | None = None  # of CAUSE_KINDS where known
    agent_id: str | None = None  # agent or light id
    evidence_t_us: int | None = None  # when it was seen; inside the history window


@dataclass(frozen=True)
class Verdict:
    """What one validator or critic said. `score` is in [0, 1]; None means that it could not judge."""

    check: str
    passed: bool | None
    score: float | None
    reason: str


@dataclass(frozen=True)
class CocLabel:
    """One keyframe's Chain-of-Causation label."""

    recording_id: str
    t0_us: int
    origin: str  # why this moment: 'transition' (reactive), 'proactive' or 'periodic'
    decision_longitudinal: str | None  # of LONGITUDINAL_DECISIONS
    decision_lateral: str | None  # of LATERAL_DECISIONS
    direction: str | None  # 'left', 'right'
    causes: tuple[Cause, ...]
    trace: str
    meta_history: tuple[str, ...]  # 'longitudinal/lateral' spans, oldest first
    meta_future: tuple[str, ...]
    teacher: str
    prompt_hash: str
    verdicts: tuple[Verdict, ...] = ()
    status: str = "unscored"  # of STATUSES
    model: str = ""  # the language model that was asked, empty where none was
    endpoint: str = ""  # host and port where it was asked
