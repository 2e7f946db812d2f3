"""Whether our image can be had on a node: asked by a pod that does nothing and ends.

What the node says of its images is no answer: the kubelet lists fifty of them, and one that is there may still have
to be pulled (imagePullPolicy: Always).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import aiohttp

from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import PODS
from bounceback.vehicles.containers import NEVER, Ended, Running, Waiting
from bounceback.vehicles.node_pod import AGENT, PULL_SECONDS, image_pod
from bounceback.vehicles.short_pods import awaited, remove

OS_LABEL: Final = "kubernetes.io/os"
FOREIGN: Final = "exec format error"
"""What becomes of a program for another architecture: told by the runtime, or as the container's own last words."""
ATTEMPTS: Final = 5
LAST_WORD: Final = 2.0
"""Seconds for taking the pod away when we are to stop: it ends by itself, too."""
PASSING: Final = (KubeError, aiohttp.ClientError, TimeoutError)


class Had(StrEnum):
    YES = "Yes"
    NO = "No"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Asked:
    had: Had
    why: str = ""


class ImageProbe:
    def __init__(self, own: Kube, namespace: str, image: str, pull_policy: str) -> None:
        self._own = own
        self._namespace = namespace
        self._image = image
        self._pull_policy = pull_policy

    async def ask(self, node: Json) -> Asked:
        """Of that Node object. No is said only of what the kubelet says of the image; all else is Unknown."""
        if against := not_asked(node):
            return Asked(Had.UNKNOWN, against)
        metadata = node["metadata"]
        body = image_pod(metadata["name"], metadata["uid"], self._namespace, self._image, self._pull_policy)
        name = body["metadata"]["name"]
        try:
            await self._make(body)
            end = await awaited(self._own, self._namespace, name, AGENT, PULL_SECONDS + 10)
            await remove(self._own, self._namespace, name)
        except asyncio.CancelledError:
            with suppress(*PASSING):
                async with asyncio.timeout(LAST_WORD):
                    await remove(self._own, self._namespace, name)
            raise
        except PASSING as error:
            return Asked(Had.UNKNOWN, f"the pod that asks: {error}")
        match end:
            case Ended(ran=True, code=0):
                return Asked(Had.YES)
            case Waiting() as waiting if waiting.lacks_image:
                return Asked(Had.NO, waiting.words)
            case Ended() as ended if _is_not_run(ended):
                return Asked(Had.NO, ended.words)
            case Ended() | Waiting():
                return Asked(Had.UNKNOWN, end.words)
            case Running():
                return Asked(Had.UNKNOWN, "the pod that asks did not end in time")
        return Asked(Had.UNKNOWN, "the pod that asks was deleted by somebody else")

    async def _make(self, body: Json) -> None:
        """Never the one that an operator before us left: its answer may be old."""
        for _ in range(ATTEMPTS):
            try:
                await self._own.create(PODS, self._namespace, body)
            except KubeError as error:
                if not error.exists:
                    raise
                await remove(self._own, self._namespace, body["metadata"]["name"])
                await asyncio.sleep(1.0)
            else:
                return
        raise TimeoutError("one of that name does not go")


def _is_not_run(ended: Ended) -> bool:
    """The image is there, and nothing of it runs on that node."""
    return FOREIGN in ended.words.lower() or ended.words.partition(":")[0].partition(",")[0] in NEVER


def not_asked(node: Json) -> str:
    """Why no pod of ours is put there, or nothing."""
    metadata, status = node["metadata"], node.get("status") or {}
    system = (status.get("nodeInfo") or {}).get("operatingSystem") or (metadata.get("labels") or {}).get(OS_LABEL)
    if system == "windows":
        return "it runs Windows"
    if "deletionTimestamp" in metadata or (node.get("spec") or {}).get("unschedulable"):
        return "it is to take no pods"
    ready = [each["status"] for each in status.get("conditions") or [] if each["type"] == "Ready"]
    return "" if ready == ["True"] else "it is not Ready"
