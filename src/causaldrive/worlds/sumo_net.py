"""Reads a SUMO network (.net.xml) into our world: lanes, junction areas, crosswalks, stop lines, rights of way, heads.

Plain XML: nothing of SUMO is needed to read a network. The local frame is the network's own. Lanes that only people or
trains may use are left out. Knows nothing of traffic.
"""

from __future__ import annotations

import itertools
import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import shapely
from scipy.ndimage import gaussian_filter1d

from causaldrive.clips.geometry import Array, arc_lengths, pose_on_polyline, wrap_angle
from causaldrive.clips.types import Lane, RoadMap
from causaldrive.ground.errors import UserError
from causaldrive.worlds.actors import SignalHead
from causaldrive.worlds.sumo_rights import Link, rights_of_way, ring_edges_of

POINT_EVERY_M = 2.0
DEFAULT_LANE_M = 3.2
_HEAD_HEIGHT_M, _HEAD_BEYOND_M, _HEAD_ASIDE_M = 4.1, 7.5, 0.4
_ROUTE_SMOOTH_M = 1.5
_LEAST_LANE_M = 0.02


@dataclass(frozen=True)
class Network:
    """A read network. `lane_ids` lists the vehicle lanes of each edge from right to left."""

    path: Path
    road: RoadMap
    lane_ids: dict[str, tuple[str, ...]]
    links: tuple[Link, ...]
    ends: dict[str, tuple[str, str]]  # junctions at the start and the end of each edge
    sidewalks: dict[str, float] = field(default_factory=dict)  # edges with a lane for people -> its length
    programs: dict[str, tuple[str, ...]] = field(default_factory=dict)  # signal -> a letter a link, for each phase
    ring_edges: frozenset[str] = frozenset()  # of roundabouts

    @cached_property
    def links_from(self) -> dict[str, list[Link]]:
        """Links by the edge that they leave."""
        table: dict[str, list[Link]] = {}
        for link in self.links:
            table.setdefault(link.from_edge, []).append(link)
        return table

    def length_m(self, edge: str) -> float:
        """Length of an edge's centre line."""
        return float(arc_lengths(self.road.lanes[self.lane_ids[edge][0]].centre_xy_m)[-1])

    def line_through(self, edges: Sequence[str]) -> Array:
        """(R, 2) centre line along connected edges on a 1 m grid, its corners rounded (1.5 m).

        Where an edge is entered on another lane than it is left on, the line goes over between them in its middle.
        """
        links, lanes = self.links_through(edges), self.road.lanes
        entered = [links[0].from_lane if links else self.lane_ids[edges[0]][0], *(link.to_lane for link in links)]
        left = [*(link.from_lane for link in links), entered[-1]]
        parts = []
        for k, (first, last) in enumerate(zip(entered, left, strict=True)):
            parts.append(_gone_over(lanes[first].centre_xy_m, lanes[last].centre_xy_m))
            parts += [lanes[lane].centre_xy_m for lane in (links[k].via if k < len(links) else ())]
        line = np.concatenate(parts)
        line = line[np.concatenate([[True], np.linalg.norm(np.diff(line, axis=0), axis=1) > 1e-3])]
        even, _ = pose_on_polyline(np.arange(0.0, arc_lengths(line)[-1], 1.0), line)
        return gaussian_filter1d(even, _ROUTE_SMOOTH_M, axis=0, mode="nearest")

    def lanes_through(self, edges: Sequence[str]) -> list[str]:
        """Lane ids along connected edges, junction lanes between them; of an edge, the lane on which it is left."""
        links = self.links_through(edges)
        last = links[-1].to_lane if links else self.lane_ids[edges[0]][0]
        return [lane for link in links for lane in (link.from_lane, *link.via)] + [last]

    def links_through(self, edges: Sequence[str]) -> list[Link]:
        """One link from each edge to the next, with the fewest changes of lane between them (the first such choice).

        Raises UserError where the edges do not connect.
        """
        for edge in edges:
            if edge not in self.lane_ids:
                raise UserError(f"{self.path} has no edge {edge!r}; name one of its edges.")
        best: list[tuple[int, list[Link]]] = [(0, [])]
        for edge, following in itertools.pairwise(edges):
            links = [k for k in self.links_from.get(edge, []) if k.to_edge == following]
            if not links:
                raise UserError(f"{self.path}: edge {edge!r} does not lead to {following!r}; name edges that connect.")
            best = [min(((cost + bool(way and way[-1].to_lane != link.from_lane), [*way, link]) for cost, way in best),
                        key=lambda option: option[0]) for link in links]  # fmt: skip
        return min(best, key=lambda option: option[0])[1]

    def heads(self) -> tuple[SignalHead, ...]:
        """One head over each lane that a signal governs; `group` is 'program/index' of the link shown."""
        heads = []
        for lane_id, link in self._governed().items():
            x, y, yaw = _end_pose(self.road.lanes[lane_id].centre_xy_m)
            ahead, aside = (_HEAD_BEYOND_M, -_HEAD_ASIDE_M)
            hx = x + ahead * math.cos(yaw) - aside * math.sin(yaw)
            hy = y + ahead * math.sin(yaw) + aside * math.cos(yaw)
            group = f"{link.signal}/{link.signal_index}"
            heads.append(SignalHead(f"light_{lane_id}", lane_id, group, (x, y), (hx, hy, _HEAD_HEIGHT_M), yaw))
        return tuple(heads)

    def _governed(self) -> dict[str, Link]:
        """The straightest signalled link of each lane."""
        found: dict[str, Link] = {}
        for link in self.links:
            best = found.get(link.from_lane)
            if link.signal and (best is None or abs(link.turn_rad) < abs(best.turn_rad)):
                found[link.from_lane] = link
        return found


def read_network(path: Path) -> Network:
    """Raises UserError for a file that is not there, broken XML, another kind of file, or one without lanes."""
    root = _root(path)
    lanes, lane_ids, sidewalks = _lanes(root)
    if not lane_ids:
        raise UserError(f"{path} has no lane that cars may use; a network of roads was expected, so convert it again.")
    links = _links(root, lanes)
    road = RoadMap(_joined(lanes, links), _crosswalks(root), _junction_areas(root))
    road.right_of_way.update(rights_of_way(root, road.lanes, links))
    waits = {link.from_lane for link in links if link.signal}
    waits |= {link.from_lane for link in links if link.via and link.via[0] in road.right_of_way and link.has_sign(road)}
    road.stop_lines.update({lane: _stop_line(road.lanes[lane]) for lane in sorted(waits)})
    ends = {str(e.get("id")): (str(e.get("from")), str(e.get("to"))) for e in root.iter("edge") if e.get("from")}
    programs = {str(e.get("id")): tuple(str(p.get("state")) for p in e.iter("phase")) for e in root.iter("tlLogic")}
    return Network(path, road, lane_ids, links, ends, sidewalks, programs, ring_edges_of(root))


def _root(path: Path) -> ET.Element:
    try:
        root = ET.parse(path).getroot()
    except OSError:
        raise UserError(f"{path} cannot be read; the path of a SUMO network (.net.xml) was expected.") from None
    except ET.ParseError as error:
        raise UserError(f"{path} is not well-formed XML ({error}); convert the network again.") from None
    if root.tag != "net":
        raise UserError(f"{path} holds <{root.tag}>, expected a SUMO network <net>; run `causaldrive worlds convert`.")
    return root


def _lanes(root: ET.Element) -> tuple[dict[str, Lane], dict[str, tuple[str, ...]], dict[str, float]]:
    lanes: dict[str, Lane] = {}
    lane_ids: dict[str, tuple[str, ...]] = {}
    sidewalks: dict[str, float] = {}
    for edge in root.iter("edge"):
        role = edge.get("function", "normal")
        if role not in ("normal", "internal"):
            continue
        drivable = [lane for lane in edge.findall("lane") if _kind(lane) is not None]
        for place, element in enumerate(drivable):
            if role == "internal" and arc_lengths(_points(element.get("shape", "")))[-1] < _LEAST_LANE_M:
                continue  # real maps have junctions without extent: edge meets edge
            lane = _lane(element, role == "internal", place, [str(e.get("id")) for e in drivable])
            lanes[lane.lane_id] = lane
        if role == "normal" and any(_kind(e) == "vehicle" for e in drivable):
            lane_ids[str(edge.get("id"))] = tuple(str(e.get("id")) for e in drivable if _kind(e) == "vehicle")
            walks = [e for e in edge.findall("lane") if e.get("allow", "").split() == ["pedestrian"]]
            sidewalks |= {str(edge.get("id")): float(e.get("length", 0)) for e in walks[:1]}
    return lanes, lane_ids, sidewalks


def _kind(lane: ET.Element) -> str | None:
    """'vehicle', 'bus', 'bike', or None for what is no road."""
    allow, disallow = lane.get("allow", "").split(), lane.get("disallow", "").split()
    if allow:
        known = (("passenger", "vehicle"), ("all", "vehicle"), ("bus", "bus"), ("bicycle", "bike"))
        return next((kind for name, kind in known if name in allow), None)
    return None if {"all", "passenger"} & set(disallow) else "vehicle"


def _lane(element: ET.Element, internal: bool, place: int, row: list[str]) -> Lane:
    centre = _dense(_points(element.get("shape", "")))
    half = float(element.get("width", DEFAULT_LANE_M)) / 2
    last = len(row) - 1
    return Lane(
        str(element.get("id")), centre, _aside(centre, half), _aside(centre, -half),
        speed_limit_mps=float(element.get("speed", 13.9)), kind=_kind(element) or "vehicle", in_junction=internal,
        left_mark="none" if internal else "solid_yellow" if place == last else "dashed_white",
        right_mark="none" if internal else "solid_white" if place == 0 else "dashed_white",
        left_neighbour=row[place + 1] if place < last else None,
        right_neighbour=row[place - 1] if place > 0 else None,
    )  # fmt: skip


def _links(root: ET.Element, lanes: dict[str, Lane]) -> tuple[Link, ...]:
    """The connections between edges, each with the chain of junction lanes it leads over."""
    inner = {(e.get("from"), e.get("fromLane")): e for e in root.iter("connection") if str(e.get("from"))[0] == ":"}
    found = []
    for element in root.iter("connection"):
        start, end = f"{element.get('from')}_{element.get('fromLane')}", f"{element.get('to')}_{element.get('toLane')}"
        if str(element.get("from"))[0] == ":" or start not in lanes or end not in lanes:
            continue
        chain, at = [], element.get("via")
        while at is not None and at not in chain:
            chain.append(at)
            edge, _, index = at.rpartition("_")
            step = inner.get((edge, index))
            at = step.get("via") if step is not None else None
        via = [lane for lane in chain if lane in lanes]
        turn = wrap_angle(_start_yaw(lanes[end].centre_xy_m) - _end_pose(lanes[start].centre_xy_m)[2])
        found.append(Link(
            str(element.get("from")), str(element.get("to")), start, end, tuple(via), element.get("state", "M"),
            float(turn), element.get("tl"), int(element.get("linkIndex", -1)),
        ))  # fmt: skip
    return tuple(found)


def _joined(lanes: dict[str, Lane], links: Sequence[Link]) -> dict[str, Lane]:
    """Lanes with successors and predecessors along every link's chain."""
    after: dict[str, list[str]] = {}
    before: dict[str, list[str]] = {}
    for link in links:
        chain = (link.from_lane, *link.via, link.to_lane)
        for a, b in itertools.pairwise(chain):
            if b not in after.setdefault(a, []):
                after[a].append(b)
                before.setdefault(b, []).append(a)
    return {
        key: Lane(**{**lane.__dict__, "successors": tuple(after.get(key, ())),
                     "predecessors": tuple(before.get(key, ()))})
        for key, lane in lanes.items()
    }  # fmt: skip


def _crosswalks(root: ET.Element) -> dict[str, Array]:
    """Each crossing's rectangle from its middle line and width."""
    found = {}
    for edge in root.iter("edge"):
        if edge.get("function") == "crossing":
            for lane in edge.findall("lane"):
                line = _points(lane.get("shape", ""))[[0, -1]]
                half = float(lane.get("width", 4.0)) / 2
                found[str(edge.get("id"))] = np.concatenate([_aside(line, half), _aside(line, -half)[::-1]])
    return found


def _junction_areas(root: ET.Element) -> dict[str, Array]:
    """Each junction's ring without the corners where people walk."""
    corners: dict[str, list[shapely.Geometry]] = {}
    for edge in root.iter("edge"):
        if edge.get("function") == "walkingarea":
            ring = _points(edge.findall("lane")[0].get("shape", ""))
            if len(ring) > 2:
                node = str(edge.get("id"))[1:].rsplit("_w", 1)[0]
                corners.setdefault(node, []).append(shapely.make_valid(shapely.Polygon(ring)))
    found = {}
    for junction in root.iter("junction"):
        ring = _points(junction.get("shape", ""))
        if junction.get("type") in ("internal", "dead_end") or len(ring) < 3:
            continue
        area = shapely.make_valid(shapely.Polygon(ring))
        area = area.difference(shapely.union_all(corners.get(str(junction.get("id")), []))).buffer(0.1)
        part = max(shapely.get_parts(area), key=lambda p: p.area, default=None)
        if part is not None and part.area > 1.0:
            found[str(junction.get("id"))] = shapely.get_coordinates(part.exterior)[:-1]
    return found


def _stop_line(lane: Lane) -> Array:
    return np.stack([lane.left_xy_m[-1], lane.right_xy_m[-1]])


def _points(text: str) -> Array:
    """'x,y x,y' (a third number is height) to (M, 2)."""
    try:
        return np.array([[float(v) for v in pair.split(",")[:2]] for pair in text.split()], float).reshape(-1, 2)
    except ValueError:
        raise UserError(f"a shape holds {text[:40]!r}; pairs of x,y expected, so convert the network again.") from None


def _dense(line_xy_m: Array) -> Array:
    """The same line with a point at least every 2 m."""
    arc = arc_lengths(line_xy_m)
    count = max(math.ceil(arc[-1] / POINT_EVERY_M), 1) + 1
    at = np.unique(np.round(np.concatenate([arc, np.linspace(0.0, arc[-1], count)]), 2))
    return pose_on_polyline(at, line_xy_m)[0]


def _gone_over(first_xy_m: Array, last_xy_m: Array) -> Array:
    """From one lane's centre line to another's beside it, by a smooth step over the middle half; the line itself when
    both are the same.
    """
    if first_xy_m is last_xy_m:
        return first_xy_m
    share = np.linspace(0.0, 1.0, max(round(float(arc_lengths(first_xy_m)[-1])), 2))
    ends = [pose_on_polyline(share * arc_lengths(line)[-1], line)[0] for line in (first_xy_m, last_xy_m)]
    u = np.clip(2.0 * share - 0.5, 0.0, 1.0)[:, None]
    return ends[0] + u * u * (3.0 - 2.0 * u) * (ends[1] - ends[0])


def _aside(line_xy_m: Array, offset_m: float) -> Array:
    """The line shifted to its left, point by point along the mean normal of both neighbours.

    Inside a bend tighter than the offset the shifted line would run back; there it waits at its last point.
    """
    step = np.gradient(line_xy_m, axis=0)
    unit = step / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
    moved = line_xy_m + offset_m * np.column_stack([-unit[:, 1], unit[:, 0]])
    for k in range(1, len(moved)):
        if (moved[k] - moved[k - 1]) @ unit[k] < 0.0:
            moved[k] = moved[k - 1]
    return moved


def _end_pose(line_xy_m: Array) -> tuple[float, float, float]:
    dx, dy = (line_xy_m[-1] - line_xy_m[-2]).tolist()
    return float(line_xy_m[-1, 0]), float(line_xy_m[-1, 1]), math.atan2(dy, dx)


def _start_yaw(line_xy_m: Array) -> float:
    dx, dy = (line_xy_m[1] - line_xy_m[0]).tolist()
    return math.atan2(dy, dx)
