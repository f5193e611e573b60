"""A drive through a small town among 50 cars and people; the first light is red; harmless: it is green and stays so."""

from __future__ import annotations

import numpy as np

from causaldrive.ground.errors import UserError
from causaldrive.worlds.families.sumo_draft import SumoDraft, draw_sumo_draft, network_named
from causaldrive.worlds.sumo_net import Network
from causaldrive.worlds.sumo_plan import SignalStart

DESCRIPTION = "a drive through a town, 50 cars and people, the first light is red; harmless: it is green"
FOCUS_KIND = "red_light"
AGENTS, WALKERS = 50, 16
_ROUTE_EDGES, _CAR_EDGES = 5, 14
_SPACING_M, _CLEAR_OF_EGO_M, _LEAST_FIRST_M = 11.0, 14.0, 25.0
_STARTS = (("b0b1", 0), ("a1b1", 3), ("c1b1", 3), ("b2b1", 0), ("b1b2", 3), ("b1a1", 3))  # edge and its green phase
_RED_S, _GREEN_S = (9.0, 14.0), 30.0


def draw(rng: np.random.Generator, harmless: bool) -> SumoDraft:
    network = network_named("town")
    target = float(rng.uniform(8.0, 10.5))
    first, green = _STARTS[int(rng.integers(len(_STARTS)))]
    edges = ego_way(rng, network, first)
    draft = draw_sumo_draft(rng, "town", edges, target, float(rng.uniform(5.0, 7.0)))
    draft.focus_id = f"light_{network.lane_ids[first][0]}"
    draft.duration_s = 40.0
    _start_signals(draft, first, green, harmless)
    add_people(draft, WALKERS)
    add_traffic(draft, AGENTS - len(draft.walkers))
    return draft


def draw_on(network: Network, rng: np.random.Generator, agents: int = AGENTS) -> SumoDraft:
    """A drive on any network: a way from a random edge, cars and people where there is room for them.

    Raises UserError for a network without an edge of 25 m.
    """
    firsts = [edge for edge in sorted(network.lane_ids) if network.length_m(edge) >= _LEAST_FIRST_M]
    if not firsts:
        raise UserError(
            f"{network.path} has no edge of {_LEAST_FIRST_M:.0f} m or more for a car to start on; choose a larger part."
        )
    ways = [ego_way(rng, network, str(first)) for first in rng.permutation(firsts)[:12]]
    edges = max(ways, key=lambda way: sum(network.length_m(edge) for edge in way))
    limit = min(network.road.lanes[network.lane_ids[edge][0]].speed_limit_mps for edge in edges)
    target = min(float(rng.uniform(8.0, 10.5)), limit)
    draft = SumoDraft(rng, network, edges, target, 0.8 * target, 6.0, duration_s=40.0)
    if network.sidewalks:
        add_people(draft, min(WALKERS, agents // 3))
    add_traffic(draft, agents - len(draft.walkers))
    return draft


def _start_signals(draft: SumoDraft, first: str, green: int, harmless: bool) -> None:
    """The ego's first light is red for a while, or green for long; the other signals start anywhere."""
    rng = draft.rng
    signals = sorted({link.signal for link in draft.network.links if link.signal})
    for signal in signals:
        phase, lasts = int(rng.choice([0, 3])), float(rng.uniform(3.0, 30.0))
        if signal == draft.network.ends[first][1]:
            phase, lasts = (green, _GREEN_S) if harmless else ((green + 3) % 6, float(rng.uniform(*_RED_S)))
        draft.signals.append(SignalStart(signal, phase, lasts))


def add_people(draft: SumoDraft, count: int) -> None:
    """People who walk from one edge to a next one, over crossings where there are any."""
    network, rng = draft.network, draft.rng
    walkable = sorted(network.sidewalks)
    for index in range(count):
        first = str(rng.choice(walkable))
        steps = [link.to_edge for link in network.links_from.get(first, []) if link.to_edge in network.sidewalks]
        edges = (first, str(rng.choice(steps))) if steps else (first,)
        start = float(rng.uniform(0.3, 0.95)) * network.sidewalks[first]
        end = float(rng.uniform(0.2, 0.9)) * network.sidewalks[edges[-1]]
        draft.add_walker(f"walker_{index}", edges, start, end, float(rng.uniform(0.9, 1.6)))


def add_traffic(draft: SumoDraft, count: int) -> None:
    """Cars on lanes all over the network, apart from each other and from the ego, each on a random walk."""
    network, rng = draft.network, draft.rng
    places = [
        (edge, lane, float(front))
        for edge, lanes in sorted(network.lane_ids.items())
        for lane in range(len(lanes))
        for front in np.arange(8.0, network.length_m(edge) - 4.0, _SPACING_M)
    ]
    first, rear = draft.edges[0], draft.start_m - _CLEAR_OF_EGO_M
    places = [p for p in places if p[0] != first or p[2] < rear]  # nobody between the ego and its first light
    for index, row in enumerate(rng.permutation(len(places))[:count].tolist()):
        edge, lane, front = places[row]
        offset = int(network.lane_ids[edge][lane].rpartition("_")[2])
        speed = float(rng.uniform(7.0, 11.0))
        edges = walk(rng, network, edge, _CAR_EDGES)
        draft.add_car(f"car_{index}", edges, front, 0.5 * speed, wish_mps=speed, lane=offset)


def ego_way(rng: np.random.Generator, network: Network, first: str) -> tuple[str, ...]:
    """A walk of up to five edges that never comes back to a junction, so that each place lies on it once."""
    best: tuple[str, ...] = (first,)
    for _ in range(60):
        way = _without_return(network, walk(rng, network, first, _ROUTE_EDGES))
        best = way if len(way) > len(best) else best
        if len(best) == _ROUTE_EDGES:
            break
    return best


def _without_return(network: Network, way: tuple[str, ...]) -> tuple[str, ...]:
    """The way up to where it would come to a junction a second time."""
    been = {network.ends[way[0]][0]}
    for index, edge in enumerate(way):
        if network.ends[edge][1] in been:
            return way[:index] or way[:1]
        been.add(network.ends[edge][1])
    return way


def walk(rng: np.random.Generator, network: Network, first: str, count: int) -> tuple[str, ...]:
    """`count` connected edges from `first` on, straight on twice as often as a turn, never back the same road."""
    edges = [first]
    while len(edges) < count:
        links = network.links_from.get(edges[-1], [])
        if not links:
            break
        weight = np.array([2.0 if abs(link.turn_rad) < 0.5 else 1.0 for link in links])
        edges.append(links[int(rng.choice(len(links), p=weight / weight.sum()))].to_edge)
    return tuple(edges)
