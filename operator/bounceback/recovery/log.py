"""Lines that pods write to their logs while we look, read on from where the last reading ended.

The kubelet stamps each line with the time at which the container wrote it, to the nanosecond, and these stamps alone
say what is new: no clock of ours is held against the node's. A reading that ends without a line proves that none was
there when it began, which silence on a followed log does not. The log of a container that died is read to its end: the
one after it may be read before the status says that there is one, so what was read of either is told apart by stamps.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bounceback.api.looks_inside import LogLook
from bounceback.api.probes import Probe
from bounceback.engine.samples import History
from bounceback.kube.client import Json
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import PODS
from bounceback.kube.watching import Backoff
from bounceback.recovery.errors import CannotLookError
from bounceback.recovery.judging import Said, Values, judge
from bounceback.recovery.looks import json_or_none
from bounceback.recovery.means import Means
from bounceback.recovery.moments import Moments
from bounceback.recovery.objects import FIRST_PAUSE, LONGEST_PAUSE, UNANSWERED, reading_period
from bounceback.recovery.pods import cannot, chosen_pods, first_container
from bounceback.types.instants import Instant

MOST_PODS: Final = 50
MOST_BYTES: Final = 1024 * 1024
"""Of one log in one reading; the next one goes on from there."""
_STAMP: Final = re.compile(r"([^.Z+]*)(?:\.(\d+))?")
MOST_TOLD: Final = 20
"""Lines of one reading that are asked what they say."""


@dataclass(slots=True)
class Place:
    """How far a container's logs were read: all up to `known`, and all from `first` to `newest`; "" for the start."""

    restarts: int
    newest: str = ""  # the stamp of the newest line
    first: str = ""
    known: str = ""

    @property
    def since(self) -> str:
        """From where the log of the container before is still to be read."""
        return self.known if sortable(self.known) < sortable(self.first) else self.newest

    def is_new(self, stamp: str) -> bool:
        moment = sortable(stamp)
        return moment > sortable(self.newest) or sortable(self.known) < moment < sortable(self.first)


class Lines:
    """Reads the logs every period, and adds to the history what they say."""

    def __init__(
        self, means: Means, probe: Probe, look: LogLook, history: History, said: Said, changed: Callable[[], None]
    ) -> None:
        self.history = history
        self.problem: str | None = None
        self._means = means
        self._look = look
        self._changed = changed
        self._timeout = probe.timeout_milliseconds / 1000
        self._period = reading_period(probe)
        self._moments = Moments(history, look.absent_seconds, "no such line", said, changed)
        self._places: dict[str, Place] = {}  # by the pod's UID
        self._known_since: Instant | None = None  # the start of the newest reading; None: nothing was read yet

    async def run(self, phase: float) -> None:
        """For ever; cancel to end."""
        clock = asyncio.get_running_loop().time
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        await asyncio.sleep(phase)
        while True:
            due = clock() + self._period
            try:
                async with asyncio.timeout(self._timeout):
                    await self._read_all()
            except KubeError as error:
                self._tell(None if error.passing else str(cannot("read logs", error)))
                await backoff.pause()
            except CannotLookError as error:
                self._tell(str(error))
            except UNANSWERED:
                await backoff.pause()
            else:
                self._tell(None)
                backoff.reset()
            await asyncio.sleep(due - clock())

    async def _read_all(self) -> None:
        start = Instant.now()
        pods = await chosen_pods(self._means, self._look.pods)
        if len(pods) > MOST_PODS:
            raise CannotLookError(f"{self._look.pods}: {len(pods)}, more than {MOST_PODS}; narrow the selector")
        places = {pod["metadata"]["uid"]: self._place(pod) for pod in pods}
        found = await asyncio.gather(*(self._read(pod, places[pod["metadata"]["uid"]]) for pod in pods))
        since, self._known_since = self._known_since, start
        self._places = places
        end = Instant.now()
        if not pods and self._look.absent_seconds is not None:
            self._moments.missing(start, end, f"{self._look.pods}: there is none")
        else:
            lines = [values for each in found for values in each]
            self._moments.record(since or start, start, end, lines[:MOST_TOLD] if since else [])

    def _place(self, pod: Json) -> Place:
        known = self._places.get(pod["metadata"]["uid"])
        return replace(known) if known else Place(self._restarts(pod))

    def _restarts(self, pod: Json) -> int:
        name = self._look.container or first_container(pod)
        statuses = pod.get("status", {}).get("containerStatuses") or []
        return next((each["restartCount"] for each in statuses if each["name"] == name), 0)

    async def _read(self, pod: Json, place: Place) -> list[Values]:
        """What is new and meant. Moves the place on."""
        lines: list[str] = []
        restarts = self._restarts(pod)
        if restarts > place.restarts:
            lines += await self._lines(pod, place, previous=True)
        lines += await self._lines(pod, place, previous=False)
        if restarts > place.restarts or self._known_since is None:
            place.restarts, place.known = restarts, place.first
        return list(self._meant(str(pod["metadata"]["name"]), lines))

    async def _lines(self, pod: Json, place: Place, *, previous: bool) -> list[str]:
        query = {"container": self._look.container or first_container(pod), "timestamps": "true"}
        if since := place.since if previous else place.newest:
            query |= {"sinceTime": since, "limitBytes": str(MOST_BYTES)}
        elif self._known_since is None:
            query |= {"tailLines": "1"}  # of what was there before only where it ends
        else:
            query |= {"limitBytes": str(MOST_BYTES)}
        if previous:
            query["previous"] = "true"
        path = PODS.path(self._means.namespace, pod["metadata"]["name"], "log")
        try:
            text = await self._means.acting.raw("GET", path, query=query, seconds=self._timeout)
        except KubeError as error:
            if error.gone or error.status == 400:  # the pod went, or its container has not started or left no log
                return []
            raise
        before = place.newest
        found = list(newer(text.decode(errors="replace"), place, previous=previous))
        if len(text) >= MOST_BYTES and place.newest == before and not previous:
            place.newest = next_second(before)  # more than fits in a second, and the API knows none smaller
        return found

    def _meant(self, pod: str, lines: list[str]) -> Iterator[dict[str, Any]]:
        for line in lines:
            if self._look.contains and self._look.contains not in line:
                continue
            found = json_or_none(line) if line.startswith("{") else None
            values = {"line": line, "json": found if isinstance(found, dict) else None, "pod": pod}
            if self._look.expression is None or judge(self._look.expression, values) is None:
                yield values

    def _tell(self, problem: str | None) -> None:
        if self.problem != problem:
            self.problem = problem
            self._changed()


def newer(text: str, place: Place, *, previous: bool) -> list[str]:
    """The lines, without their stamps, that were not read yet; the place moves on with them.

    A log that goes on has the newest line that is known: the API knows whole seconds, and repeats the last one. One
    without it is of another container, and the end of the log before it is still to be read.
    One without an end was cut off by the limit, and is read again.
    """
    stamped = [(stamp, line) for stamp, space, line in (each.partition(" ") for each in text.split("\n")[:-1]) if space]
    found = [(stamp, line) for stamp, line in stamped if place.is_new(stamp)]
    if found and not previous and place.newest not in {stamp for stamp, _ in stamped}:
        place.known, place.first = place.newest, found[0][0]
    place.newest = max([place.newest, *(stamp for stamp, _ in found)], key=sortable)
    return [line for _, line in found]


def sortable(stamp: str) -> tuple[str, str]:
    """Of RFC 3339 all nine digits of a fraction: zeros at its end are left out by who writes it."""
    whole, digits = _STAMP.match(stamp).groups("")  # type: ignore[union-attr]  # it matches whatever there is
    return whole, f"{digits:0<9}"


def next_second(stamp: str) -> str:
    moment = datetime.fromisoformat(sortable(stamp)[0]).replace(tzinfo=UTC) + timedelta(seconds=1)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
