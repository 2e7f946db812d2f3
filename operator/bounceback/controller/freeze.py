"""The freeze: a ConfigMap in the operator's namespace whose presence stops everything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from bounceback.kube import Kube, KubeError
from bounceback.kube.resources import CONFIG_MAPS
from bounceback.kube.watching import Backoff, mirror

FREEZE = "bounceback-freeze"
log = logging.getLogger(__name__)


class Freeze:
    """`reason` is None while nothing is frozen."""

    def __init__(self, kube: Kube, namespace: str, changed: Callable[[], None]) -> None:
        self._kube = kube
        self._namespace = namespace
        self._changed = changed
        self.reason: str | None = None
        self.known = asyncio.Event()

    async def watch(self) -> None:
        """For ever. What was known stays known while it cannot be watched; nothing is known before the first answer."""
        backoff = Backoff(0.5, 8.0)
        while True:
            fields = f"metadata.name={FREEZE}"
            try:
                async with aclosing(mirror(self._kube, CONFIG_MAPS, self._namespace, fields=fields)) as told:
                    async for found in told:
                        backoff.reset()
                        self._set(found[0].get("data") or {} if found else None)
            except KubeError as error:  # the first list is refused; whatever comes later is waited out
                log.warning("freeze cannot be watched: %s", error)
            await backoff.pause()

    def _set(self, data: dict[str, str] | None) -> None:
        reason = None if data is None else data.get("reason", "")
        changed = reason != self.reason
        self.reason = reason
        self.known.set()
        if changed:
            self._changed()
