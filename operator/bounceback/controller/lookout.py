"""One check that watches by itself: look, decide, and write down what must not be lost."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Final

import aiohttp

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.check_status import ContinuousStatus, RecoveryCheckStatus, Watched
from bounceback.controller import metrics
from bounceback.controller.causes import Causes
from bounceback.controller.copying import can_look
from bounceback.controller.office import Office
from bounceback.controller.pacing import Pace
from bounceback.controller.resources import FencedError, GoneError
from bounceback.engine.conditions import Obstacle, of_watching, says_so
from bounceback.engine.outages import NOBODY_LOOKS, begun, follow, resting, taken_up
from bounceback.engine.reading import Seen
from bounceback.engine.samples import History
from bounceback.engine.telling import happenings, news_of
from bounceback.kube import KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import CHECKS
from bounceback.kube.watching import Backoff
from bounceback.recovery.secrets import Secrets
from bounceback.recovery.watching import Watching
from bounceback.types.instants import Instant
from bounceback.vehicles.errors import Refused

CLOSE_LOOK, CALM_LOOK = 1.0, 5.0
"""Seconds until the histories are read again at the latest: where something is amiss, and else."""
BREATH: Final = 0.1
"""Seconds between two readings at least, however often a probe changes its mind."""
SETTLING: Final = 10.0
"""Seconds from the start in which it is no news that nobody has looked yet."""
PAUSE: Final = 5.0
"""Seconds until what could not be written is tried again."""
FIRST_TRY, LONGEST_TRY = 2.0, 60.0
PASSING: Final = (KubeError, aiohttp.ClientError, TimeoutError)
log = logging.getLogger(__name__)


class Lookout:
    """From what its status says on, for as long as `keep` is not cancelled or told to `stop`.

    Raises FencedError where another operator has written meanwhile, GoneError where the check is not there any more.
    """

    def __init__(self, office: Office, causes: Causes, body: Json, spec: RecoveryCheckSpec) -> None:
        metadata = body["metadata"]
        self._office = office
        self._causes = causes
        self._body = body
        self._spec = spec
        self._namespace, self._name = metadata["namespace"], metadata["name"]
        self._generation = metadata.get("generation", 0)
        self._acting = office.kube.acting_as(self._namespace, spec.service_account_name)
        self._news = asyncio.Event()
        self._stopping = False
        status = RecoveryCheckStatus.model_validate(body.get("status") or {})
        before = status.continuous
        self._said = says_so(status.conditions, self._generation)  # that somebody looks
        self._record = before and taken_up(spec, before, Instant.now())
        self._written = before  # as the API server has it
        self._amiss = True
        self._pace = Pace()
        self._due_at: float | None = None  # when what is due may be written
        self._began = time.monotonic()
        self._written_at = self._began - random.random() * spec.continuous.heartbeat_seconds  # not all at once

    def wake(self) -> None:
        self._news.set()

    def stop(self) -> None:
        """Write down what is known, and end."""
        self._stopping = True
        self.wake()

    async def keep(self) -> None:
        if not await self._until_it_can_look():
            return
        asked = [(self._name, self._spec)]
        restored = self._record.histories if self._record else None
        looking = Watching(self._acting, self._namespace, asked, restored, self.wake, pulse=self._office.pulse)
        async with looking as watching:
            while True:
                self._news.clear()
                stopping = self._stopping
                self._look(watching)
                if self._is_due():
                    await self._write(watching)
                if stopping:
                    return
                await self._wait()

    async def rest(self, obstacle: Obstacle) -> None:
        """Say why nobody looks."""
        metrics.forget_check(self._namespace, self._name)
        if self._record is not None:
            self._record = resting(self._record, obstacle.reason, obstacle.message)
        await self._replace(obstacle)

    async def _until_it_can_look(self) -> bool:
        """False where it was stopped before."""
        backoff, told = Backoff(FIRST_TRY, LONGEST_TRY), None
        while not self._stopping:
            secrets = Secrets(self._acting, self._namespace)
            account = self._spec.service_account_name
            try:
                await can_look(self._acting, self._namespace, account, "", self._name, self._spec, secrets)
                return True
            except Refused as refused:
                obstacle = Obstacle(refused.reason, str(refused))
            if obstacle != told:
                await self.rest(obstacle)
                await self._office.recorder.record(self._body, obstacle.reason, obstacle.message, warning=True)
                told = obstacle
            await backoff.pause()
        return False

    def _look(self, watching: Watching) -> None:
        name, now, problems = self._name, Instant.now(), watching.problems()
        probes = watching.histories(name)
        seen = Seen(name, self._spec, probes, watching.detections(name), watching.error_states(name))
        record = self._record or begun(self._spec, seen, now if problems else None)
        if record is not None:
            record = follow(self._spec, record, seen, problems, self._causes.of(self._namespace), now)
        self._amiss = record is None or record.state is not Watched.UP or any(map(_fails, probes.values()))
        self._record = record

    def _is_due(self) -> bool:
        """What is news is written at once, unless such news is frequent; all else with the heartbeat."""
        now, record = time.monotonic(), self._record
        if record is None or record == self._written:
            return False
        if self._stopping:
            return True
        if record.reason == NOBODY_LOOKS and now - self._began < SETTLING:
            return False
        quiet = self._said and self._written is not None and news_of(record) == news_of(self._written)
        if quiet and now - self._written_at < self._spec.continuous.heartbeat_seconds:
            return False
        if self._due_at is None:
            self._due_at = now + self._pace.pause(self._name, now)
        return now >= self._due_at

    async def _write(self, watching: Watching) -> None:
        assert self._record is not None
        before = self._written
        self._record = self._record.model_copy(update={"histories": watching.snapshot()})
        try:
            await self._replace(None)
        except PASSING as error:
            log.warning("%s/%s: writing its status: %s", self._namespace, self._name, error)
            self._due_at = time.monotonic() + PAUSE
            return
        self._due_at, self._written_at = None, time.monotonic()
        if self._record.outage is None:
            watching.forget(self._record.until.instant())
        metrics.count_check(self._namespace, self._name, before, self._record)
        for told in happenings(before, self._record):
            await self._office.recorder.record(self._body, told.reason, told.message, warning=told.warning)

    async def _replace(self, obstacle: Obstacle | None) -> None:
        """Over what is there, if that is of our own writing; what others write beside it is kept."""
        expected = self._written.revision if self._written else 0
        record, now = self._record, Instant.now().rfc3339()
        if record is not None:
            record = record.model_copy(update={"revision": expected + 1, "written_at": now})
        while True:
            self._office.leadership.check()
            status = RecoveryCheckStatus.model_validate(self._body.get("status") or {})
            conditions = of_watching(status.conditions, record, obstacle, self._generation, now)
            update = {"continuous": record, "observed_generation": self._generation, "conditions": conditions}
            body = {**self._body, "status": status.model_copy(update=update).to_json()}
            try:
                self._body = await self._office.kube.replace(CHECKS, self._namespace, self._name, body, "status")
                break
            except KubeError as error:
                if error.gone:
                    raise GoneError(error.message) from error
                if not error.conflict:
                    raise
            if await self._is_written(expected, record):
                break
        self._record = self._written = record
        self._said = obstacle is None

    async def _is_written(self, expected: int, record: ContinuousStatus | None) -> bool:
        """Read the check again: somebody wrote, and it may have been we, whose answer was lost."""
        uid = self._body["metadata"]["uid"]
        try:
            self._body = await self._office.kube.get(CHECKS, self._namespace, self._name)
        except KubeError as error:
            if error.gone:
                raise GoneError(error.message) from error
            raise
        if self._body["metadata"]["uid"] != uid:
            raise GoneError(f"{self._namespace}/{self._name}")
        there = RecoveryCheckStatus.model_validate(self._body.get("status") or {}).continuous
        if record is not None and there == record:
            return True
        if (there.revision if there else 0) != expected:
            raise FencedError(f"{self._namespace}/{self._name}: another operator has written what it saw")
        return False

    async def _wait(self) -> None:
        await asyncio.sleep(BREATH)
        try:
            async with asyncio.timeout(CLOSE_LOOK if self._amiss else CALM_LOOK):
                await self._news.wait()
        except TimeoutError:
            return


def _fails(history: History) -> bool:
    return bool(history.runs) and not history.runs[-1].healthy
