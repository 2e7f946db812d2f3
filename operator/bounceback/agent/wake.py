"""Waiting for the first of: something to read, a signal to end, a time."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable
from types import FrameType
from typing import Final

# poll(2) does not count time in suspend, deadlines do: nothing is slept over for longer than this.
LONGEST: Final = 1.0


class Wake:
    """Made first of all: as PID 1 of a container a process gets no SIGTERM that it has no handler for."""

    def __init__(self) -> None:
        self.terminated = False
        self._awake, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakes)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)

    def wait(self, readable: Iterable[int], seconds: float) -> set[int]:
        """Those of `readable` that have something; empty after `seconds`, or a signal."""
        poll = select.poll()
        for fd in (self._awake, *readable):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(max(0.0, min(seconds, LONGEST)) * 1000)}
        if self._awake in ready:
            os.read(self._awake, 64)
        return ready - {self._awake}

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.terminated = True
