"""Objects that are changed: made so, watched for who puts them right, and put right at the end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

import aiohttp

from bounceback.api.status import InjectionStatus
from bounceback.controller.carry import Injections
from bounceback.controller.office import Office
from bounceback.controller.way import Way
from bounceback.engine import changing, restoring
from bounceback.engine.evidence import DONE
from bounceback.engine.namespace_contents import by_kind
from bounceback.engine.originals import Originals
from bounceback.engine.restoring import Nothing
from bounceback.kube import KubeError
from bounceback.kube.client import Json
from bounceback.kube.kinds import Kinds, UnknownKindError
from bounceback.kube.watching import Backoff, mirror
from bounceback.types.instants import Instant
from bounceback.types.objects import Change
from bounceback.types.outcome import InjectionState
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.namespaces import Namespaces
from bounceback.vehicles.object_patch import NotYet, ObjectPatch, Undone
from bounceback.vehicles.rollback_pod import RollbackPod

PASSING: Final = (KubeError, aiohttp.ClientError, TimeoutError)
PATIENCE: Final = 30.0
"""Seconds for which an undo that is refused is tried again: rights may come back."""
LOOK_EVERY: Final = 5.0
"""Seconds between two looks whether the rollback pod is still there."""
NAMESPACE_PATIENCE: Final = 300.0
"""The same of a namespace: what is in it goes first, pods with their grace."""
HOLD_EVERY: Final = 0.5
"""Seconds between two looks whether what is kept has to be written again."""
log = logging.getLogger(__name__)


class Patching(Way):
    """The changes of objects of one run. Any part may be begun again by another operator."""

    def __init__(self, office: Office, run: str, injections: Injections, originals: Originals) -> None:
        self._office = office
        self._originals = originals
        self._injections = injections
        self._acting = office.kube.acting_as(originals.namespace, originals.account)
        account = f"the account of namespace {originals.namespace}"
        self._patch = ObjectPatch(self._acting, Kinds(office.kube), account)
        self._namespaces = Namespaces(self._acting, originals.namespace, originals.account)
        self._rollback = _rollback(office, run)
        self._guarded = asyncio.Event()
        self._unguarded = "it was not asked for yet"  # why the rollback pod is not ready
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._stopping = False

    async def carry(self) -> None:
        """Each of them from its beginning to its end, none of it without a rollback pod that stands by."""
        async with asyncio.TaskGroup() as tasks:
            under_way = [tasks.create_task(self._one(each.name)) for each in self._open()]
            under_way.append(tasks.create_task(self._stay_guarded()))
            await self._injections.until(lambda _: not self._open())
            for task in under_way:
                task.cancel()

    async def stop(self) -> None:
        """End what is in force or about to be."""
        self._stopping = True
        await asyncio.gather(*(self._undo(each.name, "Terminated") for each in self._open()))

    async def remove(self) -> None:
        """The rollback pod has nothing left to do."""
        await self._rollback.remove()

    def _open(self) -> list[InjectionStatus]:
        return [i for i in self._injections.all() if i.name in self._originals.changes and i.state not in DONE]

    def _now(self, name: str) -> InjectionStatus:
        return next(i for i in self._injections.all() if i.name == name)

    async def _stay_guarded(self) -> None:
        """A rollback pod that vanishes, with its node for example, is made again for as long as anything is open."""
        while True:
            until = max((each.not_after for each in self._open()), default=0.0)
            before = self._unguarded
            try:
                self._office.leadership.check()
                self._unguarded = await self._rollback.ensure(until, time.time())
            except (*PASSING, Refused) as error:
                self._unguarded = str(error)
            if self._unguarded not in ("", before):
                log.info("%s is not ready: %s", self._rollback.name, self._unguarded)
            if not self._unguarded:
                self._guarded.set()
            await asyncio.sleep(0.2 if self._unguarded and not self._guarded.is_set() else LOOK_EVERY)

    async def _one(self, name: str) -> None:
        await self._injections.until(lambda _: not self._injections.waits(self._now(name)))
        injection = self._now(name)
        if injection.state is InjectionState.PLANNED:
            await asyncio.sleep(max(0.0, injection.start_at - time.time()))
            await self._begin(injection)
        if self._now(name).state is InjectionState.ACTIVE:
            await self._last(self._now(name))

    async def _begin(self, injection: InjectionStatus) -> None:
        try:
            async with asyncio.timeout(max(0.0, injection.start_before - time.time())):
                await self._guarded.wait()
        except TimeoutError:
            why = f"the rollback pod {self._rollback.name} was not ready in time: {self._unguarded}"
            self._refuse(injection.name, "NotGuarded", why)
            return
        async with self._locks[injection.name]:
            if not self._stopping and self._now(injection.name).state is InjectionState.PLANNED:
                await self._change(injection)

    async def _change(self, injection: InjectionStatus) -> None:
        """All of it, or nothing: what is refused in its middle is taken back."""
        changes, backoff = self._originals.changes[injection.name], Backoff(0.1, 2.0)
        while True:
            self._office.leadership.check()
            if time.time() >= injection.start_before:
                await self._give_back(injection, "TooLate", "the API server did not answer in time")
                return
            try:
                await self._still_as_planned(changes)
                made = [await self._patch.apply(change) for change in changes]
                break
            except Refused as refused:
                await self._give_back(injection, refused.reason, refused.message)
                return
            except PASSING as error:
                log.info("%s: %s is not changed yet: %s", injection.fault, injection.on, error)
            await backoff.pause()
        if None in made:
            await self._put_right(injection, changes)
            self._injections.learn([injection.name], lambda each: changing.target_gone(each, Instant.now()))
            return
        at = made[-1] or Instant.now()
        objects = sum(each.along or not isinstance(restoring.patch(each), Nothing) for each in changes)
        self._injections.learn([injection.name], lambda each: changing.changed(each, at, objects))

    async def _still_as_planned(self, changes: Sequence[Change]) -> None:
        """Of a namespace that is to be deleted, what is in it. Raises Refused."""
        *along, namespace = changes
        if changes[0].along and not restoring.in_force(namespace, await self._patch.read(namespace.key)):
            await self._namespaces.unchanged(namespace.key.name, along)

    async def _give_back(self, injection: InjectionStatus, reason: str, message: str) -> None:
        if await self._put_right(injection, self._originals.changes[injection.name]) is not None:
            self._refuse(injection.name, reason, message)

    def _refuse(self, name: str, reason: str, message: str) -> None:
        self._injections.learn([name], lambda each: changing.refused(each, reason, message))

    async def _last(self, injection: InjectionStatus) -> None:
        """Until its time is over, or all that was changed is put right by others."""
        changes = self._originals.changes[injection.name]
        begun = injection.in_force_at
        ends = (begun.utc if begun else injection.start_at) + self._originals.seconds[injection.name]
        awaited = (
            [self._until_back(injection.name, changes)]
            if changes[0].along
            else [self._until_healed(injection.name, change) for change in changes]
        )
        watching = [asyncio.create_task(each) for each in awaited]
        try:
            done, waiting = await asyncio.wait(watching, timeout=max(0.0, ends - time.time()))
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
        for task in done:
            task.result()  # who could not look has seen nobody put it right
        if waiting:
            await self._undo(injection.name, "Duration")
        else:
            at = Instant.now()
            async with self._locks[injection.name]:
                await self._put_down_as_healed(injection, at)

    async def _until_healed(self, name: str, change: Change) -> None:
        """Until others have put it right; what is kept is set back instead."""
        key = change.key
        while True:
            holding: asyncio.Task[None] | None = None
            try:
                resource = await self._patch.resource(key)
                told = mirror(self._acting, resource, key.namespace, fields=f"metadata.name={key.name}")
                async with aclosing(told) as states:
                    async for found in states:
                        now = {**found[0], "apiVersion": key.api_version, "kind": key.kind} if found else None
                        if restoring.healed(change, now):
                            return
                        if holding is not None:
                            holding.cancel()
                        if change.kept is not None and now is not None:
                            holding = asyncio.create_task(self._hold(name, change, now))
            except (*PASSING, Refused, UnknownKindError) as error:
                log.warning("%s cannot be watched: %s", key, error)
            finally:
                if holding is not None:
                    holding.cancel()
            await asyncio.sleep(1.0)

    async def _until_back(self, name: str, changes: Sequence[Change]) -> None:
        """Until others have made a namespace again, and then what was in it.

        Into one that was made anew the account sees only by the RoleBinding that was there for it: that one is for us
        to make again, and is no part of the system.
        """
        *along, way, namespace = changes
        await self._until_healed(name, namespace)
        backoff = Backoff(0.1, 2.0)
        while True:
            try:
                self._office.leadership.check()
                await self._patch.undo(way)
                break
            except (*PASSING, Refused, NotYet) as error:
                log.info("%s: there is no way into %s yet: %s", name, namespace.key, error)
            await backoff.pause()
        async with asyncio.TaskGroup() as tasks:
            for _, some in by_kind(along):
                tasks.create_task(self._until_there(some))

    async def _until_there(self, changes: Sequence[Change]) -> None:
        """Objects of one kind in one namespace: until others have made all of them again."""
        key = changes[0].key
        while True:
            try:
                resource = await self._patch.resource(key)
                async with aclosing(mirror(self._acting, resource, key.namespace)) as states:
                    async for found in states:
                        now = {each["metadata"]["name"]: each for each in found}
                        if all(restoring.healed(change, now.get(change.key.name)) for change in changes):
                            return
            except (*PASSING, Refused, UnknownKindError) as error:
                log.info("%s of %s cannot be watched: %s", key.kind, key.namespace, error)
            await asyncio.sleep(1.0)

    async def _hold(self, name: str, change: Change, now: Json) -> None:
        """Write what is kept over what others wrote, and again when it is due, until the object is told anew."""
        while True:
            try:
                self._office.leadership.check()
                if await self._patch.hold(change, now):
                    self._injections.learn([name], lambda each: changing.set_back(each, Instant.now()))
            except (*PASSING, Refused) as error:
                log.warning("%s is not set back: %s", change.key, error)
            await asyncio.sleep(HOLD_EVERY)

    async def _undo(self, name: str, reason: str) -> None:
        """Put it right, and say who did."""
        async with self._locks[name]:
            injection = self._now(name)
            if injection.state in DONE:
                return
            done = await self._put_right(injection, self._originals.changes[name])
            if done is None:
                return
            at = Instant.now()
            if injection.state is InjectionState.PLANNED:
                self._injections.learn([name], lambda each: changing.never_begun(each, at))
            elif all(each.gone for each in done):
                self._injections.learn([name], lambda each: changing.target_gone(each, at))
            elif all(each.healed or each.gone for each in done):
                await self._put_down_as_healed(injection, at)
            else:
                left = [path for each in done for path in each.left_alone]
                self._injections.learn([name], lambda each: changing.undone(each, at, reason, left))

    async def _put_down_as_healed(self, injection: InjectionStatus, at: Instant) -> None:
        """By the system, unless the rollback pod noted that it was about to."""
        begun = injection.in_force_at.utc if injection.in_force_at else 0.0
        noted = await self._notes()
        if noted.get(injection.name, 0.0) >= begun > 0:
            self._injections.learn([injection.name], lambda each: changing.undone(each, at, "RolledBack"))
        else:
            self._injections.learn([injection.name], lambda each: changing.healed(each, at))

    async def _notes(self) -> dict[str, float]:
        backoff = Backoff(0.1, 2.0)
        while True:
            try:
                return await self._rollback.notes()
            except PASSING as error:
                log.info("%s: its notes cannot be read: %s", self._rollback.name, error)
            await backoff.pause()

    async def _put_right(self, injection: InjectionStatus, changes: Sequence[Change]) -> list[Undone] | None:
        """How each was put right, the last one first; None where that was refused for good, which is told then."""
        backoff, refused_since = Backoff(0.1, 2.0), None
        while True:
            self._office.leadership.check()
            try:
                return [await self._patch.undo(change) for change in reversed(changes)]
            except (Refused, NotYet, UnknownKindError) as trouble:
                now = time.monotonic()
                refused_since = refused_since or now
                if now - refused_since >= (NAMESPACE_PATIENCE if changes[0].along else PATIENCE):
                    self._leave(injection, changes, str(trouble))
                    return None
                log.warning("%s: %s is not put right yet: %s", injection.fault, injection.on, trouble)
            except PASSING as error:
                log.warning("%s: %s is not put right yet: %s", injection.fault, injection.on, error)
            await backoff.pause()

    def _leave(self, injection: InjectionStatus, changes: Sequence[Change], why: str) -> None:
        at, names = Instant.now(), [str(change.key) for change in changes]
        log.error("%s: %s could not be put right: %s", injection.fault, injection.on, why)
        self._injections.learn([injection.name], lambda each: changing.left(each, at, names, why))


async def put_right(office: Office, run: str, originals: Originals) -> None:
    """All objects of a run that is gone. Raises what keeps it from it."""
    acting = office.kube.acting_as(originals.namespace, originals.account)
    patch = ObjectPatch(acting, Kinds(office.kube), f"the account of namespace {originals.namespace}")
    for changes in originals.changes.values():
        for change in reversed(changes):
            await patch.undo(change)
    await _rollback(office, run).remove()


def _rollback(office: Office, run: str) -> RollbackPod:
    its = office.settings
    return RollbackPod(office.kube, its.namespace, its.image, its.pull_policy, its.account, run, its.tolerations)
