"""How late this process gets its turn: who is late itself cannot tell a pause from a client that is starved.

It runs only as long as somebody waits for a client to come again: an idle proxy never wakes up for it.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, Protocol

EVERY: Final = 0.05
"""Seconds."""
LEAST: Final = 0.01
"""What any machine makes of a timer."""


class Waiting(Protocol):
    """Who waits for clients."""

    def waits(self, now: float) -> bool:
        """Whether it still does."""

    def late(self, seconds: float) -> None:
        """By so much this process has just been late."""


class Lateness:
    """Tells of it, from `watch` on and while there is somebody who waits."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Must be called in the event loop."""
        if self._timer is None:
            self._next()

    def _next(self) -> None:
        due = monotonic() + EVERY
        self._timer = asyncio.get_running_loop().call_later(EVERY, self._look, due)

    def _look(self, due: float) -> None:
        now = monotonic()
        if (seconds := now - due) > LEAST:
            self._waiting.late(seconds)
        if self._waiting.waits(now):
            self._next()
        else:
            self._timer = None
