"""A session for Kopf whose requests wait for their turn when they are made again and again.

Kopf begins a watch again at once when the server closes it, and logs in again at once when it answers 401: thousands
of times a second if need be. Requests through this session wait instead, and carry the operator's current credentials.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Final

import aiohttp

from bounceback.controller import metrics
from bounceback.kube import Kube

GOOD_LIFE: Final = 5.0
"""Seconds: what was begun again sooner than this after the last time had a bad end."""
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 8.0
Credentials = Callable[[], Awaitable[Mapping[str, str]]]


class Pace:
    """When each request may begin: decided by when one like it last did."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._pauses: dict[str, float] = {}

    def pause(self, what: str, now: float) -> float:
        """Seconds to wait before `what` is begun at `now`; called once for each time."""
        bad = now - self._began.get(what, float("-inf")) < GOOD_LIFE + self._pauses.get(what, 0.0)
        pause = min(max(FIRST_PAUSE, 2 * self._pauses.get(what, 0.0)), LONGEST_PAUSE) if bad else 0.0
        self._pauses[what] = pause
        self._began[what] = now
        return pause


def paced_session(
    kube: Kube, pace: Pace, credentials: Credentials, watching: Callable[[], None]
) -> aiohttp.ClientSession:
    """`watching` is told each time that a watch was granted."""

    async def begin(
        _session: aiohttp.ClientSession, _context: SimpleNamespace, request: aiohttp.TraceRequestStartParams
    ) -> None:
        verb = _verb(request.method, request.url.query)
        again = "continue" not in request.url.query  # the next page of a list is not a list begun again
        if again and (wait := pace.pause(f"{verb} {request.url.path}", time.monotonic())):
            if verb == "WATCH":
                metrics.WATCH_RESTARTS.labels("stream").inc()
            await asyncio.sleep(wait)
        request.headers.update(await credentials())

    async def answered(
        _session: aiohttp.ClientSession, _context: SimpleNamespace, request: aiohttp.TraceRequestEndParams
    ) -> None:
        verb = _verb(request.method, request.url.query)
        metrics.count_request(verb, request.url.path, request.response.status)
        if verb == "WATCH" and request.response.status == 200:
            watching()

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(begin)
    trace.on_request_end.append(answered)
    return kube.new_session([trace])


def _verb(method: str, query: Mapping[str, str]) -> str:
    return "WATCH" if "watch" in query else method
