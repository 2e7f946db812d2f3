"""Duties of one run, each in a task of its own while it is wanted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import aiohttp

from bounceback.engine.state import Duty
from bounceback.kube import KubeError
from bounceback.vehicles.errors import Refused

PASSING: Final = (KubeError, aiohttp.ClientError, TimeoutError, Refused)
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 10.0
REPEAT_AFTER: Final = 1.0
"""Seconds between the end of a duty and doing it once more because it is still wanted."""
LASTING: Final = frozenset({Duty.LOOK, Duty.FOLLOW, Duty.CARRY, Duty.MAKE_REPAIR, Duty.REPAIR, Duty.WORK})
"""Duties that end when they are not wanted any more, and are begun once; the others are done, and again if wanted."""

log = logging.getLogger(__name__)


class Attending:
    """Begins what is wanted and not under way, ends what is not wanted any more.

    A duty that fails for a passing reason is tried again with growing pauses for as long as it is wanted. Anything else
    that it raises is a defect of ours and comes out of `trouble`.
    """

    def __init__(
        self, name: str, how: Mapping[Duty, Callable[[], Awaitable[None]]], changed: Callable[[], None]
    ) -> None:
        self._name = name
        self._how = how
        self._changed = changed
        self._tasks: dict[Duty, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()  # not wanted any more, and not over yet
        self._ended: dict[Duty, float] = {}

    def want(self, duties: frozenset[Duty]) -> None:
        """Nothing changes while there is trouble: a duty begun anew would take the place of what it raised."""
        if self.trouble():
            return
        for duty in set(self._tasks) - duties:
            if duty in LASTING or self._tasks[duty].done():
                self._leave(self._tasks.pop(duty))
        for duty in duties:
            task = self._tasks.get(duty)
            if task is None or (task.done() and duty not in LASTING):
                self._tasks[duty] = asyncio.create_task(self._see_to(duty), name=f"{self._name} {duty}")

    def trouble(self) -> BaseException | None:
        """What a duty raised that it must not."""
        done = (task for task in self._tasks.values() if task.done() and not task.cancelled())
        return next((alone(error) for task in done if (error := task.exception()) is not None), None)

    async def end(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), *self._leaving, return_exceptions=True)
        self._tasks.clear()

    def _leave(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        self._leaving.add(task)
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        """What it raised as it went tells nothing about a run that does not want it any more."""
        self._leaving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.info("%s: %s", task.get_name(), alone(error))

    async def _see_to(self, duty: Duty) -> None:
        pause = FIRST_PAUSE
        rest = self._ended.get(duty, float("-inf")) + REPEAT_AFTER - time.monotonic()
        if rest > 0:
            await asyncio.sleep(rest)
        try:
            while True:
                try:
                    await self._how[duty]()
                    return
                except* PASSING as group:
                    log.warning("%s: %s: %s", self._name, duty, "; ".join(map(str, group.exceptions)))
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self._ended[duty] = time.monotonic()
            self._changed()


def alone(error: BaseException) -> BaseException:
    """The only error of a group, so that it is met as what it is; any other as it came."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
