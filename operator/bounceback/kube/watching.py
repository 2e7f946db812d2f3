"""Lists and watches that go on: what is there, and each change to it, through cut connections and expired versions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Final

import aiohttp

from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError, WatchGoneError
from bounceback.kube.resources import Resource

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"
LISTED: Final = "LISTED"
BOOKMARK: Final = "BOOKMARK"
SHORT_WATCH: Final = 1.0  # seconds; a server that ends its watches sooner than this must not be asked in a hot loop


class Backoff:
    """Pauses that grow from `first` to `longest` seconds, each shortened at random so that many do not come at once."""

    def __init__(self, first: float = 0.1, longest: float = 10.0) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def reset(self) -> None:
        self._next = self._first

    async def pause(self) -> None:
        seconds, self._next = self._next, min(self._next * 2, self._longest)
        await asyncio.sleep(seconds * random.uniform(0.5, 1.0))


async def changes(
    kube: Kube, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = ""
) -> AsyncGenerator[tuple[str, Json], None]:
    """(ADDED, MODIFIED or DELETED, object) for ever, and (LISTED, {}) each time that all there is has been told.

    What happened in a gap is told as if it had been seen: a new list is compared with what was known. Raises KubeError
    where the first list is refused; all else may pass, rights that were there once too, and is waited out with growing
    pauses.
    """
    known: dict[str, Json] = {}
    backoff = Backoff()
    listed, version = False, ""
    clock = asyncio.get_running_loop().time
    while True:
        began = clock()
        try:
            if not version:
                found, version = await kube.list(resource, namespace, labels=labels, fields=fields)
                for change in differences(known, found):
                    yield change
                known = {_uid(item): item for item in found}
                listed, began = True, clock()
                yield LISTED, {}
            async with aclosing(kube.watch(resource, namespace, version, labels=labels, fields=fields)) as watch:
                async for kind, item in watch:
                    version = item["metadata"]["resourceVersion"]
                    if kind == BOOKMARK:
                        continue
                    if kind == DELETED:
                        known.pop(_uid(item), None)
                    else:
                        known[_uid(item)] = item
                    yield kind, item
        except WatchGoneError:
            version = ""
        except KubeError as error:
            if not listed and not error.passing:
                raise
            version = ""
        except (aiohttp.ClientError, TimeoutError, ValueError):  # ValueError: a line that was cut
            pass
        if clock() - began < SHORT_WATCH:
            await backoff.pause()
        else:
            backoff.reset()


async def mirror(
    kube: Kube, resource: Resource, namespace: str | None, *, labels: str = "", fields: str = ""
) -> AsyncGenerator[list[Json], None]:
    """All objects that match, ordered by name: as first listed, then anew after each change."""
    known: dict[str, Json] = {}
    listed = False
    async with aclosing(changes(kube, resource, namespace, labels=labels, fields=fields)) as told:
        async for kind, item in told:
            if kind == LISTED:
                if listed:
                    continue
                listed = True
            elif kind == DELETED:
                known.pop(_uid(item), None)
            else:
                known[_uid(item)] = item
            if listed:
                yield sorted(known.values(), key=lambda each: str(each["metadata"]["name"]))


def differences(known: Mapping[str, Json], found: Iterable[Json]) -> Iterator[tuple[str, Json]]:
    """The changes that lead from what was known (by UID) to what was found."""
    now = {_uid(item): item for item in found}
    for uid, item in known.items():
        if uid not in now:
            yield DELETED, item
    for uid, item in now.items():
        if uid not in known:
            yield ADDED, item
        elif item["metadata"]["resourceVersion"] != known[uid]["metadata"]["resourceVersion"]:
            yield MODIFIED, item


def _uid(item: Json) -> str:
    return str(item["metadata"]["uid"])
