"""Who goes first at the junctions of a SUMO network: links, and the rights of way that their request tables hold.

Reads parsed XML. Knows nothing of vehicles.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from causaldrive.clips.geometry import wrap_angle
from causaldrive.clips.types import Lane, RightOfWay, RoadMap

_ONCOMING_RAD, _MERGE_RAD, _LEFT_RAD = 2.3, 0.7, 0.6
SIGNED = ("all_way_stop", "stop", "yield", "roundabout", "merge")


@dataclass(frozen=True)
class Link:
    """A way from one lane over a junction into another. `via` are the junction's lanes, in order."""

    from_edge: str
    to_edge: str
    from_lane: str
    to_lane: str
    via: tuple[str, ...]
    state: str  # SUMO's letter: M major, m minor, s stop, w all-way stop, Z zipper, o/O signal
    turn_rad: float  # heading change, left positive
    signal: str | None
    signal_index: int

    def has_sign(self, road: RoadMap) -> bool:
        """Does a stop or yield sign stand at its start?"""
        way = road.right_of_way.get(self.via[0]) if self.via else None
        return way is not None and way.kind in SIGNED


def rights_of_way(root: ET.Element, lanes: dict[str, Lane], links: Sequence[Link]) -> dict[str, RightOfWay]:
    """By first junction lane: whom a link lets go first, and why. Links that yield to nobody have none."""
    by_inner = {lane: link for link in links for lane in link.via}
    ring_edges = ring_edges_of(root)
    found = {}
    for junction in root.iter("junction"):
        inner = junction.get("intLanes", "").split()
        for request in junction.findall("request"):
            link = by_inner.get(inner[int(request.get("index", 0))])
            if link is None:
                continue
            all_way = junction.get("type") == "allway_stop"
            bits = str(request.get("foes" if all_way else "response", ""))
            foes = [by_inner[lane] for lane in _set_bits(bits, inner) if lane in by_inner]
            way = _right_of_way(link, foes, lanes, "all_way_stop" if all_way else None, ring_edges)
            if way is not None:
                found[way.lane_id] = way
    return found


def ring_edges_of(root: ET.Element) -> frozenset[str]:
    """The edges that go round in roundabouts."""
    return frozenset(edge for element in root.iter("roundabout") for edge in element.get("edges", "").split())


def _set_bits(bits: str, inner: list[str]) -> Iterator[str]:
    """Junction lanes whose bit is set; bit 0 is the last letter."""
    for index, bit in enumerate(reversed(bits)):
        if bit == "1" and index < len(inner):
            yield inner[index]


def _right_of_way(
    link: Link, foes: list[Link], lanes: dict[str, Lane], kind: str | None, ring_edges: frozenset[str]
) -> RightOfWay | None:
    line = lanes[link.from_lane].centre_xy_m
    yaw = _yaw(line, -1)
    if link.signal:  # at a signal the others are held by red; only who has green with us goes first
        foes = [foe for foe in foes if abs(_turned(foe, yaw, lanes)) > _ONCOMING_RAD]
    foes = [foe for foe in foes if foe.from_lane != link.from_lane]
    if link.state == "s":
        kind = "stop"
    if not foes and kind is None:
        return None
    kind = kind or _kind_of(link, foes, yaw, lanes, ring_edges)
    first = tuple(dict.fromkeys(foe.via[0] for foe in foes))
    return RightOfWay(kind, link.via[0], line[-1].copy(), yaw, first)


def _kind_of(link: Link, foes: list[Link], yaw_rad: float, lanes: dict[str, Lane], ring_edges: frozenset[str]) -> str:
    if link.to_edge in ring_edges and all(foe.from_edge in ring_edges for foe in foes):
        return "roundabout"
    turned = [abs(_turned(foe, yaw_rad, lanes)) for foe in foes]
    if link.turn_rad > _LEFT_RAD and all(angle > _ONCOMING_RAD for angle in turned):
        return "left_turn"
    same_end = all(foe.to_edge == link.to_edge for foe in foes)
    return "merge" if same_end and all(angle < _MERGE_RAD for angle in turned) else "yield"


def _turned(foe: Link, yaw_rad: float, lanes: dict[str, Lane]) -> float:
    return float(wrap_angle(_yaw(lanes[foe.from_lane].centre_xy_m, -1) - yaw_rad))


def _yaw(line_xy_m: np.ndarray, end: int) -> float:
    a, b = (line_xy_m[-2], line_xy_m[-1]) if end == -1 else (line_xy_m[0], line_xy_m[1])
    return float(np.arctan2(*(b - a)[::-1]))
