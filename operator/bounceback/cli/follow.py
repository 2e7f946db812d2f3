"""Watching experiments until they are finished, across everything that ends a watch."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import requests

from bounceback.cli.cluster import EXPERIMENTS, Cluster, RefusedError
from bounceback.cli.exits import CommandError

Json = dict[str, Any]
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Key:
    """One experiment; `uid` tells it from another of the same name."""

    namespace: str
    name: str
    uid: str

    @classmethod
    def of(cls, body: Json) -> Key:
        metadata = body["metadata"]
        return cls(metadata["namespace"], metadata["name"], metadata["uid"])

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Changed:
    """How the experiment is now."""

    key: Key
    body: Json


@dataclass(frozen=True, slots=True)
class Gone:
    """It was deleted."""

    key: Key


@dataclass(frozen=True, slots=True)
class Lost:
    """It cannot be seen now; the watch is tried again, unless `final`."""

    key: Key
    why: str
    final: bool = False


News = Changed | Gone | Lost


def is_finished(body: Json) -> bool:
    return bool((body.get("status") or {}).get("phase") == "Finished")


class Follower:
    """News of experiments, in one queue, whatever their number."""

    def __init__(self, cluster: Cluster, keys: Iterable[Key], until: Callable[[Json], bool] = is_finished) -> None:
        self._until = until
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        for key in keys:
            threading.Thread(target=self._watch, args=(cluster, key), name=f"watch {key}", daemon=True).start()

    def next(self, seconds: float | None) -> News | None:
        """The next news; None when there is none within that time. Ctrl-C interrupts it."""
        try:
            return self._news.get(timeout=None if seconds is None else max(0.0, seconds))
        except queue.Empty:
            return None

    def _watch(self, cluster: Cluster, key: Key) -> None:
        for news in watch(cluster, key, self._until):
            self._news.put(news)


def watch(cluster: Cluster, key: Key, until: Callable[[Json], bool] = is_finished) -> Iterator[News]:
    """Until that holds of the experiment or it is gone, or the API server refuses for good."""
    pause = FIRST_PAUSE
    while True:
        try:
            body = cluster.get(EXPERIMENTS, key.namespace, key.name)
            if body is None or body["metadata"]["uid"] != key.uid:
                yield Gone(key)
                return
            yield Changed(key, body)
            if until(body):
                return
            pause = FIRST_PAUSE
            for kind, changed in cluster.watch(EXPERIMENTS, key.namespace, key.name, _version(body)):
                if kind == "DELETED":
                    yield Gone(key)
                    return
                if kind == "BOOKMARK":
                    continue
                yield Changed(key, changed)
                if until(changed):
                    return
        except (requests.RequestException, CommandError) as error:
            final = isinstance(error, RefusedError) and error.status in (401, 403)
            if not (isinstance(error, RefusedError) and error.status == 410):
                yield Lost(key, str(error), final)
            if final:
                return
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


def _version(body: Json) -> str:
    return str(body["metadata"]["resourceVersion"])
