"""Waiting for one's turn: so many requests, or tokens, a minute."""

from __future__ import annotations

import asyncio
import time


class Pace:
    """Hands out turns at an even rate, in the order they were asked for.

    Args:
        per_minute: units a minute; None waits for nothing.
    """

    def __init__(self, per_minute: int | None) -> None:
        self.per_minute, self.free = per_minute, 0.0

    async def turn(self, cost: float = 1.0) -> None:
        """Waits until `cost` units may be spent."""
        if self.per_minute is None:
            return
        now = time.monotonic()
        start = max(now, self.free)
        self.free = start + cost * 60 / self.per_minute
        await asyncio.sleep(start - now)
