"""Lines of evidence on standard output."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping
from typing import Any, Final

from bounceback.types.instants import Instant
from bounceback.types.told import Line, Told

STDOUT: Final = 1
LONGEST_QUEUE: Final = 256 * 1024  # bytes that wait for a reader; what comes then is lost
FLUSH_SECONDS: Final = 2.0

_waiting = bytearray()


def tell(
    told: Told,
    injection: str = "",
    detail: Mapping[str, Any] | None = None,
    *,
    hits: int = 0,
    at: Instant | None = None,
) -> None:
    """One line, at once where it is read; `at`: when what it tells was, if not now.

    Never waits: a full pipe (a runtime whose disk is full) or a reader that went away must not keep a fault in force.
    """
    line = Line(told, at or Instant.now(), injection, hits, dict(detail or {})).to_json() + "\n"
    if len(_waiting) < LONGEST_QUEUE:
        _waiting.extend(line.encode())
    _write()


def flush() -> None:
    """Before the end: what still waits for its reader gets a last while. Nothing is in force any more then."""
    poll = select.poll()
    poll.register(STDOUT, select.POLLOUT)
    while _waiting and poll.poll(FLUSH_SECONDS * 1000):
        _write()


def _write() -> None:
    os.set_blocking(STDOUT, False)
    try:
        while _waiting:
            del _waiting[: os.write(STDOUT, _waiting)]
    except BlockingIOError:
        return
    except BrokenPipeError:
        _waiting.clear()


def boottime() -> float:
    """Seconds of the clock that deadlines are kept by."""
    return Instant.now().nanos / 1e9
