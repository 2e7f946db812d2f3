"""Pods of ours that run once on a node, and are waited for: their end tells what was asked."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from bounceback.kube.client import Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import PODS
from bounceback.kube.watching import DELETED, LISTED, changes
from bounceback.vehicles.containers import Ended, Missing, State, Waiting, state_of


async def awaited(own: Kube, namespace: str, name: str, container: str, seconds: float) -> State:
    """How that container ended, or how it fares when the time is over; at once where the kubelet cannot make it.

    Missing: somebody deleted the pod. Raises KubeError where it cannot be watched.
    """
    last: State = Waiting("not yet begun by the kubelet")
    told = changes(own, PODS, namespace, fields=f"metadata.name={name}")
    try:
        async with asyncio.timeout(seconds), aclosing(told):
            async for kind, pod in told:
                if kind == LISTED:
                    continue
                if kind == DELETED:
                    return Missing()
                found = state_of(pod, container)
                if isinstance(found, Ended) or (isinstance(found, Waiting) and found.hopeless):
                    return found
                if not isinstance(found, Missing):
                    last = found
    except TimeoutError:
        pass
    return last


async def remove(own: Kube, namespace: str, name: str) -> None:
    """At once; there being none is fine. Raises KubeError."""
    try:
        await own.delete(PODS, namespace, name, grace=0)
    except KubeError as error:
        if not error.gone:
            raise
