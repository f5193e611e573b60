"""A drive through central Helsinki as OpenStreetMap has it, among 40 cars and people; the first light is red; harmless:
all lights on the way are green and stay so.
"""

from __future__ import annotations

import numpy as np

from causaldrive.worlds.families.sumo_draft import SumoDraft, draw_sumo_draft, network_named
from causaldrive.worlds.families.town_drive import add_people, add_traffic, ego_way
from causaldrive.worlds.sumo_net import Link, Network
from causaldrive.worlds.sumo_plan import SignalStart

DESCRIPTION = "a drive through central Helsinki (OpenStreetMap), the first light is red; harmless: all are green"
FOCUS_KIND = "red_light"
_AGENTS, _WALKERS = 40, 12
_LEAST_FIRST_M, _LEAST_WAY_M = 45.0, 150.0
_RED_S, _GREEN_S, _OTHERS_S = (6.0, 10.0), 40.0, (3.0, 30.0)


def draw(rng: np.random.Generator, harmless: bool) -> SumoDraft:
    network = network_named("helsinki")
    edges, link = _signalled_way(rng, network)
    limit = min(network.road.lanes[network.lane_ids[edge][0]].speed_limit_mps for edge in edges)
    target = min(float(rng.uniform(8.0, 10.5)), limit)
    draft = draw_sumo_draft(rng, "helsinki", edges, target, float(rng.uniform(5.0, 7.0)))
    draft.focus_id, draft.duration_s = f"light_{link.from_lane}", 40.0
    _start_signals(draft, network.links_through(edges) if harmless else [link], harmless)
    add_people(draft, _WALKERS)
    add_traffic(draft, _AGENTS - len(draft.walkers))
    return draft


def _signalled_way(rng: np.random.Generator, network: Network) -> tuple[tuple[str, ...], Link]:
    """A way whose first edge is long and ends at a light that has both colours for it, and the link over that light."""
    while True:
        first = str(rng.choice([e for e in sorted(network.lane_ids) if network.length_m(e) >= _LEAST_FIRST_M]))
        edges = ego_way(rng, network, first)
        if len(edges) < 2 or sum(network.length_m(edge) for edge in edges) < _LEAST_WAY_M:
            continue
        link, *later = network.links_through(edges)
        signalled = [k for k in (link, *later) if k.signal]
        if (
            not link.signal
            or not phases_with(network, link, "r")
            or len({k.signal for k in signalled}) < len(signalled)
        ):
            continue  # one signal over two places of the way may never be green for both
        if all(phases_with(network, k, "Gg") for k in signalled):
            return edges, link


def phases_with(network: Network, link: Link, letters: str) -> list[int]:
    """Phases of the link's signal that show it one of `letters`, also at the head over its lane, and nobody yellow."""
    phases = network.programs.get(link.signal or "", ())
    shown = {int(head.group.rpartition("/")[2]) for head in network.heads() if head.lane_id == link.from_lane}
    indices = {link.signal_index, *shown}
    return [k for k, word in enumerate(phases)
            if "y" not in word.lower() and all(word[index] in letters for index in indices)]  # fmt: skip


def _start_signals(draft: SumoDraft, links: list[Link], green: bool) -> None:
    """The signals of `links` are green for long, or red for a while; the others start anywhere."""
    rng, network = draft.rng, draft.network
    shown = {link.signal: phases_with(network, link, "Gg" if green else "r") for link in links}
    for signal in sorted(network.programs):
        phase, lasts = int(rng.integers(len(network.programs[signal]))), float(rng.uniform(*_OTHERS_S))
        if shown.get(signal):
            phase, lasts = shown[signal][0 if green else -1], _GREEN_S if green else float(rng.uniform(*_RED_S))
        draft.signals.append(SignalStart(signal, phase, lasts))
