"""Samples on a fixed grid: one due every period, whatever the answers of those before it take."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final

from bounceback.engine.samples import History, Sample
from bounceback.recovery.errors import CannotLookError, UnansweredError
from bounceback.types.instants import Instant

Look = Callable[[], Awaitable[str | None]]
"""One look: None when the system is healthy, else what happened. Raises CannotLookError, which is no sample."""

MOST_HELD_UP: Final = 0.25
"""Share of its timeout that a look may be held up by ourselves, for its silence to count against the system.

A look that was held up for longer is waited for as much longer, up to twice its timeout. Silent to that end, the system
was so for as long as it was asked; what it says in that time may have come in time or not, and counts for nothing.
"""


class Pulse:
    """How long this event loop was held up, by its own work or by others on the machine.

    A loop that is starved finds answers late, and would take its own slowness for the system's.
    """

    BEAT: Final = 0.05

    def __init__(self) -> None:
        self._held_up = 0.0
        self._due: float | None = None

    def held_up(self) -> float:
        """Seconds so far, as long as `run` is not cancelled."""
        return self._held_up + (max(0.0, asyncio.get_running_loop().time() - self._due) if self._due else 0.0)

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._due = clock() + self.BEAT
            await asyncio.sleep(self.BEAT)
            self._held_up = self.held_up()


class Sampler:
    """Takes samples of one probe for as long as `run` is not cancelled.

    Points of the grid that were missed, because the loop stalled, are not made up for. `late` is told by how
    many seconds each sample began after it was due.
    """

    def __init__(
        self,
        history: History,
        look: Look,
        changed: Callable[[], None],
        group: asyncio.TaskGroup,
        pulse: Pulse,
        late: Callable[[float], None] | None = None,
    ) -> None:
        self.history = history
        self._look = look
        self._changed = changed
        self._group = group
        self._pulse = pulse
        self._late = late
        self.problem: str | None = None  # why nobody can look, as the newest look that ended told it
        self._under_way = 0
        self._most_under_way = math.ceil(2 * history.timeout / history.period) + 2

    async def run(self, phase: float) -> None:
        """The grid begins `phase` seconds from now, so that many probes are not all due at once."""
        clock = asyncio.get_running_loop().time
        first = clock() + phase
        point = 0
        while True:
            due = first + point * self.history.period
            await asyncio.sleep(due - clock())
            late = clock() - due
            if self._under_way < self._most_under_way:
                self._group.create_task(self._sample())
                if self._late is not None:
                    self._late(late)
            point += max(1, int(late / self.history.period))

    async def _sample(self) -> None:
        history, start = self.history, Instant.now()
        history.begin(start)
        self._under_way += 1
        told = False
        try:
            message = await self._asked()
            told = True
        except CannotLookError as error:
            history.lose(start, Instant.now())
            told = True
            if not isinstance(error, UnansweredError):
                self._tell(str(error))
            return
        finally:
            self._under_way -= 1
            if not told:
                history.abandon(start)
        self._tell(None)
        if history.add(Sample(start, Instant.now(), message is None, message or "")):
            self._changed()

    async def _asked(self) -> str | None:
        """What one look found in its time. Raises CannotLookError (UnansweredError: we were held up for too long)."""
        loop, timeout, before = asyncio.get_running_loop(), self.history.timeout, self._pulse.held_up()
        most, more = timeout * MOST_HELD_UP, 0.0  # seconds

        def over() -> None:
            nonlocal more
            held_up = self._pulse.held_up() - before
            more = held_up if most < held_up <= timeout else 0.0
            limit.reschedule(loop.time() + more)

        try:
            async with asyncio.timeout(None) as limit:
                end = loop.call_later(timeout, over)
                try:
                    message = await self._look()
                finally:
                    end.cancel()
        except TimeoutError as error:
            waited = more if limit.expired() else 0.0
            if self._pulse.held_up() - before - waited > most:
                raise UnansweredError("we were too busy to hear an answer") from error
            return f"timed out after {timeout * 1000:.0f} ms"
        if more:
            raise UnansweredError("nobody can say whether the answer came in time")
        return message

    def _tell(self, problem: str | None) -> None:
        if self.problem != problem:
            self.problem = problem
            self._changed()
