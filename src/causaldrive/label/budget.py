"""Tokens and money: estimated before a request, counted after it, never more than the budget allows.

    tokens(text) = characters / 3        tokens(picture) = ceil(w/28) ceil(h/28)        money = (p in + q out) / 1e6

A request is paid in advance with its estimated prompt and its longest reply; what it did not use comes back. Knows
nothing of endpoints or driving.
"""

from __future__ import annotations

import asyncio
import base64
import io
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from PIL import Image

from causaldrive.ground.errors import UserError

_CHARACTERS_PER_TOKEN = 3.0  # a cautious reading: English prose has about four
_PICTURE_PATCH_PX = 28


class StopAsking(UserError):
    """Asking on makes no sense: the budget is spent, the key refused, the endpoint away."""


class Priced(Protocol):
    """What is asked: messages and the longest reply."""

    @property
    def messages(self) -> tuple[dict[str, Any], ...]: ...
    @property
    def max_tokens(self) -> int: ...


class Purse(Protocol):
    """What requests are paid from."""

    async def reserve(self, request: Priced) -> Usage:
        """Set the request's most aside. Raises StopAsking when it would go beyond what may be spent."""
        ...

    def settle(self, reserved: Usage, used: Usage) -> None:
        """Give back what was set aside and count what was used."""
        ...


@dataclass(frozen=True)
class Usage:
    """Tokens in and out, and the seconds that replies took, summed over requests."""

    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0

    def plus(self, other: Usage, seconds: float = 0.0) -> Usage:
        return Usage(
            self.tokens_in + other.tokens_in,
            self.tokens_out + other.tokens_out,
            self.seconds + other.seconds + seconds,
        )

    def money(self, price_in: float, price_out: float) -> float:
        """Prices are per million tokens."""
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6


class Budget:
    """What may be spent in one run; 0 means no limit."""

    def __init__(self, tokens: int = 0, money: float = 0.0, price_in: float = 0.0, price_out: float = 0.0):
        self.tokens, self.money, self.price_in, self.price_out = tokens, money, price_in, price_out
        self._committed, self._open = Usage(), 0
        self._settled = asyncio.Event()

    async def reserve(self, request: Priced) -> Usage:
        """Set the request's most aside, as `set_aside` does."""
        most = most_of(request)
        await self.set_aside(most)
        return most

    async def set_aside(self, most: Usage) -> None:
        """Keep `most` from being spent by others, waiting while requests under way may still give some back.

        Raises StopAsking when it would go beyond the budget even so.
        """
        while over := self._overdrawn(self._committed.plus(most)):
            if not self._open:
                raise StopAsking(over)
            self._settled.clear()
            await self._settled.wait()
        self._committed, self._open = self._committed.plus(most), self._open + 1

    def _overdrawn(self, after: Usage) -> str:
        for limit, used, what in (
            (self.tokens, after.tokens_in + after.tokens_out, "tokens"),
            (self.money, after.money(self.price_in, self.price_out), "money"),
        ):
            if limit and used > limit:
                return (
                    f"the budget of {limit:g} ({what}) does not last for the next request, {used:g} needed; every "
                    f"reply so far is kept, so raise budget-{what} and run the same command again."
                )
        return ""

    def settle(self, reserved: Usage, used: Usage) -> None:
        """Give back what was set aside and count what was used."""
        self._committed = Usage(
            self._committed.tokens_in - reserved.tokens_in + used.tokens_in,
            self._committed.tokens_out - reserved.tokens_out + used.tokens_out,
        )
        self._open -= 1
        self._settled.set()

    @staticmethod
    def usage_of(body: dict[str, Any], request: Priced) -> Usage:
        """Tokens as the server counts them, estimated where it does not say."""
        said = body.get("usage") or {}
        tokens_in, tokens_out = said.get("prompt_tokens"), said.get("completion_tokens")
        if not isinstance(tokens_in, int) or not isinstance(tokens_out, int):
            text = body["choices"][0]["message"].get("content")
            return Usage(estimate_prompt(request), estimate_text(text if isinstance(text, str) else ""))
        return Usage(tokens_in, tokens_out)


def most_of(request: Priced) -> Usage:
    """The most that a request can use: its prompt as estimated and its longest reply."""
    return Usage(estimate_prompt(request), request.max_tokens)


def estimate_text(text: str) -> int:
    """Tokens of a text, rather too many than too few."""
    return math.ceil(len(text) / _CHARACTERS_PER_TOKEN)


def estimate_prompt(request: Priced) -> int:
    """Tokens of all messages, pictures included."""
    return sum(4 + _content_tokens(message["content"]) for message in request.messages)


def _content_tokens(content: str | list[dict[str, Any]]) -> int:
    if isinstance(content, str):
        return estimate_text(content)
    return sum(
        _picture_tokens(part["image_url"]["url"]) if part["type"] == "image_url" else estimate_text(part["text"])
        for part in content
    )


@lru_cache(maxsize=256)
def _picture_tokens(url: str) -> int:
    width, height = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size
    return math.ceil(width / _PICTURE_PATCH_PX) * math.ceil(height / _PICTURE_PATCH_PX)
