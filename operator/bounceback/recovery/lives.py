"""What comes and goes among the objects that a reference run compares, watched without a gap or told to have one.

A list says what there is at one resourceVersion, and a watch from there tells every change, whoever is away meanwhile:
a connection that breaks, or an operator that starts again, goes on from the last version that is known. Only a version
that the API server has forgotten (410) is a gap, and what came and went in it is never guessed. At the end the watch
must have come up to the version of the last list: a bookmark or a change says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final

import aiohttp

from bounceback.api.reference_run import MOST_CHANGED, ComparedObjects, Lives
from bounceback.engine.end_state import is_ours, stable_name
from bounceback.engine.lives import with_change, with_gap
from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError, WatchGoneError
from bounceback.kube.kinds import Kinds, UnknownKindError
from bounceback.kube.resources import Resource
from bounceback.kube.watching import ADDED, DELETED, Backoff
from bounceback.recovery.objects import is_older

MOST_OBJECTS: Final = 1000
UP_TO_DATE_SECONDS: Final = 20.0
"""Within which the watch must have come up to the last list."""
LONG_WATCH, SHORT_WATCH = 300, 4
"""Seconds: the API server sends a bookmark two seconds before a watch ends."""
UNANSWERED: Final = (aiohttp.ClientError, TimeoutError, ValueError)  # ValueError: a line that was cut


class LivesError(Exception):
    """Objects cannot be compared; the message says which, and why."""


class LivesOf:
    """One entry's objects."""

    def __init__(self, acting: Kube, kinds: Kinds, namespace: str, entry: ComparedObjects, room: int) -> None:
        self._acting, self._kinds, self._namespace = acting, kinds, namespace
        self._entry, self._room = entry, room
        self._labels = str(entry.selector) if entry.selector else ""
        self._turn = asyncio.Lock()  # what watches at the end begins when what watched until then has ended
        self.known = Lives()

    async def begin(self) -> None:
        """From what there is now. Raises LivesError, and what Kube raises."""
        found, version = await self._list()
        self.known = Lives(version=version, before=len(found))

    async def watch(self) -> None:
        """For ever; cancel to end. What is known by then is whole up to its version."""
        resource, backoff = await self._resource(), Backoff()
        async with self._turn:
            while True:
                try:
                    await self._follow(resource, LONG_WATCH)
                    backoff.reset()
                except WatchGoneError:
                    await self._lost()
                except (KubeError, *UNANSWERED):
                    pass
                await backoff.pause()

    async def end(self) -> list[Json]:
        """What there is now, with all that came and went until then known, or told to have a gap."""
        async with self._turn:
            found, version = await self._list()
            await self._catch_up(version)
            return found

    async def _catch_up(self, version: str) -> None:
        resource, clock = await self._resource(), asyncio.get_running_loop().time
        until, backoff = clock() + UP_TO_DATE_SECONDS, Backoff()
        while is_older(self.known.version, version):
            if clock() >= until:
                self.known = with_gap(self.known, version, "the watch did not come up to the last list")
                return
            try:
                await self._follow(resource, SHORT_WATCH, version)
            except WatchGoneError:
                await self._lost()
            except (KubeError, *UNANSWERED):
                await backoff.pause()

    async def _follow(self, resource: Resource, seconds: int, up_to: str = "") -> None:
        """One watch from what is known, until it ends or has come so far."""
        told = self._acting.watch(resource, self._namespace, self.known.version, labels=self._labels, seconds=seconds)
        async with aclosing(told) as watch:
            async for kind, item in watch:
                version = item["metadata"]["resourceVersion"]
                if kind in (ADDED, DELETED) and not is_ours(item):
                    name, came = stable_name(item), kind == ADDED
                    self.known = with_change(self.known, name, version, came=came, room=self._room)
                else:
                    self.known = self.known.model_copy(update={"version": version})
                if up_to and not is_older(version, up_to):
                    return

    async def _lost(self) -> None:
        """The API server has forgotten what came after the version that is known."""
        try:
            _, version = await self._list()
        except (KubeError, LivesError, *UNANSWERED):
            return
        self.known = with_gap(self.known, version, "the API server had forgotten what came after the last change seen")

    async def _resource(self) -> Resource:
        try:
            return await self._kinds.resource(self._entry.api_version, self._entry.kind)
        except UnknownKindError as error:
            raise LivesError(str(error)) from error

    async def _list(self) -> tuple[list[Json], str]:
        resource = await self._resource()
        found, version = await self._acting.list(resource, self._namespace, labels=self._labels)
        if not version:
            raise LivesError(f"{self._entry.kind} cannot be watched: its API has no resourceVersion")
        others = [item for item in found if not is_ours(item)]
        if len(others) > MOST_OBJECTS:
            raise LivesError(f"{self._entry}: {len(others)} objects, more than {MOST_OBJECTS}; narrow the selector")
        return others, version


class LivesOfAll:
    """All entries. `begun` while they are watched; `changed` is called when that begins."""

    def __init__(
        self, acting: Kube, namespace: str, entries: Sequence[ComparedObjects], changed: Callable[[], None]
    ) -> None:
        kinds, room = Kinds(acting), MOST_CHANGED // max(1, len(entries))
        self._all = [LivesOf(acting, kinds, namespace, entry, room) for entry in entries]
        self._changed = changed
        self.begun = False

    def resume(self, known: Sequence[Lives]) -> None:
        """Go on from what an operator before us wrote down."""
        if len(known) == len(self._all):
            for each, lives in zip(self._all, known, strict=True):
                each.known = lives

    @property
    def is_known(self) -> bool:
        """From some version on."""
        return all(each.known.version for each in self._all)

    def known(self) -> list[Lives]:
        return [each.known for each in self._all]

    async def watch(self, *, anew: bool) -> None:
        """Until cancelled; `anew`: from what there is now. Raises LivesError, and what Kube raises, as it begins."""
        if anew or not self.is_known:
            for each in self._all:
                await each.begin()
        self.begun = True
        self._changed()
        try:
            async with asyncio.TaskGroup() as group:
                for each in self._all:
                    group.create_task(each.watch())
        finally:
            self.begun = False

    async def end(self) -> list[list[Json]]:
        """By entry. Raises LivesError, and what Kube raises."""
        return list(await asyncio.gather(*(each.end() for each in self._all)))
