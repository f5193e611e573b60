"""What the expert says about one moment: factors with what each alone would impose, and the decision they bind.

Types only. Knows nothing of how they are found.
"""

from __future__ import annotations

from dataclasses import dataclass

from causaldrive.ground.words import CAUSE_KINDS


@dataclass(frozen=True)
class Factor:
    """Something seen that bears on the drive. `required_acceleration_mps2` is the bound it alone would set."""

    kind: str  # of CAUSE_KINDS
    agent_id: str | None  # agent or light id; None for the road
    evidence_t_us: int  # when it was first seen in the history
    required_acceleration_mps2: float
    lateral_offset_m: float  # the offset from the route it alone would ask for
    text: str

    @property
    def category(self) -> str:
        return CAUSE_KINDS[self.kind]


@dataclass(frozen=True)
class Nudge:
    """A way round: `offset_m` from the route, in full between two arcs of the rear axle, eased over `ramp_m`."""

    offset_m: float
    from_m: float
    to_m: float
    ramp_m: float

    def at(self, arc_m: float) -> float:
        """Offset at an arc of the rear axle: smooth step 3u^2 - 2u^3 on both sides."""
        u = min((arc_m - self.from_m) / self.ramp_m + 1.0, (self.to_m - arc_m) / self.ramp_m + 1.0, 1.0)
        u = max(u, 0.0)
        return self.offset_m * u * u * (3 - 2 * u)


@dataclass(frozen=True)
class Slide(Nudge):
    """A way sideways from where the car is now (`start_m` on the route): a straight line of `slope` to `offset_m`."""

    start_m: float = 0.0
    start_offset_m: float = 0.0
    slope: float = 0.0

    def at(self, arc_m: float) -> float:
        moved = self.start_offset_m + self.slope * (arc_m - self.start_m)
        low, high = sorted((self.start_offset_m, self.offset_m))
        return min(max(moved, low), high)


@dataclass(frozen=True)
class Finding:
    """A factor with the decision it stands for. `nudge` is its way round; `acts` says that the driver turns out now.

    `lateral` names the lateral decision where it is not a nudge; `informs` marks a reason to keep the speed, named when
    nothing binds; `holds` marks what keeps the driver from a move: where it is no cause, it is not harmless either.
    """

    factor: Factor
    longitudinal: str | None
    nudge: Nudge | None = None
    acts: bool = False
    lateral: str | None = None
    direction: str | None = None
    informs: bool = False
    holds: bool = False


@dataclass(frozen=True)
class Explanation:
    """The decision at one moment. `causes` bind it (empty when driving freely); `others` are seen but harmless."""

    longitudinal: str
    lateral: str
    direction: str | None
    causes: tuple[Factor, ...]
    others: tuple[Factor, ...]
    acceleration_mps2: float
    lateral_offset_m: float
