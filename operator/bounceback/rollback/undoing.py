"""The undo without an operator: when its time has come, and by the same rules."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Final

import aiohttp

from bounceback.engine.originals import Guarded, Originals, guarded_in, to_be_undone
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.kinds import Kinds, UnknownKindError
from bounceback.kube.resources import EXPERIMENTS
from bounceback.kube.watching import Backoff
from bounceback.types.run_names import experiment_of
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.journal import Journal
from bounceback.vehicles.object_patch import NotYet, ObjectPatch
from bounceback.vehicles.rollback_pod import GRACE, READY_FILE, take_note

TROUBLE: Final = (KubeError, aiohttp.ClientError, TimeoutError, Refused, NotYet, UnknownKindError)
LONGEST_PAUSE: Final = 10.0
log = logging.getLogger(__name__)


class Undoing:
    """One run's changes of objects. `stopping` is set when there is no more time."""

    def __init__(self, kube: Kube, namespace: str, run: str, stopping: asyncio.Event) -> None:
        self._kube = kube
        self._namespace = namespace
        self._run = run
        self._stopping = stopping
        self._backoff = Backoff(0.2, LONGEST_PAUSE)

    async def to_the_end(self) -> None:
        """Until nothing is left to undo."""
        record = await self._journal()
        if record is None or (found := guarded_in(record)) is None:
            log.info("there is nothing to undo")
            return
        originals, planned = found
        acting = self._kube.acting_as(originals.namespace, originals.account)
        patch = ObjectPatch(acting, Kinds(self._kube), f"the account of namespace {originals.namespace}")
        await self._look(originals, patch)
        _tell_ready()
        async with asyncio.TaskGroup() as tasks:
            for injection in planned:
                tasks.create_task(self._one(injection, originals, patch))
        log.info("nothing is left to undo")

    async def _journal(self) -> Json | None:
        while True:
            try:
                return await Journal(self._kube, self._namespace).read(self._run)
            except TROUBLE as error:
                log.warning("the journal cannot be read yet: %s", error)
            await self._backoff.pause()

    async def _look(self, originals: Originals, patch: ObjectPatch) -> None:
        """As far as can be told without touching anything: it could undo all of it now."""
        for changes in originals.changes.values():
            while not self._stopping.is_set():
                try:
                    await patch.read(changes[-1].key)  # of a namespace and what is in it the namespace
                    break
                except TROUBLE as error:
                    log.warning("%s cannot be read yet: %s", changes[-1].key, error)
                await self._backoff.pause()

    async def _one(self, injection: Guarded, originals: Originals, patch: ObjectPatch) -> None:
        seconds = originals.seconds[injection.name]
        ends: float | None = injection.start_at + seconds  # not before
        while ends is not None:
            await self._sleep(ends + GRACE - time.time())
            ends = await self._ends(injection, originals, seconds)
            if ends is not None and (self._stopping.is_set() or time.time() >= ends + GRACE):
                await self._undo(injection, originals, patch)
                return

    async def _ends(self, injection: Guarded, originals: Originals, seconds: float) -> float | None:
        """UTC seconds when it is over; None: it is. Without an experiment nothing is to be in force any more."""
        while True:
            try:
                body = await self._experiment(originals)
            except TROUBLE as error:
                log.warning("%s: %s", originals.experiment, error)
                await self._backoff.pause()
                continue
            if body is None:
                return 0.0
            return to_be_undone(body.get("status") or {}, injection, seconds, time.time())

    async def _experiment(self, originals: Originals) -> Json | None:
        try:
            body = await self._kube.get(EXPERIMENTS, originals.namespace, originals.experiment)
        except KubeError as error:
            if error.gone:
                return None
            raise
        return body if body["metadata"]["uid"] == experiment_of(self._run) else None

    async def _undo(self, injection: Guarded, originals: Originals, patch: ObjectPatch) -> None:
        """Until it is done: the pod's own deadline ends it otherwise."""
        while True:
            try:
                await take_note(self._kube, self._namespace, self._run, injection.name, time.time())
                for change in reversed(originals.changes[injection.name]):
                    await patch.undo(change)
                log.warning("%s: it is put right, because nobody else did", injection.name)
                return
            except TROUBLE as error:
                log.warning("%s: it is not put right yet: %s", injection.name, error)
            await self._backoff.pause()

    async def _sleep(self, seconds: float) -> None:
        """Not longer than until it is told to end."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stopping.wait()
        except TimeoutError:
            return


def _tell_ready() -> None:
    """To the kubelet, which looks for this file."""
    Path(READY_FILE).touch()
