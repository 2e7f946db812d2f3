"""Targets that come and go: which pods took whose place, how often containers were started again, who is hit next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Final

from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.status import InjectionStatus
from bounceback.controller.attending import PASSING
from bounceback.controller.carry import Injections
from bounceback.controller.office import Office
from bounceback.controller.way import Way
from bounceback.engine.following import MOST_FOLLOWED, ends_at, gap, replacements
from bounceback.engine.model import PodInfo
from bounceback.engine.planning import NOTHING_FOUND, Preparation
from bounceback.kube.resources import PODS
from bounceback.kube.watching import mirror
from bounceback.types.instants import Instant
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.owners import Owners
from bounceback.vehicles.pods import pod_info

AGAIN: Final = 1.0
"""Seconds between two looks where nothing is told, and until what failed for a passing reason is tried again."""
Prepare = Callable[[FaultTiming, str, PodInfo], Awaitable[Preparation]]
log = logging.getLogger(__name__)


class Following(Way):
    """One entry of a run. `more` and `missed` are for the engine: what is to be planned, and who cannot be hit."""

    def __init__(
        self,
        office: Office,
        namespace: str,
        spec: FaultExperimentSpec,
        entry: FaultTiming,
        injections: Injections,
        bystanders: Sequence[str],
        prepare: Prepare,
    ) -> None:
        target = next(t.pods for t in spec.targets if t.name == entry.target)
        assert target is not None
        self._namespace = namespace
        self._spec = spec
        self._entry = entry
        self._selector = str(target.selector)
        self._injections = injections
        self._bystanders = frozenset(bystanders)  # matched at the start, and were not chosen
        self._prepare = prepare
        self._acting = office.kube.acting_as(namespace, spec.service_account_name)
        self._owners = Owners(self._acting, namespace)
        self._pods: list[PodInfo] = []
        self._news = asyncio.Event()
        self.more = NOTHING_FOUND
        self.missed: dict[str, str] = {}  # by the pod's UID

    async def carry(self) -> None:
        """Never ends by itself: pods are looked at for as long as anything may still become of the run."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._keep_up())

    async def _watch(self) -> None:
        async with aclosing(mirror(self._acting, PODS, self._namespace, labels=self._selector)) as told:
            async for pods in told:
                self._pods = [pod_info(pod) for pod in pods]
                self._news.set()

    async def _keep_up(self) -> None:
        while True:
            with suppress(TimeoutError):  # injections change, too, and nobody tells of these
                async with asyncio.timeout(AGAIN):
                    await self._news.wait()
            self._news.clear()
            try:
                await self._look()
            except PASSING as error:
                log.info("replacements for %s: %s", self._entry.name, error)
                await asyncio.sleep(AGAIN)
                self._news.set()

    async def _look(self) -> None:
        self._learn_restarts()
        self._learn_gaps()
        mine = self._mine()
        roots = {pod.uid: await self._owners.root(pod) for pod in self._pods if pod.running}
        found = replacements(mine, self._pods, roots, self._bystanders | self.missed.keys())
        if self._entry.follow_replacements and found:
            await self._follow(mine, found)
        for gone, pod in found:
            self._injections.learn([gone.name], lambda i, pod=pod: _replaced(i, pod))  # type: ignore[misc]

    async def _follow(self, mine: Sequence[InjectionStatus], found: Sequence[tuple[InjectionStatus, PodInfo]]) -> None:
        """Have them planned, each by itself: what speaks against one does not speak against the others."""
        rest = ends_at(self._spec, self._entry, mine) - Instant.now().utc
        followed = sum(bool(i.replaces) for i in mine)
        if rest < 1:
            return
        entry = self._entry
        if not any(i.waiting for i in mine):
            at_once = {"start_after_seconds": 0, "start_when": None, "duration_seconds": int(rest)}
            entry = entry.model_copy(update=at_once)
        able = []
        for number, (gone, pod) in enumerate(found, followed + 1):
            if number > MOST_FOLLOWED:
                self.missed[pod.uid] = (
                    f"{pod.name}, which took the place of {gone.pod}: {MOST_FOLLOWED} were hit already"
                )
                continue
            try:
                able.append(await self._prepare(entry, gone.name, pod))
            except Refused as refused:
                self.missed[pod.uid] = f"{pod.name}, which took the place of {gone.pod}: {refused.message}"
        exempt: dict[str, tuple[str, ...]] = {}
        for each in (self.more, *able):
            exempt |= each.exempt
        known = {i.pod_uid for i in mine}
        waiting = [c for c in self.more.chosen if c.on.uid not in known]
        self.more = Preparation((*waiting, *(c for each in able for c in each.chosen)), exempt=exempt)

    def _learn_restarts(self) -> None:
        counted: Mapping[str, int] = {pod.uid: pod.restarts for pod in self._pods}
        there = [i for i in self._mine() if i.pod_uid in counted]
        names = [i.name for i in there if i.restarts is None or counted[i.pod_uid] - i.restarts_before > i.restarts]
        self._injections.learn(names, lambda i: _restarted(i, counted[i.pod_uid]))

    def _learn_gaps(self) -> None:
        now, by_name = Instant.now(), {i.name: i for i in self._mine()}
        for each in by_name.values():
            if each.replaces in by_name and each.gap_milliseconds is None:
                found = gap(each, by_name[each.replaces], now)
                if found is not None:
                    self._injections.learn([each.name], lambda i, found=found: _with_gap(i, found))  # type: ignore[misc]

    def _mine(self) -> list[InjectionStatus]:
        return [i for i in self._injections.all() if i.fault == self._entry.name]


def _replaced(injection: InjectionStatus, by: PodInfo) -> InjectionStatus:
    return injection.model_copy(update={"replaced_by": by.name})


def _restarted(injection: InjectionStatus, counted: int) -> InjectionStatus:
    return injection.model_copy(update={"restarts": counted - injection.restarts_before})


def _with_gap(injection: InjectionStatus, milliseconds: int) -> InjectionStatus:
    return injection.model_copy(update={"gap_milliseconds": milliseconds})
