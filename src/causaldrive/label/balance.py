"""Balance: at most so many accepted labels of each decision and scene family, spread over the recordings.

    group = (family, longitudinal, lateral with side)            kept = min(found, most)

What is left out is chosen by a hash of recording and time, so the same labels come out whatever the order. Reads and
writes nothing. Knows nothing of recordings.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from causaldrive.label.types import CocLabel

NO_FAMILY = "no family"


@dataclass(frozen=True)
class Group:
    """How many accepted labels of one kind were found and kept."""

    family: str
    longitudinal: str
    lateral: str
    found: int
    kept: int

    @property
    def name(self) -> str:
        return f"{self.family}: {self.longitudinal}, {self.lateral}"


def balanced(labels: Sequence[CocLabel], family_of: Mapping[str, str], most: int) -> tuple[list[CocLabel], list[Group]]:
    """Labels in their order with at most `most` accepted ones a group (0: all), and the groups, largest first.

    `family_of` tells a recording's scene family. Rows that are not accepted stay, as the record of what went wrong.
    """
    groups: dict[tuple[str, str, str], list[CocLabel]] = defaultdict(list)
    for label in labels:
        if label.status == "accepted":
            groups[_key(label, family_of)].append(label)
    dropped: set[tuple[str, int]] = set()
    table = []
    for key, members in groups.items():
        ranked = sorted(members, key=_rank)
        left_out = ranked[most:] if most else []
        dropped |= {(label.recording_id, label.t0_us) for label in left_out}
        table.append(Group(*key, len(members), len(members) - len(left_out)))
    kept = [label for label in labels if label.status != "accepted" or (label.recording_id, label.t0_us) not in dropped]
    return kept, sorted(table, key=lambda group: (-group.found, group.name))


def _key(label: CocLabel, family_of: Mapping[str, str]) -> tuple[str, str, str]:
    lateral = " ".join(part for part in (label.decision_lateral, label.direction) if part) or "none"
    return family_of.get(label.recording_id, NO_FAMILY), label.decision_longitudinal or "none", lateral


def _rank(label: CocLabel) -> tuple[bool, int]:
    """Moments at which something changes come first, then by hash."""
    return label.origin == "periodic", zlib.crc32(f"{label.recording_id} {label.t0_us}".encode())
