"""Work in a thread with an event loop of its own, for a library that takes the loop it runs in for its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from typing import Any, Final, ParamSpec, TypeVar

PATIENCE: Final = 5.0
"""Seconds that the work has to end, each time that it is asked to."""
log = logging.getLogger(__name__)
Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


class Apart:
    """One piece of work, begun at once. Whatever it does to its own loop's tasks, those of ours do not notice."""

    def __init__(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._here = asyncio.get_running_loop()
        self._ended: asyncio.Future[BaseException | None] = self._here.create_future()
        self._there = asyncio.new_event_loop()
        self._task = self._there.create_task(work)
        threading.Thread(target=self._live, name=name, daemon=True).start()

    async def ended(self, seconds: float) -> bool:
        """Waits so long at most, and says whether it has ended."""
        return bool((await asyncio.wait({self._ended}, timeout=seconds))[0])

    def cause(self) -> BaseException | None:
        """What ended it; None where it just returned. To be asked once it was ended."""
        return self._ended.result() if self._ended.done() else TimeoutError("it would not end")

    async def end(self) -> None:
        """Cancels it and waits for that; what does not heed it loses its loop, and in the end it is left behind."""
        for way in (self._task.cancel, self._there.stop):
            with suppress(RuntimeError):  # its loop is closed
                self._there.call_soon_threadsafe(way)
            if await self.ended(PATIENCE):
                return

    def _live(self) -> None:
        cause: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=lambda: self._there) as runner:
                runner.run(self._whole())
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - handed over, not swallowed
            cause = error
        with suppress(RuntimeError):  # our loop is closed: the process is ending
            self._here.call_soon_threadsafe(self._ended.set_result, cause)

    async def _whole(self) -> None:
        await self._task


def tells(
    loop: asyncio.AbstractEventLoop, function: Callable[Asked, Coroutine[Any, Any, None]]
) -> Callable[Asked, None]:
    """The function as another loop may have it called: it runs in `loop`, in order, and nobody waits for it.

    It gets an empty context: tasks that it begins keep theirs for life, and with the caller's all that is in there.
    """

    def tell(*args: Asked.args, **kwargs: Asked.kwargs) -> None:
        told = Context().run(asyncio.run_coroutine_threadsafe, function(*args, **kwargs), loop)
        told.add_done_callback(_heard)

    return tell


def _heard(told: Future[None]) -> None:
    if not told.cancelled() and (error := told.exception()) is not None:
        log.error("a defect in what was told of a change", exc_info=error)


def calls_in(
    loop: asyncio.AbstractEventLoop, function: Callable[Asked, Coroutine[Any, Any, Answer]]
) -> Callable[Asked, Coroutine[Any, Any, Answer]]:
    """The function as another loop may call it: it runs in `loop`, and what comes of it is awaited here."""

    async def call(*args: Asked.args, **kwargs: Asked.kwargs) -> Answer:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(function(*args, **kwargs), loop))

    return call
