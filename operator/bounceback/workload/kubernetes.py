"""Objects of the Kubernetes API as a workload needs them: one request at a time, and none sent twice.

What answers mean (https://kubernetes.io/docs/reference/using-api/api-concepts/ and the API conventions' HTTP status
codes): a request is checked, by authorization, admission and validation, before it is stored, and is answered with
success once it is. Hence

acknowledged    200 to 299.
failed          400 to 499, which is said before anything is stored, 429 among them; no connection.
unknown         AlreadyExists: the name is one of this run, and something made it; 408 and 500 to 599, with which the
                server gives up waiting for its store (504), or says nothing of what it did; no answer in time; a
                connection that broke.

Writes are POST (create) and PATCH (server-side apply), because aiohttp sends PUT again where a kept connection turns
out to be closed. Reads and lists ask for no resourceVersion: that is the most recent state, and never a cache's.
"""

from __future__ import annotations

import asyncio
import copy
from array import array
from contextlib import AsyncExitStack
from typing import Any, Final

import aiohttp

from bounceback.accounting.ledger import Function, Model, Outcome
from bounceback.api.operations_objects import KubernetesWorkload
from bounceback.kube.client import APPLY_PATCH, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.kinds import Kinds, UnknownKindError
from bounceback.kube.resources import Resource
from bounceback.workload.client import NO_NUMBER, Answer, SilentError, number_of

FAILED: Final = Answer(Outcome.FAILED)
UNKNOWN: Final = Answer(Outcome.UNKNOWN)
DONE: Final = Answer(Outcome.ACKNOWLEDGED)
LABEL: Final = "bounceback.dev/workload"
REQUEST_TIMEOUT: Final = 408
UNANSWERED: Final = (aiohttp.ClientError, OSError, TimeoutError)

Json = dict[str, Any]


class KubernetesSystem:
    """An API server, as `kubernetes` tells of it."""

    def __init__(self, kubernetes: KubernetesWorkload, model: Model, seconds: float) -> None:
        self._objects = kubernetes
        self._way = kubernetes.field.split(".")
        self._resource: Resource | None = None
        self.namespace = kubernetes.namespace
        self.is_set = model is Model.SET
        self.seconds = seconds  # that an operation may take

    def client(self) -> KubernetesClient:
        return KubernetesClient(self)

    async def connect(self, stack: AsyncExitStack) -> Kube:
        """Raises what the kubeconfig is in want of."""
        return await stack.enter_async_context(Kube.connected(self._objects.kubeconfig))

    async def resource(self, kube: Kube) -> Resource:
        """Raises UnknownKindError, and what Kube raises."""
        if self._resource is None:
            self._resource = await Kinds(kube).resource(self._objects.api_version, self._objects.kind)
        return self._resource

    def name(self, key: str, value: int) -> str:
        return f"{self._objects.prefix}-{key}-{value}" if self.is_set else f"{self._objects.prefix}-{key}"

    def body(self, key: str, value: int) -> Json:
        found = copy.deepcopy(self._objects.rest)
        place = found
        for step in self._way[:-1]:
            place = place.setdefault(step, {})
        place[self._way[-1]] = str(value) if self._objects.text else value
        metadata = {"name": self.name(key, value), "labels": {LABEL: key}}
        return {"apiVersion": self._objects.api_version, "kind": self._objects.kind, "metadata": metadata, **found}

    def value(self, found: Json) -> int:
        place: Any = found
        for step in self._way:
            place = place.get(step) if isinstance(place, dict) else None
        return NO_NUMBER if place is None else number_of(place)

    async def listed(self, key: str, seconds: float) -> array[int]:
        try:
            async with asyncio.timeout(seconds), AsyncExitStack() as stack:
                kube = await self.connect(stack)
                found, _ = await kube.list(await self.resource(kube), self.namespace, labels=f"{LABEL}={key}")
        except (KubeError, UnknownKindError, *UNANSWERED) as error:
            raise SilentError(f"{self._objects.kind}s of {self.namespace}: {_told(error)}") from error
        return array("q", map(self.value, found))


class KubernetesClient:
    """One connection; opened where there is none."""

    def __init__(self, system: KubernetesSystem) -> None:
        self._system = system
        self._stack = AsyncExitStack()
        self._kube: Kube | None = None
        self.trouble = ""

    async def perform(self, function: Function, key: str, value: int) -> Answer:
        seconds = self._system.seconds
        try:
            async with asyncio.timeout(seconds):
                kube, resource = await self._connected()
        except (KubeError, UnknownKindError, *UNANSWERED) as error:
            self.trouble = _told(error)
            return FAILED  # no object was sent
        try:
            async with asyncio.timeout(seconds):
                if function is Function.READ:
                    return await self._read(kube, resource, self._system.name(key, value), value)
                await self._write(kube, resource, self._system.body(key, value))
        except (KubeError, *UNANSWERED) as error:
            self.trouble = _told(error)
            return FAILED if function is Function.READ or _is_undone(error) else UNKNOWN
        return DONE

    async def close(self) -> None:
        self._kube = None
        await self._stack.aclose()

    async def _connected(self) -> tuple[Kube, Resource]:
        if self._kube is None:
            self._kube = await self._system.connect(self._stack)
        return self._kube, await self._system.resource(self._kube)

    async def _write(self, kube: Kube, resource: Resource, body: Json) -> None:
        system = self._system
        if system.is_set:
            await kube.create(resource, system.namespace, body)
        else:
            name = body["metadata"]["name"]
            await kube.patch(resource, system.namespace, name, body, content_type=APPLY_PATCH, force=True)

    async def _read(self, kube: Kube, resource: Resource, name: str, value: int) -> Answer:
        try:
            found = self._system.value(await kube.get(resource, self._system.namespace, name))
        except KubeError as error:
            if not error.gone:
                raise
            return DONE
        if self._system.is_set:
            return Answer(Outcome.ACKNOWLEDGED, 1 if found == value else None)
        return Answer(Outcome.ACKNOWLEDGED, found)


def _is_undone(error: Exception) -> bool:
    if isinstance(error, KubeError):
        return 400 <= error.status < 500 and error.status != REQUEST_TIMEOUT and not error.exists
    return isinstance(error, aiohttp.ClientConnectorError)


def _told(error: Exception) -> str:
    return f"Kubernetes: {str(error) or 'no answer in time'}"[:200]
