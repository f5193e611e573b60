"""From lane to lane over time: where one is left for another, and the words that this alone decides.

Reads the index of the lane at each moment (-1 off the map), whoever found it: the detector and the truth it is measured
against mean the same by these words. Knows nothing of how lanes were matched, nor of time between moments.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from causaldrive.clips.lane_graph import STRAIGHT_RAD, join_of, lane_change_of, turn_of
from causaldrive.clips.timeline import runs_of
from causaldrive.clips.types import Lane, RoadMap


def passages(index: np.ndarray) -> list[int]:
    """Moments at which another lane is reached."""
    return (np.flatnonzero((index[1:] != index[:-1]) & (index[1:] >= 0) & (index[:-1] >= 0)) + 1).tolist()


def say_joins(words: np.ndarray, index: np.ndarray, lanes: Sequence[Lane], road: RoadMap, around: int) -> None:
    """Write 'merge' or 'split' into `words`, `around` moments to each side of where lanes join or part."""
    known: dict[tuple[int, int], str | None] = {}
    for t in passages(index):
        pair = int(index[t - 1]), int(index[t])
        if pair not in known:
            known[pair] = join_of(lanes[pair[0]], lanes[pair[1]], road)
        word = known[pair]
        if word:
            words[max(t - around, 0) : t + around] = word


def say_changes(
    index: np.ndarray,
    aside_mps: np.ndarray,
    lanes: Sequence[Lane],
    road: RoadMap,
    faster_mps: float,
    most: int,
    least: int = 0,
) -> np.ndarray:
    """(T,) word while a line between lanes is crossed, from when the car began to move over until it stopped; else ''.

    At most `most` moments to each side of the crossing, and `least` from there on however slow it is.
    """
    changes = np.full(len(index), "", object)
    for t in passages(index):
        word = lane_change_of(lanes[index[t - 1]], lanes[index[t]], road)
        if word is None:
            continue
        moves = np.sign(aside_mps[t]) * aside_mps > faster_mps
        first, end = t, t + least
        while first > max(t - most, 0) and moves[first - 1]:
            first -= 1
        while end < min(t + most, len(moves)) and moves[end]:
            end += 1
        changes[first:end] = word
    return changes


def turns(index: np.ndarray, lanes: Sequence[Lane]) -> list[tuple[int, int, str]]:
    """(first, end, side) of each junction that is crossed by a turn."""
    found = []
    inside = np.array([lane.in_junction for lane in lanes] + [False])  # the last for -1
    for first, end in runs_of(inside[index]):
        turned = sum(turn_of(lane) for lane in _way_over([lanes[i] for i in index[first:end]]))
        if abs(turned) >= STRAIGHT_RAD:
            found.append((first, end, "left" if turned > 0 else "right"))
    return found


def _way_over(visited: Sequence[Lane]) -> list[Lane]:
    """The lane visited for longest, with those that lead into it and out of it; not what only lies over them."""
    visits = [list(same) for _, same in itertools.groupby(visited, key=lambda lane: lane.lane_id)]
    first = last = max(range(len(visits)), key=lambda k: len(visits[k]))
    while first > 0 and visits[first][0].lane_id in visits[first - 1][0].successors:
        first -= 1
    while last + 1 < len(visits) and visits[last + 1][0].lane_id in visits[last][0].successors:
        last += 1
    return [visit[0] for visit in visits[first : last + 1]]
