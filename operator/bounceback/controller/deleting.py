"""Pods that have to go: the requests, and the watch that sees them go."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import Final

import aiohttp

from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.status import InjectionStatus, Moment
from bounceback.controller.carry import Injections
from bounceback.controller.office import Office
from bounceback.controller.way import Way
from bounceback.engine.changing import never_begun
from bounceback.engine.evidence import DONE
from bounceback.engine.model import PodInfo
from bounceback.engine.planning import NOTHING_FOUND, Chosen, Preparation
from bounceback.engine.targets import choose
from bounceback.faults import PodRemoval
from bounceback.faults.node_drain import NodeDrain
from bounceback.kube import KubeError
from bounceback.kube.resources import PODS
from bounceback.kube.watching import mirror
from bounceback.types.instants import Instant
from bounceback.types.outcome import NOT_STARTED, Cleanup, InjectionState, VehicleKind
from bounceback.types.plan import Rung
from bounceback.vehicles.errors import BUDGET, DeletionRefused, Refused
from bounceback.vehicles.pod_delete import Asked, delete_pods
from bounceback.vehicles.pods import list_pods

PASSING: Final = (KubeError, aiohttp.ClientError, TimeoutError)
ASK_AGAIN: Final = 2.0
"""Seconds until a budget that kept a pod is asked again; `kubectl drain` takes 5."""
log = logging.getLogger(__name__)


class Deleting(Way):
    """One podDelete or podEvict entry of a run. A pod goes by its UID: its replacement never does by mistake."""

    def __init__(
        self, office: Office, namespace: str, spec: FaultExperimentSpec, entry: FaultTiming, injections: Injections
    ) -> None:
        target = next(t.pods for t in spec.targets if t.name == entry.target)
        assert isinstance(entry.fault, PodRemoval | NodeDrain)
        self._office = office
        self._entry = entry
        self._fault = entry.fault.eviction if isinstance(entry.fault, NodeDrain) else entry.fault
        self._namespace = namespace
        self._spec = spec
        self._target = target
        self._acting = office.kube.acting_as(namespace, spec.service_account_name)
        self._injections = injections
        self._follows = entry.follow_replacements
        self._ask_again = 0.0
        self._stopping = False
        self._present: set[str] | None = None  # UIDs of the pods that match; None: not listed yet
        self.more = NOTHING_FOUND  # who is next, for the engine to plan

    async def carry(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._see_who_is_there())
            await self._delete_when_due()
            watching.cancel()

    async def stop(self) -> None:
        """Those that nobody has asked to go yet stay."""
        self._stopping = True
        planned = [i.name for i in self._mine() if i.state is InjectionState.PLANNED]
        self._injections.learn(planned, lambda each: never_begun(each, Instant.now()))

    def _mine(self) -> list[InjectionStatus]:
        return [i for i in self._injections.all() if i.fault == self._entry.name and i.object is None]

    def _may_go(self, injection: InjectionStatus) -> bool:
        """Not once the run is being ended, nor from a node that takes pods yet: what comes instead might come there."""
        if self._stopping:
            return False
        if not isinstance(self._entry.fault, NodeDrain):
            return True
        nodes = (i for i in self._injections.all() if i.fault == self._entry.name and i.object is not None)
        return any(i.node == injection.node and i.in_force_at is not None for i in nodes)

    async def _delete_when_due(self) -> None:
        """Until every planned one is gone and no further round is due."""
        await self._injections.until(lambda _: not any(self._injections.waits(i) for i in self._mine()))
        if self._mine() and all(i.reason == NOT_STARTED for i in self._mine()):
            return
        first = min((i.start_at for i in self._mine()), default=Instant.now().utc)
        ends = first + self._entry.duration_seconds
        lasts = self._follows or self._fault.every_seconds is not None  # more may come until it ends
        rounds = self._rounds(first)
        next_round = next(rounds, ends)
        while True:
            now = Instant.now().utc
            planned = [i for i in self._mine() if i.state is InjectionState.PLANNED and i.start_at <= now]
            due = [i for i in planned if self._may_go(i)]
            await self._delete(due, last=now >= ends)
            self._see_them_go()
            if (now >= ends or self._stopping or not lasts) and self._all_done():
                return
            if next_round <= now < ends:
                next_round = next((at for at in rounds if at > now), ends)  # what was slept through is not made up for
                self.more = Preparation(await self._next())
            await asyncio.sleep(0.2)

    def _all_done(self) -> bool:
        """Of those, too, that the engine has yet to plan."""
        mine = self._mine()
        waiting = {choice.on.uid for choice in self.more.chosen} - {i.pod_uid for i in mine}
        return (self._stopping or not waiting) and all(i.state in DONE for i in mine)

    def _rounds(self, first: float) -> Iterator[float]:
        """UTC seconds of the second round and those that follow."""
        repeat = self._fault.repeat(self._entry.name, self._entry.choice())
        return (first + after for after in repeat.times()) if repeat else iter(())

    async def _delete(self, due: Sequence[InjectionStatus], *, last: bool) -> None:
        """Those that a budget keeps are asked for again, until the fault's time is over (`last`)."""
        if not due or (time.monotonic() < self._ask_again and not last):
            return
        self._office.leadership.check()
        pods = [_pod(i, self._namespace) for i in due]
        try:
            grace = self._fault.grace_period_seconds
            asked = await delete_pods(self._acting, pods, grace, by_leave=self._fault.asks)
        except DeletionRefused as refused:
            asked = Asked(refused.deleted, {})
            self._failed(due, {pod.uid for pod, _ in asked.going}, refused)
        except PASSING as error:
            log.info("%s not deleted yet: %s", ", ".join(p.name for p in pods), error)
            return
        for pod, at in asked.going:
            names = [i.name for i in due if i.pod_uid == pod.uid]
            self._injections.learn(names, lambda injection, at=at: _asked(injection, at))  # type: ignore[misc]
        known = {pod.uid for pod, _ in asked.going} | set(asked.kept)
        self._injections.learn([i.name for i in due if i.pod_uid not in known], _already_gone)
        for uid, message in asked.kept.items():
            self._ask_again = time.monotonic() + ASK_AGAIN
            kept = [i.name for i in due if i.pod_uid == uid]
            self._injections.learn(kept, lambda i, message=message: _kept(i, message, last))  # type: ignore[misc]

    def _failed(self, due: Sequence[InjectionStatus], deleted: set[str], refused: Refused) -> None:
        names = [i.name for i in due if i.pod_uid not in deleted]
        self._injections.learn(names, lambda injection: _refused(injection, refused))

    async def _see_who_is_there(self) -> None:
        selector = str(self._target.selector) if self._target else ""
        async with aclosing(mirror(self._acting, PODS, self._namespace, labels=selector)) as told:
            async for pods in told:
                self._present = {pod["metadata"]["uid"] for pod in pods}
                self._see_them_go()

    def _see_them_go(self) -> None:
        """Those that were asked to go and are not there any more, as far as the watch has come."""
        if self._present is not None:
            asked = [i for i in self._mine() if i.state is InjectionState.ACTIVE]
            self._injections.learn([i.name for i in asked if i.pod_uid not in self._present], _gone)

    async def _next(self) -> tuple[Chosen, ...]:
        """The pods that the target selects now, without those that were deleted already."""
        assert self._target is not None  # a drain has no rounds
        try:
            found = await list_pods(self._acting, self._namespace, self._target.selector)
        except PASSING as error:
            log.info("no further round of %s yet: %s", self._entry.name, error)
            return ()
        gone = {i.pod_uid for i in self._mine()}
        fresh = [pod for pod in found if pod.uid not in gone]
        chosen = choose(fresh, self._target, self._spec.seed, self._entry.target)
        entry = self._entry.model_copy(update={"start_after_seconds": 0, "start_when": None})
        return tuple(Chosen(entry, pod, VehicleKind.POD_DELETE, "a further round", Rung.API) for pod in chosen)


def _pod(injection: InjectionStatus, namespace: str) -> PodInfo:
    return PodInfo(namespace, injection.pod, injection.pod_uid, injection.node, {}, (), False, True, 0, None)


def _asked(injection: InjectionStatus, at: Instant) -> InjectionStatus:
    if injection.state is not InjectionState.PLANNED:
        return injection
    return injection.model_copy(
        update={"state": InjectionState.ACTIVE, "in_force_at": Moment.of(at), "clock_offset_milliseconds": 0}
    )


def _gone(injection: InjectionStatus) -> InjectionStatus:
    """Seen to go after it was asked to: that is the hit. One that went before was not ours."""
    if injection.state in DONE:
        return injection
    now = Moment.of(Instant.now())
    ours = injection.in_force_at is not None
    return injection.model_copy(
        update={
            "state": InjectionState.CLEARED,
            "reason": "PodDeleted" if ours else "TargetGone",
            "message": "",
            "hits": 1 if ours else 0,
            "first_hit_at": injection.in_force_at,
            "cleared_at": now,
            "clock_offset_milliseconds": 0,
            "cleanup": Cleanup.CLEAN,
        }
    )


def _kept(injection: InjectionStatus, message: str, last: bool) -> InjectionStatus:
    """Its budget does not let it go: it is asked for again, until the fault's time is over and it was not hit."""
    if injection.state is not InjectionState.PLANNED:
        return injection
    told = injection.model_copy(update={"reason": BUDGET, "message": message[:512]})
    over = {
        "state": InjectionState.CLEARED,
        "cleared_at": Moment.of(Instant.now()),
        "clock_offset_milliseconds": 0,
        "cleanup": Cleanup.CLEAN,
    }
    return told.model_copy(update=over) if last else told


def _already_gone(injection: InjectionStatus) -> InjectionStatus:
    """Nobody there by that UID: deleted by an operator before us (it was asked then), or by somebody else."""
    return _gone(injection) if injection.state is InjectionState.PLANNED else injection


def _refused(injection: InjectionStatus, refused: Refused) -> InjectionStatus:
    return injection.model_copy(
        update={
            "state": InjectionState.FAILED,
            "reason": refused.reason,
            "message": refused.message[:512],
            "cleanup": Cleanup.CLEAN,
        }
    )
