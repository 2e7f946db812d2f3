"""Pods that are deleted: the requests, and the watch that sees them go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

import aiohttp

from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.status import InjectionStatus, Moment
from bounceback.controller.carry import Injections
from bounceback.controller.office import Office
from bounceback.controller.way import Way
from bounceback.engine.evidence import DONE
from bounceback.engine.model import PodInfo
from bounceback.engine.planning import Chosen
from bounceback.engine.targets import choose
from bounceback.faults import PodRemoval
from bounceback.kube import KubeError
from bounceback.kube.resources import PODS
from bounceback.kube.watching import mirror
from bounceback.types.instants import Instant
from bounceback.types.outcome import Cleanup, InjectionState, VehicleKind
from bounceback.types.plan import Rung
from bounceback.vehicles.errors import DeletionRefused, Refused
from bounceback.vehicles.pod_delete import delete_pods
from bounceback.vehicles.pods import list_pods

PASSING: Final = (KubeError, aiohttp.ClientError, TimeoutError)
log = logging.getLogger(__name__)


class Deleting(Way):
    """One podDelete entry of a run. A pod is deleted by UID: its replacement never is by mistake."""

    def __init__(
        self, office: Office, namespace: str, spec: FaultExperimentSpec, entry: FaultTiming, injections: Injections
    ) -> None:
        target = next(t.pods for t in spec.targets if t.name == entry.target)
        assert isinstance(entry.fault, PodRemoval) and target is not None
        self._office = office
        self._entry = entry
        self._fault = entry.fault
        self._namespace = namespace
        self._spec = spec
        self._target = target
        self._acting = office.kube.acting_as(namespace, spec.service_account_name)
        self._injections = injections
        self._present: set[str] | None = None  # UIDs of the pods that match; None: not listed yet
        self.more: tuple[Chosen, ...] = ()  # who is next, for the engine to plan

    async def carry(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._see_who_is_there())
            await self._delete_when_due()
            watching.cancel()

    def _mine(self) -> list[InjectionStatus]:
        return [i for i in self._injections.all() if i.fault == self._entry.name]

    async def _delete_when_due(self) -> None:
        """Until every planned one is gone and no further round is due."""
        first = min((i.start_at for i in self._mine()), default=Instant.now().utc)
        ends = first + self._entry.duration_seconds
        next_round = first + (self._fault.every_seconds or 0)
        while True:
            now = Instant.now().utc
            due = [i for i in self._mine() if i.state is InjectionState.PLANNED and i.start_at <= now]
            await self._delete(due)
            self._see_them_go()
            repeats = self._fault.every_seconds is not None and now < ends
            if not repeats and all(i.state in DONE for i in self._mine()):
                return
            if repeats and now >= next_round:
                next_round += self._fault.every_seconds or 0
                self.more = await self._next()
            await asyncio.sleep(0.2)

    async def _delete(self, due: Sequence[InjectionStatus]) -> None:
        if not due:
            return
        self._office.leadership.check()
        pods = [_pod(i, self._namespace) for i in due]
        try:
            deleted = await delete_pods(self._acting, pods, self._fault.grace_period_seconds)
        except DeletionRefused as refused:
            deleted = refused.deleted
            self._failed(due, {pod.uid for pod, _ in deleted}, refused)
        except PASSING as error:
            log.info("%s not deleted yet: %s", ", ".join(p.name for p in pods), error)
            return
        for pod, at in deleted:
            names = [i.name for i in due if i.pod_uid == pod.uid]
            self._injections.learn(names, lambda injection, at=at: _asked(injection, at))  # type: ignore[misc]
        unasked = [i.name for i in due if i.pod_uid not in {pod.uid for pod, _ in deleted}]
        self._injections.learn(unasked, _already_gone)

    def _failed(self, due: Sequence[InjectionStatus], deleted: set[str], refused: Refused) -> None:
        names = [i.name for i in due if i.pod_uid not in deleted]
        self._injections.learn(names, lambda injection: _refused(injection, refused))

    async def _see_who_is_there(self) -> None:
        selector = str(self._target.selector)
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
        try:
            found = await list_pods(self._acting, self._namespace, self._target.selector)
        except PASSING as error:
            log.info("no further round of %s yet: %s", self._entry.name, error)
            return ()
        gone = {i.pod_uid for i in self._mine()}
        fresh = [pod for pod in found if pod.uid not in gone]
        chosen = choose(fresh, self._target, self._spec.seed, self._entry.target)
        entry = self._entry.model_copy(update={"start_after_seconds": 0})
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
            "hits": 1 if ours else 0,
            "first_hit_at": injection.in_force_at,
            "cleared_at": now,
            "clock_offset_milliseconds": 0,
            "cleanup": Cleanup.CLEAN,
        }
    )


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
