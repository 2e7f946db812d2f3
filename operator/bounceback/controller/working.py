"""The prober pods of one run: made in the experiment's account's name, listened to, told to end, and taken away."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from bounceback.api.check_workload import CheckWorkload
from bounceback.api.status import CheckCopy, FaultExperimentStatus
from bounceback.api.workload_status import WORK_OVER, WorkState
from bounceback.controller.office import Office
from bounceback.engine.state import Work
from bounceback.engine.working import heard, prober_name, worked
from bounceback.kube.client import Json, Kube
from bounceback.types.outcome import Phase
from bounceback.vehicles.containers import Ended, Waiting
from bounceback.vehicles.control import offset
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.prober_log import ProberPod, owner_of
from bounceback.vehicles.prober_pod import prober_pod
from bounceback.workload.numbering import RUN_BITS


class Working:
    """`works` is what is seen of each prober, by check; `changed` is called when that changes.

    All of it can be done again, by another operator too: a pod is made once, under a name that follows from the run,
    and its log is read from its start.
    """

    def __init__(
        self, office: Office, acting: Kube, body: Json, run: str, account: str, changed: Callable[[], None]
    ) -> None:
        metadata = body["metadata"]
        self._office = office
        self._acting = acting
        self._account = account
        self._namespace = metadata["namespace"]
        self._run = run
        self._owner = owner_of(body)
        self._changed = changed
        self._works: dict[str, Work] = {}

    @property
    def seen(self) -> tuple[Work, ...]:
        return tuple(self._works.values())

    async def work(self, status: FaultExperimentStatus) -> None:
        """Have each prober there, and hear it to its end."""
        known = {each.check: each.state for each in status.workloads}
        async with asyncio.TaskGroup() as tasks:
            for check, workload in worked(status.checks):
                state = known.get(check.name, WorkState.STARTING)
                if state not in WORK_OVER:
                    fresh = status.phase is Phase.STEADY and state is WorkState.STARTING
                    tasks.create_task(self._see_through(check, workload, status.deadline_at or time.time(), fresh))

    async def end(self, status: FaultExperimentStatus) -> None:
        """No more operations are begun. One that does not answer is asked again, for as long as that is wanted."""
        for check, _ in worked(status.checks):
            work = self._works.get(check.name)
            if work is not None and not work.over and work.load_end is None:
                await self._pod(check).ask({"end": True})

    async def remove(self, status: FaultExperimentStatus) -> None:
        for check, _ in worked(status.checks):
            await self._pod(check).remove()

    def _pod(self, check: CheckCopy) -> ProberPod:
        name = prober_name(self._run, check.uid)
        return ProberPod(self._acting, self._namespace, name, self._owner, self._account)

    async def _see_through(self, check: CheckCopy, workload: CheckWorkload, until: float, fresh: bool) -> None:
        pod = self._pod(check)
        self._works.setdefault(check.name, Work(check.name))
        if fresh:
            try:
                await self._make(pod, workload, until)
            except Refused as refused:
                self._tell(check.name, refused=str(refused))
                return
        async with aclosing(pod.lines()) as told:
            async for line in told:
                match line:
                    case Waiting():
                        self._tell(check.name, waits=line.words)
                    case Ended():
                        self._tell(check.name, lost=f"its pod {pod.name} ended, and its ledger with it: {line.words}")
                    case None:
                        lost = f"its pod {pod.name} is not there any more: its ledger went with it"
                        self._tell(check.name, lost=lost)
                    case _:
                        await self._hear(check.name, pod, line)
                if self._works[check.name].over:
                    return

    async def _make(self, pod: ProberPod, workload: CheckWorkload, until: float) -> None:
        """Raises Refused, KubeError."""
        self._office.leadership.check()
        settings = self._office.settings
        body = prober_pod(
            pod.name,
            workload,
            run=self._run,
            number=1 + secrets.randbelow((1 << RUN_BITS) - 1),
            not_after=until,
            now=time.time(),
            owner=self._owner,
            account=self._account,
            image=settings.image,
            pull_policy=settings.pull_policy,
        )
        await pod.make(body)

    async def _hear(self, check: str, pod: ProberPod, line: Json) -> None:
        """What is no line that we know is passed over; its clock is measured once."""
        try:
            self._works[check] = heard(self._works[check], line)
        except (ValueError, KeyError, TypeError):
            return
        self._changed()
        work = self._works[check]
        if (
            work.began is not None
            and work.offset is None
            and not work.over
            and (clock := await pod.clock()) is not None
        ):
            self._tell(check, offset=offset(*clock))

    def _tell(self, check: str, **fields: Any) -> None:
        told = replace(self._works[check], **fields)
        if told != self._works[check]:
            self._works[check] = told
            self._changed()
