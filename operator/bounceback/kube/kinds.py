"""Kinds to resources: where the API serves them."""

from __future__ import annotations

import json

from bounceback.kube.client import Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import Resource


class UnknownKindError(Exception):
    """The API serves no such kind; the message names the way out."""


class ClusterScopedError(UnknownKindError):
    """The kind is served, but its objects are of no namespace."""


class Kinds:
    """What was found is kept: a kind's plural does not change while it exists."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._known: dict[tuple[str, str], Resource] = {}

    async def resource(self, api_version: str, kind: str, *, namespaced: bool = True) -> Resource:
        """Raises UnknownKindError, what Kube raises, or, where a namespaced kind is wanted, ClusterScopedError."""
        key = (api_version, kind)
        if key not in self._known:
            self._known[key] = await self._discover(api_version, kind)
        if namespaced and not self._known[key].namespaced:
            raise ClusterScopedError(f"{kind} has no namespace; only objects of the experiment's namespace can be read")
        return self._known[key]

    async def _discover(self, api_version: str, kind: str) -> Resource:
        path = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        try:
            served = json.loads(await self._kube.raw("GET", path))["resources"]
        except KubeError as error:
            if error.unserved or error.gone:
                raise UnknownKindError(f"the cluster serves no {api_version}; is its CRD installed?") from error
            raise
        entry = next((r for r in served if r["kind"] == kind and "/" not in r["name"]), None)
        if entry is None:
            kinds = sorted({r["kind"] for r in served if "/" not in r["name"] and r["namespaced"]})
            raise UnknownKindError(f"{api_version} has no kind {kind}; it has {', '.join(kinds[:20])}")
        return Resource(api_version, entry["name"], entry["namespaced"])
