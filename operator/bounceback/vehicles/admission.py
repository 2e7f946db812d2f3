"""Admission as a vehicle: webhooks that stand in one configuration, which the chart made, while faults need them."""

from __future__ import annotations

from typing import Final

from bounceback.engine.admission import SUFFIX
from bounceback.kube.client import STRATEGIC_PATCH, Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import PODS, VALIDATING_WEBHOOKS

LEADS: Final = "bounceback.dev/leads"
"""Label of the replica whose answers count: the Service leads to no other."""


class Webhooks:
    """Those of the configuration `name`. All that is asked for here is on that one object, by its name."""

    def __init__(self, own: Kube, name: str) -> None:
        self._own = own
        self._name = name

    async def put(self, webhook: Json) -> None:
        """In the place of one of the same name. Raises KubeError."""
        await self._patch([webhook])

    async def remove(self, *names: str) -> None:
        """Those that are not there are fine. Raises KubeError."""
        there = await self.names()
        if gone := [{"name": name, "$patch": "delete"} for name in names if name in there]:
            await self._patch(gone)

    async def names(self) -> list[str]:
        """Of ours that are there; none where there is no configuration. Raises KubeError."""
        try:
            found = await self._own.get(VALIDATING_WEBHOOKS, None, self._name)
        except KubeError as error:
            if error.gone:
                return []
            raise
        return [each["name"] for each in found.get("webhooks") or [] if each["name"].endswith(SUFFIX)]

    async def _patch(self, webhooks: list[Json]) -> None:
        patch = {"webhooks": webhooks}
        await self._own.patch(VALIDATING_WEBHOOKS, None, self._name, patch, content_type=STRATEGIC_PATCH)


async def lead(own: Kube, namespace: str, pod: str, *, leads: bool) -> None:
    """Have the Service lead to this replica, or not any more. Raises KubeError."""
    await own.patch(PODS, namespace, pod, {"metadata": {"labels": {LEADS: "true" if leads else None}}})
