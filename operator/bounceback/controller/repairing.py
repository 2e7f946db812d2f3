"""The Job that repairs, with `expect: Manual`: made suspended, let go once, seen through, and taken away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import aiohttp

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import RepairStatus
from bounceback.engine.naming import repair_name
from bounceback.engine.state import NO_TASK
from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import JOBS, PODS
from bounceback.recovery.job import LOOK_SECONDS, end_of, manifest
from bounceback.recovery.needs import REPAIR_NEEDS
from bounceback.recovery.pods import first_container
from bounceback.report.redact import redact
from bounceback.types.instants import Instant, Interval
from bounceback.types.outcome import RepairState
from bounceback.vehicles.access import check_access
from bounceback.vehicles.errors import Refused

FIELD: Final = "spec.repair.job.template"
RUN_LABEL: Final = "bounceback.dev/repair"
"""The experiment's UID, on the Job and its pods."""
KEPT_SECONDS: Final = 86_400
"""What an operator that died left behind is deleted by the cluster, so long after its end."""
LOG_EVERY: Final = 2.0
"""Seconds: the pod of a Job that ran out of time is deleted at once, and its log with it."""
LOG_LINES: Final = 100
LONGEST_LOG: Final = 4000


class Repairing:
    """The Job of one run. `task` is what is seen of it; `changed` is called when that changes.

    `acting` is in the experiment's account; `may_act` raises NotLeaderError where another operator has taken over.
    """

    def __init__(
        self,
        acting: Kube,
        body: Json,
        spec: FaultExperimentSpec,
        may_act: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        metadata = body["metadata"]
        self.task = NO_TASK
        self._acting = acting
        self._owner = {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        self._namespace, self._uid = metadata["namespace"], metadata["uid"]
        self._spec = spec
        self._may_act = may_act
        self._changed = changed
        self._not_over: Instant | None = None
        self._log_read = float("-inf")
        self._started = False
        self._waits_for = ""  # why it does not start

    async def make(self, repair: RepairStatus) -> None:
        """Suspended: nothing runs. One that an operator before us made is taken over."""
        self._may_act()
        try:
            job = await self._acting.create(JOBS, self._namespace, repair_job(self._spec, repair.name, self._owner))
        except KubeError as error:
            if error.passing or error.status == 401:  # a token of ours that is not taken says nothing of the Job
                raise
            if not error.exists:
                self._tell(refused=f"the API server does not take the Job: {error.message}")
                return
            job = await self._acting.get(JOBS, self._namespace, repair.name)
        if (job["metadata"].get("labels") or {}).get(RUN_LABEL) != self._uid:
            self._tell(refused=f"there is a Job {repair.name} already, and it is not ours")
        else:
            self._tell(uid=job["metadata"]["uid"])

    async def see_through(self, repair: RepairStatus) -> None:
        """Let that very Job go, which is nothing to one that goes already, and follow it to its end."""
        try:
            if self.task.begun is None:
                await self._let_go(repair)
            while self.task.ended is None:
                await self._look(repair)
                await asyncio.sleep(LOOK_SECONDS)
        except KubeError as error:
            if not error.gone:
                raise
            self._tell(ended=RepairState.UNKNOWN, reason="Deleted", message="somebody deleted the Job")

    async def remove(self, repair: RepairStatus | None) -> None:
        """With its pods. What the account may not delete any more goes with the experiment, or a day after its end."""
        if repair is None or self._spec.repair is None or self._spec.repair.job is None:
            return
        try:
            job = await self._acting.get(JOBS, self._namespace, repair.name)
            if (job["metadata"].get("labels") or {}).get(RUN_LABEL) == self._uid:
                await self._acting.delete(JOBS, self._namespace, repair.name, uid=job["metadata"]["uid"])
        except KubeError as error:
            if error.passing:
                raise

    async def _let_go(self, repair: RepairStatus) -> None:
        self._may_act()
        start = Instant.now()
        change = {"metadata": {"uid": repair.uid}, "spec": {"suspend": False}}  # refused of another of its name
        try:
            await self._acting.patch(JOBS, self._namespace, repair.name, change)
        except KubeError as error:
            job = await self._acting.get(JOBS, self._namespace, repair.name)
            if error.status not in (409, 422) or not self._is_other(job, repair):
                raise
        else:
            self._tell(begun=Interval(start, Instant.now()))

    async def _look(self, repair: RepairStatus) -> None:
        start = Instant.now()
        job = await self._acting.get(JOBS, self._namespace, repair.name)
        if self._is_other(job, repair):
            return
        end = end_of(job)
        if end is None:
            self._not_over = start
            if time.monotonic() - self._log_read >= LOG_EVERY:
                await self._look_at_pod()
            return
        seen = Interval(self._not_over or start, Instant.now())
        pod = await self._look_at_pod()
        state, reason, message = self._told(end.completed, end.reason, end.message, _exit_code(pod))
        self._tell(ended=state, ended_at=seen, reason=reason, message=message)

    def _is_other(self, job: Json, repair: RepairStatus) -> bool:
        if job["metadata"]["uid"] == repair.uid:
            return False
        self._tell(ended=RepairState.UNKNOWN, reason="Deleted", message="somebody put another Job in its place")
        return True

    def _told(self, completed: bool, reason: str, message: str, code: int | None) -> tuple[RepairState, str, str]:
        assert self._spec.repair is not None
        if completed:
            return RepairState.DONE, "Completed", "the Job completed"
        if code:
            return RepairState.FAILED, "ExitCode", f"it ended with exit code {code}{self._last_words()}"
        if not self._started:
            return RepairState.NOT_RUN, "NeverStarted", f"its pod was never seen to start: {self._waits_for or message}"
        if reason == "DeadlineExceeded":
            told = f"it was not over within {self._spec.repair.timeout_seconds} s{self._last_words()}"
            return RepairState.FAILED, "TimedOut", told
        return RepairState.FAILED, "JobFailed", f"the Job failed: {message}"

    def _last_words(self) -> str:
        lines = self.task.log.strip().splitlines()
        return f"; it wrote last: {lines[-1][:200]}" if lines else ""

    async def _look_at_pod(self) -> Json | None:
        """The pod, where there still is one; its log and state are kept, for a pod goes as soon as its time is over."""
        self._log_read = time.monotonic()
        pods, _ = await self._acting.list(PODS, self._namespace, labels=f"{RUN_LABEL}={self._uid}")
        pod = max(pods, key=lambda each: str(each["metadata"]["creationTimestamp"]), default=None)
        if pod is None:
            return None
        phase = pod.get("status", {}).get("phase", "")
        if phase in ("Running", "Succeeded", "Failed"):
            self._started = True
            if log := await log_of(self._acting, pod):
                self._tell(log=log)
        else:
            self._waits_for = _waiting(pod)
        return pod

    def _tell(self, **fields: Any) -> None:
        self.task = replace(self.task, **fields)
        self._changed()


async def check_repair(acting: Kube, namespace: str, uid: str, spec: FaultExperimentSpec) -> None:
    """Before anything is touched: may the account do it, and does the API server take the Job?

    Raises Refused; KubeError where the API server has trouble of its own.
    """
    if spec.repair is None or spec.repair.job is None:
        return
    account = spec.service_account_name
    await check_access(acting, namespace, account, needs=REPAIR_NEEDS, objects=["jobs.batch"])
    owner = {"apiVersion": "bounceback.dev/v1alpha1", "kind": "FaultExperiment", "name": "self", "uid": uid}
    try:
        await acting.create(JOBS, namespace, repair_job(spec, repair_name(uid), owner), dry_run=True)
    except KubeError as error:
        if error.passing:
            raise
        if not error.exists:
            raise Refused(FIELD, "RepairInvalid", f"the API server does not take the Job: {error.message}") from error


def repair_job(spec: FaultExperimentSpec, name: str, owner: Json) -> Json:
    """`owner` is the experiment: the Job goes with it, if we do not live to take it away."""
    assert spec.repair is not None and spec.repair.job is not None
    made = manifest(name, spec.repair.job, spec.repair.timeout_seconds, {RUN_LABEL: owner["uid"]})
    made["metadata"]["ownerReferences"] = [owner]
    made["spec"] |= {"suspend": True, "ttlSecondsAfterFinished": KEPT_SECONDS}
    return made


async def log_of(acting: Kube, pod: Json) -> str:
    """The end of what the pod's first container wrote, without what looks like a credential; "" where there is none."""
    query = {"container": first_container(pod), "tailLines": str(LOG_LINES), "limitBytes": str(64 * 1024)}
    path = PODS.path(pod["metadata"]["namespace"], pod["metadata"]["name"], "log")
    try:
        text = await acting.raw("GET", path, query=query, seconds=10)
    except (KubeError, aiohttp.ClientError, TimeoutError):
        return ""  # it went, or has not begun to write
    return redact(text.decode(errors="replace"))[-LONGEST_LOG:]


def _containers(pod: Json | None) -> list[Json]:
    status = (pod or {}).get("status", {})
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _exit_code(pod: Json | None) -> int | None:
    """Of the first container that failed; None where none is known to have."""
    ends = (each.get("state", {}).get("terminated") for each in _containers(pod))
    return next((end["exitCode"] for end in ends if end and end["exitCode"]), None)


def _waiting(pod: Json) -> str:
    """ErrImagePull: ... or Unschedulable: ..., as the kubelet or the scheduler says it."""
    for each in _containers(pod):
        if waits := each.get("state", {}).get("waiting"):
            return f"{waits.get('reason', '')}: {waits.get('message', '')}"[:300]
    conditions = pod.get("status", {}).get("conditions") or []
    return next((f"{c.get('reason')}: {c.get('message', '')}"[:300] for c in conditions if c["status"] == "False"), "")
