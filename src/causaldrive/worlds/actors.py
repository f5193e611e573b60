"""What a scene's road users and signals are told to do: declarations only, drawn once from a seed.

An actor follows its own line (a lane's line, a walking line) and reacts to whoever is ahead on it; events change its
wish (speed, lateral place, indicator) when their trigger fires. `traffic.py` plays these. Knows nothing of roads.
"""

from __future__ import annotations

from dataclasses import dataclass

from causaldrive.worlds.paths import Path

CAR_SIZE_M = (4.5, 1.85, 1.5)
PEDESTRIAN_SIZE_M = (0.5, 0.6, 1.75)


@dataclass(frozen=True)
class Trigger:
    """When something starts. `kind`: 'clock' (scene time), 'elapsed' (since the event before), 'arrival' (the ego's
    time to reach `arc_m` of the main line falls to the value), 'gap' (the ego's nose comes so near its rear)."""

    kind: str
    value: float  # seconds; metres for 'gap'
    arc_m: float = 0.0


@dataclass(frozen=True)
class Event:
    """A change of wish. None leaves a wish as it is."""

    when: Trigger
    speed_mps: float | None = None
    deceleration_mps2: float = 2.0  # how hard the actor brakes towards a lower wish
    offset_m: float | None = None  # lateral place on its line, reached smoothly within `shift_s`
    shift_s: float = 2.8
    indicator: int | None = None


@dataclass(frozen=True)
class Actor:
    """One road user. `arc_m` and `offset_m` are measured on its own `line`."""

    agent_id: str
    category: str
    size_m: tuple[float, float, float]
    line: str  # key into `Script.lines`
    arc_m: float
    offset_m: float
    speed_mps: float  # speed at the start, and the first wish
    wish_mps: float | None = None
    turned_rad: float = 0.0  # added to the line's heading, for one who stands turned away
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class SignalStage:
    """A stage of the junction's program, lasting until `until` fires; the last stage lasts."""

    main: str  # state of the heads over the main road
    cross: str
    until: Trigger | None = None


@dataclass(frozen=True)
class SignalHead:
    """One head over the lane whose end it governs. Where traffic stops for its group says `Script.stop_arcs_m`."""

    light_id: str
    lane_id: str
    group: str  # 'main' or 'cross'
    stop_xy_m: tuple[float, float]
    head_xyz_m: tuple[float, float, float]
    yaw_rad: float


@dataclass(frozen=True)
class Script:
    """All that `ScriptedTraffic` plays. Lines: 'forward' is the main one on which triggers measure the ego."""

    lines: dict[str, Path]
    actors: tuple[Actor, ...]
    heads: tuple[SignalHead, ...] = ()
    program: tuple[SignalStage, ...] = ()
    stop_arcs_m: tuple[tuple[str, str, float], ...] = ()  # (line, signal group, arc of the stop line)
