"""What a pod that asks a node for our image comes to: yes is said of one that ran to its end, and of no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

from bounceback.kube import Kube
from bounceback.vehicles.containers import Ended, Missing, Running, Waiting
from bounceback.vehicles.image_probe import Asked, Had, ImageProbe
from bounceback.vehicles.short_pods import awaited

Json = dict[str, Any]
NODE: Json = {
    "metadata": {"name": "edge-1", "uid": "uid-1"},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}
FOREIGN = "exec /usr/local/bin/python3: exec format error"


class OnePod:
    """An API server with the one pod that was made, of whose container the kubelet says that. Nothing changes."""

    def __init__(self, state: Json, **status: Any) -> None:
        self._status = {"containerStatuses": [{"name": "agent", "state": state}], **status}
        self.pods: list[Json] = []

    async def create(self, _: object, namespace: str, body: Json) -> Json:
        metadata = {**body["metadata"], "uid": "pod-1", "resourceVersion": "1"}
        self.pods = [{**body, "metadata": metadata, "status": self._status}]
        return self.pods[0]

    async def delete(self, *_: object, **__: object) -> Json:
        self.pods = []
        return {}

    async def list(self, *_: object, **__: object) -> tuple[list[Json], str]:
        return self.pods, "1"

    async def watch(self, *_: object, **__: object) -> AsyncGenerator[tuple[str, Json], None]:
        await asyncio.Event().wait()
        yield "", {}


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        ({"terminated": {"reason": "Completed", "exitCode": 0}}, Asked(Had.YES)),
        (
            {"terminated": {"reason": "Error", "exitCode": 255, "message": FOREIGN}},
            Asked(Had.NO, f"Error, exit code 255: {FOREIGN}"),
        ),
        (
            {"terminated": {"reason": "StartError", "exitCode": 128, "message": "Exec format error"}},
            Asked(Had.NO, "StartError, exit code 128: Exec format error"),
        ),
        (
            {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            Asked(Had.UNKNOWN, "OOMKilled, exit code 137"),
        ),
        (
            {"waiting": {"reason": "ErrImagePull", "message": "no such manifest"}},
            Asked(Had.NO, "ErrImagePull: no such manifest"),
        ),
        (
            {"waiting": {"reason": "CreateContainerError", "message": "no space left"}},
            Asked(Had.UNKNOWN, "CreateContainerError: no space left"),
        ),
    ],
)
async def test_the_node_has_the_image_where_it_runs_to_its_end(state: Json, asked: Asked) -> None:
    kube = OnePod(state)
    assert await ImageProbe(cast(Kube, kube), "bounceback", "bounceback:1", "Always").ask(NODE) == asked
    assert not kube.pods, "it leaves nothing"


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ({"running": {}}, Running()),
        ({"waiting": {"reason": "ContainerCreating"}}, Waiting("ContainerCreating")),
    ],
)
async def test_of_a_pod_that_does_not_end_the_last_that_was_seen_is_told(
    state: Json, found: Ended | Running | Waiting | Missing
) -> None:
    kube = OnePod(state)
    await kube.create(None, "ns", {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "agent"}]}})
    assert await awaited(cast(Kube, kube), "ns", "a", "agent", 1.0) == found
