"""What SUMO is told to play in one scene: declarations only, drawn once from a seed.

A car or a person has a route of edges and a start; SUMO decides the rest (following, lanes, right of way, crossing).
Knows nothing of libsumo.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from causaldrive.worlds.actors import CAR_SIZE_M, PEDESTRIAN_SIZE_M

NETWORKS = Path(__file__).parent / "networks"


@dataclass(frozen=True)
class SumoCar:
    """One vehicle. `front_m` is where its front bumper starts on its first edge, by SUMO's arc length."""

    agent_id: str
    edges: tuple[str, ...]
    front_m: float
    speed_mps: float
    wish_mps: float  # its own top speed; lanes may hold it lower
    depart_s: float = 0.0
    lane: int | None = None  # SUMO's index on the first edge; None lets SUMO choose
    category: str = "car"  # of AGENT_CATEGORIES: car, truck, bus, motorcycle, cyclist
    size_m: tuple[float, float, float] = CAR_SIZE_M
    acceleration_mps2: float = 2.0
    braking_mps2: float = 3.5
    headway_s: float = 1.2
    impatience: float = 0.0  # 1 takes gaps that make others brake
    stop_at_m: float | None = None  # stands there on its first edge, for good


@dataclass(frozen=True)
class SumoWalker:
    """One person, walking along edges with sidewalks and over crossings."""

    agent_id: str
    edges: tuple[str, ...]
    start_m: float
    end_m: float
    speed_mps: float
    depart_s: float = 0.0
    size_m: tuple[float, float, float] = PEDESTRIAN_SIZE_M


@dataclass(frozen=True)
class SignalStart:
    """Which phase a signal program is in at the start, and how long that still lasts."""

    signal: str
    phase: int
    remaining_s: float


@dataclass(frozen=True)
class SumoPlan:
    """All that `SumoTraffic` plays. `ego_edges` is the way the others believe the ego goes."""

    network: Path
    ego_edges: tuple[str, ...]
    cars: tuple[SumoCar, ...] = ()
    walkers: tuple[SumoWalker, ...] = ()
    signals: tuple[SignalStart, ...] = ()
    seed: int = 0
