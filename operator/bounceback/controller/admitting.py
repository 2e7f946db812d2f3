"""Faults by admission: injections that last while the API server asks us about writes, and we answer."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import aiohttp

from bounceback.api.experiment import FaultTiming
from bounceback.api.status import InjectionStatus
from bounceback.controller.admitted import OnPod
from bounceback.controller.carry import Injections
from bounceback.controller.office import Office
from bounceback.controller.way import Way
from bounceback.engine import admission
from bounceback.engine.evidence import DONE
from bounceback.faults.client_fault import ClientFault
from bounceback.kube import KubeError
from bounceback.kube.client import Json
from bounceback.types.instants import Instant
from bounceback.types.outcome import Cleanup, InjectionState
from bounceback.types.plan import Rung
from bounceback.vehicles.admission import lead

PASSING: Final = (KubeError, aiohttp.ClientError, TimeoutError)
TURN_SECONDS: Final = 0.1
STAND_EVERY: Final = 60.0
LEAVE_SECONDS: Final = 2.0
log = logging.getLogger(__name__)


async def stand_for(office: Office) -> None:
    """Have the API server's questions come to this replica, and take away those of experiments that are gone.

    For ever, now and then: a pod that is made anew has not got the label.
    """
    settings = office.settings
    try:
        await _stand(office)
    finally:
        with suppress(*PASSING):
            async with asyncio.timeout(LEAVE_SECONDS):
                await lead(office.kube, settings.namespace, settings.identity, leads=False)


async def _stand(office: Office) -> None:
    settings = office.settings
    while True:
        try:
            await lead(office.kube, settings.namespace, settings.identity, leads=True)
            known = {uid for uid, _, _ in await office.journal.all()}
            gone = [name for name in await office.webhooks.names() if admission.run_of(name) not in known]
            office.leadership.check()
            if gone:
                await office.webhooks.remove(*gone)
                log.warning("webhooks of experiments that are gone were taken away: %s", ", ".join(gone))
        except PASSING as error:
            log.warning("admission: %s", error)
        await asyncio.sleep(STAND_EVERY)


class Admitting(Way):
    """One fault of a run that is carried out by admission."""

    def __init__(self, office: Office, namespace: str, run: str, entry: FaultTiming, injections: Injections) -> None:
        assert isinstance(entry.fault, ClientFault)
        self._office = office
        self._admitted = office.admitted
        self._namespace = namespace
        self._run = run
        self._entry = entry
        self._rule = entry.fault.rule(entry.name, entry.choice())
        self._injections = injections

    async def carry(self) -> None:
        """Until all of them are over and nobody is asked about them any more."""
        while True:
            mine = self._mine()
            await self._begin([i for i in mine if i.state is InjectionState.PLANNED])
            self._count()
            self._end_those_over()
            if all(i.state in DONE for i in self._mine()):
                await self.verify()
                return
            await asyncio.sleep(TURN_SECONDS)

    async def stop(self) -> None:
        """At once, whatever is in force or planned."""
        self._count()
        now = Instant.now()
        for injection in self._mine():
            self._admitted.end(self._run, self._entry.name, injection.pod_uid)
            stopped = injection.state is InjectionState.ACTIVE
            self._learn(
                injection,
                lambda each, stopped=stopped: (
                    admission.over(each, "Stopped", now)
                    if stopped
                    else admission.failed(each, "Stopped", "ended before it was due")
                ),
            )
        await self.verify()

    async def verify(self) -> None:
        """Take the webhook away, and look that it is gone."""
        name = admission.webhook_name(self._run, self._entry.name)
        if not any(i.cleanup is Cleanup.UNVERIFIED for i in self._mine()):
            return
        await self._office.webhooks.remove(name)
        left = name in await self._office.webhooks.names()
        for injection in self._mine():
            self._learn(injection, lambda each: admission.looked(each, left))

    async def remove(self) -> None:
        """Once more, whatever was seen of it before."""
        if self._mine():
            await self._office.webhooks.remove(admission.webhook_name(self._run, self._entry.name))

    def _mine(self) -> list[InjectionStatus]:
        return [i for i in self._injections.all() if i.fault == self._entry.name and i.rung is Rung.ADMISSION]

    def _learn(self, injection: InjectionStatus, change: Any) -> None:
        self._injections.learn([injection.name], change)

    async def _begin(self, planned: Sequence[InjectionStatus]) -> None:
        """Those that are due; and, after an operator before us, those that were in force."""
        now = Instant.now()
        for injection in self._mine():
            if injection.state is InjectionState.ACTIVE:
                self._answer_for(injection)
        due = [i for i in planned if i.start_at <= now.utc and not self._injections.waits(i)]
        for late in (i for i in due if now.utc > i.start_before):
            self._learn(late, lambda each: admission.failed(each, "TooLate", "its last moment to start had passed"))
        due = [i for i in due if now.utc <= i.start_before]
        if not due:
            return
        self._office.leadership.check()
        for injection in due:
            self._answer_for(injection)
        try:
            await self._office.webhooks.put(self._webhook([i.pod_uid for i in self._mine()]))
        except PASSING as error:
            if isinstance(error, KubeError) and not error.passing:
                for each in due:
                    self._learn(each, lambda i, said=str(error): admission.failed(i, "WebhookRefused", said))
            log.info("%s is not in force yet: %s", self._entry.name, error)
            return
        at = Instant.now()
        for injection in due:
            self._learn(injection, lambda each: admission.in_force(each, at))

    def _answer_for(self, injection: InjectionStatus) -> None:
        if self._admitted.on(self._run, self._entry.name, injection.pod_uid) is None:
            on = OnPod(self._rule, injection.not_after, injection.hits)
            self._admitted.begin(self._run, self._entry.name, injection.pod_uid, on)

    def _webhook(self, pods: Sequence[str]) -> Json:
        settings = self._office.settings
        client = {
            "service": {"name": settings.admission, "namespace": settings.namespace, "port": 443},
            "caBundle": base64.b64encode(self._admitted.authorities).decode(),
        }
        return admission.webhook(self._run, self._entry.name, self._namespace, pods, self._rule, client)

    def _count(self) -> None:
        for injection in self._mine():
            on = self._admitted.on(self._run, self._entry.name, injection.pod_uid)
            if on is not None:
                self._learn(injection, lambda each, on=on: admission.counted(each, on.hits, on.first))

    def _end_those_over(self) -> None:
        now = Instant.now()
        for injection in self._mine():
            if injection.state is not InjectionState.ACTIVE or injection.in_force_at is None:
                continue
            lasted = now.since(injection.in_force_at.instant())
            if lasted >= self._entry.duration_seconds or now.utc >= injection.not_after:
                why = "Duration" if lasted >= self._entry.duration_seconds else "NotAfter"
                self._admitted.end(self._run, self._entry.name, injection.pod_uid)
                self._learn(injection, lambda each, why=why: admission.over(each, why, now))
