"""A Job for each sample: made, judged by its end, and deleted, whatever became of it and of us."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from typing import Any, Final

from bounceback.api.looks_inside import JobLook
from bounceback.kube.client import Json
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import Resource
from bounceback.recovery.errors import CannotLookError, NotHealthyError, UnansweredError
from bounceback.recovery.means import Means
from bounceback.recovery.objects import UNANSWERED
from bounceback.recovery.pods import cannot

JOBS: Final = Resource("batch/v1", "jobs")
LOOK_SECONDS: Final = 0.25
KEPT_SECONDS: Final = 60
"""What an operator that died left behind is deleted by the cluster, so long after its end."""


async def ask_by_job(means: Means, look: JobLook, seconds: float) -> dict[str, Any]:
    """Raises NotHealthyError, CannotLookError."""
    name = f"bounceback-probe-{secrets.token_hex(5)}"
    began = time.monotonic()
    try:
        await means.acting.create(JOBS, means.namespace, manifest(name, look, seconds))
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


def manifest(name: str, look: JobLook, seconds: float) -> Json:
    """One try, which ends by itself at the sample's timeout."""
    labels = {"app.kubernetes.io/managed-by": "bounceback", "bounceback.dev/probe": name}
    pod = {"restartPolicy": "Never", **look.template}
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
        for condition in job.get("status", {}).get("conditions") or []:
            if condition["status"] != "True":
                continue
            if condition["type"] == "Complete":
                return
            if condition["type"] == "Failed":
                told = condition.get("message") or condition.get("reason")
                raise NotHealthyError(f"the Job failed: {told}"[:200])
        await asyncio.sleep(LOOK_SECONDS)


async def _delete(means: Means, name: str) -> None:
    try:
        await means.acting.delete(JOBS, means.namespace, name)
    except (KubeError, *UNANSWERED):
        pass  # it ends by itself, and the cluster deletes it then
