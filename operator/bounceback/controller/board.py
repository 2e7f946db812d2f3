"""All runs of this operator: which are begun, which wait for a place, which are nobody's any more."""

from __future__ import annotations

import asyncio
import time

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.problems import parse
from bounceback.api.status import STATUS_FORMAT, FaultExperimentStatus, Finding
from bounceback.controller import metrics, resources
from bounceback.controller.office import Office
from bounceback.controller.run import Run
from bounceback.controller.trying import Key, until_done
from bounceback.engine.conditions import conditions
from bounceback.kube import KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import EXPERIMENTS
from bounceback.types.instants import Instant
from bounceback.types.outcome import Phase, Verdict


class Board:
    """Experiments that have begun go on at once; new ones wait for one of the places."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._runs: dict[str, Run] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(office.settings.runs_at_once)
        self._ended = False  # a watch that would not end may go on telling

    async def changed(self, kind: str | None, body: Json) -> None:
        """An experiment as the watch gives it; handed over to its run, or begun."""
        uid = body["metadata"]["uid"]
        if kind == "DELETED" or self._ended:
            return  # its run learns so by itself when it writes; it is held by our finalizer until then
        if uid in self._runs:
            self._runs[uid].changed(body)
        elif uid not in self._tasks and _is_open(body):
            key = (body["metadata"]["namespace"], body["metadata"]["name"], uid)
            self._tasks[uid] = asyncio.create_task(self._see_through(key, begun=_has_begun(body)), name="/".join(key))
            self._tasks[uid].add_done_callback(lambda _: self._tasks.pop(uid, None))

    def wake_all(self) -> None:
        for run in self._runs.values():
            run.wake()

    async def end(self) -> None:
        """Leave everything as it is; what is written down is enough for another to go on."""
        self._ended = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _see_through(self, key: Key, *, begun: bool) -> None:
        if begun:
            await until_done(self._office.leadership, key, self._run)
        else:
            metrics.WAITING.inc()
            try:
                await self._places.acquire()
            finally:
                metrics.WAITING.dec()
            try:
                await until_done(self._office.leadership, key, self._run)
            finally:
                self._places.release()
        await until_done(self._office.leadership, key, self._expire)

    async def _run(self, key: Key) -> None:
        body = await self._fetch(key)
        if body is not None and _is_running(body):
            await self._drive(body)

    async def _fetch(self, key: Key) -> Json | None:
        try:
            body = await self._office.kube.get(EXPERIMENTS, key[0], key[1])
        except KubeError as error:
            if error.gone:
                return None
            raise
        return body if body["metadata"]["uid"] == key[2] else None

    async def _drive(self, body: Json) -> None:
        uid = body["metadata"]["uid"]
        if int((body.get("status") or {}).get("format") or 0) > STATUS_FORMAT:
            await self._office.recorder.record(
                body, "NewerFormat", "a newer operator runs this; its faults end by their own deadlines", warning=True
            )
            return
        started = (body["metadata"].get("annotations") or {}).get(resources.STARTED_UID)
        if started not in (None, uid):
            await self._refuse(
                body,
                "CopyOfStarted",
                f"this is a copy of an experiment that has run (UID {started}); "
                f"remove the annotation {resources.STARTED_UID} to run it as a new one",
            )
            return
        spec, problems = parse(FaultExperimentSpec, body["spec"])
        if spec is None:
            await self._refuse(body, "SpecInvalid", str(problems[0]))
            return
        status = FaultExperimentStatus.model_validate(body.get("status") or {})
        run = Run(self._office, body, spec, status)
        run.changed(body)
        self._runs[uid] = run
        metrics.RUNNING.inc()
        try:
            await run.drive()
        finally:
            metrics.RUNNING.dec()
            self._runs.pop(uid, None)

    async def _refuse(self, body: Json, reason: str, message: str) -> None:
        """Finished before it began: nothing was looked at, nothing touched."""
        now = Instant.now().rfc3339()
        ending = Finding(verdict=Verdict.ABORTED, reason=reason, message=message[:1024])
        status = FaultExperimentStatus(
            phase=Phase.FINISHED,
            reason=reason,
            message=message[:2048],
            run_uid=body["metadata"]["uid"],
            ending=ending,
            findings=[ending],
            verdict=Verdict.ABORTED,
            finished_at=now,
            revision=1,
            observed_generation=body["metadata"].get("generation"),
        )
        listed = conditions(status, body["metadata"].get("generation", 0), now)
        status = status.model_copy(update={"conditions": listed})
        bare = {**body, "status": {}}
        await self._office.kube.replace(
            EXPERIMENTS,
            body["metadata"]["namespace"],
            body["metadata"]["name"],
            {**bare, "status": status.to_json()},
            "status",
        )
        await self._office.recorder.record(body, reason, message, warning=True)
        metrics.RUNS.labels(Verdict.ABORTED).inc()

    async def _expire(self, key: Key) -> None:
        """Delete it when its time after the end is over, if it names one."""
        body = await self._fetch(key)
        if body is None or body["spec"].get("ttlSecondsAfterFinished") is None:
            return
        finished = (body.get("status") or {}).get("finishedAt")
        if finished is None or body["metadata"].get("deletionTimestamp"):
            return
        over = Instant.parse(finished) + body["spec"]["ttlSecondsAfterFinished"]
        await asyncio.sleep(max(0.0, over - time.time()))
        self._office.leadership.check()
        await self._office.kube.delete(EXPERIMENTS, key[0], key[1], uid=key[2])


def _is_open(body: Json) -> bool:
    """There is something left to do for it."""
    expires = body["spec"].get("ttlSecondsAfterFinished") is not None and not body["metadata"].get("deletionTimestamp")
    return _is_running(body) or expires


def _is_running(body: Json) -> bool:
    """It is not finished, or not let go of yet. One that is deleted before it began is nobody's business."""
    if resources.is_claimed(body):
        return True
    finished = bool((body.get("status") or {}).get("phase") == Phase.FINISHED)
    return not finished and not bool(body["metadata"].get("deletionTimestamp"))


def _has_begun(body: Json) -> bool:
    return bool((body.get("status") or {}).get("phase", Phase.PENDING) != Phase.PENDING)
