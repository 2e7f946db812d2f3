"""What keeps pods there: the controller at the end of the chain of owners."""

from __future__ import annotations

from bounceback.engine.model import PodInfo
from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import REPLICA_SETS


class Owners:
    """Of the pods of one namespace. ReplicaSets are asked for their Deployment, once each."""

    def __init__(self, acting: Kube, namespace: str) -> None:
        self._acting = acting
        self._namespace = namespace
        self._above: dict[str, str] = {}  # by the UID of a ReplicaSet

    async def root(self, pod: PodInfo) -> str:
        """Its UID; "" for a pod that nobody controls. Raises KubeError, aiohttp.ClientError or TimeoutError."""
        owner = pod.controller
        if owner is None or owner.kind != "ReplicaSet":
            return owner.uid if owner else ""
        if owner.uid not in self._above:
            self._above[owner.uid] = await self._of(owner.name) or owner.uid
        return self._above[owner.uid]

    async def _of(self, replica_set: str) -> str:
        """Empty where nobody controls it, or it may not be read."""
        try:
            found = await self._acting.get(REPLICA_SETS, self._namespace, replica_set)
        except KubeError as error:
            if error.passing:
                raise
            return ""
        return controller_uid(found)


def controller_uid(body: Json) -> str:
    references = body["metadata"].get("ownerReferences") or []
    return next((str(each["uid"]) for each in references if each.get("controller")), "")
