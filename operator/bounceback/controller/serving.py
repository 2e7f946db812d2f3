"""The port for machines: /metrics for Prometheus, /healthz and /readyz for the kubelet."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final, Literal

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Part = Literal["electing", "watching"]
STALE: Final[Mapping[Part, float]] = {"electing": 60.0, "watching": 180.0}
"""Seconds without a sign of life from a part that must not stop: then the kubelet is to start us again."""


class Pulse:
    """Signs of life from the parts that must not stop, each from when it was begun until it was done with."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[Part, float] = {}
        self.awaited: set[str] = set()
        """What this replica is not of full use without: it is not ready while something stands here."""

    def beat(self, part: Part) -> None:
        """It lives; from now on it must go on living."""
        self._last[part] = self._clock()

    def done(self, part: Part) -> None:
        """Nobody waits for it any more."""
        self._last.pop(part, None)

    def silent(self) -> tuple[Part, ...]:
        """Those without a sign of life for too long."""
        now = self._clock()
        return tuple(part for part, last in self._last.items() if now - last >= STALE[part])


@asynccontextmanager
async def served(port: int, pulse: Pulse) -> AsyncIterator[None]:
    """Answers while the block lasts; that it answers at all says that the event loop is not stuck."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        if silent := pulse.silent():
            return web.Response(status=503, text=f"no sign of life: {', '.join(silent)}\n")
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        if pulse.awaited:
            return web.Response(status=503, text=f"not yet: {', '.join(sorted(pulse.awaited))}\n")
        return await healthz(request)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()
