"""Experiments as they come and go: which of them may have caused an outage that a check sees by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from bounceback.engine.outages import Injected
from bounceback.kube.client import Json
from bounceback.types.instants import Instant
from bounceback.types.outcome import Mark

REMEMBERED: Final = 3600.0
"""Seconds after its end for which one is thought of: an outage is known long before that."""
MOST: Final = 500
"""Of one namespace; the oldest are forgotten first."""


class Causes:
    """By namespace and UID, from what the watch shows of each: those that have planned something."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known: dict[str, dict[str, Injected]] = {}

    def changed(self, kind: str | None, body: Json) -> None:
        """A glimpse of an experiment; one that is deleted was under way until now, if it was."""
        metadata, status = body["metadata"], body.get("status") or {}
        known = self._known.setdefault(metadata["namespace"], {})
        planned = [mark["earliest"]["utc"] for mark in status.get("marks") or () if mark["mark"] == Mark.PLANNED]
        if planned:
            finished = status.get("finishedAt")
            until = Instant.parse(finished) if finished else self._clock() if kind == "DELETED" else None
            known[metadata["uid"]] = Injected(metadata["name"], planned[0], until)
        self._forget(known)

    def of(self, namespace: str) -> Sequence[Injected]:
        return tuple(self._known.get(namespace, {}).values())

    def _forget(self, known: dict[str, Injected]) -> None:
        oldest = self._clock() - REMEMBERED
        for uid in [uid for uid, each in known.items() if each.until is not None and each.until < oldest]:
            del known[uid]
        for uid in list(known)[: max(0, len(known) - MOST)]:
            del known[uid]
