"""PodDelete: the fault is a request to the API, made in the account's name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import aiohttp

from bounceback.engine.model import PodInfo
from bounceback.kube.client import Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import PODS
from bounceback.kube.watching import Backoff
from bounceback.types.instants import Instant
from bounceback.vehicles.errors import DeletionRefused, refusal

AT_ONCE: Final = 20
ATTEMPTS: Final = 4
"""How often one deletion is asked for while the server has trouble of its own: the UID makes asking again harmless."""


async def delete_pods(acting: Kube, pods: Sequence[PodInfo], grace: int | None) -> list[tuple[PodInfo, Instant]]:
    """Those that were deleted now, and when the API server said so; those already gone or replaced are left out.

    `grace` is in seconds; None: each pod's own. Raises DeletionRefused, with those that were deleted all the same.
    """
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(pod: PodInfo) -> Instant | KubeError | None:
        async with slots:
            return await _delete(acting, pod, grace)

    answers = await asyncio.gather(*(one(pod) for pod in pods))
    deleted = [(pod, at) for pod, at in zip(pods, answers, strict=True) if isinstance(at, Instant)]
    failed = [(pod, error) for pod, error in zip(pods, answers, strict=True) if isinstance(error, KubeError)]
    if failed:
        pod, error = failed[0]
        refused = refusal(error, f"the account of namespace {pod.namespace}", f"a deletion of pod {pod.name}")
        reason = refused.reason if refused else "NotDeleted"
        message = refused.message if refused else f"pod {pod.name} could not be deleted: {error}"
        raise DeletionRefused(reason, f"{message} ({len(failed)} of {len(pods)} pods)", deleted)
    return deleted


async def _delete(acting: Kube, pod: PodInfo, grace: int | None) -> Instant | KubeError | None:
    """When it was deleted; None: it had been gone, or its name is another pod's; the error that lasts."""
    backoff = Backoff()
    answered = True  # whether each of our requests so far was answered: if not, one of them may have done it
    trouble = KubeError(0, "NoAnswer", "")
    for _ in range(ATTEMPTS):
        try:
            await acting.delete(PODS, pod.namespace, pod.name, uid=pod.uid, grace=grace)
            return Instant.now()
        except KubeError as error:
            if error.gone or error.conflict:
                return None if answered else Instant.now()
            if not error.passing:
                return error
            trouble = error
        except (aiohttp.ClientError, TimeoutError) as error:
            answered, trouble = False, KubeError(0, "NoAnswer", str(error) or type(error).__name__)
        await backoff.pause()
    return trouble
