"""The prober pod of one run from which probes with vantage: Pod look: made anew where it goes, for it keeps nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Final

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.probes import Probe
from bounceback.api.status import FaultExperimentStatus
from bounceback.controller.attending import PASSING
from bounceback.controller.office import Office
from bounceback.engine.working import lookout_name
from bounceback.kube.client import Json, Kube
from bounceback.kube.watching import Backoff
from bounceback.recovery.remote import Reading, Remote
from bounceback.vehicles.containers import Ended, Waiting
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.prober_log import ProberPod, owner_of
from bounceback.vehicles.prober_pod import lookout_pod

CLOCK_EVERY: Final = 30.0
"""Seconds between two readings of the prober's clock, where it is another machine's: 100 ppm come to 3 ms in them."""


class ProberOutpost:
    """As recovery/remote.py wants it. `acting` is in the experiment's account."""

    def __init__(self, office: Office, acting: Kube, body: Json, run: str, spec: FaultExperimentSpec) -> None:
        self._office = office
        self._run = run
        self._namespace: str = body["metadata"]["namespace"]
        self._owner = owner_of(body)
        self._lasts = spec.deadline_seconds
        account = spec.service_account_name
        self._pod = ProberPod(acting, self._namespace, lookout_name(run), self._owner, account)
        self._clock: Reading | None = None

    async def look(self, probes: Mapping[str, Probe], remotes: Mapping[str, Remote]) -> None:
        """For as long as it is not cancelled."""
        backoff = Backoff(0.5, 10.0)
        while True:
            try:
                await self._look(probes, remotes)
            except Refused as refused:
                _tell(remotes, f"no prober pod can be made: {refused}")
            except PASSING:
                pass  # the API server has trouble of its own: what is not told meanwhile is told later, or is a gap
            await backoff.pause()

    async def remove(self, status: FaultExperimentStatus) -> None:
        if any(probe.vantage == "Pod" for check in status.checks for _, _, probe in check.spec.sections()):
            await self._pod.remove()

    async def _look(self, probes: Mapping[str, Probe], remotes: Mapping[str, Remote]) -> None:
        """Until its pod is gone. Raises Refused, KubeError, ClientError, TimeoutError."""
        self._office.leadership.check()
        now, settings = time.time(), self._office.settings
        body = lookout_pod(
            self._pod.name,
            probes,
            namespace=self._namespace,
            run=self._run,
            not_after=now + self._lasts,
            now=now,
            owner=self._owner,
            image=settings.image,
            pull_policy=settings.pull_policy,
        )
        await self._pod.make(body)
        self._clock = None
        async with self._keeping_time(), aclosing(self._pod.lines()) as told:
            async for line in told:
                match line:
                    case Waiting():
                        if line.hopeless:
                            _tell(remotes, f"the prober pod does not start: {line.words}")
                    case Ended():
                        await self._pod.remove()
                        return
                    case None:
                        return
                    case _:
                        await self._hear(line, remotes)

    async def _hear(self, line: Json, remotes: Mapping[str, Remote]) -> None:
        """What is no line that we know is passed over; nothing is told before its clock is known."""
        while self._clock is None:
            await self._read_clock()
        try:
            if (remote := remotes.get(line.get("probe", ""))) is not None:
                remote.hear(line, self._clock)
        except (KeyError, TypeError, ValueError):
            return

    @asynccontextmanager
    async def _keeping_time(self) -> AsyncIterator[None]:
        async def keep() -> None:
            while True:
                await asyncio.sleep(CLOCK_EVERY)
                await self._read_clock()

        keeping = asyncio.create_task(keep())
        try:
            yield
        finally:
            keeping.cancel()

    async def _read_clock(self) -> None:
        if self._clock is not None and self._clock.there.boot == self._clock.asked.boot:
            return
        if (clock := await self._pod.clock()) is None:
            await asyncio.sleep(0.5)
        else:
            self._clock = Reading(*clock)


def _tell(remotes: Mapping[str, Remote], problem: str) -> None:
    for remote in remotes.values():
        remote.tell(problem)
