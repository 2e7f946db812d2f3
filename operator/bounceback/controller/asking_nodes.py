"""Where pods are armed: whether our image can be had on each node is asked ahead, and what is known is there for all.

The leader asks, and writes down which nodes lack it. Every replica reads that, and does not arm a pod that may come to
one of them: while a pod is admitted nobody is asked, and a node of which nothing is known speaks against nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import replace
from typing import Final

import aiohttp

from bounceback.controller.office import Office
from bounceback.controller.settings import Settings
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import CONFIG_MAPS, NODES
from bounceback.kube.watching import Backoff, mirror
from bounceback.vehicles.image_known import RECORD, Lacking, read_record, record_of, still
from bounceback.vehicles.image_probe import Asked, Had, ImageProbe
from bounceback.vehicles.scheduling import Place

AT_ONCE: Final = 10
LOOK_EVERY: Final = 30.0
"""Seconds between two looks at which nodes there are."""
LASTS: Final = {Had.YES: 6 * 3600.0, Had.NO: 20.0, Had.UNKNOWN: 60.0}
"""Seconds until the same node is asked again."""
RENEW: Final = 60.0
"""Seconds after which the same answer is written down anew, so that it goes on counting."""
GATHER: Final = 1.0
"""Seconds between two writes: answers of many nodes come together."""
PASSING: Final = (KubeError, aiohttp.ClientError, TimeoutError)
log = logging.getLogger(__name__)


class Asking:
    """By the one who leads."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._settings = office.settings
        its = self._settings
        self._probe = ImageProbe(office.kube, its.namespace, its.image, its.pull_policy)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._had: dict[str, float] = {}  # until when that counts, by the UID of the node and our own clock
        self._seen_to: set[str] = set()  # nodes, by name, that a task of ours asks
        self._lacking: dict[str, Lacking] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """For ever. Raises NotLeaderError, in a group."""
        async with asyncio.TaskGroup() as tasks:
            await self._begin()
            tasks.create_task(self._write_down())
            while True:
                try:
                    unasked = await self._unasked()
                    self._count_on()
                    for name, uid in unasked:
                        self._seen_to.add(name)
                        tasks.create_task(self._see_to(name, uid))
                except PASSING as error:
                    log.warning("the nodes to be asked for the image cannot be listed: %s", error)
                await asyncio.sleep(LOOK_EVERY)

    async def _begin(self) -> None:
        """With what the one before us knew, until it is asked for again."""
        backoff, its = Backoff(0.5, 10.0), self._settings
        while True:
            try:
                data = (await self._office.kube.get(CONFIG_MAPS, its.namespace, RECORD)).get("data") or {}
            except PASSING as error:
                if not (isinstance(error, KubeError) and error.gone):
                    await backoff.pause()
                    continue
                data = {}
            self._lacking = {each.place.node: each for each in read_record(data, its.image, its.pull_policy)}
            return

    async def _unasked(self) -> list[tuple[str, str]]:
        """Names and UIDs; those that are known to lack it first. What is told of nodes that are gone is forgotten."""
        listed, _ = await self._office.kube.only_metadata(listed=True).list(NODES)
        nodes = {each["metadata"]["name"]: each["metadata"]["uid"] for each in listed}
        self._had = {uid: until for uid, until in self._had.items() if uid in nodes.values()}
        for name in self._lacking.keys() - nodes.keys():
            self._forget(name)
        now = time.monotonic()
        due = [(name, uid) for name, uid in nodes.items() if self._had.get(uid, now) <= now]
        return sorted(
            (each for each in due if each[0] not in self._seen_to), key=lambda each: each[0] not in self._lacking
        )

    def _count_on(self) -> None:
        """Those whose turn is to come lack it until then, however long the turns of others take."""
        now = time.time()
        for name in self._lacking.keys() & self._seen_to:
            if now - (known := self._lacking[name]).at >= RENEW:
                self._lacking[name] = replace(known, at=now)
                self._changed.set()

    async def _see_to(self, name: str, uid: str) -> None:
        """Ask that node until it has the image, or is gone."""
        try:
            while (asked := await self._ask(name)) is not None:
                if asked.had is Had.YES:
                    self._had[uid] = time.monotonic() + LASTS[Had.YES]
                    return
                await asyncio.sleep(LASTS[asked.had])
        finally:
            self._seen_to.discard(name)

    async def _ask(self, name: str) -> Asked | None:
        """None: there is no such node any more."""
        async with self._slots:
            self._office.leadership.check()
            try:
                node = await self._office.kube.get(NODES, None, name)
            except PASSING as error:
                if isinstance(error, KubeError) and error.gone:
                    return None
                return Asked(Had.UNKNOWN, str(error))
            asked = await self._probe.ask(node)
        self._note(node, asked)
        return asked

    def _note(self, node: Json, asked: Asked) -> None:
        name, its = node["metadata"]["name"], self._settings
        match asked.had:
            case Had.YES:
                self._forget(name)
            case Had.UNKNOWN:
                log.debug("whether node %s can have image %s is not known: %s", name, its.image, asked.why)
            case Had.NO:
                now, before = Lacking(Place.of(node), asked.why, time.time()), self._lacking.get(name)
                if before is None:
                    log.warning(
                        "node %s cannot have image %s: no pod that may come there is armed: %s",
                        name,
                        its.image,
                        asked.why,
                    )
                if before is None or now.place != before.place or now.at - before.at >= RENEW:
                    self._lacking[name] = now
                    self._changed.set()

    def _forget(self, name: str) -> None:
        if self._lacking.pop(name, None) is not None:
            log.info("node %s is not known to lack image %s any more", name, self._settings.image)
            self._changed.set()

    async def _write_down(self) -> None:
        its, backoff = self._settings, Backoff(GATHER, 30.0)
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._office.leadership.check()
            try:
                await self._put(record_of(self._lacking.values(), its.image, its.pull_policy))
                backoff.reset()
            except PASSING as error:
                log.warning("what nodes lack the image cannot be written down: %s", error)
                self._changed.set()
            await backoff.pause()

    async def _put(self, data: dict[str, str]) -> None:
        kube, namespace = self._office.kube, self._settings.namespace
        try:
            await kube.patch(CONFIG_MAPS, namespace, RECORD, {"data": data})
        except KubeError as error:
            if not error.gone:
                raise
            metadata = {"name": RECORD, "labels": {"app.kubernetes.io/managed-by": "bounceback"}}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            await kube.create(CONFIG_MAPS, namespace, body)


class Known:
    """By any replica: which nodes lack the image, as it is written down."""

    def __init__(self, kube: Kube, settings: Settings) -> None:
        self._kube = kube
        self._settings = settings
        self._lacking: tuple[Lacking, ...] = ()

    def lacking(self) -> tuple[Lacking, ...]:
        return tuple(still(self._lacking, time.time()))

    async def watch(self) -> None:
        """For ever. What was known counts on while it cannot be watched, as long as answers count at all."""
        its, backoff = self._settings, Backoff(0.5, 8.0)
        while True:
            try:
                fields = f"metadata.name={RECORD}"
                async with aclosing(mirror(self._kube, CONFIG_MAPS, its.namespace, fields=fields)) as told:
                    async for found in told:
                        backoff.reset()
                        data = found[0].get("data") or {} if found else {}
                        self._lacking = read_record(data, its.image, its.pull_policy)
            except PASSING as error:  # the first list is refused; whatever comes later is waited out
                log.warning("what nodes lack the image cannot be watched: %s", error)
            await backoff.pause()
