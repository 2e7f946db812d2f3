"""Health read off Kubernetes objects: watched, so that a change is known when it is told, and confirmed by reads.

An event says that a state has come, not for how long the one before it held: silence on a watch may be a dead watch.
So a read confirms every second or so what the watch told, and a change lies between the start of the last read (or
event) that still showed the old state and the moment at which its event came. Reads go on when the watch is lost;
when both are, there are no samples, which the history shows as a gap.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from bounceback.api.looks_inside import KubernetesLook
from bounceback.api.probes import Probe
from bounceback.engine.cel import check_syntax
from bounceback.engine.samples import History, Sample
from bounceback.kube.client import Json
from bounceback.kube.errors import KubeError, WatchGoneError
from bounceback.kube.kinds import UnknownKindError
from bounceback.kube.resources import Resource
from bounceback.kube.watching import BOOKMARK, DELETED, Backoff
from bounceback.recovery.judging import Said, judge
from bounceback.recovery.means import Means
from bounceback.types.instants import Instant

READ_SECONDS: Final = 1.0
"""Between two reads at least; reads that take long come more rarely, up to every LONGEST_READ_SECONDS."""
LONGEST_READ_SECONDS: Final = 5.0
MOST_OBJECTS: Final = 1000
CHEAP: Final = 0.002
QUIET_FACTOR: Final = 10
"""A judgement that took longer than CHEAP seconds is followed by ten times that without one: events come in bursts."""
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
STEADY_WATCH: Final = 5.0
"""Seconds that a watch must last for the next pause to be a short one again."""

UNANSWERED: Final = (aiohttp.ClientError, OSError, TimeoutError, ValueError)
"""No answer, or one that was cut: we cannot look, which says nothing about the system."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of the namespace; labels and fields as the API's parameters take them."""

    api_version: str
    kind: str
    labels: str = ""
    fields: str = ""


def reading_period(probe: Probe) -> float:
    """Seconds."""
    return max(READ_SECONDS, probe.period_milliseconds / 1000)


class Watcher(ABC):
    """Keeps the selected objects, and tells what there is whenever it knows more about them."""

    def __init__(
        self, means: Means, probe: Probe, wanted: Selection, history: History, changed: Callable[[], None]
    ) -> None:
        self._acting = means.acting
        self._kinds = means.kinds
        self._namespace = means.namespace
        self._wanted = wanted
        self._changed = changed
        self._timeout = probe.timeout_milliseconds / 1000
        self._period = reading_period(probe)
        self.history = history
        self.problem: str | None = None  # why this probe cannot work at all
        self._objects: dict[str, Json] = {}
        self._version = ""  # of the newest state that is known
        self._known_since: Instant | None = None  # the start of the newest sample
        self._quiet_until = 0.0  # loop time: no judgement before, so that costly ones leave time for other work
        self._later: asyncio.TimerHandle | None = None
        self._read = asyncio.Event()  # set while there is a version to watch from
        self._read_again = asyncio.Event()

    async def run(self, phase: float) -> None:
        """For ever; cancel to end."""
        await asyncio.sleep(phase)
        resource = await self._discover()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read_for_ever(resource))
                group.create_task(self._watch_for_ever(resource))
        finally:
            self._drop_later()

    async def _discover(self) -> Resource:
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            try:
                return await self._kinds.resource(self._wanted.api_version, self._wanted.kind)
            except UnknownKindError as error:
                self._cannot(str(error))
            except KubeError as error:
                self._refused("read the kinds of the API", error)
            except UNANSWERED:
                pass
            await backoff.pause()

    async def _read_for_ever(self, resource: Resource) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            began = loop.time()
            try:
                await self._read_all(resource)
            except KubeError as error:
                self._refused(f"list {resource.plural}", error)
                await backoff.pause()
                continue
            except UNANSWERED:
                await backoff.pause()
                continue
            backoff.reset()
            took = loop.time() - began
            await self._until_due(began + max(self._period, min(10 * took, LONGEST_READ_SECONDS)))

    async def _until_due(self, due: float) -> None:
        """Earlier where the watch has lost its place."""
        try:
            async with asyncio.timeout_at(due):
                await self._read_again.wait()
        except TimeoutError:
            pass
        self._read_again.clear()

    async def _read_all(self, resource: Resource) -> None:
        """A list without a resourceVersion shows the newest state there is between its start and its end."""
        start = Instant.now()
        async with asyncio.timeout(self._timeout):
            found, version = await self._acting.list(
                resource, self._namespace, labels=self._wanted.labels, fields=self._wanted.fields
            )
        end = Instant.now()
        if len(found) > MOST_OBJECTS:
            self._cannot(f"selects {len(found)} objects, more than {MOST_OBJECTS}; narrow the selector")
            return
        if is_older(version, self._version):
            return  # an event that came meanwhile knows better
        self._objects = {item["metadata"]["name"]: trimmed(item) for item in found}
        self._version = version
        if version:  # some aggregated APIs have none, and cannot be watched
            self._read.set()
        self.problem = None
        self._record(start, end)

    async def _watch_for_ever(self, resource: Resource) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            await self._read.wait()
            began = loop.time()
            try:
                async for kind, item in self._acting.watch(
                    resource, self._namespace, self._version, labels=self._wanted.labels, fields=self._wanted.fields
                ):
                    self._take(kind, item)
            except WatchGoneError:
                self._lost_place()
            except KubeError as error:
                self._refused(f"watch {resource.plural}", error)
            except UNANSWERED:
                pass  # the reads go on; a watch from the same version tells what was missed
            if loop.time() - began > STEADY_WATCH:
                backoff.reset()
            await backoff.pause()

    def _take(self, kind: str, item: Json) -> None:
        version = item["metadata"].get("resourceVersion", "")
        if is_older(version, self._version) or version == self._version:
            return  # a read knew it already
        self._version = version
        if kind == BOOKMARK:
            return
        name = item["metadata"]["name"]
        if kind == DELETED:
            self._objects.pop(name, None)
        else:
            self._objects[name] = trimmed(item)
        wait = self._quiet_until - asyncio.get_running_loop().time()
        if wait <= 0:
            self._record_event()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(wait, self._record_event)

    def _record_event(self) -> None:
        """The state came after the newest sample before began, and before now."""
        now = Instant.now()
        self._record(self._known_since or now, now)

    def _drop_later(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _lost_place(self) -> None:
        self._version = ""
        self._read.clear()
        self._read_again.set()

    def _record(self, start: Instant, end: Instant) -> None:
        clock = asyncio.get_running_loop().time
        self._drop_later()  # this tells all there is
        began = clock()
        self._add(start, end, [item for _, item in sorted(self._objects.items())])
        took = clock() - began
        self._quiet_until = clock() + min(took * QUIET_FACTOR, READ_SECONDS) if took > CHEAP else 0.0
        self._known_since = start

    @abstractmethod
    def _add(self, start: Instant, end: Instant, found: list[Json]) -> None:
        """To the history: what was found, by name, at some moment between the two."""

    def _refused(self, what: str, error: KubeError) -> None:
        if error.status in (401, 403):
            self._cannot(f"the service account may not {what}: {error.message}")
        elif error.unserved or error.gone:
            self._cannot(f"cannot {what}: {error.message}; is its CRD installed?")

    def _cannot(self, problem: str) -> None:
        if self.problem != problem:
            self.problem = problem
            self._changed()


class Objects(Watcher):
    """A sample for each state of the selected objects, judged by an expression."""

    def __init__(
        self,
        means: Means,
        probe: Probe,
        look: KubernetesLook,
        history: History,
        said: Said,
        changed: Callable[[], None],
    ) -> None:
        fields = f"metadata.name={look.name}" if look.name else ""
        wanted = Selection(look.api_version, look.kind, str(look.selector or ""), fields)
        super().__init__(means, probe, wanted, history, changed)
        self._look = look
        self._said = said

    async def run(self, phase: float) -> None:
        if wrong := check_syntax(self._look.expression, self._look.sees()):
            self._cannot(f"expression: {wrong}")
            return
        await super().run(phase)

    def _add(self, start: Instant, end: Instant, found: list[Json]) -> None:
        message = self._judge(found)
        if self.history.add(Sample(start, end, message is None, message or "")):
            self._changed()

    def _judge(self, found: list[Json]) -> str | None:
        look = self._look
        if look.name and not found:
            return f"{look.kind} {look.name} does not exist"
        values: dict[str, Any] = {"object": found[0]} if look.name else {"objects": found}
        wrong = judge(look.expression, values)
        if wrong is None:
            self._said(values)
        return wrong


def is_older(version: str, known: str) -> bool:
    """Whether this resourceVersion comes before the other; those that are no numbers cannot be compared."""
    return version.isdecimal() and known.isdecimal() and int(version) < int(known)


def trimmed(item: Json) -> Json:
    """Without the records of who set which field: the bulk of many objects, and nothing to judge by."""
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    if annotations := metadata.get("annotations"):
        metadata["annotations"] = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    return {**item, "metadata": metadata}
