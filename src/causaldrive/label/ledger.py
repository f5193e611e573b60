"""The ledger: one budget for requests that many processes send, so that together they spend no more than one would.

Every request is set aside here before it goes out and settled when it is answered, under the name of the attempt that
sends it. What an attempt that died had under way counts as spent, since its server may have answered. `LedgerPurse` is
an attempt's end of it. Knows nothing of Ray but the way in which an actor is called.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from causaldrive.label.asking import Asked
from causaldrive.label.budget import Budget, Priced, StopAsking, Usage, most_of
from causaldrive.label.endpoint import EndpointConfig


class Ledger:
    """What each attempt spends, by role."""

    def __init__(self, roles: Mapping[str, EndpointConfig]):
        self._budgets: dict[str, Budget] = {role: config.budget() for role, config in roles.items()}
        self._open: dict[str, list[tuple[str, Usage]]] = defaultdict(list)
        self._settled: dict[str, Asked] = defaultdict(Asked)
        self._dead: set[str] = set()

    async def set_aside(self, attempt: str, role: str, most: Usage) -> str:
        """Wait until the request may be sent; a sentence says why it never may."""
        try:
            await self._budgets[role].set_aside(most)
        except StopAsking as stop:
            return str(stop)
        if attempt in self._dead:  # it died while it waited
            self._budgets[role].settle(most, Usage())
            return "the attempt that asks is over"
        self._open[attempt].append((role, most))
        return ""

    def settle(self, attempt: str, role: str, reserved: Usage, used: Usage) -> None:
        """Count what a request used. An attempt that is known to be dead has been settled already."""
        if attempt in self._dead:
            return
        self._open[attempt].remove((role, reserved))
        self._budgets[role].settle(reserved, used)
        self._count(attempt, role, used)

    def _count(self, attempt: str, role: str, used: Usage) -> None:
        counts = getattr(self._settled[attempt], role)
        counts.requests += used != Usage()  # a try that failed uses nothing and is no request
        counts.usage = counts.usage.plus(used)

    def bury(self, attempt: str) -> Asked:
        """What a dead attempt took, requests under way at their most; its room for waiting ones is free again."""
        self._dead.add(attempt)
        for role, reserved in self._open.pop(attempt, []):
            self._budgets[role].settle(reserved, reserved)
            self._count(attempt, role, reserved)
        return self._settled.pop(attempt, Asked())


class LedgerPurse:
    """The purse of one attempt and role; `ledger` is the handle of an actor that holds a `Ledger`."""

    def __init__(self, ledger: Any, attempt: str, role: str):
        self._ledger, self._attempt, self._role = ledger, attempt, role

    async def reserve(self, request: Priced) -> Usage:
        """Raises StopAsking when the budget of all attempts together does not last."""
        most = most_of(request)
        stop = await self._ledger.set_aside.remote(self._attempt, self._role, most)
        if stop:
            raise StopAsking(stop)
        return most

    def settle(self, reserved: Usage, used: Usage) -> None:
        self._ledger.settle.remote(self._attempt, self._role, reserved, used)
