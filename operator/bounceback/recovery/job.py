"""A Job for each sample: made, judged by its end, and deleted, whatever became of it and of us."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

from bounceback.api.looks_inside import JobLook, JobTemplate
from bounceback.kube.client import Json
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import JOBS
from bounceback.recovery.errors import CannotLookError, NotHealthyError, UnansweredError
from bounceback.recovery.means import Means
from bounceback.recovery.objects import UNANSWERED
from bounceback.recovery.pods import cannot

PROBE_LABEL: Final = "bounceback.dev/probe"
LOOK_SECONDS: Final = 0.25
KEPT_SECONDS: Final = 60
"""What an operator that died left behind is deleted by the cluster, so long after its end."""


async def ask_by_job(means: Means, look: JobLook, seconds: float) -> dict[str, Any]:
    """Raises NotHealthyError, CannotLookError."""
    name = f"bounceback-probe-{secrets.token_hex(5)}"
    began = time.monotonic()
    try:
        await means.acting.create(JOBS, means.namespace, manifest(name, look, seconds, {PROBE_LABEL: name}))
        try:
            await _ended(means, name)
        finally:
            await asyncio.shield(_delete(means, name))
    except KubeError as error:
        if error.status in (400, 422):
            raise CannotLookError(f"the API server does not take the Job: {error.message[:300]}") from error
        raise cannot("make a Job", error) from error
    except UNANSWERED as error:
        raise UnansweredError("the API server does not answer") from error
    return {"milliseconds": round((time.monotonic() - began) * 1000)}


@dataclass(frozen=True, slots=True)
class End:
    """How a Job ended."""

    completed: bool
    reason: str
    message: str


def end_of(job: Json) -> End | None:
    """None while it has not."""
    for condition in job.get("status", {}).get("conditions") or []:
        if condition["status"] == "True" and condition["type"] in ("Complete", "Failed"):
            reason, message = condition.get("reason") or "", condition.get("message") or ""
            return End(condition["type"] == "Complete", reason, message or reason)
    return None


def manifest(name: str, job: JobTemplate, seconds: float, labels: Json) -> Json:
    """One try, which the cluster ends when its time is over."""
    labels = {"app.kubernetes.io/managed-by": "bounceback", **labels}
    pod = {"restartPolicy": "Never", **job.template}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": math.ceil(seconds),
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


async def _ended(means: Means, name: str) -> None:
    while True:
        try:
            job = await means.acting.get(JOBS, means.namespace, name)
        except KubeError as error:
            if not error.gone:
                raise
            raise NotHealthyError("somebody deleted the Job while it ran") from error
        if end := end_of(job):
            if end.completed:
                return
            raise NotHealthyError(f"the Job failed: {end.message}"[:200])
        await asyncio.sleep(LOOK_SECONDS)


async def _delete(means: Means, name: str) -> None:
    try:
        await means.acting.delete(JOBS, means.namespace, name)
    except (KubeError, *UNANSWERED):
        pass  # it ends by itself, and the cluster deletes it then
