"""The four arms of the cross-shaped networks, named by the compass, seen from one of them.

Knows nothing of what happens there.
"""

from __future__ import annotations

_CLOCKWISE = "nesw"


def arm(origin: str, way: str) -> str:
    """The arm that lies 'left', 'straight' or 'right' of someone who comes in from `origin`."""
    steps = {"left": 1, "straight": 2, "right": 3, "back": 0}[way]
    return _CLOCKWISE[(_CLOCKWISE.index(origin) + steps) % 4]


def way_through(origin: str, way: str) -> tuple[str, str]:
    """The two edges of a drive over the crossing."""
    return f"{origin}_in", f"{arm(origin, way)}_out"
